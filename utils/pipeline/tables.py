"""Row files as tables of DuckDB: every value is the JSON text of its column, NULL where a row lacks it.

DuckDB reads; what it refuses is read again by Python, which says what is wrong, or that nothing is. A truncated last
line, a csv, a null or a name that is no UTF-8 is such a case: Python writes the rows anew in a form that DuckDB reads.
"""

import itertools
import json
import os
import re
from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.columns import COLUMNS, KEYS, Kind, check_row
from utils.database import name, text
from utils.errors import UsageError
from utils.rows import dumps, part_files, rows_of
from utils.video_utils import relative_to_folder
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
    return f"({found} OR regexp_matches({line}, '[0-9]e[-+]?[0-9]+[],}}]|[0-9]{{16}}|[\\x{{10dc80}}-\\x{{10dcff}}]'))"


def _source(reader: str, files: list[Path], more: str = "") -> str:
    """SQL: the rows of files, by a table function of DuckDB."""
    names = "[" + ", ".join(text(str(file)) for file in files) + "]"
    options = "format='newline_delimited', ignore_errors=true, maximum_object_size=67108864"
    return f"{reader}({', '.join(filter(None, (names, options, more)))})"


def name_of(column: str) -> str:
    """A column's name in a view: DuckDB takes `Score` and `score` for one name, and views have columns of their own."""
    spelled = "".join("^0" if c == "\0" else f"^{c}" if c == "^" or c != c.lower() else c for c in column)
    return name(f"~{spelled}")


