"""What a column must hold, by its name. A row that holds something else ends a script before any work, with a sentence."""

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from utils.errors import UsageError

LARGEST = 1e15  # of any number: no size, time or score comes near it
DEEPEST = 50  # lists and objects inside one another; beyond some hundreds Python cannot pass them on
TIME = re.compile(r"(\d{1,9}:){0,2}\d{1,9}(\.\d*)?", re.ASCII)
MOVE = r"(pan (left|right)|tilt (up|down)|zoom (in|out)|roll (counter)?clockwise)"
CAMERA = re.compile(rf"static|handheld|{MOVE}( and {MOVE})*|")


class Kind(NamedTuple):
    """`meaning` completes the sentence "... is 'x', not ...". `sure`: SQL on the JSON text {0} that is true only where
    the value fits; where it is not, or there is none, `fits` decides.
    """

    meaning: str
    fits: Callable[[Any], bool]
    sure: str = ""


def is_text(value: Any) -> bool:
    """Whether it is text that can be written as UTF-8; bytes of file names that are not are allowed."""
    try:
        value.encode(errors="surrogateescape")
    except (AttributeError, UnicodeEncodeError):
        return False
    return True


def is_utf8(text: str) -> bool:
    """Whether it holds no byte of a file name that is no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_path(value: Any) -> bool:
    return is_text(value) and "\0" not in value and os.path.basename(os.path.normpath(value)) not in ("", ".", "..")


def is_number(value: Any, low: float = -LARGEST, whole: bool = False) -> bool:
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and low <= value <= LARGEST and not (whole and value % 1)


def is_score(value: Any) -> bool:
    return is_number(value) or value != value  # NaN passes no filter


def is_time(value: Any) -> bool:
    return is_number(value, 0) or (isinstance(value, str) and bool(TIME.fullmatch(value.strip())))


def is_list(value: Any, *fits: Callable[[Any], bool]) -> bool:
    """Whether it is a list of one item for each of `fits`, or of any number of them where there is only one."""
    if not isinstance(value, list) or len(value) != len(fits) > 1:
        return False
    return all(fit(item) for fit, item in zip(fits if len(fits) > 1 else fits * len(value), value, strict=True))


def is_attributes(value: Any) -> bool:
    """What was measured of a clip, under the names of COLUMNS; what is missing may be null."""
    known = {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else None
    return value is None or (
        known is not None
        and is_list(known.pop("main_colours", []), is_text)
        and all(COLUMNS[name].fits(item) for name, item in known.items() if name in COLUMNS)
    )


SURE_NUMBER = "try_cast({0} AS DOUBLE) BETWEEN -1e15 AND 1e15"
SURE_PIXELS = "regexp_full_match({0}, '\\[[1-9][0-9]{{0,8}},[1-9][0-9]{{0,8}}\\]')"
PATH = Kind(
    "a path",
    is_path,
    """starts_with({0}, '"') AND strlen({0}) > 2 AND NOT contains({0}, '\\') AND right({0}, 2) NOT IN ('/"', '."')""",
)
TEXT = Kind("a text", is_text, "starts_with({0}, '\"')")
COUNT = Kind(
    "a whole number from 0 to 1e15",
    partial(is_number, low=0, whole=True),
    "try_cast({0} AS DOUBLE) BETWEEN 0 AND 1e15 AND NOT regexp_matches({0}, '[.e]')",
)
SECONDS = Kind(
    "a number of seconds from 0 to 1e15", partial(is_number, low=0), "try_cast({0} AS DOUBLE) BETWEEN 0 AND 1e15"
)
SCORE = Kind("a number", is_score, SURE_NUMBER)
SCORES = Kind(
    "a number or a list of numbers",
    lambda value: is_score(value) or (is_list(value, is_score) and len(value) > 0),
    f"({SURE_NUMBER} OR regexp_full_match({{0}}, '\\[-?[0-9]{{{{1,9}}}}(\\.[0-9]+)?(,-?[0-9]{{{{1,9}}}}(\\.[0-9]+)?)*\\]'))",
)
INDICES = Kind(
    "a list of whole numbers, 0 or more",
    lambda value: is_list(value, COUNT.fits),
    "regexp_full_match({0}, '\\[[0-9]{{1,9}}(,[0-9]{{1,9}})*\\]')",
)
SIZE = Kind(
    "[width, height] in pixels", lambda value: is_list(value, *[partial(is_number, low=1, whole=True)] * 2), SURE_PIXELS
)
SPANS = Kind(
    "[[start, end], ...] in seconds or HH:MM:SS.mmm",
    lambda value: is_list(value, lambda span: is_list(span, is_time, is_time)),
)
NAMED_SPANS = Kind(
    "[[kind, start, end], ...] in seconds or HH:MM:SS.mmm",
    lambda value: is_list(value, lambda span: is_list(span, is_text, is_time, is_time)),
)
CAMERA_WORDS = Kind(
    'one or two of pan left/right, tilt up/down, zoom in/out, roll clockwise/counterclockwise, joined by "and"; or static; or handheld',
    lambda value: value is None or (isinstance(value, str) and bool(CAMERA.fullmatch(value))),
    f"""regexp_full_match({{0}}, '"(static|handheld|{MOVE}( and {MOVE})?)"')""",
)
KEYS = dict.fromkeys(("video_path", "source_path"), PATH)  # where a script needs them: rows are found by them
COLUMNS = {
    **dict.fromkeys(("made_from", "source_digest"), TEXT),
    **dict.fromkeys(("num_frames", "bytes", "copied_frames"), COUNT),
    "clip_count": COUNT._replace(
        meaning="a whole number, 1 or more",
        fits=partial(is_number, low=1, whole=True),
        sure=COUNT.sure.replace("0 AND", "1 AND"),
    ),
    **dict.fromkeys(("duration", "start_seconds", "end_seconds"), SECONDS),
    **dict.fromkeys(("motion_score", "text_score", "brightness"), SCORE),
    "aesthetic_score": SCORES,
    **dict.fromkeys(("sample_frame_idx", "sampled_frame_idx"), INDICES),
    "frame_size": SIZE,
    **dict.fromkeys(("timecode_list", "damaged"), SPANS),
    "transitions": NAMED_SPANS,
    "camera_motion": CAMERA_WORDS,
    "attributes": Kind("an object of measured columns, each as its own column holds it", is_attributes),
}


def check_row(row: Mapping[str, Any], where: str, more: Mapping[str, Kind] | None = None) -> None:
    """Raises: `UsageError`, headed by `where`, for the first column that does not hold what COLUMNS, or `more`, wants."""
    for column, value in row.items():
        kind = (more or {}).get(column) or COLUMNS.get(column)
        if isinstance(value, (list, dict)) and depth(value) > DEEPEST:
            raise UsageError(f"{where}: {column} holds lists or objects nested more than {DEEPEST} deep")
        if kind is not None and not kind.fits(value):
            shown = repr(value)
            raise UsageError(
                f"{where}: {column} is {shown if len(shown) <= 80 else shown[:77] + '...'}, not {kind.meaning}"
            )


def depth(value: Any) -> int:
    """How many lists and objects are nested; level by level, because recursion has an end."""
    count, level = 0, [value]
    while level := [item for item in level if isinstance(item, (list, dict))]:
        count += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return count
