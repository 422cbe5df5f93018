"""Merge the frame captions of each clip into one caption with a large language model (LLM).

--summarizer transformers, vllm and openai ask a model, with its own chat template; attributes puts the measured values
into one sentence, without a model; none keeps a clip's only frame caption as it is. Columns added: summary_model;
summary_caption; summary_cut_from, the words of an answer that was too long and was cut at the end of a sentence.

    python caption_summary.py --video_metadata_path frame_caption.jsonl --summarizer vllm
    python caption_summary.py --video_metadata_path frame_caption.jsonl --summarizer openai --rewrite dense
    python caption_summary.py --video_metadata_path summary_caption.jsonl --caption_column summary_caption \\
        --summarizer openai --rewrite tags --saved_path tags.jsonl
    python caption_summary.py --video_metadata_path frame_caption.jsonl --trigger_word "sks style"
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

from utils.captioning.answer_checks import checks_for
from utils.captioning.attributes import camera_speed, describe
from utils.captioning.chat import Answer, Check, Engine, Request, Sampling, ask, parse_json
from utils.captioning.engine_choice import AnswerOptions, EngineChoice, as_begun
from utils.captioning.engines import ENGINES
from utils.captioning.engines.openai_engine import refuse_server
from utils.captioning.prompts import DESCRIPTIONS, STYLES, prompt_text, schema_of
from utils.cli import about, add_flags, at_least, from_flags, row_parser, run, true_or_false
from utils.errors import UsageError
from utils.pipeline.process import CLIP_COLUMNS, RunOptions, Step, Stream, input_rows, prefetch, process_rows
from utils.pipeline.ranks import Ranks
from utils.pipeline.result_file import settings_of
from utils.pipeline.score import OnDemand

QUOTES = re.compile('["“”„«»「」『』]')


def descriptions(row: dict, column: str) -> list[str]:
    """The texts in a row's caption column, which holds one or a list."""
    found = row[column]
    return found if isinstance(found, list) else [found]


@dataclass(frozen=True)
class Around:
    """What stands around every caption: `trigger_word` first, unless the caption begins with it, then `caption_prefix`, and
    `caption_suffix` last; each apart by a space.
    """

    trigger_word: str = ""
    caption_prefix: str = ""
    caption_suffix: str = ""

    def __call__(self, caption: str) -> str:
        parts = [self.caption_prefix, caption.strip(), self.caption_suffix]
        text = " ".join(part for part in parts if part)
        begins = text == self.trigger_word or text.startswith((f"{self.trigger_word} ", f"{self.trigger_word},"))
        return text if not self.trigger_word or begins else f"{self.trigger_word} {text}"

    @property
    def settings(self) -> dict:
        """Those that are given: files made without them go on."""
        return {name: value for name, value in asdict(self).items() if value}


def one_caption(row: dict, column: str, summarizer: str, around: Around) -> dict:
    """The columns of one clip without a model."""
    if summarizer == "attributes":
        return {"summary_model": "attributes", "summary_caption": around(describe(row["attributes"]))}
    caption = descriptions(row, column)[0]
    return {
        "summary_model": row.get("image_caption_model", "none"),
        "summary_caption": around(caption) if around.settings else caption,
    }


def question(row: dict, texts: list[str], prompt: str, sampling: Sampling) -> list[Request]:
    """The prompt with the descriptions in their place, or below it; numbered where there are several."""
    if len(texts) > 1:
        texts = [f"{number}. {text}" for number, text in enumerate(texts, 1)]
    if DESCRIPTIONS not in prompt:
        prompt = f"{prompt}\n\n{DESCRIPTIONS}"
    return [Request(row["video_path"], 0, [prompt.replace(DESCRIPTIONS, "\n".join(texts))], sampling)]


