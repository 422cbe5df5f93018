"""Reading an export as its trainer does, by the readers that were written from the trainers' code, twice: before media are made, on empty files, for the plan's promise; and when
all is written, to hold every pair against the plan.

A caption on another clip is the one fault that nobody sees until a model has been trained. So each medium is named by its content, and the caption that a reader finds for it must be
that of a clip with this content; what the trainer makes of it must be what the plan promised.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from utils.errors import RunError
from utils.export.formats import FORMATS
from utils.export.formats.entry import Entry
from utils.export.models import Target
from utils.export.readers import READERS
from utils.export.readers.sample import Medium, Sample
from utils.export.trainers import LIBRARIES
from utils.video_utils import content_digest

RATES_DIFFER = 0.005  # a share: as much as a rate that is written with three decimals may differ from itself


def rehearsed(format: str, target: Target, splits: Mapping[str, Sequence[Entry]]) -> dict[Path, Sample]:
    """What the format's trainer would make of media that are not made yet, by their paths: lists and settings are written beside empty files, and read.

    Raises: `RunError` where the trainer would stop.
    """
    if format in LIBRARIES:  # they give the media as they are, and WebDataset's writer would want their content
        entries = [entry for group in splits.values() for entry in group]
        return {e.path: Sample(e.path, e.caption, e.frames, e.width, e.height, float(e.fps)) for e in entries}
    found: dict[Path, Sample] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for split, group in splits.items():
            folder = Path(temporary, split)
            folder.mkdir(exist_ok=True)
            moved = [entry if Path(entry.file).is_absolute() else _empty(entry, folder) for entry in group]
            starts = FORMATS[format].write(folder, moved, target)
            paths = {there.path: entry.path for there, entry in zip(moved, group, strict=True)}
            for sample in READERS[format](folder, media_of(moved), target, starts):
                found[paths[sample.path]] = sample
    return found


def promise(format: str, target: Target, kept: Sequence[tuple[dict, Entry]], encoded: bool) -> None:
    """Write into the plan's row of each clip what the trainer will train on of it: `trained_frames`, 0 where it skips the clip, `trained_width`, `trained_height`,
    `trained_fps`; in words where that is not what the export makes.
    """
    splits: dict[str, list[Entry]] = defaultdict(list)
    for planned, entry in kept:
        splits[planned.get("split") or ""].append(entry)
    found = rehearsed(format, target, splits)
    for planned, entry in kept:
        sample = found[entry.path]
        planned.update(
            trained_frames=sample.frames,
            trained_width=sample.width,
            trained_height=sample.height,
            trained_fps=round(sample.fps, 3),
        )
        made = entry.width, entry.height, entry.frames_for(target)
        if not encoded or sample.skipped or (sample.width, sample.height, sample.frames) != made:
            planned["does"] += f"; trained on: {in_words(sample)}"


def promise_of(planned: dict) -> Sample:
    """What the plan says that the trainer makes of a clip."""
    names = ("trained_frames", "trained_width", "trained_height", "trained_fps")
    return Sample(Path(planned["export_file"]), "", *(planned[name] for name in names))


def _empty(entry: Entry, folder: Path) -> Entry:
    for name in (entry.file, *entry.beside.values()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    path = folder / entry.file
    return replace(entry, path=path)


def media_of(entries: Sequence[Entry]) -> Callable[[Path], Medium]:
    """What readers are told of a file: that of its entry."""
    known = {e.path: Medium(e.frames, e.fps, e.width, e.height, e.is_still) for e in entries}

    def medium(path: Path) -> Medium:
        if path not in known:
            raise RunError(
                f"{path} is in the export but was not planned; does it belong to another program? Move it away"
            )
        return known[path]

    return medium


def check(
    folder: Path, format: str, entries: Sequence[Entry], digests: Sequence[str], target: Target, starts: Sequence[str],
    promises: Mapping[Path, Sample] | None = None,
) -> None:  # fmt: skip
    """Read all pairs and hold them against `entries`, whose media have these `digests`, and against what was promised for each clip.

    Raises: `RunError` where one is missing, more than planned, another clip's, or trained on otherwise than promised.
    """
    wanted: dict[str, list[tuple[Entry, str]]] = defaultdict(list)
    for entry, digest in zip(entries, digests, strict=True):
        wanted[digest] += [(entry, caption) for caption in entry.captions]
    planned = sum(len(entry.captions) for entry in entries)
    count = 0
    for sample in READERS[format](folder, media_of(entries), target, starts):
        count += 1
        digest = sample.digest or content_digest(str(sample.path))
        captions = wanted.get(digest, [])
        # A space tells a csv's cell from a missing one.
        matches = [(e, text) for e, text in captions if text in (sample.caption, sample.caption.removesuffix(" "))]
        if not matches:
            raise RunError(
                f"{folder}: read back as {format}, a clip has the caption {sample.caption[:80]!r} but should have {[text[:80] for _, text in captions]!r}; please report"
            )
        captions.remove(matches[0])
        entry = matches[0][0]
        beside = {Path(os.path.normpath(folder / path)) for path in entry.beside.values()}
        if beside != {Path(os.path.normpath(path)) for path in sample.beside} or not all(p.exists() for p in beside):
            raise RunError(
                f"{folder}: read back as {format}, {entry.file} has {sorted(map(str, sample.beside))} beside it but should have {sorted(map(str, beside))}; please report"
            )
        promised = (promises or {}).get(entry.path)
        if promised and not _is_kept(promised, sample):
            raise RunError(
                f"{folder}: read back as {format}, {entry.file} is {in_words(sample)}, but the plan was {in_words(promised)}; please report"
            )
    if count != planned:
        raise RunError(
            f"{folder}: {count:,} pairs read back as {format}, but {planned:,} were planned; does another program write there?"
        )


def _is_kept(promised: Sample, sample: Sample) -> bool:
    numbers = [(one.frames, one.width, one.height) for one in (promised, sample)]
    return numbers[0] == numbers[1] and abs(promised.fps / sample.fps - 1) <= RATES_DIFFER


def in_words(sample: Sample) -> str:
    """What a trainer makes of a medium, for people."""
    if sample.skipped:
        return f"skipped: {sample.skipped}"
    return f"{sample.width}x{sample.height}, {sample.frames} frames at {round(sample.fps, 3):g} fps"
