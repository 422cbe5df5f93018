"""Lists too large for memory: rows are read from the file where they are asked for, and DuckDB finds which are due.

Of each row Python holds some numbers, in arrays. Everything is as `process_rows` does it with rows in memory; what DuckDB
and Python do not read alike is left to that.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, overload

import numpy as np

from utils.columns import PATH, is_utf8
from utils.pipeline.result_file import ResultFile
from utils.pipeline.tables import Table, make_keys, name_of, sql_digest
from utils.rows import atomic_write, digest
from utils.video_utils import relative_to_folder
from utils.working_copies import sync

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LARGE = 32 << 20  # bytes of a list that is not held in memory: some 100,000 rows
PIECE = 1 << 24  # bytes that are read at once
NEWLINE, BRACE = b"\n{"
KEY = name_of("video_path")


class LargeList(Sequence[dict]):
    """The rows of a jsonl file, each read when it is asked for, with its `video_path` relative to `folder`."""

    def __init__(self, path: Path, column: str, folder: str | None):
        self.path, self.column, self.folder = path, column, folder
        self.lines = Lines([path])

    def __len__(self) -> int:
        return len(self.lines)

    def digest(self) -> str:
        sha = hashlib.sha256()
        with open(self.path, "rb") as file:
            while piece := file.read(PIECE):
                sha.update(piece)
        return sha.hexdigest()

    @overload
    def __getitem__(self, index: int) -> dict: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = json.loads(self.lines[index].decode("utf-8-sig"))
        return {**row, "video_path": relative_to_folder(row[self.column], self.folder)}


class Lines(Sequence[bytes]):
    """The lines of files, one file after the other, without blank ones; a line's number gives its place in its file."""

    def __init__(self, files: Sequence[Path]):
        self.files: list[BinaryIO] = [open(file, "rb") for file in files]
        starts = [_line_starts(file) for file in self.files]
        self.starts = np.concatenate([np.zeros(0, np.int64), *starts])
        self.firsts = np.cumsum([0, *map(len, starts)])  # the number of each file's first line, and of all lines

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return b"".join(self._between(index, index))

    def _between(self, first: int, last: int) -> Iterator[bytes]:
        """The bytes from one line to another of the same file."""
        number = int(np.searchsorted(self.firsts, first, "right")) - 1
        file, at = self.files[number].fileno(), int(self.starts[first])
        is_end = last + 1 == self.firsts[number + 1]
        end = os.fstat(file).st_size if is_end else int(self.starts[last + 1])
        while at < end and (piece := os.pread(file, min(end - at, PIECE), at)):
            yield piece
            at += len(piece)

    def write(self, path: Path, order: np.ndarray) -> None:
        """Write the lines with these numbers, in this order; neighbours that stay neighbours go as one piece."""
        begins_file = np.zeros(len(self) + 1, bool)
        begins_file[self.firsts] = True
        is_first = begins_file[order]
        is_first[:1] = True
        is_first[1:] |= np.diff(order) != 1
        begins = np.flatnonzero(is_first)
        with atomic_write(path) as temporary, open(temporary, "wb") as out:
            for begin, end in zip(begins, np.append(begins[1:], len(order)), strict=False):
                out.writelines(self._between(int(order[begin]), int(order[end - 1])))


def _line_starts(file: BinaryIO) -> np.ndarray:
    """Where each line of a file begins that is not blank, int64."""
    starts, unusual = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    size, first = 0, True  # `first`: the next piece begins a line
    while piece := file.read(PIECE):
        read = np.frombuffer(piece, np.uint8)
        found = np.flatnonzero(read == NEWLINE) + 1
        found = np.concatenate([np.zeros(int(first), np.int64), found[found < len(read)]])
        starts.append(found + size)
        unusual.append(found[read[found] != BRACE] + size)
        size, first = size + len(piece), read[-1] == NEWLINE
    blank = [at for at in np.concatenate(unusual) if not (file.seek(at), file.readline())[1].strip()]
    found = np.concatenate(starts)
    return np.delete(found, np.searchsorted(found, blank)) if blank else found


