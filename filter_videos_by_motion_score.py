"""Keep the clips that pass every filter: train.jsonl lists them with all their scores, dropped.jsonl lists the others with the
reason.

Thresholds are applied to stored scores, so trying another one takes no time; both files are rewritten on every run.

    python filter_videos_by_motion_score.py --video_metadata_path clips.jsonl --saved_path train.jsonl \\
        --aesthetic_score_metadata_path aesthetic_score.jsonl --aesthetic_score_threshold 4 \\
        --text_score_metadata_path text_score.jsonl --text_score_threshold 0.02 \\
        --motion_score_metadata_path motion_score.jsonl --low_motion_score_threshold 3 --plot scores.png

--exclude and --include take the marks of a report (make_report.py), or any list of clips.

--plot draws the histogram of every score over all clips with its thresholds: look at it before you choose them.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import argparse
import os
import shlex
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

from utils.cli import (
    Filter,
    add_filter_arguments,
    add_input_arguments,
    at_least,
    bound,
    file_to_write,
    filters_of,
    pixels,
    refuse_empty,
    run,
    script_parser,
)
from utils.errors import UsageError
from utils.pipeline.ancestry import inputs_of, write_settings
from utils.pipeline.filters import SLACK, FilterResult, has_no_stills
from utils.pipeline.row_list import open_rows
from utils.rows import refuse_overwriting, write_lines
from utils.startup import PROJECT
from utils.storage import is_url
from utils.working_copies import local_path, upload


def funnel(drops: list[tuple[str, int]], clips: int) -> str:
    """A table: each filter, the clips that reach it, those it drops, and their share."""
    steps, left = [], clips
    for column, dropped in drops:
        steps.append((column, left, dropped, 1 - (left - dropped) / max(left, 1)))
        left -= dropped
    width = max((len(column) for column, _ in drops), default=0)
    lines = [("filter".ljust(width), "in", "dropped", "share")]
    lines += [
        (column.ljust(width), f"{there:,}", f"{dropped:,}", f"{share:.1%}") for column, there, dropped, share in steps
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    table = [" ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([*table, f"kept {left:,} of {clips:,} ({left / max(clips, 1):.1%})"])


def png(text: str) -> Path:
    """An argparse type: a file name that ends in .png."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text} does not end in .png")
    return local_path(text)


def plot(path: Path, result: FilterResult) -> None:
    """Draw each filter's column over all clips, also those that another filter drops. NaN and infinity count as missing."""
    from utils.scoring.histograms import Histogram, draw_histograms  # matplotlib takes half a second

    histograms = []
    for f, values, has_value in zip(result.filters, result.values, result.has_value):
        known = values[has_value & result.is_clip & np.isfinite(values)].tolist()
        histograms.append(Histogram(f.column, known, f.low, f.high, missing=result.count - len(known)))
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_histograms(histograms).savefig(path)
    upload(path)


def save_settings(saved_path: Path, args: argparse.Namespace, filters: list[Filter]) -> None:
    """Write down what the rows were chosen by, for a report, and what they are made from: names of files beside them, or absolute paths."""

    def named(path: str | None) -> str | None:
        folder = saved_path.resolve().parent
        local = local_path(path).resolve() if path else folder
        if not path or local.is_relative_to(folder):
            return local.relative_to(folder).as_posix() if path else path
        return path if is_url(path) else os.path.abspath(path)

    files = [args.video_metadata_path, *(f.file for f in filters), *args.columns_from, args.exclude, args.include]
    settings = {
        "file": saved_path.name,
        "list": named(args.video_metadata_path),
        "filters": [f.settings | {"file": named(f.file or args.video_metadata_path)} for f in filters],
        "where": args.where, "columns_from": [named(path) for path in args.columns_from],
        "exclude": named(args.exclude), "include": named(args.include),
    }  # fmt: skip
    write_settings(saved_path, settings, inputs_of(saved_path, files))


SCORERS = ("crop_box", "video_frame_quality", "text_score", "audio_score", "motion_score", "duplicates")


def command_for(f: Filter, args: argparse.Namespace) -> str:
    """The command that makes a filter's score of these clips."""
    scorer = next((name for name in SCORERS if f.column in import_module(f"compute_{name}").SCORE.columns), None)
    if scorer is None:
        return "the script that makes it"
    where = {
        "--video_folder": args.video_folder,
        "--video_metadata_path": args.video_metadata_path,
        "--saved_path": f.file,
    }
    flags = [
        word for name, path in where.items() if path for word in (name, path if is_url(path) else os.path.abspath(path))
    ]
    if scorer == "video_frame_quality":
        metrics = import_module("compute_video_frame_quality").METRICS.items()
        flags += ["--metrics", *(name for name, metric in metrics if f.column in metric.columns)]
    return shlex.join([sys.executable, f"{PROJECT}/compute_{scorer}.py", *flags])


