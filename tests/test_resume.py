"""A list that is not held in memory is worked on as one that is: the same due rows, files and closing lines."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import Failure, RunError, UsageError
from utils.pipeline import large_list, process
from utils.pipeline.filters import passes_filters
from utils.pipeline.process import CLIP_COLUMNS, RunOptions, Step, lazy_input_rows, process_rows
from utils.rows import digest, read_rows, write_rows

PATHS = ("a.mp4", "./a.mp4", "sub/b ü.mp4", 'c\'s "c".mp4', "d.mp4", "e.mp4", "bad 1.mp4", "bad \x1b.mp4")
ROWS = st.fixed_dictionaries(
    {"video_path": st.sampled_from(PATHS)},
    optional={
        "source_path": st.sampled_from(["s.mp4", "ü.mp4"]),
        "start_seconds": st.integers(0, 3) | st.sampled_from([0.5, 1e-7]),
        "x": st.integers(),
    },
)


def read(row: dict) -> dict:
    return {"x_times_two": 2 * row.get("x", 0)}


def run(folder: Path, large: bool, passing: Sequence[str] | None = None, **options) -> tuple[str, str]:
    """What a run prints, and what it raises. `passing`: the paths that are not filtered out."""
    process.LARGE = 0 if large else 1 << 60
    rows = read_rows(folder / "list.jsonl") if passing is not None else []
    filters = {
        "passes": lambda row: row["video_path"] in passing,
        "passing_rows": lambda: [i for i, row in enumerate(rows) if os.path.normpath(row["video_path"]) in passing],
    }
    step, said = Step("test", read, {"version": 1}, **(filters if passing is not None else {})), StringIO()
    with redirect_stdout(said):
        try:
            rows = lazy_input_rows(None, str(folder / "list.jsonl"))
            assert isinstance(rows, process.LargeList) == large
            process_rows(step, rows, RunOptions(str(folder / "scores.jsonl"), str(folder), n_jobs=1, **options))
        except (RunError, UsageError) as error:
            return said.getvalue(), repr(error)
    return said.getvalue(), ""


def with_blank(path: Path, blank: str) -> str:
    """The text of a file, `blank` after its first line."""
    first, *others = path.read_text().splitlines(keepends=True) or [""]
    return "".join([first, blank, *others])


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Reading here, not in worker processes: those are the same for both."""

    def work(function, tasks, *_):
        for task in tasks:
            bad = task["video_path"].startswith("bad")
            yield task, Failure("VideoError", f"{task['video_path']} is bad") if bad else function(task)

    monkeypatch.setattr(process, "work", work)
    monkeypatch.setattr(process, "LARGE", process.LARGE)


@settings(deadline=None, max_examples=40)
@given(st.lists(ROWS, min_size=1, max_size=8), st.lists(ROWS, min_size=1, max_size=8), st.data())
def test_as_with_rows_in_memory(first, then, data):
    """A first run over one list, its files tampered with, then a run over another list."""
    results, torn = [], data.draw(st.booleans())
    blank = data.draw(st.sampled_from(["", "\n", "  \n", "\t\r\n"]))
    made_from = st.none() | st.sampled_from(first).map(lambda row: digest(row, CLIP_COLUMNS))
    part = data.draw(st.lists(st.tuples(st.sampled_from(PATHS[2:6]), made_from), max_size=3))
    retry = data.draw(st.booleans())
    passing = data.draw(st.none() | st.lists(st.sampled_from(PATHS), unique=True))
    for large in (True, False):
        with TemporaryDirectory() as name:
            folder = Path(name)
            said = []
            for number, rows in enumerate((first, then)):
                write_rows(folder / "list.jsonl", rows)
                (folder / "list.jsonl").write_text(with_blank(folder / "list.jsonl", blank))
                if number and part and (folder / "scores.jsonl").exists():
                    write_rows(
                        folder / "scores.part-0.jsonl",
                        [
                            {"video_path": path, "old": i} | ({"made_from": m} if m else {})
                            for i, (path, m) in enumerate(part)
                        ],
                    )
                    (folder / "scores.jsonl").write_text(with_blank(folder / "scores.jsonl", blank))
                if number and torn and (folder / "scores.jsonl").exists():
                    with open(folder / "scores.jsonl", "a") as file:
                        file.write('{"video_path": "c')
                said += run(folder, large, passing if number else None, retry_errors=retry and number == 1)
            results.append(
                [
                    *(text.replace(name, "") for text in said if "repeat" not in text),
                    *(read_rows(p) for p in sorted(folder.glob("scores*.jsonl"))),
                ]
            )
    assert results[0] == results[1]


