"""Photographs made worse step by step: the score falls at each step."""

import cv2
import numpy as np
import pytest
from skimage import data

from utils.scoring.technical import DEFAULT_THRESHOLD, measure_frame, technical_columns

PHOTOS = {name: getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")}
PHOTOS["motorcycle"] = data.stereo_motorcycle()[0]


def blurred(photo, share):
    return cv2.GaussianBlur(photo, (0, 0), share * min(photo.shape[:2]))


def brightened(photo, gain):
    """Gain 1 brings the mean to 0.45 of white; clipped above white."""
    return (photo * (115 / photo.mean() * gain)).clip(0, 255).astype(np.uint8)


def compressed(photo, quality):
    return cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def noised(photo, deviation):
    noise = np.random.default_rng(0).normal(0, deviation, photo.shape)
    return (photo + noise).clip(0, 255).astype(np.uint8)


WORSE = {
    "blur": lambda photo: [photo, *(blurred(photo, s) for s in (0.0014, 0.002, 0.003, 0.004, 0.006, 0.01, 0.02))],
    "dark": lambda photo: [(photo * gain).astype(np.uint8) for gain in (1, 0.7, 0.5, 0.35, 0.25, 0.15, 0.08, 0)],
    "glare": lambda photo: [brightened(photo, gain) for gain in (1, 1.8, 2.5, 4, 8)],
    "compression": lambda photo: [photo, *(compressed(photo, quality) for quality in (75, 50, 35, 20, 10))],
    "noise": lambda photo: [photo, *(noised(photo, deviation) for deviation in (5, 10, 20, 30, 50))],
}


@pytest.mark.parametrize("kind", WORSE)
@pytest.mark.parametrize("name", PHOTOS)
def test_score_falls_at_each_step(name, kind):
    scores = [measure_frame(frame)["technical_score"] for frame in WORSE[kind](PHOTOS[name])]
    assert all(better > worse for better, worse in zip(scores, scores[1:], strict=False)), scores


@pytest.mark.parametrize("name", PHOTOS)
def test_photographs_pass_and_ruined_ones_do_not(name):
    photo = PHOTOS[name]
    assert measure_frame(photo)["technical_score"] > DEFAULT_THRESHOLD + 1
    for ruined in (blurred(photo, 0.012), (photo * 0.2).astype(np.uint8), noised(photo, 30), compressed(photo, 3)):
        assert measure_frame(ruined)["technical_score"] < DEFAULT_THRESHOLD


@pytest.mark.parametrize("level", [0, 255])
def test_empty_frames_score_nothing(level):
    assert measure_frame(np.full((360, 640, 3), level, np.uint8))["technical_score"] < 0.01


def test_block_edges_do_not_sharpen():
    for photo in PHOTOS.values():
        assert measure_frame(compressed(photo, 8))["sharpness"] < 1.03 * measure_frame(photo)["sharpness"]


def test_score_hardly_depends_on_resolution():
    photo = data.stereo_motorcycle()[0]
    larger = cv2.resize(photo, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert measure_frame(larger)["technical_score"] == pytest.approx(measure_frame(photo)["technical_score"], rel=0.1)


def test_noise_is_in_gray_levels_and_brightness_in_shares_of_white():
    flat = np.full((480, 640, 3), 128, np.uint8)
    gray_noise = np.random.default_rng(0).normal(0, 6, (480, 640, 1)).repeat(3, 2)
    assert measure_frame(flat)["brightness"] == pytest.approx(128 / 255, abs=0.01)
    assert measure_frame((flat + gray_noise).astype(np.uint8))["noise"] == pytest.approx(6, rel=0.1)


def test_colourfulness_follows_colour():
    gray = np.repeat(data.astronaut().mean(2, keepdims=True).astype(np.uint8), 3, 2)
    assert measure_frame(gray)["colourfulness"] < 0.1
    assert measure_frame(data.astronaut())["colourfulness"] > 8


def test_columns_are_means_over_frames():
    frames = [PHOTOS["coffee"], np.zeros_like(PHOTOS["coffee"])]
    columns = technical_columns(frames)
    assert columns["technical_score"] == pytest.approx(measure_frame(frames[0])["technical_score"] / 2, abs=0.01)
    with pytest.raises(ValueError, match="a frame or more"):
        technical_columns([])
    with pytest.raises(ValueError, match="uint8"):
        measure_frame(np.zeros((480, 640), np.uint8))
