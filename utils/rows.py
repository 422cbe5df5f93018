"""Rows and their files: one JSON object a line (or csv or parquet, by the file's ending), grown by appending, never torn, resumed
by key.

A result file `scores.jsonl` has up to three companions: `scores.errors.jsonl` (`video_path`, `error`, `message` of what
failed), `scores.settings.json` (what the scores depend on) and, while several ranks run, `scores.part-<rank>.jsonl`.
Readers see the union of a file and its parts; the parts are merged in input order by a rename when the last rank ends.
"""

import codecs
import contextlib
import csv
import glob
import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from utils.columns import KEYS, Kind, check_row, is_text, is_utf8
from utils.errors import UsageError
from utils.parquet import read_parquet, write_parquet
from utils.working_copies import local_path, naming, shown, upload, url_of, working_copy

# Columns of csv files that are text even where they look like a number; so is every `*path` and `*model`.
TEXT_COLUMNS = {"made_from", "frame_rate", "codec", "summary_caption", "prompt", "error", "message", "reason", "text"}
csv.field_size_limit(sys.maxsize)  # a caption or a list of boxes may exceed the 128 KiB that csv allows by default


def dumps(row: dict) -> str:
    """A row as one line of JSON: readable UTF-8, escaped only where a file name is no UTF-8."""
    line = json.dumps(row, ensure_ascii=False)
    return line if is_utf8(line) else json.dumps(row)


def digest(row: dict, columns: Sequence[str]) -> str | None:
    """Eight hex digits over those of `columns` that the row has; None when it has none."""
    present = {column: row[column] for column in columns if column in row}
    return hashlib.sha256(dumps(present).encode()).hexdigest()[:8] if present else None


def read_rows(
    path: str | os.PathLike,
    required: Sequence[str] = (),
    kinds: Mapping[str, Kind] | None = None,
    resumed: bool = False,
) -> list[dict]:
    """All rows of a jsonl, csv or parquet file, or URL, and of its parts, every column that has a name in `columns.COLUMNS`, or in
    `kinds`, checked.

    A truncated last line, left by a kill, is ignored: without a word where a result file is `resumed`, else with a line
    on stderr. csv cells that hold JSON (numbers, lists, true, null) become what they say, but for the column
    `video_path` and other text.

    Raises: `UsageError` with a sentence when the file is missing, is no row file, holds a malformed row, or lacks a
    column in `required`.
    """
    return list(rows_of(path, required, kinds, resumed))


def rows_of(
    path: str | os.PathLike,
    required: Sequence[str] = (),
    kinds: Mapping[str, Kind] | None = None,
    resumed: bool = False,
) -> Iterator[dict]:
    """The rows of `read_rows`, one at a time. That a column is missing is raised after the last row."""
    path = working_copy(path)
    files = [f for f in (path, *part_files(path)) if f.is_file()]
    if not files:
        raise UsageError(f"{path}: no such file")
    may_be_torn = resumed or path.with_suffix(".settings.json").is_file()  # ours: a kill may leave nothing but a part
    kinds = {column: KEYS[column] for column in required if column in KEYS} | dict(kinds or {})
    number, lacking = 0, ""
    for file in files:
        read = READERS.get(file.suffix.lower()) or partial(_read_jsonl, resumed=resumed, ours=may_be_torn)
        for where, row in read(file):
            number += 1
            check_row(row, where, kinds)
            if not lacking and (missing := [column for column in required if column not in row]):
                has = ", ".join(map(repr, row)) or "none"
                lacking = f"{path}: row {number} has no column {missing[0]!r}; it has {has}"
            yield row
    if lacking:
        raise UsageError(lacking)


def _read_jsonl(path: Path, resumed: bool, ours: bool) -> Iterator[tuple[str, dict]]:
    """Each row and where it is, for messages."""
    check_encoding(path)
    read = 0
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}: line {number}"
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except RecursionError:
                raise UsageError(f"{where} holds lists or objects that are nested too deep") from None
            except ValueError:
                if line.endswith(b"\n") or not (read or ours):
                    raise UsageError(f"{where} is not JSON: {line[:60].decode(errors='replace')!r}") from None
                if not resumed:
                    print(f"{shown(where)}, the last, is incomplete and ignored", file=sys.stderr)
                return
            if not isinstance(row, dict):
                raise UsageError(f"{where} is {line[:60].decode(errors='replace')!r}, not a JSON object")
            if b"\\u" in line:
                _check_text(row, where)
            read += 1
            yield where, row


