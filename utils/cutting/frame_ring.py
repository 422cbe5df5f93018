"""The last few seconds of frames with the distances between all of them, and the spans in it that look like a dissolve
or a wipe, that is, where the film moves on a straight line from one frame to another.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from scenedetect import FrameTimecode

SCALES = np.array([2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])  # frames from the old shot's last to the new one's first
GUARDS = np.maximum(1, SCALES // 3)  # frames before and after that are looked at too
QUARTERS = np.array([[1], [2], [3]])
RING = 136  # frames kept: the longest scale, its guards, a third of it to wait for the best span, and some
MIN_DISTANCE = 8.0  # levels, root mean square: the ends of a gradual transition are at least this far apart
OFF_LINE = 0.2  # squared distance from the line over its squared length: 0 a mixture, 0.25 a wipe, 0.75 a third frame
OFF_WIPE = 0.32  # up to here it may be a wipe
OUTSIDE = 0.35  # the same for the drift just before and after: a transition ends, a pan goes on
DIP = 0.8  # contrast energy halfway over the mean of both ends: 0.5 for unrelated frames mixed, 1 in motion

NO_PIXELS = np.empty((0, 0, 3), np.uint8)
NO_SCORES = np.zeros(2, np.float32)


@dataclass
class Frame:
    """A frame and what is compared of it. `image`, `thumb`: uint8 (h, w, 3), BGR; `gray`: uint8 (h, w), of the thumb;
    `change`: mean levels to the frame before; `contrast`: standard deviation in levels; `live`: the thumb's rows and
    columns that are no bars; `scores`: TransNetV2's two, 0 where they are not known.
    """

    index: int  # of all frames
    number: int  # of the ring's frames; of a frame left out there, that of the next
    time: FrameTimecode
    seconds: float
    image: np.ndarray  # NO_PIXELS once nothing can ask for it
    thumb: np.ndarray
    gray: np.ndarray
    change: float
    contrast: float = 0.0
    live: tuple[slice, slice] = (slice(None), slice(None))
    scores: np.ndarray = field(default_factory=lambda: NO_SCORES)


@dataclass
class Span:
    """A gradual transition, frames [start, end), and its cuts; of spans that overlap the best is kept."""

    score: float
    kind: str
    start: Frame
    end: Frame
    cuts: list[Frame] = field(default_factory=list)


def overlap(a: Span, b: Span) -> bool:
    return a.start.index < b.end.index and b.start.index < a.end.index


class FrameRing:
    """The last RING frames added; a frame's number is how many were added before it."""

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque(maxlen=RING)
        self.count = 0  # frames ever added
        self._vectors = np.zeros((RING, 0), np.float32)  # (RING, n), each at its frame's number modulo RING
        self._norms = np.zeros(RING, np.float32)
        self._distance = np.zeros((RING, RING), np.float32)  # squared, levels per pixel

    def __getitem__(self, number: int) -> Frame:
        return self.frames[int(number) - self.frames[0].number]

    def add(self, frame: Frame) -> None:
        small = cv2.resize(frame.thumb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        if not self._vectors.size:
            self._vectors = np.zeros((RING, small.size), np.float32)
        slot = self.count % RING
        self._vectors[slot] = small / np.sqrt(small.size)
        products = self._vectors @ self._vectors[slot]
        self._norms[slot] = products[slot]
        distance = np.maximum(self._norms + products[slot] - 2 * products, 0)
        self._distance[slot] = self._distance[:, slot] = distance
        self.frames.append(frame)
        self.count += 1

    def squared_distance(self, a: Frame, b: Frame) -> float:
        """Squared distance of two frames of the ring, levels per pixel."""
        return float(self._distance[a.number % RING, b.number % RING])

    def _squared(self, i: np.ndarray, j: np.ndarray | int) -> np.ndarray:
        return self._distance[i % RING, j % RING]

    def straight_spans(self) -> Iterator[tuple[int, Span]]:
        """The spans on all SCALES, with their scale, that end a third of their length ago and may be a dissolve or a
        wipe.
        """
        newest, oldest = self.count - 1, max(0, self.count - RING)
        in_ring = newest - oldest >= GUARDS + SCALES
        scales, guards = SCALES[in_ring], GUARDS[in_ring]
        b = newest - guards
        a = b - scales
        length = self._squared(a, b) + 1e-6
        before, after = self._squared(np.maximum(a - guards, oldest), a), self._squared(b, newest)
        far = (length > MIN_DISTANCE**2) & (np.maximum(before, after) / length < OUTSIDE)
        if not far.any():
            return
        a, b, scales, length = a[far], b[far], scales[far], length[far]
        m = a + (QUARTERS * scales + 2) // 4  # (3, scales): the frames at a quarter, half and three quarters
        along = (self._squared(a, m) + length - self._squared(m, b)) / (2 * length)
        off = self._squared(a, m) / length - along**2
        even = (abs(along[1] - 0.5) < 0.25) & (along[0] < along[1] + 0.05) & (along[1] < along[2] + 0.05)
        score = np.sqrt(length) * (1 - 2 * off[1])
        for n in np.flatnonzero(even & (off.max(axis=0) < OFF_WIPE)):
            kind = "dissolve" if off[:, n].max() < OFF_LINE else "wipe"
            yield int(scales[n]), Span(float(score[n]), kind, self[a[n]], self[b[n]])

    def is_mixture(self, a: Frame, b: Frame) -> bool:
        """Whether the contrast sinks halfway, as it does where two shots are mixed."""
        slots = np.array([a.number, (a.number + b.number) // 2, b.number]) % RING
        pixels = self._vectors[slots].reshape(3, -1, 3)
        old, half, new = ((pixels - pixels.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2))
        return bool(half < DIP * (old + new) / 2)

    def off_line(self, a: Frame, between: Frame, b: Frame) -> float:
        """How far off the straight line from `a` to `b` a frame between is: squared distance over the line's squared
        length, 0 for a mixture, 0.25 for a wipe, 0.75 for a third frame.
        """
        length = self.squared_distance(a, b) + 1e-6
        to_a, to_b = self.squared_distance(a, between), self.squared_distance(between, b)
        return to_a / length - ((to_a + length - to_b) / (2 * length)) ** 2

    def trimmed(self, a: Frame, b: Frame) -> tuple[Frame, Frame, Frame]:
        """The frames at which the transition between `a` and `b` begins, is halfway and ends."""
        after = np.arange(b.number, min(b.number + (b.number - a.number) // 3, self.count - 1) + 1)
        reached = self._distance[a.number % RING, after % RING]
        b = self[after[np.argmax(reached > 0.98 * reached.max())]]  # the mixture may go on a little
        numbers = np.arange(a.number, b.number + 1) % RING
        to_a, to_b = self._distance[a.number % RING, numbers], self._distance[b.number % RING, numbers]
        along = (to_a + to_a[-1] - to_b) / (2 * to_a[-1])
        middle = int(np.argmax(along >= 0.5))
        first, last = middle - int(np.argmax(along[middle::-1] < 0.25)), middle + int(np.argmax(along[middle:] > 0.75))
        beyond = (last - first) // 2  # the line through the central half reaches either shot there
        offsets = np.clip([first - beyond + 1, (first + last + 1) // 2, last + beyond], 1, b.number - a.number)
        start, half, end = (self[a.number + n] for n in offsets)
        return start, half, end
