"""The main loop of every script: find due rows, read them in worker processes, score them, append the
results, merge, count.

A script brings a `Step`: `read(row)`, which opens the video in a worker process and returns what the score needs, and,
where there is a model, `score`, which runs beside the model on the stream of what was read. Everything else is here,
once: resume, errors, ranks, progress and the closing line.
"""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from utils.errors import Failure, RunError, UsageError, named
from utils.pipeline.ancestry import (
    CLIP_COLUMNS,
    inputs_of,
    is_file_of,
    is_made_of,
    last_checked,
    made_from,
    stamp_of,
    unchanged_sizes,
)
from utils.pipeline.result_file import ResultFile, ResumeState, errors_of
from utils.pipeline.row_list import Rows
from utils.rows import refuse_overwriting
from utils.video_utils import locate
from utils.workers.processes import STALL_SECONDS, seconds_for_file, work
from utils.workers.progress import Progress
from utils.workers.ranks import Ranks
from utils.workers.ray_launcher import rows_by_ray
from utils.working_copies import local_path

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
    stall_seconds: float = STALL_SECONDS
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
    - `passing`: the numbers of the rows that are not filtered out, None for all.
    - A result is due again when the input columns `depends_on` have changed since, when its video has, where it `opens_video`, or when
      `is_whole`, which is given all result rows of one input row, is false. `content_column`: a result column that holds the video's
      content, for results older than such stamps.
    - `finish(result, row)`: what a result row is to be now, at no cost; applied to all of them at the end of each run.
    - `inputs`: files beside the list that the results are made from.
    - `stills`: false where images are left out, which are clips of one frame (`video_utils.is_still`): filters then do not miss their results.
    - `shared_import`: a module that takes long to import; worker processes share one import of it.
    - On a Ray cluster, `score` is pickled like `read` and runs in actors that have `gpus` GPUs each, where there are any.
    """

    name: str
    read: Callable[[dict], Any]
    settings: dict
    score: Callable[[Stream], Stream] | None = None
    patience: float | None = None
    passing: np.ndarray | None = None
    depends_on: Sequence[str] = CLIP_COLUMNS
    opens_video: bool = True
    content_column: str | None = None
    key: str = "video_path"
    is_whole: Callable[[list[dict]], bool] | None = None
    finish: Callable[[dict, dict], dict] | None = None
    inputs: Sequence[str] = ()
    done_word: str = "scored"
    stills: bool = True
    shared_import: str | None = None
    gpus: int = 1


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


def process_rows(step: Step, rows: Rows | Iterable[dict], options: RunOptions, ranks: Ranks | None = None) -> None:
    """Bring `options.saved_path` up to date with `rows` and print the closing line.

    `ranks` is given by a script that needed it before.

    Raises: `UsageError` where a row is malformed or the result file cannot be added to; `RunError` where unexpected errors are the
    rule, or where every row has failed.
    """
    refuse_overwriting({"--saved_path": options.saved_path}, {"--video_metadata_path": options.video_metadata_path})
    rows = rows if isinstance(rows, Rows) else Rows.of(rows)
    sizes = unchanged_sizes(options.video_folder, last_checked(options.saved_path)) if step.opens_video else None
    ranks = ranks or Ranks()
    inputs: dict[str, str] = {}
    depends_on: Sequence[str] | None = step.depends_on
    if ranks.rank == 0:
        inputs = inputs_of(local_path(options.saved_path), [options.video_metadata_path, *step.inputs])
        depends_on = None if is_made_of(options.saved_path, inputs) else step.depends_on
    rows.scan(depends_on, sizes, find_stills=not step.stills)
    settings = step.settings if step.stills else {**step.settings, "stills": False}
    results = ResultFile(
        options.saved_path, settings, key=step.key, overwrite=options.overwrite, retry_errors=options.retry_errors,
        saved_freq=options.saved_freq, rank=ranks.rank, world=ranks.world,
    )  # fmt: skip
    is_filtered = ~rows.is_first
    if step.passing is not None:
        is_filtered = np.ones(len(rows), bool)
        is_filtered[step.passing] = False
        is_filtered |= ~rows.is_first
    if not step.stills:
        is_filtered |= rows.is_still
    is_of_file = partial(_is_of_file, video_folder=options.video_folder) if step.opens_video else None

    def resume() -> ResumeState:
        return results.resume(rows, is_filtered, step.is_whole, is_of_file, step.content_column, inputs)

    state = resume() if ranks.rank == 0 else None
    ranks.agree_on([rows.digest()] if ranks.world > 1 else [])
    state = state or resume()
    is_due = ~(is_filtered | state.finished | state.failed)
    due, done = int(is_due.sum()), int((state.finished | state.failed).sum())
    if state.outdated and ranks.rank == 0:
        print(
            f"{step.name}: {state.outdated:,} results no longer match their input or are incomplete, and are recomputed"
        )
    if done and ranks.rank == 0:
        print(f"{step.name}: {done:,} of {int(rows.is_first.sum()):,} done before, {due:,} due")

    # Shard first, then skip finished rows: the other order would write rows twice.
    chunks = map(np.asarray, ranks.share(range(len(rows))))
    tasks = (row for chunk in chunks for row in rows.read(chunk[is_due[chunk]]))
    try:
        _do(step, tasks, due, results, options, ranks)
    finally:
        results.finish_writing()
    if ranks.all_ended():
        state = results.merge(rows)
        if step.finish:
            results.rewrite(rows, step.finish)
        results.finish()
        reasons = [named(error["video_path"], str(error.get("message"))) for error in state.errors[:3]]
        if state.errors and state.finished.any():
            print("\n  ".join([f"{step.name}: failed, in {errors_of(options.saved_path)}:", *reasons]))
        print(_closing_line(step, rows, is_filtered, state, options.saved_path))
        if state.errors and not state.finished.any():
            count = len(state.errors)
            raise RunError(
                "\n  ".join(
                    [
                        f"all {count:,} rows of {step.name} failed (--retry_errors, to a stage RETRY_ERRORS=1, retries them):",
                        *reasons,
                    ]
                )
            )
        ranks.release()


def _is_of_file(stamp: str, video_path: str, video_folder: str | None) -> bool:
    return is_file_of(stamp, locate(video_path, video_folder))


def _do(step: Step, tasks: Iterator[dict], due: int, results: ResultFile, options: RunOptions, ranks: Ranks) -> None:
    """Read, score and append the rows of `tasks`; `due` of all ranks together."""
    if not due:
        return
    unexpected = UnexpectedErrors()
    progress = Progress(due, step.name, ranks.rank, ranks.world, options.log_json)
    tasks = progress.reading(tasks)
    limit = partial(_seconds_for_row, video_folder=options.video_folder, timeout_seconds=options.timeout_seconds)
    if options.ray and ranks.world > 1:
        raise UsageError("--ray (or RAY_ADDRESS) cannot be combined with ranks of torchrun or accelerate; choose one")
    stamps: dict[str, str] = {}  # of the videos that were read and are not saved yet
    folder = options.video_folder
    read: Generator[tuple[dict, Any] | None, None, None]
    scored: Stream
    if options.ray:
        read = scored = rows_by_ray(step.read, step.score, step.gpus, list(tasks), limit)
    else:
        reading = partial(read_stamped, read=step.read, video_folder=folder) if step.opens_video else step.read
        n_jobs = min(options.n_jobs, due)
        threads = options.n_jobs // n_jobs
        read = work(reading, tasks, n_jobs, limit, step.patience, step.shared_import, options.stall_seconds, threads)
        unstamped = _unstamped(read, stamps) if step.opens_video else read
        scored = step.score(unstamped) if step.score else unstamped
    with progress, closing(read):
        for row, made in filter(None, scored):
            path = row["video_path"]
            progress.add(isinstance(made, Failure), path)
            stamp = (stamps.pop(path, "") or stamp_of(locate(path, folder))) if step.opens_video else ""
            origin = made_from(row, step.depends_on, stamp)
            more = {"made_from": origin} if origin else {}
            if isinstance(made, Failure):
                results.add_error(path, made, more)
            else:
                made = made if isinstance(made, list) else [made]
                done = [{"video_path": path, **columns, **more} for columns in made]
                results.add([step.finish(one, row) for one in done] if step.finish else done)
            unexpected.count(path, made)


def read_stamped(row: dict, read: Callable[[dict], Any], video_folder: str | None) -> tuple[str, Any]:
    """In a worker: the stamp of a row's video, taken before it is read, lest a file that is replaced meanwhile pass for the one read."""
    return stamp_of(locate(row["video_path"], video_folder)), read(row)


