"""The declaration of a score, made once, in the script that computes it; tests check presets, filter flags and docs against it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from utils.pipeline.process import Step, Stream

T = TypeVar("T")


class OnDemand(Generic[T]):
    """What `load()` gives, loaded at the first call and kept. Pickled, it is `load` alone: so a model is loaded in the
    process that uses it."""

    def __init__(self, load: Callable[[], T]) -> None:
        self.load = load
        self.loaded: list[T] = []

    def __call__(self) -> T:
        if not self.loaded:
            self.loaded.append(self.load())
        return self.loaded[0]

    def __reduce__(self):
        return OnDemand, (self.load,)


@dataclass(frozen=True)
class Column:
    """A column that a score adds: `meaning`, with its unit; its range [low, high]; and the bounds (minimum, maximum)
    within which a clip passes by default, None for no bound. Of a column that holds a list, both are about its numbers.
    """

    meaning: str
    low: float = -math.inf
    high: float = math.inf
    passes: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Score:
    """`name` heads the script's messages; `saved_path` is its file, `columns` what it holds beside `video_path`; `stills`: whether images have it,
    which are clips of one frame.

    `version` is raised when the same clip gets another value than before: rows of two versions are not mixed in a file.
    """

    name: str
    saved_path: str
    columns: dict[str, Column]
    version: int = 1
    stills: bool = True

    def step(
        self,
        read: Callable[[dict], Any],
        choices: dict,
        score: Callable[[Stream], Stream] | None = None,
        **more: Any,
    ) -> Step:
        """What `process_rows` does with each clip.

        `choices`: what the values depend on beside the clip, kept in `<name>.settings.json` with `version` (or with a
        `version` of their own). `more`: other fields of `Step`.
        """
        return Step(self.name, read, {"version": self.version, **choices}, score, stills=self.stills, **more)
