"""Filters over stored scores: a clip passes with a row in every score file named and every value within its bounds.

An allow-list: a clip whose score failed, or belongs to an older cut of the same name, does not pass. The rule is one
query of DuckDB over the list and its score files, whatever their size.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.columns import PATH, SCORES, TEXT
from utils.database import connection, name, parse_condition, passing, text
from utils.pipeline.process import CLIP_COLUMNS, input_rows, is_large
from utils.pipeline.tables import Table, as_table_writes, make_keys, name_of, row_of, sql_digest
from utils.rows import digest, dumps, read_rows
from utils.storage import exists
from utils.video_utils import relative_to_folder
from utils.working_copies import local_path

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Bounds = tuple[str, str, float, float]  # a score file, its column, the lowest and the highest value that passes
SLACK = 1e-3  # seconds by which a duration may miss its bound: timecodes are written to the millisecond
KEY, MADE_FROM = name_of("video_path"), name_of("made_from")
OTHERS = ("where", "excluded")  # why a clip is dropped, beside filters
SUM = "fsum" if sys.version_info >= (3, 12) else "sum"  # as Python adds the numbers of a list


@dataclass(frozen=True)
class Filter:
    """A column and the bounds [low, high] that its value must lie in; of a list of numbers, their mean."""

    column: str
    low: float
    high: float
    path: str = ""  # of the score file; "" for a column of the clip's own row

    def reasons(self) -> tuple[str, str, str]:
        """Why a clip does not pass, by the number that `failure` gives."""
        return f"no {self.column}", f"{self.column} below {self.low:g}", f"{self.column} above {self.high:g}"

    def failure(self, value: str, first: int) -> str:
        """SQL: which reason, counted from `first`, the JSON text `value` gives not to pass; NULL where it passes."""
        number, low, high = f"{value}::DOUBLE", f"'{self.low!r}'::DOUBLE", f"'{self.high!r}'::DOUBLE"
        return (  # NaN is above everything to DuckDB, and passes no bound
            f"CASE WHEN {value} IS NULL THEN {first} WHEN {number} < {low} THEN {first + 1} "
            f"WHEN {number} > {high} OR isnan({number}) THEN {first + 2} END"
        )


class Judged:
    """The clips of a list held against filters, in the order of the list.

    `columns_from`: score files whose columns `where` may name, too. `exclude`, `include`: files of marked clips, which are
    dropped (first of all reasons) and kept (whatever the filters say).

    Raises: `UsageError` for a file that is missing or lacks its column, a malformed row, or a wrong `where`.
    """

    def __init__(
        self,
        db: "DuckDBPyConnection",
        listed: tuple[str | None, str | None, str],
        own: Sequence[Filter],
        bounds: Iterable[Bounds],
        where: str | None = None,
        columns_from: Sequence[str] = (),
        exclude: str | None = None,
        include: str | None = None,
    ):
        self.db, self.where, self.folder = db, where, listed[0]
        scores = [Filter(column, low, high, path) for path, column, low, high in bounds]
        self.filters = [*own, *scores]
        self.tables: list[Table] = []  # the score files, in the order of their filters
        for path in dict.fromkeys([*(f.path for f in scores), *columns_from]):
            kinds = dict.fromkeys((f.column for f in scores if f.path == path), SCORES)
            self.tables.append(Table(db, f"score{len(self.tables)}", path, ("video_path", *kinds), kinds))
        self.clips = self._listed(*listed)
        self.columns = list(dict.fromkeys(c for table, columns in self.sources() for c in columns))
        if "frame_size" in self.columns and "pixels" not in self.columns:
            self.columns.append("pixels")
        used = parse_condition(where, self.columns) if where is not None else []
        looked_at = list(dict.fromkeys([*used, *CLIP_COLUMNS, *(f.column for f in own)]))
        if "pixels" in looked_at:
            looked_at.append("frame_size")
        path = listed[2] if listed[2] in self.clips.columns else "video_path"
        self.clips.load(list(dict.fromkeys([path, *looked_at])), "clips.idx")
        self.count = make_keys(self.clips, path, self.folder)
        for table in self.tables:
            filtered = [f.column for f in scores if local_path(f.path) == table.path]
            wanted = list(dict.fromkeys([*looked_at, *filtered, "made_from"]))
            table.load(wanted, "keys.idx", f"LEFT JOIN keys ON keys.key = {table.name}.{KEY}")
        self._judge()
        if where is not None:
            self._apply(where, used)
        for marks, mark in ((include, "star"), (exclude, "drop")):
            if marks:
                self._mark(marks, mark)

    def _listed(self, folder: str | None, path: str | None, column: str) -> Table:
        if path and not path.lower().endswith(".txt") and (not folder or exists(folder)):
            return Table(self.db, "clips", path, (column,), {column: PATH})
        (there,) = self.db.execute("SELECT path FROM folder").fetchone() or ("",)
        found = Path(there) / "listed.jsonl"
        with open(found, "w", encoding="utf-8") as out:
            out.writelines(dumps(row) + "\n" for row in input_rows(folder, path, column))
        return Table(self.db, "clips", found)

    def sources(self) -> list[tuple[str, list[str]]]:
        """Where a clip's columns come from: its score files, then its own row, which wins."""
        sources = [(table.name, [c for c in table.columns if c != "made_from"]) for table in self.tables]
        return [*sources, ("clips", self.clips.columns)]

    def value(self, column: str) -> str:
        """SQL: the JSON text of a clip's column."""
        if column == "video_path":
            return "keys.key"
        found = [f"{source}.{name_of(column)}" for source, columns in reversed(self.sources()) if column in columns]
        if column == "pixels" and any("frame_size" in columns for _, columns in self.sources()):
            size = self.value("frame_size")
            sides = [f"({size}::{kind}[])[1] * ({size}::{kind}[])[2]" for kind in ("HUGEINT", "DOUBLE")]
            found.insert(
                0,
                f"CASE WHEN regexp_matches({size}, '[.e]') THEN ({sides[1]})::VARCHAR ELSE ({sides[0]})::VARCHAR END",
            )
        return f"coalesce({', '.join(found)})" if found else "NULL::VARCHAR"

    def joined(self, kind: str = "facts") -> str:
        """SQL: all clips with what is loaded of them, or those that pass with all their columns, where `kind` is "wide"."""
        joins = [f"LEFT JOIN {t.name}_{kind} AS {t.name} ON {t.name}.clip = clips.clip" for t in self.tables]
        return f"clips_{kind} AS clips JOIN keys ON keys.idx = clips.clip {' '.join(joins)}"

    def _judge(self) -> None:
        """The table `facts`: of each clip, the text of what each filter is held against, and the table `judged`: why it
        is dropped, and the value; NULL where it is kept."""
        stale = [t for t in self.tables if "made_from" in t.columns]
        made = sql_digest({c: self.value(c) for c in CLIP_COLUMNS if c in self.columns})
        columns = [f"{t.name}.idx AS row_of_{t.name}" for t in self.tables]
        columns += [f"{mean(self._found(f))} AS value{i}" for i, f in enumerate(self.filters)]
        columns += [f"{t.name}.{MADE_FROM} AS made_{t.name}" for t in stale]
        not_needed = ", ".join(["made", *(f"made_{t.name}" for t in stale)])
        differs = "".join(f", coalesce(made_{t.name} <> made, false) AS stale_{t.name}" for t in stale)
        self.db.execute(
            f"CREATE TABLE facts AS SELECT * EXCLUDE ({not_needed}){differs} "
            f"FROM (SELECT {', '.join(['keys.idx', *columns])}, {made} AS made FROM {self.joined()})"
        )
        for table in stale:
            self._forgive_spelling(table)
            self.db.execute(f"UPDATE facts SET row_of_{table.name} = NULL WHERE stale_{table.name}")
            self.db.execute(
                f"DELETE FROM {table.name}_facts WHERE clip IN (SELECT idx FROM facts WHERE stale_{table.name})"
            )
        values = []
        for i, f in enumerate(self.filters):
            table_name = next((t.name for t in stale if f.path and t.path == local_path(f.path)), None)
            values.append(f"CASE WHEN stale_{table_name} THEN NULL ELSE value{i} END" if table_name else f"value{i}")
        # By code: three a filter, then of each of OTHERS the first of three.
        self.reasons = [
            *(reason for f in self.filters for reason in f.reasons()),
            *(r for o in OTHERS for r in (o, "", "")),
        ]
        failures = [f.failure(value, 3 * i) for i, (f, value) in enumerate(zip(self.filters, values, strict=True))]
        value = " ".join(["WHEN -1 THEN NULL::VARCHAR", *(f"WHEN {i} THEN {v}" for i, v in enumerate(values))])
        self.db.execute(
            f"CREATE TABLE judged AS SELECT idx, code, CASE code // 3 {value} END AS value "
            f"FROM (SELECT *, (coalesce({', '.join([*failures, 'NULL'])}))::SMALLINT AS code FROM facts)"
        )

    def _found(self, f: Filter) -> str:
        """SQL: the text that a filter looks at."""
        if not f.path:
            return self.value(f.column)
        return next(f"{t.name}.{name_of(f.column)}" for t in self.tables if t.path == local_path(f.path))

    def _forgive_spelling(self, table: Table) -> None:
        """Python decides whether a score is another cut's where the digest of what DuckDB read says so: it may spell a
        number in another way."""
        if not self.db.execute(f"SELECT 1 FROM facts WHERE stale_{table.name} LIMIT 1").fetchone():
            return
        columns = [c for c in CLIP_COLUMNS if c in self.columns]
        values = "".join(f", {self.value(c)}" for c in columns)
        rows = self.db.execute(
            f"SELECT keys.idx, {table.name}.{MADE_FROM}{values} FROM {self.joined()} JOIN facts ON facts.idx = keys.idx WHERE stale_{table.name}"
        )
        same = []
        while found := rows.fetchmany(1000):
            for idx, made_from, *texts in found:
                if json.loads(made_from) == digest(row_of(columns, tuple(texts)), CLIP_COLUMNS):
                    same.append(idx)
        if same:
            self.db.execute(f"UPDATE facts SET stale_{table.name} = false WHERE idx IN (SELECT unnest(?))", [same])

    def _apply(self, where: str, used: list[str]) -> None:
        """Drop the clips that pass all else and for which the condition is not true."""
        (there,) = self.db.execute("SELECT path FROM folder").fetchone() or ("",)
        file = Path(there) / "condition.db"
        texts = ", ".join(["keys.idx", *(f"{self.value(c)} AS {name_of(c)}" for c in used)])
        self.db.execute(
            f"CREATE TABLE texts AS SELECT {texts} FROM {self.joined()} JOIN judged ON judged.idx = keys.idx WHERE code IS NULL"
        )
        number = next(n for n in ("idx", *(f"idx{i}" for i in range(9))) if n not in [c.lower() for c in used])
        typed = ", ".join([f"idx AS {number}", *(f"{self._typed(c)} AS {name(c)}" for c in used)])
        self.db.execute(f"ATTACH {text(str(file))} AS given")
        self.db.execute(f"CREATE TABLE given.facts AS SELECT {typed} FROM texts")
        self.db.execute("DETACH given")
        passing(file, where, self.columns, number)
        self.db.execute(f"ATTACH {text(str(file))} AS given (READ_ONLY)")
        self.db.execute(
            f"UPDATE judged SET code = {3 * len(self.filters)}, value = {text(json.dumps(where, ensure_ascii=False))} "
            "WHERE code IS NULL AND idx NOT IN (SELECT idx FROM given.passing)"
        )
        self.db.execute("DETACH given")

    def _mark(self, path: str, mark: str) -> None:
        """Drop, or keep, the clips of a file's rows that have no mark or this one."""
        marked: dict[str, str | None] = {}
        for row in read_rows(path, ("video_path",), {"mark": TEXT, "reason": TEXT}):
            if row.get("mark", mark) == mark:
                marked[relative_to_folder(row["video_path"], self.folder)] = row.get("reason")
        (there,) = self.db.execute("SELECT path FROM folder").fetchone() or ("",)
        file = Path(there) / "marks.jsonl"
        with open(file, "w", encoding="utf-8") as out:
            # As the texts of the table have it: bytes of names that are no UTF-8 come marked there.
            out.writelines(as_table_writes({"key": clip, "reason": reason}) + "\n" for clip, reason in marked.items())
        source = f"read_json({text(str(file))}, format='newline_delimited', columns={{key: 'JSON', reason: 'JSON'}})"
        found = (
            f"(SELECT keys.idx, reason::VARCHAR AS reason FROM {source} AS m JOIN keys ON keys.key = m.key::VARCHAR)"
        )
        code, value = (
            (f"{3 * (len(self.filters) + OTHERS.index('excluded'))}", "m.reason")
            if mark == "drop"
            else ("NULL", "NULL")
        )
        self.db.execute(f"UPDATE judged SET code = {code}, value = {value} FROM {found} AS m WHERE judged.idx = m.idx")
        (count,) = self.db.execute(f"SELECT count(*) FROM {found}").fetchone() or (0,)
        if count < len(marked):
            print(f"{path}: {len(marked) - count:,} of {len(marked):,} marked clips are not in the list")

    def _typed(self, column: str) -> str:
        """SQL: a column's values, for a condition: numbers, texts, true or false, lists of numbers (of scores, their
        mean), else JSON. NaN is unknown, as a missing value is."""
        c = name_of(column)
        number, numbers = f"try_cast({mean(c)} AS DOUBLE)", f"try_cast({c} AS DOUBLE[])"
        is_null = f"{c} IS NULL OR {c} = '\"\U0010ffff\"'"
        tests = {
            f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END": f"{number} IS NOT NULL AND ({c}[1] <> '[' OR {column.endswith('score')})",
            f"({c} = 'true')": f"{c} IN ('true', 'false')",
            f"({c}::JSON ->> '$')": f"{c}[1] = '\"'",
            numbers: f"{c}[1] = '[' AND {numbers} IS NOT NULL",
        }
        fits = ", ".join(f"bool_and({is_null} OR ({test}))" for test in tests.values())
        found = self.db.execute(f"SELECT {fits} FROM texts").fetchone() or ()
        value = next((value for value, fit in zip(tests, found, strict=True) if fit is not False), f"{c}::JSON")
        return f"CASE WHEN {is_null} THEN NULL ELSE {value} END"

    def passing(self) -> set[str]:
        """The paths of the clips that pass."""
        found: set[str] = set()
        rows = self.db.execute("SELECT key FROM judged JOIN keys ON keys.idx = judged.idx WHERE code IS NULL")
        while some := rows.fetchmany(10_000):
            found.update(row_of(["path"], row)["path"] for row in some)
        return found

    def values(self, f: Filter) -> list[float]:
        """A filter's numbers over all clips, also those that another filter drops; NaN and infinity left out."""
        column = f"value{self.filters.index(f)}::DOUBLE"
        return [
            v
            for (v,) in self.db.execute(f"SELECT {column} FROM facts WHERE {column} IS NOT NULL").fetchall()
            if math.isfinite(v)
        ]

    def has_value(self, f: Filter) -> bool:
        """Whether any clip has the filter's column."""
        (count,) = self.db.execute(f"SELECT count(value{self.filters.index(f)}) FROM facts").fetchone() or (0,)
        return count > 0

    def drops(self) -> list[tuple[str, int]]:
        """Each filter's column, and how many clips it drops of those that reach it."""
        counts = dict(self.db.execute("SELECT code // 3, count(*) FROM judged GROUP BY ALL").fetchall())
        count = len(self.filters)
        drops = [(f.column, counts.get(i, 0)) for i, f in enumerate(self.filters)]
        if self.where is not None:
            drops.append(("where", counts.get(count + OTHERS.index("where"), 0)))
        excluded = counts.get(count + OTHERS.index("excluded"), 0)
        return [*([("excluded", excluded)] if excluded else []), *drops]


