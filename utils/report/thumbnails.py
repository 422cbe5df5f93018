"""Thumbnails: three frames of a clip side by side in one WebP image, in the folder `report_files` beside the report.

They are made like a score: in worker processes, appended to `thumbnails.jsonl`, resumed, made again where a clip was cut
anew.
"""

import os
import re
from dataclasses import replace
from functools import partial
from hashlib import sha256

import numpy as np
from PIL import Image

from utils.captioning.attributes import main_colours
from utils.errors import RunError
from utils.pipeline.ancestry import settings_of
from utils.pipeline.process import RunOptions, Step, process_rows
from utils.pipeline.row_list import Rows
from utils.rows import atomic_write
from utils.storage import exists
from utils.video.geometry import frame_to_array, short_side_size
from utils.video.opening import open_video, writing
from utils.video.sampling import sample_frames
from utils.video_utils import locate
from utils.working_copies import local_path

FOLDER = "report_files"
FRAMES = 3
WIDTH, LONGEST = 160, 160  # pixels of one frame: its width, and its height at most
NAME = re.compile(
    r"([0-9a-f]{2})/\1[0-9a-f]{18}\.webp"
)  # of an image in the folder: the first digits of a SHA-256, as in `thumbnail`


def middles(num_frames: int) -> list[int]:
    """The frame in the middle of each third."""
    return [(2 * third + 1) * num_frames // (2 * FRAMES) for third in range(FRAMES)]


def strip(path: str) -> np.ndarray:
    """Frames of a video side by side, uint8 RGB (height, FRAMES * width, 3), upright, with square pixels.

    Raises: `VideoError`.
    """
    _, _, frames = sample_frames(path, middles)
    frames += frames[-1:] * (FRAMES - len(frames))  # a video of one or two frames
    with open_video(path) as (_, stream):
        arrays = [frame_to_array(frame, "rgb24", short_side_size(frame, stream, WIDTH)) for frame in frames]
    height, width = arrays[0].shape[:2]
    scale = min(WIDTH / width, LONGEST / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.concatenate(
        [np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BOX)) for array in arrays], axis=1
    )


def thumbnail(row: dict, video_folder: str, folder: str) -> dict:
    """Write a clip's thumbnail. The columns: its path in `folder`, and the name of the colour that covers most of it, ""
    where none covers a fifth.

    Raises: `VideoError`; `OutputError`.
    """
    image = strip(locate(row["video_path"], video_folder))
    name = sha256(os.fsencode(row["video_path"])).hexdigest()[:20] + ".webp"
    path = f"{folder}/{name[:2]}/{name}"
    with writing(path):
        local_path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            Image.fromarray(image).save(temporary, "WEBP", quality=70)
    colours = main_colours(np.split(image, FRAMES, axis=1), max_colours=1)
    return {"thumbnail": f"{name[:2]}/{name}", "main_colour": "".join(colours)}


def make_thumbnails(dataset: str, rows: Rows, options: RunOptions) -> None:
    """Bring the thumbnails of a dataset's clips up to date; a clip that cannot be read has none.

    Raises: `UsageError` where they cannot be written.
    """
    folder = f"{dataset}/{FOLDER}"
    step = Step(
        "thumbnails",
        partial(thumbnail, video_folder=options.video_folder or "", folder=folder),
        {"width": WIDTH, "frames": FRAMES},
        is_whole=lambda made: (path := path_of(folder, made[0].get("thumbnail"))) is not None and exists(path),
        done_word="made",
    )
    if not settings_of(options.saved_path):  # they are soon made again
        options = replace(options, overwrite=True)
    try:
        process_rows(step, rows, options)
    except RunError as error:  # a report without pictures is still one
        print(f"thumbnails: {error}")


def path_of(folder: str, name: object) -> str | None:
    """Where a thumbnail is, whose row says `name`; None for what `thumbnail` would not write. A page is passed on: it must hold no other
    file than ours, whatever a row says or a symbolic link leads to.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return None
    file, root = os.path.realpath(local_path(f"{folder}/{name}")), os.path.realpath(local_path(folder))
    return f"{folder}/{name}" if file.startswith(f"{root}{os.sep}") else None


def image_of(folder: str, name: object) -> bytes:
    """A thumbnail's file; nothing where it is gone, or none of ours."""
    path = path_of(folder, name)
    file = local_path(path) if path else None
    return file.read_bytes() if file and file.is_file() else b""
