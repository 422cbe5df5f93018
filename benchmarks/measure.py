"""CPU-seconds and peak memory of commands with all their descendants, and tables of medians over alternating runs.

Linux only:

    measure(["scenedetect", "-q", "-i", "a.mp4", "detect-adaptive"])  # Usage(cpu_seconds=4.1, largest_mib=210.5, together_mib=180.2)
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

ROOT = Path(__file__).resolve().parents[1]
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
SAMPLING_SECONDS = 0.1  # between two looks at the memory of all processes together


@dataclass(frozen=True)
class Usage:
    """What a command and all its descendants used: CPU-seconds; MiB of the largest process (its exact peak resident memory); MiB of all
    processes together, shared pages counted once (the largest sampled sum of PSS); bytes of the video files written."""

    cpu_seconds: float
    largest_mib: float
    together_mib: float
    written: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """One run after the other."""
        return Usage(
            self.cpu_seconds + other.cpu_seconds,
            max(self.largest_mib, other.largest_mib),
            max(self.together_mib, other.together_mib),
            self.written + other.written,
        )

    @staticmethod
    def peaks(runs: list["Usage"]) -> list[str]:
        """The two memory columns: the highest of all runs."""
        return [f"{max(u.largest_mib for u in runs):.0f}", f"{max(u.together_mib for u in runs):.0f}"]


def measure(command: list[str]) -> Usage:
    """Run a command to its end. A script's forkserver outlives it and is orphaned then: as a "subreaper" this process inherits it, so that
    the CPU time of every process is counted.

    Raises: RuntimeError with the command's output when it fails.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryFile() as printed:
        started = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed)
        seconds, largest, together = 0.0, 0, 0
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)  # usage: of the process and of the children it waited for
            except ChildProcessError:
                break
            if pid == 0:
                together = max(together, _resident_together())
                time.sleep(SAMPLING_SECONDS)
                continue
            seconds += usage.ru_utime + usage.ru_stime
            largest = max(largest, usage.ru_maxrss)
            if pid == started.pid:
                started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            printed.seek(0)
            output = printed.read().decode(errors="replace")[-500:]
            raise RuntimeError(f"{' '.join(command)[:500]} ended with {started.returncode}: {output}")
    return Usage(seconds, largest / 1024, together / 2**20)


def _resident_together() -> int:
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            total += process.memory_full_info().pss
    return total


def compare(sides: dict[str, Callable[[Path], list[list[str]]]], runs: int) -> dict[str, list[Usage]]:
    """What each side uses in each run. The sides alternate, so that a change in the machine's load affects all of them.

    A side is a function that returns its commands, given an empty folder to write to.
    """
    usages: dict[str, list[Usage]] = {name: [] for name in sides}
    for run in range(runs):
        for name, commands in sides.items():
            print(f"run {run + 1} of {runs}: {name}", file=sys.stderr)
            folder = Path(tempfile.mkdtemp())
            try:
                total = Usage(0, 0, 0)
                for command in commands(folder):
                    total += measure(command)
                written = sum(path.stat().st_size for path in folder.rglob("*.mp4"))
                usages[name].append(total + Usage(0, 0, 0, written))
            finally:
                shutil.rmtree(folder)
    return usages


def ratio(above: list[float], below: list[float]) -> float:
    """Median over the runs of the ratio within a run."""
    return median(a / b for a, b in zip(above, below, strict=True))


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, its numbers aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
