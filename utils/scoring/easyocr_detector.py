"""Text in a frame by EasyOCR's detector, without its recogniser, on one device.

The network is CRAFT (Baek et al., "Character Region Awareness for Text Detection", CVPR 2019). Its 80 MB weights file
is EasyOCR's own download, or a user's by path. torch and easyocr are imported only when a detector is made.
"""

import fcntl
import hashlib
import http.client
import os
import socket
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from utils.errors import UsageError

LANGUAGES = ["en", "ch_sim"]
WEIGHTS = "craft_mlt_25k.pth"
TEXT_THRESHOLD = 0.7  # least peak of the character map inside a box; this and the next two are EasyOCR's own choices
LOW_TEXT = 0.4  # of the character map, from which a pixel belongs to a box
LINK_THRESHOLD = 0.4  # of the map of gaps between characters, from which a pixel joins two
CANVAS_SIZE = 2560  # pixels of the long side: EasyOCR scales larger frames down to it, and smaller ones not at all
DOWNLOAD_SECONDS = 60  # without a byte, and the download has failed


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
        weights = user_weights(Path(model_path)) if model_path else None
        import torch

        import easyocr_detection_patched
        import easyocr  # isort: skip  # after the patch, which says so where EasyOCR is missing

        weights = weights or easyocr_weights()
        self.settings = {
            "detector": f"EasyOCR {easyocr_detection_patched.installed_version()}",
            "weights": md5(weights)[:8],
            "text_threshold": text_threshold,
            "low_text": low_text,
            "link_threshold": link_threshold,
            "canvas_size": canvas_size,
        }
        self.options = {name: value for name, value in self.settings.items() if name not in ("detector", "weights")}
        self.device = rank_device()
        torch.set_num_threads(threads)
        path_before = list(sys.path)
        # Reader(detector=True) would delete a weights file that is not EasyOCR's own; so it gets its detector
        # afterwards.
        self.reader = easyocr.Reader(
            LANGUAGES, gpu=self.device, detector=False, recognizer=False, download_enabled=False, verbose=False,
            model_storage_directory=str(weights.parent), user_network_directory=str(weights.parent),
        )  # fmt: skip
        sys.path[:] = path_before  # the reader adds the folder in which a user's own networks may lie
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


def rank_device() -> str:
    """`cuda:LOCAL_RANK`, round again where ranks outnumber the GPUs; `cpu` where there is none."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % count}" if count else "cpu"


def user_weights(path: Path) -> Path:
    """The weights file that a user names, by itself or by its folder.

    Raises: `UsageError` where it is not there.
    """
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"{file}: no such file; wanted is EasyOCR's detector, {WEIGHTS}, or its folder. "
            "Without --model_path it is downloaded; --text_detector rapidocr needs no download"
        )
    return file


def easyocr_weights() -> Path:
    """The weights in EasyOCR's own folder, downloaded into it where they are missing: by one process, while the others
    wait.

    Raises: `UsageError` where they cannot be had, or another file lies in their place.
    """
    from easyocr import config

    folder, known = Path(config.MODULE_PATH) / "model", config.detection_models["craft"]
    file = folder / WEIGHTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            with open(folder / f".{WEIGHTS}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not file.is_file():
                    download(known["url"], known["md5sum"], file)
        found = md5(file)
    except (OSError, http.client.HTTPException, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UsageError(
            f"EasyOCR's detector is not there and cannot be downloaded ({error}): unpack {known['url']} and put {WEIGHTS} into {folder} "
            "or name it by --model_path; or use --text_detector rapidocr, which needs no download"
        ) from None
    if found != known["md5sum"]:
        raise UsageError(
            f"{file}: damaged, or another file (its MD5 is {found}, EasyOCR's has {known['md5sum']}): remove it to have it downloaded "
            "again, or name your own by --model_path"
        )
    return file


def download(url: str, md5sum: str, file: Path) -> None:
    """Download a zip by EasyOCR's own function and give `file` its name when it is whole.

    Raises: OSError, HTTPException, BadZipFile, KeyError and ValueError of networks and zips.
    """
    from easyocr.utils import download_and_unzip

    print(f"text: downloading {url} into {file.parent}", file=sys.stderr)
    before = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        try:
            socket.setdefaulttimeout(DOWNLOAD_SECONDS)
            download_and_unzip(url, file.name, folder, verbose=False)
        finally:
            socket.setdefaulttimeout(before)
        if md5(Path(folder) / file.name) != md5sum:
            raise ValueError("what came has another MD5 than EasyOCR's file")
        os.replace(Path(folder) / file.name, file)


def md5(file: Path) -> str:
    """Hex digits; MD5, because that is what EasyOCR publishes of its files."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(file, "rb") as content:
        while piece := content.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