def _unstamped(read: Stream, stamps: dict[str, str]) -> Stream:
    """What was read, its stamps put into `stamps` by path."""
    for item in read:
        if item is not None and not isinstance(item[1], Failure):
            row, (stamps[item[0]["video_path"]], got) = item
            item = row, got
        yield item


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


def _closing_line(step: Step, rows: Rows, is_filtered: np.ndarray, state: ResumeState, saved_path: str) -> str:
    """Where every input row has gone. That the numbers add up is checked here, at every run of every script."""
    count, finished, failed = int(rows.is_first.sum()), int(state.finished.sum()), len(state.errors)
    filtered = int((is_filtered & rows.is_first).sum())
    stills = 0 if step.stills else int((rows.is_still & rows.is_first).sum())
    left_out = f" ({stills:,} of them stills, to which it does not apply)" if stills else ""
    lost = count - finished - failed - filtered
    assert not lost, f"{step.name}: {lost} rows were lost"
    clips = "" if step.key == "video_path" else f" into {state.results:,} clips"
    unexpected = sum(bool(error.get("unexpected")) for error in state.errors)
    report = f" ({unexpected:,} unexpected: please report)" if unexpected else ""
    return (
        f"{step.name}: {count:,} rows in = {finished:,} {step.done_word}{clips} + {failed:,} errors{report} "
        f"+ {filtered:,} filtered{left_out} -> {saved_path}"
    )
