"""Worker processes that read videos. They can be killed, because codecs hang and crash: such a video costs only its own
row.

Each worker has a pipe and a thread of its own in this process and shares nothing with the others, so that one that is killed, at
whatever moment, can leave no lock held and no message half read that the others wait for.
"""

import errno
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import queue
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import cv2

from utils.errors import Failure, RunError, UsageError, VideoError
from utils.storage import is_url
from utils.video_utils import file_size

PROJECT = Path(__file__).resolve().parents[2]
LONGEST_TMPDIR = 70  # bytes: a Unix socket's path ends at 107, of which multiprocessing takes 32
FAILED_STARTS = (
    10  # of processes that end, or hang, before they take a task, without a result between them, that a run bears
)
SECONDS_TO_START = 60  # on a busy machine imports take several
STALL_SECONDS = 120.0
AGAIN = "with --retry_errors (of a stage: RETRY_ERRORS=1 and"  # what a message ends with, and the stage's setting
BEAT_SECONDS = 1.0  # between two reports of a worker that is at work
ADVANCE = 0.01  # CPU-seconds between two reports, from which on there is progress
SECONDS_TO_END = 5  # for the news of how a process ended
TRACEBACK_LINES = 12  # of an unexpected exception, kept in its error row


def work(
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
    n_jobs: int,
    seconds_allowed: Callable[[Any], float],
    patience: float | None = None,
    shared_import: str | None = None,
    stall_seconds: float = STALL_SECONDS,
    threads: int = 1,
) -> Generator[tuple[Any, Any | Failure] | None, None, None]:
    """Call `function(task)` in `n_jobs` processes and yield (task, result or `Failure`) as they come, in any order;
    None, so that the caller can go on with other work, where nothing came for `patience` seconds.

    A failure is a `VideoError`, a task that takes more CPU-seconds than `seconds_allowed(task)`, or none for `stall_seconds` (time on a busy
    machine is nobody's fault), a process that died, or an exception that nobody foresaw. What
    concerns the whole run (`UsageError`, `RunError`, a full disk) comes through. At most four tasks a process are in
    flight or waiting to be taken, which bounds the memory. Several processes share one import of `shared_import`, a
    module that takes long to import; one alone imports it when it needs it. `threads`: what `threads_of_worker` gives in each.
    """
    tasks = iter(tasks)
    context = _worker_context(shared_import if n_jobs > 1 else None)
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    done: queue.SimpleQueue = queue.SimpleQueue()
    failed_starts: list[int] = []
    workers = [Worker(function, context, failed_starts, stall_seconds, threads) for _ in range(n_jobs)]
    serving = [threading.Thread(target=worker.serve, args=(waiting, done), daemon=True) for worker in workers]
    for thread in serving:
        thread.start()
    in_flight = 0
    try:
        while True:
            for task in islice(tasks, 4 * n_jobs - in_flight):
                waiting.put((task, seconds_allowed(task)))
                in_flight += 1
            if not in_flight:
                break
            try:
                task, result = done.get(timeout=patience)
            except queue.Empty:
                yield None
                continue
            in_flight -= 1
            if isinstance(result, BaseException):
                raise result
            yield task, result
    finally:
        for worker in workers:
            worker.stop()
        for _ in serving:
            waiting.put(None)
        for thread in serving:
            thread.join()


