"""Write the training set in a trainer's layout, and report beforehand how each clip will be used.

Without --export_folder: one JSON list at --saved_path, [{"file_path": ..., "text": ..., "type": "video"}, ...], `file_path`
relative to the video folder; the clips are untouched. With it: a folder with lists, trainer settings, a dataset card, and the
clips as links, as copies, or encoded once to the frame rate, frame count and size that --model trains on.

    python export_dataset.py --video_metadata_path summary_caption.jsonl --video_folder datasets/panda_70m/train \\
        --saved_path datasets/panda_70m/train_panda_70m.json
    python export_dataset.py --video_metadata_path summary_caption.jsonl --video_folder CLIPS --format musubi --model wan2.1 \\
        --export_folder wan_set --dry_run
    python export_dataset.py --video_metadata_path summary_caption.jsonl --video_folder CLIPS --columns_from train.jsonl \\
        --format diffusion_pipe --model ltx2 --val_share 0.02 --export_folder ltx_set

Columns used, from the list or --columns_from: crop_box (from compute_crop_box.py) is the region of the frame to encode;
source_path and duplicate_group keep a video and its copies on one side of the --val_share split; control_path, reference_path, mask_path
and first_frame are videos and images that are exported with a clip.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from utils.captioning.attributes import PLACEHOLDER, is_placeholder
from utils.cli import (
    add_input_arguments,
    add_worker_arguments,
    at_least,
    between,
    from_flags,
    json_file,
    run,
    script_parser,
)
from utils.errors import UsageError
from utils.export.captions import CHOICES, captions_of, chosen
from utils.export.dataset import Export
from utils.export.formats import FORMATS
from utils.export.media import X264_PRESETS
from utils.export.models import MODELS, Size, Target
from utils.export.plan import FPS_MODES
from utils.export.trainers import audio_of, models_of, pair_of, target_for, trainers_of
from utils.pipeline.process import RunOptions
from utils.pipeline.row_list import Rows, open_rows, with_columns
from utils.rows import atomic_write, refuse_overwriting
from utils.rows.columns import TEXTS
from utils.storage import is_url
from utils.video.stills import is_still
from utils.video_utils import present_in
from utils.working_copies import local_path


def write_list(rows: Sequence[dict], args: argparse.Namespace) -> None:
    """The one list, without a folder: the clips stay where they are, and the cropped form of a clip is listed in place of it where a column
    `media_path` names one.
    """
    check_crops(rows)
    for row in rows:
        path = row["video_path"]
        if args.video_folder and (os.path.isabs(path) or is_url(path) or path.startswith("../")):
            raise UsageError(
                f"{args.video_metadata_path}: {row['video_path']} is outside --video_folder {args.video_folder}; "
                "give the folder that holds all videos"
            )
    entries, missing, is_there = [], 0, present_in(args.video_folder)
    for row in rows:
        path = medium_of(row)
        if path is None or (args.video_folder and not is_there(path)):
            missing += 1
        else:
            kind = "image" if is_still(path) else "video"
            entries.append({"file_path": path, "text": caption_of(row, args), "type": kind})
    saved_path = local_path(args.saved_path)
    saved_path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(entries, ensure_ascii=False, indent=2) + "\n"
    with atomic_write(saved_path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    if made_up := sum(map(is_placeholder, rows)):
        print(f"export: {made_up:,} captions are placeholders, {PLACEHOLDER}")
    print(
        f"export: {len(rows):,} rows in = {len(entries):,} written + {missing:,} errors (no such file) + 0 filtered -> {args.saved_path}"
    )


def check_crops(rows: Sequence[dict]) -> None:
    """Raises: `UsageError` where clips are to be cropped and none has been: whole frames are not what was judged."""
    uncropped = [row["video_path"] for row in rows if medium_of(row) is None]
    if uncropped and not any("media_path" in row for row in rows):
        raise UsageError(
            f"{uncropped[0]}: has a crop_box, but there is no column media_path with its cropped file: run crop_clips.py and pass "
            "its result as --columns_from, or use whole frames with --ignore_crop_boxes"
        )


def of_media(rows: Sequence[dict]) -> list[dict]:
    """The rows of the files that a set lists, for what takes them as they are. Raises: `UsageError` as `check_crops`."""
    check_crops(rows)
    return [{**row, "video_path": medium} for row in rows if (medium := medium_of(row))]


def medium_of(row: dict) -> str | None:
    """The file that a set lists for a clip: its cropped form, if it is cropped; None where that was not made."""
    path = row.get("media_path") if is_cropped(row) else row["video_path"]
    return path if isinstance(path, str) else None


def is_cropped(row: dict) -> bool:
    """Whether a clip passed because of its crop box."""
    return row.get("crop_box") is not None and (row.get("crop_share") != 1 or any(row.get("crop_bars") or ()))


def caption_of(row: dict, args: argparse.Namespace) -> str:
    """The one caption of a list without a folder."""
    captions = captions_of(row[args.caption_column])
    return chosen(captions, args.caption or "first", row["video_path"]) if captions else ""


def size(text: str) -> Size:
    """An argparse type: WIDTHxHEIGHT."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and 16 <= int(width) <= 8192 and 16 <= int(height) <= 8192):
        raise argparse.ArgumentTypeError(f"{text} is not WIDTHxHEIGHT, each 16 to 8192 pixels")
    return int(width), int(height)


