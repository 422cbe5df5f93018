"""Caption frames of each clip by a model that sees, in this process or behind a server.

--captioner vllm and transformers run the model here, openai asks a server that speaks OpenAI's chat protocol, and
attributes needs no model: it puts into words what was measured (brightness, colours, text). Columns added:
image_caption_model; prompt; sampled_frame_idx; sampled_frame_caption, a list, one text a frame (--caption_unit clip:
one text of all frames); attributes, what was measured, for caption_summary.py.

    python caption_video_frame.py --video_metadata_path train.jsonl --video_folder CLIPS --captioner vllm
    python caption_video_frame.py --video_folder CLIPS --captioner transformers --image_caption_model_name SmolVLM2-500M
    python caption_video_frame.py --video_folder CLIPS --captioner openai --base_url http://localhost:8000/v1 \\
        --image_caption_model_name Qwen2.5-VL-7B --caption_unit clip --frame_sample_method uniform --num_sampled_frames 6
"""

import argparse
import io
from functools import partial

import numpy as np
from PIL import Image

from utils.captioning.answer_checks import checks_for
from utils.captioning.attributes import describe, main_colours
from utils.captioning.chat import Request, Sampling, ask
from utils.captioning.engines import ENGINES, add_engine_arguments, engine_settings, open_engine, refuse_server
from utils.captioning.prompts import prompt_text
from utils.cli import (
    add_input_arguments,
    add_output_arguments,
    add_worker_arguments,
    at_least,
    from_flags,
    run,
    script_parser,
)
from utils.pipeline.process import CLIP_COLUMNS, RunOptions, Step, input_rows, prefetch, process_rows
from utils.pipeline.ranks import Ranks
from utils.video.geometry import frame_to_array
from utils.video.sampling import choose_frames, keyframe_indices, sample_frames
from utils.video_utils import locate

DEFAULT_MODEL = "llava-v1.6-vicuna-7b"
# Measured columns of the input row that a caption may speak of.
MEASURED = ("motion_score", "camera_motion", "text_score")


def frames_of(row: dict, video_folder: str | None, method: str, count: int) -> tuple[list[int], list[float], list]:
    """Indices, seconds and decoded frames of a clip.

    Raises: `VideoError`.
    """
    path = locate(row["video_path"], video_folder)
    keyframes = keyframe_indices(path) if method == "keyframe" else (0,)
    return sample_frames(path, partial(choose_frames, method, count, keyframes=keyframes))


def measured(row: dict) -> dict:
    return {name: row[name] for name in MEASURED if name in row}


def attribute_columns(row: dict, **choices) -> dict:
    """The columns of one clip without a model."""
    indices, _, frames = frames_of(row, **choices)
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
        "attributes": frame_attributes(images) | measured(row),
    }


def frame_attributes(frames: list[np.ndarray]) -> dict:
    """`brightness`, mean luma 0–1 (ITU-R BT.601), and `main_colours` of uint8 RGB frames (H, W, 3)."""
    luma = np.mean([frame.mean((0, 1)) @ (0.299, 0.587, 0.114) for frame in frames]) / 255
    return {"brightness": round(float(luma), 4), "main_colours": main_colours(frames)}


def read_pictures(row: dict, max_pixels: int, as_jpeg: bool, **choices) -> dict:
    """The sampled frames of one clip as its model takes them, with `indices` and `seconds`."""
    indices, seconds, frames = frames_of(row, **choices)
    pictures = [fit_pixels(frame_to_array(frame, "rgb24"), max_pixels) for frame in frames]
    return {"indices": indices, "seconds": seconds, "pictures": [jpeg(p) for p in pictures] if as_jpeg else pictures}


