"""What the report holds of one dataset: its clips with all columns of their scores, the filters in force, the funnel."""

import base64
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from utils.pipeline.condition import connection
from utils.pipeline.filters import SLACK, Judged, mean
from utils.pipeline.result_file import settings_of
from utils.pipeline.score import Column
from utils.pipeline.tables import name_of, row_of
from utils.report.funnel import FunnelStep, funnel, score_files
from utils.report.page import Blocks
from utils.report.thumbnails import FOLDER, FRAMES, image_of, path_of
from utils.rows import rows_of
from utils.storage import exists, is_url

INSIDE = 500  # clips whose thumbnails are inside the page; those of more stay in their folder
MOST_VALUES = 100  # of a column of texts that can be chosen from
NOT_SHOWN = {"video_path", "source_path", "made_from", "source_digest", "frame_size", "clip_count", "thumbnail"}
VARIABLES = {  # of stage 2, for the lowest and the highest value of a column
    "duration": ("MIN_SECONDS", "MAX_SECONDS"),
    "text_score": (None, "TEXT_SCORE_THRESHOLD"),
    "motion_score": ("LOW_MOTION_SCORE_THRESHOLD", "HIGH_MOTION_SCORE_THRESHOLD"),
    "cut_inside": (None, "CUT_INSIDE_THRESHOLD"),
}
STEPS_BEFORE, STEPS_AFTER = ("sources", "shots", "clips"), ("captioned",)


@dataclass(frozen=True)
class Dataset:
    """A dataset's files, as the user names them: its `folder`, the list of its clips, and where these are. `declared`: the
    columns that the scripts declare; `quality`: those of them by which stage 2 may judge quality.
    """

    folder: str
    listed: str
    video_folder: str
    declared: Mapping[str, Column]
    quality: frozenset[str]

    def file(self, name: str) -> str:
        return f"{self.folder}/{name}"

    @property
    def list_name(self) -> str:
        return os.path.basename(self.listed)


def describe(dataset: Dataset, page_folder: str, blocks: Blocks) -> tuple[dict[str, Any], list[dict]]:
    """What the page is told of a dataset, in the form of docs/report.md, and its clips, each with its path, source and span.

    Raises: `UsageError` for a file that cannot be read.
    """
    files = score_files(dataset.folder)
    thumbnails = f"{FOLDER}/thumbnails.jsonl"
    if exists(dataset.file(thumbnails)):
        files.append(thumbnails)
    settings = settings_of(dataset.file("train.jsonl"))
    with connection() as db:
        judged = Judged(db, (None, dataset.listed, "video_path"), [], [], None, [dataset.file(name) for name in files])
        keys = db.execute("SELECT key FROM keys ORDER BY idx").fetchall()
        clips = [row_of(["video_path"], key) for key in keys]
        columns: list[dict] = []
        for name, table in [(dataset.list_name, judged.clips), *zip(files, judged.tables, strict=True)]:
            for column in table.columns:
                if column == "frame_size" and name == dataset.list_name:
                    pixels = _numbers(judged, table.name, _pixels(f"{table.name}.{name_of(column)}"), blocks)
                    columns.append({"name": "pixels", "file": name, "meaning": "width times height", **pixels})
                elif column not in NOT_SHOWN and not column.endswith("_idx"):
                    meaning = {"meaning": dataset.declared[column].meaning} if column in dataset.declared else {}
                    if found := _column(judged, table.name, column, blocks):
                        columns.append({"name": column, "file": name, **meaning, **found})
            ours = ["thumbnail"] if name == thumbnails else []  # a list's own column of this name is none of ours
            needed = {"source_path", "start_seconds", "end_seconds", *ours} & set(table.columns)
            _add_to_clips(judged, table.name, needed, clips)
    paths = [clip["video_path"] for clip in clips]
    texts = {
        "video_path": paths,
        "source_path": [clip.get("source_path", "") for clip in clips],
        "caption": _captions(dataset, paths),
        "thumbnail": _thumbnails(dataset, clips, page_folder),
    }
    columns += [
        {"name": name, "file": dataset.list_name, "kind": "text", "block": blocks.texts(values)}
        for name, values in texts.items()
        if any(values)
    ]
    return {
        "name": os.path.basename(dataset.folder if is_url(dataset.folder) else os.path.abspath(dataset.folder)), "folder": dataset.folder, "list": dataset.listed,
        "saved_path": dataset.file("train.jsonl"), "video_folder": _link(dataset.video_folder, page_folder),
        "count": len(clips), "columns": columns, "thumbnail_frames": FRAMES, "match": None,
        **_in_force(dataset, settings, columns, blocks), **_where(dataset, settings, paths, files, blocks),
        **_kept(dataset, paths, blocks), **_steps(funnel(dataset.folder)),
    }, clips  # fmt: skip


def _wide(judged: Judged, source: str) -> str:
    """SQL: a source's rows in the order of the clips; missing ones, and those of an older cut, are empty."""
    if source == "clips":
        return "keys LEFT JOIN clips ON clips.idx = keys.idx"
    return f"keys JOIN facts ON facts.idx = keys.idx LEFT JOIN {source} ON {source}.idx = row_of_{source}"


def _pixels(size: str) -> str:
    return f"(try_cast({size} AS DOUBLE[])[1] * try_cast({size} AS DOUBLE[])[2])"


def _numbers(judged: Judged, source: str, value: str, blocks: Blocks) -> dict:
    found = judged.db.execute(f"SELECT {value} AS v FROM {_wide(judged, source)} ORDER BY keys.idx").fetchnumpy()["v"]
    values = np.ma.filled(found.astype(float), np.nan)
    return {"kind": "number", "block": blocks.numbers(values), "whole": not np.any(values[np.isfinite(values)] % 1)}


