"""Turn the frame captions of each clip into one caption of the clip, by a language model.

--summarizer vllm, transformers and openai ask a model, with its own chat template; attributes puts what was measured
into one sentence, without a model; none takes a clip's only frame caption as it is. Columns added: summary_model;
summary_caption.

    python caption_summary.py --video_metadata_path frame_caption.jsonl --summarizer vllm
    python caption_summary.py --video_metadata_path frame_caption.jsonl --summarizer openai --rewrite dense
    python caption_summary.py --video_metadata_path summary_caption.jsonl --caption_column summary_caption \\
        --summarizer openai --rewrite tags --saved_path tags.jsonl
"""

import argparse
import json
import re
from functools import partial

from utils.captioning.answer_checks import checks_for
from utils.captioning.attributes import describe
from utils.captioning.chat import Request, Sampling, ask, parse_json
from utils.captioning.engines import ENGINES, add_engine_arguments, engine_settings, open_engine, refuse_server
from utils.captioning.prompts import STYLES, prompt_text, schema_of
from utils.cli import (
    add_input_arguments,
    add_output_arguments,
    add_worker_arguments,
    at_least,
    from_flags,
    run,
    script_parser,
    true_or_false,
)
from utils.errors import UsageError
from utils.pipeline.process import CLIP_COLUMNS, RunOptions, Step, input_rows, prefetch, process_rows
from utils.pipeline.ranks import Ranks

QUOTES = re.compile('["“”„«»「」『』]')


def descriptions(row: dict, column: str) -> list[str]:
    """The texts of a row's caption column, which holds one or a list."""
    found = row[column]
    return found if isinstance(found, list) else [found]


def one_caption(row: dict, column: str, summarizer: str) -> dict:
    """The columns of one clip without a model."""
    if summarizer == "attributes":
        return {"summary_model": "attributes", "summary_caption": describe(row["attributes"])}
    return {"summary_model": row.get("image_caption_model", "none"), "summary_caption": descriptions(row, column)[0]}


def question(row: dict, texts: list[str], prompt: str, sampling: Sampling) -> list[Request]:
    """The prompt, and the descriptions below it, numbered where there are several."""
    if len(texts) > 1:
        texts = [f"{number}. {text}" for number, text in enumerate(texts, 1)]
    return [Request(row["video_path"], 0, [prompt + "\n\n" + "\n".join(texts)], sampling)]


def summary_columns(
    row: dict,
    texts: list[str],
    answers: list[str],
    model: str,
    remove_quotes: bool,
    append_attributes: bool,
    as_json: bool,
) -> dict:
    """The columns of one clip by a model's answer."""
    caption = answers[0]
    if as_json:
        caption = json.dumps(parse_json(caption), ensure_ascii=False)
    if remove_quotes:
        caption = QUOTES.sub("", caption)
    if append_attributes:
        caption = " ".join([caption, *attribute_sentences(row.get("attributes") or {})])
    return {"summary_model": model, "summary_caption": caption}


def attribute_sentences(attributes: dict) -> list[str]:
    """What was measured of the motion, in the fixed words that a generator can be conditioned on (Open-Sora)."""
    motion, camera = attributes.get("motion_score"), attributes.get("camera_motion")
    return [
        *([f"Camera motion: {camera}."] if camera else []),
        *([f"Motion score: {motion:.1f}."] if isinstance(motion, (int, float)) else []),
    ]


def check_rows(rows: list[dict], args: argparse.Namespace) -> None:
    """Raises: `UsageError` with a sentence for the first row that has not what the summarizer takes."""
    column = args.caption_column
    for row in rows:
        where = f"{args.video_metadata_path}: {row['video_path']}"
        texts = row.get(column)
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise UsageError(
                f"{where}: {column} is {row.get(column)!r}, not a text or a list of texts; make it with caption_video_frame.py"
            )
        if args.summarizer == "none" and len(texts) != 1:
            raise UsageError(f"{where}: {column} holds {len(texts)} texts, and --summarizer none takes one as it is")
        if args.summarizer == "attributes" and not isinstance(row.get("attributes"), dict):
            raise UsageError(f"{where} has no attributes; caption it with caption_video_frame.py")


