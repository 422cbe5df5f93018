"""Score the quality of each clip's frames.

TechnicalScore, without a model, adds technical_score (0–10), the mean over the sampled frames, and what it is made of:
sharpness, exposure, contrast, colourfulness (0–10 each), noise, blockiness; all with their formulas in
utils/technical_score.py. sample_frame_idx names the frames.

    python compute_video_frame_quality.py --video_folder datasets/panda_70m/train --metrics TechnicalScore --saved_path technical_score.jsonl
    python compute_video_frame_quality.py --video_metadata_path clips.jsonl --video_folder CLIPS --num_sampled_frames 8
"""

from functools import partial

import cv2

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
from utils.technical_score import technical_columns
from utils.video_utils import frame_to_array, locate, sample_frames


def quality_columns(row: dict, video_folder: str | None, method: str, count: int) -> dict:
    """The columns of one clip."""
    cv2.setNumThreads(1)  # many processes, one thread each
    indices, _, frames = sample_frames(locate(row["video_path"], video_folder), partial(choose_frames, method, count))
    columns = technical_columns([frame_to_array(frame, "rgb24") for frame in frames])
    return {"sample_frame_idx": indices} | {name: round(value, 4) for name, value in columns.items()}


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    add_output_arguments(parser, saved_path="technical_score.jsonl")
    add_worker_arguments(parser)
    parser.add_argument("--metrics", choices=["TechnicalScore"], default="TechnicalScore", help="what is measured")
    parser.add_argument("--num_sampled_frames", type=at_least(1), default=4, help="frames that uniform sampling takes")
    parser.add_argument(
        "--frame_sample_method",
        choices=["uniform", "mid", "first", "last"],
        default="uniform",
        help="which frames are taken",
    )
    args = parser.parse_args()
    choices = {"method": args.frame_sample_method, "count": args.num_sampled_frames}
    read = partial(quality_columns, video_folder=args.video_folder, **choices)
    process_rows(args, "quality", input_rows(args), {"metrics": args.metrics, **choices, "version": 1}, read)


if __name__ == "__main__":
    run(main)