def mean(value: str) -> str:
    """SQL: the JSON text of a number, or that of a list's mean."""
    numbers = f"try_cast({value} AS DOUBLE[])"
    count = f"(strlen({value}) - strlen(replace({value}, ',', '')) + 1)"  # cheaper than to read the list again
    mean = f"replace((list_aggregate({numbers}, '{SUM}') / {count})::VARCHAR, 'nan', 'NaN')"
    return f"CASE WHEN {value}[1] = '[' THEN {mean} ELSE {value} END"


class Passes:
    """Whether a row of a list passes: asked about one row, or about all rows of a large list, by their numbers."""

    def __init__(self, listed: tuple[str | None, str | None, str], bounds: Sequence[Bounds]):
        self.listed, self.bounds = listed, bounds

    @cached_property
    def paths(self) -> set[str]:
        with self._judged() as judged:
            return judged.passing()

    @cached_property
    def numbers(self) -> np.ndarray:
        """The numbers of the rows that pass, int64."""
        with self._judged() as judged:
            return judged.db.execute("SELECT idx - 1 AS row FROM judged WHERE code IS NULL").fetchnumpy()["row"]

    def __call__(self, row: dict) -> bool:
        return row["video_path"] in self.paths

    @contextmanager
    def _judged(self) -> Iterator[Judged]:
        with connection() as db:
            with redirect_stdout(None):  # what is to be said about the list, its reader says
                judged = Judged(db, self.listed, [], self.bounds)
            yield judged


def passes_filters(listed: tuple[str | None, str | None, str], bounds: Sequence[Bounds]) -> Passes | None:
    """For a script that works on the rows that pass; None where there is no bound.

    Raises: `UsageError` as `Judged` does.
    """
    if not bounds:
        return None
    passes = Passes(listed, bounds)
    _ = passes.numbers if is_large(listed[1]) else passes.paths  # now, because of what it raises
    return passes
