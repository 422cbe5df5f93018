"""Measure how much of each clip's frame is text: subtitles, titles, watermarks, slides.

Columns added: text_score, the area of the union of the text boxes divided by the frame's area (0–1; boxes clipped to the
frame, overlaps counted once, rotated boxes included), averaged over the sampled frames; text_score_max, the maximum;
text_boxes, the number of boxes; sample_frame_idx; with --crop_boxes, measured_in, the region that was measured.

    python compute_text_score.py --video_folder datasets/panda_70m/train --saved_path text_score.jsonl
    python compute_text_score.py --video_metadata_path clips.jsonl --video_folder CLIPS --frame_sample_method uniform --num_sampled_frames 3
    python compute_text_score.py --video_metadata_path clips.jsonl --video_folder CLIPS --crop_boxes crop_box.jsonl
    torchrun --nproc_per_node 2 compute_text_score.py --video_folder CLIPS --text_detector easyocr

rapidocr runs on the CPU; its model comes with the package. easyocr runs on each rank's own GPU, or on the CPU, and
downloads its model once unless --model_path names it; its boxes are lines of text with a margin, larger than rapidocr's.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import argparse
from collections.abc import Callable
from functools import partial

import av
import numpy as np

from utils.cli import about, add_crop_argument, add_sampling_arguments, between, from_flags, row_parser, run
from utils.errors import UsageError
from utils.pipeline.ancestry import setting_of_existing
from utils.pipeline.crops import CropBoxes, measured_in
from utils.pipeline.process import RunOptions, in_batches, process_rows
from utils.pipeline.row_list import open_rows
from utils.pipeline.score import Column, OnDemand, Score
from utils.scoring.easyocr_detector import CANVAS_SIZE, LINK_THRESHOLD, LOW_TEXT, TEXT_THRESHOLD, EasyTextDetector
from utils.scoring.rapidocr_detector import BOX_THRESHOLD, RapidTextDetector
from utils.scoring.text_area import text_area_share
from utils.video.cropping import cropped
from utils.video.geometry import frame_to_array
from utils.video.sampling import FrameSampling
from utils.video_utils import locate

SCORE = Score(
    "text",
    "text_score.jsonl",
    {
        "text_score": Column(
            "share of the frame that text boxes cover, mean over the frames", 0, 1, passes=(None, 0.02)
        ),
        "text_score_max": Column("the same, of the frame with most text", 0, 1),
        "text_boxes": Column("text boxes in all sampled frames", 0),
        "sample_frame_idx": Column("indices of the sampled frames, a list", 0),
    },
)
FLAGS = {"easyocr": ("model_path", "low_text", "link_threshold", "canvas_size"), "rapidocr": ("look",)}


def read_frames(
    row: dict,
    video_folder: str | None,
    sampling: FrameSampling,
    short_side: float = float("inf"),
    long_side: float = float("inf"),
) -> tuple[dict, list[np.ndarray]]:
    """The columns that are known, and frames, uint8 (H, W, 3), RGB, no larger than the detector sees them: neither side above its
    limit, in pixels. Of a row with a crop_box, what is inside it.
    """
    crop = cropped(row.get("crop_box"))

    def as_seen(whole: av.VideoFrame) -> np.ndarray:
        frame = crop(whole)
        scale = min(1, short_side / min(frame.width, frame.height), long_side / max(frame.width, frame.height))
        return frame_to_array(frame, "rgb24", (max(1, round(frame.width * scale)), max(1, round(frame.height * scale))))

    indices, _, frames = sampling.each(locate(row["video_path"], video_folder), as_seen)
    return {"sample_frame_idx": indices, **measured_in(row)}, frames


def text_columns(
    batch: list[tuple[dict, list[np.ndarray]]], boxes_in: Callable[[np.ndarray], np.ndarray]
) -> list[dict]:
    """The columns of each clip of a batch. `boxes_in` gives the boxes of a frame, (N, 4, 2), corners (x, y) in its
    pixels.
    """
    rows = []
    for columns, frames in batch:
        boxes = [boxes_in(frame) for frame in frames]
        shares = [
            text_area_share(found, (frame.shape[1], frame.shape[0])) for found, frame in zip(boxes, frames, strict=True)
        ]
        rows.append(
            {
                "text_score": round(float(np.mean(shares)), 6),
                "text_score_max": round(max(shares), 6),
                "text_boxes": sum(len(found) for found in boxes),
                **columns,
            }
        )
    return rows


def boxes_by(detector: OnDemand, frame: np.ndarray) -> np.ndarray:
    return detector().boxes(frame)


def rapidocr(args: argparse.Namespace) -> RapidTextDetector:
    look = getattr(args, "look", setting_of_existing(args.saved_path, args.overwrite, "look", "parts", old="whole"))
    return RapidTextDetector(getattr(args, "box_threshold", BOX_THRESHOLD), threads=args.n_jobs, look=look)


def easyocr(args: argparse.Namespace) -> EasyTextDetector:
    threshold = getattr(args, "box_threshold", TEXT_THRESHOLD)
    given = {name: getattr(args, name) for name in FLAGS["easyocr"] if name in args}
    with about("--model_path" if "model_path" in args else "--text_detector easyocr"):
        return EasyTextDetector(text_threshold=threshold, threads=args.n_jobs, **given)


DETECTORS: dict[str, Callable[[argparse.Namespace], EasyTextDetector | RapidTextDetector]] = {
    "easyocr": easyocr,
    "rapidocr": rapidocr,
}


def main() -> None:
    parser = row_parser(__doc__, SCORE.saved_path)
    parser.add_argument(
        "--text_detector",
        choices=list(DETECTORS),
        default="rapidocr",
        help="text detector: EasyOCR's (CRAFT), or PP-OCR's, bundled with rapidocr",
    )
    parser.add_argument(
        "--box_threshold",
        "--text_threshold",
        type=between(0, 1, float),
        default=argparse.SUPPRESS,
        help="minimum score of a box, 0 to 1: for rapidocr the mean probability inside the box "
        f"(default: {BOX_THRESHOLD}), for easyocr the peak of the character map (default: {TEXT_THRESHOLD})",
    )
    add_sampling_arguments(parser, ["uniform", "mid", "first", "last"], "mid", 1)
    add_crop_argument(parser)
    parser.add_argument_group("rapidocr", "only for --text_detector rapidocr").add_argument(
        "--look",
        choices=["parts", "whole"],
        default=argparse.SUPPRESS,
        help="parts: run the network only on regions where a first pass at 320 pixels suspects text; whole: on the whole frame, at "
        "twice the cost (default: that of the existing --saved_path, else parts)",
    )
    group = parser.add_argument_group("easyocr", "only for --text_detector easyocr")
    for flag, kind, text in (
        ("--model_path", str, "craft_mlt_25k.pth or its folder (default: EasyOCR's own, downloaded once)"),
        ("--low_text", between(0, 1, float), f"from which a pixel belongs to a box, 0 to 1 (default: {LOW_TEXT})"),
        (
            "--link_threshold",
            between(0, 1, float),
            f"from which a gap joins two characters (default: {LINK_THRESHOLD})",
        ),
        (
            "--canvas_size",
            between(32, 16_384),
            f"frames with a longer side are scaled to it, pixels (default: {CANVAS_SIZE})",
        ),
    ):
        group.add_argument(flag, type=kind, default=argparse.SUPPRESS, help=text)
    args = parser.parse_args()
    for owner, flags in FLAGS.items():
        if owner != args.text_detector and (foreign := [name for name in flags if name in args]):
            raise UsageError(f"--{foreign[0]} is a flag of --text_detector {owner}")
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    boxes = CropBoxes.given_to(rows, args.crop_boxes, args.video_folder)
    sampling, load = from_flags(FrameSampling, args), OnDemand(partial(DETECTORS[args.text_detector], args))
    detector = load()
    read = partial(
        read_frames,
        video_folder=args.video_folder,
        sampling=sampling,
        short_side=detector.short_side,
        long_side=detector.long_side,
    )
    score = in_batches(partial(text_columns, boxes_in=partial(boxes_by, load)))
    settings = sampling.settings | detector.settings
    step = SCORE.step(read, settings, score, is_whole=boxes.check_for(args.saved_path), inputs=boxes.inputs)
    process_rows(step, rows, from_flags(RunOptions, args))


if __name__ == "__main__":
    run(main)
