"""Which rows of a dataset's files belong to its current clips. After a recut, scores and captions of older clips stay in the files
under the same names until their stages run again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from utils.captioning.attributes import is_placeholder
from utils.captioning.given_captions import GIVEN
from utils.pipeline.ancestry import CAPTION_ANCESTORS, CLIP_COLUMNS, as_number, digest_of, settings_of
from utils.rows import part_files, rows_of
from utils.rows.columns import KEYS
from utils.storage import exists
from utils.video_utils import get_video_path_list, relative_to
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


@dataclass(frozen=True)
class Caption:
    """A clip's caption: `text` as a training set has it; `answer`, what it was before it was finished (trigger word, prefix, ...); `given`
    where it was made elsewhere; `is_placeholder` where it is put together from measurements.
    """

    text: str
    answer: str
    given: str = ""
    is_placeholder: bool = False


class Clips:
    """The clips of a list, or without one (None) the videos of a folder, numbered in its order by `listed`, which is to be read first.
    Without either, clips are numbered as their paths come, and every row is taken for one of a clip as it is now.

    Raises: `UsageError` for a malformed row, as all that reads files here.
    """

    def __init__(self, path: str | None, video_folder: str | None = None):
        self.path, self.video_folder = path, None if path else video_folder
        self.relative = relative_to(self.video_folder)
        self.numbers: dict[str, int] = {}
        self.origins: list[int] = []  # of each clip, that of its scores
        self.repeats = 0  # rows of a path that was there before

    @property
    def are_known(self) -> bool:
        """Whether `listed` lists them."""
        return bool(self.path or self.video_folder)

    def listed(self) -> Iterator[dict]:
        """The rows of the list, each path once, normalised; of a folder, rows that have a path alone."""
        self.numbers, self.origins, self.repeats = {}, [], 0
        for row in self._rows():
            row["video_path"] = self.relative(row["video_path"])
            if row["video_path"] in self.numbers:
                self.repeats += 1
                continue
            self.numbers[row["video_path"]] = len(self.numbers)
            self.origins.append(origin(row, CLIP_COLUMNS))
            yield row

    def _rows(self) -> Iterator[dict]:
        if self.path:
            yield from rows_of(self.path, ("video_path",), KEYS)
        else:
            yield from ({"video_path": path} for path in get_video_path_list(self.video_folder, stills=True))

    def _numbered(self, path: str) -> Iterator[tuple[int, dict]]:
        for row in rows_of(path, ("video_path",), resumed=True):
            key = self.relative(row["video_path"])
            number = self.numbers.get(key) if self.are_known else self.numbers.setdefault(key, len(self.numbers))
            if number is not None:
                yield number, row

    def results(self, path: str) -> Iterator[tuple[int, dict]]:
        """The rows of a score or errors file that are made from the clips, with the clips' numbers."""
        for number, row in self._numbered(path):
            if comes_from(row, self.origins[number] if self.are_known else None):
                yield number, row

    def kept(self, path: str) -> Iterator[tuple[int, dict]]:
        """The rows of a list of these clips, such as train.jsonl."""
        for number, row in self._numbered(path):
            if not self.are_known or origin(row, CLIP_COLUMNS) == self.origins[number]:
                yield number, row

    def captions(self, folder: str) -> tuple[dict[int, Caption], dict[int, Caption]]:
        """What stage 3 has written of the clips, by their numbers: captions of frames, joined, and summaries.

        Each is made from the row before it, frame captions from that of train.jsonl; where one of them has changed since, the caption may
        be another clip's.
        """
        train, frames, summaries = (f"{folder}/{name}.jsonl" for name in ("train", "frame_caption", "summary_caption"))
        texts: tuple[dict[int, Caption], dict[int, Caption]] = ({}, {})
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
                text = _text(row.get(CAPTION_COLUMN))
                texts[0][number] = Caption(text, text, is_placeholder=is_placeholder(row))
                if column == CAPTION_COLUMN:
                    summarized[number] = origin(row, SUMMARY_ANCESTORS)
        for number, row in self._numbered(summaries) if is_there(summaries) else ():
            if number in chain and comes_from(row, summarized.get(number, NO_ROW)):
                text = _text(row.get("summary_caption"))
                answer, given = _text(row.get("summary_answer", text)), _text(row.get(GIVEN))
                texts[1][number] = Caption(text, answer, given, is_placeholder(row))
        return texts


def _text(caption: object) -> str:
    return " ".join(map(str, caption)) if isinstance(caption, list) else str(caption or "")
