"""Worker processes that read videos. They can be killed, because codecs hang and crash: such a video costs its own row,
nothing more.
"""

import concurrent.futures
import errno
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.util
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import cv2
import pebble

from utils.errors import Failure, RunError, UsageError, VideoError
from utils.storage import is_url
from utils.video_utils import file_size

PROJECT = Path(__file__).resolve().parents[2]
LONGEST_TMPDIR = 70  # bytes: a Unix socket's path ends at 107, of which multiprocessing takes 32
BROKEN_POOLS = 3  # in a row, without a result between them, that a run bears
TRACEBACK_LINES = 12  # of an unexpected exception, kept in its error row


def work(
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
    n_jobs: int,
    seconds_allowed: Callable[[Any], float],
    patience: float | None = None,
    shared_import: str | None = None,
) -> Generator[tuple[Any, Any | Failure] | None, None, None]:
    """Call `function(task)` in `n_jobs` processes and yield (task, result or `Failure`) as they come, in any order;
    None, so that the caller can go on with other work, where nothing came for `patience` seconds.

    A failure is a `VideoError`, a task over its time, a process that died, or an exception that nobody foresaw. What
    concerns the whole run (`UsageError`, `RunError`, a full disk) comes through. At most four tasks a process are in
    flight or waiting to be taken, which bounds the memory. Several processes share one import of `shared_import`, a
    module that takes long to import; one alone imports it when it needs it.
    """
    tasks = iter(tasks)
    context = _worker_context(shared_import if n_jobs > 1 else None)

    def new_pool() -> pebble.ProcessPool:
        return pebble.ProcessPool(max_workers=n_jobs, initializer=_start_worker, context=context)

    pool, broken_in_a_row = new_pool(), 0
    running: dict[concurrent.futures.Future, Any] = {}
    waiting: list[Any] = []  # what a pool that broke had not done
    all_taken = False
    try:
        while True:
            while len(running) < 4 * n_jobs and pool.active:
                task = waiting.pop() if waiting else next(tasks, running)
                if task is running:
                    all_taken = True
                    break
                try:
                    running[pool.schedule(function, args=(task,), timeout=seconds_allowed(task))] = task
                except RuntimeError:  # pebble: "Unexpected error within the Pool"
                    waiting.append(task)
                    break
            if all_taken and not running and not waiting:
                break  # else a pool that broke with nothing to do has left the others in `tasks`
            done, _ = concurrent.futures.wait(
                running if pool.active else (), patience, return_when=concurrent.futures.FIRST_COMPLETED
            )
            is_broken = not pool.active or any(isinstance(future.exception(), BrokenProcessPool) for future in done)
            if not done and not is_broken:
                yield None
            for future in done:
                if not isinstance(future.exception(), BrokenProcessPool):
                    task, broken_in_a_row = running.pop(future), 0
                    yield task, _outcome(future, seconds_allowed(task))
            if is_broken:  # a worker was killed while it held what all workers share
                broken_in_a_row += 1
                if broken_in_a_row > BROKEN_POOLS:
                    raise RunError("the worker processes end as soon as they start; is there enough memory?")
                pool.stop()
                pool.join()
                waiting += running.values()
                running.clear()
                pool = new_pool()
        pool.close()
    finally:
        pool.stop()
        pool.join()


def _worker_context(shared_import: str | None) -> multiprocessing.context.BaseContext:
    """Processes forked from a server that has imported what reads videos, or, without fork, freshly started.

    The server is started in the project's folder: until Python 3.14 it imports what it preloads from the working
    directory, where a user may have a `utils` of their own. The workers return to the directory of this process. Ctrl-C,
    which a terminal sends to all of them, is for this process alone.
    """
    if not hasattr(os, "fork"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["__main__", "utils.video.opening", "utils.pipeline.fork_server", *filter(None, [shared_import])]
    )
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_TMPDIR:
        before, tempfile.tempdir = tempfile.tempdir, "/tmp"
        multiprocessing.util.get_temp_dir()  # remembered: the sockets' folder
        tempfile.tempdir = before
    here = os.open(".", os.O_RDONLY)
    resource_tracker.ensure_running()  # before the next line, which it would undo
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the server's, and its workers', for good
    try:
        os.chdir(PROJECT)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        os.fchdir(here)
        os.close(here)
    return context


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
    except (UsageError, RunError):
        raise
    except Exception as error:  # one video of a new kind must not end a run of a million
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):  # of no input
            raise
        # pebble gives the worker's traceback as the cause.
        lines = "".join(traceback.format_exception(error.__cause__ or error)).strip(' \n"').splitlines()
        return Failure(type(error).__name__, "\n".join([str(error), *lines[-TRACEBACK_LINES:]]), unexpected=True)


def _start_worker() -> None:
    """In a worker: one thread of OpenCV, because there are many processes; leave Ctrl-C to the parent, and end when the
    parent has died, lest a half-done task write on beside the next run.
    """
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch():
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def seconds_for_file(path: str, duration: float | None, timeout_seconds: float) -> float:
    """The time limit of a video: `timeout_seconds` for each 10 MB and, where it is known, each minute of it, whichever is more."""
    try:
        size = 0 if is_url(path) and duration else file_size(path)  # of an object only where nothing else tells
    except (OSError, VideoError):
        size = 0
    minutes = duration / 60 if isinstance(duration, (int, float)) and duration > 0 else 0
    return timeout_seconds * (1 + max(size // 10_000_000, int(minutes)))


def end_with_starter() -> None:
    """End this process when the one that has started it has died."""
    starter = os.getppid()

    def watch() -> None:
        while os.getppid() == starter:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
