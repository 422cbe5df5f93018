"""Which results are of today's input, which are kept aside, which rows are due: the engine held against a plain model of it."""

import os
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.cli import Filter
from utils.errors import Failure, RunError, UsageError
from utils.pipeline import process
from utils.pipeline.ancestry import CLIP_COLUMNS, check_inputs, is_checked
from utils.pipeline.filters import passing_rows
from utils.pipeline.process import RunOptions, Step, process_rows
from utils.pipeline.row_list import Lookup, open_rows
from utils.rows import digest, read_rows, write_rows

PATHS = ("a.mp4", "./a.mp4", "sub/b ü.mp4", 'c\'s "c".mp4', "d.mp4", "e.mp4", "bad 1.mp4", "bad \x1b.mp4")
ROWS = st.lists(
    st.fixed_dictionaries(
        {"video_path": st.sampled_from(PATHS)},
        optional={
            "source_path": st.sampled_from(["s.mp4", "ü.mp4"]),
            "start_seconds": st.integers(0, 3) | st.sampled_from([0.5, 1e-7]),
            "x": st.integers(),
        },
    ),
    min_size=1,
    max_size=8,
)


def run(folder: Path, passing: np.ndarray | None = None, name: str = "list.jsonl", **options) -> str:
    """What a run over a list prints, and how it ends."""

    def read(row: dict) -> dict:
        calls.append(row["video_path"])
        return {"x_times_two": 2 * row.get("x", 0)}

    calls.clear()
    step, printed = Step("test", read, {"version": 1}, passing=passing), StringIO()
    with redirect_stdout(printed):
        try:
            rows = open_rows(None, str(folder / name))
            process_rows(
                step,
                rows,
                RunOptions(str(folder / "scores.jsonl"), str(folder), str(folder / name), n_jobs=1, **options),
            )
        except (RunError, UsageError) as error:
            return printed.getvalue() + repr(error)
    return printed.getvalue()


