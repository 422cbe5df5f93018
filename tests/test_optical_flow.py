"""Photographs moved by a known amount: speed, direction and name of the motion, at several sizes and frame rates."""

import gc
import json
from fractions import Fraction
from itertools import accumulate

import av
import cv2
import numpy as np
import pytest
from conftest import write_video
from skimage import data

import compute_motion_score
from benchmarks import composed_cameras
from benchmarks.truth_motion import sampled_seconds
from compute_motion_score import motion_columns
from utils.errors import VideoError
from utils.scoring.optical_flow import camera_name, farneback_score, measure_motion, prepare
from utils.video.geometry import display_transform
from utils.video.opening import open_video
from utils.video.sampling import FrameMissing

TIMES = np.arange(4) / 2


def mosaic(height: int) -> np.ndarray:
    photos = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    sizes = [(round(photo.shape[1] * height / photo.shape[0]), height) for photo in photos]
    return np.hstack([cv2.resize(p, s, interpolation=cv2.INTER_CUBIC) for p, s in zip(photos, sizes, strict=True)])


def window(canvas, size, x, y, zoom=1.0, roll=0.0):
    """The window of `size` (width, height) around (x, y); `roll` turns the camera clockwise, in degrees."""
    matrix = cv2.getRotationMatrix2D((x, y), roll, zoom)
    matrix[:, 2] += np.array(size) / 2 - (x, y)
    return cv2.warpAffine(canvas, matrix, size, borderMode=cv2.BORDER_REFLECT)


def camera_move(pan=0.0, tilt=0.0, zoom=0.0, roll=0.0, times=TIMES, size=(854, 480)):
    """Gray frames at `times`: pan and tilt in % of the short side per second, zoom in %/s, roll in degrees/s."""
    height = size[1]
    canvas = mosaic(height * 2)
    x, y = canvas.shape[1] / 2, canvas.shape[0] / 2
    return [
        prepare(
            window(
                canvas, size, x + pan * height / 100 * t, y - tilt * height / 100 * t, np.exp(zoom / 100 * t), roll * t
            )
        )
        for t in times
    ]


@pytest.mark.parametrize(
    "width_percent, size",
    [
        pytest.param(speed, size, marks=pytest.mark.release if size[1] > 480 and speed != 10 else ())
        for size in ((854, 480), (1920, 1080), (3840, 2160))
        for speed in (2, 5, 10, 20, 40)
    ],
)
def test_pan_reads_its_speed_at_every_size(width_percent, size):
    speed = width_percent * size[0] / size[1]
    columns = measure_motion(camera_move(pan=-speed, times=TIMES[:3], size=size), TIMES[:3])
    assert columns["motion_score"] == pytest.approx(speed, rel=0.05)
    assert columns["camera_pan"] == pytest.approx(-speed, rel=0.05)
    assert columns["residual_motion"] < 0.05 * speed
    assert camera_name(columns) == "pan left"


@pytest.mark.parametrize("fps", [12.5, 24, 24000 / 1001, 25, 30, 60])
def test_pan_reads_its_speed_at_every_frame_rate(fps):
    every = 7.3 + np.arange(round(2 * fps)) / fps
    times = np.array(sampled_seconds(every))
    assert len(times) == 4
    columns = measure_motion(camera_move(pan=20, times=times), times)
    assert columns["motion_score"] == pytest.approx(20, rel=0.03)


@pytest.mark.parametrize(
    "move, name",
    [
        ({}, "static"),
        ({"pan": 15}, "pan right"),
        ({"tilt": 15}, "tilt up"),
        ({"tilt": -4}, "tilt down"),
        ({"zoom": 20}, "zoom in"),
        ({"zoom": -20}, "zoom out"),
        ({"roll": 10}, "roll clockwise"),
        ({"roll": -10}, "roll counterclockwise"),
        ({"pan": -20, "tilt": 14}, "pan left and tilt up"),
    ],
)
def test_camera_motion_is_measured_and_named(move, name):
    columns = measure_motion(camera_move(**move), TIMES)
    for axis in ("pan", "tilt", "zoom", "roll"):
        assert columns[f"camera_{axis}"] == pytest.approx(move.get(axis, 0), rel=0.05, abs=0.3)
    assert camera_name(columns) == name


