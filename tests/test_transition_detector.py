"""Each film is made here, so that its cuts are known: textured shots in motion, 256 x 144, BGR."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from scenedetect import FrameTimecode, SceneManager, open_video
from scenedetect.common import Timecode
from skimage import data

from utils.cutting.block_matching import found_share, picture_replaced
from utils.cutting.frame_ring import RING
from utils.cutting.transition_detector import TransitionDetector, fade_length


def shot(seed: int, count: int = 40, pan: float = 1.0, level: float = 1.0) -> np.ndarray:
    """`count` frames panning over random blobs: uint8 (count, 144, 256, 3)."""
    rng = np.random.default_rng(seed)
    width = 300 + int(abs(pan) * count)
    field = sum(cv2.resize(rng.random((n, n * width // 144, 3), np.float32), (width, 144)) / 2 for n in (6, 18))
    field = np.clip((field - 0.25) * 400 + rng.uniform(-40, 40, 3), 0, 255) * level
    lefts = (np.arange(count) if pan > 0 else np.arange(count)[::-1]) * abs(pan)
    return np.stack([field[:, int(left) :][:, :256] for left in lefts]).astype(np.uint8)


def small(image: np.ndarray) -> np.ndarray:
    """As TransNetV2 sees it. Imported here, since torch, which its module imports, takes seconds that no other file of tests shall pay."""
    from utils.cutting.transnetv2 import small

    return small(image)


def dissolve(a: np.ndarray, b: np.ndarray, length: int) -> np.ndarray:
    share = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
    return np.concatenate([a[:-length], (a[-length:] * (1 - share) + b[:length] * share).astype(np.uint8), b[length:]])


def detect(frames, seconds=None, fps: float = 24.0) -> tuple[list[int], list[tuple[str, int, int]]]:
    """Cuts and transitions in frame indices; `seconds` gives each frame's own time."""
    base, detector, cuts = Fraction(1, 90000), TransitionDetector(), []
    times = [Timecode(round((seconds[t] if seconds is not None else t / fps) / base), base) for t in range(len(frames))]
    times = [FrameTimecode(time, fps=float(fps)) for time in times]
    index = {time.pts: t for t, time in enumerate(times)}
    for time, frame in zip(times, frames, strict=True):
        cuts += detector.process_frame(time, frame)
    cuts += detector.post_process(times[-1])
    spans = [(kind, index[start.pts], index.get(end.pts, len(frames))) for kind, start, end in detector.transitions]
    return [index[cut.pts] for cut in cuts], spans


def test_hard_cuts():
    frames = np.concatenate([shot(1), shot(2, pan=-2), shot(3, pan=5)])
    assert detect(frames) == ([40, 80], [])


def test_dark_cut_of_five_levels():
    frames = np.concatenate([shot(1, level=0.1), shot(2, level=0.1)])
    assert 3 < np.abs(frames[40].astype(int) - frames[39]).mean() < 8
    assert detect(frames) == ([40], [])