class NotAlike(Exception):
    """DuckDB does not read a list as Python does: its rows must be handled in memory."""


class Standing:
    """Where the rows of a large list stand, held against a result file; `look` counts: `finished` and `errors` without what is filtered out, `done` with
    it. `total`: rows with different paths.

    Raises: `NotAlike`; `UsageError` for a malformed row.
    """

    def __init__(self, db: "DuckDBPyConnection", rows: LargeList, results: ResultFile, depends_on: Sequence[str]):
        self.db, self.rows, self.results, self.depends_on = db, rows, results, depends_on
        clips = Table(db, "clips", rows.path, (rows.column,), {rows.column: PATH})
        columns = [column for column in depends_on if column in clips.columns]
        if not clips.is_anew:
            clips.load(list(dict.fromkeys([rows.column, *columns])), "clips.idx")
        if clips.is_anew:
            raise NotAlike
        self.total = make_keys(clips, rows.column, rows.folder)
        values = {column: f"clips_facts.{name_of(column)}" for column in columns}
        made = f"CASE WHEN coalesce({', '.join(values.values())}) IS NOT NULL THEN {sql_digest(values)} END"
        db.execute(
            f"CREATE TABLE inputs AS SELECT keys.idx - 1 AS row, key, {made if values else 'NULL::VARCHAR'} AS made "
            "FROM keys JOIN clips_facts ON clips_facts.idx = keys.idx"
        )
        db.execute("DROP TABLE clips_facts; DROP TABLE keys")
        self.is_input = self._marked("SELECT row FROM inputs")  # false where a path is repeated
        self._finished: np.ndarray | None = None  # as far as it is known without another look at the results
        self.is_filtered = np.zeros(len(rows), bool)
        self.is_due, self.due_count, self.done, self.finished, self.errors = self.is_input, 0, 0, 0, list[dict]()

    def leave_out_all_but(self, passing: np.ndarray) -> None:
        """Take the rows whose numbers are not in `passing` for filtered out."""
        self.is_filtered = self.is_input.copy()
        self.is_filtered[passing] = False

    def _marked(self, query: str) -> np.ndarray:
        """A bool a row of the list, true for the numbers that a query gives."""
        marked = np.zeros(len(self.rows), bool)
        found = self.db.execute(f"SELECT row::INTEGER AS row FROM ({query})")
        marked[found.fetchnumpy()["row"]] = True
        return marked

    def _results(self) -> Table | None:
        """The result file and its parts as the view `done`, None where there is no row."""
        sync(self.results.path)
        if not any(file.stat().st_size for file in self.results.row_files()):
            return None
        return Table(self.db, "done", self.results.path, ("video_path",))

    def drop_outdated(self) -> int:
        """Remove results whose input has changed since; how many there were."""
        self.results.mend()
        done = self._results()
        if done is None:
            return 0
        done.load(["made_from"], "row", f"LEFT JOIN inputs ON key = done.{KEY}")  # checks what each column holds
        made_from = name_of("made_from") if "made_from" in done.columns else "NULL"
        found = self.db.execute(
            f"SELECT row, {made_from} FROM done_facts JOIN inputs ON row = clip WHERE made IS DISTINCT FROM {made_from}"
        )
        stale = []
        while some := found.fetchmany(1000):  # Python may spell a number in another way
            stale += [row for row, text in some if (text and json.loads(text)) != self._made_from(self.rows[row])]
        self._finished = None if stale else self._marked("SELECT clip AS row FROM done_facts WHERE clip IS NOT NULL")
        self.db.execute("DROP TABLE done_facts")
        if stale:
            query = (
                f"SELECT done.idx - 1 AS line FROM done JOIN inputs ON key = done.{KEY} WHERE row IN (SELECT unnest(?))"
            )
            of_stale = self.db.execute(query, [stale]).fetchnumpy()["line"]
            lines = Lines(self.results.row_files())
            lines.write(self.results.path, np.delete(np.arange(len(lines)), of_stale))
            self.results.remove_parts()
        return len(stale)

    def drop_outdated_errors(self) -> None:
        errors = self.results.load_errors()
        stale = {
            error["video_path"]
            for row, error in self._rows_of(errors).items()
            if error.get("made_from") != self._made_from(self.rows[row])
        }
        if stale:
            self.results.keep_only_errors([error for path, error in errors.items() if path not in stale])

    def _made_from(self, row: dict) -> str | None:
        return digest(row, self.depends_on)

    def _rows_of(self, errors: dict[str, dict]) -> dict[int, dict]:
        """The error rows by the number of their row in the list."""
        paths = [path for path in errors if is_utf8(path)]  # as are all of the list
        # DuckDB spells the JSON of both: Python writes \u001b where DuckDB has \u001B.
        query = (
            "SELECT row, path FROM inputs JOIN (SELECT unnest(?::VARCHAR[]) AS path) ON key = to_json(path)::VARCHAR"
        )
        return {row: errors[path] for row, path in self.db.execute(query, [paths]).fetchall()} if paths else {}

    def look(self) -> None:
        """Find out which rows are finished, have failed, or are due."""
        finished = self._finished
        if finished is None:
            there = self._results() is not None
            query = f"SELECT row FROM inputs SEMI JOIN done ON key = done.{KEY}" if there else "SELECT 0 AS row LIMIT 0"
            finished = self._marked(query)
        self._finished = None
        failed = {row: error for row, error in self._rows_of(self.results.load_errors()).items() if not finished[row]}
        self.is_due = self.is_input & ~finished & ~self.is_filtered
        self.is_due[list(failed)] = False
        self.done = int(finished.sum()) + len(failed)
        self.errors = [error for row, error in failed.items() if not self.is_filtered[row]]
        self.due_count, self.finished = int(self.is_due.sum()), int((finished & ~self.is_filtered).sum())

    def due(self, chunks: Iterator[Sequence[int]]) -> Iterator[dict]:
        """The rows that are due, out of chunks of the list's numbers."""
        for chunk in chunks:
            for number in np.flatnonzero(self.is_due[chunk[0] : chunk[-1] + 1]):
                yield self.rows[chunk[0] + int(number)]

    def merge(self) -> None:
        """Bring results and errors together with their parts, in the order of the list. Of several results of one row the
        last counts; results of rows that are not in the list follow.
        """
        self.results.mend()
        errors = self.results.load_errors()
        if errors:
            in_order = [error for _, error in sorted(self._rows_of(errors).items())]
            self.results.keep_only_errors(list({e["video_path"]: e for e in (*in_order, *errors.values())}.values()))
        done = self._results()
        if done is None:
            self.results.keep_only([])
            return
        found = self.db.execute(
            f"WITH results AS (SELECT done.idx - 1 AS line, row, done.{KEY} AS key FROM done LEFT JOIN inputs ON inputs.key = done.{KEY}), "
            f"others AS (SELECT line, {len(self.rows)} + min(line) OVER (PARTITION BY key) AS row FROM results WHERE row IS NULL) "
            "SELECT line::INTEGER AS line, row::INTEGER AS row FROM (SELECT line, row FROM results WHERE row IS NOT NULL UNION ALL FROM others)"
        ).fetchnumpy()
        row = np.zeros(len(found["line"]), np.int32)  # half the memory of 64 bits
        row[found["line"]] = found["row"]
        del found  # memory
        self._finished = np.zeros(len(self.rows), bool)
        self._finished[row[row < len(self.rows)]] = True
        order = np.argsort(row, kind="stable").astype(np.int32)
        order = order[np.append(np.diff(row[order]) != 0, True)]
        files = self.results.row_files()
        if len(files) > 1 or not np.array_equal(order, np.arange(len(row))):
            Lines(files).write(self.results.path, order)
        self.results.remove_parts()