@pytest.mark.parametrize("blank", ["\n", "  \n", "\r\n", "\t \n\n"])
def test_blank_lines_are_no_rows(tmp_path, monkeypatch, blank):
    monkeypatch.setattr(large_list, "PIECE", 7)
    write_rows(tmp_path / "list.jsonl", [{"video_path": path, "x": i} for i, path in enumerate("abcd")])
    write_rows(tmp_path / "scores.jsonl", [{"video_path": path, "old": path} for path in "cab"])
    for name in ("list", "scores"):
        (tmp_path / f"{name}.jsonl").write_text(blank + with_blank(tmp_path / f"{name}.jsonl", blank) + blank)
    said, raised = run(tmp_path, large=True)
    assert "3 of 4 done before, 1 due" in said and "4 rows in = 4 scored" in said and not raised
    old = [{"video_path": path, "old": path} for path in "abc"]
    assert read_rows(tmp_path / "scores.jsonl") == [*old, {"video_path": "d", "x_times_two": 6}]


def test_a_malformed_row_ends_the_run_before_any_work(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"video_path": "a.mp4"}\n{"video_path": 7}\n')
    _, raised = run(tmp_path, large=True)
    assert "line 2" in raised and "not a path" in raised and not (tmp_path / "scores.jsonl").exists()


RANKS = """
from utils.cli import run
from utils.pipeline import large_list, process
from utils.pipeline.process import RunOptions, Step, lazy_input_rows, process_rows

process.LARGE = 0

def read(row):
    return {"length": len(row["video_path"])}

if __name__ == "__main__":
    run(lambda: process_rows(Step("length", read, {}), lazy_input_rows(None, "list.jsonl"), RunOptions("out.jsonl", n_jobs=1)))
"""


@pytest.mark.slow
def test_two_ranks_share_a_large_list(tmp_path):
    (tmp_path / "script.py").write_text(RANKS)
    paths = [f"{number}.mp4" for number in range(100)]
    write_rows(tmp_path / "list.jsonl", [{"video_path": path} for path in paths])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "script.py"]
    ran = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert "100 rows in = 100 scored + 0 errors" in ran.stdout, ran.stdout + ran.stderr
    assert [row["video_path"] for row in read_rows(tmp_path / "out.jsonl")] == paths
    assert not list(tmp_path.glob("out.part*"))


def test_a_filter_gives_the_numbers_of_the_rows_that_pass(tmp_path, monkeypatch):
    paths = ["a.mp4", "./b.mp4", "b.mp4", "c.mp4", "d.mp4"]
    write_rows(tmp_path / "list.jsonl", [{"video_path": path} for path in paths])
    write_rows(
        tmp_path / "x.jsonl", [{"video_path": path, "x": i} for i, path in enumerate(["d.mp4", "b.mp4", "a.mp4"])]
    )
    found = []
    for large in (0, 1 << 60):
        monkeypatch.setattr(process, "LARGE", large)
        passes = passes_filters(
            (None, str(tmp_path / "list.jsonl"), "video_path"), [(str(tmp_path / "x.jsonl"), "x", 0, 1)]
        )
        found.append("numbers" in vars(passes))
        assert sorted(passes.numbers) == [1, 4] and passes.paths == {"b.mp4", "d.mp4"}
    assert found == [True, False]
