"""Photographs made worse step by step: the score falls at each step."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT, write_numbered
from skimage import data

from utils.scoring import technical
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


def noise_of_whole_frame(gray: np.ndarray) -> float:
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    deviations = np.sqrt(technical._block_means(cv2.filter2D(gray, cv2.CV_32F, kernel) ** 2))
    means = technical._block_means(gray)
    usable = (means > 4) & (means < 251)
    return float(np.percentile(deviations[usable], 10)) if usable.any() else 0.0


def blockiness_of_whole_frame(gray: np.ndarray) -> float:
    ratios = []
    for image in (gray, gray.T):
        steps = np.diff(image.astype(np.int16), axis=1)
        jumps = np.abs(2 * steps[:, 1:-1] - steps[:, :-2] - steps[:, 2:])
        positions = np.minimum(jumps, 64).mean(0) / 2
        positions = positions[: len(positions) // 8 * 8].reshape(-1, 8).mean(0)
        ratios.append((positions.max() + 0.1) / (np.median(positions) + 0.1))
    return float(np.mean(ratios))


@pytest.mark.parametrize(
    "size", [(16, 16), (17, 600), (511, 64), (512, 80), (513, 83), (528, 33), (1040, 517), (90, 1537)]
)
def test_a_frame_measured_in_bands_has_the_very_scores_of_a_whole_one(size):
    """Scores of before would be made again if a digit changed."""
    random = np.random.default_rng(size[0])
    sensor = (90 + random.normal(0, 3, size)).clip(0, 255).astype(np.uint8)
    for gray in (random.integers(0, 256, size, np.uint8), sensor, cv2.GaussianBlur(sensor, (0, 0), 2)):
        assert technical._noise(gray) == noise_of_whole_frame(gray)
        assert technical._blockiness(gray) == blockiness_of_whole_frame(gray)


PEAK = """
import resource, sys
sys.path.insert(0, {root!r})
from compute_video_frame_quality import read_clip
from utils.video.sampling import FrameSampling
read_clip({{"video_path": {path!r}}}, None, FrameSampling("uniform", int(sys.argv[1])), ["TechnicalScore"], {{}}, "")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_sampled_frames(tmp_path):
    path = write_numbered(tmp_path / "large.mp4", 12, size=(2048, 2048))
    code = PEAK.format(root=str(ROOT), path=str(path))
    few, many = (
        float(subprocess.run([sys.executable, "-c", code, count], capture_output=True, text=True, check=True).stdout)
        for count in ("2", "12")
    )
    assert many - few < 2048 * 2048 * 3 / 2**20  # one frame of RGB; held, ten would be ten times as much