def test_shaken_camera_is_handheld():
    canvas, size = mosaic(960), (854, 480)
    offsets = [(0, 0), (60, -40), (-50, 30), (40, 50), (-30, -60)]
    frames = [prepare(window(canvas, size, 1500 + x, 480 + y)) for x, y in offsets]
    columns = measure_motion(frames, np.arange(5) / 2)
    assert camera_name(columns) == "handheld"


def test_still_frames_do_not_move():
    columns = measure_motion(camera_move(), TIMES)
    assert columns["motion_score"] < 0.01 and columns["activity"] < 0.01
    assert columns["static_share"] == 1


def test_noise_in_the_dark_does_not_move():
    noise = np.random.default_rng(0).normal(4, 1, (4, 256, 455)).clip(0, 255).astype(np.uint8)
    columns = measure_motion(list(noise), TIMES)
    assert columns["motion_score"] < 0.1 and columns["activity"] < 1


def subject_before(background: np.ndarray, speed: float, side: int = 120) -> list[np.ndarray]:
    """A cat of `side` x `side` pixels crossing a background (256, 455) by `speed` pixels a second."""
    cat = cv2.resize(prepare(data.chelsea(), 0)[40:260, 90:310], (side, side), interpolation=cv2.INTER_AREA)
    frames = []
    for t in TIMES:
        frame = background.copy()
        left = round(100 + speed * t)
        frame[70 : 70 + side, left : left + side] = cat
        frames.append(frame)
    return frames


@pytest.mark.parametrize("backdrop", ["textured", "bare"])
def test_still_camera_with_moving_subject(backdrop):
    street = prepare(data.coffee())[:, :455] if backdrop == "textured" else np.full((256, 455), 140, np.uint8)
    street = np.pad(street, ((0, 0), (0, 455 - street.shape[1])), mode="reflect")
    street = (street + np.random.default_rng(0).normal(0, 1, street.shape)).clip(0, 255).astype(np.uint8)
    columns = measure_motion(subject_before(street, 40), TIMES)
    assert camera_name(columns) == "static"
    assert 0.08 < columns["subject_share"] < 0.25  # the cat covers 0.124 of the frame


def test_a_small_subject_is_activity_where_the_mean_motion_is_next_to_none():
    street = np.pad(prepare(data.coffee()), ((0, 0), (0, 71)), mode="reflect")
    street = (street + np.random.default_rng(0).normal(0, 1, street.shape)).clip(0, 255).astype(np.uint8)
    columns = measure_motion(
        subject_before(street, 20, 50), TIMES
    )  # 2.1 % of the frame, 7.8 % of the short side a second
    assert columns["motion_score"] < 1.5 and columns["camera_speed"] < 0.5
    assert columns["activity"] == columns["subject_speed"] == pytest.approx(7.8, rel=0.2)


def test_what_happens_for_less_than_half_of_a_clip_is_no_activity():
    street = np.pad(prepare(data.coffee()), ((0, 0), (0, 71)), mode="reflect")
    moving = subject_before(street, 40)
    frames = [moving[0]] * 6 + moving
    columns = measure_motion(frames, np.arange(len(frames)) / 2)
    assert columns["activity"] < 0.5 < columns["residual_motion"]


def test_moving_camera_with_still_scene_has_no_subject():
    columns = measure_motion(camera_move(pan=15), TIMES)
    assert columns["activity"] == columns["camera_speed"] == pytest.approx(15, rel=0.05)
    assert columns["moving_share"] > 0.99
    assert columns["subject_share"] < 0.05


def test_pan_under_a_clear_sky_moves_all_of_the_picture():
    frames = camera_move(pan=15)
    for frame in frames:
        frame[:160] = np.linspace(200, 230, 160, dtype=np.uint8)[:, None]
    columns = measure_motion(frames, TIMES)
    assert columns["motion_score"] == pytest.approx(15, rel=0.1)
    assert camera_name(columns) == "pan right"


def test_cut_inside_the_clip_is_a_jump_and_a_flash_flickers():
    pan = camera_move(pan=15)
    steady = measure_motion(pan, TIMES)
    cut = measure_motion([*pan[:2], *(frame[:, ::-1].copy() for frame in pan[2:])], TIMES)
    flash = measure_motion([pan[0], cv2.add(pan[1], 60), *pan[2:]], TIMES)
    assert cut["jump"] > 5 * steady["jump"]
    assert flash["flicker"] > 5 * steady["flicker"]