def test_slides_that_share_most_of_the_page():
    slides = np.full((80, 144, 256, 3), 255, np.uint8)
    for start, words in (
        (0, ("clean shots", "every cut", "found", "by asking")),
        (40, ("one decode", "no model", "a span", "four")),
    ):
        for line, word in enumerate(words):
            for frame in slides[start : start + 40]:
                cv2.putText(
                    frame, word, (20 + 30 * (line % 2), 30 + 30 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 1
                )
    assert detect(slides) == ([40], [])


@pytest.mark.parametrize("length", [5, 12, 30, 60])
def test_dissolve(length):
    frames = dissolve(shot(1, 40 + length, 0.3), shot(2, 40 + length, 0.3), length)
    (cut,), ((kind, start, end),) = detect(frames)
    assert kind == "dissolve" and 40 < cut <= 40 + length
    assert 36 <= start <= 44 and 36 + length <= end <= 44 + length


@pytest.mark.parametrize("tone", [0, 255])
def test_fade_out_and_in(tone):
    share = np.concatenate(
        [np.ones(40), np.linspace(1, 0, 21)[1:], np.zeros(10), np.linspace(0, 1, 21)[1:], np.ones(40)]
    )
    frames = np.concatenate([shot(1, 65), shot(2, 65)]) * share[:, None, None, None]
    frames = (frames + tone * (1 - share[:, None, None, None])).astype(np.uint8)
    cuts, ((kind, start, end),) = detect(frames)
    assert kind == "fade" and 38 <= start <= 43 and 86 <= end <= 92
    assert len(cuts) == 2 and abs(cuts[0] - 59) <= 2 and abs(cuts[1] - 70) <= 2


def test_cut_to_black_and_from_black():
    frames = np.concatenate([shot(1), np.zeros((20, 144, 256, 3), np.uint8), shot(2)])
    assert detect(frames) == ([40, 60], [("fade", 40, 60)])


def test_fade_out_at_the_end_is_a_span_and_no_cut():
    frames = shot(1, 70) * np.clip((69 - np.arange(70)) / 30, 0, 1)[:, None, None, None]
    cuts, ((kind, start, end),) = detect(frames.astype(np.uint8))
    assert cuts == [] and kind == "fade" and 37 <= start <= 43 and end == 70


def test_title_card_fades_over_black():
    card = np.zeros((144, 256, 3), np.uint8)
    cv2.putText(card, "a title", (60, 80), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2)
    share = np.concatenate([np.zeros(15), np.linspace(0, 1, 12), np.ones(25), np.linspace(1, 0, 12), np.zeros(15)])
    title = (card * share[:, None, None, None]).astype(np.uint8)
    cuts, spans = detect(np.concatenate([shot(1), title, shot(2)]))
    assert [abs(cut - true) <= 2 for cut, true in zip(cuts, (40, 56, 103, 119), strict=True)] == [True] * 4
    assert {kind for kind, _, _ in spans} == {"fade"} and len(spans) == 2


def test_wipe():
    old, new = shot(1, 100, 0), shot(2, 100, 0)
    frames = old.copy()
    for t in range(100):
        edge = int(np.clip((t - 40) / 20, 0, 1) * 256)
        frames[t, :, :edge] = new[t, :, :edge]
    (cut,), ((kind, start, end),) = detect(frames)
    assert kind == "wipe" and 45 <= cut <= 55 and 39 <= start <= 45 and 56 <= end <= 62


@pytest.mark.parametrize("pan", [1, 4, 12, 25])
def test_pan_is_no_cut(pan):
    assert detect(shot(1, 60, pan)) == ([], [])


def test_flash_light_shake_and_held_frames_are_no_cuts():
    still = shot(1, 60, 0.2)
    flash = still.copy()
    flash[20:23] = 255 - (255 - flash[20:23]) // 5
    assert detect(flash) == ([], [])
    light = still.astype(int)
    light[30:] = light[30:] * 3 // 2 + 20
    assert detect(np.minimum(light, 255).astype(np.uint8)) == ([], [])
    offsets = np.random.default_rng(0).integers(-6, 7, (60, 2))
    assert detect(np.stack([np.roll(f, tuple(o), (0, 1)) for f, o in zip(still, offsets, strict=True)])) == ([], [])
    assert detect(shot(1, 20, 6).repeat(3, axis=0)) == ([], [])


def test_lower_third_is_no_cut():
    frames = shot(1, 60, 0.2)
    frames[30:, 110:130, 20:200] = (120, 60, 20)
    assert detect(frames) == ([], [])


def test_bars_do_not_count():
    frames = np.concatenate([shot(1), np.full((20, 144, 256, 3), 90, np.uint8), shot(2)])
    frames[:, :20] = frames[:, -20:] = 0
    assert detect(frames) == ([40, 60], [("fade", 40, 60)])


@pytest.mark.parametrize("fps", [12, 30, 60])
def test_frame_rates(fps):
    frames = np.concatenate([shot(1), dissolve(shot(2, 80, 0.3), shot(3, 80, 0.3), 24)])
    cuts, spans = detect(frames, fps=fps)
    assert cuts[0] == 40 and len(cuts) == 2 and 96 <= cuts[1] <= 121 and [span[0] for span in spans] == ["dissolve"]


def test_variable_rate():
    frames = np.concatenate([shot(1), shot(2), shot(3)])
    seconds = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04, 0.1], len(frames)))
    assert detect(frames, seconds) == ([40, 80], [])


