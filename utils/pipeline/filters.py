"""Filters over stored scores: a clip passes with a row in every score file named and every value within its bounds.

An allow-list: a clip whose score failed, or belongs to an older cut of the same name, does not pass. DuckDB reads the columns that are
looked at, one file after the other, and joins them to the list by a hash of the path; the verdicts are arrays, a number a clip. Whole
rows are read of the clips alone that pass.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from utils.cli import Filter
from utils.errors import UsageError
from utils.pipeline.ancestry import PROVENANCE, is_checked, settings_of
from utils.pipeline.clip_table import FROM_FRAME_SIZE, ClipTable
from utils.pipeline.condition import connection, is_true_of, parse_condition
from utils.pipeline.lines import Lines, read_spans
from utils.pipeline.row_list import Rows, rows_in
from utils.rows import checked_row, parse_row, rows_of
from utils.rows.columns import SIZE, TEXT, Decoder, is_of, is_unusual
from utils.video_utils import relative_to

SLACK = 1e-3  # seconds by which a duration may miss its bound: timecodes are written to the millisecond
KEPT = -1  # in place of a reason
BATCH = 20_000  # clips whose rows are read at once
FIRST_ROWS = 1000  # of a file, that are asked for its columns
AS_RAW = msgspec.json.Decoder(list[dict[str, Raw]]).decode


class FilterResult:
    """The clips of a list held against filters.

    `code`: of each row of the list, by its number, why it is dropped, as a number of `reasons`, or KEPT; `value`: what it was dropped
    for; `is_clip`: false for a row that repeats a path. A filter's column may be several, joined by "|": the first that its file has. `columns_from`: score files whose columns `where` may name, too. `exclude`,
    `include`: files of marked clips, which are dropped (first of all reasons) and kept (whatever the filters say). `is_still`: images, which have no values of some filters.

    Raises: `UsageError` for a file that is missing, unfinished or lacks its column, a malformed row, or a wrong `where`.
    """

    def __init__(
        self,
        rows: Rows,
        filters: Sequence[Filter],
        where: str | None = None,
        columns_from: Sequence[str] = (),
        exclude: str | None = None,
        include: str | None = None,
    ):
        self.rows, self.filters, self.where = rows, list(map(_of_column_there, filters)), where
        self.files = list(dict.fromkeys([*(f.file for f in self.filters if f.file), *columns_from]))
        self.reasons = [reason for f in self.filters for reason in f.reasons()] + ["where", "excluded"]
        own = [f.column for f in self.filters if not f.file]
        with connection() as db:
            clips = ClipTable(db, rows, own)
            self.is_clip, self.renamed = clips.is_first, clips.renamed
            self.is_still = clips.is_still
            self.code = np.full(len(self.is_clip), KEPT, np.int16)
            self.value = np.full(len(self.is_clip), np.nan)
            self.at: dict[
                str, np.ndarray
            ] = {}  # of each score file, the number of each clip's row there, -1 where it has none
            self.marks: dict[int, str | None] = {}  # what is said of marked clips, by their numbers
            self.values = [self.value] * len(
                self.filters
            )  # of each filter, what it looks at, and where there is something
            self.has_value = [self.is_clip] * len(self.filters)
            for file in reversed(
                self.files
            ):  # of several files that have a column which the list lacks, the last counts
                wanted = [i for i, f in enumerate(self.filters) if f.file == file]
                self.at[file], found = clips.column_values(file, [self.filters[i].column for i in wanted])
                for i, values in zip(wanted, found):
                    self.values[i], self.has_value[i] = values, self.at[file] >= 0
            for i, f in enumerate(self.filters):
                if not f.file:
                    self.values[i], self.has_value[i] = clips.own[f.column], clips.has[f.column]
            for i in range(len(self.filters)):
                self._hold_against(i)
            if where is not None:
                self._apply(where)
            for marks, mark in ((include, "star"), (exclude, "drop")):
                if marks:
                    self._mark(clips, marks, mark)

    @cached_property
    def lines(self) -> Lines:
        """Of the list."""
        return Lines.of(self.rows.file)

    @property
    def count(self) -> int:
        return int(self.is_clip.sum())

    @property
    def passing(self) -> np.ndarray:
        """The numbers of the clips that pass."""
        return np.flatnonzero((self.code == KEPT) & self.is_clip)

    def drops(self) -> list[tuple[str, int]]:
        """Each filter's column, and how many clips it drops of those that reach it."""
        counts = np.bincount(self.code[self.is_clip & (self.code != KEPT)], minlength=len(self.reasons)).tolist()
        *of_filters, where, excluded = counts
        drops = [(f.column, sum(of_filters[3 * i : 3 * i + 3])) for i, f in enumerate(self.filters)]
        return [
            *([("excluded", excluded)] if excluded else []),
            *drops,
            *([("where", where)] if self.where is not None else []),
        ]

    def missing_code(self, i: int) -> int:
        """The code of clips for which filter number `i` found no value."""
        return 3 * i

    def _hold_against(self, i: int) -> None:
        """Drop what is still there and does not pass a filter."""
        f, value = self.filters[i], self.values[i]
        with np.errstate(invalid="ignore"):
            # NaN passes no bound.
            reason = np.select([~self.has_value[i], value < f.low, ~(value <= f.high)], [0, 1, 2], default=-1)
        if has_no_stills(f):
            reason[self.is_still & ~self.has_value[i]] = -1
        dropped = (self.code == KEPT) & (reason >= 0)
        self.code[dropped] = 3 * i + reason[dropped]
        self.value[dropped] = np.where(self.has_value[i], value, np.nan)[dropped]

    def _apply(self, where: str) -> None:
        """Drop the clips that pass all else and for which the condition is not true."""
        try:
            used = parse_condition(where, self.columns(FIRST_ROWS))
        except UsageError:  # a column that few rows have
            used = parse_condition(where, self.columns())
        passing = self.passing
        merged = (_with_short_side(row) for row in self._merged(passing))
        facts = ([row.get(column) for column in used] for row in merged)
        is_true = is_true_of(where, used, facts, len(passing), self.columns(FIRST_ROWS))
        self.code[passing[~is_true]] = self.reasons.index("where")

    def columns(self, first_rows: int | None = None) -> list[str]:
        """The columns that the files have, in their first rows or in all."""
        columns: dict[str, None] = {}
        for rows in [*map(rows_in, self.files), self.rows]:
            for line in Lines.first(rows.file, first_rows):
                columns |= dict.fromkeys(_raw([line])[0])
        found = [column for column in columns if column not in PROVENANCE]
        return [*found, *(c for c in FROM_FRAME_SIZE if "frame_size" in columns and c not in columns)]

    def _mark(self, clips: "ClipTable", path: str, mark: str) -> None:
        """Drop, or keep, the clips of a file's rows that have no mark or this one."""
        marked: dict[str, str | None] = {}
        relative = relative_to(self.rows.folder)
        for row in rows_of(path, ("video_path",), {"mark": TEXT, "reason": TEXT}):
            if row.get("mark", mark) == mark:
                marked[relative(row["video_path"])] = row.get("reason")
        numbers = clips.numbers_of(marked)
        self.code[list(numbers.values())] = self.reasons.index("excluded") if mark == "drop" else KEPT
        self.marks |= {number: marked[path] for path, number in numbers.items()}
        if len(numbers) < len(marked):
            print(f"{path}: {len(marked) - len(numbers):,} of {len(marked):,} marked clips are not in the list")

    # ---- What is written -------------------------------------------------------------------------------------------------

    def kept_lines(self) -> Iterator[bytes]:
        """The rows that pass, as lines: a clip's own columns and those of its score files; on a clash its own value
        stays. `pixels`: of a frame."""
        templates = _Templates()
        for row in self._merged(self.passing):
            yield templates[tuple(row)] % tuple(row.values())

    def _merged(self, numbers: np.ndarray) -> Iterator[dict[str, Raw]]:
        """The rows of clips with those of their score files."""
        files = map(rows_in, self.files)
        spans = [
            self.lines.spans(numbers),
            *(Lines.of(rows.file).spans(self.at[rows.name][numbers]) for rows in files),
        ]
        pixels = _Pixels()
        check = None if is_checked(self.rows.name) else Decoder({self.rows.column: str}, is_close=is_unusual)
        for begin in range(0, len(numbers), BATCH):
            part = slice(begin, begin + BATCH)
            lists = [read_spans(file, begins[part], lengths[part]) for file, begins, lengths in spans]
            for number, line, *others in zip(numbers[part].tolist(), *lists):
                row: dict[str, Raw] = {}
                *scores, clip = _raw([*others, line])
                for score in scores:
                    row |= score
                row.pop("made_from", None)  # of the scores; a clip's own says which shot it is of
                if check and not check.row(line):
                    checked_row(line, f"{self.rows.name}: line {number + 1}", {})
                row |= clip
                row.pop("stamp", None)
                row["video_path"] = self._path(number, row[self.rows.column])
                if "frame_size" in row:
                    row["pixels"] = pixels[bytes(row["frame_size"])]
                yield row

    def _path(self, number: int, path: Raw) -> Raw:
        """The JSON text of a clip's path as score files have it."""
        renamed = self.renamed.get(number) if self.renamed else None
        return path if renamed is None else Raw(json.dumps(renamed, ensure_ascii=False).encode())

    def dropped_lines(self) -> Iterator[bytes]:
        """The others, as lines: video_path, reason, value."""
        reasons, where = [json.dumps(reason, ensure_ascii=False) for reason in self.reasons], len(self.reasons) - 2
        dropped = np.flatnonzero((self.code != KEPT) & self.is_clip)
        path_alone = msgspec.defstruct("Path", [("path", Raw)], rename={"path": self.rows.column})
        decode: Any = msgspec.json.Decoder(path_alone).decode
        for begin in range(0, len(dropped), BATCH):
            part = dropped[begin : begin + BATCH]
            codes, values = self.code[part].tolist(), self.value[part].tolist()
            for number, line, code, value in zip(part.tolist(), self.lines.read(part), codes, values):
                try:
                    path = decode(line).path
                except msgspec.MsgspecError:
                    path = _raw([line])[0][self.rows.column]
                if code >= where:
                    shown = json.dumps(self.where if code == where else self.marks[number], ensure_ascii=False)
                else:
                    is_whole, is_nan = value % 1 == 0, value != value
                    shown = (
                        "null" if code % 3 == 0 else f"{value:.0f}" if is_whole else "NaN" if is_nan else f"{value!r}"
                    )
                rest = f', "reason": {reasons[code]}, "value": {shown}}}\n'.encode()
                yield b'{"video_path": %b%b' % (bytes(self._path(number, path)), rest)


