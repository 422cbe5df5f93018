"""Merge the frame captions of each clip into one caption with a large language model (LLM).

--summarizer transformers, vllm and openai run a model with its own chat template; attributes turns the measured values
into one sentence, without a model; none keeps a clip's only frame caption unchanged. Columns added: summary_model;
summary_caption; summary_answer, the model's answer before --remove_quotes, --append_attributes, --trigger_word, --caption_prefix or
--caption_suffix, if they change it: these are applied to all captions on every run, without asking the model again; summary_cut_from, the
word count of an answer that was too long and was cut at the end of a sentence; captions_from, the imported caption as given; camera_contradiction, set
if the caption contradicts the measured camera motion; caption_short, caption_long, caption_tags if the list has them, post-processed the same way.

    python caption_summary.py --video_metadata_path frame_caption.jsonl --summarizer vllm
    python caption_summary.py --video_metadata_path frame_caption.jsonl --summarizer openai --rewrite dense
    python caption_summary.py --video_metadata_path summary_caption.jsonl --caption_column summary_caption \\
        --summarizer openai --rewrite tags --saved_path tags.jsonl
    python caption_summary.py --video_metadata_path frame_caption.jsonl --trigger_word "sks style"
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from utils.captioning.answer_checks import checks_for
from utils.captioning.answer_text import training_text
from utils.captioning.attributes import camera_speed, describe
from utils.captioning.caption_styles import LENGTHS, PREFIX
from utils.captioning.chat import Answer, Check, Engine, Request, Sampling, ask, parse_json
from utils.captioning.engine_choice import AnswerOptions, EngineChoice, replaces_placeholders, with_existing_checks
from utils.captioning.engines import ENGINES
from utils.captioning.engines.openai_engine import refuse_server
from utils.captioning.given_captions import GIVEN, GivenCaptions, checked_caption
from utils.captioning.measured_facts import contradiction
from utils.captioning.prompts import DESCRIPTIONS, STYLES, prompt_text, schema_of
from utils.cli import about, add_flags, at_least, from_flags, row_parser, run, true_or_false
from utils.errors import Failure, UsageError
from utils.pipeline.ancestry import CLIP_COLUMNS, setting_of_existing, settings_of
from utils.pipeline.process import RunOptions, Step, Stream, prefetch, process_rows
from utils.pipeline.row_list import open_rows
from utils.pipeline.score import OnDemand
from utils.workers.ranks import Ranks

OF_STYLES = {f"{PREFIX}{style}" for style in LENGTHS}
QUOTES = re.compile('["“”„«»「」『』]')


def descriptions(row: dict, column: str) -> list[str]:
    """The texts in a row's caption column, which holds one or a list; none where its caption is given."""
    if row.get(GIVEN):
        return []
    found = row[column]
    return found if isinstance(found, list) else [found]


@dataclass(frozen=True)
class Finish:
    """What is done to every caption when the list is written, at no cost: quotation marks removed, measured motion appended in words, then
    `trigger_word` first, unless the caption begins with it, `caption_prefix`, and `caption_suffix` last; each apart by a space.
    """

    remove_quotes: bool = False
    append_attributes: bool = False
    trigger_word: str = ""
    caption_prefix: str = ""
    caption_suffix: str = ""

    def __call__(self, answer: str, attributes: dict | None, is_tags: bool = False) -> str:
        caption = training_text(answer)  # of a list that was captioned before answers were cleaned
        caption = QUOTES.sub("", caption) if self.remove_quotes else caption
        after = attribute_sentences(attributes or {}) if self.append_attributes and not is_tags else []
        parts = [self.caption_prefix, caption.strip(), *after, self.caption_suffix]
        if len(list(filter(None, parts))) > 1:
            caption = " ".join(filter(None, parts))
        begins = caption == self.trigger_word or caption.startswith((f"{self.trigger_word} ", f"{self.trigger_word},"))
        return caption if not self.trigger_word or begins else f"{self.trigger_word} {caption}"

    def row(self, result: dict, row: dict, is_done: bool = False) -> dict:
        """A result row with its caption as it is to be now. `is_done`: files until 0.3 hold captions that were finished before."""
        if is_done and "summary_answer" not in result:
            return result
        answer = result.get("summary_answer", result["summary_caption"])
        caption = self(answer, row.get("attributes"))
        made = ("summary_answer", "camera_contradiction")
        kept = {name: value for name, value in result.items() if name not in made} | {"summary_caption": caption}
        for name in sorted(OF_STYLES & row.keys()):
            kept[name] = self(row[name], row.get("attributes"), is_tags=name == f"{PREFIX}tags")
        wrong = contradiction(answer, row.get("attributes") or {})
        return (
            kept
            | ({"camera_contradiction": wrong} if wrong else {})
            | ({"summary_answer": answer} if caption != answer else {})
        )

    def settings(self, before: dict) -> dict:
        """Those that a file until 0.3 was made with, which are in its captions for good: others are an error there."""
        return {name: before[name] and value for name, value in asdict(self).items() if name in before}


