"""Marks of a report and conditions over further files: which clips are kept, why not, and what is written down of it."""

import json

import pytest
from conftest import ROOT

from utils.rows import digest, read_rows, write_rows

NAMES = ("a.mp4", "ü b.mp4", "c.mp4", "lat\u00e91.mp4", "e.mp4")
CLIPS = [{"video_path": name, "source_path": f"{i}.mp4", "duration": 5} for i, name in enumerate(NAMES)]
FLAGS = ("--video_metadata_path", "clips.jsonl", "--filter", "s.jsonl", "score", 2, "none")


@pytest.fixture(autouse=True)
def files(tmp_path):
    stamps = [digest(clip, ("source_path",)) for clip in CLIPS]
    write_rows(tmp_path / "clips.jsonl", CLIPS)
    write_rows(
        tmp_path / "s.jsonl",
        [{"video_path": c["video_path"], "score": i, "made_from": s} for i, (c, s) in enumerate(zip(CLIPS, stamps))],
    )
    colours = [
        {"video_path": c["video_path"], "colour": "red" if i % 2 else "blue", "made_from": s if i < 4 else "old"}
        for i, (c, s) in enumerate(zip(CLIPS, stamps))
    ]
    write_rows(tmp_path / "colours.jsonl", colours)
    marks = [
        {"video_path": "./a.mp4", "mark": "star"}, {"video_path": "ü b.mp4", "mark": "star"}, {"video_path": NAMES[3], "mark": "drop", "reason": "blurry"},
        {"video_path": "c.mp4", "mark": "drop"}, {"video_path": "gone.mp4", "mark": "drop"},
    ]  # fmt: skip
    write_rows(tmp_path / "marks.jsonl", marks)


def kept(tmp_path) -> list[str]:
    return [row["video_path"] for row in read_rows(tmp_path / "train.jsonl")]


def test_marks(run_script, tmp_path):
    ran = run_script("filter_videos_by_motion_score.py", *FLAGS, "--exclude", "marks.jsonl", "--include", "marks.jsonl")
    assert kept(tmp_path) == ["a.mp4", "ü b.mp4", "e.mp4"]
    assert read_rows(tmp_path / "dropped.jsonl") == [
        {"video_path": "c.mp4", "reason": "excluded", "value": None},
        {"video_path": NAMES[3], "reason": "excluded", "value": "blurry"},
    ]
    assert "marks.jsonl: 1 of 3 marked clips are not in the list" in ran.stdout
    assert [line.split()[:3] for line in ran.stdout.splitlines() if "excluded" in line] == [["excluded", "5", "2"]]


def test_rows_without_a_mark_and_an_excluded_clip_that_is_included(run_script, tmp_path):
    write_rows(tmp_path / "list.jsonl", [{"video_path": "a.mp4"}, {"video_path": "e.mp4"}])
    run_script("filter_videos_by_motion_score.py", *FLAGS, "--include", "list.jsonl")
    assert kept(tmp_path) == ["a.mp4", "c.mp4", NAMES[3], "e.mp4"]
    run_script("filter_videos_by_motion_score.py", *FLAGS, "--include", "list.jsonl", "--exclude", "list.jsonl")
    assert kept(tmp_path) == ["c.mp4", NAMES[3]]


def test_columns_of_a_file_without_a_filter(run_script, tmp_path):
    flags = (*FLAGS, "--columns_from", "colours.jsonl", "--where")
    run_script("filter_videos_by_motion_score.py", *flags, "colour = 'blue'")
    assert kept(tmp_path) == ["c.mp4"]  # that of e.mp4 is of an older cut
    run_script("filter_videos_by_motion_score.py", *flags, "colour is null")
    assert kept(tmp_path) == ["e.mp4"] and "colour" not in read_rows(tmp_path / "train.jsonl")[0]


def test_what_was_chosen_by_is_written_down(run_script, tmp_path):
    (tmp_path / "other").mkdir()
    run_script(
        "filter_videos_by_motion_score.py",
        *FLAGS,
        "--where",
        "score < 9",
        "--exclude",
        "marks.jsonl",
        "--max_seconds",
        "inf",
    )
    settings = json.loads((tmp_path / "train.settings.json").read_text())
    assert {key: value for key, value in settings.items() if key not in ("inputs", "script")} == {
        "file": "train.jsonl", "list": "clips.jsonl",
        "filters": [{"file": "clips.jsonl", "column": "duration", "low": 3.0, "high": None},
                    {"file": "s.jsonl", "column": "score", "low": 2.0, "high": None}],
        "where": "score < 9", "columns_from": [], "exclude": "marks.jsonl", "include": None,
    }  # fmt: skip


@pytest.mark.parametrize("flag", ["--exclude", "--include", "--columns_from"])
def test_wrong_files_are_sentences(run_script, tmp_path, flag):
    assert (
        "gone.jsonl: no such file"
        in run_script("filter_videos_by_motion_score.py", *FLAGS, flag, "gone.jsonl", code=2).stderr
    )
    (tmp_path / "x.jsonl").write_text('{"path": "a.mp4"}\n')
    assert (
        "has no column 'video_path'"
        in run_script("filter_videos_by_motion_score.py", *FLAGS, flag, "x.jsonl", code=2).stderr
    )
    if flag != "--columns_from":
        ran = run_script(
            "filter_videos_by_motion_score.py", *FLAGS, flag, "train.jsonl", "--saved_path", "train.jsonl", code=2
        )
        assert f"--saved_path train.jsonl would overwrite {flag}" in ran.stderr


def test_the_stage_passes_them_on():
    text = (ROOT / "stage_2_filter_data.sh").read_text()
    assert all(
        f'${{{name}:+--{name.lower()}="${name}"}}' in text for name in ("WHERE", "COLUMNS_FROM", "EXCLUDE", "INCLUDE")
    )
