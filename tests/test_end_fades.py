"""Fades at the ends of shots that never become flat: films made by the test, and what is left of them."""

import json

import cv2
import numpy as np
import pytest
from conftest import write_video
from skimage import data

from cutscene_detect import detect_shots
from utils.cutting.detectors import make_detector
from utils.cutting.end_fades import fade_length
from utils.cutting.spans import clean_spans, parse_timecode

FPS, FRAMES = 24, 120
PHOTO = cv2.cvtColor(cv2.resize(data.coffee(), (800, 533)), cv2.COLOR_RGB2GRAY)


def shot() -> np.ndarray:
    """A slow pan, uint8 (FRAMES, 180, 320)."""
    return np.stack([PHOTO[150:330, i : i + 320] for i in range(FRAMES)])


def with_light(shares: np.ndarray, colour: float = 0) -> np.ndarray:
    shares = shares[:, None, None]
    return (shot() * shares + colour * (1 - shares)).round().astype(np.uint8)


def detected(path, frames: np.ndarray, detector: str = "adaptive") -> dict:
    write_video(path, list(frames), FPS)
    thresholds = {"adaptive": None, "transitions": None}
    return detect_shots(
        {"video_path": str(path)}, None, lambda: make_detector(detector, thresholds[detector], {}), 256, True
    )


def share(length: int, first: float) -> np.ndarray:
    """Of the light, frame by frame: from `first` to 1 in `length` frames."""
    return np.minimum(first + (1 - first) * np.arange(FRAMES) / length, 1)


@pytest.mark.parametrize(
    "detector, first", [("adaptive", 0.0), ("adaptive", 0.1), ("transitions", 0.1), ("transitions", 0.4)]
)
@pytest.mark.parametrize("length", [12, 30])
@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("end", ["start", "stop"])
def test_a_fade_at_an_end_is_left_out_to_the_frame(tmp_path, detector, first, length, colour, end):
    light = share(length, first)
    full = int(np.argmax(light >= 0.95))
    row = detected(tmp_path / "a.mp4", with_light(light if end == "start" else light[::-1], colour), detector)
    ((begins, stops),) = clean_spans(row, 0)
    kept = (round(begins * FPS), round(stops * FPS))
    assert kept == pytest.approx((full, FRAMES) if end == "start" else (0, FRAMES - full), abs=2)


FALLS = np.clip(1 - (np.arange(FRAMES) - 80) / 10, 0.35, 1)


@pytest.mark.parametrize(
    "light",
    [np.full(FRAMES, 0.12), np.where(np.arange(FRAMES) < 80, 1, 0.3), FALLS],
    ids=["night", "lamp", "dimmed lamp"],
)
def test_the_dark_is_no_fade(tmp_path, light):
    assert detected(tmp_path / "a.mp4", with_light(light))["transitions"] == []


def test_a_pan_into_the_dark_is_no_fade():
    wall = np.where(np.arange(800) < 450, PHOTO, PHOTO // 8)
    levels = np.array(
        [np.quantile(wall[150:330, 4 * i : 4 * i + 320], [0.1, 0.25, 0.5, 0.75, 0.9]) for i in range(FRAMES)]
    )
    assert fade_length(levels[::-1], np.arange(FRAMES) / FPS) == 0


def test_a_logo_over_black_is_no_reason_to_keep_the_fade(tmp_path):
    frames = with_light(share(24, 0))
    frames[:, 10:40, 260:310] = 200
    (span,) = detected(tmp_path / "a.mp4", frames, "transitions")["transitions"]
    assert parse_timecode(span[2]) == pytest.approx(23 / FPS, abs=2 / FPS)


def test_a_file_begun_before_goes_on_without_end_fades(tmp_path, run_script):
    write_video(tmp_path / "a.mp4", list(with_light(share(24, 0.2))), FPS)
    flags = ["--video_folder", tmp_path, "--saved_path", tmp_path / "s.jsonl", "--detector", "adaptive"]
    run_script("cutscene_detect.py", *flags)
    settings = json.loads((tmp_path / "s.settings.json").read_text())
    assert settings["end_fades"] is True and '["fade"' in (tmp_path / "s.jsonl").read_text()
    del settings["end_fades"]
    (tmp_path / "s.settings.json").write_text(json.dumps(settings))
    (tmp_path / "s.jsonl").write_text("")
    run_script("cutscene_detect.py", *flags)
    assert '"fade"' not in (tmp_path / "s.jsonl").read_text()