def summary_columns(
    row: dict,
    texts: list[str],
    answers: list[Answer],
    model: str,
    remove_quotes: bool,
    append_attributes: bool,
    as_json: bool,
    around: Around = Around(),
) -> dict:
    """The columns of one clip from a model's answer: its paragraphs as one, or its JSON object on one line."""
    (answer,) = answers
    caption = json.dumps(parse_json(answer.text), ensure_ascii=False) if as_json else " ".join(answer.text.split())
    if remove_quotes:
        caption = QUOTES.sub("", caption)
    if append_attributes:
        caption = " ".join([caption, *attribute_sentences(row.get("attributes") or {})])
    return {
        "summary_model": model,
        "summary_caption": around(caption) if around.settings else caption,
        # The words that an answer had which was cut at a sentence's end.
        **({"summary_cut_from": answer.shortened_from} if answer.shortened_from else {}),
    }


def attribute_sentences(attributes: dict) -> list[str]:
    """Measured motion in fixed words, for generators that are conditioned on it (as in Open-Sora)."""
    motion, camera = attributes.get("motion_score"), attributes.get("camera_motion")
    speed = camera_speed(attributes)
    return [
        *([f"Camera motion: {speed + ' ' if speed else ''}{camera}."] if camera else []),
        *([f"Motion score: {motion:.1f}."] if isinstance(motion, (int, float)) else []),
    ]


def check_rows(rows: list[dict], column: str, summarizer: str) -> None:
    """Raises: `UsageError` for the first row without what the summarizer needs."""
    for row in rows:
        path, found = row["video_path"], row.get(column)
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise UsageError(
                f"{path}: {column} is {found!r}, not a text or a list of texts; run caption_video_frame.py first"
            )
        if summarizer == "none" and len(texts) != 1:
            raise UsageError(f"{path}: {column} holds {len(texts)} texts, and --summarizer none keeps a single one")
        if summarizer == "attributes" and not isinstance(row.get("attributes"), dict):
            raise UsageError(f"{path} has no attributes; run caption_video_frame.py first")


def answers(
    items: Stream,
    choice: EngineChoice,
    engine: OnDemand[Engine],
    prompt: str,
    checks: Sequence[Check],
    schema: dict | None,
    around: Around,
    **ends: Any,
) -> Stream:
    """`Step.score`: called where rows are due, so a run with nothing left to do loads no model."""
    items = prefetch(items)
    with about("--summary_model_name"):
        opened = engine()
    requests = partial(question, prompt=prompt, sampling=choice.sampling(schema))
    columns = partial(summary_columns, model=choice.model, as_json=bool(schema), around=around, **ends)
    return ask(items, opened, requests, columns, checks)


