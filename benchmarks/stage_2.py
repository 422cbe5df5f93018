"""What scoring a clip costs, in CPU-seconds: each script, its reading and its score beside the bare detectors and native Farneback,
and what workers and rows add.

    python -m benchmarks.stage_2 FOLDER --runs 3

FOLDER holds videos, which are cut into clips first, as in stage 1. Reading, scoring and "bare" are measured in this process; the
scripts with all their processes. A script's start-up is measured on a second of 64 x 64 pixels, and subtracted. EasyOCR's detector
has random weights, which cost what real ones do, and sees frames of --canvas_size.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import cv2
import numpy as np

from benchmarks.cases import Case, Side, folder_parser, past_start_up, prepare, script, tiny
from benchmarks.measure import compare, ratio, table
from compute_crop_box import crop_columns, read_clip
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


@dataclass(frozen=True)
class Scorer:
    """A script's work on one clip, and another library's on the same frames."""

    script: str
    flags: list[str]
    read: Callable[[str], Any]  # path -> frames
    columns: Callable[[str, Any], Any]  # path, frames -> columns
    bare: Callable[[Any], Any] | None = None  # the other library's work on the frames
    bare_reads: Callable[[str], Any] | None = None  # where `bare` needs other frames than the script; not timed
    reads_again: bool = False  # `columns` reads the clip itself; the cost is known from `read`, and subtracted
    frame_size: tuple[int, int] | None = None  # (width, height) of the frame sent between processes

    def seconds(self, path: str) -> tuple[float, float, float]:
        """CPU-seconds of reading, of scoring and of the bare function."""
        reading, got = timed(self.read, path)
        scoring, _ = timed(self.columns, path, got)
        frames = self.bare_reads(path) if self.bare_reads else got
        bare = timed(self.bare, frames)[0] if self.bare else 0.0
        return reading, scoring - reading * self.reads_again, bare


def timed(function: Callable, *arguments) -> tuple[float, Any]:
    started = process_time()
    got = function(*arguments)
    return process_time() - started, got


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

    def read_for_crop(path: str) -> dict:
        return read_clip({"video_path": path}, None, FrameSampling("uniform", 12))

    def crop(path: str, got: dict) -> list[dict]:
        return crop_columns([got], lambda: rapid, 0.5)

    def middle(path: str, **side: int) -> tuple:
        return read_frames({"video_path": path}, None, FrameSampling("mid"), **side)

    def motion(path: str, got: list, estimator: str, short_side: int) -> dict:
        return motion_columns({"video_path": path}, None, estimator, short_side, SAMPLING_FPS)

    text, flow, native = "compute_text_score.py", "compute_motion_score.py", partial(read_grays, short_side=0)
    easy_flags = ["--text_detector", "easyocr", "--model_path", str(weights), "--canvas_size", str(canvas_size)]
    return {
        "crop box, with text": Scorer("compute_crop_box.py", [], read_for_crop, crop),
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


def in_memory(scorer: Scorer, paths: list[str], runs: int) -> dict[str, list[float]]:
    scorer.seconds(paths[0])  # the first call, which sets things up, is not counted
    found = [np.sum([scorer.seconds(path) for path in paths], 0) for _ in range(runs)]
    return dict(zip(("reading", "scoring", "bare"), np.array(found).T.tolist()))


def pipeline(case: Case, out: Path, rows: int, frame_size: tuple[int, int] | None) -> list[list[str]]:
    size = ["--frame_size", *map(str, frame_size)] if frame_size else []
    command = [sys.executable, "-m", "benchmarks.pipeline", "--rows", str(rows), "--n_jobs", "1", *size]
    return [[*command, "--saved_path", str(out / "rows.jsonl")]]


def seconds_a_row(case: Case, frame_size: tuple[int, int] | None, rows: int, runs: int) -> float:
    """CPU-seconds of workers and files for one row: a run with that many more rows less a run with one."""
    sides = {str(count): partial(pipeline, case, rows=count, frame_size=frame_size) for count in (1, 1 + rows)}
    short, long = compare(sides, runs).values()
    return median((b.cpu_seconds - a.cpu_seconds) / rows for a, b in zip(short, long))


def scoring(case: Case, out: Path, scorer: Scorer) -> list[list[str]]:
    return [script(scorer.script, case, "--saved_path", out / "score.jsonl", *scorer.flags)]


def scoring_table(case: Case, small: Case, all_scorers: dict[str, Scorer], rows: int, runs: int) -> str:
    clips = [str(case.folder / row["video_path"]) for row in case.clips]
    sides: dict[str, Side] = {name: partial(scoring, scorer=scorer) for name, scorer in all_scorers.items()}
    _, net = past_start_up(sides, case, small, runs)
    sizes = dict.fromkeys(scorer.frame_size for scorer in all_scorers.values())
    rows_alone = {size: seconds_a_row(case, size, rows, runs) for size in sizes}
    lines = []
    for name, scorer in all_scorers.items():
        print(f"in memory: {name}", file=sys.stderr)
        seconds = in_memory(scorer, clips, runs)
        work = [read + score for read, score in zip(seconds["reading"], seconds["scoring"])]
        a_row = rows_alone[scorer.frame_size]
        milliseconds = [net[name], seconds["reading"], seconds["scoring"], seconds["bare"]]
        lines.append(
            [
                name,
                *(f"{1000 * median(values) / len(clips):.0f}" if any(values) else "" for values in milliseconds),
                f"{ratio(seconds['reading'], work):.0%}",
                f"{ratio(seconds['scoring'], seconds['bare']):.2f}" if scorer.bare else "",
                f"{1000 * a_row:.1f}",
                f"{a_row * len(clips) / median(work):.1%}",
            ]
        )
    header = ["CPU ms a clip", "the script, past start-up", "reading", "scoring", "bare", "share of reading", "scoring ÷ bare"]  # fmt: skip
    return table([*header, "workers and rows", "their share"], lines)


def main() -> None:
    parser = folder_parser(__doc__)
    parser.add_argument("--canvas_size", type=int, default=640, help="of EasyOCR, pixels (default: 640)")
    parser.add_argument("--rows", type=int, default=400, help="rows of benchmarks.pipeline (default: 400)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        videos = prepare(args.folder, work / "clips")
        case = Case(work / "clips", work / "clips")  # the clips are the videos now
        seconds = sum(clip["duration"] for clip in case.clips)
        print(f"{len(videos.paths)} videos, {len(case.clips)} clips of {seconds:.0f} s\n")
        all_scorers = scorers(random_craft(work), args.canvas_size)
        print(scoring_table(case, tiny(work / "tiny"), all_scorers, args.rows, args.runs))


if __name__ == "__main__":
    main()
