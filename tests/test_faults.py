"""Faults of machine, disk and user: each ends in a sentence or an error row, and what was written stays readable."""

import importlib
import json
import os
import shutil
import sys
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


ROWS = ("--video_metadata_path", "rows.jsonl")
WRONG = {
    "cutscene_detect": {"--cutscene_threshold": ("nan", "inf", "-1")},
    "video_splitting": {
        "--crf": (99, -1, 1.5),
        "--resolution_threshold": ("10x", "x10", "-5", "nan", "1e3"),
        "--min_seconds": ("nan", "0", "inf"),
        "--max_seconds": ("nan", "inf"),
        "--transition_margin": ("nan", "-1", "inf"),
        "--encoder_threads": (0, 10**6),
        "--n_jobs": (0, 10**6, "nan"),
        "--timeout_seconds": ("nan", "inf", -1),
        "--saved_freq": (0, "nan"),
        "--saved_path": (".", "", "/", "folder", "new/"),
    },
    "compute_motion_score": {
        "--short_side": (1, -2, 10**6),
        "--sampling_fps": ("nan", "inf", 0),
        "--text_score_threshold": ("nan",),
    },
    "compute_text_score": {
        "--box_threshold": (7, "nan", -0.1),
        "--low_text": (7, "nan"),
        "--link_threshold": (7,),
        "--canvas_size": (1, 10**6),
        "--num_sampled_frames": (0, 10**9),
    },
    "compute_video_frame_quality": {"--batch_size": (0, 10**9)},
    "filter_videos_by_motion_score": {
        "--min_seconds": ("nan",),
        "--high_motion_score_threshold": ("nan",),
        "--dropped_path": (".", "folder"),
        "--plot": (".", "x.jpg"),
    },
    "export_dataset": {"--saved_path": (".", "folder")},
    "caption_video_frame": {
        "--temperature": ("nan", "inf", -1),
        "--max_new_tokens": (0,),
        "--max_pixels": (0,),
        "--gpu_memory_utilization": (7, "nan"),
        "--request_seconds": ("inf", "nan", 0),
        "--base_url": ("http://127.0.0.1:9/v1",),
    },
    "caption_summary": {"--max_words": (0, "nan"), "--base_url": ("http://127.0.0.1:9/v1",)},
}


@pytest.mark.parametrize(
    ("script", "flag", "value"),
    [(script, flag, value) for script, flags in WRONG.items() for flag, values in flags.items() for value in values],
)
def test_an_absurd_value_of_a_flag_ends_with_2_before_any_work(script, flag, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "rows.jsonl").write_text("")
    flags = [*ROWS, *(["--output_folder", "folder"] if script == "video_splitting" else [])]
    monkeypatch.setattr(sys, "argv", [script, *flags, f"{flag}={value}"])
    with pytest.raises((SystemExit, UsageError)) as ended:
        importlib.import_module(script).main()
    if ended.type is SystemExit:
        assert ended.value.code == 2
    said = capsys.readouterr().err + str(ended.value)
    assert flag in said and str(value) in said, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "rows.jsonl"]
