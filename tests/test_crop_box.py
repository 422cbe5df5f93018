"""Crop boxes: bars, burnt-in text and marks of known place are cut away, and clean clips lose nothing."""

import json
import os
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
from conftest import ROOT, write_video
from skimage import data

from utils.rows import read_rows, write_rows
from utils.scoring.bars import bars
from utils.scoring.boxes import largest_rectangle
from utils.scoring.still_marks import still_marks

SIZE = (480, 270)
LINES = ("And then she said nothing", "We leave tomorrow at dawn", "Who would have thought")


def pan(photo: str = "coffee", count: int = 72, speed: float = 2.5, size=SIZE) -> list[np.ndarray]:
    picture = cv2.resize(getattr(data, photo)(), (size[0] * 8 // 5, size[1] * 8 // 5))
    return [
        cv2.getRectSubPix(picture, size, (size[0] * 0.55 + speed * i, size[1] * 0.6 + speed * i / 3))
        for i in range(count)
    ]


def text(frame: np.ndarray, words: str, x: int, y: int) -> np.ndarray:
    frame = frame.copy()
    cv2.putText(frame, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 5, cv2.LINE_AA)
    cv2.putText(frame, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2, cv2.LINE_AA)
    return frame


def logo(frame: np.ndarray) -> np.ndarray:
    frame = frame.copy()
    cv2.circle(frame, (440, 30), 12, (255, 255, 255), 4)
    cv2.rectangle(frame, (395, 20), (420, 40), (255, 255, 255), 3)
    return frame


def blurred(frame: np.ndarray) -> np.ndarray:
    out = cv2.GaussianBlur(cv2.resize(frame, None, fx=2, fy=2)[: SIZE[1], : SIZE[0]], (0, 0), 16)
    out[:, 90:390] = frame[:, 90:390]
    return out


def barred(frame: np.ndarray, left=0, top=0, right=0, bottom=0) -> np.ndarray:
    return np.pad(frame, ((top, bottom), (left, right), (0, 0)))


CASES = {  # what makes the frames, and the true [left, top, right, bottom] that is cut away, None for "this much is left, whatever the sides"
    "clean": (pan, (0, 0, 0, 0)),
    "astronaut": (lambda: pan("astronaut"), (0, 0, 0, 0)),
    "letterbox": (lambda: [barred(f, top=40, bottom=40) for f in pan()], (0, 40, 0, 40)),
    "pillarbox": (lambda: [barred(f, left=60, right=60) for f in pan()], (60, 0, 60, 0)),
    "bottom": (lambda: [barred(f, bottom=30) for f in pan()], (0, 0, 0, 30)),
    "blurred": (lambda: [blurred(f) for f in pan()], (90, 0, 90, 0)),
    "dark": (lambda: [(f * 0.12).astype(np.uint8) for f in pan()], (0, 0, 0, 0)),
    "black": (lambda: [np.zeros((270, 480, 3), np.uint8)] * 48, (0, 0, 0, 0)),
    "subtitles": (lambda: [text(f, LINES[i // 24], 70, 250) for i, f in enumerate(pan())], (0, 0, 0, 50)),
    "caption": (lambda: [text(f, LINES[0], 70, 250) if i < 18 else f for i, f in enumerate(pan())], (0, 0, 0, 50)),
    "logo": (lambda: [logo(f) for f in pan()], (0, 50, 0, 0)),
    "still": (lambda: [logo(pan(count=1)[0])] * 48, (0, 0, 0, 0)),
}
TWINS = ("astronaut", "pillarbox", "bottom")  # of clean and letterbox: other sides, another photograph


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for name, (frames, _) in CASES.items():
        write_video(folder / f"{name}.mp4", frames())
    return folder


def boxes_of(names, clips, folder):
    """The result file of these clips, and its rows by name."""
    write_rows(folder / "list.jsonl", [{"video_path": f"{name}.mp4"} for name in names])
    listed = (
        "--video_folder",
        clips,
        "--video_metadata_path",
        folder / "list.jsonl",
        "--n_jobs",
        1,
        "--min_crop_share",
        0.6,
    )
    saved = folder / "crop_box.jsonl"
    command = [sys.executable, ROOT / "compute_crop_box.py", *listed, "--saved_path", saved]
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return saved, {row["video_path"].removesuffix(".mp4"): row for row in read_rows(saved, ("video_path",))}


@pytest.fixture(scope="module")
def found(clips, tmp_path_factory):
    names = [name for name in CASES if name not in TWINS]
    return boxes_of(names, clips, tmp_path_factory.mktemp("crop"))


@pytest.fixture(scope="module")
def found_twins(clips, tmp_path_factory):
    return boxes_of(TWINS, clips, tmp_path_factory.mktemp("crop"))


@pytest.mark.parametrize("name", [name for name in CASES if name not in TWINS])
def test_what_is_cut_away(clips, found, name):
    assert_cut_away(clips, found, name)


@pytest.mark.release
@pytest.mark.parametrize("name", TWINS)
def test_what_is_cut_away_of_their_twins(clips, found_twins, name):
    assert_cut_away(clips, found_twins, name)


def assert_cut_away(clips, found, name):
    _, (left, top, right, bottom) = CASES[name]
    with av.open(str(clips / f"{name}.mp4")) as container:
        width, height = container.streams.video[0].width, container.streams.video[0].height
    x, y, w, h = found[1][name]["crop_box"]
    assert all(side % 2 == 0 for side in (x, y, w, h)) or (x, y, w, h) == (0, 0, width, height)
    for cut, true in ((x, left), (y, top), (width - x - w, right), (height - y - h, bottom)):
        assert (
            (cut == 0)
            if true == 0
            else (0 <= cut - true <= 6 or (name in ("subtitles", "caption", "logo") and abs(cut - true) <= 14))
        )
    bars = found[1][name]["crop_bars"]
    picture = (width - bars[0] - bars[2]) * (height - bars[1] - bars[3])
    is_barred = name in ("letterbox", "pillarbox", "bottom", "blurred")
    assert found[1][name]["crop_share"] == (1 if is_barred else pytest.approx(w * h / picture, abs=1e-3))
    assert found[1][name]["crop_short_side"] == min(w, h)


def test_each_cause_has_its_column(found):
    rows = found[1]
    assert rows["letterbox"]["crop_bars"][1] in range(40, 43) and rows["letterbox"]["crop_text"] == []
    assert len(rows["subtitles"]["crop_text"]) == 1
    marks = rows["logo"]["crop_logos"]
    assert marks and all(x >= 385 and x + w <= 462 and y >= 10 and y + h <= 50 for x, y, w, h in marks)
    assert rows["still"]["crop_logos"] is None and rows["black"]["crop_logos"] is None
    assert rows["clean"]["crop_logos"] == [] and rows["clean"]["crop_insets"] == []


def test_a_crop_that_leaves_too_little_is_none(tmp_path, run_script, clips):
    """Then the clip is whole, and what covers it says so to the filter."""
    flags = ("--video_folder", clips / "subtitles.mp4", "--saved_path", "c.jsonl", "--min_crop_share", 0.9)
    run_script("compute_crop_box.py", *flags)
    (row,) = read_rows(tmp_path / "c.jsonl", ("video_path",))
    assert row["crop_box"] is None and row["crop_share"] == pytest.approx(0.82, abs=0.05)
    assert row["overlay_text_share"] > 0.05


def test_a_file_goes_on_by_the_rule_of_0_3_and_says_so_where_it_was_another(tmp_path, run_script, clips):
    def begin(rule: str | None) -> None:
        settings = json.loads((tmp_path / "c.settings.json").read_text())
        settings.pop("rule", None)
        (tmp_path / "c.settings.json").write_text(json.dumps(settings | ({"rule": rule} if rule else {})))

    flags = ("--saved_path", "c.jsonl", "--num_sampled_frames", 2)
    run_script("compute_crop_box.py", "--video_folder", clips / "clean.mp4", *flags)
    begin(None)
    write_rows(tmp_path / "list.jsonl", [{"video_path": "clean.mp4"}, {"video_path": "black.mp4"}])
    both = ("--video_folder", clips, "--video_metadata_path", "list.jsonl", *flags)
    run_script("compute_crop_box.py", *both)
    rows = {row["video_path"]: row for row in read_rows(tmp_path / "c.jsonl", ("video_path",))}
    assert "crop_insets" not in rows["black.mp4"] and rows["black.mp4"]["crop_share"] == 1
    begin("overlays")
    refused = run_script("compute_crop_box.py", *both, code=2)
    assert "rule was 'overlays' and is 'overlays 2'" in refused.stderr


def test_an_upright_film_is_cropped_as_it_is_shown(tmp_path, run_script):
    def turned(stream):
        stream.set_display_rotation(90) if hasattr(stream, "set_display_rotation") else None

    frames = [np.ascontiguousarray(np.rot90(barred(f, top=40, bottom=40))) for f in pan()]
    write_video(tmp_path / "a.mp4", frames)
    run_script("compute_crop_box.py", "--video_folder", ".", "--saved_path", "c.jsonl", "--num_sampled_frames", 2)
    (row,) = read_rows(tmp_path / "c.jsonl", ("video_path",))
    assert row["crop_box"][0] in range(40, 44) and row["crop_box"][2] in range(262, 271)


def test_night_skies_and_fades_are_no_bars():
    noise = np.random.default_rng(0)
    sky = np.zeros((6, 120, 200), np.uint8)
    for t in range(6):
        for x in range(200):
            sky[t, 60 + int(25 * np.sin(x / 15 + t / 9)) :, x] = 120
    assert bars(np.clip(sky + noise.normal(0, 2, sky.shape), 0, 255).astype(np.uint8)) == (0, 0, 0, 0)
    assert bars(np.zeros((4, 90, 160), np.uint8)) == (0, 0, 0, 0)
    fade = np.stack(
        [(cv2.cvtColor(pan(count=1)[0], cv2.COLOR_RGB2GRAY) * share).astype(np.uint8) for share in (0, 0.2, 0.6, 1)]
    )
    assert bars(fade) == (0, 0, 0, 0)


def test_the_largest_rectangle():
    assert largest_rectangle((0, 0, 100, 60), []) == (0, 0, 100, 60)
    assert largest_rectangle((0, 0, 100, 60), [(20, 50, 60, 8)]) == (0, 0, 100, 50)
    assert largest_rectangle((10, 0, 80, 60), [(70, 0, 30, 10)]) == (10, 10, 80, 50)
    assert largest_rectangle((0, 0, 101, 61), [(0, 0, 1, 61)]) == (2, 0, 98, 60)
    assert largest_rectangle((0, 0, 10, 10), [(0, 0, 10, 10)])[2:] == (0, 0)
    assert still_marks(np.zeros((3, 60, 60), np.uint8)) is None


def test_text_is_measured_inside_the_crop(tmp_path, run_script, clips, found):
    write_rows(tmp_path / "clips.jsonl", [{"video_path": "clean.mp4"}, {"video_path": "subtitles.mp4"}])
    listed = ("--video_folder", clips, "--video_metadata_path", "clips.jsonl")
    two = ("--frame_sample_method", "uniform", "--num_sampled_frames", 2)
    flags = ("compute_text_score.py", *listed, *two, "--saved_path", "t.jsonl", "--n_jobs", 1)

    def scores() -> dict[str, float]:
        return {row["video_path"]: row["text_score"] for row in read_rows(tmp_path / "t.jsonl", ("video_path",))}

    run_script(*flags)
    whole = scores()
    assert whole["subtitles.mp4"] > 0.02
    ran = run_script(*flags, "--crop_boxes", found[0])
    assert "no longer match" in ran.stdout  # those of another box are measured again
    assert scores()["subtitles.mp4"] == 0 and scores()["clean.mp4"] == whole["clean.mp4"]
    assert ", 0 due" in run_script(*flags, "--crop_boxes", found[0]).stdout
    run_script(*flags)
    assert scores() == whole
    write_rows(tmp_path / "wrong.jsonl", [{"video_path": "clean.mp4", "crop_box": [1, 2]}])
    assert "crop_box is [1, 2]" in run_script(*flags, "--crop_boxes", "wrong.jsonl", code=2).stderr


@pytest.mark.release
def test_stage_2_hands_the_crop_on(tmp_path, clips):
    dataset = tmp_path / "data set"
    dataset.mkdir()
    write_rows(
        dataset / "clips.jsonl",
        [{"video_path": f"{name}.mp4", "duration": 3.0} for name in ("clean", "letterbox")],
    )
    environment = {
        **os.environ, "DATASET_FOLDER": str(dataset), "VIDEO_FOLDER": str(clips), "VIDEO_METADATA_PATH": str(dataset / "clips.jsonl"), "PRESET": "embedded",
        "REPORT": "0", "PYTHON": sys.executable, "N_JOBS": "1", "CROP": "1", "QUALITY_THRESHOLD": "0", "ACTIVITY_THRESHOLD": "0", "HIGH_MOTION_SCORE_THRESHOLD": "1000",
        "CUT_INSIDE_THRESHOLD": "1", "CUT_INSIDE": "flow", "MIN_SECONDS": "1",
    }  # fmt: skip
    ran = subprocess.run(["sh", str(ROOT / "stage_2_filter_data.sh")], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    kept = {row["video_path"]: row for row in read_rows(dataset / "train.jsonl", ("video_path",))}
    assert set(kept) == {"clean.mp4", "letterbox.mp4"}
    assert kept["clean.mp4"]["crop_share"] == 1 and kept["letterbox.mp4"]["crop_box"][1] in range(40, 44)
