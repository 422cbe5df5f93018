"""A result file: which of its rows are of today's input, appending what comes, and what is kept aside.

The file holds the results of rows that are in the input now, no others. A result whose row is not there now, or is another one, moves to
`<name>.aside.jsonl`, which is looked at before anything is due: captions of clips that a tighter threshold dropped are there when
it is loosened again.
"""

import fcntl
import io
import json
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from msgspec import UNSET

from utils.errors import Failure, UsageError
from utils.pipeline.ancestry import as_number, inputs_of, settings_of, write_settings
from utils.pipeline.lines import Lines, end_of_lines
from utils.pipeline.row_list import Rows
from utils.rows import WRITERS, check_has, dumps, is_unusual, parse_row, part_files, rows_of, sweep, write_rows
from utils.rows.columns import KEYS, PATH, check_row, row_decoder
from utils.working_copies import local_path, remove, sync, upload, working_copy

# Settings that are no choices: where clips are stored, which versions before 0.3 wrote down; what the file is made from, and by what.
NO_CHOICES = {"output_folder", "inputs", "script", "checked"}
CLOCK_SECONDS = 2  # by which the clocks of this machine and of a file server may differ
NO_STAMP, LOOK = -3, -4  # in place of a size: rows until 0.3 have no stamp; the content must be looked at


class Appender:
    """Appends rows to a jsonl file in small flushed batches: every `saved_freq` rows, or after five seconds. The working
    copy of a remote file is uploaded now and then, and when it is closed.
    """

    def __init__(self, path: Path, saved_freq: int):
        self.path, self.saved_freq = path, saved_freq
        self.waiting: list[str] = []
        self.file: io.FileIO | None = None
        self.flushed = time.monotonic()

    def add(self, rows: Iterable[dict]) -> None:
        self.waiting += [dumps(row) + "\n" for row in rows]
        if len(self.waiting) >= self.saved_freq or time.monotonic() - self.flushed > 5:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            if self.file is None:
                self.file = open_for_append(self.path)
            file = self.file
            size, left = file.seek(0, os.SEEK_END), memoryview("".join(self.waiting).encode(errors="replace"))
            try:
                while left:  # a disk that fills up takes a part
                    left = left[file.write(left) :]
            except OSError as error:
                file.truncate(size)
                raise UsageError(f"{self.path}: cannot be written: {error.strerror}") from None
            self.waiting.clear()
            upload(self.path, growing=True, only_if_due=True)
        self.flushed = time.monotonic()

    def close(self) -> None:
        self.flush()
        if self.file is not None:
            self.file.close()
            self.file = None
            upload(self.path, growing=True)


def open_for_append(path: Path) -> io.FileIO:
    """The file open at its end, a torn last line cut off, locked against a second run of the same command.

    Raises: `UsageError` when another process has it.
    """
    file = io.FileIO(path, "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{path}: another run is writing it; wait for that one, or end it") from None
    except OSError:
        pass  # a network file system without locks
    end = end_of_lines(file)
    if end < file.seek(0, os.SEEK_END):
        file.truncate(end)
    if end and (file.seek(end - 1), file.read(1))[1] != b"\n":
        file.write(b"\n")  # whole, but for its end
    return file


def errors_of(path: str) -> str:
    """The errors file of a result file, or its URL."""
    return f"{os.path.splitext(path)[0]}.errors.jsonl"


def write_whole(
    path: str, rows: Iterable[dict], errors: Iterable[dict], settings: Mapping[str, Any], files: Iterable[str | None]
) -> None:
    """Write a result file that is made as a whole at each run, from `files`, with its errors and settings."""
    saved_path = local_path(path)
    write_rows(saved_path, rows)
    write_rows(local_path(errors_of(path)), errors)
    write_settings(saved_path, {"file": saved_path.name, **settings}, inputs_of(saved_path, files))


def _was_moved(before: object, now: object) -> bool:
    """Whether a setting is the path of a file or folder (a model's) that is no longer there, and was moved to `now`."""
    return (
        isinstance(before, str)
        and isinstance(now, str)
        and os.path.isabs(before)
        and os.path.basename(before) == os.path.basename(now)
        and not os.path.exists(before)
        and os.path.exists(now)
    )


@dataclass
class ResumeState:
    """Where each row of an input stands, by its number: `finished` with `results` rows, or `failed` with an error row. `outdated`: rows that
    had results which are not theirs any more.
    """

    finished: np.ndarray
    failed: np.ndarray
    results: int
    errors: list[dict]
    outdated: int = 0


