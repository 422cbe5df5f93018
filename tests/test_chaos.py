"""Faults of many kinds at random moments, over scripts and launchers: afterwards the same command, run again, ends with
what one clean run writes, and nothing else is left.

    bash run_tests.sh -m chaos                                 each kind once, always the same, as before a release
    bash run_tests.sh -m chaos --faults 200 --chaos_seed 1     many others; a table by kind at the end

A fault is a generator: what it does before the run starts, `yield`, what it does while the run works, `yield`, what it
repairs once the run has ended.
"""

import hashlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pytest
from conftest import ROOT, SCRIPT_VARIABLES, write_video
from skimage import data

from utils.rows import part_files, read_rows

pytestmark = [pytest.mark.chaos, pytest.mark.slow]
VIDEOS, FRAMES = 10, 120  # of 320 x 180, with a cut in the middle; one more is no video
MARK = "REELSET_CHAOS"  # the environment variable by which the processes of a run are found
WAIT_SECONDS = 90  # for a run to end

LIST = ("--video_metadata_path", "scenes.jsonl", "--video_folder", "raw")
WORKERS = ("--n_jobs", 2, "--saved_freq", 1)
SCRIPTS: dict[str, tuple] = {  # their flags; every file that they write is in out/
    "cutscene_detect": ("--video_folder", "raw", "--saved_path", "out/rows.jsonl", *WORKERS),
    "video_splitting": (*LIST, "--min_seconds", 1, "--encoder", "libx264", "--output_folder", "out/clips", "--saved_path", "out/rows.jsonl", *WORKERS),
    "compute_video_frame_quality": (*LIST, "--num_sampled_frames", 16, "--saved_path", "out/rows.jsonl", *WORKERS),
    "compute_text_score": (*LIST, "--saved_path", "out/rows.jsonl", *WORKERS),
    "compute_motion_score": (*LIST, "--sampling_fps", 8, "--saved_path", "out/rows.jsonl", *WORKERS),
    "caption_video_frame": (*LIST, "--saved_path", "out/rows.jsonl", *WORKERS),
    "filter_videos_by_motion_score": (*LIST, "--filter", "scenes.jsonl", "duration", 1, 100, "--saved_path", "out/rows.jsonl"),
}  # fmt: skip
LAUNCHERS: dict[str, tuple] = {
    "none": (sys.executable,),
    "torchrun": (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
    "accelerate": (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no",
                   "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"),
}  # fmt: skip
READERS = tuple(name for name in SCRIPTS if name != "filter_videos_by_motion_score")  # they have workers and ranks


@dataclass
class Run:
    """A command in its own folder, and the fault that it meets."""

    folder: Path
    original: Path  # a folder with the same inputs, which no fault touches
    script: str
    launcher: str
    moments: random.Random
    environment: dict[str, str] = field(default_factory=dict)
    flags: tuple = ()
    limits: tuple[tuple[int, int], ...] = ()  # resource limits
    process: subprocess.Popen | None = None
    hit: bool = True  # whether the fault met the run at work

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def result(self) -> Path:
        return self.out / "rows.jsonl"

    @property
    def victim(self) -> Path:
        """The video that faults of the input meet: one of the last."""
        return self.folder / "raw" / f"{VIDEOS - 2}.mp4"

    def start(self, *more: object) -> subprocess.Popen:
        command = [*LAUNCHERS[self.launcher], ROOT / f"{self.script}.py", *SCRIPTS[self.script], *self.flags, *more]
        inherited = {k: v for k, v in os.environ.items() if k not in SCRIPT_VARIABLES}
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=self.folder,
            env={**inherited, MARK: str(self.folder), **self.environment},
            stdout=open(self.folder / "printed", "w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: [resource.setrlimit(which, (value, value)) for which, value in self.limits],
        )
        return self.process

    def end(self, code: int | None = None) -> str:
        """What the run has printed when it has ended, and all its processes with it."""
        assert self.process is not None
        try:
            self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            left = [" ".join(process.cmdline())[:200] for process in self.processes()]
            os.killpg(self.process.pid, signal.SIGKILL)
            pytest.fail(f"still running after {WAIT_SECONDS} s:\n{self.printed()}\n{left}")
        until = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        assert not left, f"orphans: {[process.cmdline() for process in left]}"
        if code is not None:
            assert self.process.returncode == code, self.printed()
        return self.printed()

    def printed(self) -> str:
        return (self.folder / "printed").read_text(errors="replace")

    def processes(self, kind: str = "") -> list[psutil.Process]:
        """Those of this run: all, or its "rank", "server" (of the workers) or "worker" processes."""
        found = []
        for process in psutil.process_iter():
            try:
                environment, command = process.environ(), " ".join(process.cmdline())
                if environment.get(MARK) != str(self.folder) or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if "multiprocessing.forkserver" in command:
                    is_worker = "multiprocessing.forkserver" in " ".join(process.parent().cmdline())
                    its_kind = "worker" if is_worker else "server"
                else:
                    its_kind = "rank" if "RANK" in environment and self.script in command else "other"
            except (psutil.Error, AttributeError):  # it has ended meanwhile
                continue
            if kind in ("", its_kind):
                found.append(process)
        return found

    def signal(self, kind: str, number: int) -> None:
        """Send a signal to the "driver" (which torchrun is, where it starts the ranks), the "group", or one process of a kind."""
        assert self.process is not None
        if kind == "group":
            os.killpg(self.process.pid, number)
        elif kind == "driver":
            self.process.send_signal(number)
        elif found := self.processes(kind):
            self.moments.choice(found).send_signal(number)
        else:
            self.hit = False

    def wait_for_moment(self, seconds: float) -> None:
        """Wait until a random number of rows is written and then some time, as a clean run takes `seconds`."""
        assert self.process is not None
        if self.script in READERS:
            rows, seconds = self.moments.randrange(VIDEOS - 1), seconds / VIDEOS
            while self.process.poll() is None and not (self.rows() >= rows and self.processes("worker")):
                time.sleep(0.01)
        time.sleep(self.moments.uniform(0, seconds))
        self.hit = self.process.poll() != 0  # it works still, or the fault has ended it

    def rows(self) -> int:
        """Rows written until now."""
        files = [path for path in (self.result, *part_files(self.result)) if path.exists()]
        return len(
            {row["source_path"] if "source_path" in row else row["video_path"] for f in files for row in rows_in(f)}
        )


def rows_in(path: Path) -> list[dict]:
    """The whole rows of a file that is being written."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line]


Fault = Callable[[Run], Iterator[None]]


def send(kind: str, number: int, *flags: object) -> Fault:
    def fault(run: Run) -> Iterator[None]:
        run.flags = flags
        yield
        run.signal(kind, number)
        yield
        run.flags = ()

    return fault


def torn_line(run: Run) -> Iterator[None]:
    """Half a row at the end of the result file, or a row without its end."""
    yield
    run.signal("group", signal.SIGKILL)
    yield
    for path in (run.result, *part_files(run.result)):
        lines = path.read_bytes() if path.exists() else b""
        if lines.endswith(b"\n"):
            path.write_bytes(lines[:-1] if run.moments.random() < 0.5 else lines + lines[: lines.index(b"\n") // 2])


def clock_set_back(run: Run) -> Iterator[None]:
    """All that was written is of the future."""
    yield
    run.signal("group", signal.SIGKILL)
    yield
    for path in run.out.rglob("*"):
        os.utime(path, (4e9, 4e9))


def restore(run: Run) -> None:
    run.victim.unlink(missing_ok=True)
    shutil.copy(run.original / "raw" / run.victim.name, run.victim)


def fifo(run: Run) -> Iterator[None]:
    run.victim.unlink()
    os.mkfifo(run.victim)
    yield
    yield
    restore(run)


def source_deleted(run: Run) -> Iterator[None]:
    yield
    run.victim.unlink()
    yield
    restore(run)


def source_replaced(run: Run) -> Iterator[None]:
    """Another video of as many frames under its name, by a rename or written over it."""
    other = shutil.copy(run.folder / "raw" / "0.mp4", run.folder / "other")
    yield
    os.replace(other, run.victim) if run.moments.random() < 0.5 else shutil.copyfile(other, run.victim)
    yield
    restore(run)


def mounted(folder: Path, options: str) -> None:
    """A file system in memory at `folder`; skips the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    ran = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True)
    if ran.returncode:
        pytest.skip(f"only root may mount a small disk: {ran.stderr.strip()}")


