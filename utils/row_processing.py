"""The road that every script's rows take: which are due, read in worker processes, scored in batches, appended, merged,
counted.

A script brings `read(row)`, which opens the video in a worker process and returns what the score needs, and, where
there is a model, `score`, which runs beside the model on a stream of what was read. Everything else is here, once:
resume, errors, ranks, progress and the closing line.
"""

import argparse
import hashlib
import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial

from utils.arguments import UsageError
from utils.rows import ResultFile, dumps, read_rows
from utils.video_utils import get_video_path_list, locate, relative_to_folder
from utils.workers import Failure, Ranks, progress, seconds_for_file, work

# What tells a clip from another one cut later under the same name: a score of the one is none of the other.
CLIP_COLUMNS = ("source_path", "start_seconds", "end_seconds", "bytes")


def input_rows(args: argparse.Namespace) -> list[dict]:
    """The rows to work on, from `--video_metadata_path` with all its columns or from `--video_folder`; each
    `video_path` once.
    """
    if args.video_folder and not os.path.exists(args.video_folder):
        raise UsageError(f"--video_folder {args.video_folder}: no such folder or video")
    if args.video_metadata_path and not args.video_metadata_path.lower().endswith(".txt"):
        rows = read_rows(args.video_metadata_path, required=(args.video_path_column,))
        keyed = {}
        for row in rows:
            if not isinstance(row[args.video_path_column], str) or not row[args.video_path_column]:
                raise UsageError(
                    f"{args.video_metadata_path}: {args.video_path_column} is {row[args.video_path_column]!r}, not a path"
                )
            path = relative_to_folder(row[args.video_path_column], args.video_folder)
            keyed.setdefault(path, {**row, "video_path": path})
        rows_found = list(keyed.values())
    else:
        paths = get_video_path_list(args.video_folder, args.video_metadata_path, args.video_path_column)
        rows, rows_found = paths, [{"video_path": path} for path in paths]
    if len(rows_found) < len(rows):
        print(f"{args.video_metadata_path}: {len(rows) - len(rows_found):,} rows repeat a path and are passed over")
    return rows_found


def digest(row: dict, columns: Sequence[str]) -> str | None:
    """Eight hex digits over those of `columns` that the row has; None when it has none."""
    present = {column: row[column] for column in columns if column in row}
    return hashlib.sha256(dumps(present).encode()).hexdigest()[:8] if present else None


# What `score` is given of each row, and gives: what was read of it, and its columns; a `Failure` in the place of both.
Stream = Iterator[tuple[dict, object]]


def in_batches(score: Callable[[list], list[dict]], batch_size: int = 1) -> Callable[[Iterable], Stream]:
    """`score(list of what was read)`, which gives the columns of each, made fit for the stream of rows."""

    def of_batch(batch: list[tuple[dict, object]]) -> Stream:
        return zip([row for row, _ in batch], score([got for _, got in batch]), strict=True) if batch else iter(())

    def of_stream(items: Iterable[tuple[dict, object]]) -> Stream:
        batch = []
        for row, got in items:
            if isinstance(got, Failure):
                yield row, got
                continue
            batch.append((row, got))
            if len(batch) == batch_size:
                yield from of_batch(batch)
                batch = []
        yield from of_batch(batch)

    return of_stream


def begun(items: Iterable[tuple[dict, object] | None]) -> Iterator[tuple[dict, object] | None]:
    """The same stream with `patience`, its reading under way at once: while a model loads, say."""
    items = iter(items)
    return itertools.chain([next(items, None)], items)