calls: list[str] = []  # paths of the rows that the last run has read


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Reading here, not in worker processes: those have tests of their own."""

    def work(function, tasks, *_):
        for task in tasks:
            bad = task["video_path"].startswith("bad")
            yield task, Failure("VideoError", f"{task['video_path']} is bad") if bad else function(task)

    monkeypatch.setattr(process, "work", work)


def first_of_each(rows: list[dict]) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for row in rows:
        found.setdefault(os.path.normpath(row["video_path"]), row)
    return found


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(ROWS, st.booleans(), st.sampled_from(["", "\n", "  \n"])), min_size=1, max_size=5))
def test_a_result_file_holds_the_results_of_its_input_and_computes_none_twice(runs):
    """Runs over one list after the other, some torn at the end by a kill."""
    computed: set[tuple[str, str | None]] = set()  # paths with their ancestry
    with TemporaryDirectory() as name:
        folder = Path(name)
        for rows, torn, blank in runs:
            write_rows(folder / "list.jsonl", rows)
            first, *others = (folder / "list.jsonl").read_text().splitlines(keepends=True)
            (folder / "list.jsonl").write_text("".join([first, blank, *others]))
            if torn and (folder / "scores.jsonl").exists():
                with open(folder / "scores.jsonl", "a") as file:
                    file.write('{"video_path": "c')
            printed = run(folder)
            wanted = first_of_each(rows)
            ancestry = {path: digest(row, CLIP_COLUMNS) for path, row in wanted.items()}
            good = [path for path in wanted if not path.startswith("bad")]
            assert set(calls) == {path for path in good if (path, ancestry[path]) not in computed}
            computed |= {(path, ancestry[path]) for path in good}
            results, errors = read_rows(folder / "scores.jsonl"), folder / "scores.errors.jsonl"
            assert [row["video_path"] for row in results] == good, printed
            assert [(row["made_from"].split()[0]) for row in results] == [ancestry[path] or "-" for path in good]
            failed = [row["video_path"] for row in read_rows(errors)] if errors.exists() else []
            assert failed == [path for path in wanted if path.startswith("bad")]
            assert f"{len(wanted)} rows in = {len(good)} scored + {len(failed)} errors" in printed


def test_what_is_filtered_out_is_kept_aside_and_comes_back_at_no_cost(tmp_path):
    write_rows(tmp_path / "list.jsonl", [{"video_path": f"{i}.mp4", "x": i} for i in range(5)])
    run(tmp_path)
    before = (tmp_path / "scores.jsonl").read_bytes()
    printed = run(tmp_path, passing=np.array([1, 3]))
    assert "2 of 5 done before, 0 due" in printed and "2 scored + 0 errors + 3 filtered" in printed
    assert [row["video_path"] for row in read_rows(tmp_path / "scores.jsonl")] == ["1.mp4", "3.mp4"]
    assert len(read_rows(tmp_path / "scores.aside.jsonl")) == 3
    assert "5 of 5 done before, 0 due" in run(tmp_path) and not calls
    assert (tmp_path / "scores.jsonl").read_bytes() == before and not (tmp_path / "scores.aside.jsonl").exists()


@pytest.mark.parametrize("name", ["list.csv", "list.parquet", "list.txt"])
def test_other_lists_are_worked_on_as_json_lines_are(tmp_path, name):
    paths = ["b.mp4", 'c\'s "c", d.mp4', "sub/ü.mp4"]
    if name == "list.txt":
        (tmp_path / name).write_text("\n".join(paths))
    else:
        write_rows(tmp_path / name, [{"video_path": path, "start_seconds": i} for i, path in enumerate(paths)])
    assert "3 rows in = 3 scored" in run(tmp_path, name=name)
    assert [row["video_path"] for row in read_rows(tmp_path / "scores.jsonl")] == paths
    assert "3 of 3 done before, 0 due" in run(tmp_path, name=name)


def test_a_video_that_changed_is_due_and_one_that_was_only_touched_is_not(tmp_path):
    for name in ("same", "touched", "replaced", "gone", "moved"):
        (tmp_path / f"{name}.mp4").write_bytes(name.encode() * 9)
    names = ("same.mp4", "touched.mp4", "replaced.mp4", "gone.mp4", "moved.mp4", "late.mp4")
    write_rows(tmp_path / "list.jsonl", [{"video_path": name} for name in names])
    run(tmp_path)
    os.utime(tmp_path / "touched.mp4")
    (tmp_path / "replaced.mp4").write_bytes(b"anotherx" * 9)  # of the same size
    (tmp_path / "gone.mp4").unlink()
    os.utime(tmp_path / "same.mp4", (1, 1))
    (tmp_path / "older.mp4").write_bytes(b"older" * 9)
    os.utime(tmp_path / "older.mp4", (1, 1))
    os.replace(tmp_path / "older.mp4", tmp_path / "moved.mp4")
    (tmp_path / "late.mp4").write_bytes(b"late")
    run(tmp_path)
    assert sorted(calls) == ["gone.mp4", "late.mp4", "moved.mp4", "replaced.mp4"]
    run(tmp_path)
    assert not calls


def test_a_list_that_is_older_than_what_it_was_made_from_names_the_stage(tmp_path):
    write_rows(tmp_path / "list.jsonl", [{"video_path": "a.mp4"}])
    run(tmp_path)
    check_inputs(tmp_path / "scores.jsonl")
    write_rows(tmp_path / "list.jsonl", [{"video_path": "b.mp4"}])
    with pytest.raises(UsageError, match=r"scores.jsonl was made from an older version of .*list.jsonl; run stage_\d"):
        check_inputs(tmp_path / "scores.jsonl")
    run(tmp_path)
    check_inputs(tmp_path / "scores.jsonl")


def test_a_malformed_row_ends_the_run_before_any_work(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"video_path": "a.mp4"}\n\n{"video_path": 7}\n')
    printed = run(tmp_path)
    assert "line 3" in printed and "not a path" in printed and not (tmp_path / "scores.jsonl").exists()


def test_a_list_that_was_edited_after_its_run_is_checked_again(tmp_path):
    write_rows(tmp_path / "list.jsonl", [{"video_path": "a.mp4"}])
    run(tmp_path)
    assert is_checked(tmp_path / "scores.jsonl")
    with open(tmp_path / "scores.jsonl", "a") as file:
        file.write('{"video_path": "b.mp4", "x": "\\ud800"}\n')
    os.utime(tmp_path / "scores.jsonl", (2e9, 2e9))
    assert not is_checked(tmp_path / "scores.jsonl")
    with pytest.raises(UsageError, match=r"line 2: 'x' holds .* half of an escaped"):
        open_rows(None, str(tmp_path / "scores.jsonl")).scan()


def test_rows_are_looked_up_by_path(tmp_path):
    write_rows(
        tmp_path / "x.jsonl",
        [{"video_path": "a.mp4", "x": 1}, {"video_path": "b.mp4", "x": 2}, {"video_path": "a.mp4", "x": 3}],
    )
    lookup = Lookup(str(tmp_path / "x.jsonl"))
    assert [lookup(path).get("x") for path in ("a.mp4", "b.mp4", "c.mp4")] == [3, 2, None]


def test_a_filter_gives_the_numbers_of_the_rows_that_pass(tmp_path):
    paths = ["a.mp4", "./b.mp4", "b.mp4", "c.mp4", "d.mp4"]
    write_rows(tmp_path / "list.jsonl", [{"video_path": path} for path in paths])
    write_rows(
        tmp_path / "x.jsonl", [{"video_path": path, "x": i} for i, path in enumerate(["d.mp4", "b.mp4", "a.mp4"])]
    )
    passing = passing_rows(
        open_rows(None, str(tmp_path / "list.jsonl")), [Filter(str(tmp_path / "x.jsonl"), "x", 0, 1)]
    )
    assert passing.tolist() == [1, 4]


RANKS = """
from utils.cli import run
from utils.pipeline.process import RunOptions, Step, process_rows
from utils.pipeline.row_list import open_rows

def read(row):
    return {"length": len(row["video_path"])}

if __name__ == "__main__":
    run(lambda: process_rows(Step("length", read, {}, opens_video=False), open_rows(None, "list.jsonl"), RunOptions("out.jsonl", n_jobs=1)))
"""


@pytest.mark.release  # as test_contract.py: two ranks of a script
def test_two_ranks_share_a_list(tmp_path):
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
