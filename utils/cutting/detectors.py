"""The shot detectors, each declared once: a function that makes it, and a line of `DETECTORS`.

docs/add_a_detector.md adds one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode
from scenedetect.detectors import HashDetector, HistogramDetector, ThresholdDetector

from utils.cutting.fitted_detector import FittedDetector
from utils.cutting.joined_detector import JoinedDetector
from utils.cutting.network_input import weights_path
from utils.cutting.transition_detector import TransitionDetector
from utils.errors import UsageError
from utils.workers.processes import threads_of_worker

if TYPE_CHECKING:
    from utils.cutting.transnetv2 import TransNetV2

FRAME_SIDE = 256  # pixels: about the size to which PySceneDetect scales down itself, and what `transitions` is made for
NETWORK = "utils.cutting.transnetv2"  # imports OpenVINO: 0.2 CPU-seconds
MIN_SHOT_SECONDS = 0.6  # PySceneDetect's detectors join shorter shots to a neighbour


class ShotDetector(Protocol):
    """Finds the cuts of one video, as PySceneDetect's detectors do.

    A detector that finds dissolves, wipes or fades has a list `transitions` of (kind, start, end) beside these two,
    frames [start, end) that belong to no clean shot.
    """

    def process_frame(self, timecode: FrameTimecode, frame_img: np.ndarray) -> list[FrameTimecode]:
        """Takes the next frame, uint8 (H, W, 3), BGR; returns the cuts now certain, the first frames of new shots."""

    def post_process(self, timecode: FrameTimecode) -> list[FrameTimecode]:
        """Returns the cuts that are left; `timecode` is the last frame's."""


@dataclass(frozen=True)
class Detector:
    """A line of the table.

    - `make(threshold=..., **needs)` gives a new detector for one video and raises `UsageError` for choices that it
      cannot work with. It is called once before any work and then, in a worker process, for each video.
    - `help`: what it finds, in a line.
    - `threshold`: what `make` is given where the user chose none; None for a detector that has none.
    - `needs`: what else it needs of the user, {flag: its help}; `make` is given each by its name, None where it is missing.
    - `shared_import`: a module that takes long to import; worker processes share one import of it.
    - `frame_side`: pixels of the long side of the frames that it is given.
    """

    make: Callable[..., ShotDetector]
    help: str
    threshold: float | None = None
    needs: Mapping[str, str] = field(default_factory=dict)
    shared_import: str | None = None
    frame_side: int = FRAME_SIDE


def make_detector(name: str, threshold: float | None, given: Mapping[str, str | None]) -> ShotDetector:
    """A new detector for one video. `threshold` None: its default; `given`: what the user gave of any detector's needs.

    Raises: `UsageError`.
    """
    detector = DETECTORS[name]
    needs = {need: given.get(need) for need in detector.needs}
    return detector.make(threshold=detector.threshold if threshold is None else threshold, **needs)


def transitions(threshold: float | None) -> ShotDetector:
    if threshold is not None:
        raise UsageError("this detector has no threshold; drop --cutscene_threshold, or choose another detector")
    return TransitionDetector()


def adaptive(threshold: float) -> ShotDetector:
    return AdaptiveDetector(threshold, min_scene_len=MIN_SHOT_SECONDS, window_width=3)


@lru_cache(maxsize=1)
def network() -> "TransNetV2":
    """TransNetV2, once per process."""
    from utils.cutting.transnetv2 import TransNetV2

    return TransNetV2(fast=True, threads=threads_of_worker())


def fitted(threshold: float | None) -> ShotDetector:
    if threshold is not None:
        raise UsageError("this detector has no threshold; drop --cutscene_threshold, or choose another detector")
    weights_path()  # raises before any work
    return FittedDetector(network)


def both(threshold: float | None) -> ShotDetector:
    if threshold is not None:
        raise UsageError("this detector has no threshold; drop --cutscene_threshold, or choose another detector")
    weights_path()  # raises before any work
    return JoinedDetector(network)


def transnetv2(threshold: float, transnetv2_model: str | None) -> ShotDetector:
    if transnetv2_model is None:
        from utils.cutting.network_detector import NetworkDetector

        return NetworkDetector(network(), threshold)
    if not Path(transnetv2_model).is_file():
        raise UsageError(
            "no such file; it must be an ONNX file of the network, with an input 'input' and an output 'output'. "
            "PySceneDetect's documentation of detect-transnetv2 says where to get them"
        )
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf
    from scenedetect.detectors.transnet_v2 import TransnetV2Detector

    try:
        return TransnetV2Detector(transnetv2_model, ["CPUExecutionProvider"], threshold, min_scene_len=MIN_SHOT_SECONDS)
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise UsageError(f"not a network that onnxruntime can load ({error})") from None


DEFAULT = "fitted"
DETECTORS: dict[str, Detector] = {
    "fitted": Detector(
        fitted,
        "cuts, jump cuts, dissolves, wipes and fades, by frame measurements and TransNetV2, combined with fitted weights",
        shared_import=NETWORK,
    ),
    "both": Detector(both, "as transitions, with TransNetV2 deciding the unclear ones", shared_import=NETWORK),
    "transitions": Detector(transitions, "cuts, dissolves, wipes and fades, without a network"),
    # 3.5 with a window of 3 frames is the best of PySceneDetect's published sweep.
    "adaptive": Detector(adaptive, "cuts, change of colour relative to the neighbouring frames", 3.5),
    "content": Detector(partial(ContentDetector, min_scene_len=MIN_SHOT_SECONDS), "cuts, change of colour", 27.0),
    "hash": Detector(partial(HashDetector, min_scene_len=MIN_SHOT_SECONDS), "cuts, perceptual hash", 0.35),
    "histogram": Detector(partial(HistogramDetector, min_scene_len=MIN_SHOT_SECONDS), "cuts, luma histogram", 0.2),
    "threshold": Detector(
        partial(ThresholdDetector, min_scene_len=MIN_SHOT_SECONDS), "fades to black, by brightness", 12
    ),
    "transnetv2": Detector(
        transnetv2,
        "cuts and dissolves, a neural network",
        0.5,
        shared_import=NETWORK,
        needs={"transnetv2_model": "ONNX file of other weights of TransNetV2, for --detector transnetv2"},
    ),
}
