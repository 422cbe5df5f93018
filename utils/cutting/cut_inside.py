"""Whether a clip holds a cut or a gradual transition, by TransNetV2 on all its frames, in bounded memory.

cut = CutInside(network)
for frame in cut.watch(decode(container, stream)):
    ...
cut.value()  # 0-1; from 0.5 on the clip is dropped
"""

from collections.abc import Iterable, Iterator

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from utils.cutting.block_matching import found_share
from utils.cutting.network_input import CONTEXT, HEIGHT, WIDTH, WINDOW
from utils.cutting.transnetv2 import TransNetV2

STEP = WINDOW - 2 * CONTEXT  # frames of a window whose scores count
MARKED = 0.15  # the score of frames that may be in a transition
LASTING, LONG = (
    3,
    15,
)  # frames marked: below the first, column 1 says nothing; a long dissolve gives it half of its scale
NEAR, FAR = 1, 12  # frames from the marked ones to those that are compared; what passes by, or a flash, lasts less
# Pixels that a frame may move meanwhile, near and far, and the share of it that is found where it stays.
SHIFTS, STAYED = (2, 4), 0.5


class CutInside:
    """How sure the network is that the frames of one clip hold a cut or a gradual transition.

    Of each run of frames that the network marks, twice the first score or, where it lasts, the second one, twice where
    it is long; but nothing if the frame before is found in the one after, NEAR or FAR from the run: it was a flash, a
    lamp, a title, or something that passed close by.
    """

    def __init__(self, network: TransNetV2):
        self.network, self.found = network, 0.0
        self._frames: list[np.ndarray] = []  # from CONTEXT before the first one without a score on
        self._before: list[np.ndarray] = []  # the frames before the run under way, NEAR and FAR
        self._best, self._length = np.zeros(2), 0  # of that run: the highest score of each column, and frames

    def watch(self, frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The same frames, each seen on its way."""
        scaler = VideoReformatter()  # one for all frames: making it costs more than scaling a frame
        for frame in frames:
            image = scaler.reformat(frame, WIDTH, HEIGHT, format="rgb24", interpolation="AREA", threads=1)
            self.add(image.to_ndarray())
            yield frame

    def add(self, image: np.ndarray) -> None:
        """Takes the next frame, uint8 (27, 48, 3), RGB."""
        self._frames += [image] * (1 if self._frames else CONTEXT + 1)  # the first is repeated before the clip
        if len(self._frames) == WINDOW:
            self._score(STEP)

    def value(self) -> float:
        """Ends the clip. 0-1; 0.5 is where to drop it."""
        left = len(self._frames) - CONTEXT
        if left > 0:
            self._frames += [self._frames[-1]] * (2 * WINDOW - len(self._frames))
            while left > 0:
                self._score(min(left, STEP))
                left -= STEP
            self._end_run([self._frames[-1]] * 2)
        return min(1.0, self.found)

    def _score(self, count: int) -> None:
        """Scores the first `count` frames, of a window, and takes the window's frames off."""
        scores = self.network.window_scores(np.stack(self._frames[:WINDOW]))[CONTEXT:-CONTEXT][:count]
        for i, score in enumerate(scores, CONTEXT):
            if score.max() <= MARKED:
                self._end_run([self._frames[i + NEAR], self._frames[i + FAR]])
                continue
            self._before = self._before or [self._frames[i - NEAR], self._frames[i - FAR]]
            self._best, self._length = np.maximum(self._best, score), self._length + 1
        del self._frames[:STEP]

    def _end_run(self, after: list[np.ndarray]) -> None:
        one, many = self._best
        lasting = 0 if self._length < LASTING else 1 if self._length < LONG else 2
        sure = float(max(2 * one, lasting * many))
        if sure > self.found and not any(map(stayed, self._before, after, SHIFTS)):
            self.found = sure
        self._before, self._best, self._length = [], np.zeros(2), 0


def stayed(before: np.ndarray, after: np.ndarray, shift: int) -> bool:
    """Whether half of one frame or the other is found in the other, within `shift` pixels."""
    a, b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (before, after))
    return max(found_share(a, b, shift), found_share(b, a, shift)) >= STAYED
