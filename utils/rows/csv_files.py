"""Rows in csv files. A cell that holds JSON (a number, a list, true, null) is parsed, except for paths and other text."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from utils.errors import UsageError

# Text even where it looks like a number; so is every `*path`, `*model` and `*digest`.
TEXT_COLUMNS = {
    "made_from",
    "stamp",
    "frame_rate",
    "codec",
    "summary_caption",
    "prompt",
    "error",
    "message",
    "reason",
    "text",
}
csv.field_size_limit(sys.maxsize)  # a caption or a list of boxes may exceed the 128 KiB that csv allows by default


def read_csv(path: Path) -> Iterator[tuple[str, dict]]:
    """Each row and where it is, for messages. Raises: `UsageError`."""
    with open(path, newline="", encoding="utf-8-sig") as lines:
        reader, row_begins = csv.reader(lines, strict=True), 1
        try:
            columns = next(reader, [])
            if twice := [column for column in columns if column and columns.count(column) > 1]:
                raise UsageError(f"{path}: line 1 has two columns named {twice[0]!r}")
            readers = [(column, _is_text(column)) for column in columns]
            row_begins = reader.line_num + 1
            for cells in reader:
                where, row_begins = f"{path}: line {row_begins}", reader.line_num + 1
                if any(cells[len(columns) :]):
                    raise UsageError(
                        f"{where} has more cells than the {len(columns)} columns of line 1; is a comma unquoted?"
                    )
                if cells:
                    named = zip(readers, cells)
                    yield where, {c: v if is_text else _value(v) for (c, is_text), v in named if v and c}
        except csv.Error as error:
            unclosed = "a quotation mark is never closed" if "unexpected end" in str(error) else error
            raise UsageError(f"{path}: line {row_begins}: {unclosed}") from None
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{path}: line {row_begins} is not UTF-8: {error.object[error.start : error.start + 9]!r}"
            ) from None
        except RecursionError:
            raise UsageError(f"{where} holds lists or objects that are nested too deep") from None


def _is_text(column: str) -> bool:
    return column in TEXT_COLUMNS or column.endswith(("path", "model", "digest"))


def _value(cell: str) -> Any:
    if cell[0] not in '-0123456789[{"tfn':
        return cell
    try:
        return msgspec.json.decode(cell)
    except msgspec.DecodeError:  # text, or what only Python takes for a number
        pass
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def write_csv(path: Path, rows: list[dict]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row)) or ["video_path"]
    with open(path, "w", newline="", encoding="utf-8", errors="replace") as out:
        writer = csv.writer(out, lineterminator="\n")
        quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        for row in rows:
            cells = [_cell(row.get(column)) for column in columns]
            # Before Python 3.13 a writer leaves a bare \r unquoted, and the reader takes it for the end of the row.
            (quoting if any("\r" in cell for cell in cells) else writer).writerow(cells)


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
