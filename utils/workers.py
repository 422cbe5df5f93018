"""Work done by many processes: readers that may hang or crash, and ranks that share one list.

Readers (`work`) run in processes that can be killed, because codecs hang and crash: such a video costs its own row,
nothing more. Ranks are the processes that `torchrun` or `accelerate launch` start; they take chunks of the input from
one shared counter, so that they end together however uneven the videos, and no rank waits for another while it works.
"""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import pebble
from tqdm import tqdm

from utils.video_utils import VideoError

CHUNK = (
    16  # rows that a rank takes at a time: small, so that ranks end together; large, so that the counter is not a crowd
)


class Failure:
    """What came of a task instead of a result: `error`, the type, and `message`, a sentence."""

    def __init__(self, error: str, message: str):
        self.error, self.message = error, message


def work(
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
    n_jobs: int,
    seconds_allowed: Callable[[Any], float],
    patience: float | None = None,
) -> Iterator[tuple[Any, Any | Failure] | None]:
    """Call `function(task)` in `n_jobs` processes and yield (task, result or `Failure`) as they come, in any order;
    None, so that the caller can go on with other work, where nothing came for `patience` seconds.

    A failure is a `VideoError`, a task over its time, or a process that died. Any other exception is a bug and comes
    through. At most four tasks a process are in flight or waiting to be taken, which bounds the memory.
    """
    tasks = iter(tasks)
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload(["__main__", "utils.video_utils"])
    pool = pebble.ProcessPool(max_workers=n_jobs, initializer=_end_with_parent, context=context)
    running: dict[concurrent.futures.Future, Any] = {}
    try:
        while True:
            while len(running) < 4 * n_jobs and (task := next(tasks, running)) is not running:
                running[pool.schedule(function, args=(task,), timeout=seconds_allowed(task))] = task
            if not running:
                break
            done, _ = concurrent.futures.wait(running, patience, return_when=concurrent.futures.FIRST_COMPLETED)
            if not done:
                yield None
            for future in done:
                task = running.pop(future)
                yield task, _outcome(future, seconds_allowed(task))
        pool.close()
    finally:
        pool.stop()
        pool.join()


def _outcome(future: concurrent.futures.Future, seconds: float) -> Any:
    try:
        return future.result()
    except VideoError as error:
        return Failure("VideoError", str(error))
    except concurrent.futures.TimeoutError:
        return Failure("TimeLimit", f"took more than {seconds:g} seconds; --timeout_seconds allows more")
    except pebble.ProcessExpired as error:
        ended = (
            f"signal {-error.exitcode} ({signal.strsignal(-error.exitcode)})"
            if error.exitcode < 0
            else f"exit code {error.exitcode}"
        )
        return Failure("ProcessDied", f"the process that read it ended with {ended}")


def _end_with_parent() -> None:
    """In a reader: leave Ctrl-C to the parent, and end when the parent has died, lest a half-done task write on beside
    the next run.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sentinel = multiprocessing.parent_process().sentinel

    def watch():
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def seconds_for_file(path: str, duration: float | None, timeout_seconds: float) -> float:
    """The time limit of a video: `timeout_seconds` for each 10 MB and, where it is known, each minute of it begun."""
    try:
        size = os.stat(path).st_size
    except OSError:
        size = 0
    minutes = duration / 60 if isinstance(duration, (int, float)) and duration > 0 else 0
    return timeout_seconds * (1 + max(size // 10_000_000, int(minutes)))


def progress(total: int, name: str) -> tqdm:
    """A progress bar on stderr; silent where that is no terminal."""
    return tqdm(total=total, desc=name, unit="row", disable=None, dynamic_ncols=True, smoothing=0.05)


def end_with_starter() -> None:
    """End this process when the one that has started it has died."""
    starter = os.getppid()

    def watch() -> None:
        while os.getppid() == starter:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Ranks:
    """This process's place among those that `torchrun` or `accelerate launch` started, and the counter they share;
    alone without them.
    """

    def __init__(self):
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.store = None
        if self.world > 1:
            end_with_starter()  # the launcher: lest this rank write on beside the run that comes after
            from torch.distributed import rendezvous

            # torchrun's store is there before its ranks: one that does not answer has died with torchrun.
            minutes = 1 if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else 15
            self.store, _, _ = next(
                rendezvous("env://", rank=self.rank, world_size=self.world, timeout=timedelta(minutes=minutes))
            )

    def share(self, rows: list) -> Iterator[list]:
        """The chunks of `rows` that are this rank's to do, taken one by one while other ranks take others."""
        size = max(1, min(CHUNK, len(rows) // (8 * self.world))) if self.store else max(1, len(rows))
        chunks = [rows[i : i + size] for i in range(0, len(rows), size)]
        taken = -1
        while (taken := self._count("taken") if self.store else taken + 1) < len(chunks):
            yield chunks[taken]

    def wait_for_rank_0(self, name: str) -> None:
        """Return on rank 0 at once; on the others when rank 0 has called this."""
        if self.store and self.rank == 0:
            self.store.set(name, "1")
        elif self.store:
            self.store.wait([name], timedelta(days=1))

    def after_rank_0(self, name: str, action: Callable[[], Any]) -> Any:
        """What `action()` gives, called on rank 0 first, and on the others when it has ended there, so that they find what it fetched.

        Where it fails on rank 0, which says why, the other ranks end too, without a word.
        """
        if self.store and self.rank != 0:
            self.store.wait([name], timedelta(days=1))
            if self.store.get(name) == b"failed":
                raise SystemExit(2)
        outcome = "failed"
        try:
            got = action()
            outcome = "done"
            return got
        finally:
            if self.store and self.rank == 0:
                self.store.set(name, outcome)

    def last_to_end(self) -> bool:
        """Whether this rank is the last that calls this; rank 0, which may keep the counter, returns only after all
        have.
        """
        if not self.store:
            return True
        last = self._count("ended") == self.world - 1
        while self.rank == 0 and self.store.add("ended", 0) < self.world:
            time.sleep(0.1)
        return last

    def _count(self, name: str) -> int:
        return self.store.add(name, 1) - 1
