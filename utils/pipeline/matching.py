"""Which rows of result files are results of an input as it is now."""

import json
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET

from utils.pipeline.ancestry import as_number
from utils.pipeline.lines import Lines
from utils.pipeline.row_list import Rows
from utils.rows import WRITERS, check_has, parse_row, rows_of
from utils.rows.columns import KEYS, PATH, check_row, row_decoder

NO_STAMP, LOOK = -3, -4  # in place of a size: rows until 0.3 have no stamp; the content must be looked at


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
                values = decode(line)
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
                sizes.append(
                    int(size) if size.isdecimal() and not aside else LOOK if stamp or has_content else NO_STAMP
                )
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
        identity = [column[both] for column in (self.keys, self.ancestry, self.names, self.sizes) if len(column)]
        columns = np.stack([column.astype(np.int64) for column in identity])
        _, from_end = np.unique(columns[:, ::-1], axis=1, return_index=True)
        last = np.sort(len(both) - 1 - from_end)
        return lines[last[last < len(lines)]]
