"""The measures of a candidate for a cut or a gradual transition, from which `cut_judge.py` decides.

Shares are 0-1, ratios and counts come as log(1 + x), scores of the network as log odds. `frame(index)` gives the film's
frame of that index, or the nearest that is kept.
"""

from collections.abc import Callable

import cv2
import numpy as np

from utils.cutting.block_matching import (
    blocks_found,
    camera_agreement,
    colours_lost,
    colours_replaced,
    found_share,
    share_in_place,
    unexplained,
)
from utils.cutting.frame_ring import Frame, FrameRing, Span
from utils.cutting.transition_detector import GONE, HALF_GONE, NEARBY

Frames = Callable[[int], Frame]

FLASH_SECONDS, FLASH_FRAMES = 0.25, 5  # what is back after the longer of these was never left
UNLIKE = 0.35  # squared distance of two frames over the sum of their contrasts squared: about 1 for unrelated pictures
SAME = 0.95  # a frame of which so much is found in place, in whatever light, shows nothing else
BESIDE = 5  # frames to each side of a gradual transition in which its shots are looked at
PARTS = 8  # of a gradual transition, between which the film is held against the straight line


def ramp(value: float, zero: float, one: float) -> float:
    """0 up to `zero`, 1 from `one` on (or the other way round, where `one` is the smaller)."""
    return min(1.0, max(0.0, (value - zero) / (one - zero)))


def log_odds(score: float, bound: float = 0.002) -> float:
    score = min(1 - bound, max(bound, float(score)))
    return float(np.log(score / (1 - score)))


def both_found(a: Frame, b: Frame, *reach: int) -> tuple[float, float]:
    """Share of the texture of `a` found in `b`, and of `b` in `a`."""
    x, y = a.gray[b.live], b.gray[b.live]
    return found_share(x, y, *reach), found_share(y, x, *reach)


def structure_lost(a: Frame, b: Frame) -> float:
    return 1 - max(both_found(a, b))


def apart(a: Frame, b: Frame) -> float:
    return cv2.norm(a.thumb, b.thumb, cv2.NORM_L1) / a.thumb.size


def wiped(a: Frame, half: Frame, b: Frame) -> float:
    """1 where each block of the frame halfway is in place in one of both ends, and some only in either; 0 for a mixture."""
    (in_old, weights), (in_new, _) = (blocks_found(half.gray[b.live], f.gray[b.live], NEARBY) for f in (a, b))
    if not len(weights):
        return 0.0
    weights = weights / weights.sum()
    only_old, only_new = (
        float(weights[one > other + 0.3].sum()) for one, other in ((in_old, in_new), (in_new, in_old))
    )
    return ramp(min(only_old, only_new), 0, 0.1) * ramp(float(weights @ np.maximum(in_old, in_new)), 0.5, 0.75)


def colours_apart(before: list[Frame], after: list[Frame]) -> float:
    """How much farther apart in colour the frames of both sides are than those of one side: the logarithm of the ratio of
    their mean squared Hellinger distances, 0 within a shot, however it flickers.
    """
    shares = np.stack([colour_shares(frame) for frame in (*before, *after)])
    squared = np.maximum(2 - 2 * shares @ shares.T, 0)
    n = len(before)
    within = max(side.sum() / max(1, len(side) * (len(side) - 1)) for side in (squared[:n, :n], squared[n:, n:]))
    return float(np.log((squared[:n, n:].mean() + 1e-3) / (within + 1e-3)))


def colour_shares(frame: Frame) -> np.ndarray:
    """Square roots of the shares of 6 x 12 x 12 smoothed colours (Lab), float32 (864,), of length 1."""
    lab = cv2.cvtColor(frame.thumb[frame.live], cv2.COLOR_BGR2LAB)
    counts = cv2.calcHist([lab], [0, 1, 2], None, [6, 12, 12], [0, 256] * 3)
    for axis in range(3):
        counts = (np.roll(counts, 1, axis) + 2 * counts + np.roll(counts, -1, axis)) / 4
    return np.sqrt(counts / counts.sum()).ravel()