class Table:
    """A row file and its parts as the view `name`: `idx`, which counts its rows, and `columns` under `name_of` each.

    `is_mixed`: rows have their columns in different orders, which the view's column `layout` tells, as numbers of columns.

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
        self.is_mixed = False
        files = [file for file in (self.path, *part_files(self.path)) if file.is_file()]
        self.is_anew = not (files and self._take(files))
        if self.is_anew:
            self._take_anew()

    def _take(self, files: list[Path]) -> bool:
        """Make the view; False where the files are not what DuckDB and Python read alike."""
        if any(file.suffix.lower() != ".jsonl" or not _is_whole(file) for file in files):
            return False
        files = [file for file in files if file.stat().st_size]
        layouts = self._layouts(_source("read_ndjson_objects", files)) if files else []
        columns = _in_one_order(layouts or [])
        if layouts is None or columns is None:
            return False
        if any("\0" in column for column in columns) or len({c.lower() for c in columns}) < len(columns):
            return False
        self._make_view(files, {column: column for column in columns})
        return all(column in layout for layout in layouts for column in self.required)

    def _make_view(self, files: list[Path], keys: dict[str, str], layout: str = "") -> None:
        """`keys`: the columns, and what each is called in the files. `layout`: SQL of a further column."""
        self.columns = list(keys) or list(self.required or ("video_path",))
        kinds = ", ".join(f"{text(key)}: 'JSON'" for key in (*keys.values(), *([layout] if layout else [])))
        rows = _source("read_json", files, f"columns={{{kinds}}}") if keys else "range(0)"
        values = "".join(f", {name(keys[c]) if keys else 'NULL'}::VARCHAR AS {name_of(c)}" for c in self.columns)
        values += f", {layout}::VARCHAR AS layout" if layout else ""
        self.db.execute(f"CREATE OR REPLACE VIEW {self.name} AS SELECT row_number() OVER () AS idx{values} FROM {rows}")

    def _layouts(self, source: str) -> list[list[str]] | None:
        """The lists of columns that rows have; None where a row must be read by Python."""
        import duckdb

        try:
            found = self.db.execute(
                "SELECT any_value(json_keys(json)), bool_or(contains(json::VARCHAR, 'null') OR json IS NULL) "
                f"FROM {source} GROUP BY json_keys(json)::VARCHAR"
            ).fetchall()
        except duckdb.Error:
            return None
        if any(layout is None or odd for layout, odd in found):
            return None
        return [layout for layout, _ in found]

    def load(self, columns: list[str], clip: str, joined: str = "") -> None:
        """Make the table `{name}_facts`: of each row its `idx`, `clip`, which is SQL, and some columns. What Python has not
        read is checked on the way.

        Raises: `UsageError` where a column does not hold what it must.
        """
        present = "".join(f", {self.name}.{name_of(c)}" for c in columns if c in self.columns)
        unsure = "false" if self.is_anew else f"NOT ({' AND '.join(self._sure()) or 'true'})"
        self.db.execute(
            f"CREATE OR REPLACE TABLE {self.name}_facts AS SELECT {self.name}.idx, {clip} AS clip, {unsure} AS unsure{present} "
            f"FROM {self.name} {joined} WHERE clip IS NOT NULL OR unsure"
        )
        if not self.is_anew and not self._fits():
            self.is_anew = True
            self._take_anew()
            self.load(columns, clip, joined)
        (twice,) = self.db.execute(f"SELECT count(DISTINCT clip) < count(clip) FROM {self.name}_facts").fetchone() or (
            0,
        )
        if twice:
            self.db.execute(
                f"CREATE OR REPLACE TABLE {self.name}_facts AS SELECT * FROM {self.name}_facts "
                "QUALIFY row_number() OVER (PARTITION BY clip ORDER BY idx DESC) = 1"
            )

    def _sure(self) -> list[str]:
        """SQL: what is true only where every value is what its column must hold."""
        sure = []
        for column in self.columns:
            value = f"{self.name}.{name_of(column)}"
            kind = self.kinds.get(column) or COLUMNS.get(column)
            if kind is None:
                sure.append(f"({value} IS NULL OR strlen({value}) < 100 OR {value}[1] NOT IN ('[', '{{'))")
            else:
                sure.append(
                    f"coalesce({kind.sure.format(value)}, {value} IS NULL)" if kind.sure else f"{value} IS NULL"
                )
        return sure

    def _fits(self) -> bool:
        """Whether Python accepts the rows of which DuckDB is not sure."""
        any_unsure = self.db.execute(f"SELECT 1 FROM {self.name}_facts WHERE unsure LIMIT 1").fetchone()
        if not any_unsure:
            return True
        names = ", ".join(map(name_of, self.columns))
        unsure = self.db.execute(
            f"SELECT {names} FROM {self.name} WHERE idx IN (SELECT idx FROM {self.name}_facts WHERE unsure)"
        )
        try:
            while rows := unsure.fetchmany(1000):
                for row in rows:
                    check_row(row_of(self.columns, row), "", self.kinds)
        except (UsageError, ValueError, RecursionError):
            return False
        return True

    def _take_anew(self) -> None:
        """Make the view of what Python reads: each row written again, its columns called c0, c1, ..."""
        (folder,) = self.db.execute("SELECT path FROM folder").fetchone() or ("",)
        path = Path(folder) / f"{self.name}.jsonl"
        keys: dict[str, str] = {}
        with open(path, "w", encoding="utf-8") as out:
            for row in rows_of(self.path, self.required, self.kinds):
                marked = _mapped(row, _marked)
                named = {keys.setdefault(column, f"c{len(keys)}"): value for column, value in marked.items()}
                places = [int(key[1:]) for key in named]
                self.is_mixed = self.is_mixed or places != sorted(places)
                out.write(dumps({**named, "layout": places}) + "\n")
        self._make_view([path], keys, "layout" if keys else "")


def make_keys(clips: Table, column: str, folder: str | None) -> int:
    """Make the table `keys` of a list whose `column` is loaded: of each clip its `idx` and its path as other files name it,
    relative to `folder`; each path once. Returns how many there are.
    """
    db, path_of = clips.db, name_of(column)
    (there,) = db.execute("SELECT path FROM folder").fetchone() or ("",)
    odd = db.execute(f"SELECT DISTINCT {path_of} FROM clips_facts WHERE {_may_change(path_of, folder)}")
    renamed = Path(there) / "renamed.jsonl"
    with open(renamed, "w", encoding="utf-8") as out:
        while rows := odd.fetchmany(1000):
            for (path,) in rows:
                row = row_of(["path"], (path,))
                marked = {"path": json.loads(path), "key": relative_to_folder(row["path"], folder)}
                if marked["key"] != row["path"]:
                    out.write(json.dumps(marked) + "\n")
    if renamed.stat().st_size:
        new = f"SELECT path::VARCHAR AS path, key::VARCHAR AS key FROM read_json({text(str(renamed))}, format='newline_delimited', columns={{path: 'JSON', key: 'JSON'}})"
        db.execute(
            f"CREATE TABLE keys AS SELECT idx, coalesce(key, {path_of}) AS key FROM clips_facts LEFT JOIN ({new}) ON path = {path_of} ORDER BY idx"
        )
    else:
        db.execute(f"CREATE TABLE keys AS SELECT idx, {path_of} AS key FROM clips_facts")
    count, unique = db.execute("SELECT count(*), count(DISTINCT hash(key)) FROM keys").fetchone() or (0, 0)
    if unique < count:
        (unique,) = db.execute("SELECT count(DISTINCT key) FROM keys").fetchone() or (0,)
    if unique < count:
        db.execute("CREATE OR REPLACE TABLE keys AS SELECT min(idx) AS idx, key FROM keys GROUP BY key ORDER BY idx")
        print(f"{clips.path}: {count - unique:,} rows repeat a path and are skipped")
    return unique


def _may_change(column: str, folder: str | None) -> str:
    """SQL: whether `relative_to_folder` may change a path; it is asked about such paths alone."""
    odd = rf"""regexp_matches({column}, '\\|^"/|//|(^"|/)\.\.?(/|"$)|/"$')"""
    if not folder:
        return odd
    inside = os.path.relpath(os.path.abspath(folder))
    if inside == "." or not (inside == ".." or inside.startswith("../")):
        start = "" if inside == "." else f"{inside}/"
        return f"{odd} OR starts_with({column}, {text(json.dumps(start, ensure_ascii=False)[:-1])})" if start else odd
    return odd if os.path.commonpath([os.getcwd(), os.path.abspath(folder)]) != os.path.abspath(folder) else "true"


def sql_digest(values: Mapping[str, str]) -> str:
    """SQL: the JSON text of `process.digest` over columns; of each, SQL of its JSON text. '' where there are none."""
    parts = [f"'\"{column}\": ' || {value}" for column, value in values.items()]
    return f"'\"' || sha256('{{' || concat_ws(', ', {', '.join(parts)}) || '}}')[1:8] || '\"'" if parts else "''"


def _in_one_order(layouts: list[list[str]]) -> list[str] | None:
    """All columns in an order that agrees with each layout; None where there is none, or a layout is empty."""
    if any(len(set(layout)) < len(layout) or not layout for layout in layouts):
        return None
    order: TopologicalSorter[str] = TopologicalSorter()
    for layout in layouts:
        order.add(layout[0])
        for before, column in itertools.pairwise(layout):
            order.add(column, before)
    try:
        return list(order.static_order())
    except CycleError:
        return None


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


def as_table_writes(row: dict) -> str:
    """A row as a line of JSON whose texts are those of tables."""
    return json.dumps(
        {column: value.translate(SURROGATES) if isinstance(value, str) else value for column, value in row.items()},
        ensure_ascii=False,
    )


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
