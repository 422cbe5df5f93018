"""What scoring a clip costs, in CPU-seconds: reading its frames beside decord, OpenCV and PyAV, its score beside the bare
detectors and native Farneback, and what workers and rows add.

    python benchmarks/stage_2.py FOLDER --runs 3

FOLDER holds videos, of which clips are cut first as stage 1 does. The first table and the columns "in memory" are measured in this
process, whose sides take turns clip by clip; the scripts with all their processes. A script's start-up is measured on a file
that is no video, and taken off. EasyOCR's detector has random weights, which cost what real ones do, and sees frames of --canvas_size.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

os.environ["OPENCV_FFMPEG_THREADS"] = "1"  # read by OpenCV when it opens a video; one thread for every side

import av
import cv2
import decord
import numpy as np
from cases import Case, Side, prepare, script
from measure import ROOT, compare, past_start_up, ratio, table

sys.path.append(str(ROOT))

from compute_motion_score import motion_columns, sampled
from compute_text_score import read_frames, text_columns
from utils.scoring.easyocr_detector import EasyTextDetector
from utils.scoring.optical_flow import SAMPLING_FPS, SHORT_SIDE, farneback_score
from utils.scoring.rapidocr_detector import SHORT_SIDE as TEXT_SHORT_SIDE
from utils.scoring.rapidocr_detector import RapidTextDetector
from utils.scoring.technical import technical_columns
from utils.video.geometry import frame_to_array, short_side_size
from utils.video.opening import decode, open_video
from utils.video.sampling import FrameSampling, choose_frames, sample_frames
from utils.video.timing import packet_times

PIPELINE_ROWS = 400  # of one more run with one row, so that a row's share is seen
Clock = dict[str, list[float]]  # of each side the CPU-seconds of each run


def reelset(path: str, indices: list[int]) -> list[np.ndarray]:
    return [frame_to_array(frame, "rgb24") for frame in sample_frames(path, lambda count: indices)[2]]


def with_decord(path: str, indices: list[int]) -> list[np.ndarray]:
    reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
    return list(reader.get_batch(indices).asnumpy())


def opencv_seeking(path: str, indices: list[int]) -> list[np.ndarray]:
    video, frames = cv2.VideoCapture(path, cv2.CAP_FFMPEG), []
    for index in indices:
        video.set(cv2.CAP_PROP_POS_FRAMES, index)
        frames.append(video.read()[1])
    return frames


def opencv_going_on(path: str, indices: list[int]) -> list[np.ndarray]:
    video, frames = cv2.VideoCapture(path, cv2.CAP_FFMPEG), []
    for index in range(indices[-1] + 1):
        video.grab()
        if index in indices:
            frames.append(video.retrieve()[1])
    return frames


def pyav_seeking(path: str, indices: list[int]) -> list[np.ndarray]:
    frames = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for index in indices:
            pts = (stream.start_time or 0) + int(index / stream.average_rate / stream.time_base)
            container.seek(pts, stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.pts >= pts - 1)
            frames.append(frame.to_ndarray(format="rgb24"))
    return frames


def pyav_going_on(path: str, indices: list[int]) -> list[np.ndarray]:
    frames = []
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(video=0)):
            if index in indices:
                frames.append(frame.to_ndarray(format="rgb24"))
            if index == indices[-1]:
                return frames


READERS = {
    "Reelset": reelset,
    "decord": with_decord,
    "OpenCV, seeking": opencv_seeking,
    "OpenCV, going on": opencv_going_on,
    "PyAV, seeking": pyav_seeking,
    "PyAV, going on": pyav_going_on,
}


def take_turns(sides: dict[str, Callable], works: list[tuple], runs: int) -> Clock:
    """CPU-seconds over all works of each side in each run; the sides take turns at each work. One round before is not counted."""
    for side in sides.values():
        side(*works[0])
    seconds = {name: [0.0] * runs for name in sides}
    for run in range(runs):
        for work in works:
            for name, side in sides.items():
                prefetch = process_time()
                side(*work)
                seconds[name][run] += process_time() - prefetch
    return seconds


def reading_table(paths: list[str], runs: int) -> str:
    lines = []
    for title, choose in {
        "4 frames (quality)": partial(choose_frames, "uniform", 4),
        "the middle frame (text)": partial(choose_frames, "mid", 1),
    }.items():
        works = []
        for path in paths:
            with open_video(path) as (container, stream):
                works.append((path, choose(len(packet_times(container, stream)[0]))))
        seconds = take_turns(READERS, works, runs)
        cheapest = [min(seconds[name][run] for name in READERS if name != "Reelset") for run in range(runs)]
        cells = [f"{1000 * median(seconds[name]) / len(paths):.0f}" for name in READERS]
        lines.append([title, *cells, f"{ratio(seconds['Reelset'], cheapest):.2f}"])
    return table(["CPU ms a clip", *READERS, "Reelset ÷ cheapest"], lines)


@dataclass(frozen=True)
class Scorer:
    """A script's work on one clip, and somebody else's on the same frames."""

    script: str
    flags: list[str]
    read: Callable[[str], Any]  # of a path
    columns: Callable[[str, Any], Any]  # of a path and of what was read
    bare: Callable[[Any], Any] | None = None
    bare_reads: Callable[[str], Any] | None = None  # where `bare` wants other frames than the script, untimed
    reads_again: bool = False  # `columns` reads the clip itself; what that costs is known from `read`, and taken off
    frame_size: tuple[int, int] | None = None  # of the frame that goes from process to process

    def seconds(self, path: str) -> tuple[float, float, float]:
        """CPU-seconds of reading, of scoring and of the bare function."""
        reading, got = timed(self.read, path)
        scoring, _ = timed(self.columns, path, got)
        frames = self.bare_reads(path) if self.bare_reads else got
        bare = timed(self.bare, frames)[0] if self.bare else 0.0
        return reading, scoring - reading * self.reads_again, bare


def timed(function: Callable, *arguments) -> tuple[float, Any]:
    prefetch = process_time()
    got = function(*arguments)
    return process_time() - prefetch, got


def read_quality(path: str) -> list[np.ndarray]:
    return [frame_to_array(frame, "rgb24") for frame in sample_frames(path, partial(choose_frames, "uniform", 4))[2]]


def read_grays(path: str, short_side: int) -> list[np.ndarray]:
    """The frames that flow sees; `short_side` 0 keeps the size."""
    with open_video(path) as (container, stream):
        picked = sampled(decode(container, stream), stream, SAMPLING_FPS, {})
        return [
            frame_to_array(frame, "gray", short_side_size(frame, stream, short_side) if short_side else None)
            for frame, _ in picked
        ]


def random_craft(folder: Path) -> Path:
    """A weights file of EasyOCR's network, random, with names as the real one has them."""
    import torch
    from easyocr.craft import CRAFT

    torch.manual_seed(0)
    path = folder / "craft_mlt_25k.pth"
    torch.save({f"module.{name}": tensor for name, tensor in CRAFT().state_dict().items()}, path)
    return path