def has_no_stills(f: Filter) -> bool:
    """Whether stills have no such value, and so are not held against it: a duration, or what a script measures of videos alone."""
    return f.column == "duration" if not f.file else settings_of(f.file).get("stills") is False


def _of_column_there(f: Filter) -> Filter:
    """Of columns joined by "|", the first that the file has: what a file that was begun by an older version is judged by."""
    if "|" not in f.column:
        return f
    columns = f.column.split("|")
    first = _raw(list(Lines.first(rows_in(f.file).file, 1)))
    there = [column for column in columns if first and column in first[0]]
    return replace(f, column=(there or columns)[0])


class _Templates(dict[tuple[str, ...], bytes]):
    """A line with places for the values, by its columns: most rows have the same."""

    def __missing__(self, columns: tuple[str, ...]) -> bytes:
        names = [json.dumps(column, ensure_ascii=False).replace("%", "%%") for column in columns]
        self[columns] = b"{" + ", ".join(f"{name}: %b" for name in names).encode() + b"}\n"
        return self[columns]


def _with_short_side(row: dict[str, Raw]) -> dict[str, Raw]:
    """What a condition, and the report, may name; no column of the set."""
    if "short_side" in row or "frame_size" not in row:
        return row
    sides = msgspec.json.decode(row["frame_size"])
    return row | {"short_side": Raw(b"%d" % min(sides) if is_of(sides, SIZE.type) else b"null")}


class _Pixels(dict[bytes, Raw]):
    """The JSON text of width times height, by that of a frame_size; null of what is none."""

    def __missing__(self, size: bytes) -> Raw:
        sides = msgspec.json.decode(size)
        self[size] = Raw(b"%d" % (sides[0] * sides[1]) if is_of(sides, SIZE.type) else b"null")
        return self[size]


def _raw(lines: list[bytes]) -> list[dict[str, Raw]]:
    """Rows whose values are the bytes that they are written as; none of an empty line."""
    try:
        return AS_RAW(b"[%b]" % b",".join([line or b"{}" for line in lines]))
    except msgspec.MsgspecError:  # NaN, or a mark at the beginning
        rows = [parse_row(line or b"{}", "") for line in lines]
        return [{c: Raw(json.dumps(value, ensure_ascii=False).encode()) for c, value in row.items()} for row in rows]


def passing_rows(rows: Rows, filters: Sequence[Filter]) -> np.ndarray | None:
    """The numbers of the rows that pass, for a script that works on those alone; None where there is no filter.

    Raises: `UsageError` as `FilterResult` does.
    """
    return FilterResult(rows, filters).passing if filters else None