def test_farneback_is_in_pixels_of_the_native_size():
    small = camera_move(pan=4)
    assert farneback_score(small) == pytest.approx(0.02 * 256, rel=0.1)
    with pytest.raises(ValueError, match="two or more"):
        farneback_score(small[:1])


def test_prepare_keeps_shape_and_size():
    assert prepare(np.zeros((1920, 1080, 3), np.uint8)).shape == (455, 256)
    assert prepare(np.zeros((120, 160), np.uint8)).shape == (256, 341)
    assert prepare(np.zeros((120, 160, 3), np.uint8), 0).shape == (120, 160)


def test_sampling_follows_times_not_counts():
    assert sampled_seconds([0, 0.1, 0.49, 0.52, 0.9, 1.7, 1.8]) == pytest.approx([0, 0.52, 1.7])
    assert sampled_seconds([1.5, 4.0, 4.1, 4.6]) == pytest.approx([0, 2.5, 3.1])


def test_unusable_input_is_refused_with_a_sentence():
    frame = np.zeros((256, 455), np.uint8)
    with pytest.raises(ValueError, match="two or more frames"):
        measure_motion([frame], [0.0])
    with pytest.raises(ValueError, match="must rise"):
        measure_motion([frame, frame], [1.0, 1.0])
    with pytest.raises(ValueError, match="one size"):
        measure_motion([frame, frame.T.copy()], [0.0, 0.5])


# Both estimators take their frames in the same way.
@pytest.mark.parametrize(
    "estimator, short_side", [("dis", 256), pytest.param("farneback", 0, marks=pytest.mark.release)]
)
@pytest.mark.parametrize(
    "ending, options",
    [
        ("mp4", {"options": {"preset": "medium", "bf": "3"}}),
        ("mp4", {"options": {"preset": "medium", "g": "7"}}),
        ("mp4", {"options": {"preset": "medium", "x264-params": "open-gop=1:keyint=20"}}),
        ("ts", {"options": {"preset": "medium", "x264-params": "intra-refresh=1:keyint=12:scenecut=0"}}),
        ("mp4", {"codec": "libx265", "options": {"preset": "fast", "x265-params": "log-level=none:keyint=20"}}),
        ("mp4", {"pts": list(accumulate([0, *[1, 2, 3, 9, 1] * 18])), "time_base": Fraction(1, 60)}),
        ("mkv", {"options": {"preset": "medium"}}),
        ("ts", {"options": {"preset": "medium", "g": "20"}}),
        ("ts", {"codec": "mpeg2video", "options": {"bf": "2", "g": "15"}}),
        ("webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime", "g": "20"}}),
        ("avi", {"codec": "mpeg4"}),
    ],
)
def test_scores_are_those_of_decoding_every_frame(ending, options, estimator, short_side, tmp_path, monkeypatch):
    canvas = mosaic(360)
    frames = (window(canvas, (320, 180), 400 + 3 * i, 180, 1 + i / 200) for i in range(91))
    path = write_video(tmp_path / f"a.{ending}", frames, 24, **options)
    row = {"video_path": path.name}
    alone = motion_columns(row, str(tmp_path), estimator, short_side, 2)

    def refuse(*arguments, **keywords):
        raise FrameMissing
        yield

    monkeypatch.setattr(compute_motion_score, "sampled_alone", refuse)
    every = motion_columns(row, str(tmp_path), estimator, short_side, 2)
    assert list(alone.items()) == list(every.items())


def test_frames_that_no_sampled_one_needs_stay_undecoded(tmp_path, monkeypatch):
    canvas = mosaic(360)
    frames = (window(canvas, (320, 180), 400 + 3 * i, 180) for i in range(96))
    path = write_video(tmp_path / "a.mp4", frames, 24, options={"preset": "medium", "g": "6", "keyint_min": "6"})
    known: dict = {}
    with open_video(str(path)) as (container, stream):
        times = [t for _, t in compute_motion_score.sampled_alone(container, stream, 2, known)]
        assert times == [i / 2 for i in range(8)]
        assert known == {"frame_size": [320, 180], "duration": 4.0}
    monkeypatch.setattr(compute_motion_score, "decode", None)  # decoding everything would fail
    assert motion_columns({"video_path": str(path)}, None, "dis", 256, 2)["duration"] == 4.0


