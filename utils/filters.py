"""Filters over stored scores: a clip passes with a row in every score file named and every value within its bounds.

An allow-list: a clip whose score failed, or belongs to an older cut of the same name, does not pass.
"""

import argparse
from dataclasses import dataclass

from utils.arguments import UsageError
from utils.row_processing import CLIP_COLUMNS, digest
from utils.rows import read_rows

SLACK = 1e-3  # seconds by which a duration may miss its bound: timecodes are written to the millisecond


@dataclass
class Filter:
    """A column and the bounds [low, high] that its value must lie in; of a list of numbers, their mean."""

    column: str
    low: float
    high: float
    rows: dict[str, dict] | None = None  # of the score file, by video_path; None for a column of the clip's own row

    def value(self, row: dict) -> float | None:
        """What the bounds are held against, or None where the clip has no score or that of another cut."""
        found = row if self.rows is None else self.rows.get(row["video_path"], {})
        value = found.get(self.column)
        other_clip = self.rows is not None and found.get("made_from") not in (None, digest(row, CLIP_COLUMNS))
        if value is None or other_clip:
            return None
        return sum(value) / len(value) if isinstance(value, list) else value

    def failure(self, row: dict) -> tuple[str, object] | None:
        """Why a clip does not pass, as (reason, value), or None when it does."""
        value = self.value(row)
        if value is None:
            return f"no {self.column}", None
        if not self.low <= value <= self.high:  # also NaN
            bound = f"below {self.low:g}" if value < self.low else f"above {self.high:g}"
            return f"{self.column} {bound}", value
        return None


def first_failure(filters: list[Filter], row: dict) -> tuple[str, object] | None:
    return next((failure for f in filters if (failure := f.failure(row))), None)


def add_filter_arguments(parser: argparse.ArgumentParser, *, motion: bool) -> None:
    """The flags that name score files and thresholds; with `motion`, the motion score's too."""
    group = parser.add_argument_group(
        "filters", "a clip passes with a row in every file named and each value in its bounds"
    )
    group.add_argument("--aesthetic_score_metadata_path", "--asethetic_score_metadata_path", metavar="FILE")
    group.add_argument(
        "--aesthetic_score_threshold", "--asethetic_score_threshold", type=float, default=4.0, help="least mean"
    )
    group.add_argument("--text_score_metadata_path", metavar="FILE")
    group.add_argument(
        "--text_score_threshold", type=float, default=0.02, help="largest share of the frame that text may cover"
    )
    if motion:
        group.add_argument("--motion_score_metadata_path", metavar="FILE")
        group.add_argument(
            "--low_motion_score_threshold",
            type=float,
            default=3.0,
            help="least motion, %% of the short side per second",
        )
        group.add_argument(
            "--high_motion_score_threshold", type=float, default=float("inf"), help="most motion, in the same unit"
        )
    group.add_argument(
        "--filter",
        nargs=4,
        action="append",
        default=[],
        metavar=("FILE", "COLUMN", "LOW", "HIGH"),
        help="any other score: its file, column and bounds (none for no bound); may be given several times",
    )


def filters_from(args: argparse.Namespace) -> list[Filter]:
    """The filters that the flags name, in the order of the stages.

    Raises: `UsageError` for a file that is missing or lacks its column, or a bound that is no number.
    """
    wanted = [
        (file, column, "-inf" if low == "none" else low, "inf" if high == "none" else high)
        for file, column, low, high in args.filter
    ]
    named = [
        ("aesthetic_score", args.aesthetic_score_threshold, float("inf")),
        ("text_score", float("-inf"), args.text_score_threshold),
    ]
    if hasattr(args, "motion_score_metadata_path"):
        named.append(("motion_score", args.low_motion_score_threshold, args.high_motion_score_threshold))
    wanted += [(path, name, low, high) for name, low, high in named if (path := getattr(args, f"{name}_metadata_path"))]
    # What comes from the motion score asks last: the others decided whether it was computed at all.
    motion_path = getattr(args, "motion_score_metadata_path", None)
    wanted.sort(key=lambda one: (one[0] == motion_path, one[1] != "motion_score" and one[0] == motion_path))
    filters = []
    for path, column, low, high in wanted:
        rows = read_rows(path, ("video_path", column))
        for row in rows:
            value = row[column]
            if not all(isinstance(one, (int, float)) for one in (value if isinstance(value, list) else [value])):
                raise UsageError(f"{path}: {row['video_path']}: {column} is {value!r}, not a number")
        try:
            bounds = float(low), float(high)
        except ValueError:
            raise UsageError(f"--filter {path} {column} {low} {high}: a bound is no number") from None
        filters.append(Filter(column, *bounds, {row["video_path"]: row for row in rows}))
    return filters
