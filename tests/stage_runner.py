"""Run scripts, and the stages that are made of them, without paying for Python's start at every command: for tests that run hundreds.

A client of a few lines (`Scripts.python`, written into a folder) takes the place of Python: it hands its arguments, environment and
standard streams to a server that has imported all scripts; the server forks, and the child runs the script's `main` as the command line
would: the same flags, messages and exit codes, in the process group of the client, so that a SIGKILL of the group meets it at work. What
the server cannot do (-m torch.distributed.run, -m tools.run_once), the client does with a real Python.

In the child a video is read in the same process, not in a worker, which takes a third of a second to start: a stand-in for worker
processes. What such a process is there for (videos that hang or crash, limits of time, kills) is tested with a real Python.

`Stages` runs the real `sh stage_N.sh` with it, hundreds of times on the same few clips: what a network, or a look at all frames, finds
is remembered by the content of the frame or file. Kills of real workers and ranks are rules of their own in test_histories.py, with
`Stages.run(real=True)`.
"""

import array
import atexit
import contextlib
import hashlib
import importlib
import os
import pickle
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import psutil

from utils.video_utils import locate
from utils.workers import processes as workers

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = tuple(
    path.stem for path in sorted(ROOT.glob("*.py")) if path.stem != "easyocr_detection_patched"
)  # that one imports torch
LATE = (
    "av.subtitles.stream",
    "duckdb",
    "encodings.utf_8_sig",
    "multiprocessing.synchronize",
    "numpy.ma",
    "onnxruntime",
)  # imported where needed
STAGES = ("stage_1_video_cut.sh", "stage_2_filter_data.sh", "stage_3_video_caption.sh")
WAIT_SECONDS = 120  # for a stage to end
NOT_INHERITED = (  # by a stage from the environment of the tests: what its scripts take for choices
    "MIN_SECONDS", "MAX_SECONDS", "RANK", "WORLD_SIZE", "RAY_ADDRESS", "OVERWRITE", "RETRY_ERRORS", "LAUNCHER", "NUM_PROCESSES", "VIDEO_FOLDER",
    "OUTPUT_FOLDER", "VIDEO_METADATA_PATH", "DATASET_FOLDER", "FORMAT", "MODEL", "DETECTOR", "WHERE", "EXCLUDE", "INCLUDE", "TRIGGER_WORD",
)  # fmt: skip

# Of the modules in C alone: `os` and `socket` take longer to import than all else that it does.
CLIENT = """#!{python} -IS
import _socket, posix, sys
words = sys.argv[1:]
if not words or words[0].rpartition("/")[0] != {root!r}:
    posix.execv({full_python!r}, [{full_python!r}, *words])
server = _socket.socket(_socket.AF_UNIX)
server.connect({address!r})
said = [posix.getcwdb(), b"%d" % posix.getpgid(0), b"%d" % len(words)]
said += [word.encode(errors="surrogateescape") for word in words] + [b"%s=%s" % one for one in posix.environ.items()]
streams = b"".join(stream.to_bytes(4, sys.byteorder) for stream in (0, 1, 2))
server.sendmsg([b"streams"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
said = b"\\0".join(said)
while said:
    said = said[server.send(said):]
server.shutdown(_socket.SHUT_WR)
code = int(server.recv(16) or b"137")
sys.exit(code)
"""


@dataclass
class Ran:
    """What came of a stage, or a script: its exit code, and what it printed on both streams."""

    code: int
    printed: str