def one_caption(row: dict, column: str, summarizer: str, given_checks: Sequence[Check]) -> dict | Failure:
    """The columns of one clip without a model."""
    if row.get(GIVEN):
        return given_columns(row, given_checks)
    if summarizer == "attributes":
        return answered("attributes", describe(row["attributes"]))
    return answered(row.get("image_caption_model", "none"), descriptions(row, column)[0])


def given_columns(row: dict, checks: Sequence[Check]) -> dict | Failure:
    """The columns of a clip whose caption was made elsewhere."""
    caption = checked_caption(row[GIVEN], checks)
    return caption if isinstance(caption, Failure) else {**answered(GIVEN, caption), GIVEN: row[GIVEN]}


def answered(model: str, caption: str) -> dict:
    """The columns of an answer, before it is finished."""
    return {"summary_model": model, "summary_caption": caption, "summary_answer": caption}


def question(row: dict, texts: list[str], prompt: str, sampling: Sampling) -> list[Request]:
    """The prompt with the descriptions in their place, or below it; numbered where there are several. None where the caption is given."""
    if not texts:
        return []
    if len(texts) > 1:
        texts = [f"{number}. {text}" for number, text in enumerate(texts, 1)]
    if DESCRIPTIONS not in prompt:
        prompt = f"{prompt}\n\n{DESCRIPTIONS}"
    return [Request(row["video_path"], 0, [prompt.replace(DESCRIPTIONS, "\n".join(texts))], sampling)]