def fit_pixels(picture: np.ndarray, max_pixels: int) -> np.ndarray:
    """uint8 (H, W, 3), shrunk in its proportions where it has more than `max_pixels`."""
    height, width = picture.shape[:2]
    scale = min(1, (max_pixels / (height * width)) ** 0.5)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return picture if scale == 1 else np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def jpeg(picture: np.ndarray) -> bytes:
    """The picture as a server is sent it: a JPEG without chroma subsampling, quality 95."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def questions(row: dict, got: dict, unit: str, prompt: str, sampling: Sampling) -> list[Request]:
    """A question for each frame, or one that shows all of them with their times."""
    key, pictures = row["video_path"], got["pictures"]
    if unit == "frame":
        return [Request(key, place, [picture, prompt], sampling) for place, picture in enumerate(pictures)]
    shown = [part for second, picture in zip(got["seconds"], pictures) for part in (f"{second:.1f} s:", picture)]
    return [Request(key, 0, [*shown, prompt], sampling)]


def caption_columns(row: dict, got: dict, texts: list[str], model: str, prompt: str) -> dict:
    return {
        "image_caption_model": model,
        "prompt": prompt,
        "sampled_frame_idx": got["indices"],
        "sampled_frame_caption": texts,
        "attributes": measured(row),
    }


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    add_output_arguments(parser, saved_path="frame_caption.jsonl")
    add_worker_arguments(parser)
    parser.add_argument("--captioner", choices=["attributes", *ENGINES], default="attributes", help="what captions")
    parser.add_argument(
        "--image_caption_model_name",
        default=argparse.SUPPRESS,
        help=f"a name of utils/models.jsonl, a hub id, a folder, or what the server calls it (default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--image_caption_prompt", help="text, or a .txt file (default: frame.txt or clip.txt of prompts/)"
    )
    parser.add_argument(
        "--caption_unit",
        choices=["frame", "clip"],
        default="frame",
        help="a caption for each frame, or one of all frames together",
    )
    parser.add_argument(
        "--num_sampled_frames", type=at_least(1), default=1, help="frames that uniform sampling takes, keyframe at most"
    )
    parser.add_argument(
        "--frame_sample_method",
        choices=["uniform", "mid", "first", "last", "keyframe"],
        default="mid",
        help="which frames are captioned",
    )
    parser.add_argument(
        "--max_pixels", type=at_least(28 * 28), default=1280 * 28 * 28, help="of a picture; larger ones are shrunk"
    )
    parser.add_argument(
        "--output_dir",
        help="EasyAnimate's folder of marks for what is done; the rows tell that here, and it is not used",
    )
    add_engine_arguments(parser, max_new_tokens=256)
    args = parser.parse_args()
    choices = {"method": args.frame_sample_method, "count": args.num_sampled_frames}
    done = {"depends_on": (*CLIP_COLUMNS, *MEASURED), "done_word": "captioned"}
    if args.captioner == "attributes":
        refuse_server(args, "attributes")
        if "image_caption_model_name" in args:
            print(
                f"--captioner attributes asks no model; vllm, transformers or openai would ask {args.image_caption_model_name}"
            )
        read = partial(attribute_columns, video_folder=args.video_folder, **choices)
        step = Step("caption", read, {"captioner": "attributes", **choices, "version": 1}, **done)
        process_rows(
            step,
            input_rows(args.video_folder, args.video_metadata_path, args.video_path_column),
            from_flags(RunOptions, args),
        )
        return
    caption_by_model(args, choices, done)


def caption_by_model(args: argparse.Namespace, choices: dict, done: dict) -> None:
    given = args.image_caption_prompt
    prompt = prompt_text(f"{args.caption_unit}.txt" if given is None else given, "--image_caption_prompt")
    name = getattr(args, "image_caption_model_name", DEFAULT_MODEL)
    model = (args.captioner, name, "--image_caption_model_name")
    settings = {
        "captioner": args.captioner, **engine_settings(args, *model), "unit": args.caption_unit, "prompt": prompt, **choices,
        "max_pixels": args.max_pixels, "version": 1,
    }  # fmt: skip
    rows, ranks = input_rows(args.video_folder, args.video_metadata_path, args.video_path_column), Ranks()
    sampling = Sampling(args.max_new_tokens, args.temperature, args.seed)

    def answers(items):  # called where rows are due: a run with nothing left to do loads no model
        at_once = args.num_sampled_frames if args.caption_unit == "clip" else 1
        items = prefetch(items)
        return ask(
            items,
            open_engine(args, *model, ranks, pictures=at_once),
            partial(questions, unit=args.caption_unit, prompt=prompt, sampling=sampling),
            partial(caption_columns, model=name, prompt=prompt),
            checks_for(args.answer_checks),
        )

    shown = {"max_pixels": args.max_pixels, "as_jpeg": args.captioner == "openai", **choices}
    read = partial(read_pictures, video_folder=args.video_folder, **shown)
    step = Step("caption", read, settings, answers, patience=0, **done)
    process_rows(step, rows, from_flags(RunOptions, args), ranks)


if __name__ == "__main__":
    run(main)