class Scripts:
    """The server; `python` is the client that takes Python's place for the project's scripts. `close()` ends it."""

    def __init__(self, *how: str) -> None:
        """how: "remember"."""
        self.folder = Path(tempfile.mkdtemp(prefix="scripts-"))
        self.python = self.folder / "python"
        address = str(self.folder / "socket")
        client = CLIENT.format(
            python=getattr(sys, "_base_executable", sys.executable),
            full_python=sys.executable,
            root=str(ROOT),
            address=address,
        )
        self.python.write_text(client)
        self.python.chmod(0o755)
        threads = {
            f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")
        }  # lest there be threads at the fork
        self.server = subprocess.Popen(
            [sys.executable, __file__, address, *how],
            env={**os.environ, **threads, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.server.stdout is not None and self.server.stdout.readline() == b"ready\n"

    def close(self) -> None:
        self.server.communicate()  # the end of its input is its end
        shutil.rmtree(self.folder)


class Stages(Scripts):
    """What runs stages by the server."""

    def __init__(self) -> None:
        super().__init__("remember")

    def run(
        self,
        command: str,
        *flags: object,
        variables: Mapping[str, object] | None = None,
        kill_after: float | None = None,
        real: bool = False,
    ) -> Ran:
        """Run a stage (`stage_1_video_cut.sh`) or a script (`make_report.py`), with `variables` in its environment.

        `kill_after` seconds, where it still runs, its process group gets SIGKILL. `real`: by a Python of its own, with worker processes.
        """
        python = sys.executable if real else str(self.python)
        environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        environment |= {"PYTHON": python, "PRESET": "embedded", "REPORT": "0", "N_JOBS": "1", "GPUS": "0"}
        environment |= {name: str(value) for name, value in (variables or {}).items()}
        words = ["sh" if command.endswith(".sh") else python, str(ROOT / command), *map(str, flags)]
        with tempfile.TemporaryFile(dir=self.folder) as printed:
            process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, preexec_fn=os.setpgrp
            )
            try:
                process.wait(WAIT_SECONDS if kill_after is None else kill_after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                _wait_for_group(process.pid)
                self._wait_for_server()
                assert kill_after is not None, f"{command} ran longer than {WAIT_SECONDS} s"
            printed.seek(0)
            return Ran(process.returncode, printed.read().decode(errors="replace"))

    def _wait_for_server(self) -> None:
        """Until it has nothing to do: a child that was forked at the moment of a kill has ended."""
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self.folder / "socket"))
            server.shutdown(socket.SHUT_WR)
            server.recv(1)


def _wait_for_group(group: int) -> None:
    """Until no process of a killed group is at work: a lock is free only then. (Zombies stay where process 1 reaps none.)"""
    until = time.monotonic() + 10
    while time.monotonic() < until and any(map(_is_at_work, _members(group))):
        time.sleep(0.005)


