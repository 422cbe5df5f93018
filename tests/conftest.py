"""Videos for tests: frames that carry their own index, sound of a known pitch, and what is read back of them."""

import contextlib
import functools
import http.server
import importlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT_VARIABLES = (
    "MIN_SECONDS",
    "MAX_SECONDS",
    "RANK",
    "WORLD_SIZE",
)  # the environment of the tests is not the scripts'
# Each script is a process of its own. Where bytecode is not kept, each compiles what it imports: 11 s of CPU for transformers, then 5.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["MIN_SHORT_SIDE"] = "0"  # the tests' videos are smaller than what a training set takes
os.environ["CROP"] = "0"  # which takes long; tests of cropping set it
sys.dont_write_bytecode = False
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # of a shell's background job: what the tests start is to answer it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: torch's threads would wait for each other's
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# The files that take longest, in this order: one of them, begun last, would run on alone beside an idle core.
LONGEST = (
    "histories",
    "chaos",
    "contract",
    "report",
    "crop_box",
    "docs_commands",
    "engines",
    "export",
    "video_splitting",
    "openai_engine",
    "ranks",
    "nothing_is_destroyed",
    "faults",
)
COLUMNS, ROWS = 4, 3  # blocks of a numbered frame: the first white, the last black, between them the index's ten bits


def skip_without_venv() -> None:
    """Skip a test that runs quickstart.sh where that would set up .venv first."""
    installed = ROOT / ".venv" / "requirements.lock"
    if not (installed.exists() and installed.read_bytes() == (ROOT / "requirements.lock").read_bytes()):
        pytest.skip("quickstart.sh would set up .venv")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "faults of tests/test_chaos.py")
    group.addoption("--faults", type=int, default=0, help="number of faults (default: each kind once)")
    group.addoption("--chaos_seed", type=int, default=0, help="of the moments, scripts and launchers")
    group = parser.getgroup("histories", "histories of tests/test_histories.py")
    group.addoption("--histories", type=int, default=0, help="number of histories (default: those of the gate)")
    group.addoption("--histories_seed", type=int, default=0, help="of what happens in them")


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("release"):
            item.add_marker("slow")
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


def pytest_terminal_summary(terminalreporter) -> None:
    """The faults of tests/test_chaos.py by kind, and what happened in the histories of tests/test_histories.py."""
    _summarize_faults(terminalreporter)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            if histories := dict(getattr(report, "user_properties", ())).get("histories"):
                terminalreporter.section(f"{histories['survived']:,} histories survived ({outcome}: {report.nodeid})")
                for what, count in sorted(histories["rules"].items(), key=lambda one: (-one[1], one[0])):
                    terminalreporter.write_line(f"{count:7,}  {what}")


def _summarize_faults(terminalreporter) -> None:
    table: dict[str, Counter] = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            said = dict(getattr(report, "user_properties", ()))
            if "fault" in said:
                missed = outcome == "passed" and not said["hit"]  # the run had ended before
                table.setdefault(said["fault"], Counter())["missed" if missed else outcome] += 1
    if table:
        columns = ("passed", "failed", "missed", "skipped")
        terminalreporter.section(f"{sum(counts['passed'] for counts in table.values()):,} faults survived")
        terminalreporter.write_line(" " * 18 + "".join(f"{column:>9}" for column in ("survived", *columns[1:])))
        for kind, counts in sorted(table.items()):
            terminalreporter.write_line(f"{kind:18}" + "".join(f"{counts[column]:9}" for column in columns))


@pytest.fixture
def run_main(monkeypatch, tmp_path):
    """Run a script's `main` in this process, which has loaded what it imports, in `tmp_path`."""

    def run(script, *flags) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["x.py", *map(str, flags)])
        script.main()

    return run


@pytest.fixture
def ended(monkeypatch, tmp_path, capsys):
    """`ended("x.py", "--flag", value)`: the exit code of a script that ends before any work, and what it printed. It runs in this process,
    which spares the imports.
    """

    def run(script: str, *flags) -> tuple[int, str]:
        from utils.ending import SIGNALS, run

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as stopped:
                run(importlib.import_module(script.removesuffix(".py")).main)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return stopped.value.code, "".join(capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def ordinary_priority():
    """SVT-AV1, which some tests encode with, gives its process a real-time priority where it runs as root. A browser that inherits it stops
    the machine.
    """
    take_ordinary_priority()
    yield
    take_ordinary_priority()


def take_ordinary_priority() -> None:
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))


def without_provenance(settings: dict) -> dict:
    """Of a result file's settings, the choices: not which script made it, of which files, and when they were last checked."""
    return {key: value for key, value in settings.items() if key not in ("script", "inputs", "checked", "stills")}


def numbered_frame(index: int, width: int = 192, height: int = 108) -> np.ndarray:
    """uint8 (height, width): the bits of `index` as bright and dark blocks, over a wave that moves a pixel a frame."""
    bits = [1, *(index >> bit & 1 for bit in range(10)), 0]
    blocks = np.array(bits).reshape(ROWS, COLUMNS)[np.ix_(_block(height, ROWS), _block(width, COLUMNS))]
    wave = 20 * np.sin((np.arange(width)[None] + np.arange(height)[:, None] + index) / 5)
    return (np.where(blocks, 205, 50) + wave).astype(np.uint8)


