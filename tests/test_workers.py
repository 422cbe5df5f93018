"""Readers that hang, crash or are killed cost their own row; bugs come through."""

import os
import signal
import time

import pytest

from utils.video_utils import VideoError
from utils.workers import Failure, work


def behave(task: str) -> str:
    if task.startswith("signal"):
        os.kill(os.getpid(), int(task.split()[1]))
    if task == "hang":
        time.sleep(60)
    if task == "unreadable":
        raise VideoError("'x.mp4' is no video")
    if task == "bug":
        raise KeyError("column")
    return task.upper()


def outcomes(tasks: list[str], n_jobs: int = 2) -> dict[str, object]:
    return dict(work(behave, tasks, n_jobs, lambda task: 3 if task == "hang" else 60))


def test_a_hang_or_a_crash_costs_one_row():
    got = outcomes(["a", f"signal {signal.SIGSEGV}", "b", "hang", "unreadable", f"signal {signal.SIGKILL}", "c"])
    failures = {task: (f.error, f.message) for task, f in got.items() if isinstance(f, Failure)}
    assert {task: result for task, result in got.items() if task not in failures} == {"a": "A", "b": "B", "c": "C"}
    assert failures["hang"] == ("TimeLimit", "took more than 3 seconds; --timeout_seconds allows more")
    assert failures["unreadable"] == ("VideoError", "'x.mp4' is no video")
    assert failures["signal 11"][0] == failures["signal 9"][0] == "ProcessDied"
    assert "signal 11 (Segmentation fault)" in failures["signal 11"][1]


def test_every_task_comes_back_once():
    assert outcomes([f"t{i}" for i in range(200)]) == {f"t{i}": f"T{i}" for i in range(200)}


def test_a_bug_is_not_caught():
    with pytest.raises(KeyError):
        outcomes(["a", "bug"])


def test_no_task_means_no_work():
    assert outcomes([]) == {}
