"""The report's data for one dataset: its clips with all score columns, the active filters, the funnel."""

import base64
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from typing import Any
from urllib.parse import quote

import numpy as np

from utils.pipeline.ancestry import PROVENANCE, settings_of
from utils.pipeline.condition import is_true_of, parse_condition
from utils.pipeline.filters import SLACK
from utils.pipeline.score import Column
from utils.report.clips import Caption, Clips
from utils.report.funnel import FunnelStep, funnel, score_files
from utils.report.marks import marks_of
from utils.report.meanings_zh import MEANINGS_ZH
from utils.report.page import Blocks
from utils.report.thumbnails import FOLDER, FRAMES, image_of, path_of
from utils.rows.columns import BOXES
from utils.storage import exists, is_url
from utils.video.stills import is_still

INSIDE = 500  # clips whose thumbnails are inside the page; those of more stay in their folder
MOST_VALUES = 100  # of a column of texts that can be chosen from
THUMBNAILS = f"{FOLDER}/thumbnails.jsonl"
OF_CLIPS = ("video_path", "source_path", "start_seconds", "end_seconds")
NOT_SHOWN = {"video_path", "source_path", "made_from", "stamp", "source_digest", "clip_count", "thumbnail", *BOXES}
VARIABLES = {  # of stage 2, for the lowest and the highest value of a column
    "short_side": ("MIN_SHORT_SIDE", None),
    "duration": ("MIN_SECONDS", "MAX_SECONDS"),
    "text_score": (None, "TEXT_SCORE_THRESHOLD"),
    "motion_score": ("LOW_MOTION_SCORE_THRESHOLD", "HIGH_MOTION_SCORE_THRESHOLD"),
    "activity": ("ACTIVITY_THRESHOLD", None),
    "cut_inside": (None, "CUT_INSIDE_THRESHOLD"),
    "crop_share": ("MIN_CROP_SHARE", None),
    "crop_short_side": ("MIN_SHORT_SIDE", None),
    "overlay_text_share": (None, "OVERLAY_TEXT_THRESHOLD"),
    "nsfw_score": (None, "NSFW_THRESHOLD"),
}
STEPS_BEFORE, STEPS_AFTER = ("sources", "shots", "clips"), ("captioned",)


@dataclass(frozen=True)
class Dataset:
    """A dataset's files: its `folder`, the list of its clips (None: they are all videos of the folder), and where these are, absolute, so
    that a command which names them runs anywhere. `declared`: the columns that the scripts declare; `quality`: those of them by which stage
    2 may judge quality.
    """

    folder: str
    listed: str | None
    video_folder: str
    declared: Mapping[str, Column]
    quality: frozenset[str]

    def file(self, name: str) -> str:
        return f"{self.folder}/{name}"

    @property
    def list_name(self) -> str:
        return os.path.basename(self.listed or "")

    def path(self, name: str) -> str:
        """A file as settings name it: relative to the folder, or anywhere."""
        return name if is_url(name) or os.path.isabs(name) else self.file(name)


def columns_of(rows: Iterable[tuple[int, dict]]) -> dict[str, list]:
    """A file's columns, each a list of `_plain` values by the clips' numbers, empty where it is not shown."""
    columns: dict[str, list] = {}
    hidden = set(NOT_SHOWN)
    for number, row in rows:
        for column, value in row.items():
            if column not in columns:
                columns[column] = []
                hidden |= {column} if column.endswith("_idx") else set()
            if value is not None and column not in hidden:
                values = columns[column]
                if number >= len(values):
                    values.extend([None] * (number + 1 - len(values)))
                values[number] = _plain(value)
    return columns


def _plain(value: Any) -> float | str | bool | list:
    """A value as its column shows it: a number, of a list the mean, added in its order as the filter adds; a text, true or false. Of
    anything else [], which is not shown.
    """
    if value.__class__ in (float, str, bool):
        return value
    numbers = value if isinstance(value, list) else [value]
    try:
        is_mean = numbers and all(number.__class__ in (int, float) for number in numbers)
        return reduce(add, map(float, numbers)) / len(numbers) if is_mean else []
    except OverflowError:  # an integer beyond floating point
        return []


