"""Burnt-in text by the rule of 0.3, for existing datasets; `overlays.py` is the current rule."""

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np

from utils.scoring.boxes import Box, bounds, overlap, union

BAND = 0.35  # of a line's height: so far may the middles of boxes of one band be apart
FRAMES_WITH_TEXT = 3  # at least
NARROWEST_TEXT = 0.08  # of the frame's width
CHANGED = 7.0  # gray levels, mean: the picture around a line, or the words in it, have changed
PAIRS = 3  # of frames, that say so
OTHER = 0.5  # correlation, below which they are others
TICKER_EDGE = 0.2  # of the frame's height: where tickers are
TICKER_WIDTH = 0.6  # of the frame's width
SAME = 0.75  # correlation of a line's pixels in two frames, from which on its words are the same


def text_bands(frames: np.ndarray, boxes: Sequence[np.ndarray]) -> list[Box]:
    """Burnt-in text. frames: uint8 (T, H, W), gray; boxes: of each frame, (N, 4, 2), corners (x, y) in its pixels.

    Lines at one height in two or more frames are a band. It is burnt in where the same words stand before a picture that
    has changed, or other words before one that has not; scene text does neither.
    """
    height, width = frames.shape[1:]
    lines = [(t, bounds(box, width, height)) for t, found in enumerate(boxes) for box in found]
    lines = [(t, line) for t, line in lines if line[2] > 1 and line[3] > 1]
    bands: list[list[tuple[int, Box]]] = []
    for t, line in sorted(lines, key=lambda one: -one[1][3]):
        middle, tall = line[1] + line[3] / 2, line[3]
        for band in bands:
            other = band[0][1]
            if abs(middle - (other[1] + other[3] / 2)) <= BAND * other[3] and 0.6 <= tall / other[3] <= 1.6:
                band.append((t, line))
                break
        else:
            bands.append([(t, line)])
    return [union([line for _, line in band]) for band in bands if _burnt_in(frames, band)]


def _burnt_in(frames: np.ndarray, band: list[tuple[int, Box]]) -> bool:
    times = sorted({t for t, _ in band})
    if len(times) < FRAMES_WITH_TEXT:
        return False
    if union([line for _, line in band])[2] < NARROWEST_TEXT * frames.shape[2]:
        return False
    unions = {t: union([line for time, line in band if time == t]) for t in times}
    if _is_ticker(frames, unions):
        return True
    held = replaced = 0
    for one, other in combinations(times, 2):
        first, second = unions[one], unions[other]
        changed = _change_around(frames[one], frames[other], union([first, second]))
        alike = _alike(frames[one], frames[other], first)
        if changed >= CHANGED and overlap(first, second) > 0.7 and alike >= SAME:
            held += 1
        elif changed < CHANGED / 3 and alike < OTHER:
            replaced += 1
    return held >= PAIRS or replaced >= PAIRS


def _is_ticker(frames: np.ndarray, unions: dict[int, Box]) -> bool:
    """Whether text runs through a band at the upper or lower edge: as wide as the frame in most frames, its words others each time."""
    height, width = frames.shape[1:]
    _, y, _, tall = union(list(unions.values()))
    at_edge = y + tall <= TICKER_EDGE * height or y >= (1 - TICKER_EDGE) * height
    wide = float(np.median([box[2] for box in unions.values()])) >= TICKER_WIDTH * width
    if not (at_edge and wide and len(unions) >= 0.6 * len(frames)):
        return False
    times = sorted(unions)
    others = [_alike(frames[one], frames[other], unions[one]) < OTHER for one, other in zip(times, times[1:])]
    return sum(others) >= 0.8 * len(others)


def _change_around(one: np.ndarray, other: np.ndarray, box: Box) -> float:
    """How much two frames differ around a box, mean gray levels: on the side where they differ least but for one."""
    x, y, width, height = box
    gap, out = 3, 2 * height
    strips = [
        (slice(max(0, y - out), max(0, y - gap)), slice(x, x + width)),
        (slice(y + height + gap, y + height + out), slice(x, x + width)),
        (slice(y, y + height), slice(max(0, x - out), max(0, x - gap))),
        (slice(y, y + height), slice(x + width + gap, x + width + out)),
    ]
    found = [
        float(
            np.abs((one[strip] - one[strip].mean()) - (other[strip] - other[strip].mean())).mean()
        )  # a fade is no other picture
        for strip in strips
        if one[strip].size >= height * 2
    ]
    return sorted(found)[min(1, len(found) - 1)] if found else 0.0


def _alike(one: np.ndarray, other: np.ndarray, box: Box) -> float:
    """The correlation of what is in a box of two frames: of strokes, brighter or darker than what is around them."""
    x, y, width, height = box
    pieces = []
    for frame in (one, other):
        piece = frame[y : y + height, x : x + width].astype(np.float32)
        pieces.append((np.abs(cv2.Laplacian(cv2.GaussianBlur(piece, (0, 0), 1), cv2.CV_32F))).ravel())
    if min(piece.std() for piece in pieces) < 1e-3:
        return 0.0
    return float(np.corrcoef(pieces[0], pieces[1])[0, 1])
