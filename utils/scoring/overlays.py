"""Overlaid text, as opposed to text of the scene.

Overlaid text keeps its place while the image behind it changes, or appears while the image does not change. Where a clip shows
neither, it is known by what it looks like: a line that is exactly level, long, stays for most of the clip, and stands where subtitles,
titles and watermarks stand. Signs, shirts and labels are tilted by the camera, move with the scene, or are short. A long, level line that
comes or goes between two frames, while what is around it is found again in both, was laid over, however the camera moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from utils.scoring.boxes import Box, bounds, union
from utils.scoring.come_and_go import are_gone, shrunk, strokes

CHANGED = 7.0  # gray levels, mean, around a line: the picture is another one
UNCHANGED = 2.3  # the same: it is not
SAME = 0.72  # correlation of strokes, from which on they are the same words
OTHER = 0.5  # and below which they are not
GONE = 0.5  # of the strokes in and around a line's place: with fewer, the words are not there
LEVEL = 1.0  # degrees that a line laid over may be off level
SAME_LINE = 0.25  # of a line's height: so far may the middles of one line in two frames be apart
LASTS = 0.5  # of the frames
LONG = 3.0  # times as long as high
HELD = 3  # pairs of frames in which a line keeps its words and its place before a picture that changes
LOWEST, HIGHEST = 0.72, 0.18  # of the frame's height: where subtitles begin, and where titles end
SCREEN_LINES = 5  # level lines that last, from which on a clip shows a page or a screen
TALL = 0.12  # of the short side: from here on words need not be that long
WORD = 1.5  # times as long as high, all words
HIGHEST_WORD = 0.7  # of the frame's height
TALLEST_LINE = 0.25  # of the short side: what is higher is words by what it does alone, not by its looks
MIDDLE, WIDE = 0.06, 0.15  # of the width: lines about the middle of the frame, and how wide they are


@dataclass(frozen=True)
class Line:
    """A text box in one frame. `there`: the frames that show the same words in its place; `held`, of them those whose picture around it is
    another one; `away`: the frames that show something else in its place; `pops`, of them those whose picture around it is the same; `tilt`
    in degrees; `is_sure`: whether it is text whatever it does.
    """

    frame: int
    box: Box
    tilt: float
    there: frozenset[int]
    held: int
    away: frozenset[int]
    pops: int
    is_sure: bool


def find_overlays(
    frames: np.ndarray, boxes: Sequence[np.ndarray | None], doubtful: Sequence[np.ndarray | None] = ()
) -> tuple[list[Box], list[list[Box]], bool]:
    """The places of text laid over a clip; of each frame the boxes of other text; and whether one of these may be laid over as well, which
    more frames would tell.

    frames: uint8 (T, H, W), gray, spread over the clip; boxes: of each frame (N, 4, 2), corners (x, y) in its pixels, None where text was
    not looked for; doubtful: likewise, what is text only if it turns out to be laid over.
    """
    lines = [
        line
        for found, is_sure in ((boxes, True), (doubtful, False))
        for number, there in enumerate(found)
        if there is not None
        for line in _lines(frames, number, there, is_sure)
    ]
    looked = sum(found is not None for found in boxes)
    groups = _groups(lines, frames.shape[2])
    highest = TALLEST_LINE * min(frames.shape[1:])
    lasting = [group for group in groups if group[0].box[3] <= highest and _lasts(group, len(frames), looked)]
    is_screen = sum(any(line.is_sure for line in group) for group in lasting) >= SCREEN_LINES
    small, scale = shrunk(frames)
    overlays: list[Box] = []
    scene: list[list[Box]] = [[] for _ in frames]
    is_open = False
    for group in groups:
        if (
            _is_told_by_time(group)
            or (group in lasting and (is_screen or _looks_laid_over(group, frames.shape[1:])))
            or (_is_level(group) and any(_comes_or_goes(line, small, scale) for line in group))
        ):
            overlays.append(union([line.box for line in group]))
        else:
            sure = [line for line in group if line.is_sure]
            for line in sure:
                scene[line.frame].append(line.box)
            is_open |= _is_level(group) and any(_is_long(line) for line in sure)
    return overlays, scene, is_open


def _lines(frames: np.ndarray, number: int, found: np.ndarray, is_sure: bool) -> list[Line]:
    height, width = frames.shape[1:]
    lines = []
    for corners in found:
        box = bounds(corners, width, height)
        if min(box[2:]) < 4 or not (is_sure or _may_be_word(box, height)):
            continue
        words, there, held, away, pops = _strokes(frames[number], box), {number}, 0, set(), 0
        for other in range(len(frames)):
            if other == number:
                continue
            alike = _correlation(words, _strokes(frames[other], box))
            least, most = _changes_around(frames[number], frames[other], box)
            if alike >= SAME:
                there.add(other)
                held += least >= CHANGED
            elif alike < OTHER:
                away.add(other)
                pops += most < UNCHANGED and _ink(frames[other], box) < GONE * _ink(frames[number], box)
        lines.append(Line(number, box, _tilt(corners), frozenset(there), held, frozenset(away), pops, is_sure))
    return lines


def _groups(lines: Sequence[Line], width: int) -> list[list[Line]]:
    """Lines of the same place: one height and size of letters, about one middle or from one left edge on."""
    groups: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: -line.box[3]):
        x, y, w, h = line.box
        for group in groups:
            left, top, wide, tall = group[0].box
            is_one_line = abs(y + h / 2 - top - tall / 2) <= SAME_LINE * tall and 0.7 <= h / tall <= 1.4
            shared = min(x + w, left + wide) - max(x, left)
            is_one_place = abs(x + w / 2 - left - wide / 2) <= MIDDLE * width or abs(x - left) <= 0.03 * width
            if is_one_line and (is_one_place or shared > 0.5 * min(w, wide)):
                group.append(line)
                break
        else:
            groups.append([line])
    return groups


def _is_level(group: Sequence[Line]) -> bool:
    return float(np.median([line.tilt for line in group])) <= LEVEL


def _is_told_by_time(group: Sequence[Line]) -> bool:
    """Whether a line kept its place before a picture that changed, or came or went before one that did not."""
    held = sum(line.held for line in group) >= HELD or any(1 < line.held == len(line.there) - 1 for line in group)
    return _is_level(group) and (held or any(line.pops for line in group))


def _comes_or_goes(line: Line, small: np.ndarray, scale: float) -> bool:
    """Whether a long line is gone in the frame before it, or in the one after it: of a single frame, in both.

    small: the frames at `scale`.
    """
    x, y, width, height = (round(edge * scale) for edge in line.box)
    is_tall = height >= TALL * min(small.shape[1:]) and width >= WORD * height
    if not (is_tall or _is_long(line)):
        return False
    first = last = line.frame
    while first > 0 and first - 1 not in line.away:
        first -= 1
    while last + 1 < len(small) and last + 1 not in line.away:
        last += 1
    ends = [(first, first - 1)] * (first > 0) + [(last, last + 1)] * (last + 1 < len(small))
    gone = [are_gone(small[one], small[other], (x, y, max(1, width), max(1, height))) for one, other in ends]
    return len(gone) == 2 and all(gone) if first == last else any(gone)


def _may_be_word(box: Box, frame_height: int) -> bool:
    return box[2] >= WORD * box[3] and box[3] <= HIGHEST_WORD * frame_height


def _is_long(line: Line) -> bool:
    return line.box[2] >= LONG * line.box[3]


def _lasts(group: Sequence[Line], count: int, looked: int) -> bool:
    """Whether a level line is there for most of the clip, if with other words."""
    found = len({line.frame for line in group})
    there = len(frozenset().union(*(line.there for line in group)))
    return _is_level(group) and found > 1 and max(there / count, found / looked) >= LASTS


def _looks_laid_over(group: Sequence[Line], size: tuple[int, int]) -> bool:
    """Whether a line is long, and where subtitles, titles and watermarks are."""
    height, width = size
    x, y, w, h = union([line.box for line in group])
    is_middle = abs(x + w / 2 - width / 2) <= MIDDLE * width and w >= WIDE * width
    return w >= LONG * h and (is_middle or not HIGHEST * height < y + h / 2 < LOWEST * height)


def _strokes(frame: np.ndarray, box: Box) -> np.ndarray:
    """What is in a box as strokes."""
    x, y, width, height = box
    return strokes(frame[y : y + height, x : x + width])


def _ink(frame: np.ndarray, box: Box) -> float:
    """How much stroke there is in a box and a line's height around it: words that only moved a little are still there."""
    x, y, width, height = box
    left, top = max(0, x - height), max(0, y - height)
    return float(_strokes(frame, (left, top, x + width + height - left, y + 2 * height - top)).sum())


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / norm if norm > 1e-3 else 0.0


def _changes_around(one: np.ndarray, other: np.ndarray, box: Box) -> tuple[float, float]:
    """How much two frames differ around a box, mean gray levels: on the side where they differ least but for one, and most."""
    x, y, width, height = box
    gap, out = 3, min(2 * height, max(6, one.shape[0] // 8))
    strips = [
        (slice(max(0, y - out), max(0, y - gap)), slice(x, x + width)),
        (slice(y + height + gap, y + height + out), slice(x, x + width)),
        (slice(y, y + height), slice(max(0, x - out), max(0, x - gap))),
        (slice(y, y + height), slice(x + width + gap, x + width + out)),
    ]
    found = []
    for strip in strips:
        if one[strip].size >= 2 * height:
            difference = one[strip].astype(np.float32) - other[strip]
            found.append(float(np.abs(difference - difference.mean()).mean()))  # a fade is no other picture
    found.sort()
    return (found[min(1, len(found) - 1)], found[-1]) if found else (0.0, float("inf"))


def _tilt(corners: np.ndarray) -> float:
    """Degrees by which a box is off level."""
    angle = abs(cv2.minAreaRect(np.asarray(corners, np.float32))[2]) % 90
    return min(angle, 90 - angle)