def _shown(values: list, count: int, blocks: Blocks) -> dict | None:
    """The kind of a column and its block: numbers, or a choice of few words; None of anything else."""
    values = [*values, *[None] * (count - len(values))]
    kinds = {value.__class__ for value in values if value is not None}
    if kinds == {float}:
        numbers = np.array([math.nan if value is None else value for value in values], float)
        whole = not np.any(numbers[np.isfinite(numbers)] % 1)
        return {"kind": "number", "block": blocks.numbers(numbers), "whole": whole}
    if kinds in ({str}, {bool}) and len({value for value in values if value is not None}) <= MOST_VALUES:
        words = [json.dumps(value) if value.__class__ is bool else value for value in values]
        block, names = blocks.codes(words)
        return {"kind": "category", "block": block, "values": names} if names else None
    return None


def describe(dataset: Dataset, page_folder: str, blocks: Blocks) -> tuple[dict[str, Any], list[dict]]:
    """The data that the page gets of a dataset, in the form of docs/report.md, and its clips, each with its path, source and span.

    Raises: `UsageError` for a file that cannot be read.
    """
    clips, shown_clips, columns, names = Clips(dataset.listed, dataset.video_folder), [], [], {}
    files = [*score_files(dataset.folder), *([THUMBNAILS] if exists(dataset.file(THUMBNAILS)) else [])]

    def listed() -> Iterator[tuple[int, dict]]:
        for number, row in enumerate(clips.listed()):
            shown_clips.append({column: row[column] for column in OF_CLIPS if column in row})
            yield number, _with_size(row)

    sources = [(dataset.list_name, listed()), *((file, clips.results(dataset.file(file))) for file in files)]
    meanings = {"pixels": "width times height", "short_side": "of the frame, pixels"} | {
        name: c.meaning for name, c in dataset.declared.items()
    }
    for file, rows in sources:
        for column, values in columns_of(rows).items():
            names[column] = column not in PROVENANCE
            if shown := _shown(values, len(shown_clips), blocks):
                meaning = {"meaning": meanings[column]} if column in meanings else {}
                if meaning and column in MEANINGS_ZH:
                    meaning["meaning_zh"] = MEANINGS_ZH[column]
                of_videos = column == "duration" or settings_of(dataset.file(file)).get("stills") is False
                without = {"without_stills": True} if of_videos else {}
                columns.append({"name": column, "file": file, **meaning, **without, **shown})
    if clips.repeats:
        print(f"{dataset.listed}: {clips.repeats:,} rows repeat a path and are skipped")
    frame_captions, summaries = clips.captions(dataset.folder)
    captions = frame_captions | summaries
    known = [captions.get(number, Caption("", "")) for number in range(len(shown_clips))]
    texts = {
        "video_path": list(clips.numbers),
        "source_path": [clip.get("source_path", "") for clip in shown_clips],
        "caption": [caption.text for caption in known],
        "caption_answer": [caption.answer if caption.answer != caption.text else "" for caption in known],
        "caption_given": [caption.given for caption in known],
        "thumbnail": _thumbnails(dataset, clips, page_folder),
    }
    columns += [
        {"name": name, "file": dataset.list_name, "kind": "text", "block": blocks.texts(lines)}
        for name, lines in texts.items()
        if any(lines)
    ]
    settings = settings_of(dataset.file("train.jsonl"))
    stills = list(map(is_still, clips.numbers))
    return {
        "name": os.path.basename(dataset.folder if is_url(dataset.folder) else os.path.abspath(dataset.folder)), "folder": dataset.folder, "list": dataset.listed,
        "saved_path": dataset.file("train.jsonl"), "videos": dataset.video_folder, "video_folder": _link(dataset.video_folder, page_folder),
        "count": len(shown_clips), "columns": columns, "thumbnail_frames": FRAMES, "match": None,
        **_in_force(dataset, settings, columns), **_where(dataset, settings, clips, files, [name for name, is_data in names.items() if is_data], blocks),
        "placeholders": blocks.bits(caption.is_placeholder for caption in known) if any(c.is_placeholder for c in known) else None,
        "stills": blocks.bits(stills) if any(stills) else None,
        "marks": marks_of(dataset.path, settings, clips), "marks_file": _beside(dataset, "marks.jsonl"), "captions_file": _beside(dataset, "captions.jsonl"),
        **_kept(dataset, clips, blocks), **_steps(funnel(dataset.folder, clips, count_scores=False)),
    }, shown_clips  # fmt: skip


