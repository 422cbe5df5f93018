"""The embedded analytical engine, DuckDB, for what handles a table as a whole; imported only where it is needed.

Everything that opens a connection is here. A condition that a user writes runs in a connection of its own, which from then on can read
nothing but its one table.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.errors import UsageError, nearest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PREFIX = "reelset-tables-"
MEMORY = "1400MB"  # what exceeds it goes to a temporary folder
# What a condition may be made of, by the parser's names: no subquery, window, parameter or lambda.
PARTS = {
    "COLUMN_REF",
    "CONSTANT",
    "COMPARISON",
    "CONJUNCTION",
    "FUNCTION",
    "OPERATOR",
    "CASE",
    "CAST",
    "BETWEEN",
    "TYPE",
}
FUNCTIONS = """
    + - * / // % ** ^ & | ~ << >> || ~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape
    abs ceil ceiling floor round sign sqrt ln log log2 log10 exp pow power mod greatest least isnan isinf isfinite
    lower upper length len trim ltrim rtrim left right substring substr replace concat starts_with ends_with prefix suffix
    contains regexp_matches regexp_full_match position strpos split_part string_split list_contains array_contains list_has
    array_extract list_extract array_slice list_min list_max list_sum list_avg list_median array_length coalesce nullif
    ifnull if
"""


@contextmanager
def connection(memory: str = MEMORY) -> Iterator["DuckDBPyConnection"]:
    """A connection without tables, whose memory is bounded. Its temporary files are gone when the block ends; those of a
    killed process, when the next one begins.
    """
    import duckdb

    _sweep()
    folder = tempfile.mkdtemp(prefix=PREFIX)
    lock = open(Path(folder, "lock"), "wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        settings: dict[str, Any] = {
            "memory_limit": memory,
            "temp_directory": folder,
            "autoinstall_known_extensions": False,
            "threads": min(2, len(os.sched_getaffinity(0))),  # each has buffers of its own
        }
        with duckdb.connect(":memory:", config=settings) as db:
            yield db
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _sweep() -> None:
    """Remove the temporary folders whose locks nobody holds."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/lock"):
        with suppress(OSError), open(left, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)


