"""A result file: which of its rows match the current input, appending new rows, and rows kept aside.

The file holds the results of rows that are in the input now, no others. A result whose row is not there now, or is another one, moves to
`<name>.aside.jsonl`, which is looked at before anything is due: captions of clips that a tighter threshold dropped are there when
it is loosened again.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from utils.errors import Failure, UsageError
from utils.pipeline.ancestry import CLOCK_SECONDS, as_number, inputs_of, settings_of, write_settings
from utils.pipeline.appender import Appender, open_for_append
from utils.pipeline.matching import MatchedResults
from utils.pipeline.row_list import Rows
from utils.rows import WRITERS, part_files, rows_of, sweep, write_rows
from utils.working_copies import local_path, remove, sync, working_copy

# Settings that are no choices: where clips are stored, which versions before 0.3 wrote down; what the file is made from, and by what.
NO_CHOICES = {"output_folder", "inputs", "script", "checked", "at_work_on", "stills"}


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
        inputs: Mapping[str, str] | None = None,
    ) -> ResumeState:
        """Find the results of `rows` as they are now, bring them into the order of the input, and put the others aside. Ranks but
        the first only look, once that is done.

        `is_whole(results of one row)` may refuse them. `is_of_file(stamp, video_path)`, where results are read from videos: whether
        the file is still that; `content_column` holds its content where a stamp is missing. `inputs`: which files the results are made from
        (`ancestry.inputs_of`).
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
        had_results = np.zeros(len(rows), bool)
        had_results[self.matched.row[self.in_file][self.matched.row[self.in_file] >= 0]] = True
        self._arrange(self.matched.current(is_filtered, is_of_file, is_whole))
        self.inputs = dict(inputs or {})
        if self.rank == 0:
            write_settings(self.path, {**self.settings, "at_work_on": self.inputs}, None)
            self._take_lock()  # of the file that is there now
        state = self._state(rows)
        state.outdated = int((had_results & ~(state.finished | is_filtered)).sum())
        return state

    def merge(self, rows: Rows) -> ResumeState:
        """Bring what was added since, by all ranks, into the order of the input; where its rows stand now."""
        sync(self.path)
        before = len(self.matched)
        if not self.path.exists() and not part_files(self.path):
            write_rows(self.path, [])  # an empty result is a file, too
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

        def changed() -> Iterator[tuple[dict, dict]]:
            lines, inputs = self.matched.lines.in_batches(self.in_file), rows.read(self.matched.row[self.in_file])
            for before, row in zip(map(json.loads, lines), inputs):
                yield before, change(before, row)

        if any(before != after for before, after in changed()):
            write_rows(self.path, (after for _, after in changed()))

    def _arrange(self, current: np.ndarray) -> None:
        """Make the file hold the lines `current`, and put aside what it held beside them: on the first rank, for all. In an order in which a kill
        leaves a line twice, never lost.
        """
        is_current, before = np.zeros(len(self.matched), bool), self.in_file
        is_current[current] = True
        gone = before[~is_current[before]]
        written = np.append(self.aside, gone)
        aside = self.matched.without_repeats(np.sort(written[~is_current[written]]), current)
        self.aside, self.in_file = aside, current
        if self.rank:
            return
        if len(gone):
            self.matched.lines.write(self.aside_path, written)
        parts = part_files(self.path)
        if parts or not np.array_equal(current, before):
            if self.path.suffix.lower() in WRITERS:
                write_rows(self.path, map(json.loads, self.matched.lines.in_batches(current)))
            else:
                self.matched.lines.write(self.path, current)
            for part in parts:
                remove(part)
        if not np.array_equal(aside, written):
            self.matched.lines.write(self.aside_path, aside)
        if not len(aside) and self.aside_path.exists():
            remove(self.aside_path)
        self.size_before = self.path.stat().st_size if self.path.exists() else 0

    def _state(self, rows: Rows) -> ResumeState:
        """Where the rows stand, with the errors that are still theirs; on the first rank their file then has no others."""
        finished, failed = (np.zeros(len(rows), bool) for _ in range(2))
        finished[self.matched.row[self.in_file]] = True
        found = {}
        before = self._load_errors()
        for error in before:
            number = int(rows.numbers(np.array([hash(error["video_path"])]))[0])
            if number < 0 or finished[number] or self.is_filtered[number]:
                continue
            ancestry, _, stamp = str(error.get("made_from") or "").partition(" ")
            is_same_file = not stamp or self.is_of_file is None or self.is_of_file(stamp, error["video_path"])
            if is_same_file and rows.have(np.array([as_number(ancestry)]), np.array([number])).all():
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

    def finish(self) -> None:
        """Write down that the run has ended, and what the file is made from."""
        write_settings(self.path, self.settings, self.inputs, self.began)

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
            raise UsageError(
                f"{self.settings_path}: file is {owner!r:.60}, not the name of a result file; remove that file, or choose another --saved_path"
            )
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
                f"{self.path}: {self.settings_path.name}, which records its settings, is missing or unreadable; restore it, "
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
                f"{self.path} was made with other settings: {changes}. Pass --overwrite (to a stage OVERWRITE=1) to recompute everything, or choose another --saved_path"
            )
        write_settings(self.path, self.settings, None)

    def _part(self, path: Path) -> Path:
        return path.with_suffix(f".part-{self.rank}.jsonl")

    def _files(self) -> list[Path]:
        kept = (self.path, self.errors_path, self.settings_path, self.aside_path)
        return [*kept, *part_files(self.path), *part_files(self.errors_path)]
