"""Lines of files by their numbers. Memory holds the offset and length of each line: twelve bytes."""

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


def read_spans(file: BinaryIO, begins: np.ndarray, lengths: np.ndarray) -> list[bytes]:
    """Spans of a file's bytes, neighbours by one read; b"" where a length is 0."""
    found = [b""] * len(begins)
    order = np.argsort(begins, kind="stable")
    order = order[lengths[order] > 0]
    begins, ends = begins[order], begins[order] + lengths[order]
    cuts = [0, *(np.flatnonzero(begins[1:] - ends[:-1] > GAP) + 1).tolist(), len(order)]
    for first, last in zip(cuts, cuts[1:]):
        if first < last:
            begin = int(begins[first])
            piece = os.pread(file.fileno(), int(ends[last - 1]) - begin, begin)
            part = slice(first, last)
            spans = zip(order[part].tolist(), (begins[part] - begin).tolist(), (ends[part] - begin).tolist())
            for place, start, stop in spans:
                found[place] = piece[start:stop]
    return found


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
        """The lines with these numbers."""
        if len(self.files) == 1:
            return read_spans(*self.spans(numbers))
        found = [b""] * len(numbers)
        for file, first, last in zip(self.files, self.firsts, self.firsts[1:]):
            places = np.flatnonzero((numbers >= first) & (numbers < last))
            lines = read_spans(file, self.begins[numbers[places]], self.lengths[numbers[places]])
            for place, line in zip(places.tolist(), lines):
                found[place] = line
        return found

    def spans(self, numbers: np.ndarray) -> tuple[BinaryIO, np.ndarray, np.ndarray]:
        """Of one file: itself, where lines begin in it, and their lengths, 0 for a negative number."""
        begins, lengths = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.int32)
        there = numbers >= 0
        begins[there], lengths[there] = self.begins[numbers[there]], self.lengths[numbers[there]]
        return self.files[0], begins, lengths

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
