"""TransNetV2's scores of a film whose frames come one by one, in bounded memory."""

from typing import TYPE_CHECKING

import numpy as np

from utils.cutting.network_input import CONTEXT

if TYPE_CHECKING:
    from utils.cutting.transnetv2 import TransNetV2


class ScoreStream:
    """`add` and `end` return the scores that have become known, float32 (n, 2), in the order of the frames.

    `length`: frames of a window, CONTEXT of which at both ends do not count.
    """

    def __init__(self, network: "TransNetV2", length: int):
        self.network, self.length = network, length
        self._frames: list[np.ndarray] = []  # from CONTEXT before the first one without a score on

    def add(self, image: np.ndarray) -> np.ndarray:
        """Takes the next frame, uint8 (27, 48, 3), RGB."""
        self._frames += [image] * (1 if self._frames else CONTEXT + 1)  # the first is repeated before the film
        return self._score() if len(self._frames) == self.length else np.empty((0, 2), np.float32)

    def end(self) -> np.ndarray:
        """The scores of the frames that are left; the last is repeated after the film."""
        if not (left := len(self._frames) - CONTEXT) > 0:
            return np.empty((0, 2), np.float32)
        self._frames += [self._frames[-1]] * CONTEXT
        return self._score()[:left]

    def _score(self) -> np.ndarray:
        """Scores the frames and takes those that count off."""
        scores = self.network.window_scores(np.stack(self._frames))[CONTEXT:-CONTEXT]
        del self._frames[: len(scores)]
        return scores
