"""Readers that hang, crash, are killed or fail as nobody foresaw cost their own row."""

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time

import av
import psutil
import pytest
from conftest import ROOT

from utils.errors import Failure, OutputError, RunError, VideoError
from utils.pipeline.process import UnexpectedErrors
from utils.video.opening import writing
from utils.workers.processes import AGAIN, threads_of_worker, work


def behave(task: str) -> str:
    if task.startswith("signal"):
        os.kill(os.getpid(), int(task.split()[1]))
    if task == "hang":
        time.sleep(60)
    if task == "endless":
        while True:
            sum(range(100_000))
    if task == "unreadable":
        raise VideoError("'x.mp4' is no video")
    if task == "bug":
        raise KeyError("column")
    if task == "input gone":
        raise av.error.FileNotFoundError(errno.ENOENT, "No such file or directory", "in.mp4")
    if task == "no right to read":
        raise PermissionError(errno.EACCES, "Permission denied", "in.mp4")
    if task == "output":
        with writing("out.mp4"):
            raise av.error.PermissionError(errno.EACCES, "Permission denied")
    if task == "full disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    return task.upper()


def outcomes(tasks: list[str], n_jobs: int = 2) -> dict[str, object]:
    return dict(work(behave, tasks, n_jobs, lambda task: 2 if task == "endless" else 60, stall_seconds=3))


def threads_in(task: str) -> int:
    return threads_of_worker()


def test_each_worker_knows_how_many_threads_its_task_may_have():
    assert dict(work(threads_in, "ab", 2, lambda task: 60, threads=3)) == {"a": 3, "b": 3}


def test_a_hang_or_a_crash_costs_one_row():
    got = outcomes(
        ["a", f"signal {signal.SIGSEGV}", "b", "hang", "endless", "unreadable", f"signal {signal.SIGKILL}", "c"]
    )
    failures = {task: (f.error, f.message) for task, f in got.items() if isinstance(f, Failure)}
    assert {task: result for task, result in got.items() if task not in failures} == {"a": "A", "b": "B", "c": "C"}
    assert failures["hang"] == (
        "Stalled",
        f"made no progress for 3 seconds; raise --stall_seconds {AGAIN} STALL_SECONDS)",
    )
    assert failures["endless"] == (
        "TimeLimit",
        f"took more than 2 CPU seconds; raise --timeout_seconds {AGAIN} TIMEOUT_SECONDS)",
    )
    assert failures["unreadable"] == ("VideoError", "'x.mp4' is no video")
    assert failures["signal 11"][0] == failures["signal 9"][0] == "ProcessDied"
    assert "signal 11 (Segmentation fault)" in failures["signal 11"][1]


def test_workers_killed_while_idle_or_at_work_cost_at_most_their_rows():
    got, killed = [], 0
    for task, result in work(behave, [f"t{i}" for i in range(2000)], 2, lambda task: 60):
        got.append(task)
        assert not isinstance(result, Failure) or result.error == "ProcessDied"
        if len(got) % 400 == 200:
            servers = [p for p in psutil.Process().children() if "forkserver" in " ".join(p.cmdline())]
            workers = [worker for server in servers for worker in server.children()]
            for worker in workers:
                killed += 1
                worker.kill()
    assert sorted(got) == sorted(f"t{i}" for i in range(2000)) and killed > 5


def test_every_task_comes_back_once():
    assert outcomes([f"t{i}" for i in range(200)]) == {f"t{i}": f"T{i}" for i in range(200)}


def test_an_exception_that_nobody_foresaw_is_its_row_s_error_with_its_traceback():
    got = outcomes(["a", "bug"])
    assert got["a"] == "A" and got["bug"].unexpected and got["bug"].error == "KeyError"
    assert "in behave" in got["bug"].message


def test_unexpected_errors_stop_the_run_only_where_they_are_the_rule():
    bug, fine = Failure("KeyError", "'x'", unexpected=True), {}
    errors = UnexpectedErrors()
    for number in range(1000):
        errors.count("a.mp4", bug if number % 20 == 0 else fine)
    with pytest.raises(RunError, match="of the last 200 rows"):
        for _ in range(30):
            errors.count("b.mp4", bug)
    errors = UnexpectedErrors()
    with pytest.raises(RunError, match="20 of the last 20 rows"):
        for _ in range(20):
            errors.count("c.mp4", bug)


def test_a_system_error_about_an_input_is_its_row_s_and_about_an_output_the_run_s():
    got = outcomes(["a", "input gone", "no right to read"])
    assert got["a"] == "A" and got["input gone"].unexpected and got["no right to read"].unexpected
    assert "Permission denied" in got["no right to read"].message
    with pytest.raises(OutputError, match=r"^out.mp4: cannot be written: Permission denied$"):
        outcomes(["a", "output"])


def test_a_full_disk_ends_the_run():
    with pytest.raises(OSError, match="No space"):
        outcomes(["a", "full disk"])


def test_workers_that_are_killed_with_a_message_half_read_or_half_written_keep_nobody_waiting():
    """Each task and each result is larger than a pipe holds, so that most kills come in the midst of one."""
    large, got, failed = "x" * 3_000_000, [], 0
    killer = threading.Thread(target=kill_workers, args=(got, 100), daemon=True)
    killer.start()
    for (number, _), result in work(swap, [(i, large) for i in range(100)], 3, lambda task: 60):
        got.append(number)
        failed += isinstance(result, Failure)
        assert isinstance(result, Failure) or result == (large, number)
    assert sorted(got) == list(range(100)) and failed


def swap(pair: tuple) -> tuple:
    time.sleep(0.01)
    return pair[::-1]


def kill_workers(got: list, count: int) -> None:
    """One at a time, at work or starting, until there are `count` results."""
    draw, before = random.Random(0), 0
    while len(got) < count:
        time.sleep(draw.uniform(0, 0.03))
        if len(got) == before:
            continue
        before = len(got)
        servers = [p for p in psutil.Process().children() if "forkserver" in " ".join(p.cmdline())]
        for worker in draw.sample(found := [w for server in servers for w in server.children()], min(1, len(found))):
            with contextlib.suppress(psutil.Error):
                worker.kill()


class EndsItsProcess:
    """Where it is read."""

    def __reduce__(self):
        return os._exit, (1,)

    def __call__(self, task):
        return task


def test_processes_that_cannot_start_end_the_run():
    with pytest.raises(RunError, match="die as soon as they start"):
        list(work(EndsItsProcess(), ["a"], 1, lambda task: 60))


def test_no_task_means_no_work():
    assert outcomes([]) == {}


SHARED_IMPORT = """
import sys
from utils.workers.processes import work

def has(module):
    return module in sys.modules

if __name__ == "__main__":
    n_jobs = int(sys.argv[1])
    print([had for _, had in work(has, ["pyclbr"], n_jobs, lambda task: 60, shared_import="pyclbr")])
"""


@pytest.mark.parametrize("n_jobs, had", [(1, False), (2, True)])
def test_several_processes_share_one_import_and_one_alone_imports_when_it_needs_it(n_jobs, had, tmp_path):
    (tmp_path / "main.py").write_text(SHARED_IMPORT)
    ran = subprocess.run(
        [sys.executable, "main.py", str(n_jobs)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == f"[{had}]\n", ran.stderr
