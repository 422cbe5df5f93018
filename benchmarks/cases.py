"""What the benchmarks run on and run: videos with their shots and clips, and the commands of the scripts.

A side of a comparison is a function of a `Case` and an empty folder to write to; it returns the commands to run one after the other:

    case = prepare(Path("videos"), Path("found"))
    plain_decoding(case, Path("out"))  # [["python", "-c", "import sys, av …", "videos/a.mp4", "videos/b.mp4"]]
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from imageio_ffmpeg import get_ffmpeg_exe

from benchmarks.measure import ROOT, Usage, compare, measure

DECODE = """
import sys, av
for path in sys.argv[1:]:
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            pass
"""
FFMPEG = [get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y"]


@dataclass(frozen=True)
class Case:
    """A folder of videos, and the folder that holds scenes.jsonl, clips.jsonl and the clips."""

    folder: Path
    found: Path
    n_jobs: int = 1
    min_seconds: float = 3

    @property
    def scenes(self) -> list[dict]:
        return [json.loads(line) for line in open(self.found / "scenes.jsonl", encoding="utf-8")]

    @property
    def clips(self) -> list[dict]:
        return [json.loads(line) for line in open(self.found / "clips.jsonl", encoding="utf-8")]

    @property
    def video_seconds(self) -> float:
        return sum(row["duration"] for row in self.scenes)

    @property
    def paths(self) -> list[str]:
        return [str(self.folder / row["video_path"]) for row in self.scenes]


Side = Callable[[Case, Path], list[list[str]]]


def prepare(folder: Path, found: Path, n_jobs: int = 1, min_seconds: float = 3) -> Case:
    """Detect shots and cut clips once, so that every side gets the same work."""
    found.mkdir()
    case = Case(folder.resolve(), found, n_jobs, min_seconds)
    for side in (detection, splitting):
        for command in side(case, found):
            measure(command)
    if failed := [line for path in found.glob("*.errors.jsonl") for line in open(path, encoding="utf-8")]:
        sys.exit(
            f"{folder}: remove what cannot be cut, because not every side would do the same work:\n{''.join(failed)}"
        )
    return case


def tiny(found: Path) -> Case:
    """One second of 64 x 64 pixels: what a command costs on it is its start-up."""
    folder = found.with_name("tiny-video")
    folder.mkdir()
    lavfi = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=25", "-t", "1", "-pix_fmt", "yuv420p"]
    subprocess.run([*FFMPEG, *lavfi, str(folder / "a.mp4")], check=True)
    return prepare(folder, found, min_seconds=0.1)


def past_start_up(
    sides: dict[str, Side], case: Case, small: Case, runs: int
) -> tuple[dict[str, list[Usage]], dict[str, list[float]]]:
    """What each side uses on `case` in each run, and its CPU-seconds without start-up: what a command takes on `small`, once for each command."""
    start_up = compare({name: partial(side, small) for name, side in sides.items()}, runs)
    usages = compare({name: partial(side, case) for name, side in sides.items()}, runs)
    net = {}
    for name, side in sides.items():
        start_seconds = len(side(case, Path("out"))) * median(usage.cpu_seconds for usage in start_up[name])
        net[name] = [usage.cpu_seconds - start_seconds for usage in usages[name]]
    return usages, net


def folder_parser(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of readable videos")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs (default: 3)")
    return parser


def plain_decoding(case: Case, out: Path) -> list[list[str]]:
    return [[sys.executable, "-c", DECODE, *case.paths]]


def detection(case: Case, out: Path, flags: Sequence[str] = ()) -> list[list[str]]:
    return [script("cutscene_detect.py", case, "--saved_path", out / "scenes.jsonl", *flags)]


def splitting(case: Case, out: Path, encoder: str = "smart") -> list[list[str]]:
    files = ["--video_metadata_path", case.found / "scenes.jsonl", "--saved_path", out / "clips.jsonl"]
    choices = ["--output_folder", out, "--encoder", encoder, "--min_seconds", case.min_seconds]
    return [script("video_splitting.py", case, *files, *choices)]


def motion(case: Case, out: Path, flags: Sequence[str] = ()) -> list[list[str]]:
    return [script("compute_motion_score.py", case, "--saved_path", out / "motion_score.jsonl", *flags)]


def script(name: str, case: Case, *flags: object) -> list[str]:
    call = [sys.executable, ROOT / name, "--video_folder", case.folder, "--n_jobs", case.n_jobs, *flags]
    return [str(part) for part in call]
