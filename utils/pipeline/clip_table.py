"""Columns of score files, joined to the clips of a list: numbers in arrays, one per clip. DuckDB reads the files and joins them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.errors import UsageError
from utils.pipeline.ancestry import CLIP_COLUMNS, check_inputs, fingerprint, is_checked, settings_of
from utils.pipeline.condition import name, text
from utils.pipeline.row_list import Rows, rows_in
from utils.rows import rows_of
from utils.rows.columns import PATH, SCORES, Kind
from utils.video.stills import STILL_EXTENSIONS
from utils.video_utils import prefix_inside
from utils.working_copies import local_path

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BATCH = 20_000  # paths that are given to DuckDB at once
# Of the JSON text of a column: a number, or a list's mean; NULL for what is neither.
MEAN = """CASE WHEN contains({0}, '"') OR contains({0}, 'null') THEN NULL
  WHEN {0}[1] = '[' THEN list_avg(try_cast({0} AS DOUBLE[])) ELSE try_cast({0} AS DOUBLE) END"""
SIDES = "try_cast({0} AS DOUBLE[])"
FROM_FRAME_SIZE = {
    "pixels": f"{SIDES}[1] * {SIDES}[2]",
    "short_side": f"least({SIDES}[1], {SIDES}[2])",
}  # columns that no file has
# Most paths, by their JSON text c0; Python decides about others.
IS_PATH = """starts_with(c0, '"') AND strlen(c0) > 2 AND NOT contains(c0, '\\') AND right(c0, 2) NOT IN ('/"', '."')"""
# Whether one may be spelled in another way in score files. What only looks so (a./b) is looked at closely, too.
IS_ODD = """contains(c0, '//') OR contains(c0, './') OR contains(c0, '\\') OR c0[2] IN ('/', '.') OR right(c0, 2) IN ('/"', '."')"""
IS_STILL = f"""regexp_matches(lower(right(c0, 6)), '({"|".join(re.escape(ending) for ending in sorted(STILL_EXTENSIONS))})"$')"""
# The first part of a `made_from` as `ancestry.as_number` has it; -1 where a row has none.
ORIGIN = """CASE WHEN {0} IS NULL THEN -1 WHEN {0}[2] = '-' THEN 0 ELSE coalesce(try_cast('0x' || {0}[2:9] AS BIGINT), 1) END"""


class ClipTable:
    """The clips of a list by their numbers. `is_first`: false for a row that repeats a path; `own`: the values of columns that are the
    list's own, or of the last score file that has them where the list lacks them, and `has`, where they are known; `is_still`: of images. `renamed`: the paths, by
    number, that may be spelled in another way in score files, as they are there.

    Tables in DuckDB: `clips` (number, key: a hash of the path's JSON text); `read`, a file's rows while it is read (see `_read`).

    Raises: `UsageError` for a malformed row.
    """

    def __init__(self, db: "DuckDBPyConnection", rows: Rows, own: Sequence[str]):
        self.db, self.rows = db, rows
        self._read(rows, own)
        db.execute("CREATE TABLE clips AS SELECT row AS number, key FROM read")
        self._rename()
        count = self._number("SELECT count(*) FROM clips")
        self.is_first = np.ones(count, bool)
        if self._number("SELECT count(DISTINCT key) FROM clips") < count:
            first = db.execute("SELECT min(number) AS number FROM clips GROUP BY key").fetchnumpy()["number"]
            self.is_first[:] = False
            self.is_first[first] = True
            db.execute("DELETE FROM clips WHERE number NOT IN (SELECT min(number) FROM clips GROUP BY key)")
            print(f"{rows.name}: {count - len(first):,} rows repeat a path and are skipped")
        found = db.execute(
            f"SELECT {', '.join(['row', 'is_still', *_values(own)])} FROM read ORDER BY row"
        ).fetchnumpy()
        self.is_still = np.ma.filled(found["is_still"], False).astype(bool)
        self.own = {column: _floats(found[v]) for column, v in zip(own, _values(own))}
        self.has = {column: ~np.ma.getmaskarray(found[v]) for column, v in zip(own, _values(own))}
        self._list_fingerprint: str | None = None

    def column_values(self, file: str, columns: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Of each row of the list the number of its row in a score file, -1 where that has none, or one of another clip of that name; and
        its values in `columns`, NaN where there is none.

        Raises: `UsageError`.
        """
        check_inputs(file, may_be_unfinished=True)
        lacking = [column for column, has in self.has.items() if not has.all() and column not in columns]
        wanted = [*columns, *lacking]
        is_from_list = self._is_made_from_list(file)
        self._read(rows_in(file), wanted, dict.fromkeys(columns, SCORES), with_origin=not is_from_list)
        picked = ", ".join(["number", "row", "origin", *_values(wanted)])
        found = self.db.execute(f"SELECT {picked} FROM clips JOIN read USING (key)").fetchnumpy()
        if len(found["number"]) and np.bincount(found["number"]).max() > 1:  # of several rows of a clip the last counts
            order = np.argsort(found["row"], kind="stable")[::-1]
            last = order[np.unique(found["number"][order], return_index=True)[1]]
            found = {column: values[last] for column, values in found.items()}
        number = found["number"]
        is_of_clip = np.ones(len(number), bool)
        if not is_from_list:
            is_of_clip = (found["origin"] < 0) | (found["origin"] == self._ancestry()[number])
        number = number[is_of_clip]
        at = np.full(len(self.is_first), -1, np.int32)
        at[number] = found["row"][is_of_clip]
        values = [np.full(len(at), np.nan) for _ in wanted]
        for value, v in zip(values, _values(wanted)):
            value[number] = _floats(found[v])[is_of_clip]
        for column, value, v in zip(wanted, values, _values(wanted)):
            if column in lacking:
                known = number[~np.ma.getmaskarray(found[v])[is_of_clip] & ~self.has[column][number]]
                self.own[column][known], self.has[column][known] = value[known], True
        return at, values[: len(columns)]

    def numbers_of(self, paths: Iterable[str]) -> dict[str, int]:
        """The numbers of those paths that are in the list."""
        self._load("asked", enumerate(paths))
        return dict(
            self.db.execute(
                "SELECT path, clips.number FROM asked JOIN clips ON key = hash(to_json(path)::VARCHAR)"
            ).fetchall()
        )

    def _is_made_from_list(self, file: str) -> bool:
        """Whether a score file holds rows of the list as it is now and of nothing else, so that none has to be looked at."""
        inputs = settings_of(file).get("inputs")
        if self._list_fingerprint is None and isinstance(inputs, dict):
            self._list_fingerprint = fingerprint(local_path(self.rows.name)) or ""
        return isinstance(inputs, dict) and self._list_fingerprint in inputs.values()

    def _ancestry(self) -> np.ndarray:
        if len(self.rows.ancestry) != len(self.is_first):
            self.rows.scan(CLIP_COLUMNS, quiet=True)
        return self.rows.ancestry

    def _read(
        self,
        rows: Rows,
        columns: Sequence[str],
        required: Mapping[str, Kind] | None = None,
        with_origin: bool = False,
    ) -> None:
        """Make the table `read` of a file's rows: row, counted from 0; key; odd, the path's JSON text where it may not be the path that
        score files name; origin; v0, v1, … the values of `columns`, NULL where there is none.

        Raises: `UsageError` for a malformed row.
        """
        import duckdb

        try:
            self._make_read(rows, columns, required, with_origin)
            return
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
        known = {**(required or {}), rows.column: PATH}
        copy = Rows.of(
            rows_of(rows.path if rows.temporary else rows.name, tuple(known), known), rows.name, column=rows.column
        )
        try:  # what Python has read and written again
            self._make_read(copy, columns, required, with_origin)
        except duckdb.Error:
            raise UsageError(f"{rows.name} cannot be read: {reason}") from None

    def _make_read(
        self, rows: Rows, columns: Sequence[str], required: Mapping[str, Kind] | None, with_origin: bool
    ) -> None:
        sources = ["frame_size" if column in FROM_FRAME_SIZE else column for column in columns]
        names = list(dict.fromkeys([rows.column, *(["made_from"] if with_origin else []), *sources]))
        texts = ", ".join(f"{name(column)}::VARCHAR AS c{i}" for i, column in enumerate(names))
        kinds = ", ".join(f"{text(column)}: 'JSON'" for column in names)
        source = f"read_json({text(str(rows.path))}, format='newline_delimited', records=true, maximum_object_size=67108864, columns={{{kinds}}})"
        values = "".join(
            f", {FROM_FRAME_SIZE.get(column, MEAN).format(f'c{names.index(origin)}')} AS v{i}"
            for i, (column, origin) in enumerate(zip(columns, sources))
        )
        picked = "".join(f", {v}" for v in _values(columns))
        # Paths that a script has written were looked at then.
        is_sure = ["c0 IS NOT NULL" if is_checked(rows.name) else f"coalesce({IS_PATH}, false)"]
        in_range = "abs({0}) <= 1e15 OR isnan({0})" if required else "{0} BETWEEN 0 AND 1e15"
        is_sure += [f"coalesce({in_range.format(v)}, false)" for v in _values(columns)]
        is_still = "false" if required else IS_STILL
        self.db.execute(
            f"CREATE OR REPLACE TABLE read AS SELECT row, hash(c0) AS key, {is_still} AS is_still, {ORIGIN.format('c1') if with_origin else -1} AS origin, "
            f"CASE WHEN {'false' if required else _may_be_odd(rows.folder)} THEN c0 END AS odd, {' AND '.join(is_sure)} AS is_sure{picked} "
            f"FROM (SELECT *{values} FROM (SELECT row_number() OVER () - 1 AS row, {texts} FROM {source}))"
        )
        if self._number("SELECT count(*) FROM read WHERE NOT is_sure"):  # Python says what is wrong, or that nothing is
            known = {**(required or {}), rows.column: PATH}
            for _ in rows_of(rows.path if rows.temporary else rows.name, tuple(known), known):
                pass

    def _rename(self) -> None:
        """Give paths that are spelled in another way than in score files the keys that they have there."""
        odd = self.db.execute("SELECT row, odd FROM read WHERE odd IS NOT NULL").fetchall()
        self.renamed = {number: self.rows.relative(json.loads(path)) for number, path in odd}
        if odd:
            self._load("renamed", self.renamed.items())
            self.db.execute(
                "UPDATE clips SET key = hash(to_json(path)::VARCHAR) FROM renamed WHERE clips.number = renamed.number"
            )

    def _load(self, table: str, rows: Iterable[tuple[int, str]]) -> None:
        """Make a table (number, path)."""
        self.db.execute(f"CREATE OR REPLACE TABLE {table} (number BIGINT, path VARCHAR)")
        there = list(rows)
        for begin in range(0, len(there), BATCH):
            numbers, paths = zip(*there[begin : begin + BATCH])
            self.db.execute(
                f"INSERT INTO {table} SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[])", [list(numbers), list(paths)]
            )

    def _number(self, query: str) -> int:
        (found,) = self.db.execute(query).fetchone() or (0,)
        return found or 0


def _values(columns: Sequence[str]) -> list[str]:
    """What the values of columns are called in `read`."""
    return [f"v{i}" for i in range(len(columns))]


def _floats(found: np.ndarray) -> np.ndarray:
    return np.ma.filled(found.astype(float), np.nan)


def _may_be_odd(folder: str | None) -> str:
    """SQL: whether a path, whose JSON text is c0, may be spelled in another way in score files."""
    inside = prefix_inside(folder)
    if inside is None:
        return "true"
    return f"{IS_ODD} OR starts_with(c0, {text(json.dumps(inside, ensure_ascii=False)[:-1])})" if inside else IS_ODD