def _read_csv(path: Path) -> Iterator[tuple[str, dict]]:
    """Each row and where it is, for messages."""
    check_encoding(path)
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
        reader = csv.DictReader(lines)
        columns = [column for column in reader.fieldnames or () if column]
        if twice := [column for column in columns if columns.count(column) > 1]:
            raise UsageError(f"{path}: line 1 has two columns {twice[0]!r}")
        try:
            for row in reader:
                where = f"{path}: line {reader.line_num}"
                if any(row.pop(None, ())):
                    raise UsageError(
                        f"{where} has more cells than the {len(columns)} columns of line 1; is a comma unquoted?"
                    )
                cells = {key: _cell(key, value) for key, value in row.items() if value not in (None, "")}
                _check_text(cells, where)
                yield where, cells
        except csv.Error as error:
            raise UsageError(f"{path}: line {reader.line_num}: {error}") from None
        except RecursionError:
            raise UsageError(f"{where} holds lists or objects that are nested too deep") from None


def check_encoding(path: str | os.PathLike) -> None:
    """Raises: `UsageError` for UTF-16, as spreadsheets save it."""
    with open(path, "rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise UsageError(f"{path}: line 1 is UTF-16 text; save the file as UTF-8")


def _check_text(row: dict, where: str) -> None:
    """Raises: `UsageError` for half of a surrogate pair, which no file can hold."""
    for column, value in row.items():
        if not is_text(column + json.dumps(value, ensure_ascii=False)):
            raise UsageError(f"{where}: {column!r} holds {value!r:.60}, whose escape is half of a character")


def _cell(column: str, value: str):
    if column in TEXT_COLUMNS or column.endswith(("path", "model")) or value[:1] not in '-0123456789[{"tfn':
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def refuse_overwriting(written: Mapping[str, str | os.PathLike], read: Mapping[str, str | os.PathLike | None]) -> None:
    """Raises: `UsageError` where a file to write is also one to read, or is to be written twice, under whatever name.

    Both: what each file is, a flag say, and its path.
    """
    for (what, path), (other, its_path) in itertools.combinations([*written.items(), *read.items()], 2):
        if what in written and its_path and _are_one(path or "", its_path):
            raise UsageError(f"{what} {path} is also the file of {other}, which it would replace; choose another one")


def _are_one(path: str | os.PathLike, other: str | os.PathLike) -> bool:
    path, other = local_path(path), local_path(other)
    same_inode = os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)
    return same_inode or os.path.realpath(path) == os.path.realpath(other)


def sweep(path: str | os.PathLike) -> None:
    """Remove the temporary files that killed runs left beside `path`: of processes that are no longer on this machine, or
    a day old. A second's grace is for a writer on another machine.
    """
    for left in glob.glob(f"{glob.escape(str(Path(path).parent))}/.{glob.escape(Path(path).name)}.*.tmp"):
        pid = left.split(".")[-2]
        with contextlib.suppress(OSError):
            age = time.time() - os.path.getmtime(left)
            if pid.isdecimal() and (age > 86_400 or (age > 1 and not _is_running(int(pid)))):
                os.unlink(left)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends: no reader sees half a file. Nothing is left of a
    block that fails. What is written for a URL is uploaded whole.

    Raises: `OSError` that names `path`.
    """
    path = local_path(path)
    if url_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    sweep(path)
    try:
        with naming(path, temporary):
            yield temporary
            temporary.replace(path)
        upload(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_rows(path: str | os.PathLike, rows: Iterable[dict]) -> None:
    """Write a whole jsonl, csv or parquet file atomically."""
    write = WRITERS.get(Path(path).suffix.lower())
    with atomic_write(path) as temporary:
        if write:
            write(temporary, list(rows))
        else:
            with open(temporary, "w", encoding="utf-8") as out:
                out.writelines(dumps(row) + "\n" for row in rows)


def write_lines(path: str | os.PathLike, lines: Iterable[str]) -> None:
    """`write_rows` of rows that are lines of JSON already."""
    if Path(path).suffix.lower() == ".jsonl":
        with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
            out.writelines(lines)
    else:
        write_rows(path, map(json.loads, lines))


def _write_csv(path: Path, rows: list[dict]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row)) or ["video_path"]
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        writer = csv.writer(out, lineterminator="\n")
        quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        for row in rows:
            cells = [_to_cell(row.get(column)) for column in columns]
            # Before Python 3.13 a writer leaves a bare \r unquoted, and the reader takes it for the end of the row.
            (quoting if any("\r" in cell for cell in cells) else writer).writerow(cells)


def _to_cell(value) -> str:
    return "" if value is None else value if isinstance(value, str) else dumps(value)


# By the file's ending; every other file is jsonl. A file that has a writer is not appended to, but written whole.
READERS: dict[str, Callable[[Path], Iterator[tuple[str, dict]]]] = {".csv": _read_csv, ".parquet": read_parquet}
WRITERS: dict[str, Callable[[Path, list[dict]], None]] = {".csv": _write_csv, ".parquet": write_parquet}


def part_files(path: Path) -> list[Path]:
    """The parts that ranks have written beside `path` and nobody has merged yet."""
    return [Path(p) for p in sorted(glob.glob(f"{glob.escape(str(path.with_suffix('')))}.part-*.jsonl"))]
