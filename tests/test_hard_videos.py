"""Videos that are hard to read, or none, through every script that scores: each is a row or an error row with a sentence."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from conftest import ROOT, write_numbered, write_video
from skimage import data

from utils.rows import read_rows

PHOTO = cv2.resize(data.coffee(), (480, 320))
GOOD = {  # and the codec with its pixels
    "-first 'odd' \"name\"\n%03d 影.mp4": ("libx264", "yuv420p"),
    "av1.mp4": ("libsvtav1", "yuv420p"),
    "hevc 10 bit.mp4": ("libx265", "yuv420p10le"),
}


def pan(i: float) -> np.ndarray:
    """A view that goes to the right by 4 pixels an `i`, uint8 (160, 240, 3)."""
    return cv2.getRectSubPix(PHOTO, (240, 160), (130 + 4 * i, 160))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hard")
    for name, (codec, pixels) in GOOD.items():
        write_video(folder / name, (pan(i) for i in range(48)), codec=codec, pix_fmt=pixels)
    steps = [2, 1, 4, 1, 1, 3] * 8  # twenty-fourths of a second
    pts = np.cumsum([0, *steps[:-1]]).tolist()
    write_video(folder / "vfr.mp4", (pan(t / 2) for t in pts), pts=pts, time_base=Fraction(1, 24))
    turned = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", folder / "av1.mp4"]
    subprocess.run([*turned, "-c", "copy", folder / "turned.mp4"], check=True)
    write_video(folder / "8k.mp4", (np.full((4320, 7680), level, np.uint8) for level in (90, 91)), fps=2)
    write_numbered(folder / "one frame.mp4", 1)
    write_numbered(folder / "low.mp4", 48, size=(64, 8))
    write_numbered(folder / "thread.mkv", 48, size=(512, 2), codec="ffv1")
    whole = write_numbered(folder / "half.mp4", 96).read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("no video")
    (folder / "nothing.mp4").touch()
    with av.open(str(folder / "no frame.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 192, 108, "yuv420p"
        out.start_encoding()
    return folder


def scored(script: str, folder: Path, tmp_path: Path) -> tuple[dict, dict]:
    """Rows and messages of errors, by path."""
    saved = tmp_path / "score.jsonl"
    command = [sys.executable, ROOT / script, "--video_folder", folder, "--saved_path", saved, "--n_jobs", 2]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert ran.returncode == 0 and "13 rows in = " in ran.stdout, ran.stdout + ran.stderr
    rows = {row["video_path"]: row for row in read_rows(saved)}
    assert all(value is not None for row in rows.values() for value in json.loads(json.dumps(row)).values())
    return rows, {row["video_path"]: row["message"] for row in read_rows(saved.with_suffix(".errors.jsonl"))}


NO_VIDEO = {"half.mp4", "text.mp4", "nothing.mp4", "no frame.mp4", "thread.mkv"}


def test_motion(folder, tmp_path):
    rows, errors = scored("compute_motion_score.py", folder, tmp_path)
    assert set(errors) == NO_VIDEO | {"one frame.mp4"}
    assert "is only 0.0417 seconds long" in errors["one frame.mp4"] and "motion needs two" in errors["one frame.mp4"]
    assert "up to 32:1" in errors["thread.mkv"]
    for name in (*GOOD, "vfr.mp4"):
        truth = (100 * 4 * 24 if name in GOOD else 100 * 2 * 24) / 160  # % of the short side per second
        assert rows[name]["camera_motion"] == "pan right"
        assert rows[name]["camera_pan"] == pytest.approx(truth, rel=0.1), name
    assert rows["turned.mp4"]["camera_motion"] == "tilt up" and rows["turned.mp4"]["frame_size"] == [160, 240]
    assert rows["8k.mp4"]["motion_score"] < 0.1


@pytest.mark.release  # it samples frames as the quality does
def test_text(folder, tmp_path):
    rows, errors = scored("compute_text_score.py", folder, tmp_path)
    assert set(errors) == NO_VIDEO
    assert rows["one frame.mp4"]["sample_frame_idx"] == [0] and rows["av1.mp4"]["text_score"] < 0.01


def test_technical_quality(folder, tmp_path):
    rows, errors = scored("compute_video_frame_quality.py", folder, tmp_path)
    assert set(errors) == NO_VIDEO | {"low.mp4"} and "64x8 pixels is too small" in errors["low.mp4"]
    assert rows["one frame.mp4"]["sample_frame_idx"] == [0]
    assert rows["turned.mp4"]["technical_score"] == pytest.approx(rows["av1.mp4"]["technical_score"], abs=0.3)
    assert rows["hevc 10 bit.mp4"]["technical_score"] == pytest.approx(rows["av1.mp4"]["technical_score"], abs=1)
