"""Appending to a result file, so that a kill loses seconds."""

import fcntl
import io
import os
import time
from collections.abc import Iterable
from pathlib import Path

from utils.errors import UsageError
from utils.pipeline.lines import end_of_lines
from utils.rows import dumps
from utils.working_copies import upload


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
