"""Rows and their files: one JSON object per line (or csv or parquet, by extension), never truncated, resumed by key.

A result file `scores.jsonl` has companions: `scores.errors.jsonl` (`video_path`, `error`, `message` of what failed),
`scores.settings.json` (what the scores depend on, and which files they were made from), `scores.aside.jsonl` (results of rows that are
not in the input at present) and, while several ranks run, `scores.part-<rank>.jsonl`.
"""

import codecs
import contextlib
import glob
import hashlib
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from utils.errors import UsageError
from utils.rows.columns import KEYS, Kind, check_row, row_check
from utils.rows.csv_files import read_csv, write_csv
from utils.rows.parquet import read_parquet, write_parquet
from utils.working_copies import local_path, naming, shown, upload, url_of, working_copy

NOT_UTF8, SURROGATE = re.compile("[\udc80-\udcff]"), re.compile("[\ud800-\udfff]")


def dumps(row: Any) -> str:
    """A row as one line of JSON, readable."""
    return encode(row)


encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes an encoder at each call


def digest(row: Mapping, columns: Sequence[str]) -> str | None:
    """Eight hex digits over those of `columns` that the row has; None when it has none."""
    present = {column: row[column] for column in columns if column in row}
    return hashlib.sha256(dumps(present).encode()).hexdigest()[:8] if present else None


def read_rows(
    path: str | os.PathLike,
    required: Sequence[str] = (),
    kinds: Mapping[str, Kind] | None = None,
    resumed: bool = False,
) -> list[dict]:
    """`rows_of` as a list."""
    return list(rows_of(path, required, kinds, resumed))


def rows_of(
    path: str | os.PathLike,
    required: Sequence[str] = (),
    kinds: Mapping[str, Kind] | None = None,
    resumed: bool = False,
) -> Iterator[dict]:
    """The rows of a jsonl, csv or parquet file, or URL, and of its parts, every column that has a name in `columns.COLUMNS`, or
    in `kinds`, checked.

    A truncated last line, left by a kill, is ignored: without a word where a result file is `resumed`, else with a line
    on stderr.

    Raises: `UsageError` with a sentence when the file is missing, is no row file, holds a malformed row, or one without a
    column in `required`.
    """
    path = working_copy(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a file of rows (jsonl, csv, parquet)")
    files = [f for f in (path, *part_files(path)) if f.is_file()]
    if not files:
        raise UsageError(f"{path}: no such file")
    may_be_torn = resumed or path.with_suffix(".settings.json").is_file()  # ours: a kill may leave nothing but a part
    kinds = {column: KEYS[column] for column in required if column in KEYS} | dict(kinds or {})
    number, fits = 0, row_check(kinds)
    for file in files:
        read = READERS.get(file.suffix.lower()) or partial(_read_jsonl, resumed=resumed, ours=may_be_torn)
        check_encoding(file)
        for where, row in read(file):
            number += 1
            if not fits(row):
                check_row(row, where, kinds)
            check_has(row, required, f"{path}: row {number}")
            yield row


def check_has(row: Mapping, required: Sequence[str], where: str) -> None:
    """Raises: `UsageError` where a row lacks a column."""
    if missing := [column for column in required if column not in row]:
        raise UsageError(f"{where} has no column {missing[0]!r}; it has {', '.join(map(repr, row)) or 'none'}")


def _read_jsonl(path: Path, resumed: bool, ours: bool) -> Iterator[tuple[str, dict]]:
    """Each row and where it is, for messages."""
    read = 0
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}: line {number}"
            if not line.endswith(b"\n") and (read or ours) and is_torn(line):
                if not resumed:
                    print(f"{shown(where)}, the last, is incomplete and ignored", file=sys.stderr)
                return
            read += 1
            yield where, parse_row(line, where)


def is_torn(line: bytes) -> bool:
    """Whether a last line, without its end, is what a kill left of one."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def parse_row(line: bytes, where: str) -> dict:
    """A line of JSON as a row, whose columns are not checked. Raises: `UsageError`, headed by `where`."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except RecursionError:
        raise UsageError(f"{where} holds lists or objects that are nested too deep") from None
    except ValueError:
        raise UsageError(f"{where} is not JSON: {line[:60].decode(errors='replace')!r}") from None
    if not isinstance(row, dict):
        raise UsageError(f"{where} is {line[:60].decode(errors='replace')!r}, not a JSON object")
    if b"\\udc" in line:  # bytes of a file name that is not UTF-8, as versions before 0.4 wrote them
        row = json.loads(NOT_UTF8.sub("\ufffd", json.dumps(row, ensure_ascii=False)))
    if b"\\u" in line:
        for column, value in row.items():
            if SURROGATE.search(dumps({column: value})):
                raise UsageError(
                    f"{where}: {column!r} holds {value!r:.60}, which contains half of an escaped surrogate pair"
                )
    return row


def checked_row(line: bytes, where: str, kinds: Mapping[str, Kind]) -> dict:
    """A line of JSON as a row, which has the columns `kinds`, and holds what they and COLUMNS want. Raises: `UsageError`, headed by `where`."""
    row = parse_row(line, where)
    check_row(row, where, kinds)
    check_has(row, list(kinds), where)
    return row


def check_encoding(path: str | os.PathLike) -> None:
    """Raises: `UsageError` for UTF-16, as spreadsheets save it."""
    with open(path, "rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise UsageError(f"{path}: line 1 is UTF-16 text; save the file as UTF-8")


def refuse_overwriting(written: Mapping[str, str | os.PathLike], read: Mapping[str, str | os.PathLike | None]) -> None:
    """Raises: `UsageError` where a file to write is also one to read, or is to be written twice, under whatever name.

    Both: what each file is, a flag say, and its path.
    """
    for (what, path), (other, its_path) in itertools.combinations([*written.items(), *read.items()], 2):
        if what in written and its_path and _are_one(path or "", its_path):
            raise UsageError(f"{what} {path} would overwrite {other}, the same file; choose another path")


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
            with open(temporary, "w", encoding="utf-8", errors="replace") as out:
                out.writelines(dumps(row) + "\n" for row in rows)


def write_lines(path: str | os.PathLike, lines: Iterable[bytes]) -> None:
    """`write_rows` of rows that are lines of JSON already."""
    if Path(path).suffix.lower() not in WRITERS:
        with atomic_write(path) as temporary, open(temporary, "wb") as out:
            out.writelines(lines)
    else:
        write_rows(path, map(json.loads, lines))


# By the file's ending; every other file is jsonl. A file that has a writer is not appended to, but written whole.
READERS: dict[str, Callable[[Path], Iterator[tuple[str, dict]]]] = {".csv": read_csv, ".parquet": read_parquet}
WRITERS: dict[str, Callable[[Path, list[dict]], None]] = {".csv": write_csv, ".parquet": write_parquet}


def part_files(path: Path) -> list[Path]:
    """The parts that ranks have written beside `path` and nobody has merged yet."""
    return [Path(p) for p in sorted(glob.glob(f"{glob.escape(str(path.with_suffix('')))}.part-*.jsonl"))]
