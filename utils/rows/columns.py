"""Allowed values of each column, by name. A row with any other value ends the script before any work, with an error message.

Each kind is a type of msgspec, by which rows are checked while they are decoded; `check_row` says what is wrong with a row
that does not fit.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from utils.errors import UsageError

LARGEST = 10**15  # of any number: no size, time or score comes near it
DEEPEST = 50  # lists and objects inside one another; beyond some hundreds Python cannot pass them on
MOVE = r"(pan (left|right)|tilt (up|down)|zoom (in|out)|roll (counter)?clockwise)"
CAMERA = re.compile(rf"(static|handheld|{MOVE}( and {MOVE})*|)\Z")


def number(low: float = -LARGEST, whole: bool = False) -> Any:
    """The type of a finite number, `low` or more; an int stays an int."""
    real = Meta(ge=low, le=LARGEST, multiple_of=1.0) if whole else Meta(ge=low, le=LARGEST)
    return Annotated[int, Meta(ge=int(low), le=LARGEST)] | Annotated[float, real]


def list_of(item: Any, min_length: int = 0) -> Any:
    return Annotated[list[item], Meta(min_length=min_length)]


def tuple_of(*items: Any) -> Any:
    return tuple.__class_getitem__(items)


def is_path(value: Any) -> bool:
    return (
        isinstance(value, str)
        and "\0" not in value
        and os.path.basename(os.path.normpath(value)) not in ("", ".", "..")
    )


def is_score(value: Any) -> bool:
    return value != value or is_of(value, number())  # NaN passes no filter


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of a type of msgspec."""
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError, RecursionError):
        return False
    return True


class Kind(NamedTuple):
    """`meaning` completes the sentence "... is 'x', not ..."; `type` is what a decoder accepts at once; `fits`, where that is not
    all that fits, decides about the rest.
    """

    meaning: str
    type: Any
    fits: Callable[[Any], bool] | None = None

    def accepts(self, value: Any) -> bool:
        return self.fits(value) if self.fits else is_of(value, self.type)


# The pattern is of most paths; `is_path` also knows that "a/b/." is one.
PATH = Kind("a path", Annotated[str, Meta(pattern=r"\A[^\0]*[^/.\0][^/\0]*\Z")], is_path)
TEXT = Kind("a text", str)
TEXTS = Kind("a text or a list of texts", str | list_of(str, min_length=1))
COUNT = Kind("a whole number from 0 to 1e15", number(0, whole=True))
SECONDS = Kind("a number of seconds from 0 to 1e15", number(0))
SCORE = Kind("a number", number(), is_score)
SCORES = Kind(
    "a number or a list of numbers",
    number() | list_of(number(), min_length=1),
    lambda value: all(map(is_score, value)) and len(value) > 0 if isinstance(value, list) else is_score(value),
)
INDICES = Kind("a list of whole numbers, 0 or more", list_of(number(0, whole=True)))
SIZE = Kind("[width, height] in pixels", tuple_of(number(1, whole=True), number(1, whole=True)))
TIME = number(0) | Annotated[str, Meta(pattern=r"\A\s*([0-9]{1,9}:){0,2}[0-9]{1,9}(\.[0-9]*)?\s*\Z")]
SPANS = Kind("[[start, end], ...] in seconds or HH:MM:SS.mmm", list_of(tuple_of(TIME, TIME)))
NAMED_SPANS = Kind("[[kind, start, end], ...] in seconds or HH:MM:SS.mmm", list_of(tuple_of(str, TIME, TIME)))
CAMERA_WORDS = Kind(
    'one or two of pan left/right, tilt up/down, zoom in/out, roll clockwise/counterclockwise, joined by "and"; or static; or handheld',
    Annotated[str, Meta(pattern=rf"\A{CAMERA.pattern}")] | None,
)
MEASURED = {
    **dict.fromkeys(("made_from", "source_digest"), TEXT),
    **dict.fromkeys(("num_frames", "bytes", "copied_frames"), COUNT),
    "clip_count": Kind("a whole number, 1 or more", number(1, whole=True)),
    **dict.fromkeys(("duration", "start_seconds", "end_seconds"), SECONDS),
    **dict.fromkeys(("motion_score", "text_score", "brightness"), SCORE),
    "aesthetic_score": SCORES,
    **dict.fromkeys(("sample_frame_idx", "sampled_frame_idx"), INDICES),
    "frame_size": SIZE,
    **dict.fromkeys(("timecode_list", "damaged"), SPANS),
    "transitions": NAMED_SPANS,
    "camera_motion": CAMERA_WORDS,
}
ATTRIBUTES = Kind(
    "an object of measured columns, each as its own column holds it",
    msgspec.defstruct(
        "Attributes",
        [
            ("main_colours", list[str] | None, None),
            *((name, kind.type | None, None) for name, kind in MEASURED.items()),
        ],
    )
    | None,
)
NESTED = {list, dict}
BOXES = {"frame_size", "crop_box", "crop_bars"}  # lists of pixels, whose mean says nothing
COLUMNS = {**MEASURED, "attributes": ATTRIBUTES}
KEYS = dict.fromkeys(("video_path", "source_path"), PATH)  # where a script needs them: rows are found by them


