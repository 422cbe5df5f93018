"""Text in a frame by EasyOCR's detector, without its recogniser, on one device.

The network is CRAFT (Baek et al., "Character Region Awareness for Text Detection", CVPR 2019). Its 80 MB weights file
is EasyOCR's own download, or a user's file. torch and easyocr are imported only when a detector is made.
"""

import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from filelock import FileLock

from utils.errors import UsageError
from utils.models.weights import download, local_file

LANGUAGES = ["en", "ch_sim"]
WEIGHTS = "craft_mlt_25k.pth"
TEXT_THRESHOLD = 0.7  # minimum peak of the character map inside a box; this and the next two are EasyOCR's own choices
LOW_TEXT = 0.4  # of the character map, from which a pixel belongs to a box
LINK_THRESHOLD = 0.4  # of the map of gaps between characters, from which a pixel joins two
CANVAS_SIZE = 2560  # pixels of the long side: EasyOCR scales larger frames down to it, and smaller ones not at all


class EasyTextDetector:
    """CRAFT by EasyOCR, on `cuda:LOCAL_RANK` where there is a GPU, else on the CPU.

    detector = EasyTextDetector("weights/craft_mlt_25k.pth")
    share = text_area_share(detector(frame), (frame.shape[1], frame.shape[0]))
    """

    def __init__(
        self,
        model_path: str | Path | None = None,
        text_threshold: float = TEXT_THRESHOLD,
        low_text: float = LOW_TEXT,
        link_threshold: float = LINK_THRESHOLD,
        canvas_size: int = CANVAS_SIZE,
        threads: int = 1,
    ) -> None:
        """model_path: the weights file or its folder; None for EasyOCR's own. threads: of torch, on the CPU.

        Raises: `UsageError` where EasyOCR or its weights are missing and cannot be had, or the file is no weights.
        """
        weights = local_file(model_path, [WEIGHTS]) if model_path else None
        import torch

        import easyocr_detection_patched
        import easyocr  # isort: skip  # after the patch, which says so where EasyOCR is missing

        from utils.models.device import rank_device

        weights = weights or easyocr_weights()
        self.short_side, self.long_side = float("inf"), canvas_size
        self.settings = {
            "detector": f"EasyOCR {easyocr_detection_patched.installed_version()}",
            "weights": md5(weights)[:8],
            "text_threshold": text_threshold,
            "low_text": low_text,
            "link_threshold": link_threshold,
            "canvas_size": canvas_size,
        }
        self.options = {name: value for name, value in self.settings.items() if name not in ("detector", "weights")}
        self.device = str(rank_device())
        torch.set_num_threads(threads)
        path_before = list(sys.path)
        # Reader(detector=True) would delete a weights file that is not EasyOCR's own; so it gets its detector
        # afterwards.
        self.reader = easyocr.Reader(
            LANGUAGES, gpu=self.device, detector=False, recognizer=False, download_enabled=False, verbose=False,
            model_storage_directory=str(weights.parent), user_network_directory=str(weights.parent),
        )  # fmt: skip
        sys.path[:] = path_before  # the reader adds the folder of a user's own networks
        self.reader.get_textbox = easyocr.detection.get_textbox
        self.reader.get_detector = easyocr.detection.get_detector
        self.reader.detector = self.reader.initDetector(str(weights))

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Boxes of a uint8 RGB frame (H, W, 3): float32 (N, 4, 2), corners (x, y) in pixels of the frame, which may lie
        beyond its edge: the lines of level text first, then the rotated boxes."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(f"frame must be uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
        (level,), (rotated,) = self.reader.detect(frame, reformat=False, **self.options)
        lines = [[(left, top), (right, top), (right, bottom), (left, bottom)] for left, right, top, bottom in level]
        return np.array([*lines, *rotated], np.float32).reshape(-1, 4, 2)

    boxes = __call__  # as RapidTextDetector has it


def easyocr_weights() -> Path:
    """The weights in EasyOCR's own folder, downloaded into it where they are missing: by one process, while the others
    wait.

    Raises: `UsageError` where they cannot be had, or another file is in their place.
    """
    from easyocr import config

    folder, known = Path(config.MODULE_PATH) / "model", config.detection_models["craft"]
    file = folder / WEIGHTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            with FileLock(folder / f".{WEIGHTS}.lock"):
                if not file.is_file():
                    download_and_unzip(known["url"], known["md5sum"], file)
        found = md5(file)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UsageError(
            f"EasyOCR's detector is missing and cannot be downloaded ({error}): unpack {known['url']} and put {WEIGHTS} into {folder}, "
            "or give its path with --model_path; --text_detector rapidocr needs no download"
        ) from None
    if found != known["md5sum"]:
        raise UsageError(
            f"{file}: damaged, or another file (its MD5 is {found}, EasyOCR's has {known['md5sum']}): remove it to have it downloaded "
            "again, or give the path of your own with --model_path"
        )
    return file


def download_and_unzip(url: str, md5sum: str, file: Path) -> None:
    """Download a zip and give the weights in it the name `file` when they are whole.

    Raises: OSError, BadZipFile, KeyError and ValueError of networks and zips.
    """
    print(f"text: downloading {url} into {file.parent}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        with zipfile.ZipFile(download(url, Path(folder), "weights.zip")) as packed:
            unpacked = Path(packed.extract(file.name, folder))
        if md5(unpacked) != md5sum:
            raise ValueError("the downloaded file has another MD5 than EasyOCR's")
        unpacked.replace(file)


def md5(file: Path) -> str:
    """Hex digits; MD5, because that is what EasyOCR publishes of its files."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(file, "rb") as content:
        while piece := content.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
