"""The input of a format, and its declaration."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from utils.export.models import Target
from utils.export.plan import TrainerRules
from utils.video.stills import is_still


@dataclass(frozen=True)
class Entry:
    """One clip of an export. `file`: its media, relative to the folder of its split, or as the list had it where media are not
    placed; `path`: where that is; `fps`, `width`, `height`, `frames` of the media as they are; `row`: all columns; `usable`: how many
    frames its trainer has of them, at the model's rate and by its rule; `others`: further captions, where its trainer takes several;
    `beside`: what goes beside it, by column of `beside.COLUMNS` or WAV, relative as `file` is; `audio`: whether its trainer hears it.
    """

    file: str
    path: Path
    caption: str
    fps: Fraction
    width: int
    height: int
    frames: int
    row: dict = field(repr=False)
    usable: int = 0
    others: tuple[str, ...] = ()
    beside: dict[str, str] = field(default_factory=dict)
    audio: bool = False

    @property
    def is_still(self) -> bool:
        """Whether it is an image."""
        return is_still(self.file)

    def frames_for(self, target: Target) -> int:
        """How many frames are trained on of media that were made for a target."""
        return 1 if self.is_still else self.frames - target.extra_frames

    @property
    def captions(self) -> list[str]:
        """All captions."""
        return [self.caption, *self.others]


def beside(entry: Entry, names: Mapping[str, str]) -> dict[str, str]:
    """The fields of a list for what goes beside a clip, by the names that a trainer has for them."""
    return {names[column]: path for column, path in entry.beside.items() if column in names}


Write = Callable[[Path, Sequence[Entry], "Target"], list[str]]


@dataclass(frozen=True)
class Format:
    """`write(folder, entries, target)` writes lists and settings, and gives lines for the card: how a trainer is started with them.

    `breaks`: which line breaks captions can hold there: "any"; "lf", line feeds inside, in files that readers strip; "none". `media_folder`: where media go;
    `several_captions`: its trainer takes several a clip; `beside`: the columns of `beside.COLUMNS` that it has a place for, with its own
    names of them, `only` those in which it takes "video"s alone, or "image"s, or the "same" as the clip is; `same_names`: it looks for what goes beside a
    clip under the clip's whole name, which encoded files alone have; `has_files`: its trainer looks for media in the folder, so that they must be placed there.
    """

    write: Write
    trainer_rules: TrainerRules
    breaks: str = "any"
    media_folder: str = "videos"
    has_files: bool = False
    several_captions: bool = False
    beside: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, str] = field(default_factory=dict)
    same_names: bool = False

    def caption(self, text: str) -> str:
        """The caption as this format can hold it; bytes that are no UTF-8 become U+FFFD."""
        text = text.encode(errors="surrogateescape").decode(errors="replace")
        one_line = self.breaks == "none" or (self.breaks == "lf" and "\r" in text)
        return " ".join(text.split()) if one_line else text.strip() if self.breaks == "lf" else text


def grouped(entries: Iterable[Entry], *attributes: str) -> list[tuple[tuple, list[Entry]]]:
    """Entries by the values of these attributes, sorted by them."""
    groups: dict[tuple, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[tuple(getattr(entry, name) for name in attributes)].append(entry)
    return sorted(groups.items(), key=lambda group: group[0])
