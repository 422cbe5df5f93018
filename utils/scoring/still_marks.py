"""Logos and watermarks: edges that keep their place while the image behind them changes. If it does not change, marks cannot be detected."""

import cv2
import numpy as np

from utils.scoring.boxes import Box, overlap

MARK_FRAMES = 6  # at least, to tell a mark from the scene
MOVES = 6.0  # gray levels: standard deviation over time, from which on a pixel moves
STANDS = 4.0  # gray levels a pixel: the gradient of an edge
AGREES = 0.85  # of the frames have it
STILL_SHARE = 0.05  # of all edges may stay beside marks: more, and it is the scene that stands still
FAINT_SHARE = 0.02  # the same, for faint marks
CORNER = 0.2  # of a side: where faint marks are looked for
FEWEST_EDGES = 0.005  # of the pixels: a plain picture tells nothing
LARGEST_MARK = 0.06  # of the frame's area
SMALLEST_MARK = 0.0004
BOTH_KINDS = 0.3  # of a mark's edges are upright, and as many level
LONGEST_MARK = 10  # times as long as wide
MARK_EDGES = 30  # pixels
FILLED = 0.12  # of a mark's box are edges that stay
MOST_MARKS = 3


def still_marks(frames: np.ndarray) -> list[Box] | None:
    """Logos and watermarks. frames: uint8 (T, H, W), gray, spread over the clip; None where the picture stands still.

    Edges that are in one place in nearly all frames, though nearly all other edges move: where more than a few stay, they are the scene's.
    """
    if len(frames) < MARK_FRAMES:
        return None
    height, width = frames.shape[1:]
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.8) for frame in frames]).astype(np.float32)
    edges = np.zeros((height, width), bool)
    firm, faint = (np.zeros((2, height, width), bool) for _ in range(2))
    for direction, axes in enumerate(((1, 0), (0, 1))):
        gradient = np.stack([cv2.Sobel(frame, cv2.CV_32F, *axes, scale=0.125) for frame in blurred])
        middle = np.median(gradient, axis=0)
        stands = np.abs(middle) >= STANDS
        firm[direction] = stands & (
            (np.abs(gradient - middle) <= np.maximum(0.5 * np.abs(middle), 1.5)).mean(0) >= AGREES
        )
        faint[direction] = stands & ((gradient * np.sign(middle) >= 0.4 * np.abs(middle)).mean(0) >= AGREES)
        edges |= (np.abs(gradient) >= STANDS).mean(0) >= 0.25
    count = int((edges | np.any(faint, axis=0)).sum())
    if count < FEWEST_EDGES * edges.size:
        return None
    marks, beside = _marks(firm, blurred)
    if beside > STILL_SHARE * count or len(marks) > MOST_MARKS:
        return None
    # What shines through a faint mark changes its edges, so those are looked for where watermarks are, and only if little else stays.
    fainter, beside = _marks(faint, blurred)
    if beside <= FAINT_SHARE * count and len(fainter) <= MOST_MARKS:
        marks += [
            box
            for box in fainter
            if _in_corner(box, width, height) and all(overlap(box, other) < 0.3 for other in marks)
        ]
    return marks


def _marks(still: np.ndarray, frames: np.ndarray) -> tuple[list[Box], int]:
    """Clusters of edges that stay, before a picture that moves, and how many such edges are in none. still: bool (2, H, W), upright
    and level edges; a picture that moves along its own lines has one kind alone that stays.
    """
    height, width = still.shape[1:]
    both: np.ndarray = np.any(still, axis=0)
    reach = max(3, round(0.02 * min(height, width)))
    joined = cv2.morphologyEx(both.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((reach, 2 * reach), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    marks, of_marks = [], 0
    for number, (x, y, w, h, _) in enumerate(stats[1:count].tolist(), 1):
        here = (labels == number)[y : y + h, x : x + w]
        there = int((both[y : y + h, x : x + w] & here).sum())
        kinds = [int((one[y : y + h, x : x + w] & here).sum()) for one in still]
        is_mark = SMALLEST_MARK <= w * h / (width * height) <= LARGEST_MARK and min(w, h) >= 6 and there >= MARK_EDGES
        inside = (
            x > 0 and y > 0 and x + w < width and y + h < height
        )  # what touches the frame's edge is the scene's, mostly
        is_mark &= inside and max(w, h) <= LONGEST_MARK * min(w, h) and min(kinds) >= BOTH_KINDS * there
        if is_mark and there >= FILLED * w * h and _moves_around(frames, (x, y, w, h)):
            marks.append((x, y, w, h))
            of_marks += there
    return marks, int(both.sum()) - of_marks


def _in_corner(box: Box, width: int, height: int) -> bool:
    x, y = (box[0] + box[2] / 2) / width, (box[1] + box[3] / 2) / height
    return min(x, 1 - x) <= CORNER and min(y, 1 - y) <= CORNER


def _moves_around(frames: np.ndarray, box: Box) -> bool:
    """Whether the picture changes on each side of a box that is inside the frame."""
    x, y, width, height = box
    out = max(6, min(width, height) // 2)
    moves = np.std(frames[:, max(0, y - out) : y + height + out, max(0, x - out) : x + width + out], axis=0) >= MOVES
    top, left = y - max(0, y - out), x - max(0, x - out)
    sides = [moves[:top], moves[top + height :], moves[:, :left], moves[:, left + width :]]
    return all(side.mean() >= 0.5 for side in sides if side.size > out)