def main() -> None:
    parser = row_parser(__doc__, saved_path="summary_caption.jsonl")
    parser.add_argument(
        "--summarizer", choices=["attributes", "none", *ENGINES], default="attributes", help="summarizing backend"
    )
    parser.add_argument(
        "--summary_model_name",
        default="Qwen2.5-7B-Instruct",
        help="short name from docs/captions.md, hub id, local folder, or the server's name for it",
    )
    parser.add_argument("--caption_column", default="sampled_frame_caption", help="column with one text or a list")
    parser.add_argument(
        "--summary_prompt",
        help="text, or a .txt file; the frame captions stand where it says {descriptions}, else below it (default: the style's, in prompts/)",
    )
    styles = [name for name in STYLES if name != "summary"]
    parser.add_argument(
        "--rewrite", choices=styles, default="summary", metavar="STYLE", help=f"another style: {', '.join(styles)}"
    )
    parser.add_argument(
        "--max_words", type=at_least(1), help="a longer answer is asked for once more (default: the style's)"
    )
    parser.add_argument(
        "--over_length",
        choices=["cut", "error"],
        default="cut",
        help="an answer that is too long again is cut at the end of a sentence, or is an error row",
    )
    parser.add_argument(
        "--remove_quotes",
        type=true_or_false,
        nargs="?",
        const=True,
        default=False,
        help="remove quotation marks from the captions",
    )
    parser.add_argument(
        "--append_attributes", action="store_true", help="append the measured camera motion and motion score"
    )
    parser.add_argument(
        "--trigger_word", default="", metavar="TEXT", help="word that stands first in every caption, once"
    )
    parser.add_argument(
        "--caption_prefix", default="", metavar="TEXT", help="text before every caption, after the trigger word"
    )
    parser.add_argument("--caption_suffix", default="", metavar="TEXT", help="text after every caption")
    add_flags(parser, {"answers": AnswerOptions, **ENGINES})
    parser.set_defaults(max_new_tokens=512)
    args = parser.parse_args()
    refuse_server(args.summarizer, engine_server=args.engine_server, base_url=args.base_url)
    if not args.video_metadata_path:
        parser.error("--video_metadata_path is required: the result file of caption_video_frame.py")
    if args.append_attributes and args.rewrite == "json":
        parser.error("--append_attributes appends sentences, which --rewrite json has no place for")
    around = Around(*(" ".join(getattr(args, field.name).split()) for field in fields(Around)))
    if around.settings and args.rewrite == "json":
        parser.error(
            f"--{next(iter(around.settings))} puts text around captions, which --rewrite json has no place for"
        )
    column, ranks = args.caption_column, None
    rows = input_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    with about(args.video_metadata_path):
        check_rows(rows, column, args.summarizer)
    if args.append_attributes and rows and not any(attribute_sentences(row.get("attributes") or {}) for row in rows):
        raise UsageError(
            f"--append_attributes: no row of {args.video_metadata_path} has a motion_score or camera_motion in its attributes"
        )
    summary_step = partial(Step, "summary", depends_on=(*CLIP_COLUMNS, column, "attributes"), done_word="summarized")
    if args.summarizer not in ENGINES:
        read = partial(one_caption, column=column, summarizer=args.summarizer, around=around)
        step = summary_step(read, {"summarizer": args.summarizer, **around.settings, "version": 1})
    else:
        style = STYLES[args.rewrite]
        before = {} if args.overwrite else settings_of(args.saved_path)
        with about("--summary_prompt"):
            prompt = prompt_text(style.prompt if args.summary_prompt is None else args.summary_prompt)
            if args.summary_prompt is None and style.former:
                former = prompt_text(style.former)
                prompt = former if before.get("prompt") == former else prompt  # a dataset goes on as it was begun
        # The style's limit was written for the style's own prompt.
        max_words = args.max_words or (None if args.summary_prompt else style.max_words)
        ends = {"remove_quotes": args.remove_quotes, "append_attributes": args.append_attributes}
        choice = EngineChoice(
            args.summarizer,
            args.summary_model_name,
            from_flags(ENGINES[args.summarizer], args),
            as_begun(from_flags(AnswerOptions, args), before),
            args.saved_path,
        )
        with about("--summary_model_name"):
            settings = {
                "summarizer": args.summarizer, **choice.settings(), "rewrite": args.rewrite, "prompt": prompt,
                "caption_column": column, "max_words": max_words, **ends, **around.settings, "version": 1,
            }  # fmt: skip
            if args.over_length == "error":
                settings["over_length"] = "error"
        ranks, schema = Ranks(), schema_of(style)
        asked = prompt.replace(DESCRIPTIONS, "")
        checks = checks_for(choice.answers.answer_checks, asked, max_words, schema, args.over_length == "cut")
        score = partial(
            answers,
            choice=choice,
            engine=OnDemand(partial(choice.open, ranks)),
            prompt=prompt,
            checks=checks,
            schema=schema,
            around=around,
            **ends,
        )
        step = summary_step(
            partial(descriptions, column=column),
            settings,
            score,
            patience=0,
            gpus=getattr(choice.options, "tensor_parallel_size", 1),
        )
    process_rows(step, rows, from_flags(RunOptions, args), ranks)


if __name__ == "__main__":
    run(main)
