"""A picture set into the picture is found by its borders; doors, screens and moving cameras have none."""

import cv2
import numpy as np
import pytest
from test_crop_box import SIZE, pan

from utils.scoring.insets import insets

COUNT = 12
WIDTH, HEIGHT = SIZE


def grays(photo: str, speed: float, size=SIZE) -> np.ndarray:
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in pan(photo, COUNT, speed, size)])


def put(frames: np.ndarray, inner: np.ndarray, x: int, y: int) -> np.ndarray:
    frames = frames.copy()
    frames[:, y : y + inner.shape[1], x : x + inner.shape[2]] = inner
    return frames


FACE = grays("astronaut", -4, (150, 90))
CASES = {
    "corner": (330, 180, 150, 90),
    "top left": (0, 0, 150, 90),
    "at the side": (0, 90, 150, 90),
    "free": (40, 30, 150, 90),
}


@pytest.mark.parametrize("place", CASES.values(), ids=CASES)
def test_a_picture_set_into_one_that_moves(place):
    found = insets(put(grays("coffee", 9), FACE, *place[:2]))
    assert found and all(max(abs(a - b) for a, b in zip(box, place, strict=True)) <= 4 for box in found)


@pytest.mark.parametrize("upright", [True, False])
def test_of_films_side_by_side_the_smaller_one(upright):
    one, other = grays("coffee", 9), grays("astronaut", -9)
    part = 200 if upright else 120
    frames = put(one, other[:, :, :part] if upright else other[:, :part], 0, 0)
    (box,) = insets(frames)
    want = (0, 0, part, HEIGHT) if upright else (0, 0, WIDTH, part)
    assert max(abs(a - b) for a, b in zip(box, want, strict=True)) <= 4


def test_what_is_none():
    assert insets(grays("coffee", 9)) == []
    still = np.repeat(grays("coffee", 0)[:1], COUNT, axis=0)
    assert insets(put(still, FACE, 100, 60)) == [], "a screen in a room"
    assert insets(still) == [] and insets(still[:3]) == []
    door = grays("coffee", 9)
    door[:, :, :150] = 60  # what stands beside what moves, over the whole height, may be a wall
    assert insets(door) == []
