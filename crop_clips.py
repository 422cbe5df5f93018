"""Write cropped clips: each clip with a crop_box is encoded once to that box and stored beside the clip as NAME.cropped.mp4 (a still as
NAME.cropped.png).

Columns added: media_path, the file that a training set lists for the clip: the cropped file, or the clip itself if nothing is cropped;
media_size [width, height] in pixels; media_stamp, by which a rerun recognizes the file. All frames keep their timestamps, and the audio is kept.
Folder scans for videos skip these files.

    python crop_clips.py --video_folder datasets/panda_70m/train --video_metadata_path train.jsonl --saved_path cropped.jsonl
    python export_dataset.py --video_folder datasets/panda_70m/train --video_metadata_path summary_caption.jsonl \\
        --columns_from cropped.jsonl --saved_path datasets/panda_70m/train/train_panda_70m.json

crop_box is read from the list (stage 2 adds it) or from --crop_boxes. Exports to a folder do not need this script: they crop
while they encode.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from utils.cli import add_crop_argument, between, from_flags, row_parser, run
from utils.export.clip_steps import crop_box_of
from utils.export.media import X264_PRESETS, encode, measure
from utils.export.plan import Cut
from utils.pipeline.ancestry import CLIP_COLUMNS, is_file_of, stamp_of
from utils.pipeline.crops import CropBoxes
from utils.pipeline.process import RunOptions, process_rows
from utils.pipeline.row_list import open_rows
from utils.pipeline.score import Column, Score
from utils.storage import is_url, put
from utils.video_utils import cropped_name, locate

SCORE = Score(
    "cropped",
    "cropped.jsonl",
    {
        "media_path": Column("the file that a training set lists: the cropped clip, or the clip itself"),
        "media_size": Column("its [width, height] in pixels, null for the clip itself", 1),
        "media_stamp": Column("its content and its bytes, null for the clip itself"),
    },
)


def crop_clip(row: dict, video_folder: str | None, crf: int, preset: str) -> dict[str, Any]:
    """The columns of one clip, whose cropped file is there then. Raises: `VideoError`, `OutputError`."""
    path, columns = locate(row["video_path"], video_folder), dict.fromkeys(SCORE.columns)
    clip = measure(path)
    box = crop_box_of(row, clip.size)
    if box is None or box == [0, 0, *clip.size]:
        return {**columns, "media_path": row["video_path"]}
    name = cropped_name(row["video_path"])
    target, size = locate(name, video_folder), (box[2], box[3])
    cut = Cut((box[0], box[1], *size), size, list(range(len(clip.times))), None)
    if is_url(target):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, os.path.basename(name))
            encode(path, local, cut, crf, preset, clip.has_audio)
            put(local, target)
    else:
        encode(path, Path(target), cut, crf, preset, clip.has_audio)
    return {"media_path": name, "media_size": list(size), "media_stamp": stamp_of(target)}


def is_there(results: list[dict], video_folder: str | None) -> bool:
    """Whether a clip's file is still the one that was written."""
    (result,) = results
    path, stamp = result.get("media_path"), result.get("media_stamp")
    if not isinstance(path, str) or not isinstance(stamp, str):
        return path == result["video_path"]
    return is_file_of(stamp, locate(path, video_folder))


def main() -> None:
    parser = row_parser(__doc__, SCORE.saved_path)
    add_crop_argument(parser)
    parser.add_argument("--crf", type=between(0, 51), default=16, help="x264 CRF; 0 is lossless")
    parser.add_argument("--x264_preset", default="veryfast", choices=X264_PRESETS, help="x264's speed")
    args = parser.parse_args()
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    boxes = CropBoxes(args.crop_boxes, args.video_folder)
    if args.crop_boxes:
        rows.change = lambda row: {**row, "crop_box": boxes.of(row["video_path"])}
    step = SCORE.step(
        partial(crop_clip, video_folder=args.video_folder, crf=args.crf, preset=args.x264_preset),
        {"crf": args.crf, "preset": args.x264_preset},
        depends_on=(*CLIP_COLUMNS, "crop_box"),
        is_whole=partial(is_there, video_folder=args.video_folder),
        inputs=boxes.inputs,
        done_word="ready",
    )
    process_rows(step, rows, from_flags(RunOptions, args))


if __name__ == "__main__":
    run(main)
