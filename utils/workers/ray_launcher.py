"""The work of one step on a Ray cluster, by Ray Data: reading as tasks of one CPU each, scoring as a pool of actors, one a
GPU, or one a machine where there is none. Back-pressure, retries and what a dead node had in hand are Ray's.

Only the script that the user started writes results, one stream of rows as without Ray: nothing that a dead node half wrote
has to be found and merged, results need no folder shared between machines, and a task that Ray runs twice counts once.

Ray is imported here alone, and only where a run asks for it.
"""

import errno
import importlib.util
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from utils.errors import RunError, UsageError, install
from utils.workers.processes import work

ROWS_A_TASK = 16  # at most, while there are no more than MOST_TASKS
MOST_TASKS = 20_000  # Ray's driver keeps an entry for each
Table = Any  # a pyarrow.Table of one column, `item`: pickled objects


@dataclass(frozen=True)
class Job:
    """What Ray's processes need of the script: its file, working directory, and `Step.read` and `Step.score`, pickled by
    the names that they have in it, as for our own worker processes."""

    script: str
    folder: str
    functions: bytes
    seconds_allowed: Callable[[dict], float]

    def load(self) -> tuple[Callable, Callable | None]:
        """`read` and `score`, in a process that from now on has the script as its main module, as worker processes do.

        Raises: `UsageError` where this machine lacks the script or the directory.
        """
        try:
            os.chdir(self.folder)
            if getattr(sys.modules["__main__"], "__file__", None) != self.script:
                spec = importlib.util.spec_from_file_location("__mp_main__", self.script)
                assert spec and spec.loader
                module = importlib.util.module_from_spec(spec)
                sys.modules["__main__"] = sys.modules["__mp_main__"] = module
                spec.loader.exec_module(module)
                module.__spec__ = None  # as a script's: its workers find it by its file
        except FileNotFoundError as error:
            raise UsageError(
                f"{os.uname().nodename}: {error.filename} does not exist; every Ray node needs it"
            ) from None
        return pickle.loads(self.functions)


def rows_by_ray(
    read: Callable, score: Callable | None, gpus_each: int, rows: list[dict], seconds_allowed: Callable[[dict], float]
) -> Generator[tuple[dict, Any] | None, None, None]:
    """Each of `rows` with its columns or `Failure`, in any order; `score` gets `gpus_each` GPUs, where there are any.

    Raises: `UsageError` where Ray is missing; `RunError` where the cluster is gone; what ended a reader or a scorer.
    """
    connect()
    import ray
    import ray.data

    rows_left = {row["video_path"]: row for row in rows}
    job = Job(os.path.abspath(sys.argv[0]), os.getcwd(), pickle.dumps((read, score)), seconds_allowed)
    cluster = ray.cluster_resources()
    tasks = min(
        len(rows), max(-(-len(rows) // ROWS_A_TASK), min(8 * int(cluster.get("CPU", 1)), len(rows))), MOST_TASKS
    )
    dataset: Any = ray.data.from_items([{"item": pickle.dumps(row)} for row in rows], override_num_blocks=tasks)
    dataset = dataset.map_batches(read_rows, batch_size=None, batch_format="pyarrow", fn_args=(job,), num_cpus=1)
    if score:
        gpus = int(cluster.get("GPU", 0)) // gpus_each
        machines = sum(node["Alive"] for node in ray.nodes())
        dataset = dataset.map_batches(
            Scorer, fn_constructor_args=(job,), batch_size=None, batch_format="pyarrow", num_cpus=0,
            num_gpus=gpus_each if gpus else 0, compute=ray.data.ActorPoolStrategy(size=gpus or machines),
        )  # fmt: skip
    try:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            for path, made in map(pickle.loads, table["item"].to_pylist()):
                if path is None:
                    raise made
                if row := rows_left.pop(path, None):  # a task that Ray ran twice counts once
                    yield row, made
    except ray.exceptions.UserCodeException:
        raise  # a bug of ours
    except ray.exceptions.RayError as error:
        raise RunError(f"Ray: {str(error).strip().splitlines()[0]}") from None
    if rows_left:
        raise RunError(f"Ray returned no result for {len(rows_left):,} rows")


def connect() -> None:
    """To the cluster at RAY_ADDRESS, or one of this machine's own.

    Raises: `UsageError` where Ray is missing, `RunError` where no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise UsageError(f"--ray needs Ray: {install('-r requirements-ray.txt')}") from None
    if not ray.is_initialized():
        ours = signal.getsignal(signal.SIGTERM)
        address = os.environ.get("RAY_ADDRESS") or "local"
        try:
            ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
        except (ConnectionError, ray.exceptions.RayError, RuntimeError) as error:
            raise RunError(f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}") from None
        signal.signal(signal.SIGTERM, ours)  # Ray's own prints a stack and ends before what is done is saved
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = None  # one block a task: what is made again after a node died is the same block


def read_rows(table: Table, job: Job) -> Table:
    """In a task: what was read of each row, in a worker process that can be killed, so that a codec that hangs or crashes costs
    its own row, not the task."""
    try:
        read, score = job.load()
        rows = [pickle.loads(item) for item in table["item"].to_pylist()]
        got = {row["video_path"]: made for row, made in filter(None, work(read, rows, 1, job.seconds_allowed))}
        items = [(row if score else row["video_path"], got[row["video_path"]]) for row in rows]
    except (UsageError, RunError, OSError) as error:
        return _ended(error)
    return _table(items)


class Scorer:
    """In an actor: the model, loaded at its first batch, and `Step.score`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.score: Callable | None = None

    def __call__(self, table: Table) -> Table:
        items = [pickle.loads(item) for item in table["item"].to_pylist()]
        if items and items[0][0] is None:
            return table
        try:
            self.score = self.score or self.job.load()[1]
            assert self.score
            scored = {row["video_path"]: made for row, made in filter(None, self.score(iter(items)))}
            return _table([(row["video_path"], scored[row["video_path"]]) for row, _ in items])
        except (UsageError, RunError, OSError) as error:
            return _ended(error)


def _ended(error: Exception) -> Table:
    """What ends the whole run, as an item of its own, which the script raises; a bug goes through Ray."""
    if isinstance(error, (UsageError, RunError)) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return _table([(None, error)])
    raise error


def _table(items: list) -> Table:
    import pyarrow

    return pyarrow.table({"item": pyarrow.array([pickle.dumps(item) for item in items], pyarrow.large_binary())})