@pytest.mark.parametrize("size", [(160, 90), (320, 180), (144, 256)])
def test_frame_sizes(size):
    frames = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in np.concatenate([shot(1), shot(2)])]
    assert detect(frames) == ([40], [])


def test_one_frame_and_black_only():
    assert detect(shot(1, 1)) == ([], [])
    assert detect(np.zeros((50, 144, 256, 3), np.uint8)) == ([], [("fade", 0, 50)])


def test_memory_is_flat():
    detector, frames = TransitionDetector(), shot(1, 50)
    for t in range(600):
        detector.process_frame(FrameTimecode(t, 24.0), frames[t % 50])
    assert len(detector._ring.frames) == RING and len(detector._frames) < 30
    assert sum(frame.image.size > 0 for frame in detector._ring.frames) < 30


def test_in_scene_manager(tmp_path):
    path = str(tmp_path / "film.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 256, 144, "yuv420p"
        for frame in np.concatenate([shot(1), shot(2)]):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode())
    manager = SceneManager()
    manager.add_detector(TransitionDetector())
    manager.detect_scenes(open_video(path))
    assert [start.frame_num for start, _ in manager.get_scene_list()] == [0, 40]


def test_found_share_knows_motion_and_light_from_another_shot():
    a, moved, other = (
        cv2.cvtColor(cv2.resize(f, (64, 36)), cv2.COLOR_BGR2GRAY) for f in (shot(1)[0], shot(1)[12], shot(2)[0])
    )
    assert found_share(a, moved) > 0.9
    assert found_share(a, a // 2 + 60) > 0.9
    assert found_share(a, other) < 0.3
    assert found_share(a, np.zeros_like(a)) == 0


def test_fade_length():
    assert fade_length([30, 30, 30, 30, 30, 30]) == 0
    assert fade_length([3, 6, 9, 12, 15, 15, 15, 15, 15, 15]) == 4
    assert fade_length([3, 6, 9, 12, 15]) is None


def test_another_shot_is_not_taken_for_motion():
    photos = [cv2.cvtColor(photo, cv2.COLOR_RGB2BGR) for photo in (data.astronaut(), data.coffee(), data.chelsea())]
    thumbs = [cv2.resize(photo, (64, 36), interpolation=cv2.INTER_AREA) for photo in photos]
    assert all(picture_replaced(a, b) > 0.5 for a in thumbs for b in thumbs if a is not b)
    wide = [cv2.resize(photo, (80, 36), interpolation=cv2.INTER_AREA) for photo in photos]
    assert all(picture_replaced(p[:, 4:68], p[:, 10:74]) < 0.2 for p in wide)
    assert picture_replaced(thumbs[0], np.zeros_like(thumbs[0])) == 0


def test_a_jump_within_one_scene_is_a_cut():
    background = shot(1, 80, pan=0.0)
    frames, person = background.copy(), shot(2, 1)[0][:90, :70]
    for t in range(80):
        left = (60 if t < 40 else 130) + t % 5  # it moves a little, then is elsewhere
        frames[t, 40:130, left : left + 70] = person
    assert detect(frames) == ([40], [])


def test_fast_motion_of_a_thing_is_no_jump():
    frames, person = shot(1, 80, pan=0.0), shot(2, 1)[0][:90, :70]
    for t in range(80):
        left = int(90 + 80 * np.sin(t / 3))  # up to 27 pixels a frame
        frames[t, 40:130, left : left + 70] = person
    assert detect(frames) == ([], [])


def test_an_inset_that_appears_is_no_jump():
    frames, inset = shot(1, 80, pan=0.0), shot(2, 80)[:, :60, :90]
    frames[30:60, 20:80, 20:110] = inset[30:60]
    assert detect(frames) == ([], [])