class ResultFile:
    """A result file with its errors and settings, held against the rows of an input.

    `key` is the column that tells rows apart (`source_path` where one source gives several rows). `settings` are the
    choices that change the results; a file made under others is not added to.

    Raises: `UsageError` with a sentence when the settings differ or are gone, or the folder cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        settings: Mapping[str, Any],
        *,
        key: str = "video_path",
        overwrite: bool = False,
        retry_errors: bool = False,
        saved_freq: int = 100,
        rank: int = 0,
        world: int = 1,
    ):
        self.path = working_copy(path) if rank == 0 else local_path(path)
        self.key, self.world, self.rank = key, world, rank
        self.errors_path, self.settings_path, self.aside_path = (
            self.path.with_suffix(suffix) for suffix in (".errors.jsonl", ".settings.json", ".aside.jsonl")
        )
        self.settings = {"file": self.path.name, **json.loads(json.dumps(settings))}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.path.parent}: cannot make this folder: {error.strerror}") from None
        if not os.access(self.path.parent, os.W_OK):
            raise UsageError(f"{self.path.parent}: this folder cannot be written; choose another --saved_path")
        self._lock: IO[bytes] | None = None
        if rank == 0:
            self._begin(overwrite, retry_errors)
        # One process appends to the file itself, so that it can be watched; ranks, and csv or parquet, need parts.
        self.is_direct = world == 1 and self.path.suffix.lower() not in WRITERS
        self.rows = Appender(self.path if self.is_direct else self._part(self.path), saved_freq)
        self.errors = Appender(self.errors_path if world == 1 else self._part(self.errors_path), saved_freq)

    def _begin(self, overwrite: bool, retry_errors: bool) -> None:
        if self.settings_path.is_file():
            self._take_lock()
        for file in (self.path, self.errors_path, self.settings_path, self.aside_path):
            sweep(file)
        try:
            self._check_owner()
            if overwrite:
                for file in self._files():
                    remove(file)
            self._check_settings()
        except UsageError:
            self._release()
            raise
        if retry_errors:
            for file in (self.errors_path, *part_files(self.errors_path)):
                remove(file)
        self._take_lock()
        self.began = self.settings_path.stat().st_mtime - CLOCK_SECONDS  # by the clock of the files

    # ---- What there is ---------------------------------------------------------------------------------------------------

    def resume(
        self,
        rows: Rows,
        is_filtered: np.ndarray,
        is_whole: Callable[[list[dict]], bool] | None = None,
        is_of_file: Callable[[str, str], bool] | None = None,
        content_column: str | None = None,
    ) -> ResumeState:
        """Find the results of `rows` as they are now, bring them into the order of the input, and put the others aside. Ranks but
        the first only look, once that is done.

        `is_whole(results of one row)` may refuse them. `is_of_file(stamp, video_path)`, where results are read from videos: whether
        the file is still that; `content_column` holds its content where a stamp is missing.
        """
        self._keep_lock()
        sync(self.path)
        if self.rank == 0:
            for file in (self.aside_path, *self._row_files()):
                if file.is_file() and file.suffix == ".jsonl":
                    open_for_append(file).close()
        self.matched = MatchedResults(rows, self.key, content_column if is_of_file else None)
        if self.aside_path.is_file():
            self.matched.take(self.aside_path, aside=True)
        self.aside = np.arange(len(self.matched))
        for file in self._row_files():
            self.matched.take(file)
        self.in_file = np.arange(len(self.aside), len(self.matched))
        self.is_filtered, self.is_of_file = is_filtered, is_of_file
        had_results = self.matched.row[self.in_file]
        self._arrange(self.matched.current(is_filtered, is_of_file, is_whole))
        state = self._state(rows)
        had_results = had_results[had_results >= 0]
        state.outdated = len(np.unique(had_results[~(state.finished | is_filtered)[had_results]]))
        return state

    def merge(self, rows: Rows) -> ResumeState:
        """Bring what was added since, by all ranks, into the order of the input; where its rows stand now."""
        sync(self.path)
        before = len(self.matched)
        if self.is_direct:
            self.matched.take(self.path, self.size_before)
        else:
            for part in part_files(self.path):
                self.matched.take(part)
        added = self.matched.current(self.is_filtered, first=before)
        current = self.matched.in_order(np.append(self.in_file, added))
        self.in_file = np.append(self.in_file, np.arange(before, len(self.matched)))
        self._arrange(current)
        return self._state(rows)

    def rewrite(self, rows: Rows, change: Callable[[dict, dict], dict]) -> None:
        """Replace each result by `change(result, row)`, where that changes any."""
        numbers = self.matched.row[self.in_file].tolist()

        def changed() -> Iterator[tuple[dict, dict]]:
            for line, number in zip(self.in_file.tolist(), numbers):
                before = json.loads(self.matched.lines[line])
                yield before, change(before, rows[number])

        if any(before != after for before, after in changed()):
            write_rows(self.path, (after for _, after in changed()))

    def _arrange(self, current: np.ndarray) -> None:
        """Make the file hold the lines `current`, and put aside what it held beside them: on the first rank, for all."""
        left = np.setdiff1d(np.append(self.aside, self.in_file), current)
        aside = self.matched.without_repeats(left, current)
        parts = part_files(self.path)
        is_there = self.path.exists() and not parts and np.array_equal(current, self.in_file)
        if self.rank == 0 and not np.array_equal(aside, self.aside):
            if len(aside):
                self.matched.lines.write(self.aside_path, aside)
        if self.rank == 0 and not is_there:
            if self.path.suffix.lower() in WRITERS:
                write_rows(self.path, (json.loads(self.matched.lines[int(i)]) for i in current))
            else:
                self.matched.lines.write(self.path, current)
            for part in parts:
                remove(part)
        if self.rank == 0 and not len(aside) and self.aside_path.exists():
            remove(self.aside_path)  # last: what was in it is in the file now
        self.aside, self.in_file = aside, current
        self.size_before = self.path.stat().st_size if self.rank == 0 else 0

    def _state(self, rows: Rows) -> ResumeState:
        """Where the rows stand, with the errors that are still theirs; on the first rank their file then has no others."""
        finished, failed = (np.zeros(len(rows), bool) for _ in range(2))
        finished[self.matched.row[self.in_file]] = True
        found = {}
        before = self._load_errors()
        for error in before:
            number = int(self.matched.numbers(np.array([hash(error["video_path"])]))[0])
            if number < 0 or finished[number] or self.is_filtered[number]:
                continue
            ancestry, _, stamp = str(error.get("made_from") or "").partition(" ")
            is_same_file = not stamp or self.is_of_file is None or self.is_of_file(stamp, error["video_path"])
            if as_number(ancestry) == rows.ancestry[number] and is_same_file:
                found[number] = error
        errors = [found[number] for number in sorted(found)]
        failed[list(found)] = True
        if self.rank == 0 and (errors != before or part_files(self.errors_path)):
            write_rows(self.errors_path, errors)
            for part in part_files(self.errors_path):
                remove(part)
        return ResumeState(finished, failed, len(self.in_file), errors)

    def _load_errors(self) -> list[dict]:
        there = self.errors_path.is_file() or part_files(self.errors_path)
        found = rows_of(self.errors_path, ("video_path",), resumed=True) if there else ()
        return list({row["video_path"]: row for row in found}.values())

    def _row_files(self) -> list[Path]:
        return [file for file in (self.path, *part_files(self.path)) if file.is_file()]

    # ---- What comes ------------------------------------------------------------------------------------------------------

    def add(self, rows: Iterable[dict]) -> None:
        self.rows.add(rows)

    def add_error(self, video_path: str, failure: Failure, more: dict) -> None:
        """Add an error row; `more`: further columns of it."""
        unexpected = {"unexpected": True} if failure.unexpected else {}
        self.errors.add(
            [{"video_path": video_path, "error": failure.error, "message": failure.message, **unexpected, **more}]
        )

    def finish_writing(self) -> None:
        self.rows.close()
        self.errors.close()

    def finish(self, inputs: Mapping[str, str]) -> None:
        """Write down that the run has ended, and what the file is made from (`ancestry.inputs_of`)."""
        write_settings(self.path, self.settings, inputs, self.began)

    def close(self) -> None:
        """Write what waits, and let other runs at the file."""
        self.finish_writing()
        self._release()

    # ---- Settings and locks ----------------------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        """Refuse a second run while one is at work: one process alone, or the ranks of one run together.

        The settings file is what is locked: it is there from the start and is not renamed until the run ends.
        """
        self._release()
        self._lock = open(self.settings_path, "rb")
        try:
            fcntl.flock(self._lock, (fcntl.LOCK_EX if self.world == 1 else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise UsageError(f"{self.path}: another run is writing it; wait for that one, or end it") from None
        except OSError:
            pass  # a network file system without locks

    def _keep_lock(self) -> None:
        """Take the lock where this process does not have it yet: a rank other than 0, once rank 0 has made the settings."""
        if self._lock is None:
            self._take_lock()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check_owner(self) -> None:
        """`x.csv` and `x.jsonl` of one folder would share their settings and errors: the second of them is refused."""
        owner = settings_of(self.path).get("file", self.path.name)
        if not isinstance(owner, str) or not owner or owner != os.path.basename(owner):
            raise UsageError(f"{self.settings_path}: file is {owner!r:.60}, not the name of a result file; pass --overwrite, or remove it")
        if owner != self.path.name and self.path.with_name(owner).exists():
            raise UsageError(
                f"{self.path}: {self.settings_path.name} and {self.errors_path.name} there belong to {owner}; "
                f"choose another name than {self.path.stem}"
            )

    def _check_settings(self) -> None:
        before = settings_of(self.path)
        has_rows = any(file.stat().st_size for file in self._row_files())
        if has_rows and not before:
            raise UsageError(
                f"{self.path}: {self.settings_path.name}, which says what it was made with, is gone or cannot be read; put it back, "
                "pass --overwrite to recompute everything, or choose another --saved_path"
            )
        now, old = self.settings, {"file": self.path.name, **before}
        differ = [
            k
            for k in sorted({*old, *now} - NO_CHOICES)
            if old.get(k) != now.get(k) and not _was_moved(old.get(k), now.get(k))
        ]
        if has_rows and differ:
            changes = "; ".join(f"{k} was {old.get(k)!r} and is {now.get(k)!r}" for k in differ)
            raise UsageError(
                f"{self.path} was made with other settings: {changes}. Pass --overwrite to recompute everything, or choose another --saved_path"
            )
        write_settings(self.path, self.settings, None)

    def _part(self, path: Path) -> Path:
        return path.with_suffix(f".part-{self.rank}.jsonl")

    def _files(self) -> list[Path]:
        kept = (self.path, self.errors_path, self.settings_path, self.aside_path)
        return [*kept, *part_files(self.path), *part_files(self.errors_path)]


class MatchedResults:
    """Lines of result files, of each the number of the input row that it is about, and numbers by which it is seen whether it is
    of that row as it is now.
    """

    def __init__(self, rows: Rows, key: str, content_column: str | None):
        self.rows, self.key, self.content_column = rows, key, content_column
        self.order = np.argsort(rows.keys, kind="stable")
        self.sorted = rows.keys[self.order]
        self.lines = Lines()
        self.keys = self.names = self.sizes = np.zeros(0, np.int64)
        self.row, self.ancestry = np.zeros(0, np.int32), np.zeros(0, np.uint32)

    def __len__(self) -> int:
        return len(self.row)

    def numbers(self, keys: np.ndarray) -> np.ndarray:
        """The number of the input row that has each key, -1 where none has."""
        if not len(self.sorted):
            return np.full(len(keys), -1, np.int32)
        place = np.searchsorted(self.sorted, keys).clip(max=len(self.sorted) - 1)
        return np.where(self.sorted[place] == keys, self.order[place], -1).astype(np.int32)

    def take(self, path: Path, begin: int = 0, aside: bool = False) -> None:
        """Take in the rows of a file, from an offset on; `aside`: their stamps have not been checked for long. Raises: `UsageError` for a
        malformed row.
        """
        if path.suffix.lower() in WRITERS:
            file = Rows.of(rows_of(path, (self.key, "video_path"), resumed=True)).file
        else:
            file = open(path, "rb")
        wanted = {"video_path": PATH.type, self.key: PATH.type, "made_from": str}
        wanted |= {self.content_column: str} if self.content_column else {}
        decode, names = row_decoder(wanted), list(wanted)
        keys, own, sizes, ancestry = array("q"), array("q"), array("q"), array("I")
        has_own, needs_sizes = self.key != "video_path", len(self.rows.sizes) > 0
        for number, line in enumerate(self.lines.take(file, begin), 1):
            try:
                values = (UNSET,) if is_unusual(line) else decode(line)
            except (msgspec.MsgspecError, RecursionError):
                values = (UNSET,)
            if values[0] is UNSET or (has_own and values[1] is UNSET):
                values = self._checked(line, f"{path}: line {number}", names)
            made = values[names.index("made_from")]
            ancestor, _, stamp = made.partition(" ") if made is not UNSET else ("", "", "")
            keys.append(hash(values[1] if has_own else values[0]))
            ancestry.append(as_number(ancestor))
            if has_own:
                own.append(hash(values[0]))
            if needs_sizes:
                size = stamp.partition(" ")[2]
                has_content = self.content_column and values[-1] is not UNSET
                sizes.append(int(size) if size.isdecimal() and not aside else LOOK if stamp or has_content else NO_STAMP)
        found = np.frombuffer(keys, np.int64) if keys else np.zeros(0, np.int64)
        self.keys = np.append(self.keys, found)
        self.row = np.append(self.row, self.numbers(found))
        self.names = np.append(self.names, np.array(own, np.int64))
        self.sizes = np.append(self.sizes, np.array(sizes, np.int64))
        self.ancestry = np.append(self.ancestry, np.array(ancestry, np.uint32))

    def _checked(self, line: bytes, where: str, names: list[str]) -> tuple:
        """The values of a row that a decoder did not take at once."""
        row = parse_row(line, where)
        check_row(row, where, KEYS)
        check_has(row, (self.key, "video_path"), where)
        return tuple([row.get(name, UNSET) for name in names])

    def current(
        self,
        is_filtered: np.ndarray,
        is_of_file: Callable[[str, str], bool] | None = None,
        is_whole: Callable[[list[dict]], bool] | None = None,
        first: int = 0,
    ) -> np.ndarray:
        """The lines that are results of the input as it is now, in its order, from line `first` on."""
        known = np.flatnonzero(self.row[first:] >= 0) + first
        of = self.row[known]
        known = known[(self.ancestry[known] == self.rows.ancestry[of]) & ~is_filtered[of]]
        if is_of_file and len(self.rows.sizes):
            known = known[self._of_files(known, is_of_file)]
        known = self.in_order(known)
        if not is_whole or not len(known):
            return known
        begins = np.flatnonzero(np.append(True, np.diff(self.row[known]) != 0))
        groups = np.split(known, begins[1:])
        whole = [group for group in groups if is_whole([json.loads(self.lines[int(i)]) for i in group])]
        return np.concatenate(whole) if whole else np.zeros(0, np.int64)

    def _of_files(self, known: np.ndarray, is_of_file: Callable[[str, str], bool]) -> np.ndarray:
        """Which of the lines are read from the files that are there now: those of the size of a file that has not changed; else by a look at
        the content.
        """
        fits = (self.sizes[known] == NO_STAMP) | (self.sizes[known] == self.rows.sizes[self.row[known]])
        for place in np.flatnonzero(~fits):
            result = json.loads(self.lines[int(known[place])])
            stamp = result.get("made_from", "").partition(" ")[2] or result.get(self.content_column or "", "")
            fits[place] = is_of_file(stamp, result["video_path"])
        return fits

    def in_order(self, lines: np.ndarray) -> np.ndarray:
        """The lines in the order of the input; of several that say the same of the same row, the last."""
        if not len(lines):
            return lines.astype(np.int64)
        lines = np.sort(lines)
        if self.key == "video_path":
            lines = lines[np.argsort(self.row[lines], kind="stable")]
            return lines[np.append(np.diff(self.row[lines]) != 0, True)]
        lines = lines[np.lexsort((lines, self.names[lines], self.row[lines]))]
        same = (np.diff(self.row[lines]) == 0) & (np.diff(self.names[lines]) == 0)
        lines = np.sort(lines[np.append(~same, True)])
        return lines[np.argsort(self.row[lines], kind="stable")]

    def without_repeats(self, lines: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The lines without those that `others`, or later ones, repeat, as a kill between two writes leaves them."""
        if not len(lines):
            return lines
        both = np.append(lines, others)
        told = [self.keys[both], self.ancestry[both], *([self.names[both]] if len(self.names) else [])]
        if len(self.sizes):
            told.append(self.sizes[both])
        _, last = np.unique(np.stack([part.astype(np.int64) for part in told])[:, ::-1], axis=1, return_index=True)
        return lines[np.sort((len(both) - 1 - last)[(len(both) - 1 - last) < len(lines)])]
