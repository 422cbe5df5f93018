"""What a frame is cropped to: the largest rectangle without bars, burnt-in text and marks that stand still.

All boxes are [x, y, width, height] in pixels of the upright frame as stored. Text and marks are told from the scene by time: what
keeps its place while the picture behind it changes was put over it. Where the picture does not change, nothing can be told of marks.
"""

from collections.abc import Sequence
from itertools import combinations, product

import cv2
import numpy as np

Box = tuple[int, int, int, int]

# Text
BAND = 0.35  # of a line's height: so far may the middles of boxes of one band be apart
FRAMES_WITH_TEXT = 3  # at least
NARROWEST_TEXT = 0.08  # of the frame's width
CHANGED = 7.0  # gray levels, mean: the picture around a line, or the words in it, have changed
PAIRS = 3  # of frames, that say so
OTHER = 0.5  # correlation, below which they are others
TICKER_EDGE = 0.2  # of the frame's height: where tickers are
TICKER_WIDTH = 0.6  # of the frame's width
SAME = 0.75  # correlation of a line's pixels in two frames, from which on its words are the same
# Marks
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
MARGIN = 0.01  # of the short side, around text and marks


def text_bands(frames: np.ndarray, boxes: Sequence[np.ndarray]) -> list[Box]:
    """Burnt-in text. frames: uint8 (T, H, W), gray; boxes: of each frame, (N, 4, 2), corners (x, y) in its pixels.

    Lines at one height in two or more frames are a band. It is burnt in where the same words stand before a picture that
    has changed, or other words before one that has not; scene text does neither.
    """
    height, width = frames.shape[1:]
    lines = [(t, _bounds(box, width, height)) for t, found in enumerate(boxes) for box in found]
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
    return [_union([line for _, line in band]) for band in bands if _burnt_in(frames, band)]


def _burnt_in(frames: np.ndarray, band: list[tuple[int, Box]]) -> bool:
    times = sorted({t for t, _ in band})
    if len(times) < FRAMES_WITH_TEXT:
        return False
    if _union([line for _, line in band])[2] < NARROWEST_TEXT * frames.shape[2]:
        return False
    unions = {t: _union([line for time, line in band if time == t]) for t in times}
    if _is_ticker(frames, unions):
        return True
    held = replaced = 0
    for one, other in combinations(times, 2):
        first, second = unions[one], unions[other]
        changed = _change_around(frames[one], frames[other], _union([first, second]))
        alike = _alike(frames[one], frames[other], first)
        if changed >= CHANGED and _overlap(first, second) > 0.7 and alike >= SAME:
            held += 1
        elif changed < CHANGED / 3 and alike < OTHER:
            replaced += 1
    return held >= PAIRS or replaced >= PAIRS


def _is_ticker(frames: np.ndarray, unions: dict[int, Box]) -> bool:
    """Whether text runs through a band at the upper or lower edge: as wide as the frame in most frames, its words others each time."""
    height, width = frames.shape[1:]
    _, y, _, tall = _union(list(unions.values()))
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
            if _in_corner(box, width, height) and all(_overlap(box, other) < 0.3 for other in marks)
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


def _bounds(corners: np.ndarray, width: int, height: int) -> Box:
    x, y = np.clip(corners[:, 0], 0, width), np.clip(corners[:, 1], 0, height)
    left, top = int(x.min()), int(y.min())
    return left, top, int(np.ceil(x.max())) - left, int(np.ceil(y.max())) - top


def _union(boxes: Sequence[Box]) -> Box:
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    return left, top, max(box[0] + box[2] for box in boxes) - left, max(box[1] + box[3] for box in boxes) - top


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(0, width) * max(0, height)
    return both / (one[2] * one[3] + other[2] * other[3] - both)
