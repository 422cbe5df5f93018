"""The funnel of a dataset, from its files, at any time: sources, shots, clips, scores, kept and dropped, captioned."""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from utils.captioning.attributes import PLACEHOLDER
from utils.cutting.spans import shots_of
from utils.errors import UsageError
from utils.pipeline.ancestry import settings_of
from utils.pipeline.result_file import errors_of
from utils.report.clips import NO_ROW, Clips, is_there
from utils.rows import rows_of
from utils.rows.columns import TEXT
from utils.storage import entries, is_url

EXAMPLES = 3  # failed rows that are named of each kind
# The files of the stages that hold no score; every other result file does.
NO_SCORES = {"scenes", "clips", "train", "dropped", "cropped", "frame_caption", "summary_caption"}


@dataclass(frozen=True)
class Failures:
    """Rows that failed in the same way: `examples` are the first of them, each with its path and message."""

    error: str
    count: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True)
class FunnelStep:
    """What is there after a step: rows, and their seconds where they are known. `dropped`: reason, rows and seconds of what
    it left out; `failures`: what it could not do.
    """

    name: str
    count: int
    seconds: float | None = None
    dropped: list[tuple[str, int, float | None]] = field(default_factory=list)
    failures: list[Failures] = field(default_factory=list)


def score_files(folder: str) -> list[str]:
    """The names of a dataset's result files that hold scores of its clips."""
    # Behind a URL they are listed there: another machine may have written them.
    there = entries(folder) if is_url(folder) else os.listdir(folder) if os.path.isdir(folder) else []
    stems = sorted(name.removesuffix(".settings.json") for name in there if name.endswith(".settings.json"))
    names = [
        os.path.basename(str(settings_of(f"{folder}/{stem}.jsonl").get("file", f"{stem}.jsonl")))
        for stem in stems
        if stem not in NO_SCORES and not stem.endswith((".aside", ".hashes"))  # hashes: what duplicates are known by
    ]
    return [name for name in names if is_there(f"{folder}/{name}")]


def funnel(folder: str, clips: Clips | None = None, count_scores: bool = True) -> list[FunnelStep]:
    """The steps that have started, in order: sources, shots, clips, each score under its file's name, kept, captioned. `clips`: unless they are
    those of clips.jsonl. `count_scores`: false leaves it at what failed of them, for who reads the scores anyway.

    Raises: `UsageError` if the folder contains no files of the stages, or one that cannot be read.
    """
    files = {name: f"{folder}/{name}.jsonl" for name in ("scenes", "clips", "train", "dropped", "summary_caption")}
    there = {name: path for name, path in files.items() if is_there(path)}
    errors = {
        name: {row["video_path"]: row for row in _rows(errors_of(files[name]), resumed=True)}
        for name in ("scenes", "clips", "summary_caption")
    }
    scores = score_files(folder)
    if not there and not scores and not any(errors.values()):
        raise UsageError(f"{folder}: contains no files of the stages; is it the DATASET_FOLDER?")
    sources = {row["video_path"]: (row.get("duration"), _shots(row)) for row in _rows(files["scenes"])}
    shots = {path: spans for path, (_, spans) in sources.items()}
    clips = clips or Clips(there.get("clips"))
    seconds, is_used = _read_clips(clips, shots)
    steps = []
    if "scenes" in there or errors["scenes"]:
        failures = _grouped([*errors["scenes"].values(), *errors["clips"].values()])
        length = _total(duration for duration, _ in sources.values())
        steps.append(FunnelStep("sources", len(sources | errors["scenes"]), length, [], failures))
    if "scenes" in there:
        lengths = [length for spans in shots.values() for length in np.diff(spans)[:, 0]]
        unused = [length for path, spans in shots.items() for length in np.diff(spans)[~is_used[path], 0]]
        left_out = [("give no clip (too short, or their source failed)", len(unused), _total(unused))]
        steps.append(FunnelStep("shots", len(lengths), _total(lengths), left_out if clips.are_known and unused else []))
    if clips.are_known:
        steps.append(FunnelStep("clips", len(seconds), _total(seconds.values())))
    for name in scores:
        current = {number for number, _ in clips.results(f"{folder}/{name}")} if count_scores else ()
        path = errors_of(f"{folder}/{name}")
        failed = dict(clips.results(path)) if is_there(path) else {}
        steps.append(FunnelStep(name, len(current), None, [], _grouped(failed.values())))
    if "train" in there:
        kept = {number: row.get("duration", seconds.get(number)) for number, row in clips.kept(files["train"])}
        steps.append(FunnelStep("kept", len(kept), _total(kept.values()), _dropped(files["dropped"], clips, seconds)))
    if "summary_caption" in there:
        _, summaries = clips.captions(folder)
        failures = _grouped(errors["summary_caption"].values())
        made_up = [number for number, caption in summaries.items() if caption.is_placeholder]
        notes = [(PLACEHOLDER, len(made_up), _total(map(seconds.get, made_up)))] if made_up else []
        steps.append(FunnelStep("captioned", len(summaries), _total(map(seconds.get, summaries)), notes, failures))
    return steps


def _rows(path: str, resumed: bool = False) -> Iterable[dict]:
    return rows_of(path, ("video_path",), {"reason": TEXT}, resumed) if is_there(path) else ()


def _shots(row: dict) -> np.ndarray:
    """(shots, 2): where each begins and ends, in seconds, in order."""
    return np.array(sorted(shots_of(row)) if "timecode_list" in row else [], float).reshape(-1, 2)


def _read_clips(clips: Clips, shots: Mapping[str, np.ndarray]) -> tuple[dict[int, float | None], dict[str, np.ndarray]]:
    """Read the list, if there is one: the seconds of each clip, and of each source which of its shots have the middle of a clip."""
    seconds, is_used = {}, {path: np.zeros(len(spans), bool) for path, spans in shots.items()}
    for number, row in enumerate(clips.listed() if clips.are_known else ()):
        seconds[number], spans = row.get("duration"), shots.get(row.get("source_path", ""))
        if spans is not None and "start_seconds" in row and "end_seconds" in row:
            middle = (row["start_seconds"] + row["end_seconds"]) / 2
            shot = int(np.searchsorted(spans[:, 0], middle, "right")) - 1
            if shot >= 0 and middle <= spans[shot, 1]:
                is_used[row["source_path"]][shot] = True
    return seconds, is_used


def _total(seconds: Iterable[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in seconds if value is not None]
    return math.fsum(known) if known else None


def _grouped(errors: Iterable[dict]) -> list[Failures]:
    """Error rows by their kind, the most frequent first."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for error in errors:
        groups[str(error.get("error"))].append((error["video_path"], str(error.get("message"))))
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [Failures(kind, len(failed), failed[:EXAMPLES]) for kind, failed in ordered]


def _dropped(path: str, clips: Clips, seconds: Mapping[int, float | None]) -> list[tuple[str, int, float | None]]:
    """Each reason of dropped.jsonl with its rows and their seconds, the most frequent first."""
    reasons: dict[str, list[float | None]] = defaultdict(list)
    for row in _rows(path):
        number = clips.numbers.get(row["video_path"], NO_ROW)
        reasons[row.get("reason", "")].append(row.get("duration", seconds.get(number)))
    ordered = sorted(reasons.items(), key=lambda reason: (-len(reason[1]), reason[0]))
    return [(reason, len(lengths), _total(lengths)) for reason, lengths in ordered]
