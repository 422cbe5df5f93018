"""Captions made elsewhere: by another tool, by hand, or edited. They go through the same checks as a model's answers."""

import os
from collections.abc import Sequence
from pathlib import Path

from utils.captioning.answer_text import MAX_CHARACTERS, answer_text
from utils.captioning.chat import Answer, Check, can_be_checked
from utils.errors import Failure, UsageError
from utils.pipeline.row_list import Lookup

GIVEN = "captions_from"  # in the place of the model's name
COLUMNS = ("caption", "text", "summary_caption", "prompt", "sampled_frame_caption")  # the first that a row has


class GivenCaptions:
    """The caption of a clip by its path, "" where there is none: out of a list (jsonl, csv, parquet) with the columns video_path and one of
    `COLUMNS`, or out of a folder that has a .txt of each clip's name.

    Raises: `UsageError` for a path that is neither.
    """

    def __init__(self, path: str, video_folder: str | None):
        self.folder, self.lookup = None, None
        if os.path.isdir(path):
            self.folder = Path(path)
        else:
            self.lookup = Lookup(path, video_folder)
            if not any(column in row for row in self.lookup.rows.head(100) for column in COLUMNS):
                raise UsageError(f"{path}: its rows have none of the columns {', '.join(COLUMNS)}")

    def __call__(self, video_path: str) -> str:
        if self.lookup:
            row = self.lookup(video_path)
            found = next((row[column] for column in COLUMNS if row.get(column)), "")
            found = found[0] if isinstance(found, list) and len(found) == 1 else found
            return found if isinstance(found, str) else ""
        assert self.folder
        file = self.folder / Path(video_path).with_suffix(".txt")
        if not file.is_file():
            return ""
        with open(file, encoding="utf-8-sig", errors="replace") as text:
            return text.read(MAX_CHARACTERS + 1)


def checked_caption(given: str, checks: Sequence[Check]) -> str | Failure:
    """A given caption on one line, without what does not belong to it."""
    answer = Answer(answer_text(given))
    wrong = next(filter(None, (check(answer) for check in [can_be_checked, *checks])), None)
    if wrong:
        return Failure(
            "BadCaption",
            f"--captions_from: {wrong.reason.replace('the answer', 'the caption')}; it begins {answer.text[:80]!r}",
        )
    return " ".join(answer.text.split())