def report_missing(result: FilterResult, args: argparse.Namespace) -> None:
    """Print which scores none of the clips has that pass the bounds before: all of them are dropped for it."""
    for i, (f, has_value) in enumerate(zip(result.filters, result.has_value)):
        without = int((result.code == result.missing_code(i)).sum())  # no stills that the score leaves out
        if without and f.file and not (has_value & result.is_clip).any():
            errors = local_path(f.file).with_suffix(".errors.jsonl")
            why = f"; {errors.name} says why" if errors.exists() else ""
            print(
                f"{f.column} is missing: {f.file} has no row for any of the {without:,} clips{why}; run {command_for(f, args)}"
            )


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    parser.add_argument(
        "--saved_path",
        type=file_to_write,
        default="train.jsonl",
        help="the clips that pass (jsonl, csv or parquet), rewritten on every run",
    )
    parser.add_argument(
        "--dropped_path",
        type=file_to_write,
        help="the other clips, with the reason and the value (default: dropped.jsonl beside --saved_path)",
    )
    for flag in ("--overwrite", "--retry_errors"):
        parser.add_argument(flag, action="store_true", help="no effect: both files are rewritten on every run")
    add_filter_arguments(parser, motion=True)
    parser.add_argument("--min_seconds", type=bound, default=os.environ.get("MIN_SECONDS", "3"), help="shortest clip")
    parser.add_argument("--max_seconds", type=bound, default=os.environ.get("MAX_SECONDS", "10"), help="longest clip")
    parser.add_argument(
        "--resolution_threshold", type=pixels, default=0, help="minimum pixels per frame (or WIDTHxHEIGHT)"
    )
    parser.add_argument("--min_short_side", type=at_least(0), default=0, help="minimum short side of the frame, pixels")
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        help="keep only clips for which this SQL condition over all columns is true (\"technical_score > 5 and camera_motion like 'pan%%'\")",
    )
    parser.add_argument(
        "--columns_from",
        action="append",
        default=[],
        metavar="FILE",
        help="score file whose columns --where can use; repeatable",
    )
    parser.add_argument(
        "--exclude", metavar="FILE", help="clips to drop: a list, or the marks of a report (those marked drop)"
    )
    parser.add_argument(
        "--include",
        metavar="FILE",
        help="clips to keep whatever the filters say: a list, or the marks of a report (those marked star)",
    )
    parser.add_argument("--plot", type=png, metavar="FILE.png", help="plot the score histograms with the thresholds")
    args = parser.parse_args()
    saved_path = local_path(args.saved_path)
    dropped_path = local_path(args.dropped_path or saved_path.with_name(f"dropped{saved_path.suffix}"))
    scores = filters_of(args)
    refuse_empty(Filter("", "duration", args.min_seconds, args.max_seconds))
    written = {
        "--saved_path": saved_path,
        "--dropped_path": dropped_path,
        **({"--plot": args.plot} if args.plot else {}),
    }
    read = {name: getattr(args, name[2:]) for name in ("--video_metadata_path", "--exclude", "--include")}
    read |= {f"the scores {path}": path for path in (*(f.file for f in scores), *args.columns_from)}
    refuse_overwriting(written, read)
    length = Filter("", "duration", args.min_seconds - SLACK, args.max_seconds + SLACK)
    lowest = {"short_side": args.min_short_side, "pixels": args.resolution_threshold}
    size = [Filter("", column, low) for column, low in lowest.items() if low]
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    more = (args.where, args.columns_from, args.exclude, args.include)
    result = FilterResult(rows, [length, *size, *scores], *more)
    if (result.is_clip & ~result.is_still).any() and not result.has_value[0].any():
        # Of clips that are in no list the motion score alone knows how long they are, and no clip may have reached it.
        result = FilterResult(rows, [*size, *scores, length], *more)
        if (result.code == result.missing_code(len(result.filters) - 1)).any():
            raise UsageError(
                "no row has a duration: give clips.jsonl as --video_metadata_path, or --motion_score_metadata_path"
            )
    for path, lines in ((saved_path, result.kept_lines()), (dropped_path, result.dropped_lines())):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lines(path, lines)
    if args.plot:
        plot(args.plot, result)
    of_settings = [f for f in result.filters if f.column != "duration"]
    save_settings(saved_path, args, [Filter("", "duration", args.min_seconds, args.max_seconds), *of_settings])
    drops = result.drops()
    dropped = sum(count for _, count in drops)
    print(funnel(drops, result.count))
    if stills := int((result.is_still & result.is_clip).sum()):
        spared = list(dict.fromkeys(f.column for f in result.filters if has_no_stills(f)))
        print(f"{stills:,} of the rows are stills, exempt from scores that stills do not have: {', '.join(spared)}")
    report_missing(result, args)
    print(
        f"filter: {result.count:,} rows in = {result.count - dropped:,} kept + 0 errors + {dropped:,} filtered -> {args.saved_path}"
    )


if __name__ == "__main__":
    run(main)