def _beside(dataset: Dataset, name: str) -> str:
    """Where a file that the browser saves is to be: in the dataset's folder, or of a dataset behind a URL in that of this run."""
    return os.path.abspath(name) if is_url(dataset.folder) else dataset.file(name)


def _with_size(row: dict) -> dict:
    if "frame_size" not in row:
        return row
    return row | {"pixels": math.prod(row["frame_size"]), "short_side": min(row["frame_size"])}


def _thumbnails(dataset: Dataset, clips: Clips, page_folder: str) -> list[str]:
    """Of each clip the image itself, or where there are many its relative link. Whatever the files hold, no other file is read."""
    folder, images = dataset.file(FOLDER), [""] * len(clips.numbers)
    for number, row in clips.results(dataset.file(THUMBNAILS)) if exists(dataset.file(THUMBNAILS)) else ():
        images[number] = row["thumbnail"] if path_of(folder, row.get("thumbnail")) else ""
    if len(images) > INSIDE:
        link = _link(folder, page_folder) or FOLDER
        return [f"{link}/{image}" if image else "" for image in images]
    contents = [image_of(folder, image) if image else b"" for image in images]
    return [f"data:image/webp;base64,{base64.b64encode(content).decode()}" if content else "" for content in contents]


def _link(folder: str, page_folder: str) -> str | None:
    """A folder relative to the page's, percent-encoded; None where it is behind a URL."""
    return None if is_url(folder) or is_url(page_folder) else quote(os.fsencode(os.path.relpath(folder, page_folder)))


def _in_force(dataset: Dataset, settings: dict, columns: list[dict]) -> dict:
    """The filters that train.jsonl was made with, or else those that the scores declare, and the variables of stage 2."""
    there = [(c["file"], c["name"]) for c in columns if c["kind"] == "number"]
    declared: list[dict] = [{"file": None, "column": "duration", "low": 3, "high": 10}]
    for file, column in there:
        low, high = dataset.declared[column].passes if column in dataset.declared else (None, None)
        if (low, high) != (None, None):
            declared.append({"file": file, "column": column, "low": low, "high": high})
    filters = []
    for one in settings.get("filters") or declared:
        column, is_own = one["column"], one["file"] in (None, "", dataset.list_name)
        # A column of the list is, as for the filter, that of the last score file that has it where the list lacks it.
        files = [file for file, name in there if name == column]
        file = one["file"] if not is_own else dataset.list_name if dataset.list_name in files else (files or [None])[-1]
        variables = ("QUALITY_THRESHOLD", None) if column in dataset.quality else VARIABLES.get(column)
        if (file, column) in there:
            slack = SLACK if is_own and column == "duration" else 0
            filters.append(one | {"file": file, "own": is_own, "variables": variables, "slack": slack})
    quality = next((one for one in filters if one["column"] in dataset.quality), None)
    metrics = settings_of(dataset.file(quality["file"])).get("metrics") if quality else None
    is_of_stage_1 = (dataset.listed, dataset.video_folder) == (dataset.file("clips.jsonl"), dataset.file("train"))
    named = {
        "PRESET": os.environ.get("PRESET"),
        "DATASET_FOLDER": dataset.folder,
        "VIDEO_FOLDER": None if is_of_stage_1 else dataset.video_folder,
        "VIDEO_METADATA_PATH": None if is_of_stage_1 else dataset.listed,
        "QUALITY_SCORE": quality and quality["column"],
        "METRICS": metrics,
    }
    return {"filters": filters, "variables": {name: value for name, value in named.items() if value}}


