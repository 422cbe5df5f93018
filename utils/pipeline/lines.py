"""Lines of files by their numbers. Of each, memory holds where it begins and how long it is: twelve bytes."""

import os
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from utils.rows import atomic_write, is_torn
from utils.rows.columns import Decoder

PIECE = 1 << 21  # bytes that are looked at at once
GAP = 1 << 12  # bytes between two lines that are read with them
BATCH = 4_000  # lines that are in memory at once


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


def as_numpy(values: array) -> np.ndarray:
    return np.frombuffer(values, values.typecode) if values else np.zeros(0, values.typecode)


class Lines:
    """The lines of files, one file after the other; blank lines are none, and neither is a last one that a kill tore."""

    def __init__(self) -> None:
        self.files: list[BinaryIO] = []
        self.firsts = [0]  # the number of each file's first line, then how many lines there are
        self.begins, self.lengths = np.zeros(0, np.int64), np.zeros(0, np.int32)

    @classmethod
    def of(cls, file: BinaryIO) -> "Lines":
        """Those of a whole file."""
        lines = cls()
        deque(lines.take(file), 0)
        return lines

    @classmethod
    def first(cls, file: BinaryIO, count: int | None) -> Iterator[bytes]:
        """The first of a file, or all, without a look at the others."""
        pieces = cls().take(file)
        lines = (piece[start:stop] for piece, *places in pieces for start, stop in zip(*places))
        return islice(lines, count)

    def __len__(self) -> int:
        return self.firsts[-1]

    def take(self, file: BinaryIO, begin: int = 0) -> Iterator[tuple[bytes, np.ndarray, np.ndarray]]:
        """Take in the lines of a file, from an offset on. Gives pieces of it while they are read: bytes, where each line begins in them, and
        where the next does."""
        begins, lengths = [self.begins], [self.lengths]
        at, end, size = begin, end_of_lines(file), PIECE
        while at < end:
            piece = os.pread(file.fileno(), min(size, end - at), at)
            whole = len(piece) if at + len(piece) >= end else piece.rfind(b"\n") + 1
            if not whole:  # a line that is longer than a piece
                size *= 2
                continue
            piece, size = piece[:whole], PIECE
            starts, stops = self._lines_in(piece)
            begins.append(at + starts)
            lengths.append((stops - starts).astype(np.int32))
            yield piece, starts, stops
            at += whole
        self.files.append(file)
        self.begins, self.lengths = np.concatenate(begins), np.concatenate(lengths)
        self.firsts.append(len(self.begins))

    @staticmethod
    def _lines_in(piece: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Where each line begins, and where the next does."""
        read = np.frombuffer(piece, np.uint8)
        stops = np.flatnonzero(read == ord("\n")) + 1
        if not len(stops) or stops[-1] < len(read):
            stops = np.append(stops, len(read))
        starts = np.append(0, stops[:-1])
        is_blank = read[starts] <= ord(" ")
        for place in np.flatnonzero(is_blank):
            is_blank[place] = not piece[starts[place] : stops[place]].strip()
        return starts[~is_blank], stops[~is_blank]

    def decode(
        self, file: BinaryIO, decoder: Decoder, judge: Callable[[bytes, int], dict], begin: int = 0
    ) -> Iterator[list]:
        """Take in the lines of a file and give their rows, many at a time; `judge(line, number)` gives, or refuses, a row that the
        decoder does not take at once, from its line in the file.
        """
        line_number = 1
        for piece, starts, stops in self.take(file, begin):
            rows = decoder.rows(piece)
            if rows is None or len(rows) != len(starts):
                rows, at, number = [], 0, line_number
                for start, stop in zip(starts.tolist(), stops.tolist()):
                    number, at, line = number + piece.count(b"\n", at, start), start, piece[start:stop]
                    rows.append(decoder.row(line) or decoder.of(judge(line, number)))
            line_number += piece.count(b"\n")
            yield rows

    def read(self, numbers: np.ndarray) -> list[bytes]:
        """The lines with these numbers, b"" for a negative one; neighbours by one read."""
        found = [b""] * len(numbers)
        order = np.argsort(numbers, kind="stable")
        order = order[np.searchsorted(numbers[order], 0) :]
        lines = numbers[order]
        for file, first, last in zip(self.files, self.firsts, self.firsts[1:]):
            begin, end = np.searchsorted(lines, [first, last]).tolist()
            if begin < end:
                self._read(file, lines[begin:end], order[begin:end], found)
        return found

    def _read(self, file: BinaryIO, lines: np.ndarray, places: np.ndarray, found: list[bytes]) -> None:
        begins = self.begins[lines]
        ends = begins + self.lengths[lines]
        cuts = [0, *(np.flatnonzero(begins[1:] - ends[:-1] > GAP) + 1).tolist(), len(lines)]
        for first, last in zip(cuts, cuts[1:]):
            begin, end = int(begins[first]), int(ends[last - 1])
            piece = os.pread(file.fileno(), end - begin, begin)
            part = slice(first, last)
            spans = zip(places[part].tolist(), (begins[part] - begin).tolist(), (ends[part] - begin).tolist())
            for place, start, stop in spans:
                found[place] = piece[start:stop]

    def __getitem__(self, number: int) -> bytes:
        return self.read(np.array([range(len(self))[number]]))[0]

    def in_batches(self, numbers: np.ndarray) -> Iterator[bytes]:
        """The lines with these numbers, in this order."""
        for begin in range(0, len(numbers), BATCH):
            yield from self.read(numbers[begin : begin + BATCH])

    def write(self, path: Path, order: np.ndarray) -> None:
        """Write the lines with these numbers, in this order."""
        with atomic_write(path) as temporary, open(temporary, "wb") as out:
            lines = self.in_batches(order)
            while batch := b"".join(islice(lines, BATCH)):
                out.write(batch)