def test_one_frame_is_an_error_with_its_length(tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.full((90, 160), 99, np.uint8)] * 6, 24)
    with pytest.raises(VideoError, match=r"only 0.25 seconds long: motion needs two"):
        motion_columns({"video_path": str(path)}, None, "dis", 256, 2)


def test_a_frame_is_freed_when_it_is_done_with(tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.full((90, 160), 99, np.uint8)] * 20, 24)
    gc.collect()
    gc.disable()
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                display_transform(frame)
        assert sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects()) < 3
    finally:
        gc.enable()


def test_a_path_that_curves_is_no_hand():
    """Shake is change of direction; a hand changes it anew from pair to pair, an orbit goes on as it did."""
    columns = {"camera_pan": 1.0, "camera_tilt": 3.0, "camera_zoom": 0.0, "camera_roll": 0.0, "camera_shake": 9.0}
    assert camera_name(columns | {"camera_jerk": 9.0}) == "tilt up"
    assert camera_name(columns | {"camera_jerk": 15.0}) == camera_name(columns) == "handheld"


COMPOSED = {
    "pan of 80 px/s", "tilt down", "zoom in of 10.0%/s", "zoom out of 1.5%/s", "handheld", "follows to and fro", "still", "person of 50%, still",
    "person of 50%, pan", "street, 4 m/s", "racing game, 10 m/s", "street, 4 m/s back", "orbit",
}  # fmt: skip
PATHS = [path for path in composed_cameras.paths(composed_cameras.photographs(None)[:2], 3) if path[1] in COMPOSED]


@pytest.mark.parametrize("truth, kind, path", PATHS, ids=[f"{kind} {i % 2}" for i, (_, kind, _) in enumerate(PATHS)])
def test_the_camera_does_what_the_background_does(truth, kind, path):
    """A person who fills the frame makes no pan; a street that comes nearer, too fast for half a second between frames, is a zoom."""
    frames, times, close = composed_cameras.sampled(path, np.random.default_rng(0))
    columns = measure_motion(frames, times, close)
    assert truth in camera_name(columns), columns
    assert ("camera_known" in columns) and columns["camera_pan_path"] >= abs(columns["camera_pan"]) - 1e-9


def test_a_drive_too_fast_for_two_frames_a_second_is_seen_in_closer_frames_of_the_file(tmp_path):
    (path,) = [path for _, kind, path in PATHS if kind == "racing game, 10 m/s"][:1]
    write_video(tmp_path / "a.mp4", [path(i / 24).astype(np.uint8) for i in range(84)], 24)
    columns = motion_columns(
        {"video_path": str(tmp_path / "a.mp4")}, None, "dis", 256, 2, activity=True, camera="background"
    )
    assert columns["camera_motion"] == "zoom in" and columns["camera_known"] >= 0.5
    before = motion_columns({"video_path": str(tmp_path / "a.mp4")}, None, "dis", 256, 2, activity=True)
    assert before["camera_motion"] == "static" and not before.keys() & {"camera_known", "camera_pan_path"}


def test_a_file_goes_on_with_the_camera_rule_that_it_was_begun_with(tmp_path, run_script):
    for name in "ab":
        write_video(
            tmp_path / f"{name}.mp4",
            [np.random.default_rng(i).integers(0, 255, (90, 160), np.uint8) for i in range(24)],
            12,
        )
    saved, settings = tmp_path / "motion.jsonl", tmp_path / "motion.settings.json"
    flags = ["--video_folder", tmp_path, "--saved_path", saved]
    run_script("compute_motion_score.py", *flags)
    now = json.loads(settings.read_text())
    assert now["camera"] == "background" and "camera_known" in saved.read_text()
    settings.write_text(json.dumps({name: value for name, value in now.items() if name != "camera"}))
    saved.write_text("")
    run_script("compute_motion_score.py", *flags)
    assert "camera" not in json.loads(settings.read_text()) and "camera_known" not in saved.read_text()