def rate(text: str) -> Fraction:
    """An argparse type: frames a second, 24 or 23.976 or 24000/1001."""
    try:
        fps = Fraction(text).limit_denominator(1001)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if not 1 <= fps <= 240:
        raise argparse.ArgumentTypeError(f"{text} is not a frame rate from 1 to 240")
    return fps


def frame_count(text: str) -> int:
    """An argparse type: a number of frames, or "any" for all that the model allows, which is 0."""
    return 0 if text == "any" else int(between(2, 100_000)(text))


def share(text: str) -> float:
    """An argparse type: a number from 0 up to 0.5."""
    return between(0, 0.5, float)(text)


def target_of(args: argparse.Namespace, media: str) -> Target:
    """What the format's trainer makes of the model, and what was set by hand in place of it. Media that are not encoded keep their sizes
    and lengths, so that only the model's rule is left.
    """
    if args.model and args.model not in models_of(args.format):
        raise UsageError(
            f"--format {args.format} does not train {args.model}, but {', '.join(models_of(args.format))}; "
            f"{args.model} is trained by --format {', '.join(trainers_of(args.model))}"
        )
    target = target_for(args.format, args.model) if args.model else Target()
    if media != "encode":
        return replace(target, buckets=(), counts=(), extra_frames=0)
    multiple = args.size_multiple or target.multiple
    buckets = tuple(args.buckets or ())
    if wrong := [f"{w}x{h}" for w, h in buckets if w % multiple or h % multiple]:
        raise UsageError(f"--buckets {wrong[0]}: both sides must be multiples of {multiple} (--size_multiple)")
    if args.max_pixels and args.buckets:
        raise UsageError("--max_pixels and --buckets cannot be combined: buckets already set the sizes")
    if args.frames and target.step and (odd := [count for count in args.frames if not _follows(count, target)]):
        raise UsageError(f"--frames {odd[0]}: {args.model} takes {target.rule}")
    counts = target.lengths() if not args.frames else () if 0 in args.frames else tuple(sorted(args.frames))
    if args.max_pixels:
        target = replace(target, buckets=(), max_pixels=args.max_pixels)
    kept = tuple(b for b in target.buckets if b[0] % multiple == b[1] % multiple == 0)
    return replace(
        target,
        fps=args.fps or target.fps,
        counts=counts,
        multiple=multiple,
        buckets=buckets or kept,
    )


def _follows(count: int, target: Target) -> bool:
    """Whether a number of frames is one of the model's rule, however many."""
    return count == 0 or (count % target.step == target.remainder and count >= target.min_frames)


def with_more_columns(listed: Rows, args: argparse.Namespace) -> Sequence[dict]:
    """The rows with the columns of --columns_from, and without crop boxes where these are to be ignored."""
    rows = with_columns(listed, args.columns_from, args.video_folder) if args.columns_from else listed
    if not args.ignore_crop_boxes:
        return rows
    return [{name: value for name, value in row.items() if name not in ("crop_box", "media_path")} for row in rows]


