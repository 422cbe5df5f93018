"""Input and output of a reader: a media file of an export, and the sample that a trainer gets from it."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from utils.errors import RunError
from utils.export.models import Size, Target


@dataclass(frozen=True)
class Medium:
    """A video file as it is: `frames` at `fps`, of `width` x `height` pixels; or an image, of one frame at 1 fps."""

    frames: int
    fps: Fraction
    width: int
    height: int
    is_still: bool = False


@dataclass(frozen=True)
class Sample:
    """What a trainer trains on of the medium at `path`: its caption, `frames` frames at `fps`, of `width` x `height` pixels. `skipped`: why it
    leaves the medium out, "" where it does not. `digest`: of the content where that is no file, as in a tar. `beside`: what the trainer loads with it (control and reference videos, masks, first frames).
    """

    path: Path
    caption: str
    frames: int
    width: int
    height: int
    fps: float
    skipped: str = ""
    digest: str | None = None
    beside: tuple[Path, ...] = ()


Media = Callable[[Path], Medium]  # raises RunError for a file that is not of the export
# A reader: the export's folder, its media, what they were made for, and the start lines that were printed.
Read = Callable[[Path, Media, Target, Sequence[str]], Iterator[Sample]]


def as_it_is(path: Path, caption: str, medium: Medium) -> Sample:
    """A sample of a trainer that changes nothing."""
    return Sample(path, caption, medium.frames, medium.width, medium.height, float(medium.fps))


def still(path: Path, caption: str, medium: Medium, size: Size | None = None) -> Sample:
    """A sample that is an image, of another size than the file's where the trainer scales it."""
    return Sample(path, caption, 1, *(size or (medium.width, medium.height)), 1.0)


def left_out(path: Path, caption: str, medium: Medium, why: str) -> Sample:
    """A sample that a trainer skips."""
    return Sample(path, caption, 0, medium.width, medium.height, float(medium.fps), why)


def with_stem(folder: object, path: Path) -> tuple[Path, ...]:
    """The files of a folder, if there is one, that have the stem of a medium."""
    return tuple(sorted(p for p in Path(str(folder)).iterdir() if p.stem == path.stem)) if folder else ()


def flag(start: str, name: str) -> str | None:
    """The value of a flag in a start line, as a shell would give it: `--name value` or `--name=value`."""
    words = shlex.split(start)
    for word, following in zip(words, [*words[1:], ""]):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def needed_flag(start: str, name: str) -> str:
    """The same where the trainer cannot do without. Raises: `RunError`."""
    value = flag(start, name)
    if value is None:
        raise RunError(f"the start line has no {name}: {start}; please report")
    return value


def floored(value: int, multiple: int) -> int:
    """The largest multiple that is not above a number."""
    return value // multiple * multiple
