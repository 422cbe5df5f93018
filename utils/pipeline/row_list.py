"""The rows that a script works on: those of a list, or of a folder's videos.

They are lines of a file on disk, whatever they came as (csv, parquet, txt and folders are written out as lines first); of each,
memory holds four numbers. A row is read again by its number when it is worked on.
"""

import hashlib
import json
import os
import sys
import tempfile
from array import array
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from utils.errors import UsageError
from utils.pipeline.ancestry import check_inputs, digest_of, is_checked
from utils.pipeline.lines import PIECE, Lines, as_numpy, end_of_lines
from utils.rows import READERS, check_encoding, checked_row, dumps, parse_row, part_files, rows_of
from utils.rows.columns import COLUMNS, PATH, Decoder, Kind, is_unusual
from utils.storage import exists, is_folder
from utils.video.stills import STILL_EXTENSIONS, is_still
from utils.video_utils import get_video_path_list, is_clip, locate, relative_to
from utils.working_copies import shown, working_copy

MOST_ENDINGS = 6  # listed in the line about ignored files


class Rows(Sequence[dict]):
    """Rows of a file of JSON lines, each with its `video_path`, relative to `folder`.

    `kinds`: columns that every row must have, and what they hold. `is_ours`: a run of a script has written the file. `change(row)`: what else each row is given, or checked for, when it
    is read. After `scan`, by number: `keys`, a hash of the path; `ancestry`, of what the row holds (`ancestry.digest_of`);
    `order`, by key; `sizes`, of its video, where that has not changed (`ancestry.unchanged_sizes`); `is_first`, false where the path was there before;
    `is_still`, where that was asked for.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        column: str = "video_path",
        folder: str | None = None,
        kinds: Mapping[str, Kind] | None = None,
        is_ours: bool = False,
    ):
        self.path, self.file, self.is_ours = path, open(path, "rb"), is_ours
        self.name, self.column, self.folder = name, column, folder
        self.kinds = {**(kinds or {}), column: PATH}
        self.relative = relative_to(folder)
        self.change: Callable[[dict], dict] | None = None
        self.temporary: Any = None
        self.lines = Lines()
        self.keys = self.ancestry = self.sizes = self.order = np.zeros(0, np.int64)
        self.is_first = self.is_still = np.zeros(0, bool)

    @classmethod
    def of(cls, rows: Iterable[dict], name: str = "rows", **more: Any) -> "Rows":
        """Rows written to a temporary file."""
        file = tempfile.NamedTemporaryFile(prefix="reelset-rows-", suffix=".jsonl")
        for row in rows:
            file.write(dumps(row).encode(errors="replace") + b"\n")
        file.flush()
        found = cls(Path(file.name), name, **more)
        found.temporary = file  # which is removed when nobody holds it any more
        return found

    def scan(
        self,
        depends_on: Sequence[str] | None = (),
        size_of: Callable[[str], int] | None = None,
        quiet: bool = False,
        find_stills: bool = False,
    ) -> "Rows":
        """Look at all rows once: check them, and take the numbers of each, without ancestry where `depends_on` is None; `quiet`: nothing is
        reported; `find_stills`: take `is_still`, too.

        Raises: `UsageError` for a malformed row.
        """
        wanted = {self.column: PATH.type} | {column: kind.type for column, kind in self.kinds.items()}
        wanted |= {c: COLUMNS[c].type if c in COLUMNS else Any for c in depends_on or () if c not in self.kinds}
        # Whoever made the list has looked at every line for what a decoder skips.
        is_plain = self.temporary is None and is_checked(self.name)
        is_close = (lambda line: True) if self.change else None if is_plain else is_unusual
        decoder = Decoder(wanted, len(self.kinds), is_close)
        ancestors, digest = decoder.values_of(depends_on or ()), digest_of(tuple(depends_on or ()))
        keys, ancestry, sizes, stills = array("q"), array("I"), array("q"), array("b")
        self.lines, relative = Lines(), self.relative
        for rows in self.lines.decode(self.file, decoder, self._judge):
            paths = [relative(row.c0) for row in rows]
            keys.extend(map(hash, paths))
            if depends_on is not None:
                ancestry.extend(map(digest, map(ancestors, rows)))
            if size_of:
                sizes.extend(map(size_of, paths))
            if find_stills:
                stills.extend(map(is_still, paths))
        if not quiet:
            self._report_torn_line()
        self.keys, self.ancestry, self.sizes = as_numpy(keys), as_numpy(ancestry), as_numpy(sizes)
        self.is_still = as_numpy(stills).astype(bool)
        self._find_repeats(quiet)
        return self

    def _judge(self, line: bytes, number: int) -> dict:
        """A row that the decoder did not take at once, from its line in the file. Raises: `UsageError` where it is malformed."""
        return self._changed(checked_row(line, f"{self.name}: line {number}", self.kinds))

    def _changed(self, row: dict) -> dict:
        row = {**row, "video_path": self.relative(row[self.column])}
        return self.change(row) if self.change else row

    def _report_torn_line(self) -> None:
        """Raises: `UsageError` for a file without a whole line: it is no list that a kill left unfinished."""
        end = end_of_lines(self.file)
        if end == self.file.seek(0, os.SEEK_END):
            return
        self.file.seek(end)
        if not len(self.lines) and not self.is_ours:
            self._judge(self.file.read(), 1)
        print(f"{shown(self.name)}: line {len(self.lines) + 1}, the last, is incomplete and ignored", file=sys.stderr)

    def _find_repeats(self, quiet: bool) -> None:
        self.is_first = np.ones(len(self.keys), bool)
        self.order = np.argsort(self.keys, kind="stable").astype(np.int32)
        keys = self.keys[self.order]
        for place in np.flatnonzero(keys[1:] == keys[:-1]) + 1:  # two paths may have one hash
            number, before = int(self.order[place]), int(self.order[place - 1])
            self.is_first[number] = self[number]["video_path"] != self[before]["video_path"]
        count = int((~self.is_first).sum())
        if count and not quiet:
            print(f"{self.name}: {count:,} rows repeat a path and are skipped")

    def head(self, count: int) -> list[dict]:
        """The first rows, without a look at the others."""
        return [self._judge(line, number) for number, line in enumerate(Lines.first(self.file, count), 1)]

    def __len__(self) -> int:
        return len(self._checked_lines())

    def _checked_lines(self) -> Lines:
        if not self.lines.files:
            self.scan()
        return self.lines

    @overload
    def __getitem__(self, index: int) -> dict: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return list(self.read(np.arange(*index.indices(len(self)))))
        return self._row(self._checked_lines()[index])

    def read(self, numbers: np.ndarray) -> Iterator[dict]:
        """The rows with these numbers, many read at a time."""
        return map(self._row, self._checked_lines().in_batches(numbers))

    def _row(self, line: bytes) -> dict:
        is_plain = b"\\u" not in line and not line.startswith(BOM_UTF8)
        return self._changed(json.loads(line) if is_plain else parse_row(line, self.name))

    def __iter__(self) -> Iterator[dict]:
        """The rows in order, without those that repeat a path."""
        len(self)
        return self.read(np.flatnonzero(self.is_first))

    def have(self, ancestry: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Whether each of the rows has the ancestry that a result says; true of all where that was not looked at."""
        return self.ancestry[numbers] == ancestry if len(self.ancestry) else np.ones(len(numbers), bool)

    def numbers(self, keys: np.ndarray, last: bool = False) -> np.ndarray:
        """The number of the first row, or the last, that has each key, -1 where none has."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int32)
        places = np.searchsorted(self.keys, keys, "right" if last else "left", sorter=self.order) - last
        found = self.order[places.clip(max=len(self.order) - 1)]
        return np.where(self.keys[found] == keys, found, np.int32(-1))

    def digest(self) -> str:
        """Of all that the rows hold, the same on every rank."""
        sha = hashlib.sha256()
        self.file.seek(0)
        while piece := self.file.read(PIECE):
            sha.update(piece)
        return sha.hexdigest()


def open_rows(
    video_folder: str | None,
    video_metadata_path: str | None,
    video_path_column: str = "video_path",
    needed: Mapping[str, Kind] | None = None,
    skip_clips: bool = False,
) -> Rows:
    """The rows to work on, from a list with all its columns or from a folder. `needed` as `Rows.kinds`. `skip_clips`: leave out what
    video_splitting.py has written into the folder.

    Raises: `UsageError` with a sentence for a missing folder, file or column, a malformed row, or a list that is older than what it
    was made from.
    """
    if video_folder and not exists(video_folder):
        raise UsageError(f"--video_folder {video_folder}: no such folder or video")
    more: dict[str, Any] = {"column": video_path_column, "folder": video_folder, "kinds": needed}
    if not video_metadata_path or video_metadata_path.lower().endswith(".txt"):
        others: Counter[str] = Counter()
        # What is cut into clips are videos.
        paths = get_video_path_list(video_folder, video_metadata_path, video_path_column, others, stills=not skip_clips)
        if others:
            kinds = [f"{count:,} {ending or 'without one'}" for ending, count in others.most_common(MOST_ENDINGS)]
            still = (
                ""
                if skip_clips or not STILL_EXTENSIONS & others.keys()
                else ", or because a video of the same name makes them its cover"
            )
            more_kinds = [f"{len(others) - MOST_ENDINGS:,} more"] if len(others) > MOST_ENDINGS else []
            print(
                f"{video_folder}: {others.total():,} files ignored because of their extension{still}: {', '.join(kinds + more_kinds)}"
            )
        if skip_clips and video_folder and is_folder(video_folder) and not video_metadata_path:
            sources = [path for path in paths if not is_clip(locate(path, video_folder))]
            if len(sources) < len(paths):
                print(f"{video_folder}: {len(paths) - len(sources):,} clips of video_splitting.py in it are skipped")
            paths = sources
        where = video_metadata_path or video_folder
        if not paths:
            print(
                f"{where}: contains no videos, that is, files with a video extension such as .mp4, .mov, .mkv or .webm"
            )
        return Rows.of(({video_path_column: path} for path in paths), str(where), **more)
    check_inputs(video_metadata_path)
    return rows_in(video_metadata_path, **more)


def rows_in(path: str, column: str = "video_path", **more: Any) -> Rows:
    """The rows of a file, whatever it is: of one that is not whole lines of JSON, a copy that is. `more` as of `Rows`.

    Raises: `UsageError`.
    """
    file = working_copy(path)
    if not file.is_file() or part_files(file) or file.suffix.lower() in READERS:
        kinds = {**(more.get("kinds") or {}), column: PATH}
        return Rows.of(rows_of(path, tuple(kinds), kinds), path, column=column, **more)
    check_encoding(file)
    return Rows(file, path, column=column, is_ours=file.with_suffix(".settings.json").is_file(), **more)


class Lookup:
    """The rows of a file by their `video_path`, which are read where they are asked for; of several of one path the last."""

    def __init__(self, path: str, video_folder: str | None = None, kinds: Mapping[str, Kind] | None = None):
        """Raises: `UsageError` for a file that is missing, or a malformed row."""
        check_inputs(path, may_be_unfinished=True)
        self.rows = rows_in(path, folder=video_folder, kinds=kinds).scan()

    def __call__(self, video_path: str) -> dict:
        """The row of a path, empty where there is none."""
        number = int(self.rows.numbers(np.array([hash(video_path)]), last=True)[0])
        row = self.rows[number] if number >= 0 else {}
        return row if row.get("video_path") == video_path else {}  # two paths may have one hash


def with_columns(rows: Iterable[dict], files: Iterable[str], video_folder: str | None) -> list[dict]:
    """The rows with the columns of further files: a row's own come first, then those of the first file that has one."""
    lookups = [Lookup(file, video_folder) for file in dict.fromkeys(files)]
    found = []
    for row in rows:
        merged: dict = {}
        for lookup in reversed(lookups):
            merged |= lookup(row["video_path"])
        found.append(merged | row)
    return found
