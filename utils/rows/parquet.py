"""Rows in parquet files, by pyarrow, which is imported for the first such file.

A column whose values are all whole numbers, numbers, texts, true or false, or lists of one of these, has that type, so
that other programs read it; any other column (objects, lists of mixed values, file names that are no UTF-8) holds JSON
text and says so. A row without a column has a null there, and a null is read as no column.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UsageError

if TYPE_CHECKING:
    import pyarrow

BATCH = 10_000  # rows that are in memory at once
IS_JSON = {b"format": b"json"}  # metadata of a column that holds JSON text


def read_parquet(path: Path) -> Iterator[tuple[str, dict]]:
    """Each row, and where it is, for messages. Raises: `UsageError`."""
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        readers = {field.name: _reader(field) for field in file.schema_arrow}
        number = 0
        for batch in file.iter_batches(BATCH):
            for row in batch.to_pylist():
                number += 1
                there = ((column, readers[column], value) for column, value in row.items() if value is not None)
                yield f"{path}: row {number}", {column: read(value) if read else value for column, read, value in there}
    except pyarrow.ArrowException as error:
        raise UsageError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}") from None


def _reader(field: "pyarrow.Field") -> Callable[[Any], Any] | None:
    """What makes of a column's values what JSON has; None where they are that."""
    import pyarrow

    if (field.metadata or {}).items() >= IS_JSON.items():
        return json.loads
    kind, types = field.type, pyarrow.types
    if types.is_list(kind):
        kind = kind.value_type
    plain = (types.is_string, types.is_integer, types.is_floating, types.is_boolean)
    return None if any(is_one(kind) for is_one in plain) else _plain


def _plain(value: Any) -> Any:
    """A value of another program's file as JSON has it: dates, decimals and such as text."""
    return value if isinstance(value, (str, int, float)) else json.loads(json.dumps(value, default=str))


def write_parquet(path: Path, rows: list[dict]) -> None:
    from pyarrow import parquet, schema

    columns = list(dict.fromkeys(column for row in rows for column in row)) or ["video_path"]
    fields = [_field(column, [row[column] for row in rows if row.get(column) is not None]) for column in columns]
    with parquet.ParquetWriter(path, schema(fields), compression="zstd") as writer:
        for begin in range(0, len(rows), BATCH):
            writer.write_table(_table(rows[begin : begin + BATCH], fields))


def _table(rows: list[dict], fields: "list[pyarrow.Field]") -> "pyarrow.Table":
    import pyarrow

    arrays = []
    for field in fields:
        values = [row.get(field.name) for row in rows]
        if field.metadata:
            values = [None if value is None else json.dumps(value) for value in values]
        arrays.append(pyarrow.array(values, field.type))
    return pyarrow.table(arrays, pyarrow.schema(fields))


def _field(column: str, values: list) -> "pyarrow.Field":
    import pyarrow

    kind = _type(values)
    return pyarrow.field(column, kind) if kind else pyarrow.field(column, pyarrow.string(), metadata=IS_JSON)


def _type(values: list) -> "pyarrow.DataType | None":
    """The type that all values have, None where there is no one type that gives them back as they are."""
    import pyarrow

    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return pyarrow.bool_()
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return pyarrow.int64()
    if kinds == {float}:
        return pyarrow.float64()
    if kinds == {str}:
        return pyarrow.string()
    if kinds == {list}:
        inner = _type([item for value in values for item in value])
        return pyarrow.list_(inner) if inner else None
    return None
