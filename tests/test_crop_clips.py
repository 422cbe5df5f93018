"""Cropped clips: what passed because of its crop is measured, captioned and listed within it, and written once."""

import json
import os
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import ROOT, SCRIPT_VARIABLES, read_video, write_video
from test_crop_box import barred, pan

from utils.rows import read_rows, write_rows
from utils.video.cropping import cropped
from utils.video.geometry import frame_to_array
from utils.video.opening import decode, open_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("clips")
    (made / "sub").mkdir()
    write_video(made / "wide.mp4", [barred(frame, left=60, right=60) for frame in pan()])
    write_video(made / "sub" / "plain.mp4", pan())
    return made


ROWS = [
    {"video_path": "wide.mp4", "crop_box": [60, 0, 480, 270], "crop_share": 1.0, "crop_bars": [60, 0, 60, 0]},
    {"video_path": "sub/plain.mp4", "crop_box": [0, 0, 480, 270], "crop_share": 1.0, "crop_bars": [0, 0, 0, 0]},
]


def frames_of(path):
    return read_video(path)[1]


def crop(run_script, tmp_path, folder, *flags):
    write_rows(tmp_path / "train.jsonl", ROWS)
    listed = ("--video_folder", folder, "--video_metadata_path", "train.jsonl", "--saved_path", "cropped.jsonl")
    printed = run_script("crop_clips.py", *listed, *flags).stdout
    return printed, {row["video_path"]: row for row in read_rows(tmp_path / "cropped.jsonl", ("video_path",))}


def test_a_clip_is_encoded_once_to_its_box_frame_by_frame(tmp_path, run_script, folder):
    _, rows = crop(run_script, tmp_path, folder)
    assert rows["sub/plain.mp4"]["media_path"] == "sub/plain.mp4"
    assert rows["wide.mp4"]["media_path"] == "wide.cropped.mp4" and rows["wide.mp4"]["media_size"] == [480, 270]
    whole, part = frames_of(folder / "wide.mp4"), frames_of(folder / "wide.cropped.mp4")
    assert len(part) == len(whole) and part[0].shape == (270, 480, 3)
    for one, other in zip(whole, part):
        assert np.abs(one[:, 60:540].astype(int) - other).mean() < 4
    printed, _ = crop(run_script, tmp_path, folder)
    assert "2 of 2 done before, 0 due" in printed
    (folder / "wide.cropped.mp4").write_bytes(b"another file")
    printed, rows = crop(run_script, tmp_path, folder)
    assert "1 due" in printed and len(frames_of(folder / "wide.cropped.mp4")) == len(whole)


def test_a_scan_skips_the_cropped_forms_of_its_videos_alone(tmp_path, run_script, folder):
    crop(run_script, tmp_path, folder)
    (tmp_path / "mine").mkdir()
    write_video(tmp_path / "mine" / "my.cropped.mp4", pan(count=24))
    for where, wanted in ((folder, {"wide.mp4", "sub/plain.mp4"}), (tmp_path / "mine", {"my.cropped.mp4"})):
        run_script("compute_video_frame_quality.py", "--video_folder", where, "--saved_path", f"{where.name}.jsonl")
        assert {row["video_path"] for row in read_rows(tmp_path / f"{where.name}.jsonl", ("video_path",))} == wanted


def test_the_list_names_the_cropped_file_and_never_the_whole_one(tmp_path, run_script, folder):
    crop(run_script, tmp_path, folder)
    write_rows(tmp_path / "captions.jsonl", [{**row, "summary_caption": "a"} for row in ROWS])
    listed = ("--video_folder", folder, "--video_metadata_path", "captions.jsonl", "--saved_path", "set.json")
    refused = run_script("export_dataset.py", *listed, code=2).stderr
    assert "run crop_clips.py" in refused
    run_script("export_dataset.py", *listed, "--columns_from", "cropped.jsonl")
    entries = json.loads((tmp_path / "set.json").read_text())
    assert [entry["file_path"] for entry in entries] == ["wide.cropped.mp4", "sub/plain.mp4"]
    folder_of = (
        "--export_folder",
        "set",
        "--format",
        "webdataset",
        "--media",
        "copy",
        "--columns_from",
        "cropped.jsonl",
    )
    run_script("export_dataset.py", *listed[:4], *folder_of)
    assert "wide-cropped" in " ".join(path.name for path in (tmp_path / "set").rglob("*")) or any(
        "wide" in name and "cropped" in name for name in os.listdir(tmp_path / "set")
    )
    run_script("export_dataset.py", *listed, "--ignore_crop_boxes")
    assert json.loads((tmp_path / "set.json").read_text())[0]["file_path"] == "wide.mp4"


