"""Columns of clips from further files than their list."""

from collections.abc import Iterable, Sequence

from utils.rows import read_rows
from utils.video_utils import relative_to_folder


def further_columns(files: Iterable[str], video_folder: str | None) -> dict[str, dict]:
    """What the files say of each clip, by its path; of two files that have a column, the first counts.

    Raises: `UsageError`.
    """
    found: dict[str, dict] = {}
    for file in dict.fromkeys(files):
        for row in read_rows(file, ("video_path",)):
            path = relative_to_folder(row["video_path"], video_folder)
            found[path] = {**row, **found.get(path, {})}
    return found


def with_columns(rows: Sequence[dict], files: Iterable[str], video_folder: str | None) -> list[dict]:
    """The rows with the columns of the files, which a row's own precede."""
    found = further_columns(files, video_folder)
    return [{**found.get(row["video_path"], {}), **row} for row in rows]