def read_index(picture: np.ndarray) -> int:
    """The index that an upright picture, uint8 (H, W) or (H, W, 3), carries; -1 where it is no numbered frame."""
    grey = picture if picture.ndim == 2 else picture.mean(2)
    height, width = grey.shape
    row, column = _block(height, ROWS), _block(width, COLUMNS)
    bits = [int(grey[row == i][:, column == j].mean() > 127) for i in range(ROWS) for j in range(COLUMNS)]
    return sum(bit << place for place, bit in enumerate(bits[1:-1])) if bits[0] and not bits[-1] else -1


def _block(length: int, count: int) -> np.ndarray:
    """The block that each of `length` pixels lies in."""
    return np.arange(length) * count // length


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: Fraction | int = 24,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    keyframes: Sequence[int] = (),
    sound: np.ndarray | None = None,
    sound_rate: int = 48000,
    sound_codec: str = "aac",
    layout: str = "mono",
    change: Callable[[av.VideoStream], None] = lambda stream: None,
    **container_options,
) -> Path:
    """Write `frames`, uint8 (H, W) or (H, W, 3), and `sound`, float32 (samples,), the same in all channels of `layout`.

    `pts`, in `time_base`, takes the place of the even times; `keyframes` asks for one at these indices (x264's are IDR
    frames with the option `forced-idr`); `change(stream)` sets what else the encoder shall be told.
    """
    options = {"crf": "23", "preset": "ultrafast", "threads": "1"} | (options or {}) if "26" in codec else options or {}
    with av.open(str(path), "w", **container_options) as out:
        video = out.add_stream(codec, rate=fps, options=options)
        video.pix_fmt = pix_fmt
        if time_base:
            video.codec_context.time_base = time_base
        if sound is not None:
            audio = out.add_stream(sound_codec, rate=sound_rate, layout=layout)
        for i, picture in enumerate(frames):
            if i == 0:
                video.height, video.width = picture.shape[:2]
                change(video)
            frame = av.VideoFrame.from_ndarray(picture, "gray" if picture.ndim == 2 else "rgb24").reformat(
                format=pix_fmt, dst_color_range="JPEG" if pix_fmt.startswith("yuvj") else None
            )
            frame.pts, frame.time_base = (i, 1 / Fraction(fps)) if pts is None else (pts[i], time_base)
            if i in keyframes:
                frame.pict_type = av.video.frame.PictureType.I
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if sound is not None:
            size = audio.codec_context.frame_size or 1024
            for at in range(0, len(sound), size):
                piece = np.tile(sound[at : at + size], (audio.codec_context.layout.nb_channels, 1))
                frame = av.AudioFrame.from_ndarray(piece.astype(np.float32), "fltp", layout)
                frame.sample_rate, frame.pts, frame.time_base = sound_rate, at, Fraction(1, sound_rate)
                if audio.codec_context.format.name != "fltp":
                    (frame,) = av.AudioResampler(audio.codec_context.format.name).resample(frame)
                out.mux(audio.encode(frame))
            out.mux(audio.encode())
    return Path(path)


def write_numbered(path: str | Path, count: int, fps: Fraction | int = 24, size=(192, 108), **options) -> Path:
    """`count` numbered frames; `options` as of `write_video`."""
    return write_video(path, (numbered_frame(i, *size) for i in range(count)), fps, **options)


def read_video(path: str | Path) -> tuple[list[Fraction], list[np.ndarray]]:
    """Times in seconds from the first frame and the frames as stored, uint8 (H, W, 3), RGB."""
    with av.open(str(path)) as container:
        frames = [(f.pts * f.time_base, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    return [time - frames[0][0] for time, _ in frames], [picture for _, picture in frames]


def read_indices(path: str | Path) -> list[int]:
    """The indices that the frames of a video carry."""
    return [read_index(picture) for picture in read_video(path)[1]]


def read_samples(path: str | Path, rate: int = 48000) -> np.ndarray:
    """The sound at `rate`, float32 (samples,), channels averaged, by its PTS from the first video frame on."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
        origin = first.pts * first.time_base
    pieces = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", container.streams.audio[0].codec_context.layout, rate)
        for frame in container.decode(audio=0):
            pieces += [
                (round((p.pts * p.time_base - origin) * rate), p.to_ndarray().mean(0))
                for p in resampler.resample(frame)
            ]
    samples = np.zeros(max(at + len(data) for at, data in pieces), np.float32)
    for at, data in pieces:
        samples[max(0, at) : max(0, at + len(data))] = data[max(0, -at) :]
    return samples


@pytest.fixture
def served(tmp_path_factory):
    """A folder and the address at which a web server of this machine serves it."""
    folder = tmp_path_factory.mktemp("served")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def scripts():
    """Scripts as forks of one process that has imported them: tests/stage_runner.py."""
    from stage_runner import Scripts

    running = Scripts()
    yield running
    running.close()


@pytest.fixture
def run_script(tmp_path, scripts):
    """Run a script in `tmp_path`: `run_script("x.py", "--flag", value)`; fails on another exit code than `code`. `real`: by a Python of its
    own, with worker processes.
    """

    def run(script: str, *arguments, code: int = 0, real: bool = False, **environment) -> subprocess.CompletedProcess:
        command = [sys.executable if real else scripts.python, ROOT / script, *arguments]
        inherited = {k: v for k, v in os.environ.items() if k not in SCRIPT_VARIABLES}
        with subprocess.Popen(
            [str(word) for word in command], cwd=tmp_path, env=inherited | environment, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=os.setpgrp,
        ) as started:  # fmt: skip
            try:
                printed = started.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                raise
        assert started.returncode == code, f"exit code {started.returncode}\n{printed[0]}\n{printed[1]}"
        return subprocess.CompletedProcess(command, started.returncode, *printed)

    return run
