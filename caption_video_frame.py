"""Caption sampled frames of each clip with a vision-language model (VLM), in this process or behind a server.

--captioner transformers and vllm run the model in this process, openai queries a server that speaks OpenAI's chat protocol, and attributes
needs no model: it describes measured values (brightness, colours, text) in words. Columns added: image_caption_model;
prompt; sampled_frame_idx; sampled_frame_caption, a list with one text per frame (--caption_unit clip: one text about all
frames); attributes, the measured values, for caption_summary.py; with --styles, caption_short, caption_long and caption_tags.

    python caption_video_frame.py --video_metadata_path train.jsonl --video_folder CLIPS --captioner vllm
    python caption_video_frame.py --video_folder CLIPS --captioner transformers --image_caption_model_name SmolVLM2-500M
    python caption_video_frame.py --video_folder CLIPS --captioner openai --base_url http://localhost:8000/v1 \\
        --image_caption_model_name Qwen2.5-VL-7B --caption_unit clip --frame_sample_method uniform --num_sampled_frames 6
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

from collections.abc import Sequence
from functools import partial
from typing import Any

import av
import numpy as np

from utils.captioning.answer_checks import checks_for
from utils.captioning.attributes import describe, main_colours
from utils.captioning.caption_styles import (
    LENGTHS,
    TOKENS,
    main_caption,
    style_columns,
    styles_checks,
    styles_prompt,
    styles_schema,
)
from utils.captioning.chat import Answer, Engine, Request, Sampling, ask
from utils.captioning.engine_choice import AnswerOptions, EngineChoice, replaces_placeholders, with_existing_checks
from utils.captioning.engines import ENGINES
from utils.captioning.engines.openai_engine import refuse_server
from utils.captioning.frames import read_images, with_times
from utils.captioning.measured_facts import with_facts
from utils.captioning.prompts import prompt_text
from utils.captioning.sight import SightCheck
from utils.captioning.sound import HEARD, check_hearing, read_sound
from utils.cli import about, add_flags, add_sampling_arguments, at_least, comma_separated, from_flags, row_parser, run
from utils.pipeline.ancestry import CAPTION_ANCESTORS, MEASURED
from utils.pipeline.crops import MEASURED_IN
from utils.pipeline.process import RunOptions, Step, Stream, prefetch, process_rows
from utils.pipeline.row_list import open_rows
from utils.pipeline.score import OnDemand
from utils.video.cropping import cropped
from utils.video.geometry import frame_to_array
from utils.video.sampling import FrameSampling
from utils.video_utils import locate
from utils.workers.ranks import Ranks

DEFAULT_MODEL = "llava-v1.6-vicuna-7b"
# Passed on with MEASURED, but not part of what makes a caption outdated, so datasets captioned before 0.3 still resume.
SPEEDS = ("camera_pan", "camera_tilt", "camera_zoom", "camera_roll")


def measured(row: dict) -> dict:
    return {name: row[name] for name in (*MEASURED, *SPEEDS) if name in row}


def attribute_columns(row: dict, video_folder: str | None, frame_sampling: FrameSampling) -> dict:
    """The columns of one clip without a model."""
    crop = cropped(row.get(MEASURED_IN))
    indices, _, images = frame_sampling.each(locate(row["video_path"], video_folder), lambda frame: _small(crop(frame)))
    on_screen = {name: row[name] for name in ("text_score",) if name in row}
    return {
        "image_caption_model": "attributes",
        "prompt": "",
        "sampled_frame_idx": indices,
        "sampled_frame_caption": [describe(frame_attributes([image]) | on_screen) for image in images],
        "attributes": frame_attributes(images) | measured(row),
    }


def _small(frame: av.VideoFrame) -> np.ndarray:
    return frame_to_array(frame, "rgb24", (160, max(2, round(160 * frame.height / frame.width))))


def frame_attributes(frames: list[np.ndarray]) -> dict:
    """`brightness`, mean luma 0–1 (ITU-R BT.601), and `main_colours` of uint8 RGB frames (H, W, 3)."""
    luma = np.mean([frame.mean((0, 1)) @ (0.299, 0.587, 0.114) for frame in frames]) / 255
    return {"brightness": round(float(luma), 4), "main_colours": main_colours(frames)}


def read_clip(row: dict, video_folder: str | None, with_audio: bool, **how: Any) -> dict:
    """The sampled frames of one clip as its engine takes them, and its sound."""
    got = read_images(row, video_folder, **how)
    return {**got, "sound": read_sound(locate(row["video_path"], video_folder))} if with_audio else got


def questions(row: dict, got: dict, unit: str, prompt: str, sampling: Sampling) -> list[Request]:
    """A request for each frame, or one that shows all of them, each after its time."""
    key, images, prompt = row["video_path"], got["images"], with_facts(prompt, row)
    if unit == "frame":
        return [Request(key, index, [image, prompt], sampling) for index, image in enumerate(images)]
    heard = [got["sound"], HEARD] if got.get("sound") else []
    return [Request(key, 0, [*with_times(got), *heard, prompt], sampling)]


def caption_columns(
    row: dict, got: dict, answers: list[Answer], model: str, prompt: str, styles: Sequence[str] = ()
) -> dict:
    texts, of_styles = [answer.text for answer in answers], {}
    if styles:
        of_styles = style_columns(answers[0], styles)
        texts = [main_caption(of_styles)]
    return {
        "image_caption_model": model,
        "prompt": prompt,
        "sampled_frame_idx": got["indices"],
        "sampled_frame_caption": texts,
        **of_styles,
        "attributes": measured(row),
    }


def answers(
    items: Stream,
    choice: EngineChoice,
    engine: OnDemand[Engine],
    unit: str,
    prompt: str,
    styles: Sequence[str],
    sight_check: SightCheck,
    with_audio: bool,
) -> Stream:
    """`Step.score`: called where rows are due, so a run with nothing left to do loads no model."""
    items = prefetch(items)
    with about("--image_caption_model_name"):
        opened = engine()
        sight_check(opened, choice)
        if with_audio:
            check_hearing(opened)
    sampling = choice.sampling(styles_schema(styles) if styles else None)
    requests = partial(questions, unit=unit, prompt=prompt, sampling=sampling)
    columns = partial(caption_columns, model=choice.model, prompt=prompt, styles=styles)
    names = choice.answers.answer_checks
    checks = styles_checks(styles, names, prompt) if styles else checks_for(names, prompt)
    return ask(items, opened, requests, columns, checks)


def main() -> None:
    parser = row_parser(__doc__, saved_path="frame_caption.jsonl")
    parser.add_argument(
        "--captioner", choices=["attributes", *ENGINES], default="attributes", help="captioning backend"
    )
    parser.add_argument(
        "--image_caption_model_name",
        help="short name from docs/captions.md, hub id, local folder, or the server's name for it "
        f"(default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--image_caption_prompt",
        help="text, or a .txt file; {camera_motion} and {duration} are replaced by the measured values (default: frame.txt, clip.txt or styles.txt in prompts/)",
    )
    parser.add_argument(
        "--caption_unit", choices=["frame", "clip"], default="frame", help="one caption per frame, or one per clip"
    )
    parser.add_argument(
        "--styles",
        type=comma_separated(LENGTHS),
        default=[],
        metavar="short,long,tags",
        help="several captions of the clip in one answer, as columns caption_short, caption_long, caption_tags",
    )
    parser.add_argument(
        "--with_audio",
        action="store_true",
        help="also send the clip's audio and ask what is heard; needs a model with audio input, behind a server",
    )
    add_sampling_arguments(parser, ["uniform", "mid", "first", "last", "keyframe"], "mid", 1)
    parser.add_argument(
        "--max_pixels",
        type=at_least(28 * 28),
        default=1280 * 28 * 28,
        help="maximum pixels per image; larger ones are downscaled",
    )
    parser.add_argument("--output_dir", help="ignored; accepted for EasyAnimate's command lines")
    add_flags(parser, {"answers": AnswerOptions, "sight": SightCheck, **ENGINES})
    args = parser.parse_args()
    refuse_server(args.captioner, engine_server=args.engine_server, base_url=args.base_url)
    if args.output_dir:
        print("--output_dir is ignored: --saved_path records which clips are done")
    name = args.image_caption_model_name
    if args.styles and (args.caption_unit != "clip" or args.captioner == "attributes"):
        parser.error("--styles needs --caption_unit clip and a --captioner that runs a model")
    if args.with_audio and (args.caption_unit != "clip" or not getattr(ENGINES.get(args.captioner), "hears", False)):
        hearing = " or ".join(name for name, options in ENGINES.items() if getattr(options, "hears", False))
        parser.error(
            f"--with_audio needs --caption_unit clip and --captioner {hearing}, and a model with audio input, such as "
            "Qwen3-Omni behind vLLM's server"
        )
    args.overwrite |= replaces_placeholders(args.saved_path, "captioner", args.captioner)
    rows, ranks = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column), None
    frame_sampling = from_flags(FrameSampling, args)
    caption_step = partial(Step, "caption", depends_on=(*CAPTION_ANCESTORS, MEASURED_IN), done_word="captioned")
    if args.captioner == "attributes":
        if name:
            print(f"--captioner attributes uses no model; {', '.join(ENGINES)} would use {name}")
        read = partial(attribute_columns, video_folder=args.video_folder, frame_sampling=frame_sampling)
        step = caption_step(read, {"captioner": "attributes", **frame_sampling.settings, "version": 1})
    else:
        with about("--image_caption_prompt"):
            given = args.image_caption_prompt
            if given is not None:
                prompt = prompt_text(given)
            else:
                prompt = styles_prompt(args.styles) if args.styles else prompt_text(f"{args.caption_unit}.txt")
        more_tokens = {"max_new_tokens": max(TOKENS, args.max_new_tokens)} if args.styles else {}
        choice = EngineChoice(
            args.captioner,
            DEFAULT_MODEL if name is None else name,
            from_flags(ENGINES[args.captioner], args),
            with_existing_checks(from_flags(AnswerOptions, args, **more_tokens), args.saved_path, args.overwrite),
            args.saved_path,
            images=args.num_sampled_frames if args.caption_unit == "clip" else 1,
        )
        with about("--image_caption_model_name"):
            settings = {
                "captioner": args.captioner, **choice.settings(), "unit": args.caption_unit, "prompt": prompt,
                **frame_sampling.settings, "max_pixels": args.max_pixels, "version": 1,
            }  # fmt: skip
            if args.styles:
                settings["styles"] = " ".join(args.styles)
            if args.with_audio:
                settings["with_audio"] = HEARD
        ranks = Ranks()
        read = partial(
            read_clip,
            video_folder=args.video_folder,
            with_audio=args.with_audio,
            frame_sampling=frame_sampling,
            max_pixels=args.max_pixels,
            as_jpeg=choice.options.jpeg,
        )
        score = partial(
            answers, choice=choice, engine=OnDemand(partial(choice.open, ranks)), unit=args.caption_unit, prompt=prompt, styles=args.styles,
            sight_check=from_flags(SightCheck, args), with_audio=args.with_audio,
        )  # fmt: skip
        step = caption_step(read, settings, score, patience=0, gpus=getattr(choice.options, "tensor_parallel_size", 1))
    process_rows(step, rows, from_flags(RunOptions, args), ranks)


if __name__ == "__main__":
    run(main)
