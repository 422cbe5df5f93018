"""Which rows of result files match the current input."""

import json
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
from msgspec import UNSET, UnsetType

from utils.pipeline.ancestry import as_number
from utils.pipeline.lines import Lines, as_numpy
from utils.pipeline.row_list import Rows
from utils.rows import WRITERS, checked_row, rows_of
from utils.rows.columns import PATH, Decoder

NO_STAMP, LOOK = -3, -4  # in place of a size: rows until 0.3 have no stamp; the content must be looked at


class MatchedResults:
    """Lines of result files, of each the number of the input row that it is about, and numbers by which it is seen whether it is
    of that row as it is now.
    """

    def __init__(self, rows: Rows, key: str, content_column: str | None):
        self.rows, self.key, self.content_column = rows, key, content_column
        self.lines = Lines()
        self.keys = self.names = self.sizes = np.zeros(0, np.int64)
        self.row, self.ancestry = np.zeros(0, np.int32), np.zeros(0, np.uint32)

    def __len__(self) -> int:
        return len(self.row)

    def take(self, path: Path, begin: int = 0, aside: bool = False) -> None:
        """Take in the rows of a file, from an offset on; `aside`: their stamps have not been checked for long. Raises: `UsageError` for a
        malformed row.
        """
        if path.suffix.lower() in WRITERS:
            file = Rows.of(rows_of(path, (self.key, "video_path"), resumed=True)).file
        else:
            file = open(path, "rb")
        kinds, content = {self.key: PATH, "video_path": PATH}, self.content_column or "made_from"
        decoder = Decoder({column: PATH.type for column in kinds} | {"made_from": str, content: str}, len(kinds))
        values_of = decoder.values_of([self.key, "video_path", "made_from", content])
        keys, names, sizes, ancestry = array("q"), array("q"), array("q"), array("I")
        has_names, needs_sizes = self.key != "video_path", len(self.rows.sizes) > 0

        def judge(line: bytes, number: int) -> dict:
            return checked_row(line, f"{path}: line {number}", kinds)

        for rows in self.lines.decode(file, decoder, judge, begin):
            values = list(map(values_of, rows))
            keys.extend([hash(key) for key, _, _, _ in values])
            ancestry.extend([as_number(made.partition(" ")[0]) if made is not UNSET else 0 for _, _, made, _ in values])
            if has_names:
                names.extend([hash(name) for _, name, _, _ in values])
            if needs_sizes:
                has_content = bool(self.content_column)
                sizes.extend([_size(made, has_content and c is not UNSET, aside) for _, _, made, c in values])
        self.row = joined(self.row, self.rows.numbers(as_numpy(keys)))
        self.keys, self.ancestry = joined(self.keys, as_numpy(keys)), joined(self.ancestry, as_numpy(ancestry))
        self.names, self.sizes = joined(self.names, as_numpy(names)), joined(self.sizes, as_numpy(sizes))

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
        known = known[self.rows.have(self.ancestry[known], of) & ~is_filtered[of]]
        if is_of_file and len(self.rows.sizes):
            known = known[self._of_files(known, is_of_file)]
        known = self.in_order(known)
        if not is_whole or not len(known):
            return known
        begins = np.flatnonzero(np.append(True, np.diff(self.row[known]) != 0))
        groups = np.split(known, begins[1:])
        whole = [group for group in groups if is_whole([json.loads(line) for line in self.lines.read(group)])]
        return np.concatenate(whole) if whole else np.zeros(0, np.int64)

    def _of_files(self, known: np.ndarray, is_of_file: Callable[[str, str], bool]) -> np.ndarray:
        """Which of the lines are read from the files that are there now: those of the size of a file that has not changed; else by a look at
        the content.
        """
        fits = (self.sizes[known] == NO_STAMP) | (self.sizes[known] == self.rows.sizes[self.row[known]])
        unsure = np.flatnonzero(~fits)
        for place, line in zip(unsure, self.lines.in_batches(known[unsure])):
            result = json.loads(line)
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


def joined(before: np.ndarray, more: np.ndarray) -> np.ndarray:
    return np.append(before, more) if len(before) else more


def _size(made_from: str | UnsetType, has_content: bool, aside: bool) -> int:
    """The size that is in a stamp, where that need not be held against the content first."""
    _, _, stamp = made_from.partition(" ") if made_from is not UNSET else ("", "", "")
    size = stamp.partition(" ")[2]
    return int(size) if size.isdecimal() and not aside else LOOK if stamp or has_content else NO_STAMP
