"""Ask a vision-language model (VLM) questions about each clip; each answer is a column, to filter by like any other score.

Columns added: one for each question of --questions, 0–1, the probability that the model answers yes, if the engine returns token
probabilities (transformers, vllm, servers with logprobs), else 0 or 1; for a question with choices, the chosen one; sample_frame_idx; with
--crop_boxes, measured_in, the region that the model was shown.

    python compute_vlm_score.py --video_folder CLIPS --questions overlays --captioner transformers --image_caption_model_name Qwen2.5-VL-7B
    python compute_vlm_score.py --video_metadata_path clips.jsonl --video_folder CLIPS --questions my_questions.txt --together \\
        --captioner openai --base_url http://localhost:8000/v1 --image_caption_model_name Qwen3-VL-8B
    torchrun --nproc_per_node 8 compute_vlm_score.py --video_folder CLIPS --questions content --captioner vllm

--questions is a set in prompts/questions (overlays, defects, content, unsafe, caption_match) or a file: JSON Lines, {"column": "logo", "question": "Is there a
logo?", "passes": [null, 0.5]}, or a .txt with one question per line. --together asks all of them in one request, as JSON by guided decoding.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from utils.captioning import question_sets as sets
from utils.captioning.chat import Answer, Check, Engine, Request, ask
from utils.captioning.engine_choice import AnswerOptions, EngineChoice
from utils.captioning.engines import ENGINES
from utils.captioning.engines.openai_engine import refuse_server
from utils.captioning.frames import read_images, with_times
from utils.captioning.question_sets import Question
from utils.captioning.sight import SightCheck
from utils.cli import (
    about,
    add_crop_argument,
    add_filter_arguments,
    add_flags,
    add_sampling_arguments,
    at_least,
    filters_of,
    from_flags,
    row_parser,
    run,
)
from utils.errors import UsageError
from utils.pipeline.ancestry import CLIP_COLUMNS
from utils.pipeline.crops import CropBoxes, measured_in
from utils.pipeline.filters import passing_rows
from utils.pipeline.process import RunOptions, Stream, prefetch, process_rows
from utils.pipeline.row_list import open_rows
from utils.pipeline.score import Column, OnDemand, Score
from utils.video.sampling import FrameSampling
from utils.workers.ranks import Ranks

# Of the sets that come with it; a file of yours declares its own columns.
SCORE = Score(
    "vlm",
    "vlm_score.jsonl",
    {one.column: one.declared() for path in sorted(sets.SETS.glob("*.jsonl")) for one in sets.read_questions(str(path))}
    | {"sample_frame_idx": Column("indices of the frames that the model was shown, a list", 0)},
)


@dataclass(frozen=True)
class Asking:
    """Which questions are put to the model about each clip, and how."""

    questions: Sequence[Question]
    together: bool
    choice: EngineChoice
    caption_column: str

    def requests(self, row: dict, got: dict) -> list[Request]:
        """One with all questions, or one for each, after the clip's frames with their times."""
        key, shown, caption = row["video_path"], with_times(got), str(row.get(self.caption_column))
        if self.together:
            sampling = replace(self.choice.sampling(sets.schema(self.questions)), alternatives=sets.ALTERNATIVES)
            return [Request(key, 0, [*shown, sets.together(self.questions).replace(sets.CAPTION, caption)], sampling)]
        sampling = replace(self.choice.sampling(), alternatives=sets.ALTERNATIVES)
        texts = [sets.alone(one).replace(sets.CAPTION, caption) for one in self.questions]
        return [Request(key, i, [*shown, text], sampling) for i, text in enumerate(texts)]

    def checks(self, request: Request) -> list[Check]:
        if self.together:
            return [partial(sets.check_together, questions=self.questions)]
        return [partial(sets.check_alone, question=self.questions[request.index])]

    def columns(self, row: dict, got: dict, answers: list[Answer]) -> dict:
        if self.together:
            values = sets.values_together(answers[0], self.questions)
        else:
            values = {
                one.column: sets.value_alone(answer, one) for one, answer in zip(self.questions, answers, strict=True)
            }
        return {**values, "sample_frame_idx": got["indices"], **measured_in(row)}