def process_rows(
    args: argparse.Namespace,
    name: str,
    rows: list[dict],
    settings: dict,
    read: Callable[[dict], dict | list[dict]],
    score: Callable[[Iterable], Stream] = iter,
    *,
    patience: float | None = None,
    passes: Callable[[dict], bool] = lambda row: True,
    depends_on: Sequence[str] = CLIP_COLUMNS,
    key: str = "video_path",
    holds: Callable[[dict], bool] = lambda row: True,
    discard: Callable[[list[dict]], object] = lambda rows: None,
    done_word: str = "scored",
    ranks: Ranks | None = None,
) -> None:
    """Bring `args.saved_path` up to date with `rows` and print the closing line.

    `read(row)` gives the columns to save (or, under a `key` that is not `video_path`, a list of rows), or what `score`
    turns into them: it takes the stream of (row, what was read or `Failure`), and gives one of (row, columns or
    `Failure`), in any order. With `patience`, its stream also holds None, where nothing was read for so many seconds.
    `passes(row)` is false for rows that are filtered. A result is due again when the input columns `depends_on` have
    changed since, or when `holds(result row)` is false; `discard` is given such results. `ranks` is given by a script
    that needed it before.
    """
    ranks = ranks or Ranks()
    results = ResultFile(
        args.saved_path, settings, key=key, overwrite=args.overwrite, retry_errors=args.retry_errors, saved_freq=args.saved_freq,
        rank=ranks.rank, world=ranks.world,
    )  # fmt: skip
    made_from = {row["video_path"]: digest(row, depends_on) for row in rows}

    def whole(group: list[dict]) -> bool:
        source = group[0].get(key)
        return (
            len(group) == group[0].get("clip_count", 1)
            and all(row.get("made_from") == made_from.get(source, row.get("made_from")) for row in group)
            and all(holds(row) for row in group if source in made_from)
        )

    if ranks.rank == 0:
        discard(results.overwritten)
        there, errors = results.load()
        groups = defaultdict(list)
        for row in there:
            groups[row.get(key)].append(row)
        stale = {source for source, group in groups.items() if not whole(group)}
        if stale:
            kept = [row for row in there if row.get(key) not in stale]
            still_there = {row["video_path"] for row in kept}
            discard([row for row in there if row.get(key) in stale and row["video_path"] not in still_there])
            results.keep_only(kept)
        outdated = {k for k, e in errors.items() if e.get("made_from") != made_from.get(k, e.get("made_from"))}
        if outdated:
            results.keep_only_errors([error for k, error in errors.items() if k not in outdated])
        if stale:
            print(f"{name}: {len(stale):,} results no longer fit their input or are incomplete, and are made again")
    ranks.wait_for_rank_0("loaded")

    there, errors = results.load()
    done = {row[key] for row in there} | set(errors)
    due = [row for row in rows if row["video_path"] not in done and passes(row)]
    is_due = {row["video_path"] for row in due}
    if done & set(made_from) and ranks.rank == 0:
        print(f"{name}: {len(done & set(made_from)):,} of {len(rows):,} done before, {len(due):,} due")

    def stamp(row: dict) -> dict:
        return {"made_from": made_from[row["video_path"]]} if made_from[row["video_path"]] else {}

    def save(row: dict, columns: dict | list[dict]) -> None:
        made = columns if isinstance(columns, list) else [columns]
        results.add([{"video_path": row["video_path"], **one, **stamp(row)} for one in made])

    tasks = (row for chunk in ranks.share(rows) for row in chunk if row["video_path"] in is_due)
    limit = partial(_seconds_for_row, video_folder=args.video_folder, timeout_seconds=args.timeout_seconds)
    try:
        with (
            progress(-(-len(due) // ranks.world), name) as bar,
            closing(work(read, tasks, min(args.n_jobs, len(due)), limit, patience)) as items,
        ):
            for row, made in score(items) if due else ():
                bar.update()
                if isinstance(made, Failure):
                    results.add_error(row["video_path"], made.error, made.message, stamp(row))
                else:
                    save(row, made)
    finally:
        results.finish_writing()
    if ranks.last_to_end():
        results.merge([row["video_path"] for row in rows])
        there, errors = results.load()
        print(
            closing_line(
                name, done_word, rows, [row for row in rows if not passes(row)], there, errors, key, args.saved_path
            )
        )


def _seconds_for_row(row: dict, video_folder: str | None, timeout_seconds: float) -> float:
    return seconds_for_file(locate(row["video_path"], video_folder), row.get("duration"), timeout_seconds)


def closing_line(name, done_word, rows, filtered, there, errors, key, saved_path) -> str:
    """Where every row that came in has gone. That the numbers add up is checked here, at every run of every script."""
    keys = {row["video_path"] for row in rows}
    filtered = {row["video_path"] for row in filtered}
    finished = {row[key] for row in there} & keys - filtered
    failed = (set(errors) & keys) - filtered - finished
    assert len(keys) == len(finished) + len(failed) + len(filtered), (
        f"{name}: {len(keys - finished - failed - filtered)} rows were lost"
    )
    made = "" if key == "video_path" else f" into {sum(row[key] in finished for row in there):,} clips"
    return f"{name}: {len(keys):,} rows in = {len(finished):,} {done_word}{made} + {len(failed):,} errors + {len(filtered):,} filtered -> {saved_path}"
