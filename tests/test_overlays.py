"""Text laid over the picture is told from text of the scene."""

import cv2
import numpy as np
import pytest
from test_crop_box import SIZE, pan, text

from utils.scoring.overlays import find_overlays
from utils.scoring.rapidocr_detector import RapidTextDetector
from utils.scoring.standing_words import standing_words

WORDS = ("And then she said", "We leave at dawn!", "Who would do that", "It was raining on")
COUNT = 12


def box(x: int, y: int, words: str, tilt: float = 0.0) -> np.ndarray:
    """The corners of words that `text` writes."""
    (width, height), below = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 0.8, 5)
    corners = np.array([[0, -height], [width, -height], [width, below], [0, below]], np.float32)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]], np.float32)
    return corners @ turn.T + (x, y)


def shown(frames, words_of, place_of):
    """Gray frames with words, and their boxes, one a frame."""
    written = [text(frame, words_of(i), *place_of(i)) for i, frame in enumerate(frames)]
    grays = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in written])
    return grays, [box(*place_of(i), words_of(i))[None] for i in range(len(frames))]


moving = pan(count=COUNT, speed=9)
still = [pan(count=1)[0]] * COUNT


@pytest.mark.parametrize(
    "frames, words, place",
    [
        (moving, lambda i: WORDS[0], lambda i: (120, 150)),  # a watermark in the middle
        (moving, lambda i: WORDS[i // 3], lambda i: (100, 250)),  # subtitles
        (still, lambda i: WORDS[i // 3], lambda i: (100, 250)),
        (still, lambda i: WORDS[0], lambda i: (100, 250)),
    ],
)
def test_what_is_laid_over(frames, words, place):
    grays, boxes = shown(frames, words, place)
    overlays, scene, _ = find_overlays(grays, boxes)
    assert len(overlays) == 1 and not any(scene)
    x, y = place(0)
    assert overlays[0][0] <= x and overlays[0][1] <= y <= overlays[0][1] + overlays[0][3]


def test_words_of_the_scene_move_with_it_or_are_tilted():
    grays, boxes = shown(moving, lambda i: WORDS[0], lambda i: (160 - 9 * i, 120 - 3 * i))
    overlays, scene, _ = find_overlays(grays, boxes)
    assert not overlays and all(len(there) == 1 for there in scene)
    tilted = [box(100, 100, WORDS[0], tilt=0.08)[None]] * COUNT
    assert not find_overlays(np.stack([grays[0]] * COUNT), tilted)[0]


def test_a_short_sign_before_a_still_camera_is_of_the_scene():
    grays, boxes = shown(still, lambda i: "EXIT", lambda i: (60, 120))
    assert not find_overlays(grays, boxes)[0]


def test_many_level_lines_that_stay_are_a_page():
    lines = [(20, 40 + 25 * i) for i in range(6)]
    frame = still[0]
    for place in lines:
        frame = text(frame, "ENTRY", *place)
    grays = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)] * COUNT)
    boxes = [np.stack([box(*place, "ENTRY") for place in lines])] * COUNT
    assert len(find_overlays(grays, boxes)[0]) == 6


def test_what_appears_while_the_picture_stands_still_was_laid_over_it():
    grays, boxes = shown(still, lambda i: "SALE" if i >= 9 else "", lambda i: (60, 120))
    found = [boxes[i] if i >= 9 else np.zeros((0, 4, 2), np.float32) for i in range(COUNT)]
    assert len(find_overlays(grays, found)[0]) == 1
    assert grays.shape[:0:-1] == SIZE


@pytest.mark.parametrize("when", [range(3), range(5, 7), range(9, 12), [4]])
def test_a_caption_of_a_second_is_laid_over_though_the_camera_moves(when):
    grays, boxes = shown(moving, lambda i: WORDS[2] if i in when else "", lambda i: (110, 150))
    found = [boxes[i] if i in when else None for i in range(COUNT)]
    (place,) = find_overlays(grays, found)[0]
    assert abs(place[0] - 110) <= 4 and abs(place[1] + place[3] - 157) <= 8


@pytest.mark.parametrize("when", [range(3), [4]])
def test_a_sign_that_is_read_for_a_second_alone_is_of_the_scene(when):
    """It goes with the camera in all frames, and the detector found it in some."""
    grays, boxes = shown(moving, lambda i: WORDS[2], lambda i: (200 - 9 * i, 150 - 3 * i))
    overlays, scene, _ = find_overlays(grays, [boxes[i] if i in when else None for i in range(COUNT)])
    assert not overlays and sum(map(len, scene)) == len(when)


def test_a_sign_in_a_blurred_frame_is_not_gone():
    grays, boxes = shown(moving, lambda i: WORDS[2], lambda i: (200 - 9 * i, 150 - 3 * i))
    grays[[3, 5]] = [cv2.GaussianBlur(grays[i], (0, 0), 5) for i in (3, 5)]
    assert not find_overlays(grays, [boxes[4] if i == 4 else None for i in range(COUNT)])[0]


def large(frames, words, when, at):
    """Gray frames with large words in some, and their box in those."""
    (width, height), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 4, 20)
    written = []
    for i, frame in enumerate(frames):
        frame = frame.copy()
        if i in when:
            for colour, thick in ((0, 0, 0), 26), ((255, 255, 255), 20):
                cv2.putText(frame, words, at(i), cv2.FONT_HERSHEY_SIMPLEX, 4, colour, thick, cv2.LINE_AA)
        written.append(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
    x, y = at(when[0])
    box = np.array([(x, y - height), (x + width, y - height), (x + width, y + 10), (x, y + 10)], np.float32)
    return np.stack(written), [box[None] if i == when[0] else None for i in range(len(frames))]


@pytest.mark.parametrize("when", [range(12), range(4, 8)])
def test_what_is_large_and_doubtful_is_text_where_it_is_laid_over(when):
    grays, doubtful = large(moving, "WOW", when, lambda i: (60, 180))
    none = [np.zeros((0, 4, 2), np.float32)] * COUNT
    assert len(find_overlays(grays, none, doubtful)[0]) == 1


def test_what_is_large_and_doubtful_is_else_nothing():
    grays, doubtful = large(moving, "WOW", range(12), lambda i: (120 - 9 * i, 190 - 3 * i))
    none = [np.zeros((0, 4, 2), np.float32)] * COUNT
    overlays, scene, is_open = find_overlays(grays, none, doubtful)
    assert not overlays and not any(scene) and not is_open


def test_words_that_sway_on_something_plain_did_not_come_and_go():
    """A label on a black jacket."""
    plain = [np.full((SIZE[1], SIZE[0], 3), 20, np.uint8)] * COUNT
    grays, boxes = shown(plain, lambda i: "Label", lambda i: (200 + 5 * (i % 3), 120))
    assert not find_overlays(grays, boxes)[0]


def test_a_faint_watermark_shows_in_the_median_of_frames_that_move():
    detector = RapidTextDetector(threads=1)
    frames = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in pan(count=COUNT, speed=9)])
    ink = np.zeros(frames.shape[1:], np.uint8)
    cv2.putText(ink, "preview copy", (60, 150), cv2.FONT_HERSHEY_SIMPLEX, 1.7, 255, 5, cv2.LINE_AA)
    opacity = ink / 255 * 0.35
    marked = (frames * (1 - opacity) + 255 * opacity).astype(np.uint8)
    (place,) = standing_words(marked, detector.boxes_at)
    assert abs(place[0] - 60) < 20 and 300 < place[2] < 400
    assert not standing_words(frames, detector.boxes_at)
    still = np.stack([marked[0]] * COUNT)
    assert not standing_words(still, detector.boxes_at), "nothing tells it from a sign"
