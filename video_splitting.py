"""Cut each video's shots into clips of 3 to 10 seconds that hold exactly the frames of their span.

Reads the rows of cutscene_detect.py (`video_path`, `timecode_list`, `transitions`) and writes one row per clip:
video_path, relative to --output_folder; source_path; source_digest, a hash of its content; start_seconds, end_seconds in the source, from its first frame;
num_frames; frame_rate; frame_size [width, height] in pixels; duration in seconds; codec; has_audio; copied_frames, the
number of frames copied without re-encoding; bytes, the file's size; clip_count, the number of clips of the same source; stamp, which identifies
the file as written.

    python video_splitting.py --video_metadata_path scenes.jsonl --video_folder IN --output_folder OUT --saved_path clips.jsonl
    MAX_SECONDS=5 python video_splitting.py --video_metadata_path scenes.jsonl --video_folder IN --output_folder OUT
    --encoder libx264
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import argparse
import os
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import av
import numpy as np

from utils.cli import (
    about,
    add_output_arguments,
    add_worker_arguments,
    at_least,
    between,
    from_flags,
    pixels,
    run,
    script_parser,
)
from utils.cutting.clip_names import clip_prefixes, is_as_written, orphans
from utils.cutting.clip_track import Encoding
from utils.cutting.spans import ClipLimits, long_enough, shots_of, unusable_of, usable_spans
from utils.cutting.split import split_video
from utils.cutting.unfinished import sweep_unfinished
from utils.errors import UsageError
from utils.models.voice import weights
from utils.pipeline.ancestry import last_checked, setting_of_existing, unchanged_sizes
from utils.pipeline.process import RunOptions, Step, process_rows
from utils.pipeline.row_list import open_rows, rows_in
from utils.storage import is_url
from utils.workers.ranks import Ranks
from utils.working_copies import local_path, remove


def parse_flags() -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("input")
    group.add_argument(
        "--video_metadata_path", required=True, help="rows of cutscene_detect.py (jsonl, csv or parquet)"
    )
    group.add_argument("--video_folder", help="folder that the rows' paths are relative to")
    group.add_argument("--video_path_column", default="video_path", help="column of the paths")
    add_output_arguments(parser, saved_path="clips.jsonl")
    add_worker_arguments(parser)
    group = parser.add_argument_group("clips")
    group.add_argument(
        "--output_folder", required=True, help="folder for the clips; mirrors the subfolders of the sources"
    )
    group.add_argument(
        "--remove_orphans",
        action="store_true",
        help="remove clips of earlier runs from --output_folder that are no longer listed because their source was deleted, renamed or cut differently",
    )
    for flag, default, text in (("min", "3", "shorter shots are dropped"), ("max", "10", "longer shots are split")):
        default = os.environ.get(f"{flag.upper()}_SECONDS", default)
        group.add_argument(f"--{flag}_seconds", type=at_least(0.1, float), default=default, help=text)
    group.add_argument(
        "--long_shots",
        choices=["keyframe", "even", "greedy"],
        help="how shots longer than --max_seconds are split. keyframe: where --encoder smart re-encodes least, losing up to 5 %% of the frames; even: into "
        "equal parts; greedy: into pieces of --max_seconds, dropping a short rest (default: that of the existing "
        "--saved_path, else keyframe)",
    )
    group.add_argument(
        "--prefer_pauses",
        action="store_true",
        help="split long shots at pauses in speech where --min_seconds and --max_seconds allow it; more frames are re-encoded",
    )
    group.add_argument(
        "--transition_margin",
        type=between(0, 60, float),
        default=0.1,
        help="seconds to leave out on both sides of each dissolve, wipe or fade, in addition to its own frames",
    )
    group.add_argument(
        "--resolution_threshold",
        type=pixels,
        default=0,
        help="drop sources with fewer pixels per frame than this (or WIDTHxHEIGHT)",
    )
    group = parser.add_argument_group("encoding")
    group.add_argument(
        "--encoder",
        choices=["smart", "libx264", "h264_nvenc", "copy"],
        default="smart",
        help="smart copies whole H.264 GOPs and encodes only the edges with x264; copy is not frame-exact: it starts at the "
        "previous keyframe",
    )
    group.add_argument(
        "--crf", type=between(0, 51), default=18, help="encoding quality (CRF): lower is better and makes larger files"
    )
    group.add_argument("--preset", default="veryfast", help="x264's preset")
    group.add_argument(
        "--encoder_threads",
        type=between(1, 128),
        default=1,
        help="x264 threads per process; raise it for few, long sources",
    )
    group.add_argument("--no_audio", action="store_true", help="drop the audio")
    args = parser.parse_args()
    if args.max_seconds < args.min_seconds:
        parser.error(f"--max_seconds {args.max_seconds:g} is below --min_seconds {args.min_seconds:g}")
    return args


def check_output_folder(folder: str, video_folder: str | None) -> None:
    """Makes the folder. Raises: `UsageError` when it cannot be written or is that of the sources."""
    if video_folder and os.path.realpath(local_path(video_folder)) == os.path.realpath(local_path(folder)):
        raise UsageError(f"--output_folder {folder} is the --video_folder; give the clips their own folder")
    if is_url(folder):
        return  # the result file, which is uploaded first, tells whether its bucket is there
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output_folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--output_folder {folder} cannot be written")


def check_encoder(encoder: str, preset: str) -> None:
    """Raises: `UsageError` when the encoder cannot be opened on this machine."""
    nvenc = encoder == "h264_nvenc"
    context = av.CodecContext.create("h264_nvenc" if nvenc else "libx264", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 320, 240, "yuv420p", Fraction(1, 25)
    context.options = {} if nvenc else {"preset": preset}
    try:
        context.open()
    except av.FFmpegError as error:
        hint = "it needs an NVIDIA GPU and its driver" if nvenc else f"is {preset!r} one of x264's presets?"
        raise UsageError(f"--encoder {encoder} cannot be opened here ({error.strerror}): {hint}") from None


def check_row(row: dict, list_path: str, needs_size: bool) -> None:
    """Raises: `UsageError` for a row that cutscene_detect.py would not have written."""
    at = f"{list_path}: {row['video_path']}"
    try:
        borders = [border for shot in shots_of(row) for border in shot]
        unusable_of(row)
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"{at}: timecode_list is {row.get('timecode_list')!r}, not [[start, end], ...]; make it with cutscene_detect.py"
        ) from None
    if borders != sorted(borders):
        raise UsageError(f"{at}: timecode_list has shots that overlap or are out of order")
    size = row.get("frame_size")
    if needs_size and not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size)):
        raise UsageError(f"{at}: frame_size is {size!r}, not [width, height], which --resolution_threshold needs")


def main() -> None:
    args = parse_flags()
    check_output_folder(args.output_folder, args.video_folder)
    check_encoder(args.encoder, args.preset)
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    with about(args.video_metadata_path):
        prefix_of = clip_prefixes(row["video_path"] for row in rows)
    if args.long_shots is None:
        args.long_shots = setting_of_existing(args.saved_path, args.overwrite, "long_shots", ClipLimits.long_shots)
    if args.prefer_pauses:
        with about("--prefer_pauses"):
            weights()
    limits = from_flags(ClipLimits, args)
    coded = {"encoder": args.encoder, "crf": args.crf, "preset": args.preset, "audio": not args.no_audio}
    encoding = Encoding(**coded, threads=args.encoder_threads, overwrite=args.overwrite)

    def prepared(row: dict) -> dict:
        check_row(row, args.video_metadata_path, needs_size=bool(args.resolution_threshold))
        return {**row, "clip_prefix": prefix_of(row["video_path"])}

    def passes(row: dict) -> bool:
        width, height = row["frame_size"] if args.resolution_threshold else (0, 0)
        return width * height >= args.resolution_threshold and bool(usable_spans(row, limits))

    rows.change = prepared
    passing = np.array([number for number in range(len(rows)) if passes(rows[number])], int)
    size_now = cache(
        partial(unchanged_sizes, args.output_folder, last_checked(args.saved_path))
    )  # where it is asked for

    def is_whole(clips: list[dict]) -> bool:
        """Whether all clips of a source are listed, and on disk as they were written."""
        there = [is_as_written(clip, args.output_folder, size_now()(clip["video_path"])) for clip in clips]
        return len(clips) == clips[0].get("clip_count", 1) and all(there)

    step = Step(
        "video_splitting",
        partial(
            split_video,
            video_folder=args.video_folder,
            output_folder=args.output_folder,
            limits=limits,
            encoding=encoding,
        ),
        {**limits.settings, **coded},
        passing=passing,
        depends_on=("timecode_list", "transitions", "clip_prefix", "damaged", "source_digest"),
        opens_video=False,  # `source_digest` tells its content
        key="source_path",
        is_whole=is_whole,
        done_word="cut",
    )
    ranks = Ranks()
    try:
        process_rows(step, rows, from_flags(RunOptions, args), ranks)
    finally:
        if ranks.rank == 0:  # also after a signal or a full disk: what was being written is of no use
            sweep_unfinished(local_path(args.output_folder))
    if ranks.rank:
        return
    left = orphans(args.output_folder, rows_in(args.saved_path).scan(quiet=True).keys)
    for clip in left if args.remove_orphans else ():
        remove(local_path(args.output_folder) / clip)
    if left:
        what = "are removed" if args.remove_orphans else "stay in the folder unlisted; --remove_orphans removes them"
        print(
            f"video_splitting: {len(left):,} clips of sources that are gone, or of shots that are now cut differently, {what}"
        )
    shots = [shot for row in rows for shot in shots_of(row)]
    short = sum(not long_enough(start, stop, args.min_seconds) for start, stop in shots)
    print(f"video_splitting: {short:,} of {len(shots):,} shots are shorter than {args.min_seconds:g} s and dropped")


if __name__ == "__main__":
    run(main)
