"""Measure how much of each clip's picture is text: subtitles, titles, watermarks, slides.

Columns added: text_score, the area of the union of the text boxes over the frame's area (0–1; boxes clipped to the
frame, overlaps counted once, rotated ones included), the mean over the sampled frames; text_score_max, the largest;
text_boxes, how many; sample_frame_idx.

    python compute_text_score.py --video_folder datasets/panda_70m/train --saved_path text_score.jsonl
    python compute_text_score.py --video_metadata_path clips.jsonl --video_folder CLIPS --frame_sample_method uniform --num_sampled_frames 3
    torchrun --nproc_per_node 2 compute_text_score.py --video_folder CLIPS --text_detector easyocr

rapidocr runs on the CPU and brings its model. easyocr runs on each rank's own GPU, or on the CPU, and downloads its
model once unless --model_path names it; its areas are those of lines of text with a margin, larger than rapidocr's.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

from utils.cli import (
    add_input_arguments,
    add_output_arguments,
    add_worker_arguments,
    at_least,
    from_flags,
    run,
    script_parser,
)
from utils.errors import UsageError
from utils.pipeline.process import RunOptions, Step, in_batches, input_rows, process_rows
from utils.scoring.easyocr_detector import CANVAS_SIZE, LINK_THRESHOLD, LOW_TEXT, TEXT_THRESHOLD, EasyTextDetector
from utils.scoring.rapidocr_detector import BOX_THRESHOLD, SHORT_SIDE, RapidTextDetector
from utils.scoring.text_area import text_area_share
from utils.video.geometry import frame_to_array
from utils.video.sampling import choose_frames, sample_frames
from utils.video_utils import locate

EASYOCR_FLAGS = ("model_path", "low_text", "link_threshold", "canvas_size")


def read_frames(
    row: dict,
    video_folder: str | None,
    method: str,
    count: int,
    short_side: float = float("inf"),
    long_side: float = float("inf"),
) -> tuple[list[int], list[np.ndarray]]:
    """Indices and frames, uint8 (H, W, 3), RGB, no larger than the detector sees them: one side at its limit, in
    pixels.
    """
    indices, _, frames = sample_frames(locate(row["video_path"], video_folder), partial(choose_frames, method, count))
    stored = frames[0].width, frames[0].height
    scale = min(1, short_side / min(stored), long_side / max(stored))
    size = tuple(max(1, round(side * scale)) for side in stored)
    return indices, [frame_to_array(frame, "rgb24", size) for frame in frames]


def text_columns(
    batch: list[tuple[list[int], list[np.ndarray]]], boxes_in: Callable[[np.ndarray], np.ndarray]
) -> list[dict]:
    """The columns of each clip of a batch. `boxes_in` gives the boxes of a frame, (N, 4, 2), corners (x, y) in its
    pixels.
    """
    rows = []
    for indices, frames in batch:
        boxes = [boxes_in(frame) for frame in frames]
        shares = [text_area_share(found, frame.shape[1::-1]) for found, frame in zip(boxes, frames)]
        rows.append(
            {
                "text_score": round(float(np.mean(shares)), 6),
                "text_score_max": round(max(shares), 6),
                "text_boxes": sum(len(found) for found in boxes),
                "sample_frame_idx": indices,
            }
        )
    return rows


def rapidocr_boxes(frame: np.ndarray, detector: RapidTextDetector) -> np.ndarray:
    return detector(frame)[0]


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    add_output_arguments(parser, saved_path="text_score.jsonl")
    add_worker_arguments(parser)
    parser.add_argument(
        "--text_detector",
        choices=["easyocr", "rapidocr"],
        default="rapidocr",
        help="EasyOCR's (CRAFT) or PP-OCR's, which comes with rapidocr",
    )
    parser.add_argument(
        "--box_threshold",
        "--text_threshold",
        type=at_least(0, float),
        default=argparse.SUPPRESS,
        help="least score of a box, 0 to 1: of rapidocr the mean probability inside it "
        f"(default: {BOX_THRESHOLD}), of easyocr the peak of its character map (default: {TEXT_THRESHOLD})",
    )
    parser.add_argument("--num_sampled_frames", type=at_least(1), default=1, help="frames that uniform sampling takes")
    parser.add_argument(
        "--frame_sample_method",
        choices=["uniform", "mid", "first", "last"],
        default="mid",
        help="which frames are taken",
    )
    easyocr = parser.add_argument_group("easyocr", "flags of --text_detector easyocr alone")
    for flag, kind, text in (
        ("--model_path", str, "craft_mlt_25k.pth or its folder (default: EasyOCR's own, downloaded once)"),
        ("--low_text", at_least(0, float), f"from which a pixel belongs to a box, 0 to 1 (default: {LOW_TEXT})"),
        ("--link_threshold", at_least(0, float), f"from which a gap joins two characters (default: {LINK_THRESHOLD})"),
        ("--canvas_size", at_least(32), f"frames with a longer side are scaled to it, pixels (default: {CANVAS_SIZE})"),
    ):
        easyocr.add_argument(flag, type=kind, default=argparse.SUPPRESS, help=text)
    args = parser.parse_args()
    given = {name: getattr(args, name) for name in EASYOCR_FLAGS if hasattr(args, name)}
    if given and args.text_detector != "easyocr":
        raise UsageError(f"--{next(iter(given))} is a flag of --text_detector easyocr")
    choices = {"method": args.frame_sample_method, "count": args.num_sampled_frames}
    rows = input_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    if args.text_detector == "easyocr":
        boxes_in = EasyTextDetector(
            text_threshold=getattr(args, "box_threshold", TEXT_THRESHOLD), threads=args.n_jobs, **given
        )
        settings = {**choices, **boxes_in.settings, "version": 1}
        sides = {"long_side": boxes_in.settings["canvas_size"]}
    else:
        detector = RapidTextDetector(getattr(args, "box_threshold", BOX_THRESHOLD), threads=args.n_jobs)
        boxes_in = partial(rapidocr_boxes, detector=detector)
        thresholds = {"detector": detector.model_path.name, "box_threshold": detector.box_threshold}
        settings = {**choices, **thresholds, "version": 2}
        sides = {"short_side": SHORT_SIDE}
    read = partial(read_frames, video_folder=args.video_folder, **choices, **sides)
    step = Step("text", read, settings, in_batches(partial(text_columns, boxes_in=boxes_in)))
    process_rows(step, rows, from_flags(RunOptions, args))


if __name__ == "__main__":
    run(main)
