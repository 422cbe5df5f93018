"""TransNetV2 on its own, with PySceneDetect's detector interface: cuts where its first score exceeds a threshold."""

import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detector import SceneDetector

from utils.cutting.network_input import CONTEXT, WINDOW
from utils.cutting.transition_detector import Transition
from utils.cutting.transnetv2 import TransNetV2, small

STEP = WINDOW - 2 * CONTEXT  # frames of a window whose scores count
LONGER = 3  # frames: a run of so many above the threshold in either column is a gradual transition


class NetworkDetector(SceneDetector):
    """The scores are those of `TransNetV2.scores`, in bounded memory. A run of frames above the threshold gives one
    cut, after its highest score; `transitions` holds the longer ones, [start, end).
    """

    def __init__(self, network: TransNetV2, threshold: float = 0.5):
        super().__init__()
        self.transitions: list[Transition] = []
        self.network, self.threshold = network, threshold
        self._frames: list[np.ndarray] = []  # from CONTEXT before the first one without a score on
        self._times: list[FrameTimecode] = []  # of the frames without a score, and of the run's
        self._run: list[np.ndarray] = []  # the scores since a run began

    @property
    def event_buffer_length(self) -> int:
        return STEP + 2 * WINDOW

    def process_frame(self, timecode: FrameTimecode, frame_img: np.ndarray) -> list[FrameTimecode]:
        """Takes the next frame, uint8 (h, w, 3), BGR; returns the cuts that have become certain."""
        image = small(frame_img)
        self._frames += [image] * (1 if self._frames else CONTEXT + 1)  # the first is repeated before the film
        self._times.append(timecode)
        return self._score() if len(self._frames) >= WINDOW else []

    def post_process(self, timecode: FrameTimecode) -> list[FrameTimecode]:
        """Ends the film; returns the cuts that are left."""
        left = len(self._frames) - CONTEXT
        if left <= 0:
            return []
        windows = -(-left // STEP)
        self._frames += [self._frames[-1]] * (windows * STEP + 2 * CONTEXT - len(self._frames))
        cuts = [cut for _ in range(windows) for cut in self._score()]
        return cuts + self._end_run()

    def _score(self) -> list[FrameTimecode]:
        """Scores the first window and takes it off."""
        window = np.stack(self._frames[:WINDOW])
        del self._frames[:STEP]
        cuts = []
        for scores in self.network.window_scores(window)[CONTEXT:-CONTEXT]:
            if len(self._times) <= len(self._run):
                break  # the last frame, repeated after the film
            if scores.max() > self.threshold:
                self._run.append(scores)
            else:
                cuts += self._end_run()
                self._times.pop(0)
        return cuts

    def _end_run(self) -> list[FrameTimecode]:
        """The cut of the run that has ended, if one of its frames has a first score above the threshold."""
        run, self._run = self._run, []
        times, self._times = self._times[: len(run)], self._times[len(run) :]
        best = int(np.argmax([one for one, _ in run])) if run else 0
        if not run or run[best][0] <= self.threshold:
            return []
        after = self._times[0] if self._times else times[-1] + 1
        if len(run) >= LONGER:
            self.transitions.append(Transition("gradual", times[0], after))
        return [times[best + 1] if best + 1 < len(run) else after]
