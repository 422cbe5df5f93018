"""Caption frames of each clip.

--captioner attributes needs no model: it puts into words what was measured (brightness, colours, text), and says so:
image_caption_model is `attributes`. Columns added: image_caption_model; prompt; sampled_frame_idx;
sampled_frame_caption, a list, one text a frame; attributes, the measurements behind it, for caption_summary.py.

    python caption_video_frame.py --video_metadata_path train.jsonl --video_folder datasets/panda_70m/train --saved_path frame_caption.jsonl
"""

from functools import partial

import numpy as np

from utils.arguments import (
    add_input_arguments,
    add_output_arguments,
    add_worker_arguments,
    at_least,
    run,
    script_parser,
)
from utils.attributes_caption import describe, main_colours
from utils.frame_indices import choose_frames
from utils.row_processing import CLIP_COLUMNS, input_rows, process_rows
from utils.video_utils import frame_to_array, locate, sample_frames

# Measured columns of the input row that a caption may speak of.
MEASURED = ("motion_score", "camera_motion", "text_score")


def caption_columns(row: dict, video_folder: str | None, method: str, count: int) -> dict:
    """The columns of one clip."""
    indices, _, frames = sample_frames(locate(row["video_path"], video_folder), partial(choose_frames, method, count))
    images = [
        frame_to_array(frame, "rgb24", (160, max(2, round(160 * frame.height / frame.width)))) for frame in frames
    ]
    seen = [frame_attributes([image]) for image in images]
    on_screen = {name: row[name] for name in ("text_score",) if name in row}
    return {
        "image_caption_model": "attributes",
        "prompt": "",
        "sampled_frame_idx": indices,
        "sampled_frame_caption": [describe(one | on_screen) for one in seen],
        "attributes": frame_attributes(images) | {name: row[name] for name in MEASURED if name in row},
    }


def frame_attributes(frames: list[np.ndarray]) -> dict:
    """`brightness`, mean luma 0–1 (ITU-R BT.601), and `main_colours` of uint8 RGB frames (H, W, 3)."""
    luma = np.mean([frame.mean((0, 1)) @ (0.299, 0.587, 0.114) for frame in frames]) / 255
    return {"brightness": round(float(luma), 4), "main_colours": main_colours(frames)}


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    add_output_arguments(parser, saved_path="frame_caption.jsonl")
    add_worker_arguments(parser)
    parser.add_argument(
        "--captioner",
        choices=["attributes"],
        default="attributes",
        help="attributes: words for what was measured, no model",
    )
    parser.add_argument("--num_sampled_frames", type=at_least(1), default=1, help="frames that uniform sampling takes")
    parser.add_argument(
        "--frame_sample_method",
        choices=["uniform", "mid", "first", "last"],
        default="mid",
        help="which frames are captioned",
    )
    args = parser.parse_args()
    choices = {"method": args.frame_sample_method, "count": args.num_sampled_frames}
    read = partial(caption_columns, video_folder=args.video_folder, **choices)
    settings = {"captioner": args.captioner, **choices, "version": 1}
    process_rows(
        args, "caption", input_rows(args), settings, read, depends_on=(*CLIP_COLUMNS, *MEASURED), done_word="captioned"
    )


if __name__ == "__main__":
    run(main)