@pytest.mark.parametrize("script", ["compute_video_frame_quality.py", "compute_motion_score.py"])
def test_scores_are_those_of_the_crop(tmp_path, run_script, folder, script):
    """Measured inside the box a clip scores what its cropped file does, and another box makes the result due again."""
    crop(run_script, tmp_path, folder, "--crf", 0)
    write_rows(tmp_path / "boxes.jsonl", ROWS)
    column = "technical_score" if "quality" in script else "motion_score"

    def scores(name, *flags):
        write_rows(tmp_path / "one.jsonl", [{"video_path": name}])
        listed = ("--video_folder", folder, "--video_metadata_path", "one.jsonl", "--saved_path", "score.jsonl")
        run_script(script, *listed, *flags)
        (row,) = read_rows(tmp_path / "score.jsonl", ("video_path",))
        return row

    inside = scores("wide.mp4", "--crop_boxes", "boxes.jsonl")
    assert inside["measured_in"] == [60, 0, 480, 270]
    whole = scores("wide.mp4")
    assert "measured_in" not in whole and whole[column] != inside[column]
    assert scores("wide.cropped.mp4")[column] == pytest.approx(inside[column], rel=0.02)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_box_is_of_the_upright_frame(tmp_path, rotation):
    write_video(tmp_path / "plain.mp4", pan(count=3))
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", str(rotation)]
    subprocess.run([*ffmpeg, "-i", tmp_path / "plain.mp4", "-c", "copy", tmp_path / "v.mp4"], check=True)
    with open_video(str(tmp_path / "v.mp4")) as (container, stream):
        frame = next(decode(container, stream))
    upright, part = frame_to_array(frame, "rgb24"), frame_to_array(cropped([20, 10, 100, 60])(frame), "rgb24")
    assert np.abs(upright[10:70, 20:120].astype(int) - part).mean() < 1


@pytest.mark.slow
def test_the_stages_crop_by_default_and_go_on_after_it(tmp_path, scripts, folder):
    inherited = {name: value for name, value in os.environ.items() if name not in (*SCRIPT_VARIABLES, "CROP")}
    variables = {"DATASET_FOLDER": str(tmp_path), "VIDEO_FOLDER": str(folder), "PRESET": "embedded", "REPORT": "0"}
    variables |= {
        "PYTHON": str(scripts.python),
        "QUALITY_THRESHOLD": "0",
        "MIN_SECONDS": "1",
        "ACTIVITY_THRESHOLD": "0",
    }

    def stages(**more) -> list[str]:
        for stage in ("stage_2_filter_data.sh", "stage_3_video_caption.sh"):
            ran = subprocess.run(
                ["sh", ROOT / stage], env={**inherited, **variables, **more}, capture_output=True, text=True
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
        return sorted(entry["file_path"] for entry in json.loads((tmp_path / "train_panda_70m.json").read_text()))

    assert stages() == ["sub/plain.mp4", "wide.cropped.mp4"]
    kept = {row["video_path"]: row for row in read_rows(tmp_path / "train.jsonl", ("video_path",))}
    assert kept["wide.mp4"]["measured_in"] == kept["wide.mp4"]["crop_box"]
    assert stages(CROP="0") == ["sub/plain.mp4", "wide.mp4"]
    assert stages() == ["sub/plain.mp4", "wide.cropped.mp4"]


def test_a_wrong_preset_ends_before_any_work_and_an_edited_row_is_made_again(tmp_path, run_script, folder):
    write_rows(tmp_path / "train.jsonl", ROWS)
    listed = ("--video_folder", folder, "--video_metadata_path", "train.jsonl", "--saved_path", "cropped.jsonl")
    assert (
        "invalid choice: 'fastest'" in run_script("crop_clips.py", *listed, "--x264_preset", "fastest", code=2).stderr
    )
    _, rows = crop(run_script, tmp_path, folder)
    write_rows(tmp_path / "cropped.jsonl", [{**row, "media_path": 3} for row in rows.values()])
    _, again = crop(run_script, tmp_path, folder)
    assert again == rows