def is_unusual(line: bytes) -> bool:
    """Whether a line may hold what a decoder does not look at, in columns that it skips: halves of characters, deep nesting."""
    return b"\\u" in line or line.count(b"[") > DEEPEST or line.count(b"{") > DEEPEST


class Decoder:
    """Decodes lines of JSON to objects with the columns `wanted` as c0, c1, …, UNSET where a row lacks one. All of COLUMNS are
    checked on the way, and what a row holds beside them is skipped.

    The first `required` columns must be there. What does not fit, or is_close(line) wants looked at, is left to the caller.
    """

    def __init__(self, wanted: Mapping[str, Any], required: int = 0, is_close: Callable[[bytes], bool] | None = None):
        self.names, self.is_close = list(wanted), is_close
        self.type = _struct(wanted, required)
        self.json = msgspec.json.Decoder(self.type)

    def rows(self, lines: bytes) -> list | None:
        """Of all lines; None where one of them does not fit."""
        if self.is_close and any(map(self.is_close, lines.splitlines())):
            return None
        try:
            return self.json.decode_lines(lines)
        except (msgspec.MsgspecError, RecursionError):
            return None

    def row(self, line: bytes) -> Any:
        """Of one line; None where it does not fit."""
        if self.is_close and self.is_close(line):
            return None
        try:
            return self.json.decode(line)
        except (msgspec.MsgspecError, RecursionError):
            return None

    def values_of(self, columns: Sequence[str]) -> Callable[[Any], tuple]:
        """A function from a decoded row to its values of some of `wanted`."""
        values = ", ".join(f"row.c{self.names.index(column)}" for column in columns)
        return eval(f"lambda row: ({values},)" if columns else "lambda row: ()")  # half the time of attrgetter

    def of(self, row: Mapping[str, Any]) -> Any:
        """Of a row that was decoded otherwise, and checked."""
        return self.type(*[row.get(name, UNSET) for name in self.names])


def _struct(wanted: Mapping[str, Any], required: int = 0) -> Any:
    """A type with the columns `wanted` as c0, c1, …, and all of COLUMNS."""
    kinds = {**wanted, **{name: kind.type for name, kind in COLUMNS.items() if name not in wanted}}
    fields = [
        (f"c{i}", kind) if i < required else (f"c{i}", kind | UnsetType, UNSET) for i, kind in enumerate(kinds.values())
    ]
    return msgspec.defstruct("Row", fields, rename={f"c{i}": name for i, name in enumerate(kinds)}, gc=False)


def row_check(kinds: Mapping[str, Kind]) -> Callable[[dict], bool]:
    """A function that is true of rows which certainly hold what COLUMNS, and `kinds`, want: `check_row` judges the others."""
    struct = _struct({name: kind.type for name, kind in kinds.items()})

    def fits(row: dict) -> bool:
        for column, value in row.items():
            if value.__class__ in NESTED and column not in COLUMNS:
                return False
        return is_of(row, struct)

    return fits


def check_row(row: Mapping[str, Any], where: str, more: Mapping[str, Kind] | None = None) -> None:
    """Raises: `UsageError`, headed by `where`, for the first column that does not hold what COLUMNS, or `more`, wants."""
    for column, value in row.items():
        kind = (more or {}).get(column) or COLUMNS.get(column)
        if isinstance(value, (list, dict)) and depth(value) > DEEPEST:
            raise UsageError(f"{where}: {column} holds lists or objects nested more than {DEEPEST} deep")
        if kind is not None and not kind.accepts(value):
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
