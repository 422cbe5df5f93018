"""Cut each video's shots into clips of 3 to 10 seconds that hold exactly the frames of their span.

Reads the rows of cutscene_detect.py (`video_path`, `timecode_list`, `transitions`) and writes one row per clip:
video_path, relative to --output_folder; source_path; source_digest, of its content; start_seconds, end_seconds in the source, from its first frame;
num_frames; frame_rate; frame_size [width, height] in pixels; duration in seconds; codec; has_audio; copied_frames, the
frames copied without re-encoding; bytes, the file's size; clip_count, the number of clips of the same source.

    python video_splitting.py --video_metadata_path scenes.jsonl --video_folder IN --output_folder OUT --saved_path clips.jsonl
    MAX_SECONDS=5 python video_splitting.py --video_metadata_path scenes.jsonl --video_folder IN --output_folder OUT
    --encoder libx264
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import argparse
import os
from dataclasses import asdict
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import av

from utils.cli import (
    add_output_arguments,
    add_worker_arguments,
    at_least,
    between,
    from_flags,
    pixels,
    run,
    script_parser,
)
from utils.cutting.clip_names import add_clip_prefixes, remove_unowned_clips
from utils.cutting.clip_track import Encoding
from utils.cutting.spans import ClipLimits, long_enough, shots_of, unusable_of, usable_spans
from utils.cutting.split import split_video
from utils.cutting.unfinished import sweep_unfinished
from utils.errors import UsageError
from utils.pipeline.process import RunOptions, Step, input_rows, process_rows
from utils.pipeline.ranks import Ranks
from utils.pipeline.result_file import settings_of
from utils.storage import is_url
from utils.video_utils import present_in
from utils.working_copies import local_path


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
        "--output_folder", required=True, help="folder for the clips; the folders of the sources are mirrored in it"
    )
    for flag, default, text in (("min", "3", "shorter shots are dropped"), ("max", "10", "longer shots are split")):
        default = os.environ.get(f"{flag.upper()}_SECONDS", default)
        group.add_argument(f"--{flag}_seconds", type=at_least(0.1, float), default=default, help=text)
    group.add_argument(
        "--long_shots",
        choices=["keyframe", "even", "greedy"],
        help="keyframe: split where --encoder smart has least to encode, at a loss of up to 5 %% of the frames; even: into "
        "equal parts; greedy: into pieces of --max_seconds, a short rest is dropped (default: that of the existing "
        "--saved_path, else keyframe)",
    )
    group.add_argument(
        "--transition_margin",
        type=between(0, 60, float),
        default=0.1,
        help="seconds left out of the clips on both sides of each dissolve, wipe or fade, besides its own frames",
    )
    group.add_argument(
        "--resolution_threshold",
        type=pixels,
        default=0,
        help="drop sources with fewer pixels than this number (or WIDTHxHEIGHT)",
    )
    group = parser.add_argument_group("encoding")
    group.add_argument(
        "--encoder",
        choices=["smart", "libx264", "h264_nvenc", "copy"],
        default="smart",
        help="smart copies whole GOPs of H.264 and encodes the edges with x264; copy is not exact: it starts at the "
        "keyframe before",
    )
    group.add_argument(
        "--crf", type=between(0, 51), default=18, help="quality when encoding; smaller is better and larger"
    )
    group.add_argument("--preset", default="veryfast", help="x264's preset")
    group.add_argument(
        "--encoder_threads", type=between(1, 128), default=1, help="x264's threads per process; for few, long sources"
    )
    group.add_argument("--no_audio", action="store_true", help="leave the audio out")
    args = parser.parse_args()
    if args.max_seconds < args.min_seconds:
        parser.error(f"--max_seconds {args.max_seconds:g} is below --min_seconds {args.min_seconds:g}")
    return args


def check_output_folder(folder: str, video_folder: str | None) -> None:
    """Makes the folder. Raises: `UsageError` when it cannot be written or is that of the sources."""
    if video_folder and os.path.realpath(local_path(video_folder)) == os.path.realpath(local_path(folder)):
        raise UsageError(f"--output_folder {folder} is the --video_folder; give the clips a folder of their own")
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
    rows = input_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    for row in rows:
        check_row(row, args.video_metadata_path, needs_size=bool(args.resolution_threshold))
    add_clip_prefixes(rows)

    if args.long_shots is None:  # a dataset goes on as it was begun
        before = {} if args.overwrite else settings_of(args.saved_path)
        args.long_shots = before.get("long_shots", ClipLimits.long_shots)
    limits = from_flags(ClipLimits, args)
    coded = {"encoder": args.encoder, "crf": args.crf, "preset": args.preset, "audio": not args.no_audio}
    encoding = Encoding(**coded, threads=args.encoder_threads, overwrite=args.overwrite)

    def passes(row: dict) -> bool:
        width, height = row["frame_size"] if args.resolution_threshold else (0, 0)
        return width * height >= args.resolution_threshold and bool(usable_spans(row, limits))

    sources = {row["video_path"] for row in rows}
    prefixes = {row["video_path"]: row["clip_prefix"] for row in rows if passes(row)}

    clips_there = cache(partial(present_in, args.output_folder))  # of a URL one listing, where it is asked for

    def is_whole(clips: list[dict]) -> bool:
        """Whether all clips of a source are listed and, where the source is one of `rows`, wanted and on disk."""
        source = clips[0]["source_path"]
        on_disk = all(clips_there()(clip["video_path"]) for clip in clips)
        return len(clips) == clips[0].get("clip_count", 1) and (
            source not in sources or (source in prefixes and on_disk)
        )

    step = Step(
        "video_splitting",
        partial(
            split_video,
            video_folder=args.video_folder,
            output_folder=args.output_folder,
            limits=limits,
            encoding=encoding,
        ),
        {**asdict(limits), **coded},
        passes=passes,
        depends_on=("timecode_list", "transitions", "clip_prefix", "damaged", "source_digest"),
        key="source_path",
        is_whole=is_whole,
        discard=partial(remove_unowned_clips, args.output_folder, prefixes),
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
    shots = [shot for row in rows for shot in shots_of(row)]
    short = sum(not long_enough(start, stop, args.min_seconds) for start, stop in shots)
    print(f"video_splitting: {short:,} of {len(shots):,} shots are shorter than {args.min_seconds:g} s and dropped")


if __name__ == "__main__":
    run(main)
