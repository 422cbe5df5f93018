"""Companion files of a clip: control and reference videos or images, masks, first frames, exported with the clip's own crop, size, frames and rate.

Columns of the list or of --columns_from, each a path as `video_path` is one. A video must have the clip's frames, rate and aspect ratio, an image its aspect ratio, but for a reference
image, which is anything and is copied.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.errors import VideoError
from utils.export.media import encode, measure, place
from utils.export.plan import SAME_RATE, Cut, Measured
from utils.video.opening import writing
from utils.video.stills import is_still
from utils.video_utils import is_video_name, locate

FOLDERS = {"control_path": "control", "reference_path": "reference", "mask_path": "masks", "first_frame": "first_frame"}
COLUMNS = tuple(FOLDERS)
WAV = "audio_path"  # no column of the list: it is made of the clip's own audio
SAME_ASPECT = 0.01  # a share
Box = tuple[int, int, int, int]  # x, y, width, height


def given(row: dict, columns: Sequence[str]) -> dict[str, str]:
    """The paths that a row has, by column."""
    return {c: row[c] for c in columns if c != WAV and isinstance(row.get(c), str) and row[c]}


def is_image(path: str) -> bool:
    return not is_video_name(Path(path).name)


def is_any_image(column: str, path: str) -> bool:
    """Whether it is an image that need not look like the clip."""
    return column == "reference_path" and is_image(path)


def files_of(row: dict, columns: Sequence[str], encoded: bool) -> dict[str, str]:
    """Where they go, relative to the export, by column: as the clip's medium, in a folder of their own, with the same stem. Of a clip with audio also WAV, where
    `columns` name it.
    """
    medium = Path(row["export_file"])
    split, rest = (medium.parts[:1], medium.parts[2:]) if row.get("split") else ((), medium.parts[1:])
    found = {}
    if WAV in columns and row["has_audio"]:
        found[WAV] = Path(*split, "audio", *rest).with_suffix(".wav").as_posix()
    for column, path in given(row, columns).items():
        ending = Path(path).suffix.lower()
        if encoded and not is_any_image(column, path):
            ending = ".png" if is_image(path) else ".mp4"
        folder = FOLDERS[column] + ("_images" if is_still(row["video_path"]) else "")
        found[column] = Path(*split, folder, *rest).with_suffix(ending).as_posix()
    return found


def misfit(row: dict, columns: Sequence[str], video_folder: str | None, clip: Measured) -> str:
    """Why one of them does not fit the clip; "" where all do. Raises: `VideoError` where one cannot be read."""
    for column, path in given(row, columns).items():
        if is_any_image(column, path):
            _pixels(locate(path, video_folder))
            continue
        size = clip.size
        if clip.is_still and not is_image(path):
            return f"{column}: a video, and the clip is an image"
        if is_image(path):
            height, width = _pixels(locate(path, video_folder)).shape[:2]
            size = width, height
        else:
            other = measure(locate(path, video_folder))
            size = other.size
            if len(other.times) != len(clip.times):
                return f"{column}: {len(other.times)} frames, and the clip has {len(clip.times)}"
            if abs(other.fps / clip.fps - 1) > SAME_RATE:
                return f"{column}: {float(other.fps):g} fps, and the clip has {float(clip.fps):g}"
            if np.abs(other.times - clip.times).max() * float(clip.fps) > 0.5:
                return f"{column}: its frames are not at the times of the clip's"
        if abs(size[0] / size[1] / (clip.size[0] / clip.size[1]) - 1) > SAME_ASPECT:
            return f"{column}: {size[0]}x{size[1]}, not the aspect ratio of {clip.size[0]}x{clip.size[1]}"
    return ""


def bring(
    source: str, column: str, target: Path, how: str, cut: Cut | None, clip: Measured | None, quality: tuple[int, str]
) -> None:
    """Bring one of them to `target`, with the clip's `cut` where it is encoded. `quality`: x264's crf and preset. Raises: `VideoError`, `OutputError`."""
    if how != "encode" or cut is None or clip is None or is_any_image(column, source):
        place(source, target, "copy" if how == "encode" else how)
    elif is_image(source):
        _write_image(_pixels(source), target, cut, clip, nearest=column == "mask_path")
    else:
        other = measure(source)
        encode(
            source,
            target,
            Cut(_scaled(cut.box, clip, other.size), cut.size, cut.frames, cut.fps),
            *quality,
            audio=False,
        )


def _scaled(box: Box, clip: Measured, size: tuple[int, int]) -> Box:
    """The clip's box in a frame of another size, in whole pixels of the chroma."""
    if size == clip.size:
        return box
    across, down = size[0] / clip.size[0], size[1] / clip.size[1]
    x, y = int(box[0] * across) // 2 * 2, int(box[1] * down) // 2 * 2
    return x, y, min(round(box[2] * across), size[0] - x), min(round(box[3] * down), size[1] - y)


def _pixels(path: str) -> np.ndarray:
    """An image as it is stored, uint8 (H, W, 1, 3 or 4 channels)."""
    import cv2

    pixels = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise VideoError(f"{path!r} is neither a video nor an image that can be read")
    return pixels


def _write_image(pixels: np.ndarray, target: Path, cut: Cut, clip: Measured, nearest: bool) -> None:
    import cv2

    x, y, width, height = _scaled(cut.box, clip, (pixels.shape[1], pixels.shape[0]))
    inner = pixels[y : y + height, x : x + width]
    shrinks = inner.shape[1] > cut.size[0]
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4
    _, png = cv2.imencode(".png", cv2.resize(inner, cut.size, interpolation=how))
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.write_bytes(png.tobytes())
        temporary.replace(target)
