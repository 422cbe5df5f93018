"""Fades at the ends of shots that the shot detector does not see: those that never become flat, because the film is cut amid the fade, or noise, a
logo or a line of text stays.

In a fade to a plain colour all brightnesses come nearer to one value in proportion: at a share `a` of its contrast a frame with the brightness q has
c + a (q - c). So of each frame five brightnesses are kept, of the pixels ranked by it, and at both ends of each shot it is asked whether they do. A lamp
that is switched off ends at a level of its own and stays; a pan into the dark changes what is bright and what is dark.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

RANKS = np.array([0.1, 0.25, 0.5, 0.75, 0.9])  # a logo or a line of text covers less than a tenth
STEP = 4  # pixels between those that are looked at
LONGEST_SECONDS = 5.0
LEAST_FRAMES, LEAST_SECONDS = 5, 0.2
LEAST_CONTRAST = 12.0  # levels between the ranks of a shot: in less, rounding hides what a fade does
LOST = 0.3  # of the contrast at the shot's end
FULL = 0.95  # of the contrast, from where on nothing is missed
GONE = 0.15  # of the contrast, up to which a shot's end is as good as plain, and the fade may have ended before
OFF = 0.06  # of the contrast: how far the brightnesses may be from the proportion
PLAIN = (24.0, 231.0)  # levels: the plain colour is darker, or brighter
STEADY = 0.4  # of its mean speed: how fast a fade must still go at a shot's end that is not plain
SHOT = 0.6  # of the shot's largest contrast near this end: less is no picture that a fade ends in
BEND = 0.35  # of the speed until then: where the contrast grows more slowly than that, the fade is over


def brightnesses(image: np.ndarray) -> np.ndarray:
    """uint8 (5,): the brightness, 0–255, below which are 0.1, 0.25, 0.5, 0.75 and 0.9 of the pixels. image: uint8 (H, W, 3), BGR."""
    gray = cv2.cvtColor(image[::STEP, ::STEP], cv2.COLOR_BGR2GRAY)
    counts = np.bincount(gray.ravel(), minlength=256).cumsum()
    return np.searchsorted(counts, RANKS * counts[-1]).astype(np.uint8)


class EndFades:
    """Watches the frames of a video, and then tells which frames of a shot are a fade at one of its ends."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def watch(self, frames: Iterable[tuple]) -> Iterator[tuple]:
        """The same (time, image) pairs."""
        for time, image in frames:
            self._kept += brightnesses(image).tobytes()
            yield time, image

    def spans(self, seconds: np.ndarray, first: int, stop: int) -> list[tuple[int, int]]:
        """Frames [first, stop) of the fades at the ends of a shot [first, stop). seconds: at which the video's frames begin."""
        levels = np.frombuffer(self._kept, np.uint8).reshape(-1, len(RANKS))[first:stop].astype(float)
        times = seconds[first:stop]
        begins = fade_length(levels, times - times[0])
        ends = fade_length(levels[::-1], times[-1] - times[::-1])
        if begins + ends >= stop - first:
            return []
        found = [(first, first + begins)] if begins else []
        return found + ([(stop - ends, stop)] if ends else [])


def fade_length(levels: np.ndarray, seconds: np.ndarray) -> int:
    """Frames of a fade from or to a plain colour, counted from a shot's end inwards; 0 for none.

    levels: (n, 5), as `brightnesses` gives them; seconds: (n,), from the shot's end. Both in order from that end.
    """
    count = int(np.searchsorted(seconds, LONGEST_SECONDS, side="right"))
    levels, seconds = levels[:count], seconds[:count]
    contrast = levels[:, -1] - levels[:, 0]
    if count <= 2 * LEAST_FRAMES or contrast.max() < LEAST_CONTRAST:
        return 0
    at = np.arange(LEAST_FRAMES, count - LEAST_FRAMES)
    after = np.minimum(np.maximum(LEAST_FRAMES, at // 4), count - 1 - at)
    slope, slope_after = (contrast[at] - contrast[0]) / at, (contrast[at + after] - contrast[at]) / after
    bends = at[
        (contrast[at] - contrast[0] > LOST * LEAST_CONTRAST)
        & (contrast[at] > GONE * contrast.max())
        & (slope_after < BEND * slope)
    ]
    if not len(bends):
        return 0
    top = int(bends[0])
    length = int(np.argmax(contrast >= FULL * np.median(contrast[top : top + 2 * LEAST_FRAMES])))
    whole = levels[length : length + LEAST_FRAMES].mean(axis=0)
    full = whole[-1] - whole[0]
    if length < LEAST_FRAMES - 1 or seconds[length] < LEAST_SECONDS or contrast[0] > (1 - LOST) * full:
        return 0
    if full < SHOT * contrast.max() or whole[-2] - whole[0] < GONE * full:
        return 0  # nothing that fades, or but one of the ranks to tell by
    share = contrast[:length, None] / full
    seen = share[:, 0] > GONE
    if seen.sum() < LEAST_FRAMES - 1:
        return 0  # it appears at once
    missing = 1 - share
    plain = float((missing * (levels[:length] - share * whole)).sum() / (missing**2).sum() / len(RANKS))
    off = np.abs(levels[:length] - (plain + share * (whole - plain))).max(axis=1)
    if PLAIN[0] < plain < PLAIN[1] or np.quantile(off[seen], 0.9) > max(OFF * full, 3):
        return 0
    quarter = max(length // 4, 2)
    at_end = (share[quarter, 0] - share[0, 0]) / seconds[quarter]
    if share[0, 0] > GONE and at_end < STEADY * (1 - share[0, 0]) / seconds[length]:
        return 0
    return length