def disk_full(run: Run) -> Iterator[None]:
    kilobytes = run.moments.choice([4, 8, 12, 16, 24, 60] if run.script != "video_splitting" else [60, 200, 400])
    mounted(run.out, f"size={kilobytes}k")
    yield
    yield
    subprocess.run(["mount", "-o", "remount,size=200m", run.out], check=True)


def read_only_output(run: Run) -> Iterator[None]:
    if os.geteuid():
        run.out.mkdir()
        run.out.chmod(0o555)
    else:
        mounted(run.out, "ro")
    yield
    yield
    run.out.chmod(0o755) if os.geteuid() else subprocess.run(["mount", "-o", "remount,rw", run.out], check=True)


def folder_gone(run: Run) -> Iterator[None]:
    yield
    shutil.rmtree(run.out, ignore_errors=True)
    yield


def read_only_tmpdir(run: Run) -> Iterator[None]:
    run.environment = {"TMPDIR": "/proc"}  # nobody may write there
    yield
    yield
    run.environment = {}


def no_home(run: Run) -> Iterator[None]:
    run.environment = {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"}
    yield
    yield
    run.environment = {}


def few_files(run: Run) -> Iterator[None]:
    run.limits = ((resource.RLIMIT_NOFILE, 64),)
    yield
    yield
    run.limits = ()


ONE, RANKS = ("none",), tuple(name for name in LAUNCHERS if name != "none")
ALL, ANY = tuple(SCRIPTS), tuple(LAUNCHERS)
# Kind: the fault, the scripts and launchers that can meet it. The first of each meet it once.
FAULTS: dict[str, tuple[Fault, tuple[str, ...], tuple[str, ...]]] = {
    "SIGKILL driver": (send("driver", signal.SIGKILL), ALL, ANY),
    "SIGTERM driver": (send("driver", signal.SIGTERM), ("video_splitting", *ALL), ANY),
    "Ctrl-C": (send("group", signal.SIGINT), ("compute_motion_score", *ALL), ANY),
    "SIGKILL group": (send("group", signal.SIGKILL), ("video_splitting", *ALL), ANY),
    "SIGKILL rank": (send("rank", signal.SIGKILL), ("compute_motion_score", *READERS), RANKS),
    "SIGTERM rank": (send("rank", signal.SIGTERM), READERS, RANKS),
    "SIGKILL worker": (send("worker", signal.SIGKILL), ("video_splitting", *READERS), ANY),
    "SIGSEGV worker": (send("worker", signal.SIGSEGV), READERS, ANY),
    "SIGTERM worker": (send("worker", signal.SIGTERM), READERS, ANY),
    "SIGKILL server": (send("server", signal.SIGKILL), READERS, ANY),
    "hanging worker": (send("worker", signal.SIGSTOP, "--stall_seconds", 4), READERS, ANY),
    "torn line": (torn_line, ("compute_video_frame_quality", *READERS), ANY),
    "clock set back": (clock_set_back, ("compute_video_frame_quality", *READERS), ANY),
    "FIFO": (fifo, ("compute_video_frame_quality", *READERS), ANY),
    "source deleted": (source_deleted, READERS, ANY),
    "source replaced": (source_replaced, ("video_splitting",), ANY),
    "disk full": (disk_full, ("video_splitting", *ALL), ANY),
    "read-only output": (read_only_output, ALL, ONE),
    "folder gone": (folder_gone, ("video_splitting", *READERS), ANY),
    "read-only TMPDIR": (read_only_tmpdir, READERS, ANY),
    "no HOME": (no_home, READERS, ANY),
    "few open files": (few_files, READERS, ONE),
}


# In the gate, one of each way to meet a fault: the run dies, is asked to end, loses a worker, waits for one that hangs; what it wrote is torn; what
# it reads is replaced; it cannot write; it cannot open. A rank is killed in tests/test_ranks.py.
GATE = {
    "SIGKILL group", "SIGTERM driver", "SIGKILL worker", "hanging worker", "torn line", "source replaced", "disk full", "few open files",
}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """As many cases as --faults says, the kinds by turns; without it each kind once, always in the same way."""
    count, seed = metafunc.config.getoption("faults"), metafunc.config.getoption("chaos_seed")
    draw = random.Random(seed)
    cases = []
    for number, kind in zip(range(count or len(FAULTS)), itertools.cycle(FAULTS)):
        _, scripts, launchers = FAULTS[kind]
        first = not count
        script, launcher = (scripts[0], launchers[0]) if first else (draw.choice(scripts), draw.choice(launchers))
        if script not in READERS:
            launcher = "none"
        name, marks = f"{number}-{kind}-{script}-{launcher}", () if kind in GATE else pytest.mark.release
        cases.append(pytest.param(kind, script, launcher, draw.random(), id=name, marks=marks))
    metafunc.parametrize(("kind", "script", "launcher", "seed"), cases)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A folder with raw/, ten short videos and one that is none, and their shots."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "raw").mkdir()
    photos = [cv2.resize(photo, (480, 270)) for photo in (data.astronaut(), data.coffee(), data.chelsea())]
    for number in range(VIDEOS):
        views = (
            cv2.getRectSubPix(photos[(number + (i >= FRAMES // 2)) % 3], (320, 180), (240 + 60 * np.sin(i / 40), 135))
            for i in range(FRAMES)
        )
        write_video(folder / "raw" / f"{number}.mp4", views)
    (folder / "raw" / "broken.mp4").write_text("no video")
    run = new_run(folder, folder, "cutscene_detect", "none", random.Random())
    run.start()
    run.end(code=0)
    shutil.move(run.result, folder / "scenes.jsonl")
    with open(folder / "scenes.jsonl", "a") as scenes:  # what cannot be read is an error of every script
        scenes.write(json.dumps({"video_path": "broken.mp4", "timecode_list": [[0, 2]], "duration": 2}) + "\n")
    shutil.rmtree(run.out)
    return folder


def new_run(folder: Path, inputs: Path, script: str, launcher: str, moments: random.Random) -> Run:
    folder.mkdir(exist_ok=True)
    if folder != inputs:
        shutil.copytree(inputs / "raw", folder / "raw")
        shutil.copy(inputs / "scenes.jsonl", folder)
    return Run(folder, inputs, script, launcher, moments)


@pytest.fixture(scope="module")
def clean(inputs, tmp_path_factory):
    """Of a script: what one run without faults writes, and how long its workers work, in seconds."""
    known: dict[str, tuple[dict, float]] = {}

    def of(script: str) -> tuple[dict, float]:
        if script not in known:
            run = new_run(tmp_path_factory.mktemp(script), inputs, script, "none", random.Random())
            started = time.monotonic()
            run.start()
            while script in READERS and run.process.poll() is None and not run.processes("worker"):
                time.sleep(0.02)
                started = time.monotonic()
            run.process.wait(WAIT_SECONDS)
            seconds = time.monotonic() - started
            run.end(code=0)
            known[script] = (state(run.out), seconds)
        return known[script]

    return of


def state(out: Path) -> dict[str, object]:
    """What each file in `out` holds: rows in sorted order, a digest of a clip's frames, or text."""
    return {path.relative_to(out).as_posix(): content(path) for path in out.rglob("*") if path.is_file()}


def content(path: Path) -> object:
    if path.suffix == ".jsonl":
        of_file = {"bytes": 0, "stamp": ""}  # what may differ though the frames are the same
        return sorted(json.dumps(row | {k: v for k, v in of_file.items() if k in row}) for row in read_rows(path))
    if path.name.endswith(".settings.json"):
        settings = json.loads(path.read_text())
        inputs = {Path(name).name: fingerprint for name, fingerprint in settings["inputs"].items()}
        return settings | {"inputs": inputs, "checked": isinstance(settings["checked"], float)}
    if path.suffix == ".mp4" and not path.name.startswith("."):
        with av.open(str(path)) as container:
            frames = [(frame.pts, frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]
        return hashlib.sha256(repr(frames).encode()).hexdigest()
    return path.read_text(errors="replace")[:1000].replace(os.path.realpath(path.parent), "")


def test_the_same_command_ends_as_if_nothing_had_been(
    kind, script, launcher, seed, inputs, clean, tmp_path, record_property
):
    record_property("fault", kind)
    expected, seconds = clean(script)
    run = new_run(tmp_path / "run", inputs, script, launcher, random.Random(seed))
    fault = FAULTS[kind][0](run)
    try:
        next(fault)
        run.start()
        run.wait_for_moment(seconds)
        next(fault)
        record_property("hit", run.hit)
        printed = run.end()
        assert launcher != "none" or "Traceback" not in printed, printed
        next(fault, None)
        rows = content(run.result) if run.result.exists() else []
        assert set(rows) <= set(expected["rows.jsonl"])  # what is there is whole and right
        run.start("--retry_errors")
        again = run.end(code=0)
        assert "Traceback" not in again, again
        assert state(run.out) == expected, f"{printed}\n--- again:\n{again}"
    finally:
        if run.out.is_mount():
            subprocess.run(["umount", "--lazy", run.out], check=True)
