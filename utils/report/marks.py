"""The marks that train.jsonl was made with: the files passed as EXCLUDE and INCLUDE to stage 2."""

from collections.abc import Callable, Mapping
from typing import Any

from utils.report.clips import Clips
from utils.rows import rows_of
from utils.rows.columns import TEXT
from utils.storage import exists


def marks_of(path_of: Callable[[str], str], settings: Mapping[str, Any], clips: Clips) -> dict[str, Any]:
    """The files `exclude` and `include` of the settings of train.jsonl, None where there is none or it is gone, and in `given` what they say:
    [number of the clip, "drop" or "star", reason].

    They are read as the filter reads them: the one to exclude is asked for "drop", the other for "star", and a row without a mark has the
    one that its file is for. Without a file to include, stars of the other one are shown, too; the filter keeps none for them.

    Raises: `UsageError` for a malformed row.
    """
    files = {name: path_of(settings[name]) for name in ("exclude", "include") if isinstance(settings.get(name), str)}
    files = {name: path for name, path in files.items() if exists(path)}
    given: dict[int, tuple[str, str | None]] = {}
    for name, mark, default in (
        ("include" if "include" in files else "exclude", "star", "star" if "include" in files else "drop"),
        ("exclude", "drop", "drop"),  # last: what is in both is dropped
    ):
        for row in rows_of(files[name], ("video_path",), {"mark": TEXT, "reason": TEXT}) if name in files else ():
            number = clips.numbers.get(clips.relative(row["video_path"]))
            if number is not None and row.get("mark", default) == mark:
                given[number] = mark, row.get("reason")
    marks = [[number, mark, reason] for number, (mark, reason) in sorted(given.items())]
    return {"exclude": files.get("exclude"), "include": files.get("include"), "given": marks}