def name(column: str) -> str:
    """A column's name as SQL."""
    return '"' + column.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text as SQL."""
    return "'" + value.replace("'", "''") + "'"


def parse_condition(condition: str, columns: list[str]) -> list[str]:
    """Those of `columns` that a condition names.

    Raises: `UsageError` for what is no single expression over the columns.
    """
    import duckdb

    lead = f"--where {condition!r}: "
    there = f"; the columns are {', '.join(columns) or 'none'}"
    if "\0" in condition or not condition.strip():
        raise UsageError(f"{lead}this is not a condition{there}")
    with duckdb.connect(":memory:") as db:
        try:
            found = db.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{condition}\n)"]).fetchall()
        except (duckdb.Error, UnicodeEncodeError) as error:
            raise UsageError(f"{lead}{str(error).splitlines()[0]}{there}") from None
    tree = json.loads(found[0][0])
    if tree["error"]:
        raise UsageError(f"{lead}{tree['error_message'].splitlines()[0]}{there}")
    node = tree["statements"][0]["node"] if len(tree["statements"]) == 1 else {}
    selected = node.get("select_list", [])
    empty = ("where_clause", "having", "qualify", "sample", "group_expressions", "modifiers")
    plain = node.get("type") == "SELECT_NODE" and node["from_table"]["type"] == "EMPTY" and not node["cte_map"]["map"]
    if not plain or len(selected) != 1 or any(node.get(key) for key in empty):
        raise UsageError(f"{lead}it must be a single condition, without clauses or other statements{there}")
    by_name = {column.lower(): column for column in columns}
    used = []
    for part in _parts(selected[0]):
        if part["class"] == "FUNCTION" and part["function_name"].lower() not in FUNCTIONS.split():
            raise UsageError(f"{lead}the function {part['function_name']} is not allowed{there}")
        if part["class"] not in PARTS:
            raise UsageError(
                f"{lead}{part['class'].lower()} is not allowed, only an expression over the columns{there}"
            )
        if part["class"] == "COLUMN_REF":
            wanted = part["column_names"][0]
            if wanted.lower() not in by_name:
                raise UsageError(f"{lead}no column {wanted!r}{nearest(wanted, columns)}{there}")
            used.append(wanted if wanted in columns else by_name[wanted.lower()])
    used = list(dict.fromkeys(used))
    if len({column.lower() for column in used}) < len(used):
        raise UsageError(f"{lead}columns that differ only in case cannot both be named{there}")
    return used


def _parts(tree: Any) -> Iterator[dict]:
    """Every expression of a parse tree."""
    level = [tree]
    while level:
        item = level.pop()
        if isinstance(item, dict):
            if "class" in item:
                yield item
            level += item.values()
        elif isinstance(item, list):
            level += item


def is_true_of(
    condition: str, used: Sequence[str], facts: Iterable[Sequence[bytes | None]], count: int, columns: Sequence[str]
) -> np.ndarray:
    """Of each of `count` rows, whether a condition is true: bool (count,). `facts`: of each row the JSON text of the columns `used`, None
    where it has none; `columns`, for messages.

    Raises: `UsageError` where types do not fit.
    """
    with connection() as db:
        (folder,) = db.execute("SELECT current_setting('temp_directory')").fetchone() or ("",)
        with open(Path(folder, "facts.jsonl"), "wb") as out:
            for values in facts:
                there = [b'"c%d": %b' % (i, bytes(value)) for i, value in enumerate(values) if value is not None]
                out.write(b"{" + b", ".join(there) + b"}\n")
        kinds = ", ".join(f"c{i}: 'JSON'" for i in range(len(used))) or "c0: 'JSON'"
        texts = ", ".join(["row_number() OVER () - 1 AS row", *(f"c{i}::VARCHAR AS c{i}" for i in range(len(used)))])
        db.execute(
            f"CREATE TABLE texts AS SELECT {texts} FROM read_json({text(str(out.name))}, format='newline_delimited', records=true, "
            f"maximum_object_size=67108864, columns={{{kinds}}})"
        )
        number = next(n for n in ("row", *(f"row{i}" for i in range(9))) if n not in [c.lower() for c in used])
        typed = [f"row AS {number}", *(f"{_typed(db, i, column)} AS {name(column)}" for i, column in enumerate(used))]
        db.execute(f"CREATE VIEW facts AS SELECT {', '.join(typed)} FROM texts")  # where NULL fits every type
        is_true = np.zeros(count, bool)
        is_true[passing(db, condition, columns, number)] = True
        return is_true


def _typed(db: "DuckDBPyConnection", i: int, column: str) -> str:
    """SQL: a column's values as a condition sees them: numbers, texts, true or false, lists of numbers (of scores, their mean), else
    JSON. NaN is unknown, as a missing value is.
    """
    c = f"c{i}"
    if db.execute(f"SELECT count({c}) FROM texts").fetchone() == (0,):
        return "NULL"
    mean = f"CASE WHEN {c}[1] = '[' THEN list_avg(try_cast({c} AS DOUBLE[])) ELSE try_cast({c} AS DOUBLE) END"
    as_types = {
        f"CASE WHEN isnan({mean}) THEN NULL ELSE {mean} END": f"{mean} IS NOT NULL AND ({c}[1] <> '[' OR {column.endswith('score')})",
        f"({c} = 'true')": f"{c} IN ('true', 'false')",
        f"({c}::JSON ->> '$')": f"{c}[1] = '\"'",
        f"try_cast({c} AS DOUBLE[])": f"{c}[1] = '[' AND try_cast({c} AS DOUBLE[]) IS NOT NULL",
    }
    fits = ", ".join(f"bool_and({c} IS NULL OR ({test}))" for test in as_types.values())
    found = db.execute(f"SELECT {fits} FROM texts").fetchone() or ()
    value = next((value for value, fit in zip(as_types, found) if fit is not False), f"{c}::JSON")
    return f"CASE WHEN {c} IS NULL THEN NULL ELSE {value} END"


def passing(db: "DuckDBPyConnection", condition: str, columns: Sequence[str], number: str) -> np.ndarray:
    """The values of the column `number` of the rows of `facts` for which a condition is true. From then on the connection reads no file,
    loads no extension, and its settings are locked.

    Raises: `UsageError` where types do not fit.
    """
    import duckdb

    for setting in ("enable_external_access", "autoload_known_extensions", "allow_community_extensions"):
        db.execute(f"SET {setting} = false")
    db.execute("SET lock_configuration = true")
    try:
        return db.execute(f"SELECT {number} AS number FROM facts WHERE (\n{condition}\n)").fetchnumpy()["number"]
    except duckdb.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"--where {condition!r}: {reason}; the columns are {', '.join(columns)}") from None
