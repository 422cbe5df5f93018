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
from utils.cutting.transnetv2 import BATCH, CONTEXT, HEIGHT, WIDTH, WINDOW, TransNetV2

STEP = WINDOW - 2 * CONTEXT  # frames of a window whose scores count
MARKED, LASTING = 0.15, 3  # the score of frames that may be in a transition; frames
SHIFT, STAYED = 2, 0.5  # pixels that a frame may move meanwhile, and the share of it that is found where it stays


class CutInside:
    """How sure the network is that the frames of one clip hold a cut or a gradual transition.

    Of each run of frames that the network marks, twice the first score or, where it lasts, the second one; but nothing
    if the frame before is found in the one after: it was a flash, a lamp or a title.
    """

    def __init__(self, network: TransNetV2):
        self.network, self.found = network, 0.0
        self._windows = 1 if network.device.type == "cpu" else BATCH
        self._frames: list[np.ndarray] = []  # from CONTEXT before the first one without a score on
        self._before: np.ndarray | None = None  # the frame before the run under way
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
        if len(self._frames) == self._windows * STEP + 2 * CONTEXT:
            self._score(self._windows, self._windows * STEP)

    def value(self) -> float:
        """Ends the clip. 0-1; 0.5 is where to drop it."""
        left = len(self._frames) - CONTEXT
        if left > 0:
            windows = -(-left // STEP)
            self._frames += [self._frames[-1]] * (windows * STEP + 2 * CONTEXT - len(self._frames))
            self._score(windows, left)
            self._end_run(self._frames[-1])
        return min(1.0, self.found)

    def _score(self, windows: int, count: int) -> None:
        """Scores the first `count` frames, in so many windows, and takes them off."""
        shown = np.stack([np.stack(self._frames[i * STEP : i * STEP + WINDOW]) for i in range(windows)])
        scores = self.network.window_scores(shown)[:, CONTEXT:-CONTEXT].reshape(-1, 2)[:count]
        for i, score in enumerate(scores, CONTEXT):
            if score.max() <= MARKED:
                self._end_run(self._frames[i + 1])
                continue
            if self._before is None:
                self._before = self._frames[i - 1]
            self._best, self._length = np.maximum(self._best, score), self._length + 1
        del self._frames[: windows * STEP]

    def _end_run(self, after: np.ndarray) -> None:
        if self._before is None:
            return
        a, b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (self._before, after))
        one, many = self._best
        sure = float(max(2 * one, many if self._length >= LASTING else 0.0))
        if sure > self.found and max(found_share(a, b, SHIFT), found_share(b, a, SHIFT)) < STAYED:
            self.found = sure
        self._before, self._best, self._length = None, np.zeros(2), 0