def check_audio(choice: str, name: str, model: str | None, media: str) -> None:
    """Raises: `UsageError` for a choice of --audio that these media, this format or this model do not have."""
    if choice == "drop" and media != "encode":
        raise UsageError(
            f"--audio drop: --media {media} leaves the files as they are; use encode to write them without audio"
        )
    if choice in ("require", "split") and not audio_of(name, model):
        hearing = ", ".join(other for other in FORMATS if audio_of(other, None))
        with_model = f" for {model}" if model else ""
        raise UsageError(
            f"--audio {choice}: what reads {name}{with_model} uses no audio; {hearing} do for models that hear"
        )
    if choice in ("drop", "split") and pair_of(name, model).silent == "never":
        raise UsageError(
            f"--audio {choice}: {name} trains {model} on clips with audio alone; keep, the default, leaves others out"
        )


def write_sets(export: Callable[..., Export], rows: Sequence[dict], args: argparse.Namespace) -> None:
    """Make the export, or the two of --audio split, each in a folder of its own; or print what they would be."""
    sets = {"with_audio": "require", "without_audio": "without"} if args.audio == "split" else {"": args.audio}
    for name, audio in sets.items():
        if name:
            print(f"{name}:")
        if args.dry_run:
            with tempfile.TemporaryDirectory() as folder:
                export(Path(folder), audio=audio).show_plan(rows, args.dry_run == "clips")
        else:
            export(Path(args.export_folder, name), audio=audio).write(rows)


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    parser.add_argument(
        "--caption_column", default="summary_caption", help="column of the list that holds the text, or a list of texts"
    )
    parser.add_argument("--caption", choices=CHOICES, help="which caption to use of a list; random depends on the clip's name only (default: the first, or all if the trainer takes several: diffusion_pipe, simpletuner)")  # fmt: skip
    parser.add_argument(
        "--columns_from",
        action="append",
        default=[],
        metavar="FILE",
        help="file with extra columns of the clips; repeatable",
    )
    group = parser.add_argument_group("output")
    group.add_argument(
        "--saved_path",
        type=json_file,
        default="train_panda_70m.json",
        help="the JSON list to write, without --export_folder",
    )
    group.add_argument("--export_folder", help="folder of the export: lists, settings, card, media; a rerun resumes it")
    group.add_argument(
        "--format", choices=list(FORMATS), default="easyanimate", help="trainer or library to export for"
    )
    group.add_argument(
        "--dry_run",
        nargs="?",
        const="clips",
        choices=["clips", "table"],
        help="print the plan of each clip and a table, or only the table, and write nothing",
    )
    group.add_argument("--license", help="license of the clips, for the card")
    group.add_argument(
        "--saved_freq",
        type=at_least(1),
        default=100,
        help="save progress every N clips, or every five seconds",
    )
    group.add_argument("--overwrite", action="store_true", help="rewrite all media")
    group.add_argument("--retry_errors", action="store_true", help="retry failed clips")
    group = parser.add_argument_group("encoding (each clip is encoded once)")
    group.add_argument(
        "--model",
        choices=list(MODELS),
        help="video model; sets frame rate, frame counts and sizes (table in docs/export.md)",
    )
    group.add_argument("--media", choices=["none", "link", "copy", "encode"], help="how clips get into the folder: not at all (listed where they are), as hard links, copied, or encoded (default: encode with --model or a flag of this group, else link)")  # fmt: skip
    group.add_argument("--fps", type=rate, help="frame rate (default: the model's, else the clip's)")
    group.add_argument(
        "--frames",
        type=frame_count,
        nargs="+",
        metavar="N",
        help="allowed frame counts; a clip gets the largest one it can fill; any: all that the model allows (default: the model's maximum, four fifths of it, 3 s and 1.5 s)",
    )
    group.add_argument("--size_multiple", type=between(2, 256), help="width and height are multiples of this, pixels")
    group.add_argument(
        "--buckets",
        type=size,
        nargs="+",
        metavar="WIDTHxHEIGHT",
        help="allowed sizes; a clip gets the one with the nearest aspect ratio",
    )
    group.add_argument(
        "--max_pixels",
        type=between(256, 2**26),
        help="maximum pixels per frame, instead of buckets: larger frames are downscaled, keeping their aspect ratio",
    )
    group.add_argument(
        "--max_upscale", type=at_least(1, float), help="leave out clips that would be upscaled by more than this factor"
    )
    group.add_argument(
        "--fps_mode",
        choices=FPS_MODES,
        default="nearest",
        help="how the frame rate is changed: nearest frame in time, previous (the frame a player would show), or keep the rate",
    )
    group.add_argument("--crf", type=between(0, 51), default=16, help="x264's quality, 0 for lossless")
    group.add_argument("--x264_preset", default="medium", choices=X264_PRESETS, help="x264's speed")
    group.add_argument(
        "--ignore_crop_boxes", action="store_true", help="encode whole frames even if there is a column crop_box"
    )
    group.add_argument("--first_frames", action="store_true", help="also write each clip's first frame as PNG")
    group = parser.add_argument_group("which clips")
    group.add_argument(
        "--val_share",
        type=share,
        default=0.0,
        help="share held out for validation; a source and its duplicates stay on one side",
    )
    group.add_argument(
        "--balance",
        metavar="COLUMN",
        help="balance by this column: no value gets more clips than the rarest; numbers are binned by quartile",
    )
    group.add_argument(
        "--batch_size",
        type=at_least(1),
        help="give up buckets (size and length) with fewer clips; their clips go to another bucket, or are left out",
    )
    group.add_argument(
        "--audio",
        choices=["keep", "drop", "require", "split"],
        default="keep",
        help="keep: audio is kept if the trainer uses it; drop: encode without audio; require: leave out clips without audio; split: two "
        "exports, with_audio and without_audio in --export_folder",
    )
    group.add_argument("--max_per_source", type=at_least(1), help="maximum clips per source video")
    add_worker_arguments(parser)
    args = parser.parse_args()
    if not args.video_metadata_path:
        parser.error("--video_metadata_path is required: the rows with the captions")
    chosen = [
        name for name in ("model", "fps", "frames", "size_multiple", "buckets", "max_pixels") if getattr(args, name)
    ]
    media = args.media or ("encode" if chosen else "link")
    in_folder = args.export_folder or args.dry_run
    if not in_folder and (
        args.format != "easyanimate"
        or chosen
        or args.media
        or args.val_share
        or args.balance
        or args.max_per_source
        or args.first_frames
        or args.batch_size
        or args.audio != "keep"
    ):
        parser.error("--export_folder is required: these flags write a folder")
    if media != "encode" and (needs := [name for name in chosen if name != "model"]):
        parser.error(f"--{needs[0]} needs --media encode")
    target = target_of(args, media)
    if args.batch_size and not (target.buckets and target.counts):
        parser.error(
            "--batch_size needs buckets to choose from: pass --model, or --buckets and --frames, with --media encode"
        )
    check_audio(args.audio, args.format, args.model, media)
    if media == "none" and FORMATS[args.format].has_files:
        parser.error(f"--media none: {args.format} expects the clips in its folder; link puts them there at no cost")
    if is_url(args.export_folder or ""):
        parser.error(f"--export_folder {args.export_folder}: must be a local folder; copy it afterwards")
    refuse_overwriting({"--saved_path": args.saved_path}, {"--video_metadata_path": args.video_metadata_path})
    needed = {args.caption_column: TEXTS}
    listed = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column, needed).scan()
    rows = with_more_columns(listed, args)
    if not in_folder:
        write_list(rows, args)
        return
    if media == "none" and (is_url(args.video_folder) or any(is_url(row["video_path"]) for row in rows)):
        raise UsageError("--media none: trainers cannot read clips behind a URL; copy or encode them")
    if media in ("link", "copy"):
        rows = of_media(rows)
    if args.balance and rows and not any(args.balance in row for row in rows):
        raise UsageError(f"--balance {args.balance}: no row has this column; pass a file that has it as --columns_from")
    export = partial(
        Export, format=args.format, model=args.model, target=target, media=media, fps_mode=args.fps_mode, crf=args.crf, preset=args.x264_preset,
        first_frames=args.first_frames, max_upscale=args.max_upscale, val_share=args.val_share, balance=args.balance,
        max_per_source=args.max_per_source, license=args.license, caption_column=args.caption_column, batch_size=args.batch_size,
        caption=args.caption, options=from_flags(RunOptions, args, saved_path=""),
    )  # fmt: skip
    write_sets(export, rows, args)


if __name__ == "__main__":
    run(main)
