"""Picture-in-picture: a face in the corner of a game, films side by side, a film in a frame over another.

Their borders are straight, exactly upright and level, and keep their place while the picture beside them moves. Where a camera moves, no edge of
the scene keeps its place; where it stands still, nothing moves along one that is so long on its outer side.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from utils.scoring.boxes import Box

FRAMES = 6  # at least, to tell a border from what passes
STEP, STANDS_OUT = 4.0, 1.5  # gray levels across a border, beyond so many times those of what is around it
ACROSS = np.array([[-0.5, -0.5, 0.5, 0.5]], np.float32)  # two pixels before a border and two behind
SHARE = 0.45  # of the frames have it
RIDGE = 1.5  # times as many as there are beside it
BESIDE = 5  # pixels
THICKEST = 7  # pixels: more is a texture
GAP, SHORTEST = 0.06, 0.12  # of the side along it: what may be missing of a border, and how long it is
MOVES = 6.0  # gray levels: standard deviation over time, from which on a pixel moves
MOVING_SHARE = 0.6  # of the pixels along a border, on its outer side
LEAST_MOVING = 0.2  # of all pixels, for something to move along borders
NEAR = 0.03  # of the height: so near are ends that meet
SMALLEST, NARROWEST = 0.03, 0.1  # of the picture's area, and of its sides


@dataclass(frozen=True)
class Border:
    """A line at `at` from `start` to `end`, pixels; which shares of what is before and behind it move."""

    at: int
    start: int
    end: int
    moves_before: float
    moves_behind: float


def insets(frames: np.ndarray) -> list[Box]:
    """Pictures set into the picture, of those side by side the smaller one. frames: uint8 (T, H, W), gray, spread over the clip, without bars."""
    if len(frames) < FRAMES:
        return []
    grays = frames.astype(np.float32)
    moves = np.std(grays, axis=0) >= MOVES
    if moves.mean() < LEAST_MOVING:
        return []
    upright, level = _borders(grays, moves), _borders(np.ascontiguousarray(grays.transpose(0, 2, 1)), moves.T)
    height, width = grays.shape[1:]
    near = max(6.0, NEAR * height)
    found = set(_between(upright, level, width, height, near))
    found |= {(y, x, h, w) for x, y, w, h in _between(level, upright, height, width, near)}
    return sorted(box for box in found if box[2] * box[3] >= SMALLEST * width * height)


def _borders(frames: np.ndarray, moves: np.ndarray) -> list[Border]:
    """Upright borders; level ones of frames that are transposed."""
    height, width = frames.shape[1:]
    share: np.ndarray = np.zeros((height, width), np.float32)  # of the frames, that have a border just behind a pixel
    for frame in frames:
        share += _stands_out(np.abs(cv2.filter2D(frame, -1, ACROSS)))
    share = cv2.blur(share / len(frames), (1, 9))
    beside = np.zeros_like(share)
    beside[:, BESIDE:] = share[:, :-BESIDE]
    beside[:, :-BESIDE] = np.maximum(beside[:, :-BESIDE], share[:, BESIDE:])
    lines: np.ndarray = ((share >= SHARE) & (share >= RIDGE * beside)).astype(np.uint8)
    gap, shortest = max(3, int(GAP * height)) | 1, max(8, int(SHORTEST * height))
    lines = cv2.morphologyEx(cv2.dilate(lines, np.ones((1, 3))), cv2.MORPH_CLOSE, np.ones((gap, 1)))
    lines = cv2.morphologyEx(lines, cv2.MORPH_OPEN, np.ones((shortest, 1)))
    found = []
    for x, y, thick, long, _ in cv2.connectedComponentsWithStats(lines, connectivity=8)[2][1:].tolist():
        at = x + thick // 2
        if thick <= THICKEST and 8 <= at <= width - 8:
            along = moves[y : y + long]
            beside_it = along[:, max(0, at - 8) : at - 2].mean(), along[:, at + 2 : at + 8].mean()
            found.append(Border(at, y, y + long, *map(float, beside_it)))
    return found


def _stands_out(step: np.ndarray) -> np.ndarray:
    """Where steps are larger than those around them, but for the nearest: bool (H, W)."""
    around = 1.5 * cv2.blur(step, (15, 3)) - 0.5 * cv2.blur(step, (5, 3))
    return step >= STEP + STANDS_OUT * around


def _between(along: list[Border], across: list[Border], width: int, height: int, near: float) -> Iterator[Box]:
    """Boxes with a border of `along` at their left or right, and borders or the frame's edges around the rest."""
    for left in [None, *(border for border in along if border.moves_before >= MOVING_SHARE)]:
        for right in [None, *(border for border in along if border.moves_behind >= MOVING_SHARE)]:
            x, x_end = (left.at if left else 0), (right.at if right else width)
            side = left or right
            if side is None or x_end - x < NARROWEST * width:
                continue
            if left and right and max(abs(left.start - right.start), abs(left.end - right.end)) > near:
                continue
            y, y_end = (0 if side.start <= near else side.start), (height if side.end >= height - near else side.end)
            if y == 0 and y_end == height and not (left and right):  # side by side: both move
                is_inset = min(side.moves_before, side.moves_behind) >= MOVING_SHARE and x_end - x <= width / 2
            else:
                ends = [
                    border for border in across if max(abs(border.start - x), abs(border.end - x_end)) <= near
                ]  # above it or below
                is_inset = (
                    y == 0 or any(abs(one.at - y) <= near and one.moves_before >= MOVING_SHARE for one in ends)
                ) and (
                    y_end == height
                    or any(abs(one.at - y_end) <= near and one.moves_behind >= MOVING_SHARE for one in ends)
                )
            if is_inset:
                yield x, y, x_end - x, y_end - y