class Worker:
    """A process that calls `function` for one task after another and is restarted if it has ended. `failed_starts` is shared by all."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        context: Any,
        failed_starts: list[int],
        stall_seconds: float = STALL_SECONDS,
        threads: int = 1,
    ):
        self.function, self.context, self.failed_starts, self.threads = function, context, failed_starts, threads
        self.stall_seconds, self.count = stall_seconds, 0
        self.process: Any = None
        self.is_stopped = False

    def serve(self, waiting: queue.SimpleQueue, done: queue.SimpleQueue) -> None:
        """In a thread: take (task, seconds) until there is None, and give (task, result, `Failure`, or what ends the run)."""
        while (item := waiting.get()) is not None and not self.is_stopped:
            task, seconds = item
            try:
                result = self.result(task, seconds)
            except BaseException as error:  # noqa: BLE001 (`work` raises it)
                result = error
            done.put((task, result))

    def result(self, task: Any, seconds: float) -> Any:
        if self.process is None or not self.process.is_alive():
            self._start()
        try:
            return self._ask(task, seconds)
        except (EOFError, OSError):  # it has ended
            self.process.join(SECONDS_TO_END)
            return Failure("ProcessDied", f"its reader process ended with {_end_of(self.process.exitcode)}")

    def _ask(self, task: Any, seconds: float) -> Any:
        """Give the task to the process, and wait for its result as long as it makes progress."""
        self.count += 1
        self.connection.send((self.count, task))
        used, since = 0.0, time.monotonic()
        while used <= seconds and time.monotonic() - since <= self.stall_seconds:
            if not self.connection.poll(min(BEAT_SECONDS, self.stall_seconds)):
                continue
            number, cpu, result = self.connection.recv()
            if cpu is None:
                self.failed_starts.clear()
                return result
            if number == self.count and cpu > used + ADVANCE:
                used, since = cpu, time.monotonic()
        self.process.kill()
        self.process.join(SECONDS_TO_END)  # lest the next task goes to it
        if used > seconds:
            return Failure(
                "TimeLimit",
                f"took more than {seconds:g} CPU seconds; raise --timeout_seconds {AGAIN} TIMEOUT_SECONDS)",
            )
        return Failure(
            "Stalled",
            f"made no progress for {self.stall_seconds:g} seconds; raise --stall_seconds {AGAIN} STALL_SECONDS)",
        )

    def _start(self) -> None:
        """Raises: `RunError` where processes end, or hang, before they take a task, `OSError` where there can be none."""
        while len(self.failed_starts) < FAILED_STARTS and not self.is_stopped:
            self.connection, its_end = self.context.Pipe()
            self.process = self.context.Process(target=_serve, args=(its_end, self.function, self.threads), daemon=True)
            with its_end, START:
                self.process.start()
            if self.is_stopped:
                self.process.kill()
            try:
                if self.connection.poll(SECONDS_TO_START):
                    self.connection.recv()
                    return
            except (EOFError, OSError):
                pass
            self.process.kill()
            self.connection.close()
            self.failed_starts.append(self.process.pid)
        raise RunError("the worker processes die as soon as they start; is there enough memory?")

    def stop(self) -> None:
        self.is_stopped = True
        if self.process is not None and self.process.pid:
            self.process.kill()


START = threading.Lock()  # multiprocessing starts one process at a time


def _worker_context(shared_import: str | None) -> Any:
    """Processes forked from a server that has imported what reads videos, or, without fork, freshly started.

    The server is started in the project's folder: until Python 3.14 it imports what it preloads from the working
    directory, where a user may have a `utils` of their own. The workers return to the directory of this process. Ctrl-C,
    which a terminal sends to all of them, is for this process alone.
    """
    if not hasattr(os, "fork"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "utils.video.opening", *filter(None, [shared_import])])
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


_threads = 1


def threads_of_worker() -> int:
    """In a worker: the threads that one task may compute in. More than 1 where there are fewer tasks than cores: a few long films."""
    return _threads


def _serve(connection: multiprocessing.connection.Connection, function: Callable[[Any], Any], threads: int) -> None:
    """In a worker: (number, task) comes in; (number, None, result) goes out, and (number, CPU-seconds, None) meanwhile."""
    global _threads
    _threads = threads
    _start_worker()
    connection.send("ready")
    sending, at_work = threading.Lock(), threading.Event()
    number, started = 0, 0.0

    def report() -> None:
        while True:
            at_work.wait()
            time.sleep(BEAT_SECONDS)
            with sending:
                if at_work.is_set():
                    connection.send((number, time.process_time() - started, None))

    threading.Thread(target=report, daemon=True).start()
    while True:
        try:
            number, task = connection.recv()
        except EOFError:
            return
        started = time.process_time()
        at_work.set()
        result = call(function, task)
        with sending:
            at_work.clear()
            connection.send((number, None, result))


def call(function: Callable[[Any], Any], task: Any) -> Any:
    """What a task gives, its `Failure`, or the exception that ends the run."""
    try:
        return function(task)
    except VideoError as error:
        return Failure("VideoError", str(error))
    except (UsageError, RunError) as error:
        return error
    except Exception as error:  # noqa: BLE001 (one video of a new kind must not end a run of a million)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):  # of no input
            return error
        lines = "".join(traceback.format_exception(error)).strip().splitlines()
        return Failure(type(error).__name__, "\n".join([str(error), *lines[-TRACEBACK_LINES:]]), unexpected=True)


def _end_of(code: int | None) -> str:
    return f"signal {-code} ({signal.strsignal(-code)})" if code and code < 0 else f"exit code {code}"


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