def _column(judged: Judged, source: str, column: str, blocks: Blocks) -> dict | None:
    """The kind of a column and its block; None where it is neither numbers nor a choice of few texts."""
    value = f"{source}.{name_of(column)}"
    number = f"try_cast({mean(value)} AS DOUBLE)"
    there, numbers, texts, choices, several = (
        judged.db.execute(
            f"SELECT count({value}), count({number}), count(*) FILTER ({value}[1] = '\"'), "
            f"count(*) FILTER ({value} IN ('true', 'false')), count(DISTINCT {value}) FROM {_wide(judged, source)}"
        ).fetchone()
        or (0,) * 5
    )
    if there and numbers == there:
        return _numbers(judged, source, number, blocks)
    if there and there in (texts, choices) and several <= MOST_VALUES:
        rows = judged.db.execute(f"SELECT {value} FROM {_wide(judged, source)} ORDER BY keys.idx").fetchall()
        block, values = blocks.codes([json.loads(v) if v and texts else v for (v,) in rows])
        return {"kind": "category", "block": block, "values": values} if values else None
    return None


def _add_to_clips(judged: Judged, source: str, columns: set[str], clips: list[dict]) -> None:
    """Add to the clips what is needed of each beside the columns that the page shows."""
    for column in columns:
        rows = judged.db.execute(f"SELECT {source}.{name_of(column)} FROM {_wide(judged, source)} ORDER BY keys.idx")
        for clip, value in zip(clips, rows.fetchall(), strict=True):
            clip.update(row_of([column], value) if column not in clip else {})


def _captions(dataset: Dataset, paths: list[str]) -> list[str]:
    """Each clip's caption: the summary, or before stage 3 has ended what was said of its frames."""
    captions: dict[str, str] = {}
    for name, column in (("frame_caption", "sampled_frame_caption"), ("summary_caption", "summary_caption")):
        path = dataset.file(f"{name}.jsonl")
        for row in rows_of(path, resumed=True) if exists(path) else ():
            caption = row.get(column) or ""
            captions[str(row.get("video_path"))] = (
                " ".join(map(str, caption)) if isinstance(caption, list) else str(caption)
            )
    return [captions.get(path, "") for path in paths]


def _thumbnails(dataset: Dataset, clips: list[dict], page_folder: str) -> list[str]:
    """Each clip's thumbnail: the image itself, or where there are many its relative link."""
    folder = dataset.file(FOLDER)
    names = [clip.get("thumbnail") for clip in clips]
    if len(clips) > INSIDE:
        link = _link(folder, page_folder) or FOLDER
        return [f"{link}/{name}" if path_of(folder, name) else "" for name in names]
    images = [image_of(folder, name) for name in names]
    return [f"data:image/webp;base64,{base64.b64encode(image).decode()}" if image else "" for image in images]


def _link(folder: str, page_folder: str) -> str | None:
    """A folder relative to the page's, percent-encoded; None where it is behind a URL."""
    return None if is_url(folder) or is_url(page_folder) else quote(os.fsencode(os.path.relpath(folder, page_folder)))


def _in_force(dataset: Dataset, settings: dict, columns: list[dict], blocks: Blocks) -> dict:
    """The filters that train.jsonl was made with, or else those that the scores declare, and the variables of stage 2."""
    there = [(c["file"], c["name"]) for c in columns if c["kind"] == "number"]
    declared: list[dict] = [{"file": dataset.list_name, "column": "duration", "low": 3, "high": 10}]
    for file, column in there:
        low, high = dataset.declared[column].passes if column in dataset.declared else (None, None)
        if (low, high) != (None, None):
            declared.append({"file": file, "column": column, "low": low, "high": high})
    filters = []
    for one in settings.get("filters") or declared:
        is_length = (one["file"], one["column"]) == (dataset.list_name, "duration")
        variables = ("QUALITY_THRESHOLD", None) if one["column"] in dataset.quality else VARIABLES.get(one["column"])
        if (one["file"], one["column"]) in there:
            filters.append(one | {"variables": variables, "slack": SLACK if is_length else 0})
    quality = next((one for one in filters if one["column"] in dataset.quality), None)
    metrics = settings_of(dataset.file(quality["file"])).get("metrics") if quality else None
    named = {
        "PRESET": os.environ.get("PRESET"),
        "DATASET_FOLDER": dataset.folder,
        "QUALITY_SCORE": quality and quality["column"],
        "METRICS": metrics,
    }
    return {"filters": filters, "variables": {name: value for name, value in named.items() if value}}


def _where(dataset: Dataset, settings: dict, paths: list[str], files: list[str], blocks: Blocks) -> dict:
    """The condition in force, and for which clips it is true."""
    where, passing = settings.get("where"), None
    if where:
        with connection() as db:
            found = Judged(
                db, (None, dataset.listed, "video_path"), [], [], where, [dataset.file(name) for name in files]
            ).passing()
        passing = blocks.bits(path in found for path in paths)
    return {"where": where, "where_passes": passing, "columns_from": settings.get("columns_from") or []}


def _kept(dataset: Dataset, paths: list[str], blocks: Blocks) -> dict:
    path = dataset.file("train.jsonl")
    kept = {row["video_path"] for row in rows_of(path, ("video_path",))} if exists(path) else set()
    return {"kept": blocks.bits(path in kept for path in paths), "kept_is_known": exists(path)}


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