def _where(
    dataset: Dataset, settings: dict, clips: Clips, files: list[str], columns: list[str], blocks: Blocks
) -> dict:
    """The condition in force, and for which clips it is true; `columns`: those of all files."""
    where, passing = settings.get("where"), None
    if where:
        used = parse_condition(where, columns)
        facts: list[dict] = [{} for _ in clips.numbers]
        for file in files:
            for number, row in clips.results(dataset.file(file)):
                facts[number] |= {column: row[column] for column in {*used, "frame_size"} & row.keys()}
        for number, row in enumerate(clips.listed()):  # last, because a clip's own values win
            row = _with_size(facts[number] | row)
            facts[number] = {
                column: json.dumps(row[column], ensure_ascii=False).encode() for column in used if column in row
            }
        texts = ([clip.get(column) for column in used] for clip in facts)
        passing = blocks.bits(is_true_of(where, used, texts, len(facts), columns))
    return {"where": where, "where_passes": passing, "columns_from": settings.get("columns_from") or []}


def _kept(dataset: Dataset, clips: Clips, blocks: Blocks) -> dict:
    path = dataset.file("train.jsonl")
    kept = {number for number, _ in clips.kept(path)} if exists(path) else set()
    return {"kept": blocks.bits(number in kept for number in clips.numbers.values()), "kept_is_known": exists(path)}


def _steps(steps: list[FunnelStep]) -> dict:
    """The funnel's steps before and after the filters, and what the scores could not do."""

    def shown(step: FunnelStep) -> dict:
        failures = [
            asdict(group) | {"examples": [{"video_path": p, "message": m} for p, m in group.examples]}
            for group in step.failures
        ]
        notes = [[reason, count] for reason, count, _ in step.dropped]
        return {"name": step.name, "count": step.count, "seconds": step.seconds, "failures": failures, "notes": notes}

    scores = [step for step in steps if step.name not in (*STEPS_BEFORE, "kept", *STEPS_AFTER) and step.failures]
    return {
        "steps": [shown(step) for step in steps if step.name in STEPS_BEFORE],
        "after": [shown(step) for step in steps if step.name in STEPS_AFTER],
        "score_failures": [{"file": step.name, "failures": shown(step)["failures"]} for step in scores],
    }


def matches(clips: list[dict], others: list[dict]) -> list[int]:
    """For each clip the number of the other dataset's clip that shows the same: half or more of the time that the two cover
    together, in the same source; or that has its path, where spans are unknown; -1: there is none.
    """
    by_path = {clip["video_path"]: number for number, clip in enumerate(others)}
    by_source: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for number, clip in enumerate(others):
        if clip.keys() >= {"source_path", "start_seconds", "end_seconds"}:
            by_source[clip["source_path"]].append((clip["start_seconds"], clip["end_seconds"], number))
    return [_match(clip, by_source, by_path) for clip in clips]


def _match(clip: dict, by_source: Mapping[str, Iterable[tuple[float, float, int]]], by_path: Mapping[str, int]) -> int:
    if not clip.keys() >= {"source_path", "start_seconds", "end_seconds"}:
        return by_path.get(clip["video_path"], -1)
    begin, end = clip["start_seconds"], clip["end_seconds"]
    shares = [
        ((min(end, b) - max(begin, a)) / max(max(end, b) - min(begin, a), 1e-9), n)
        for a, b, n in by_source.get(clip["source_path"], ())
    ]
    share, number = max(shares, default=(0.0, -1))
    return number if share >= 0.5 else -1