def summary_columns(
    row: dict, texts: list[str], answers: list[Answer], model: str, as_json: bool, given_checks: Sequence[Check] = ()
) -> dict | Failure:
    """The columns of one clip from a model's answer: its paragraphs as one, or its JSON object on one line."""
    if not answers:
        return given_columns(row, given_checks)
    (answer,) = answers
    caption = json.dumps(parse_json(answer.text), ensure_ascii=False) if as_json else " ".join(answer.text.split())
    return {
        **answered(model, caption),
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


def checked(row: dict, list_path: str, column: str, summarizer: str, given: Callable[[str], str]) -> dict:
    """The row, with its caption where one is given. Raises: `UsageError` where it lacks what the summarizer needs."""
    if caption := given(row["video_path"]):
        return {**row, GIVEN: caption}
    at, found = f"{list_path}: {row['video_path']}", row.get(column)
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(
            f"{at}: {column} is {found!r}, not a text or a list of texts; run caption_video_frame.py first"
        )
    if summarizer == "none" and len(texts) != 1:
        raise UsageError(f"{at}: {column} holds {len(texts)} texts, but --summarizer none needs exactly one")
    if summarizer == "attributes" and not isinstance(row.get("attributes"), dict):
        raise UsageError(f"{at} has no attributes; run caption_video_frame.py first")
    return row


def answers(
    items: Stream,
    choice: EngineChoice,
    engine: OnDemand[Engine],
    prompt: str,
    checks: Sequence[Check],
    schema: dict | None,
    given_checks: Sequence[Check],
) -> Stream:
    """`Step.score`: called where rows are due, so a run with nothing left to do loads no model."""
    items = prefetch(items)
    with about("--summary_model_name"):
        opened = engine()
    requests = partial(question, prompt=prompt, sampling=choice.sampling(schema))
    columns = partial(summary_columns, model=choice.model, as_json=bool(schema), given_checks=given_checks)
    return ask(items, opened, requests, columns, checks)


def _none_given(video_path: str) -> str:
    return ""


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
        help="text, or a .txt file; {descriptions} is replaced by the frame captions, which are otherwise appended (default: the style's, in prompts/)",
    )
    parser.add_argument(
        "--captions_from",
        metavar="PATH",
        help="captions made elsewhere, used instead of asking a model: a list (jsonl, csv, parquet) with video_path and caption or text, "
        "or a folder with one .txt per clip, named after it",
    )
    styles = [name for name in STYLES if name != "summary"]
    parser.add_argument(
        "--rewrite", choices=styles, default="summary", metavar="STYLE", help=f"caption style: {', '.join(styles)}"
    )
    parser.add_argument(
        "--max_words",
        type=at_least(1),
        help="maximum words per caption; a longer answer is retried once (default: the style's)",
    )
    parser.add_argument(
        "--over_length",
        choices=["cut", "error"],
        default="cut",
        help="if the retry is too long as well: cut it at the end of a sentence, or make it an error row",
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
        "--trigger_word",
        default="",
        metavar="TEXT",
        help="word prepended to every caption, unless the caption has it already",
    )
    parser.add_argument(
        "--caption_prefix", default="", metavar="TEXT", help="text added before every caption, after the trigger word"
    )
    parser.add_argument("--caption_suffix", default="", metavar="TEXT", help="text added after every caption")
    add_flags(parser, {"answers": AnswerOptions, **ENGINES})
    parser.set_defaults(max_new_tokens=512)
    args = parser.parse_args()
    refuse_server(args.summarizer, engine_server=args.engine_server, base_url=args.base_url)
    if not args.video_metadata_path:
        parser.error("--video_metadata_path is required: the result file of caption_video_frame.py")
    if args.append_attributes and args.rewrite == "json":
        parser.error("--append_attributes appends sentences, which cannot go into the JSON of --rewrite json")
    for name in ("trigger_word", "caption_prefix", "caption_suffix"):
        setattr(args, name, " ".join(getattr(args, name).split()))
        if getattr(args, name) and args.rewrite == "json":
            parser.error(f"--{name} adds text around captions, which cannot go into the JSON of --rewrite json")
    args.overwrite |= replaces_placeholders(args.saved_path, "summarizer", args.summarizer)
    finish, before = from_flags(Finish, args), {} if args.overwrite else settings_of(args.saved_path)
    begun = finish.settings(before)
    column, ranks = args.caption_column, None
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    given: Callable[[str], str] = _none_given
    if args.captions_from:
        with about("--captions_from"):
            given = GivenCaptions(args.captions_from, args.video_folder)
    of_caption = [name for name in args.answer_checks if name not in ("cut", "echo")]
    given_checks = checks_for(of_caption, max_words=args.max_words, shorten=False)

    def is_of_this_caption(results: list[dict]) -> bool:
        return results[0].get(GIVEN, "") == given(results[0]["video_path"])

    rows.change = partial(
        checked, list_path=args.video_metadata_path, column=column, summarizer=args.summarizer, given=given
    )
    if args.append_attributes and rows and not any(attribute_sentences(row.get("attributes") or {}) for row in rows):
        raise UsageError(
            f"--append_attributes: no row of {args.video_metadata_path} has a motion_score or camera_motion in its attributes"
        )
    summary_step = partial(
        Step, "summary", depends_on=(*CLIP_COLUMNS, column, "attributes"), opens_video=False,
        is_whole=is_of_this_caption, inputs=[args.captions_from] if args.captions_from and os.path.isfile(args.captions_from) else [],
        finish=partial(finish.row, is_done=any(begun.values())), done_word="summarized",
    )  # fmt: skip
    if args.summarizer not in ENGINES:
        read = partial(one_caption, column=column, summarizer=args.summarizer, given_checks=given_checks)
        step = summary_step(read, {"summarizer": args.summarizer, **begun, "version": 1})
    else:
        style = STYLES[args.rewrite]
        with about("--summary_prompt"):
            prompt = prompt_text(style.prompt if args.summary_prompt is None else args.summary_prompt)
            if args.summary_prompt is None and style.former:
                former = prompt_text(style.former)
                prompt = (
                    former
                    if setting_of_existing(args.saved_path, args.overwrite, "prompt", prompt) == former
                    else prompt
                )
        # The style's limit was written for the style's own prompt.
        max_words = args.max_words or (None if args.summary_prompt else style.max_words)
        choice = EngineChoice(
            args.summarizer,
            args.summary_model_name,
            from_flags(ENGINES[args.summarizer], args),
            with_existing_checks(from_flags(AnswerOptions, args), args.saved_path, args.overwrite),
            args.saved_path,
        )
        with about("--summary_model_name"):
            settings = {
                "summarizer": args.summarizer, **choice.settings(), "rewrite": args.rewrite, "prompt": prompt,
                "caption_column": column, "max_words": max_words, **begun, "version": 1,
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
            given_checks=given_checks,
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
