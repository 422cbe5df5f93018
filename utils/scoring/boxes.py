"""Boxes, [x, y, width, height] in pixels of the upright frame as stored, and the rest of a frame without them."""

from collections.abc import Sequence
from itertools import product

import numpy as np

Box = tuple[int, int, int, int]

MARGIN = 0.01  # of the short side, around text and marks


def largest_rectangle(within: Box, obstacles: Sequence[Box]) -> Box:
    """The largest part of `within` that touches none of the obstacles, even sides at even places; of equal ones, the widest."""
    left, top, width, height = within
    right, bottom = left + width, top + height
    clipped = [(max(left, x), max(top, y), min(right, x + w), min(bottom, y + h)) for x, y, w, h in obstacles]
    clipped = [box for box in clipped if box[0] < box[2] and box[1] < box[3]]
    lefts = sorted({left, *(box[2] for box in clipped)})
    rights = sorted({right, *(box[0] for box in clipped)})
    tops = sorted({top, *(box[3] for box in clipped)})
    bottoms = sorted({bottom, *(box[1] for box in clipped)})
    best: Box = (left, top, 0, 0)
    for x, y, x_end, y_end in product(lefts, tops, rights, bottoms):
        box = -(-x // 2) * 2, -(-y // 2) * 2, x_end // 2 * 2 - -(-x // 2) * 2, y_end // 2 * 2 - -(-y // 2) * 2
        if min(box[2:]) <= 0 or (box[2] * box[3], box[2]) <= (best[2] * best[3], best[2]):
            continue
        if all(x_end <= b[0] or b[2] <= x or y_end <= b[1] or b[3] <= y for b in clipped):
            best = box
    return best


def grown(box: Box, short_side: int) -> Box:
    """A box with a margin around it."""
    margin = max(2, round(MARGIN * short_side))
    return box[0] - margin, box[1] - margin, box[2] + 2 * margin, box[3] + 2 * margin


def bounds(corners: np.ndarray, width: int, height: int) -> Box:
    x, y = np.clip(corners[:, 0], 0, width), np.clip(corners[:, 1], 0, height)
    left, top = int(x.min()), int(y.min())
    return left, top, int(np.ceil(x.max())) - left, int(np.ceil(y.max())) - top


def union(boxes: Sequence[Box]) -> Box:
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    return left, top, max(box[0] + box[2] for box in boxes) - left, max(box[1] + box[3] for box in boxes) - top


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(0, width) * max(0, height)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def covered_share(boxes: Sequence[Box], within: Box) -> float:
    """The share of `within` that boxes cover, overlaps counted once."""
    left, top, width, height = within
    covered = np.zeros((height, width), bool)
    for x, y, w, h in boxes:
        covered[max(0, y - top) : max(0, y + h - top), max(0, x - left) : max(0, x + w - left)] = True
    return float(covered.mean())


def share_in(box: Box, others: Sequence[Box]) -> float:
    """The largest share of a box that is in one of the others."""
    x, y, width, height = box
    inside = [
        max(0, min(x + width, a + w) - max(x, a)) * max(0, min(y + height, b + h) - max(y, b)) for a, b, w, h in others
    ]
    return max(inside, default=0) / max(1, width * height)