def scorers(weights: Path, canvas_size: int) -> dict[str, Scorer]:
    import easyocr.detection
    from rapidocr import RapidOCR

    rapid, easy = RapidTextDetector(), EasyTextDetector(weights, canvas_size=canvas_size)
    own_rapid = RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "Det.limit_side_len": TEXT_SHORT_SIDE,
            "Det.limit_type": "min",
            "Global.log_level": "critical",
        }
    )
    own_craft = easyocr.detection.get_detector(str(weights), "cpu")

    def rapid_columns(path: str, got: tuple) -> list[dict]:
        return text_columns([got], rapid.boxes)

    def easy_columns(path: str, got: tuple) -> list[dict]:
        return text_columns([got], easy)

    def bare_rapidocr(got: tuple) -> None:
        own_rapid(got[1][0][..., ::-1], use_cls=False, use_rec=False)

    def bare_easyocr(got: tuple) -> None:
        easyocr.detection.get_textbox(own_craft, got[1][0], canvas_size, 1.0, 0.7, 0.4, 0.4, False, "cpu")

    def middle(path: str, **side: int) -> tuple:
        return read_frames({"video_path": path}, None, FrameSampling("mid"), **side)

    def motion(path: str, got: list, estimator: str, short_side: int) -> dict:
        return motion_columns({"video_path": path}, None, estimator, short_side, SAMPLING_FPS)

    text, flow, native = "compute_text_score.py", "compute_motion_score.py", partial(read_grays, short_side=0)
    easy_flags = ["--text_detector", "easyocr", "--model_path", str(weights), "--canvas_size", str(canvas_size)]
    return {
        "technical quality": Scorer(
            "compute_video_frame_quality.py", [], read_quality, lambda path, got: technical_columns(got)
        ),
        "text, rapidocr ÷ bare RapidOCR": Scorer(
            text, [], partial(middle, short_side=TEXT_SHORT_SIDE), rapid_columns, bare_rapidocr, frame_size=(1280, 720)
        ),
        f"text, easyocr at {canvas_size} ÷ bare EasyOCR": Scorer(
            text, easy_flags, partial(middle, long_side=canvas_size), easy_columns, bare_easyocr,
            frame_size=(canvas_size, canvas_size * 9 // 16),
        ),
        "motion, DIS ÷ bare native Farneback": Scorer(
            flow, [], partial(read_grays, short_side=SHORT_SIDE), partial(motion, estimator="dis", short_side=SHORT_SIDE),
            farneback_score, native, reads_again=True,
        ),
        "motion, Farneback ÷ bare native Farneback": Scorer(
            flow, ["--motion_estimator", "farneback", "--short_side", "0"], native,
            partial(motion, estimator="farneback", short_side=0), farneback_score, native, reads_again=True,
        ),
    }  # fmt: skip


def in_memory(scorer: Scorer, paths: list[str], runs: int) -> Clock:
    scorer.seconds(paths[0])  # what is made on the first call is not counted
    found = [np.sum([scorer.seconds(path) for path in paths], 0) for _ in range(runs)]
    return dict(zip(("reading", "scoring", "bare"), np.array(found).T.tolist()))


def road(case: Case, out: Path, rows: int, frame_size: tuple[int, int] | None) -> list[list[str]]:
    size = ["--frame_size", *map(str, frame_size)] if frame_size else []
    command = [sys.executable, str(ROOT / "benchmarks" / "pipeline.py"), "--rows", str(rows), "--n_jobs", "1", *size]
    return [[*command, "--saved_path", str(out / "rows.jsonl")]]


def scoring(case: Case, out: Path, scorer: Scorer) -> list[list[str]]:
    return [script(scorer.script, case, "--saved_path", out / "score.jsonl", *scorer.flags)]


def scoring_table(case: Case, no_video: Case, all_scorers: dict[str, Scorer], runs: int) -> str:
    clips = [str(case.folder / row["video_path"]) for row in case.clips]
    sides: dict[str, Side] = {name: partial(scoring, scorer=scorer) for name, scorer in all_scorers.items()}
    start_up = compare({name: partial(side, no_video) for name, side in sides.items()}, runs)
    usages = compare({name: partial(side, case) for name, side in sides.items()}, runs)
    sizes = {scorer.frame_size for scorer in all_scorers.values()}
    roads = compare(
        {
            (rows, size): partial(road, case, rows=rows, frame_size=size)
            for size in sizes
            for rows in (1, 1 + PIPELINE_ROWS)
        },
        runs,
    )
    lines = []
    for name, scorer in all_scorers.items():
        print(f"in memory: {name}", file=sys.stderr)
        seconds = in_memory(scorer, clips, runs)
        net = past_start_up(usages[name], start_up[name], commands=1)
        work = [read + score for read, score in zip(seconds["reading"], seconds["scoring"])]
        size = scorer.frame_size
        long, short = ([usage.cpu_seconds for usage in roads[rows, size]] for rows in (1 + PIPELINE_ROWS, 1))
        a_row = [(a - b) / PIPELINE_ROWS for a, b in zip(long, short)]
        milliseconds = [net, seconds["reading"], seconds["scoring"], seconds["bare"]]
        cells = [f"{1000 * median(values) / len(clips):.0f}" if any(values) else "" for values in milliseconds]
        lines.append(
            [
                name,
                *cells,
                f"{ratio(seconds['reading'], work):.0%}",
                f"{ratio(seconds['scoring'], seconds['bare']):.2f}" if scorer.bare else "",
                f"{1000 * median(a_row):.1f}",
                f"{median(a_row) * len(clips) / median(work):.1%}",
            ]
        )
    header = [
        "CPU ms a clip",
        "the script, past start-up",
        "reading",
        "scoring",
        "bare",
        "share of reading",
        "scoring ÷ bare",
    ]
    return table([*header, "workers and rows", "their share"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of readable videos")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs (default: 3)")
    parser.add_argument("--canvas_size", type=int, default=640, help="of EasyOCR, pixels (default: 640)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        videos = prepare(args.folder, work / "clips")
        case = Case(work / "clips", work / "clips")  # the clips are the videos now
        (work / "none").mkdir()
        (work / "none" / "text.mp4").write_text("no video")
        paths = [str(case.folder / clip["video_path"]) for clip in case.clips]
        seconds = sum(clip["duration"] for clip in case.clips)
        print(f"{len(videos.paths)} videos, {len(paths)} clips of {seconds:.0f} s\n")
        print(reading_table(paths, args.runs), "\n")
        all_scorers = scorers(random_craft(work), args.canvas_size)
        print(scoring_table(case, Case(work / "none", work / "none"), all_scorers, args.runs))


if __name__ == "__main__":
    main()