def _members(group: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group:
                yield process


def _is_at_work(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


# The server: everything below runs in its process, and in its children.


class WorkerInThisProcess(workers.Worker):
    """Does its tasks without a process."""

    def result(self, task, seconds):
        return workers.call(self.function, task)


def remember_boxes(detector: type, folder: Path) -> None:
    """Keep what a text detector finds in a frame in `folder`, for the other children: the network is what costs most, and the same few
    clips are scored again and again. It is loaded for the first frame that is not known.
    """
    begin = detector.__init__

    def begun(self, *given, **named):
        self.begin = partial(begin, self, *given, **named)
        with mock.patch("onnxruntime.InferenceSession") as no_network:
            self.begin()
        self.session = no_network

    def remembering(name: str) -> Callable:
        find = getattr(detector, name)

        def found(self, frame: np.ndarray, *more):
            def look():
                if isinstance(self.session, mock.Mock):
                    self.begin()
                return find(self, frame, *more)

            key = repr((name, more, frame.shape, sorted(self.settings.items()))).encode() + frame.tobytes()
            return remembered(folder, key, look)

        return found

    detector.__init__ = begun
    for name in ("__call__", "boxes_and_doubtful", "boxes_at"):
        setattr(detector, name, remembering(name))


def remember_columns(script: ModuleType, name: str, folder: Path) -> None:
    """Keep what a script's function finds in a video, by the content of the file: `name(row, video_folder=…, choices)`. Of the row, only
    which columns it has can matter.
    """
    find = getattr(script, name)

    def found(row: dict, video_folder: str | None, **choices):
        columns = partial(find, row, video_folder=video_folder, **choices)
        path = Path(locate(row["video_path"], video_folder))
        if not path.is_file():
            return columns()
        return remembered(folder, repr((name, sorted(row), choices)).encode() + path.read_bytes(), columns)

    setattr(script, name, found)


def remembered(folder: Path, key: bytes, find: Callable[[], Any]) -> Any:
    """What `find` gives, or gave under this key. What it raises is not kept."""
    path = folder / f"{hashlib.sha256(key).hexdigest()}.pickle"
    if not path.exists():
        made = find()
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as out:
            pickle.dump(made, out)
        os.replace(out.name, path)
    return pickle.loads(path.read_bytes())


def remember(folder: Path) -> None:
    remember_boxes(importlib.import_module("compute_text_score").RapidTextDetector, folder)
    for script, name in (
        ("cutscene_detect", "detect_shots"),
        ("compute_video_frame_quality", "read_clip"),
        ("compute_motion_score", "motion_columns"),
    ):
        remember_columns(importlib.import_module(script), name, folder)
    filters = importlib.import_module("filter_videos_by_motion_score")
    filters.plot = lambda *_: None  # histograms cost more than the rest


def warm_up() -> None:
    """Import what scripts import only where they need it, and let each make its flags once, which compiles their expressions: a child would
    do both anew.
    """
    for name in (*SCRIPTS, *LATE):
        with contextlib.suppress(ImportError):  # which the child that shall run it reports
            importlib.import_module(name)
    before = sys.argv
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for name in SCRIPTS:
            sys.argv = [f"{name}.py", "--help"]
            if name in sys.modules:
                with contextlib.suppress(SystemExit):
                    sys.modules[name].main()
    sys.argv = before


def serve(address: str, *how: str) -> None:
    import gc
    from multiprocessing import forkserver

    import cv2

    warm_up()
    cv2.setNumThreads(1)
    workers.Worker = WorkerInThisProcess
    if "remember" in how:
        remember(Path(address).parent)
    forkserver.ensure_running = lambda: None
    gc.collect()
    gc.freeze()
    # OpenBLAS and others have their threads by now, or none: a fork has the one that forks.
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while (
            sys.stdin not in select.select([listening, sys.stdin], [], [])[0]
        ):  # which ends with the process of the tests
            connection, _ = listening.accept()
            with connection:
                serve_one(connection)


def serve_one(connection: socket.socket) -> None:
    _, ancillary, _, _ = connection.recvmsg(7, socket.CMSG_SPACE(3 * 4))
    streams = array.array("i")
    for _, _, data in ancillary:
        streams.frombytes(data)
    said = b""
    while piece := connection.recv(1 << 16):
        said += piece
    try:
        if len(streams) == 3 and said:
            child = os.fork()
            if not child:
                connection.close()
                run_script(said.decode(errors="surrogateescape").split("\0"), streams)
            _, status = os.waitpid(child, 0)
            with contextlib.suppress(OSError):  # the client was killed with its group
                connection.sendall(str(os.waitstatus_to_exitcode(status) % 256).encode())
    finally:
        for stream in streams:
            os.close(stream)


def run_script(said: list[str], streams: array.array) -> None:
    """In a child: what the command line would do. Does not return."""
    code = 70
    try:
        folder, group, count, *rest = said
        words, variables = rest[: int(count)], rest[int(count) :]
        with contextlib.suppress(OSError):  # a group that was killed meanwhile
            os.setpgid(0, int(group))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(one.split("=", 1) for one in variables)
        sys.argv = words
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)
        script = importlib.import_module(Path(words[0]).stem)
        script.run(script.main)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:  # noqa: BLE001 (reported, as by Python)
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(Exception):
            threading._shutdown()
            atexit._run_exitfuncs()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(*sys.argv[1:])
