"""EasyOCR's text detector on one device of the caller's choice, without DataParallel. A patch made at import, written
for EasyOCR 1.7.2.

EasyOCR loads its detector, CRAFT, through `easyocr.detection.get_detector`. On a GPU that function wraps the network in
torch.nn.DataParallel, which takes every GPU that it sees: a rank on cuda:1 then fails at its first frame, since
DataParallel wants the network on cuda:0, and ranks that are given a batch spread it over each other's GPUs. It also
unpickles the weights file, which runs whatever code the file holds.

`import easyocr_detection_patched` replaces that one function in memory, for this process; nothing is written into
site-packages. `compute_text_score.py --text_detector easyocr` does so itself. EasyOCR's other users see the same
arguments and outputs:

    import easyocr, easyocr_detection_patched
    reader = easyocr.Reader(["en", "ch_sim"], gpu="cuda:1", recognizer=False)

Run as a script, it explains this and checks the installed EasyOCR:

    python easyocr_detection_patched.py
"""

import inspect
import pickle
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from utils.cli import run, script_parser
from utils.errors import UsageError, install

if TYPE_CHECKING:
    import torch

WRITTEN_FOR = "1.7.2"
PARAMETERS = ["trained_model", "device", "quantize", "cudnn_benchmark"]  # of EasyOCR's get_detector


def get_detector(
    trained_model: str, device: "str | torch.device" = "cpu", quantize: bool = True, cudnn_benchmark: bool = False
) -> "torch.nn.Module":
    """CRAFT with the weights of a file, in eval mode on `device`: what EasyOCR's function of this name gives, bare.

    `quantize` changes nothing: dynamic quantisation is for linear and recurrent layers, and CRAFT has none.

    Raises: `UsageError` where the file does not hold CRAFT's weights.
    """
    import torch
    from easyocr.craft import CRAFT

    try:
        weights = torch.load(trained_model, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, AttributeError, TypeError):
        raise UsageError(f"{trained_model}: no file of weights; CRAFT's, craft_mlt_25k.pth, is expected") from None
    except OSError as error:
        raise UsageError(f"{trained_model}: cannot be read: {error.strerror or error}") from None
    with torch.device("meta"):  # no random weights first, which cost a second
        network = CRAFT()
    try:
        # saved from a DataParallel, whose names begin with "module."
        named = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
        network.load_state_dict(named, assign=True)
    except (RuntimeError, AttributeError, TypeError):
        raise UsageError(
            f"{trained_model}: weights of another network; CRAFT's, craft_mlt_25k.pth, are expected"
        ) from None
    if torch.device(device).type == "cuda":
        torch.backends.cudnn.benchmark = cudnn_benchmark
    return network.float().to(device).eval()


def patch() -> None:
    """Make EasyOCR load its detector through `get_detector` above. Calling it twice is harmless.

    Raises: `UsageError` where EasyOCR is missing or has another interface.
    """
    installed = installed_version()
    import easyocr.detection

    theirs = getattr(easyocr.detection, "get_detector", None)
    if theirs is get_detector:
        return
    if theirs is None or list(inspect.signature(theirs).parameters) != PARAMETERS:
        raise UsageError(
            f"EasyOCR {installed} loads its detector in another way than {WRITTEN_FOR}, which this patch was written for: "
            f"{install(f'easyocr=={WRITTEN_FOR}')}, or use --text_detector rapidocr"
        )
    if installed != WRITTEN_FOR:
        print(version_sentence(installed), file=sys.stderr)
    easyocr.detection.get_detector = get_detector


def installed_version() -> str:
    """The version of EasyOCR that is installed.

    Raises: `UsageError` where there is none.
    """
    try:
        return version("easyocr")
    except PackageNotFoundError:
        raise UsageError(
            f"EasyOCR is not installed: {install(f'easyocr=={WRITTEN_FOR}')}, or use --text_detector rapidocr"
        ) from None


def version_sentence(installed: str) -> str:
    return (
        f"easyocr_detection_patched.py was written for EasyOCR {WRITTEN_FOR} and finds {installed}, whose interface looks the same: "
        f"if boxes look wrong, {install(f'easyocr=={WRITTEN_FOR}')}"
    )


def main() -> None:
    script_parser(__doc__).parse_args()
    print(__doc__)
    patch()
    if installed_version() == WRITTEN_FOR:
        print(f"EasyOCR {WRITTEN_FOR} is installed, and the patch fits it.")


if __name__ == "__main__":
    run(main)
else:
    patch()