def with_captions(row: dict, columns: Sequence[str]) -> dict:
    """The row. Raises: `UsageError` where it has no text in one of the columns."""
    for column in columns:
        if not isinstance(row.get(column), str):
            raise UsageError(
                f"{row['video_path']}: {column} is {row.get(column)!r}, not the text that {sets.CAPTION} stands for"
            )
    return row


def answers(items: Stream, asking: Asking, engine: OnDemand[Engine], sight_check: SightCheck) -> Stream:
    """`Step.score`: called where rows are due, so a run with nothing left to do loads no model."""
    items = prefetch(items)
    with about("--image_caption_model_name"):
        opened = engine()
        sight_check(opened, asking.choice)
    return ask(items, opened, asking.requests, asking.columns, asking.checks)


def main() -> None:
    parser = row_parser(__doc__, SCORE.saved_path)
    parser.add_argument(
        "--questions",
        required=True,
        metavar="FILE",
        help="a file of questions, or the name of a set in prompts/questions",
    )
    parser.add_argument("--together", action="store_true", help="ask all questions in one request, answered as JSON")
    parser.add_argument("--captioner", choices=list(ENGINES), default="transformers", help="inference engine")
    parser.add_argument(
        "--image_caption_model_name",
        default="Qwen2.5-VL-7B",
        help="short name from docs/captions.md, hub id, local folder, or the server's name for it",
    )
    parser.add_argument(
        "--caption_column", default="summary_caption", help="column whose text replaces {caption} in a question"
    )
    add_sampling_arguments(parser, ["uniform", "mid", "first", "last", "keyframe"], "uniform", 4)
    parser.add_argument(
        "--max_pixels",
        type=at_least(28 * 28),
        default=1280 * 28 * 28,
        help="maximum pixels per image; larger ones are downscaled",
    )
    add_crop_argument(parser)
    add_filter_arguments(parser, motion=True)
    add_flags(parser, {"answers": AnswerOptions, "sight": SightCheck, **ENGINES})
    args = parser.parse_args()
    refuse_server(args.captioner, engine_server=args.engine_server, base_url=args.base_url)
    with about("--questions"):
        questions = sets.read_questions(args.questions)
    filters = filters_of(args)
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    captions = [args.caption_column] if any(sets.CAPTION in one.question for one in questions) else []
    boxes = CropBoxes(args.crop_boxes, args.video_folder)
    rows.change = lambda row: {**with_captions(row, captions), "crop_box": boxes.of(row["video_path"])}
    frame_sampling, ranks = from_flags(FrameSampling, args), Ranks()
    choice = EngineChoice(
        args.captioner,
        args.image_caption_model_name,
        from_flags(ENGINES[args.captioner], args),
        from_flags(AnswerOptions, args),
        args.saved_path,
        images=args.num_sampled_frames,
    )
    with about("--image_caption_model_name"):
        settings = {name: value for name, value in choice.settings().items() if name != "answer_checks"}
    settings |= {
        "questions": [one.settings for one in questions], "together": args.together, **frame_sampling.settings,
        "max_pixels": args.max_pixels,
    }  # fmt: skip
    read = partial(
        read_images, video_folder=args.video_folder, frame_sampling=frame_sampling, max_pixels=args.max_pixels,
        as_jpeg=choice.options.jpeg, box_column="crop_box",
    )  # fmt: skip
    score = partial(
        answers, asking=Asking(questions, args.together, choice, args.caption_column), engine=OnDemand(partial(choice.open, ranks)),
        sight_check=from_flags(SightCheck, args),
    )  # fmt: skip
    step = SCORE.step(
        read, settings, score, patience=0, is_whole=boxes.is_of_box, passing=passing_rows(rows, filters),
        inputs=[*(f.file for f in filters), *boxes.inputs], done_word="asked about",
        depends_on=(*CLIP_COLUMNS, *captions), gpus=getattr(choice.options, "tensor_parallel_size", 1),
    )  # fmt: skip
    process_rows(step, rows, from_flags(RunOptions, args), ranks)


if __name__ == "__main__":
    run(main)