def cut_evidence(frame: Frames, new: Frame, newest: int) -> dict[str, float] | None:
    """Of the frame `new`, which may be the first of a shot; None where it shows the old picture in another light. `newest`:
    index of the newest frame.
    """
    at, old = new.index, frame(new.index - 1)
    if (nearby := max(both_found(old, new, NEARBY))) > SAME:
        return None
    near = [frame(i) for i in range(max(1, at - 3), min(at + 3, newest) + 1) if i != at]
    before, after = (
        [
            f
            for f in map(frame, span)
            if abs(f.seconds - new.seconds) <= FLASH_SECONDS or abs(f.index - at) <= FLASH_FRAMES
        ]
        for span in (range(at - 1, max(0, at - 24), -1), range(at + 1, min(newest, at + 24) + 1))
    )
    replaced, left = colours_replaced(old.image, new.image), unexplained(old.image, new.image)
    surprise = left / max([1.0, *(unexplained(frame(f.index - 1).image, f.image) for f in near)])
    standing_out = new.change / max([0.01, *(f.change for f in [*near, *before, *after])])
    in_place = share_in_place(old.gray[new.live], new.gray[new.live])
    back = came_back(old, new, before, after)
    # Time is skipped within one scene: the same colours elsewhere, where no motion takes them.
    rearranged = max(ramp(replaced, 0.4, 0.3), ramp(in_place, 0.4, 0.3)) * ramp(in_place, 0.7, 0.5)
    rearranged *= ramp(left, 6, 12) * ramp(surprise, 1.2, 1.8) * ramp(standing_out, 1.5, 2.2)
    return {
        "structure lost": structure_lost(old, new),
        "colours lost": colours_lost(old.thumb[new.live], new.thumb[new.live]),
        "colours replaced": replaced,
        "nearby": nearby,
        "in place": in_place,
        "surprise": float(np.log1p(surprise)),
        "rearranged": rearranged * (1 - back),
        "came back": back,
        "camera moved": ramp(camera_agreement(old.image, new.image), 12, 24),
        "contrast": float(np.log1p(min(old.contrast, new.contrast))),
        "seen": log_odds(max(frame(i).scores[0] for i in range(at - 2, at + 1))),
    }


def came_back(old: Frame, new: Frame, before: list[Frame], after: list[Frame]) -> float:
    """0-1: whether the old picture is seen again after the cut, or the new one before it. `before` begins with `old`."""
    pairs = [(old, later) for later in after] + [(earlier, new) for earlier in before[1:]]
    pairs = sorted(pairs, key=lambda pair: apart(*pair))[:2]  # which are least apart
    nearest = min((apart(*pair) for pair in pairs), default=9 * new.change) / max(new.change, 0.01)
    return ramp(max((1 - structure_lost(*pair) for pair in pairs), default=0.0), 0.55, 0.75) * ramp(nearest, 0.6, 0.4)


def span_evidence(frame: Frames, ring: FrameRing, span: Span) -> dict[str, float] | None:
    """Of a gradual transition between the frames `span.start` and `span.end`; None where they show one picture."""
    a, b = span.start, span.end
    if ring.squared_distance(a, b) < UNLIKE * max(a.contrast**2 + b.contrast**2, 1e-6):
        return None
    structure, colours = 1 - sum(both_found(a, b)) / 2, colours_lost(a.thumb[b.live], b.thumb[b.live])
    if structure < HALF_GONE or structure + colours < GONE:
        return None
    inside = [frame(i) for i in range(a.index, b.index + 1)]
    changes = [f.change for f in inside[1:]]
    beside = [[frame(end.index + side * i) for i in range(BESIDE + 1)] for end, side in ((a, -1), (b, 1))]
    between = np.linspace(a.number, b.number, PARTS + 1)[1:-1].round().astype(int)
    return {
        "frames": float(np.log1p(b.index - a.index)),
        "colours lost": colours,
        "colours apart": colours_apart(*beside),
        "wipe": wiped(a, ring[(a.number + b.number) // 2], b),
        "off the line": float(np.mean([ring.off_line(a, ring[n], b) for n in between])),
        "peak": float(np.log1p(max(changes) / max(0.01, float(np.mean(changes))))),
        "back": max(max(both_found(a, frame(b.index + later), NEARBY)) for later in (6, 12)),
        "seen": float(np.mean([log_odds(f.scores[1], 1e-3) for f in inside])),
    }
