"""Bars around the image: black ones, and those with a blurred, enlarged copy of it."""

from collections.abc import Sequence

import numpy as np

Sides = tuple[int, int, int, int]  # left, top, right, bottom: how many pixels of each side are bar

DARK = 34  # gray levels of 255; black is 16 in limited range, and noise and ringing lie above
EVEN = 5.0  # standard deviation within a line of a bar, gray levels
STEP = 8.0  # gray levels from bar to picture, at the brightest of all frames
STEP_SHARE = 0.4  # of a line's pixels that must have it: a skyline before a night sky has not
LOGO_SHARE = 0.25  # of a line's pixels that a logo in a bar may cover
PAIR_SHARE = 0.12  # where the bar opposite is as wide: letterboxes of dark films
LARGEST = 0.45  # of a side: more is no bar
SMALLEST = 2  # pixels: a line at the edge is a flaw of many encoders, and is cut too
BLURRED = 0.35  # of the picture's fine detail is the most that blurred bars have
EDGE = 3.0  # how much the step between them stands out of its surroundings
NARROWEST = 0.03  # of a side, of blurred bars


def bars(frames: np.ndarray, text: Sequence[tuple[int, int, int, int]] = ()) -> Sides:
    """The bars of a clip. frames: uint8 (T, H, W), gray, spread over the clip; text: boxes [x, y, width, height] of words, which may stand
    in a bar.

    A bar is the same in every frame and ends in a straight line, where the picture begins in at least one of them. A clip that is
    black all over has none.
    """
    if text:
        bare = frames.copy()
        for x, y, width, height in text:
            bare[:, y : y + height, x : x + width] = 0
    else:
        bare = frames
    left_right = _black(bare.transpose(0, 2, 1))
    top_bottom = _black(bare)
    sides = (left_right[0], top_bottom[0], left_right[1], top_bottom[1])
    left, top, right, bottom = sides
    inner = frames[:, top : frames.shape[1] - bottom, left : frames.shape[2] - right]
    if min(inner.shape[1:]) < 32:
        return (0, 0, 0, 0)
    across, down = _blurred(inner.transpose(0, 2, 1)), _blurred(inner)
    return (left + across[0], top + down[0], right + across[1], bottom + down[1])


def _black(frames: np.ndarray) -> tuple[int, int]:
    """Black bars before and after, in lines of axis 1."""
    lines = frames.shape[1]
    bright = np.percentile(frames, 98, axis=2)  # (T, lines)
    is_dark = (bright <= DARK).all(0) & (frames.std(2) <= EVEN).all(0)
    is_dark |= _dark_beside_a_logo(frames)
    if is_dark.all():
        return (0, 0)
    before, after = int(np.argmin(is_dark)), int(np.argmin(is_dark[::-1]))
    most = frames.max(0).astype(np.float32)  # the brightest that each pixel gets: (lines, W)
    shares = [_step_share(most, before), _step_share(most[::-1], after)]
    alike = abs(before - after) <= max(2, 0.02 * lines)
    wanted = PAIR_SHARE if alike and min(shares) >= PAIR_SHARE else STEP_SHARE
    found = [
        count if SMALLEST <= count <= LARGEST * lines and share >= wanted else 0
        for count, share in zip((before, after), shares, strict=True)
    ]
    return found[0], found[1]


def _dark_beside_a_logo(frames: np.ndarray) -> np.ndarray:
    """Lines that are dark and even but for something small that is the same in all frames, as a logo in a bar is: bool (lines,)."""
    most, least = frames.max(0).astype(np.int16), frames.min(0)
    is_bright = most > DARK
    stays = (most - least <= 3 * EVEN) | ~is_bright
    return (is_bright.mean(1) <= LOGO_SHARE) & stays.all(1) & (np.where(is_bright, 0, most).std(1) <= EVEN)


def _step_share(most: np.ndarray, count: int) -> float:
    """The share of a line's pixels that are brighter behind `count` lines than before."""
    if count < SMALLEST or count + 2 >= len(most):
        return 0.0
    return float((most[count : count + 3].max(0) - most[count - 2] >= STEP).mean())


def _blurred(frames: np.ndarray) -> tuple[int, int]:
    """Blurred bars before and after, in lines of axis 1: as wide as one another, as players put them there."""
    lines = frames.shape[1]
    grays = frames.astype(np.float32)
    # Detail along the lines, which the step between bar and picture, across them, adds nothing to.
    detail = np.abs(np.diff(grays, 2, axis=2)).mean((0, 2))
    step = np.concatenate([[0], np.abs(np.diff(grays, axis=1)).mean((0, 2))])  # to the line before
    first, last = max(2, int(NARROWEST * lines)), int(LARGEST * lines)
    best: tuple[float, int, int] | None = None
    for before in range(first, last):
        opposite = range(max(first, before - 2), before + 3)
        after = max(opposite, key=lambda count: step[lines - count])
        stands_out = min(_stands_out(step, before), _stands_out(step, lines - after))
        if stands_out >= EDGE and (best is None or stands_out > best[0]):
            outer = np.concatenate([detail[: before - 1], detail[lines - after + 1 :]]).mean()
            inner = detail[before + 1 : lines - after - 1].mean()
            if outer <= BLURRED * inner:
                best = stands_out, before, after
    return (best[1], best[2]) if best else (0, 0)


def _stands_out(step: np.ndarray, at: int) -> float:
    """How many times the median of its surroundings a step is; at least two gray levels count."""
    around = np.concatenate([step[max(1, at - 12) : at - 2], step[at + 3 : at + 13]])
    return float(step[at] / max(float(np.median(around)), 1.0)) if len(around) else 0.0


def inside(sides: Sequence[int], width: int, height: int) -> tuple[int, int, int, int]:
    """[x, y, width, height] within the bars."""
    left, top, right, bottom = sides
    return left, top, width - left - right, height - top - bottom
