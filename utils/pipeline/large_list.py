"""Lists too large for memory: rows are read from the file where they are asked for, and DuckDB finds which are due.

Of each row Python holds some numbers, in arrays. Everything is as `process_rows` does it with rows in memory; what DuckDB
and Python do not read alike is left to that.
"""

import hashlib
import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from utils.columns import PATH
from utils.pipeline.result_file import ResultFile
from utils.pipeline.tables import Table, make_keys, name_of, sql_digest
from utils.rows import atomic_write, digest
from utils.video_utils import relative_to_folder
from utils.working_copies import sync

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LARGE = 100 << 20  # bytes of a list that is not held in memory: some 300,000 rows
KEY = name_of("video_path")


class LargeList(Sequence[dict]):
    """The rows of a jsonl file, each read when it is asked for, with its `video_path` relative to `folder`."""

    def __init__(self, path: Path, column: str, folder: str | None):
        self.path, self.column, self.folder = path, column, folder
        self.lines = Lines([path])

    def __len__(self) -> int:
        return len(self.lines)

    def digest(self) -> str:
        return hashlib.sha256(self.lines.maps[0]).hexdigest()

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
    """The lines of files, one file after the other, without those that hold nothing but their end."""

    def __init__(self, files: Sequence[Path]):
        self.maps: list[Any] = []
        starts, ends, owners = [], [], []
        for number, file in enumerate(files):
            with open(file, "rb") as opened:
                size = file.stat().st_size
                self.maps.append(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
            found = _line_ends(self.maps[-1])
            begins = np.concatenate([[0], found])[: len(found)]
            there = found - begins > 1
            starts.append(begins[there])
            ends.append(found[there])
            owners.append(np.full(there.sum(), number, np.uint16))
        self.starts, self.ends = (np.concatenate(part) if part else np.zeros(0, np.int64) for part in (starts, ends))
        self.owners = np.concatenate(owners) if owners else np.zeros(0, np.uint16)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index):
        return self.maps[self.owners[index]][self.starts[index] : self.ends[index]]

    def write(self, path: Path, order: np.ndarray) -> None:
        """Write the lines with these numbers, in this order; neighbours that stay neighbours go as one piece."""
        breaks = (
            np.flatnonzero(
                (np.diff(order) != 1)
                | (np.diff(self.owners[order]) != 0)
                | (self.ends[order[:-1]] != self.starts[order[1:]])
            )
            + 1
        )
        with atomic_write(path) as temporary, open(temporary, "wb") as out:
            for begin, end in zip([0, *breaks], [*breaks, len(order)], strict=True):
                if begin < end:
                    first, last = order[begin], order[end - 1]
                    out.write(self.maps[self.owners[first]][self.starts[first] : self.ends[last]])


def _line_ends(data: Any) -> np.ndarray:
    """Where each line ends, past its newline."""
    found = [np.zeros(0, np.int64)]
    for begin in range(0, len(data), 1 << 26):
        piece = np.frombuffer(data[begin : begin + (1 << 26)], np.uint8)
        found.append(np.flatnonzero(piece == 10) + (begin + 1))
    if len(data) and data[-1:] != b"\n":
        found.append(np.array([len(data)]))
    return np.concatenate(found)


class NotAlike(Exception):
    """DuckDB does not read a list as Python does: its rows must be handled in memory."""


class Standing:
    """Where the rows of a large list stand, held against a result file; `look` counts. `total`: rows with different paths.

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
        self.is_due, self.due_count, self.finished, self.failed, self.errors = self.is_input, 0, 0, 0, list[dict]()

    def _marked(self, query: str) -> np.ndarray:
        """A bool a row of the list, true for the numbers that a query gives."""
        marked = np.zeros(len(self.rows), bool)
        marked[self.db.execute(query).fetchnumpy()["row"]] = True
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
            f"SELECT done_facts.idx - 1, row, {made_from} FROM done_facts JOIN inputs ON row = clip WHERE made IS DISTINCT FROM {made_from}"
        )
        stale = []
        while some := found.fetchmany(1000):  # Python may spell a number in another way
            stale += [
                line for line, row, text in some if (text and json.loads(text)) != self._made_from(self.rows[row])
            ]
        if stale:
            lines = Lines(self.results.row_files())
            lines.write(self.results.path, np.delete(np.arange(len(lines)), stale))
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
        by_key = {json.dumps(path, ensure_ascii=False): error for path, error in errors.items()}
        query = "SELECT row, key FROM inputs WHERE key IN (SELECT unnest(?::VARCHAR[]))"
        return {row: by_key[key] for row, key in self.db.execute(query, [list(by_key)]).fetchall()} if errors else {}

    def look(self) -> None:
        """Find out which rows are finished, have failed, or are due."""
        done = self._results()
        finished = (
            self._marked(f"SELECT row FROM inputs SEMI JOIN done ON key = done.{KEY}")
            if done
            else np.zeros(len(self.rows), bool)
        )
        failed = {row: error for row, error in self._rows_of(self.results.load_errors()).items() if not finished[row]}
        self.is_due = self.is_input & ~finished
        self.is_due[list(failed)] = False
        self.errors, self.failed = list(failed.values()), len(failed)
        self.due_count, self.finished = int(self.is_due.sum()), int(finished.sum())

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
            "SELECT line, row FROM results WHERE row IS NOT NULL UNION ALL FROM others"
        ).fetchnumpy()
        row = np.zeros(len(found["line"]), np.int64)
        row[found["line"]] = found["row"]
        order = np.argsort(row, kind="stable")
        order = order[np.append(np.diff(row[order]) != 0, True)]
        files = self.results.row_files()
        if len(files) > 1 or not np.array_equal(order, np.arange(len(row))):
            Lines(files).write(self.results.path, order)
        self.results.remove_parts()
