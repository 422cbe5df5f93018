"""Filters over stored scores: a clip passes with a row in every score file named and every value within its bounds.

An allow-list: a clip whose score failed, or belongs to an older cut of the same name, does not pass.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from utils.columns import SCORES
from utils.pipeline.process import CLIP_COLUMNS, digest
from utils.rows import read_rows

Bounds = tuple[str, str, float, float]  # a score file, its column, the lowest and the highest value that passes
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


def load_filters(bounds: Iterable[Bounds]) -> list[Filter]:
    """The filters with the scores that they are held against.

    Raises: `UsageError` for a file that is missing or lacks its column, or a value that is no number.
    """
    filters = []
    for path, column, low, high in bounds:
        rows = read_rows(path, ("video_path", column), {column: SCORES})
        filters.append(Filter(column, low, high, {row["video_path"]: row for row in rows}))
    return filters
