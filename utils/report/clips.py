"""Which rows of a dataset's files are about its clips as they are now. After a recut, scores and captions of older clips are still there
under the same names until their stages run again.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import UNSET

from utils.pipeline.ancestry import CAPTION_ANCESTORS, CLIP_COLUMNS, as_number, digest_of, settings_of
from utils.rows import part_files, rows_of
from utils.rows.columns import KEYS
from utils.storage import exists
from utils.video_utils import relative_to
from utils.working_copies import working_copy

CAPTION_COLUMN = "sampled_frame_caption"  # which caption_summary.py reads unless --caption_column names another
SUMMARY_ANCESTORS = (*CLIP_COLUMNS, CAPTION_COLUMN, "attributes")
NO_ROW = -1  # in place of an origin: nothing is made from it


def is_there(path: str) -> bool:
    """Whether there is a result file, or a part of it."""
    return exists(path) or bool(part_files(working_copy(path)))


def origin(row: Mapping, columns: Sequence[str]) -> int:
    """What a result that depends on `columns` of a row has first in its `made_from`, as a number."""
    return digest_of(columns)([row.get(column, UNSET) for column in columns])


def comes_from(row: Mapping, expected: int | None) -> bool:
    """Whether a result is made from a row with this origin; true where the one or the other is not known."""
    stamp = row.get("made_from")
    return stamp is None or expected is None or as_number(stamp.partition(" ")[0]) == expected


class Clips:
    """The clips of a list, numbered in its order by `listed`, which is to be read first. Without a list (None) clips are numbered as their
    paths come, and every row is taken for one of a clip as it is now.

    Raises: `UsageError` for a malformed row, as all that reads files here.
    """

    def __init__(self, path: str | None):
        self.path, self.relative = path, relative_to(None)
        self.numbers: dict[str, int] = {}
        self.origins: list[int] = []  # of each clip, that of its scores
        self.repeats = 0  # rows of a path that was there before

    def listed(self) -> Iterator[dict]:
        """The rows of the list, each path once, normalised."""
        self.numbers, self.origins, self.repeats = {}, [], 0
        for row in rows_of(self.path or "", ("video_path",), KEYS):
            row["video_path"] = self.relative(row["video_path"])
            if row["video_path"] in self.numbers:
                self.repeats += 1
                continue
            self.numbers[row["video_path"]] = len(self.numbers)
            self.origins.append(origin(row, CLIP_COLUMNS))
            yield row

    def _numbered(self, path: str) -> Iterator[tuple[int, dict]]:
        for row in rows_of(path, ("video_path",), resumed=True):
            key = self.relative(row["video_path"])
            number = self.numbers.get(key) if self.path else self.numbers.setdefault(key, len(self.numbers))
            if number is not None:
                yield number, row

    def results(self, path: str) -> Iterator[tuple[int, dict]]:
        """The rows of a score or errors file that are made from the clips, with the clips' numbers."""
        for number, row in self._numbered(path):
            if comes_from(row, self.origins[number] if self.path else None):
                yield number, row

    def kept(self, path: str) -> Iterator[tuple[int, dict]]:
        """The rows of a list of these clips, such as train.jsonl."""
        for number, row in self._numbered(path):
            if not self.path or origin(row, CLIP_COLUMNS) == self.origins[number]:
                yield number, row

    def captions(self, folder: str) -> tuple[dict[int, str], dict[int, str]]:
        """What stage 3 has written of the clips, by their numbers: captions of frames, joined, and summaries.

        Each is made from the row before it, frame captions from that of train.jsonl; where one of them has changed since, the caption may
        be another clip's.
        """
        train, frames, summaries = (f"{folder}/{name}.jsonl" for name in ("train", "frame_caption", "summary_caption"))
        texts: tuple[dict[int, str], dict[int, str]] = ({}, {})
        if not is_there(frames) and not is_there(summaries):
            return texts
        # Of each clip, what its frame captions are made from, then what its summary is; None: not known, any will do.
        captioned = train if is_there(train) else self.path
        rows = self.kept(captioned) if captioned else self._numbered(summaries if is_there(summaries) else frames)
        chain = {number: origin(row, CAPTION_ANCESTORS) if captioned else None for number, row in rows}
        column = settings_of(summaries).get("caption_column", CAPTION_COLUMN)
        summarized: dict[int, int | None] = {} if column == CAPTION_COLUMN else dict.fromkeys(chain)
        for number, row in self._numbered(frames) if is_there(frames) else ():
            if number in chain and comes_from(row, chain[number]):
                texts[0][number] = _text(row.get(CAPTION_COLUMN))
                if column == CAPTION_COLUMN:
                    summarized[number] = origin(row, SUMMARY_ANCESTORS)
        for number, row in self._numbered(summaries) if is_there(summaries) else ():
            if number in chain and comes_from(row, summarized.get(number, NO_ROW)):
                texts[1][number] = _text(row.get("summary_caption"))
        return texts


def _text(caption: object) -> str:
    return " ".join(map(str, caption)) if isinstance(caption, list) else str(caption or "")
