"""What cannot be written is named, whoever writes it. A limit of the size of files stands for a full disk: any user may set one."""

import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SCRIPT_VARIABLES, write_numbered

from tools.sample_video import make_sample_video
from utils.errors import OutputError, UsageError
from utils.export.formats.entry import Entry
from utils.export.formats.lists import write_csv, write_json, write_text
from utils.export.formats.shards import parquet, webdataset
from utils.export.models import Target
from utils.models.embeddings import encoded, move_embeddings
from utils.pipeline.result_file import ResultFile
from utils.report.page import Blocks, write_page
from utils.report.thumbnails import thumbnail
from utils.rows import write_lines, write_rows
from utils.working_copies import _write_record

ROWS = [{"video_path": "a.mp4", "summary_caption": "a dog"}]


@contextmanager
def largest_file(size: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def entries(folder: Path) -> list[Entry]:
    return [Entry("a.mp4", folder / "a.mp4", "a dog", Fraction(24), 64, 64, 24, ROWS[0])]


def a_thumbnail(path: Path) -> None:
    thumbnail({"video_path": "a.mp4"}, str(path.parent), str(path))


def an_embedding(path: Path) -> None:
    with largest_file(10**6):
        rows = [{"video_path": "a.mp4", "clip_embedding": encoded(np.ones((1, 4), np.float32))}]
        write_rows(path.with_suffix(".jsonl"), rows)
    move_embeddings(path.with_suffix(".jsonl"), path)


WRITERS = {
    "rows.jsonl": lambda path: write_rows(path, ROWS),
    "rows.csv": lambda path: write_rows(path, ROWS),
    "rows.parquet": lambda path: write_rows(path, ROWS),
    "lines.jsonl": lambda path: write_lines(path, [b"{}\n"]),
    "page.html": lambda path: write_page(path, {}, Blocks()),
    "text.txt": lambda path: write_text(path, "text"),
    "list.json": lambda path: write_json(path, [1]),
    "list.csv": lambda path: write_csv(path, ["a"], [["b"]]),
    "shards/000000.tar": lambda path: webdataset(path.parents[1], entries(path.parents[1]), Target()),
    "data.parquet": lambda path: parquet(path.parent, entries(path.parent), Target()),
    ".x.jsonl.remote": lambda path: _write_record(path.with_name("x.jsonl"), {"size": 1}),
    "report_files": a_thumbnail,
    "embeddings.parquet": an_embedding,
    "sample.mp4": make_sample_video,
    "result.settings.json": lambda path: ResultFile(path.with_name("result.jsonl"), {"a": 1}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_output_that_cannot_be_written_is_named(name, tmp_path):
    write_numbered(tmp_path / "a.mp4", 24)
    with largest_file(0), pytest.raises((OSError, UsageError)) as raised:
        WRITERS[name](tmp_path / name)
    said = raised.value.filename if isinstance(raised.value, OSError) else str(raised.value)
    assert f"{tmp_path}/{name}" in said and ".tmp" not in said
    assert isinstance(raised.value, OutputError) or "large" in raised.value.strerror
    assert not list(tmp_path.rglob(".*.tmp"))


def run_limited(
    size: int, *command: object, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **variables
) -> subprocess.CompletedProcess:
    no_bytecode = {"PYTHONDONTWRITEBYTECODE": "1"}  # of which Python would keep a half, for all that comes after
    environment = {k: v for k, v in os.environ.items() if k not in SCRIPT_VARIABLES} | no_bytecode | variables
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, text=True, timeout=120, cwd=ROOT, stdout=stdout, stderr=stderr,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 300, 700, 2_000, 9_000])
@pytest.mark.parametrize("script", ["export_dataset.py", "export_dataset.py --media encode --first_frames", "make_report.py", "filter_videos_by_motion_score.py",
                                    pytest.param("tools.sample_video", marks=pytest.mark.release)])  # fmt: skip
def test_a_script_says_which_file(script, size, tmp_path):
    (tmp_path / "train").mkdir()
    write_numbered(tmp_path / "train" / "a.mp4", 24)
    write_rows(tmp_path / "clips.jsonl", [{**ROWS[0], "duration": 1}])
    (tmp_path / "out").mkdir()
    listed = ("--video_folder", tmp_path / "train", "--video_metadata_path", tmp_path / "clips.jsonl")
    name, *more = script.split()
    command = {
        "export_dataset.py": (*listed, "--export_folder", tmp_path / "out", *more),
        "make_report.py": (tmp_path, "--saved_path", tmp_path / "out" / "report.html", "--n_jobs", 1),
        "filter_videos_by_motion_score.py": (*listed, "--saved_path", tmp_path / "out" / "train.jsonl", "--min_seconds", 0.1),
        "tools.sample_video": (tmp_path / "out" / "sample.mp4",),
    }[name]  # fmt: skip
    start = ("-m", name) if name.startswith("tools.") else (ROOT / name,)
    ended = run_limited(size, *start, *command)
    assert "Traceback" not in ended.stderr and "error: output" not in ended.stderr, ended.stderr
    assert ended.returncode in (0, 2), ended.stderr
    if ended.returncode:
        assert f"{tmp_path}/" in ended.stderr and ("too large" in ended.stderr or "cannot be written" in ended.stderr)
    else:
        assert size > 300


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_standard_output_that_is_full_is_a_sentence(tmp_path):
    write_rows(tmp_path / "clips.jsonl", [{**ROWS[0], "duration": 1}])
    command = (
        ROOT / "export_dataset.py",
        "--video_metadata_path",
        tmp_path / "clips.jsonl",
        "--saved_path",
        tmp_path / "set.json",
    )
    for unbuffered in ("", "1"):
        with open("/dev/full", "w") as full:
            ended = run_limited(10**6, *command, stdout=full, stderr=subprocess.PIPE, PYTHONUNBUFFERED=unbuffered)
        said = "export_dataset.py: error: standard output: No space left on device\n"
        assert (ended.returncode, ended.stderr) == (2, said)
