"""Row files as tables of DuckDB: every value is the JSON text of its column, NULL where a row lacks it.

DuckDB reads; what it refuses is read again by Python, which says what is wrong, or that nothing is. A truncated last
line, a csv, a null or a name that is no UTF-8 is such a case: Python writes the rows anew in a form that DuckDB reads.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.columns import COLUMNS, KEYS, Kind, check_row
from utils.database import name, text
from utils.errors import UsageError
from utils.rows import dumps, part_files, rows_of
from utils.working_copies import working_copy

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NULL = "\U0010ffff"  # stands for a null in rows written anew; no text holds it, because it is no character
SURROGATES = {code: code + 0x100000 for code in range(0xDC80, 0xDD00)}  # bytes of names that are no UTF-8
BACK = {there: here for here, there in SURROGATES.items()}


# Values whose JSON text is another in Python: numbers with an exponent, texts with \u escapes or inside a list or object.
def unlike_python(line: str) -> str:
    """SQL: whether Python may write the values of a line of JSON in another way."""
    parts = ("\\u", "0.0000", '["', ": {", NULL)
    found = " OR ".join(f"contains({line}, {text(part)})" for part in parts)
    return f"({found} OR regexp_matches({line}, '[0-9]e|[0-9]{{16}}|[\\x{{10dc80}}-\\x{{10dcff}}]'))"


FILES_AT_ONCE = {"format": "'newline_delimited'", "ignore_errors": "true", "maximum_object_size": str(1 << 26)}


class Table:
    """A row file and its parts as the view `name`: `idx`, which counts its rows, and `columns`.

    Raises: `UsageError` as `rows.read_rows` does.
    """

    def __init__(
        self,
        db: "DuckDBPyConnection",
        name_of_view: str,
        path: str | os.PathLike,
        required: tuple[str, ...] = (),
        kinds: Mapping[str, Kind] | None = None,
    ):
        self.db, self.name, self.path = db, name_of_view, working_copy(path)
        self.kinds = {column: KEYS[column] for column in required if column in KEYS} | dict(kinds or {})
        self.required = required
        self.columns: list[str] = []
        files = [file for file in (self.path, *part_files(self.path)) if file.is_file()]
        if not (files and self._take(files) and self._fits()):
            self._take([self._written_anew()])

    def _take(self, files: list[Path]) -> bool:
        """Make the view; False where the files are not what DuckDB and Python read alike."""
        if any(file.suffix.lower() != ".jsonl" or not _is_whole(file) for file in files):
            return False
        files = [file for file in files if file.stat().st_size]
        names = "[" + ", ".join(text(str(file)) for file in files) + "]"
        options = ", ".join(f"{key}={value}" for key, value in FILES_AT_ONCE.items())
        layouts = self._layouts(f"read_ndjson_objects({names}, {options})") if files else []
        columns = list(dict.fromkeys(column for layout in layouts or () for column in layout))
        if layouts is None or any(len(set(layout)) < len(layout) or not layout for layout in layouts):
            return False
        if any("\0" in column for column in columns) or len({c.lower() for c in columns} | {"idx"}) <= len(columns):
            raise UsageError(f"{self.path}: two columns differ only in case, or one is idx: {', '.join(columns)}")
        self.columns = columns or list(self.required or ("video_path",))
        kinds = ", ".join(f"{text(column)}: 'JSON'" for column in columns)
        rows = f"read_json({names}, columns={{{kinds}}}, {options})" if columns else "range(0)"
        values = "".join(f", {name(c) if columns else 'NULL'}::VARCHAR AS {name(c)}" for c in self.columns)
        self.db.execute(f"CREATE OR REPLACE VIEW {self.name} AS SELECT row_number() OVER () AS idx{values} FROM {rows}")
        return all(column in layout for layout in layouts or () for column in self.required)

    def _layouts(self, source: str) -> list[list[str]] | None:
        """The lists of columns that rows have; None where a row must be read by Python."""
        import duckdb

        try:
            found = self.db.execute(
                "SELECT any_value(json_keys(json)), bool_or(contains(json::VARCHAR, 'null') OR json IS NULL) "
                f"FROM {source} GROUP BY hash(json_keys(json))"
            ).fetchall()
        except duckdb.Error:
            return None
        if any(layout is None or odd for layout, odd in found):
            return None
        # Columns come in the order of the first row, as they would from Python.
        first = self.db.execute(f"SELECT json_keys(json) FROM {source} LIMIT 1").fetchall()
        return [row[0] for row in first] + sorted((layout for layout, _ in found), key=len, reverse=True)

    def _fits(self) -> bool:
        """Whether every value is what its column must hold; Python checks the rows of which DuckDB is not sure."""
        sure = [
            f"coalesce({kind.sure.format(name(column))}, {name(column)} IS NULL)"
            if (kind := self.kinds.get(column) or COLUMNS.get(column)) and kind.sure
            else f"({name(column)} IS NULL OR len({name(column)}) < 100 OR {name(column)}[1] NOT IN ('[', '{{'))"
            if kind is None
            else f"{name(column)} IS NULL"
            for column in self.columns
        ]
        if not sure:
            return True
        names = ", ".join(map(name, self.columns))
        unsure = self.db.execute(f"SELECT {names} FROM {self.name} WHERE NOT ({' AND '.join(sure)})")
        try:
            while rows := unsure.fetchmany(1000):
                for row in rows:
                    check_row(row_of(self.columns, row), "", self.kinds)
        except (UsageError, ValueError, RecursionError):
            return False
        return True

    def _written_anew(self) -> Path:
        (folder,) = self.db.execute("SELECT path FROM folder").fetchone() or ("",)
        path = Path(folder) / f"{self.name}.jsonl"
        with open(path, "w", encoding="utf-8") as out:
            for row in rows_of(self.path, self.required, self.kinds):
                out.write(dumps(_mapped(row, _marked)) + "\n")
        return path

    def is_repeated(self, key: str) -> bool:
        """Whether a value of `key` comes twice."""
        (twice,) = self.db.execute(f"SELECT count(DISTINCT {key}) < count(*) FROM {self.name}").fetchone() or (False,)
        return bool(twice)


def _is_whole(file: Path) -> bool:
    """Whether it is UTF-8 without a mark that ends in a newline."""
    with open(file, "rb") as opened:
        start = opened.read(3)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff") or start == b"\xef\xbb\xbf":
            return False
        if start:
            opened.seek(-1, os.SEEK_END)
        return opened.read(1) in (b"\n", b"") or not start


def row_of(columns: list[str], texts: tuple[str | None, ...]) -> dict:
    """A row of JSON texts as a dict."""
    return {c: _mapped(json.loads(t), _unmarked) for c, t in zip(columns, texts, strict=True) if t is not None}


def as_python_writes(line: str) -> str:
    """A line of JSON, spelled as `rows.dumps` does."""
    return dumps(_mapped(json.loads(line), _unmarked))


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same value with every text, null and column name changed."""
    if isinstance(value, dict):
        return {change(key): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return change(value)


def _marked(value: Any) -> Any:
    return NULL if value is None else value.translate(SURROGATES) if isinstance(value, str) else value


def _unmarked(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return None if value == NULL else value.translate(BACK) if re.search("[\U0010dc80-\U0010dcff]", value) else value
