"""What every script does with its rows: find those that are due, read them in worker processes, score them, append the
results, merge, count.

A script brings a `Step`: `read(row)`, which opens the video in a worker process and returns what the score needs, and,
where there is a model, `score`, which runs beside the model on the stream of what was read. Everything else is here,
once: resume, errors, ranks, progress and the closing line.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from utils.columns import PATH, Kind
from utils.database import connection
from utils.errors import Failure, RunError, UsageError
from utils.pipeline.large_list import LARGE, LargeList, NotAlike, Standing
from utils.pipeline.progress import Progress
from utils.pipeline.ranks import Ranks
from utils.pipeline.ray_launcher import rows_by_ray
from utils.pipeline.result_file import ResultFile
from utils.pipeline.workers import seconds_for_file, work
from utils.rows import digest, part_files, read_rows, refuse_overwriting
from utils.storage import exists, is_folder
from utils.video_utils import get_video_path_list, is_clip, locate, relative_to_folder
from utils.working_copies import local_path, working_copy

# What distinguishes a clip from another one cut later under the same name: a score of one must not pass for the other's.
CLIP_COLUMNS = ("source_path", "source_digest", "start_seconds", "end_seconds", "bytes")
LARGE_LIST_MEMORY = "900MB"  # of DuckDB
FIRST_ROWS, LAST_ROWS, LARGEST_SHARE = 20, 200, 0.1  # when unexpected errors are the rule: see `UnexpectedErrors`

# What `score` takes and gives: of each row, what was read of it, or its columns; or a `Failure` instead; None
# where nothing was read within `patience` seconds.
Stream = Iterator[tuple[dict, Any] | None]


@dataclass(frozen=True)
class RunOptions:
    """Where results go and how the work is done: the flags that all scripts share, under their own names."""

    saved_path: str
    video_folder: str | None = None
    video_metadata_path: str | None = None
    saved_freq: int = 100
    overwrite: bool = False
    retry_errors: bool = False
    n_jobs: int = 1
    timeout_seconds: float = 120.0
    ray: bool = False
    log_json: bool = False


@dataclass(frozen=True)
class Step:
    """What a script does with each row.

    - `name` heads its messages; `done_word` says there what became of a row.
    - `read(row)` gives the columns to save, or what `score` turns into them; under a `key` other than `video_path`, a
      list of rows. It runs in worker processes, so it must be picklable: a function, or a `partial` of one.
    - `settings`: the choices that change the results; a file made with others is not added to.
    - `score(stream)`, where there is a model, takes and gives a `Stream`, in any order; `in_batches` makes one of a
      function of a batch. With `patience`, its stream also holds None where nothing was read for so many seconds.
    - `passes(row)`, where it is given, is false for rows that are filtered out; `passing_rows()` gives the numbers of all that are not, for
      a large list, which without it is held in memory.
    - A result is due again when the input columns `depends_on` have changed since, or when `is_whole` is false, which, where there is one,
      is given all result rows of one input row (also of one that is not in this run's input); `discard(rows)` is given
      such results.
    - `shared_import`: a module that takes long to import; worker processes share one import of it.
    - On a Ray cluster, `score` is pickled like `read` and runs in actors that have `gpus` GPUs each, where there are any.
    """

    name: str
    read: Callable[[dict], Any]
    settings: dict
    score: Callable[[Stream], Stream] | None = None
    patience: float | None = None
    passes: Callable[[dict], bool] | None = None
    passing_rows: Callable[[], np.ndarray] | None = None
    depends_on: Sequence[str] = CLIP_COLUMNS
    key: str = "video_path"
    is_whole: Callable[[list[dict]], bool] | None = None
    discard: Callable[[list[dict]], object] = lambda rows: None
    done_word: str = "scored"
    shared_import: str | None = None
    gpus: int = 1


def input_rows(
    video_folder: str | None,
    video_metadata_path: str | None,
    video_path_column: str = "video_path",
    needed: Mapping[str, Kind] | None = None,
    skip_clips: bool = False,
) -> list[dict]:
    """The rows to work on, from a list with all its columns or from a folder; each `video_path` once.

    `needed`: columns that every row of a list must have, and what they hold. `skip_clips`: leave out what
    video_splitting.py has written into the folder.

    Raises: `UsageError` with a sentence for a missing folder, file or column, or a malformed row.
    """
    if video_folder and not exists(video_folder):
        raise UsageError(f"--video_folder {video_folder}: no such folder or video")
    if not video_metadata_path or video_metadata_path.lower().endswith(".txt"):
        paths = get_video_path_list(video_folder, video_metadata_path, video_path_column)
        if skip_clips and video_folder and is_folder(video_folder) and not video_metadata_path:
            sources = [path for path in paths if not is_clip(locate(path, video_folder))]
            if len(sources) < len(paths):
                print(f"{video_folder}: {len(paths) - len(sources):,} clips of video_splitting.py in it are skipped")
            paths = sources
        if not paths:
            where = video_metadata_path or video_folder
            print(
                f"{where}: no videos in it; a folder's are files with the ending of one, such as .mp4, .mov, .mkv or .webm"
            )
        return [{"video_path": path} for path in paths]
    kinds = {**(needed or {}), video_path_column: PATH}
    rows = read_rows(video_metadata_path, tuple(kinds), kinds)
    by_path: dict[str, dict] = {}
    for row in rows:
        path = relative_to_folder(row[video_path_column], video_folder)
        by_path.setdefault(path, {**row, "video_path": path})
    if len(by_path) < len(rows):
        print(f"{video_metadata_path}: {len(rows) - len(by_path):,} rows repeat a path and are skipped")
    return list(by_path.values())


def is_large(video_metadata_path: str | None) -> bool:
    """Whether a list is one of which `lazy_input_rows` holds no rows."""
    if not video_metadata_path or not video_metadata_path.lower().endswith(".jsonl"):
        return False
    path = working_copy(video_metadata_path)
    return path.is_file() and path.stat().st_size >= LARGE and not part_files(path)


def lazy_input_rows(
    video_folder: str | None, video_metadata_path: str | None, video_path_column: str = "video_path"
) -> Sequence[dict]:
    """`input_rows` for a script that passes them on as they are: those of a large list are read where they are asked for, a
    path may come twice among them, and `process_rows` checks them.
    """
    if video_metadata_path and is_large(video_metadata_path):
        return LargeList(local_path(video_metadata_path), video_path_column, video_folder)
    return input_rows(video_folder, video_metadata_path, video_path_column)


def in_batches(score: Callable[[list], list[dict]], batch_size: int = 1) -> Callable[[Stream], Stream]:
    """`score(list of what was read)`, which gives the columns of each, as a function of the stream of rows."""

    return partial(_score_batches, score=score, batch_size=batch_size)


def _score_batches(items: Stream, score: Callable[[list], list[dict]], batch_size: int) -> Stream:
    def of_batch(batch: list[tuple[dict, Any]]) -> Stream:
        return zip([row for row, _ in batch], score([got for _, got in batch]), strict=True) if batch else iter(())

    batch = []
    for row, got in filter(None, items):
        if isinstance(got, Failure):
            yield row, got
            continue
        batch.append((row, got))
        if len(batch) == batch_size:
            yield from of_batch(batch)
            batch = []
    yield from of_batch(batch)


def prefetch(items: Stream) -> Stream:
    """The same stream with `patience`, its reading under way at once: while a model loads, say."""
    items = iter(items)
    return itertools.chain([next(items, None)], items)


def process_rows(step: Step, rows: Sequence[dict], options: RunOptions, ranks: Ranks | None = None) -> None:
    """Bring `options.saved_path` up to date with `rows` and print the closing line.

    `ranks` is given by a script that needed it before.

    Raises: `UsageError` where the result file cannot be added to; `RunError` where unexpected errors are the rule, or
    where every row has failed.
    """
    refuse_overwriting({"--saved_path": options.saved_path}, {"--video_metadata_path": options.video_metadata_path})
    ranks = ranks or Ranks()
    results = ResultFile(
        options.saved_path, step.settings, key=step.key, overwrite=options.overwrite, retry_errors=options.retry_errors,
        saved_freq=options.saved_freq, rank=ranks.rank, world=ranks.world,
    )  # fmt: skip
    if isinstance(rows, LargeList):
        is_known = step.key == "video_path" and not step.is_whole and (step.passing_rows or not step.passes)
        if is_known and results.path.suffix.lower() == ".jsonl":
            try:
                with connection(LARGE_LIST_MEMORY) as db:
                    _process_large(step, Standing(db, rows, results, step.depends_on), results, options, ranks)
                return
            except NotAlike:
                pass
        rows = input_rows(rows.folder, str(rows.path), rows.column)
    _process_in_memory(step, rows, results, options, ranks)


def _process_in_memory(
    step: Step, rows: Sequence[dict], results: ResultFile, options: RunOptions, ranks: Ranks
) -> None:
    made_from = {row["video_path"]: digest(row, step.depends_on) for row in rows}
    if ranks.rank == 0:
        _drop_outdated(step, results, made_from)
    ranks.agree_on(row["video_path"] for row in rows)

    there, errors = results.load()
    done = {row[step.key] for row in there} | set(errors)
    filtered = [row for row in rows if step.passes and not step.passes(row)]
    due = {row["video_path"] for row in rows} - done - {row["video_path"] for row in filtered}
    _say_what_is_due(step, len(done & set(made_from)), len(rows), len(due), ranks)

    # Shard first, then skip finished rows: the other order would write rows twice.
    tasks = (row for chunk in ranks.share(rows) for row in chunk if row["video_path"] in due)
    try:
        _do(step, tasks, len(due), results, options, ranks)
    finally:
        results.finish_writing()
    if ranks.all_ended():
        results.merge([row["video_path"] for row in rows])
        there, errors = results.load()
        print(closing_line(step, rows, filtered, there, errors, options.saved_path))
        failed = {row["video_path"] for row in rows} - {row["video_path"] for row in filtered}
        if failed and failed <= set(errors) - {row[step.key] for row in there}:
            _all_failed(step, len(failed), [errors[path] for path in errors if path in failed])
        ranks.release()


def _process_large(step: Step, standing: Standing, results: ResultFile, options: RunOptions, ranks: Ranks) -> None:
    """The same for a list that is not in memory."""
    if ranks.rank == 0:
        step.discard(results.overwritten)
        _say_what_is_outdated(step, standing.drop_outdated())
        standing.drop_outdated_errors()
    ranks.agree_on([standing.rows.digest()] if ranks.world > 1 else [])

    if step.passing_rows:
        standing.leave_out_all_but(step.passing_rows())
    standing.look()
    _say_what_is_due(step, standing.done, standing.total, standing.due_count, ranks)
    tasks = standing.due(ranks.share(range(len(standing.rows))))
    try:
        _do(step, tasks, standing.due_count, results, options, ranks)
    finally:
        results.finish_writing()
    if ranks.all_ended():
        standing.merge()
        standing.look()
        assert not standing.due_count, f"{step.name}: {standing.due_count} rows were lost"
        count, errors = standing.total, standing.errors
        filtered = count - standing.finished - len(errors)
        print(_closing_line(step, count, standing.finished, "", errors, filtered, options.saved_path))
        if errors and len(errors) == count - filtered:
            _all_failed(step, len(errors), errors)
        ranks.release()


def _say_what_is_due(step: Step, done: int, count: int, due: int, ranks: Ranks) -> None:
    if done and ranks.rank == 0:
        print(f"{step.name}: {done:,} of {count:,} done before, {due:,} due")


def _say_what_is_outdated(step: Step, count: int) -> None:
    if count:
        print(f"{step.name}: {count:,} results no longer fit their input or are incomplete, and are made again")


def _all_failed(step: Step, count: int, errors: Sequence[dict]) -> None:
    reasons = [str(error.get("message")).partition("\n")[0] for error in errors[:3]]
    raise RunError("\n  ".join([f"all {count:,} rows of {step.name} failed (--retry_errors tries again):", *reasons]))


def _drop_outdated(step: Step, results: ResultFile, made_from: dict[str, str | None]) -> None:
    """Remove results and errors whose input has changed since, and results that `step` does not find whole."""

    def is_valid(group: list[dict]) -> bool:
        source = group[0][step.key]
        unchanged = all(row.get("made_from") == made_from.get(source, row.get("made_from")) for row in group)
        return unchanged and (step.is_whole is None or step.is_whole(group))

    step.discard(results.overwritten)
    there, errors = results.load()
    groups = defaultdict(list)
    for row in there:
        groups[row.get(step.key)].append(row)
    stale = {source for source, group in groups.items() if not is_valid(group)}
    if stale:
        kept = [row for row in there if row.get(step.key) not in stale]
        still_there = {row["video_path"] for row in kept}
        step.discard([row for row in there if row.get(step.key) in stale and row["video_path"] not in still_there])
        results.keep_only(kept)
    _say_what_is_outdated(step, len(stale))
    outdated = {k for k, e in errors.items() if e.get("made_from") != made_from.get(k, e.get("made_from"))}
    if outdated:
        results.keep_only_errors([error for k, error in errors.items() if k not in outdated])


def _do(
    step: Step,
    tasks: Iterator[dict],
    due: int,
    results: ResultFile,
    options: RunOptions,
    ranks: Ranks,
) -> None:
    """Read and score the tasks, of which there are `due` on all ranks together, and add what comes to `results`."""
    if not due:
        return
    limit = partial(_seconds_for_row, video_folder=options.video_folder, timeout_seconds=options.timeout_seconds)
    unexpected = UnexpectedErrors()
    if options.ray and ranks.world > 1:
        raise UsageError("--ray (or RAY_ADDRESS) and ranks of torchrun or accelerate do not go together; choose one")
    read: Generator[tuple[dict, Any] | None, None, None]
    scored: Stream
    if options.ray:
        read = scored = rows_by_ray(step.read, step.score, step.gpus, list(tasks), limit)
    else:
        read = work(step.read, tasks, min(options.n_jobs, due), limit, step.patience, step.shared_import)
        scored = step.score(read) if step.score else read
    with Progress(due, step.name, ranks.rank, ranks.world, options.log_json) as bar, closing(read):
        for row, made in filter(None, scored):
            bar.add(failed=isinstance(made, Failure))
            path = row["video_path"]
            made_from = digest(row, step.depends_on)
            stamp = {"made_from": made_from} if made_from else {}
            if isinstance(made, Failure):
                results.add_error(path, made, stamp)
            else:
                made = made if isinstance(made, list) else [made]
                results.add([{"video_path": path, **columns, **stamp} for columns in made])
            unexpected.count(path, made)


class UnexpectedErrors:
    """Tells a bug that meets every row from one file of a new kind, whose row alone is lost."""

    def __init__(self):
        self.rows = 0
        self.found: list[int] = []  # the numbers of the rows that ended so

    def count(self, path: str, made: Any) -> None:
        """Take note of what came of a row.

        Raises: `RunError` when the first FIRST_ROWS rows all end so, or more than LARGEST_SHARE of the last LAST_ROWS.
        """
        self.rows += 1
        if not (isinstance(made, Failure) and made.unexpected):
            return
        self.found.append(self.rows)
        last = sum(number > self.rows - LAST_ROWS for number in self.found)
        if len(self.found) == self.rows == FIRST_ROWS or (self.rows > LAST_ROWS and last > LARGEST_SHARE * LAST_ROWS):
            raise RunError(
                f"{last:,} of the last {min(self.rows, LAST_ROWS):,} rows ended in an unexpected error; the last, {path}: {made.message}"
            )


def _seconds_for_row(row: dict, video_folder: str | None, timeout_seconds: float) -> float:
    return seconds_for_file(locate(row["video_path"], video_folder), row.get("duration"), timeout_seconds)


def closing_line(
    step: Step,
    rows: Sequence[dict],
    filtered_rows: list[dict],
    there: list[dict],
    errors: dict[str, dict],
    saved_path: str,
) -> str:
    """Where every input row has gone. That the numbers add up is checked here, at every run of every script."""
    keys = {row["video_path"] for row in rows}
    filtered = {row["video_path"] for row in filtered_rows}
    finished = {row[step.key] for row in there} & keys - filtered
    failed = (set(errors) & keys) - filtered - finished
    lost = len(keys - finished - failed - filtered)
    assert not lost, f"{step.name}: {lost} rows were lost"
    clips = "" if step.key == "video_path" else f" into {sum(row[step.key] in finished for row in there):,} clips"
    return _closing_line(
        step, len(keys), len(finished), clips, [errors[path] for path in failed], len(filtered), saved_path
    )


def _closing_line(
    step: Step, count: int, finished: int, clips: str, failed: Sequence[dict], filtered: int, saved_path: str
) -> str:
    unexpected = sum(bool(error.get("unexpected")) for error in failed)
    report = f" ({unexpected:,} unexpected: please report)" if unexpected else ""
    return (
        f"{step.name}: {count:,} rows in = {finished:,} {step.done_word}{clips} + {len(failed):,} errors{report} "
        f"+ {filtered:,} filtered -> {saved_path}"
    )
