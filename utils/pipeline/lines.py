"""Lines of files by their numbers. Of each, memory holds where it begins: eight bytes."""

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np

from utils.rows import atomic_write, is_torn

PIECE = 1 << 24  # bytes that are copied at once


def end_of_lines(file: BinaryIO) -> int:
    """How many bytes of a file its whole lines have: where a kill tore the last one, that one is left out."""
    begin = size = file.seek(0, os.SEEK_END)
    last = b""
    while begin and b"\n" not in last:
        step = min(begin, 1 << 16)
        begin -= step
        file.seek(begin)
        last = file.read(step) + last
    line = last.rpartition(b"\n")[2]
    return size - len(line) if line and is_torn(line) else size


class Lines(Sequence[bytes]):
    """The lines of files, one file after the other; blank lines are none."""

    def __init__(self) -> None:
        self.files: list[BinaryIO] = []
        self.ends: list[int] = []
        self.starts = np.zeros(0, np.int64)
        self.blank = 0  # lines that were none
        self.firsts = [0]  # the number of each file's first line, then how many lines there are

    def take(self, file: BinaryIO, begin: int = 0) -> Iterator[bytes]:
        """Take in the lines of a file, from an offset on, and give each as it is read; a torn last line is none."""
        starts, end = array("q"), end_of_lines(file)
        file.seek(begin)
        for line in file:
            if begin >= end:
                break
            if not line.isspace():
                starts.append(begin)
                yield line
            else:
                self.blank += 1
            begin += len(line)
        self.files.append(file)
        self.ends.append(end)  # a file that grows meanwhile is taken in again from there
        self.starts = np.concatenate([self.starts, np.frombuffer(starts, np.int64)]) if starts else self.starts
        self.firsts.append(len(self.starts))

    def __len__(self) -> int:
        return self.firsts[-1]

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
        end = self.ends[number] if is_end else int(self.starts[last + 1])
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


class LineReader:
    """Lines of one file by their numbers, many at a time: neighbours by one read."""

    GAP = 1 << 15  # bytes between two lines that are read with them

    def __init__(self, path: Path):
        self.file = open(path, "rb")
        starts, blank, at, begins = [np.zeros(0, np.int64)], [], 0, True
        while piece := self.file.read(PIECE >> 2):
            read = np.frombuffer(piece, np.uint8)
            found = np.flatnonzero(read == ord("\n")) + 1
            found = np.concatenate([np.zeros(int(begins), np.int64), found[found < len(read)]])
            starts.append(found + at)
            blank += [found[read[found] <= ord(" ")] + at]
            at, begins = at + len(piece), read[-1] == ord("\n")
        self.starts = np.concatenate(starts)
        self.stops = np.append(self.starts[1:], at)
        is_none = [start for start in np.concatenate(blank or [self.starts[:0]]).tolist() if self._is_blank(start)]
        if is_none:
            kept = ~np.isin(self.starts, is_none)
            self.starts, self.stops = self.starts[kept], self.stops[kept]

    def _is_blank(self, start: int) -> bool:
        self.file.seek(start)
        return not self.file.readline().strip()

    def lines(self, numbers: np.ndarray) -> list[bytes]:
        """The lines with these numbers, b"" for a negative one."""
        found = [b""] * len(numbers)
        order = np.argsort(numbers, kind="stable")
        order = order[np.searchsorted(numbers[order], 0) :]
        starts, stops = self.starts[numbers[order]], self.stops[numbers[order]]
        ends = np.flatnonzero(starts[1:] - stops[:-1] > self.GAP) + 1
        for first, last in zip([0, *ends.tolist()], [*ends.tolist(), len(order)]):
            if first == last:
                continue
            begin = int(starts[first])
            piece = os.pread(self.file.fileno(), int(stops[last - 1]) - begin, begin)
            places = zip(
                order[first:last].tolist(), (starts[first:last] - begin).tolist(), (stops[first:last] - begin).tolist()
            )
            for place, start, stop in places:
                found[place] = piece[start:stop]
        return found
