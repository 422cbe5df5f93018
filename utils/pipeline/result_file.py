"""A result file: what is done, what is due, and appending what comes."""

import contextlib
import fcntl
import io
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from utils.errors import Failure, UsageError
from utils.rows import WRITERS, atomic_write, dumps, part_files, read_rows, sweep, write_rows
from utils.working_copies import local_path, remove, sync, upload, working_copy

PLACES = {"output_folder"}  # where clips are stored is no setting; versions before 0.3 wrote it down


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
            size, left = file.seek(0, os.SEEK_END), memoryview("".join(self.waiting).encode())
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
    end = size = file.seek(0, os.SEEK_END)
    while end and (file.seek(end - 1), file.read(1))[1] != b"\n":
        end -= 1
    if end != size:
        file.seek(end)
        try:
            json.loads(file.read())
            file.write(b"\n")  # whole, but for its end
        except ValueError:
            file.truncate(end)
    return file


def unique(rows: list[dict], key: str) -> list[dict]:
    """The rows without repetitions, which a kill between the merging of parts and their removal leaves."""
    return list({(row.get(key), row.get("video_path")): row for row in rows}.values())


def settings_of(path: str | os.PathLike) -> dict:
    """The settings that a result file was made with; {} where there are none."""
    try:
        before = json.loads(working_copy(path).with_suffix(".settings.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return before if isinstance(before, dict) else {}


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


class ResultFile:
    """A result file with its errors and settings: what is done, what is due, and appending what comes.

    `key` is the column that tells rows apart (`source_path` where one source gives several rows). `settings` are the
    choices that change the results; a file made under others is not added to.

    Raises: `UsageError` with a sentence when the settings differ or the folder cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        settings: dict,
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
        self.errors_path = self.path.with_suffix(".errors.jsonl")
        self.settings_path = self.path.with_suffix(".settings.json")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.path.parent}: cannot make this folder: {error.strerror}") from None
        if not os.access(self.path.parent, os.W_OK):
            raise UsageError(f"{self.path.parent}: this folder cannot be written; choose another --saved_path")
        self.overwritten: list[dict] = []
        self._lock: IO[bytes] | None = None
        if rank == 0:
            if self.settings_path.is_file():
                self._take_lock()
            for file in (self.path, self.errors_path, self.settings_path):
                sweep(file)
            try:
                self._check_owner()
                if overwrite:
                    self._start_over()
                self._check_settings(settings)
            except UsageError:
                self._release()
                raise
            if retry_errors and self._exists(self.errors_path):
                self.keep_only_errors([])
                remove(self.errors_path)
            self._take_lock()
        # One process appends to the file itself, so that it can be watched; ranks, and csv or parquet, need parts.
        direct = world == 1 and self.path.suffix.lower() not in WRITERS
        self.rows = Appender(self.path if direct else self._part(self.path), saved_freq)
        self.errors = Appender(self.errors_path if world == 1 else self._part(self.errors_path), saved_freq)

    def load(self) -> tuple[list[dict], dict[str, dict]]:
        """The rows that are there, and the error rows by key."""
        self._keep_lock()
        sync(self.path)
        return unique(self._read(self.path, self.key), self.key), self.load_errors()

    def load_errors(self) -> dict[str, dict]:
        """The error rows by key."""
        self._keep_lock()
        return {row["video_path"]: row for row in self._read(self.errors_path, "video_path")}

    def row_files(self) -> list[Path]:
        """The file of the results, where it is there, and its parts."""
        return [file for file in (self.path, *part_files(self.path)) if file.is_file()]

    def mend(self) -> None:
        """Cut off what a kill left torn at the end of the files."""
        for file in self.row_files():
            open_for_append(file).close()

    def remove_parts(self) -> None:
        for part in part_files(self.path):
            remove(part)

    def keep_only(self, rows: list[dict]) -> None:
        """Replace what the file holds; used to drop outdated rows, such as scores of a clip that was cut again."""
        write_rows(self.path, rows)
        self.remove_parts()

    def keep_only_errors(self, rows: list[dict]) -> None:
        """The same for the errors: of an input that has changed since."""
        write_rows(self.errors_path, rows)
        for part in part_files(self.errors_path):
            remove(part)

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

    def close(self) -> None:
        """Write what waits, and let other runs at the file."""
        self.finish_writing()
        self._release()

    def merge(self, order: Sequence[str]) -> None:
        """Bring file and parts together in the order of the keys given; rows of other keys follow. An empty result is
        an empty file.
        """
        sync(self.path)
        self._merge(self.path, order, self.key)
        if self._exists(self.errors_path):
            self._merge(self.errors_path, order, "video_path")

    def _merge(self, path: Path, order: Sequence[str], key: str) -> None:
        rows = self._read(path, key)
        index = {name: i for i, name in enumerate(order)}
        by_key = sorted(unique(rows, key), key=lambda row: index.get(str(row.get(key)), len(index)))
        if by_key != rows or part_files(path) or not path.exists():
            write_rows(path, by_key)
        for part in part_files(path):
            remove(part)

    def _start_over(self) -> None:
        with contextlib.suppress(UsageError):  # not a row file: what it listed cannot be known
            # Who discards what they list has several a source; of other results there may be too many for the memory.
            self.overwritten = [] if self.key == "video_path" else self._read(self.path, self.key)
        for file in self._files():
            remove(file)

    def _take_lock(self) -> None:
        """Refuse a second run while one is at work: one process alone, or the ranks of one run together.

        The settings file is what is locked: it is there from the start and is not renamed while a run lasts.
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
        owner = self._settings_before().get("file", self.path.name)
        if owner != self.path.name and self.path.with_name(owner).exists():
            raise UsageError(
                f"{self.path}: {self.settings_path.name} and {self.errors_path.name} there belong to {owner}; "
                f"choose another name than {self.path.stem}"
            )

    def _check_settings(self, settings: dict) -> None:
        settings = {"file": self.path.name, **json.loads(json.dumps(settings))}
        if self.settings_path.is_file() and self._exists(self.path):
            before = {"file": self.path.name, **self._settings_before()}
            differ = [
                k
                for k in sorted({*before, *settings} - PLACES)
                if before.get(k) != settings.get(k) and not _was_moved(before.get(k), settings.get(k))
            ]
            if differ:
                changes = "; ".join(f"{k} was {before.get(k)!r} and is {settings.get(k)!r}" for k in differ)
                raise UsageError(
                    f"{self.path} was made with other settings: {changes}. Pass --overwrite to recompute everything, or choose another --saved_path"
                )
        else:
            text = json.dumps(settings, indent=1, ensure_ascii=False) + "\n"
            with atomic_write(self.settings_path) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def _settings_before(self) -> dict:
        return settings_of(self.path)

    def _read(self, path: Path, key: str) -> list[dict]:
        """The rows of `path`, none where it is not there; each with its key and its video_path."""
        return read_rows(path, (key, "video_path"), resumed=True) if self._exists(path) else []

    def _part(self, path: Path) -> Path:
        return path.with_suffix(f".part-{self.rank}.jsonl")

    def _exists(self, path: Path) -> bool:
        return path.is_file() or bool(part_files(path))

    def _files(self) -> list[Path]:
        return [self.path, self.errors_path, self.settings_path, *part_files(self.path), *part_files(self.errors_path)]
