"""Keep the clips that pass every filter: train.jsonl holds them with all their scores, dropped.jsonl the others with the
reason.

Thresholds are applied to stored scores, so trying another one takes no time; both files are written whole at each run.

    python filter_videos_by_motion_score.py --video_metadata_path clips.jsonl --saved_path train.jsonl \\
        --aesthetic_score_metadata_path aesthetic_score.jsonl --aesthetic_score_threshold 4 \\
        --text_score_metadata_path text_score.jsonl --text_score_threshold 0.02 \\
        --motion_score_metadata_path motion_score.jsonl --low_motion_score_threshold 3 --plot scores.png

--plot draws the histogram of every score over all clips, with its thresholds: look at it before you choose them.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import argparse
import math
import os
from pathlib import Path

import pandas as pd

from utils.cli import (
    add_filter_arguments,
    add_input_arguments,
    bound,
    file_to_write,
    filter_bounds,
    pixels,
    run,
    script_parser,
)
from utils.errors import UsageError
from utils.pipeline.filters import SLACK, Filter, first_failure, load_filters
from utils.pipeline.process import input_rows
from utils.rows import refuse_overwriting, write_rows
from utils.working_copies import local_path, upload


def with_scores(row: dict, filters: list[Filter]) -> dict:
    """The clip's row and the columns of its score files; on a clash the clip's own value stays. `pixels`: of a frame."""
    scores: dict = {}
    for f in filters:
        scores |= (f.rows or {}).get(row["video_path"], {})
    scores.pop("made_from", None)
    merged = {**scores, **row}
    size = merged.get("frame_size")
    return merged | ({"pixels": size[0] * size[1]} if size else {})


def funnel(filters: list[Filter], rows: list[dict]) -> str:
    """A table: each filter, the clips that reach it, those it drops, and their share."""
    steps, left = [], rows
    for f in filters:
        kept = [row for row in left if not f.failure(row)]
        steps.append((f.column, len(left), len(left) - len(kept), 1 - len(kept) / max(len(left), 1)))
        left = kept
    width = max((len(f.column) for f in filters), default=0)
    table = pd.DataFrame(steps, columns=["filter".ljust(width), "in", "dropped", "share"])
    formats = [lambda name: name.ljust(width), "{:,}".format, "{:,}".format, "{:.1%}".format]
    kept_line = f"kept {len(left):,} of {len(rows):,} ({len(left) / max(len(rows), 1):.1%})"
    return f"{table.to_string(index=False, formatters=formats)}\n{kept_line}"


def png(text: str) -> Path:
    """An argparse type: a file name that ends in .png."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text} does not end in .png")
    return local_path(text)


def plot(path: Path, filters: list[Filter], rows: list[dict]) -> None:
    """Draw each filter's column over all clips, also those that another filter drops. NaN and infinity count as missing."""
    from utils.scoring.histograms import Histogram, draw_histograms  # matplotlib takes half a second

    histograms = []
    for f in filters:
        values = [value for row in rows if (value := f.value(row)) is not None and math.isfinite(value)]
        histograms.append(Histogram(f.column, values, f.low, f.high, missing=len(rows) - len(values)))
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_histograms(histograms).savefig(path)
    upload(path)


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    parser.add_argument(
        "--saved_path",
        type=file_to_write,
        default="train.jsonl",
        help="the clips that pass (jsonl or csv), written whole",
    )
    parser.add_argument(
        "--dropped_path",
        type=file_to_write,
        help="the others, with reason and value (default: dropped.jsonl beside --saved_path)",
    )
    for flag in ("--overwrite", "--retry_errors"):
        parser.add_argument(flag, action="store_true", help="no effect: both files are written whole at each run")
    add_filter_arguments(parser, motion=True)
    parser.add_argument("--min_seconds", type=bound, default=os.environ.get("MIN_SECONDS", "3"), help="shortest clip")
    parser.add_argument("--max_seconds", type=bound, default=os.environ.get("MAX_SECONDS", "10"), help="longest clip")
    parser.add_argument(
        "--resolution_threshold", type=pixels, default=0, help="minimum pixels of a frame (or WIDTHxHEIGHT)"
    )
    parser.add_argument("--plot", type=png, metavar="FILE.png", help="the histograms, with the thresholds")
    args = parser.parse_args()
    saved_path = local_path(args.saved_path)
    dropped_path = local_path(args.dropped_path or saved_path.with_name(f"dropped{saved_path.suffix}"))
    bounds = filter_bounds(args)
    written = {
        "--saved_path": saved_path,
        "--dropped_path": dropped_path,
        **({"--plot": args.plot} if args.plot else {}),
    }
    read = {"--video_metadata_path": args.video_metadata_path, **{f"the scores {path}": path for path, *_ in bounds}}
    refuse_overwriting(written, read)
    filters = load_filters(bounds)
    rows = input_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    rows = [with_scores(row, filters) for row in rows]
    if rows and not any("duration" in row for row in rows):
        raise UsageError(
            "no row has a duration: give clips.jsonl as --video_metadata_path, or --motion_score_metadata_path"
        )
    length = Filter("duration", args.min_seconds - SLACK, args.max_seconds + SLACK)
    size = [Filter("pixels", args.resolution_threshold, math.inf)] if args.resolution_threshold else []
    filters = [length, *size, *filters]

    kept, dropped = [], []
    for row in rows:
        failure = first_failure(filters, row)
        if failure is None:
            kept.append(row)
        else:
            dropped.append({"video_path": row["video_path"], "reason": failure[0], "value": failure[1]})
    for path in (saved_path, dropped_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(saved_path, kept)
    write_rows(dropped_path, dropped)
    if args.plot:
        plot(args.plot, filters, rows)
    print(funnel(filters, rows))
    print(
        f"filter: {len(rows):,} rows in = {len(kept):,} kept + 0 errors + {len(dropped):,} filtered -> {args.saved_path}"
    )


if __name__ == "__main__":
    run(main)
