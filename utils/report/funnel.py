"""What became of a dataset, from its files, at any time: sources, shots, clips, scores, kept and dropped, captioned."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UsageError
from utils.pipeline.condition import connection
from utils.pipeline.result_file import settings_of
from utils.pipeline.tables import Table, name_of
from utils.rows import part_files, rows_of
from utils.rows.columns import TEXT
from utils.storage import exists
from utils.working_copies import working_copy

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EXAMPLES = 3  # failed rows that are named of each kind
SHOWN = ("video_path", "source_path", "duration", "start_seconds", "end_seconds", "timecode_list", "reason")  # columns
# The files of the stages that hold no score; every other result file does.
NO_SCORES = {"scenes", "clips", "train", "dropped", "frame_caption", "summary_caption"}


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
    working_copy(f"{folder}/clips.jsonl")  # of a URL, that its companions are here
    stems = sorted(
        path.name.removesuffix(".settings.json")
        for path in working_copy(f"{folder}/x.jsonl").parent.glob("*.settings.json")
    )
    named = [
        settings_of(f"{folder}/{stem}.jsonl").get("file", f"{stem}.jsonl")
        for stem in stems
        if stem not in NO_SCORES and not stem.endswith(".hashes")  # what duplicates are found by
    ]
    return [name for name in named if is_there(f"{folder}/{name}")]


def is_there(path: str) -> bool:
    """Whether there is a result file, or a part of it."""
    return exists(path) or bool(part_files(working_copy(path)))


def funnel(folder: str) -> list[FunnelStep]:
    """The steps that have begun, in order: sources, shots, clips, each score under its file's name, kept, captioned.

    Raises: `UsageError` where the folder holds no file of the stages, or one that cannot be read.
    """
    files = {name: f"{folder}/{name}.jsonl" for name in ("scenes", "clips", "train", "dropped", "summary_caption")}
    there = {name for name, path in files.items() if is_there(path)}
    errors = {name: _errors(f"{folder}/{name}.errors.jsonl") for name in ("scenes", "clips", "summary_caption")}
    scores = score_files(folder)
    if not there and not scores and not any(errors.values()):
        raise UsageError(f"{folder}: no file of the stages is in it; is it the DATASET_FOLDER?")
    with connection() as db:
        tables = {name: _loaded(db, name, files[name]) for name in there}
        return [
            *(_of_sources(db, tables, errors) if "scenes" in there or errors["scenes"] else ()),
            *([_of_clips(db, tables["clips"])] if "clips" in there else ()),
            *(_of_score(db, folder, name) for name in scores),
            *([_of_kept(db, tables)] if "train" in there else ()),
            *([_of_captioned(db, tables, errors["summary_caption"])] if "summary_caption" in there else ()),
        ]


def _loaded(db: "DuckDBPyConnection", name: str, path: str) -> Table:
    """A file as the table `{name}_facts`, every column of it checked. Raises: `UsageError`."""
    table = Table(db, name, path, ("video_path",), {"reason": TEXT})
    table.load(list(SHOWN), f"{name}.idx")
    return table


def _errors(path: str) -> list[dict]:
    return (
        list({row["video_path"]: row for row in rows_of(path, ("video_path",), resumed=True)}.values())
        if is_there(path)
        else []
    )


def _grouped(errors: Iterable[dict]) -> list[Failures]:
    """Error rows by their kind, the most frequent first."""
    groups: dict[str, list[dict]] = {}
    for error in errors:
        groups.setdefault(str(error.get("error")), []).append(error)
    return [
        Failures(kind, len(found), [(error["video_path"], str(error.get("message"))) for error in found[:EXAMPLES]])
        for kind, found in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]


def _seconds(time: str) -> str:
    """SQL: a time of timecode_list, seconds or HH:MM:SS.mmm as JSON text, as a number."""
    parts = f"string_split(trim({time}, '\"'), ':')"
    return " + ".join(f"coalesce(try_cast({parts}[-{i}] AS DOUBLE), 0) * {60 ** (i - 1)}" for i in (1, 2, 3))


def _column(table: Table, column: str) -> str:
    """SQL: the JSON text of a column, NULL where there is no such column."""
    return f"{table.name}_facts.{name_of(column)}" if column in table.columns else "NULL::VARCHAR"


def _row(db: "DuckDBPyConnection", query: str) -> tuple[int, float | None]:
    """The count and the seconds that a query gives."""
    count, seconds = db.execute(query).fetchone() or (0, None)
    return count, seconds


def _of_sources(db: "DuckDBPyConnection", tables: dict[str, Table], errors: dict[str, list[dict]]) -> list[FunnelStep]:
    failed = [*errors["scenes"], *errors["clips"]]
    if "scenes" not in tables:
        return [FunnelStep("sources", len(failed), None, [], _grouped(failed))]
    scenes = tables["scenes"]
    count, seconds = _row(
        db,
        f"SELECT count(DISTINCT {_column(scenes, 'video_path')}), sum(try_cast({_column(scenes, 'duration')} AS DOUBLE)) FROM scenes_facts",
    )
    spans = f"unnest(from_json({_column(scenes, 'timecode_list')}, '[[\"JSON\"]]'))"
    db.execute(
        f"CREATE TABLE shots AS SELECT row_number() OVER () AS shot, source, {_seconds('span[1]::VARCHAR')} AS start, {_seconds('span[2]::VARCHAR')} AS stop "
        f"FROM (SELECT {_column(scenes, 'video_path')} AS source, {spans} AS span FROM scenes_facts)"
    )
    shots, shot_seconds = _row(db, "SELECT count(*), sum(stop - start) FROM shots")
    dropped = []
    if "clips" in tables:
        clips = tables["clips"]
        middle = f"(try_cast({_column(clips, 'start_seconds')} AS DOUBLE) + try_cast({_column(clips, 'end_seconds')} AS DOUBLE)) / 2"
        unused, lost = _row(
            db,
            "SELECT count(*), sum(stop - start) FROM shots WHERE shot NOT IN (SELECT shot FROM "
            f"(SELECT {_column(clips, 'source_path')} AS source, {middle} AS middle FROM clips_facts) AS c "
            "ASOF JOIN shots ON c.source = shots.source AND c.middle >= shots.start WHERE c.middle <= shots.stop)",
        )
        dropped = [("give no clip (too short, or their source failed)", unused, lost)] if unused else []
    return [
        FunnelStep("sources", count + len(errors["scenes"]), seconds, [], _grouped(failed)),
        FunnelStep("shots", shots, shot_seconds, dropped),
    ]


def _of_clips(db: "DuckDBPyConnection", clips: Table) -> FunnelStep:
    return FunnelStep(
        "clips", *_row(db, f"SELECT count(*), sum(try_cast({_column(clips, 'duration')} AS DOUBLE)) FROM clips_facts")
    )


def _of_score(db: "DuckDBPyConnection", folder: str, name: str) -> FunnelStep:
    _loaded(db, "score", f"{folder}/{name}")
    (count, _) = _row(db, "SELECT count(*), NULL FROM score_facts")
    return FunnelStep(name, count, None, [], _grouped(_errors(f"{folder}/{Path(name).stem}.errors.jsonl")))


def _with_seconds(tables: dict[str, Table], name: str) -> tuple[str, str]:
    """SQL: the seconds of a table's rows, by its own column or by that of the clips; and where they are looked up."""
    own = _column(tables[name], "duration")
    if "clips" not in tables or own != "NULL::VARCHAR":
        return f"sum(try_cast({own} AS DOUBLE))", f"{name}_facts"
    clips = tables["clips"]
    return (
        f"sum(try_cast({_column(clips, 'duration')} AS DOUBLE))",
        f"{name}_facts LEFT JOIN clips_facts ON {_column(clips, 'video_path')} = {_column(tables[name], 'video_path')}",
    )


def _of_kept(db: "DuckDBPyConnection", tables: dict[str, Table]) -> FunnelStep:
    seconds, source = _with_seconds(tables, "train")
    kept = _row(db, f"SELECT count(*), {seconds} FROM {source}")
    dropped: list = []
    if "dropped" in tables:
        seconds, source = _with_seconds(tables, "dropped")
        found = db.execute(
            f"SELECT {_column(tables['dropped'], 'reason')} AS reason, count(*), {seconds} FROM {source} GROUP BY reason ORDER BY count(*) DESC, reason"
        )
        dropped = [(str(json.loads(reason or '""')), count, lost) for reason, count, lost in found.fetchall()]
    return FunnelStep("kept", *kept, dropped)


def _of_captioned(db: "DuckDBPyConnection", tables: dict[str, Table], errors: list[dict]) -> FunnelStep:
    seconds, source = _with_seconds(tables, "summary_caption")
    return FunnelStep("captioned", *_row(db, f"SELECT count(*), {seconds} FROM {source}"), [], _grouped(errors))
