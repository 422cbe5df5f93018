"""Films made here, judged by both detectors together; and the rule itself with a network that says what the test wants."""

from fractions import Fraction

import numpy as np
import pytest
from scenedetect import FrameTimecode
from scenedetect.common import Timecode
from test_transition_detector import dissolve, small
from test_transition_detector import shot as picture

from utils.cutting.joined_detector import LONGEST, JoinedDetector, stretched


@pytest.fixture(scope="module")
def network():
    from utils.cutting.transnetv2 import TransNetV2

    return TransNetV2()


class Scripted:
    """A network whose scores are high at the frames that are marked: those whose first pixel is pure red."""

    def __init__(self):
        self.windows = []

    def window_scores(self, window: np.ndarray) -> np.ndarray:
        self.windows.append(len(window))
        marked = (window[:, 0, 0] == (255, 0, 0)).all(-1)
        return np.stack([marked, marked], -1).astype(np.float32)


def detect(detector, frames: np.ndarray, fps: float = 24.0) -> tuple[list[int], list[tuple[int, int]]]:
    times = [FrameTimecode(Timecode(round(t / fps * 90000), Fraction(1, 90000)), fps=fps) for t in range(len(frames))]
    index = {time.pts: t for t, time in enumerate(times)}
    cuts = [cut for time, frame in zip(times, frames) for cut in detector.process_frame(time, frame)]
    cuts += detector.post_process(times[-1])
    spans = [(index[start.pts], index.get(end.pts, len(frames))) for _, start, end in detector.transitions]
    return [index[cut.pts] for cut in cuts], spans


def mark(frames: np.ndarray, first: int, stop: int) -> np.ndarray:
    frames = frames.copy()
    frames[first:stop, :12, :12] = (0, 0, 255)  # BGR
    return frames


def test_cuts_and_a_dissolve(network):
    frames = np.concatenate([picture(1), dissolve(picture(2, 60), picture(3, 60, pan=-1), 20), picture(4)])
    cuts, spans = detect(JoinedDetector(lambda: network), frames)
    assert [cuts[0], cuts[2]] == [40, 140] and 80 <= cuts[1] <= 100
    assert len(spans) == 1 and abs(spans[0][0] - 80) <= 3 and abs(spans[0][1] - 100) <= 3


def test_a_calm_film_asks_nothing():
    network = Scripted()
    assert detect(JoinedDetector(lambda: network), picture(1, 300)) == ([], [])
    assert network.windows == []


def test_a_dissolve_that_the_network_does_not_see_is_dropped():
    frames = dissolve(picture(2, 90), picture(3, 90), 20)
    assert detect(JoinedDetector(Scripted), frames) == ([], [])
    assert len(detect(JoinedDetector(Scripted), mark(frames, 79, 81))[0]) == 1


def test_a_dissolve_that_the_network_sees_too_is_one_transition():
    frames = np.concatenate([picture(1, 100), dissolve(picture(2, 90), picture(3, 300, pan=-1), 24)])
    assert detect(JoinedDetector(Scripted), mark(frames, 166, 190)) == ([177], [(166, 190)])  # it vetoes the cut at 100


def test_windows_are_bounded_and_memory_is_flat():
    network = Scripted()
    detector, shots = JoinedDetector(lambda: network), [picture(n, 12, pan=4.0) for n in range(8)]
    for t in range(1200):
        detector.process_frame(FrameTimecode(t, 24.0), shots[t // 12 % 8][t % 12])
    assert network.windows and max(network.windows) <= LONGEST
    assert len(detector._kept) < 600 and len(detector._scores) < 600 and len(detector._questions) < 100


def test_contrast_of_a_dark_window_is_stretched():
    window = np.full((10, 27, 48, 3), 20, np.uint8)
    window[:, :, 24:] = 30
    assert int(stretched(window).max()) - int(stretched(window).min()) > 50
    window[:, :, 24:] = 240
    assert stretched(window) is window


# The network sees windows of 100 frames, of which it keeps 50.
@pytest.mark.parametrize(
    "count", [pytest.param(n, marks=pytest.mark.release if n in (1, 49, 50) else ()) for n in (1, 49, 50, 51, 130)]
)
def test_the_network_alone_streams_the_scores_of_the_whole_film(count, network):
    frames = np.concatenate([picture(1), picture(2, pan=-2), dissolve(picture(3, 40), picture(4, 40), 12)])[:count]
    scores = network.scores(np.stack([small(frame) for frame in frames]))
    marked = np.flatnonzero(np.diff(np.r_[0, scores.max(1) > 0.5, 0])).reshape(-1, 2)
    wanted = [
        first + int(scores[first:stop, 0].argmax()) + 1 for first, stop in marked if scores[first:stop, 0].max() > 0.5
    ]
    from utils.cutting.network_detector import NetworkDetector

    cuts = []
    detector = NetworkDetector(network)
    for t, frame in enumerate(frames):
        cuts += detector.process_frame(FrameTimecode(t, 24.0), frame)
    cuts += detector.post_process(FrameTimecode(count - 1, 24.0))
    assert [cut.frame_num for cut in cuts] == wanted
