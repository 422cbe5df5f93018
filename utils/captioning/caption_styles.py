"""Several captions of a clip in one answer: short, long and tags, as a JSON object by guided decoding."""

from collections.abc import Sequence
from functools import partial

from utils.captioning.answer_checks import checks_for
from utils.captioning.chat import Answer, Check, Rejection, object_in
from utils.captioning.prompts import prompt_text

LENGTHS = {
    "short": 40,
    "long": 250,
    "tags": 60,
}  # the maximum of words: what prompts/styles.txt asks for, and some more
TOKENS = 512  # of an answer with all of them
PREFIX = "caption_"  # of the columns


def styles_prompt(styles: Sequence[str]) -> str:
    """prompts/styles.txt without the lines of other styles."""
    others = tuple(f'- "{style}"' for style in LENGTHS if style not in styles)
    return "\n".join(
        line for line in prompt_text("styles.txt").split("\n") if not others or not line.startswith(others)
    )


def styles_schema(styles: Sequence[str]) -> dict:
    texts = {style: {"type": "string"} for style in styles}
    return {"type": "object", "properties": texts, "required": list(styles), "additionalProperties": False}


def styles_checks(styles: Sequence[str], names: Sequence[str], prompt: str) -> list[Check]:
    """The checks `names` of each caption in the answer, and of their lengths; `cut` of the answer as a whole."""
    of_each = {
        style: checks_for([name for name in names if name != "cut"], prompt, LENGTHS[style], shorten=False)
        for style in styles
    }
    whole = checks_for([name for name in names if name == "cut"])
    return [*whole, partial(check_each, of_each=of_each)]


def check_each(answer: Answer, of_each: dict[str, list[Check]]) -> Rejection | None:
    captions = object_in(answer.text)
    for style, checks in of_each.items():
        caption = captions.get(style)
        if not isinstance(caption, str) or not caption.strip():
            return Rejection(f"the answer is not a JSON object with a text for {style}")
        if wrong := next(filter(None, (check(Answer(caption)) for check in checks)), None):
            return Rejection(f"{style}: {wrong.reason}")
    return None


def style_columns(answer: Answer, styles: Sequence[str]) -> dict[str, str]:
    """`caption_short` and its like, each on one line."""
    captions = object_in(answer.text)
    return {f"{PREFIX}{style}": " ".join(captions[style].split()) for style in styles}


def main_caption(columns: dict[str, str]) -> str:
    """The one that stands for the clip where a single caption is wanted: the long one, or else the first."""
    return columns.get(f"{PREFIX}long") or next(iter(columns.values()))
