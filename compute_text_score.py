"""Measure how much of each clip's picture is text: subtitles, titles, watermarks, slides.

Columns added: text_score, the area of the union of the text boxes over the frame's area (0–1; boxes clipped to the
frame, overlaps counted once, rotated ones included), the mean over the sampled frames; text_score_max, the largest;
text_boxes, how many; sample_frame_idx.

    python compute_text_score.py --video_folder datasets/panda_70m/train --saved_path text_score.jsonl
    python compute_text_score.py --video_metadata_path clips.jsonl --video_folder CLIPS --frame_sample_method uniform --num_sampled_frames 3
"""

from functools import partial

import cv2
import numpy as np

from utils.arguments import (
    add_input_arguments,
    add_output_arguments,
    add_worker_arguments,
    at_least,
    run,
    script_parser,
)
from utils.frame_indices import choose_frames
from utils.row_processing import input_rows, process_rows
from utils.text_area import BOX_THRESHOLD, SHORT_SIDE, RapidTextDetector, text_area_share
from utils.video_utils import frame_to_array, locate, sample_frames


def read_frames(row: dict, video_folder: str | None, method: str, count: int) -> tuple[list[int], list[np.ndarray]]:
    """Indices and frames, uint8 (H, W, 3), RGB, no larger than the detector sees them."""
    cv2.setNumThreads(1)  # many processes, one thread each
    indices, _, frames = sample_frames(locate(row["video_path"], video_folder), partial(choose_frames, method, count))
    scale = min(1, SHORT_SIDE / min(frames[0].width, frames[0].height))
    size = (round(frames[0].width * scale), round(frames[0].height * scale))
    return indices, [frame_to_array(frame, "rgb24", size) for frame in frames]


def text_columns(batch: list[tuple[list[int], list[np.ndarray]]], detector: RapidTextDetector) -> list[dict]:
    """The columns of each clip of a batch."""
    rows = []
    for indices, frames in batch:
        boxes = [detector(frame)[0] for frame in frames]
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


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    add_output_arguments(parser, saved_path="text_score.jsonl")
    add_worker_arguments(parser)
    parser.add_argument(
        "--text_detector", choices=["rapidocr"], default="rapidocr", help="PP-OCR's detector, which comes with rapidocr"
    )
    parser.add_argument(
        "--box_threshold", type=at_least(0, float), default=BOX_THRESHOLD, help="least score of a box, 0 to 1"
    )
    parser.add_argument("--num_sampled_frames", type=at_least(1), default=1, help="frames that uniform sampling takes")
    parser.add_argument(
        "--frame_sample_method",
        choices=["uniform", "mid", "first", "last"],
        default="mid",
        help="which frames are taken",
    )
    args = parser.parse_args()
    choices = {"method": args.frame_sample_method, "count": args.num_sampled_frames}
    detector = RapidTextDetector(args.box_threshold, threads=args.n_jobs)
    settings = {**choices, "detector": detector.model_path.name, "box_threshold": args.box_threshold, "version": 1}
    read = partial(read_frames, video_folder=args.video_folder, **choices)
    process_rows(args, "text", input_rows(args), settings, read, partial(text_columns, detector=detector))


if __name__ == "__main__":
    run(main)