def main() -> None:
    parser = script_parser(__doc__)
    add_input_arguments(parser)
    add_output_arguments(parser, saved_path="summary_caption.jsonl")
    add_worker_arguments(parser)
    parser.add_argument(
        "--summarizer",
        choices=["attributes", "none", *ENGINES],
        default="attributes",
        help="how one caption is made of those of the frames",
    )
    parser.add_argument(
        "--summary_model_name",
        default="Qwen2.5-7B-Instruct",
        help="a name of utils/models.jsonl, a hub id, a folder, or what the server calls it",
    )
    parser.add_argument("--caption_column", default="sampled_frame_caption", help="column of the texts: one, or a list")
    parser.add_argument(
        "--summary_prompt",
        help="text, or a .txt file; the frames' captions follow it (default: the style's of prompts/)",
    )
    parser.add_argument(
        "--rewrite", choices=[name for name in STYLES if name != "summary"], default="summary", metavar="STYLE",
        help=f"another style than the summary: {', '.join(name for name in STYLES if name != 'summary')}",
    )  # fmt: skip
    parser.add_argument(
        "--max_words", type=at_least(1), help="of an answer; a longer one is asked for again (default: the style's)"
    )
    parser.add_argument(
        "--remove_quotes",
        type=true_or_false,
        nargs="?",
        const=True,
        default=False,
        help="take quotation marks out of the captions",
    )
    parser.add_argument(
        "--append_attributes", action="store_true", help="add camera motion and motion score, as measured, to the text"
    )
    add_engine_arguments(parser, max_new_tokens=512)
    args = parser.parse_args()
    if not args.video_metadata_path:
        parser.error("--video_metadata_path is missing: the rows of caption_video_frame.py")
    if args.append_attributes and args.rewrite == "json":
        parser.error("--append_attributes adds a sentence to a text, and --rewrite json gives none")
    rows = input_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    check_rows(rows, args)
    if args.append_attributes and rows and not any(attribute_sentences(row.get("attributes") or {}) for row in rows):
        raise UsageError(
            f"--append_attributes: no row of {args.video_metadata_path} has a motion_score or camera_motion in its attributes"
        )
    done = {"depends_on": (*CLIP_COLUMNS, args.caption_column, "attributes"), "done_word": "summarized"}
    if args.summarizer not in ENGINES:
        refuse_server(args, args.summarizer)
        read = partial(one_caption, column=args.caption_column, summarizer=args.summarizer)
        step = Step("summary", read, {"summarizer": args.summarizer, "version": 1}, **done)
        process_rows(step, rows, from_flags(RunOptions, args))
        return
    summarize_by_model(args, rows, done)


def summarize_by_model(args: argparse.Namespace, rows: list[dict], done: dict) -> None:
    style = STYLES[args.rewrite]
    prompt = prompt_text(style.prompt if args.summary_prompt is None else args.summary_prompt, "--summary_prompt")
    # A prompt of the user's own has limits of its own.
    max_words = args.max_words or (None if args.summary_prompt else style.max_words)
    schema, ranks = schema_of(style), Ranks()
    model = (args.summarizer, args.summary_model_name, "--summary_model_name")
    sampling = Sampling(args.max_new_tokens, args.temperature, args.seed, schema)
    ends = {"remove_quotes": args.remove_quotes, "append_attributes": args.append_attributes}
    settings = {
        "summarizer": args.summarizer, **engine_settings(args, *model), "rewrite": args.rewrite, "prompt": prompt,
        "caption_column": args.caption_column, "max_words": max_words, **ends, "version": 1,
    }  # fmt: skip

    def answers(items):  # called where rows are due: a run with nothing left to do loads no model
        items = prefetch(items)
        return ask(
            items,
            open_engine(args, *model, ranks),
            partial(question, prompt=prompt, sampling=sampling),
            partial(summary_columns, model=args.summary_model_name, as_json=bool(schema), **ends),
            checks_for(args.answer_checks, max_words, schema),
        )

    read = partial(descriptions, column=args.caption_column)
    step = Step("summary", read, settings, answers, patience=0, **done)
    process_rows(step, rows, from_flags(RunOptions, args), ranks)


if __name__ == "__main__":
    run(main)
