"""Faults of machine, disk and user: each ends in a sentence or an error row, and what was written stays readable."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import write_numbered

from utils.errors import UsageError
from utils.pipeline.result_file import ResultFile
from utils.rows import read_rows


@pytest.fixture
def dataset(tmp_path, run_script):
    """A dataset of one source of four seconds in `data`, cut into one clip."""
    (tmp_path / "data" / "raw" / "sub").mkdir(parents=True)
    write_numbered(tmp_path / "data" / "raw" / "sub" / "a.mp4", 96, sound=None)
    row = {"video_path": "sub/a.mp4", "timecode_list": [[0, 4]], "num_frames": 96, "frame_size": [192, 108]}
    (tmp_path / "data" / "scenes.jsonl").write_text(json.dumps(row) + "\n")
    run_script("video_splitting.py", *split_flags("data"))
    return tmp_path / "data"


def split_flags(folder: str | Path) -> list[str]:
    return [
        "--video_folder", f"{folder}/raw", "--video_metadata_path", f"{folder}/scenes.jsonl",
        "--output_folder", f"{folder}/clips", "--saved_path", f"{folder}/clips.jsonl", "--preset", "ultrafast",
    ]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dataset_that_was_moved_is_resumed(dataset, tmp_path, run_script):
    before = contents(dataset)
    assert str(tmp_path).encode() not in b"".join(before.values())
    moved = tmp_path / "elsewhere" / "data"
    shutil.copytree(dataset, moved)
    shutil.rmtree(dataset)
    assert "1 of 1 done before, 0 due" in run_script("video_splitting.py", *split_flags(moved)).stdout
    assert contents(moved) == before


def test_a_model_that_was_moved_is_the_same_and_another_of_its_name_is_not(tmp_path):
    for folder in ("there", "here"):
        (tmp_path / folder / "model").mkdir(parents=True)
    rows = tmp_path / "rows.jsonl"
    made = ResultFile(rows, {"model": str(tmp_path / "there" / "model")})
    made.add([{"video_path": "a.mp4"}])
    made.close()
    now = {"model": str(tmp_path / "here" / "model")}
    with pytest.raises(UsageError, match="was made with other settings: model was"):
        ResultFile(rows, now)
    os.rename(tmp_path / "there", tmp_path / "elsewhere")
    ResultFile(rows, now).close()
    assert read_rows(rows) == [{"video_path": "a.mp4"}]
