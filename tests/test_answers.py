"""No answer that is not a caption becomes one: what models say in place of captions, captions that look alike, and answers of any size.

tests/answers/ has a text a line, "\\n" for a line's end in it: no_captions.txt is refused, captions.txt is kept.
"""

import itertools
import time

import pytest
from conftest import ROOT

from caption_summary import Finish
from utils.captioning.answer_checks import CHECKS, checks_for, too_long
from utils.captioning.answer_text import MAX_CHARACTERS, answer_text, markup_tokens, training_text
from utils.captioning.attributes import describe
from utils.captioning.chat import Answer, PendingRow, Request, Sampling
from utils.errors import Failure

PROMPT = "Describe this image in one paragraph of at most 80 words: the main subjects and what they do."
OWN = markup_tokens(["<grounding>", "<phrase>", "<|vision_start|>", "[BOX]", "the", "\n\n", "   "])


def lines(name: str) -> list[str]:
    texts = (ROOT / "tests" / "answers" / name).read_text(encoding="utf-8").splitlines()
    return [text.replace("\\n", "\n") for text in texts]


def kept(text: str, checks=None) -> str | Failure:
    """What becomes of an answer that a model gives twice."""
    row = PendingRow({}, None, 1)
    request = Request("a", 0, [PROMPT], Sampling(64))
    checks = checks_for(list(CHECKS), PROMPT) if checks is None else checks
    while request:
        request = row.take(request, Answer(text), checks, OWN)
    return row.failure or row.answers[0].text


@pytest.mark.parametrize("text", lines("no_captions.txt"))
def test_what_is_no_caption_is_refused(text):
    assert isinstance(kept(text), Failure)


@pytest.mark.parametrize("text", lines("captions.txt"))
def test_a_caption_that_looks_like_none_is_kept(text):
    assert kept(text) == text


def test_captions_of_other_origin_are_kept():
    """Of captions not two in 10,000 are refused: here, where no model is, a quarter of some 35,000 of measured values."""
    cameras = ["static", "handheld", "pan left", "tilt up", "zoom in", "pan right and zoom out", "roll clockwise", None]
    colours = ["green", "brown", "white", "black", "red", "blue"]
    values = itertools.product(
        cameras, (0.5, 3.0, 12.0, 30.0, 60.0), (0.01, 0.1, 0.3, 0.5, 0.7, 0.95), itertools.permutations(colours, 2),
        (0.0, 0.01, 0.2), (None, 3.0, 10.0),
    )  # fmt: skip
    names = ("camera_motion", "motion_score", "brightness", "main_colours", "text_score", "camera_pan")
    texts = sorted({describe(dict(zip(names, one))) for one in values})[::4]
    checks = checks_for(list(CHECKS), PROMPT)
    refused = [text for text in texts if any(check(Answer(text)) for check in checks)]
    assert len(texts) > 8_000 and len(refused) <= 2 * len(texts) / 10_000, refused[:9]


@pytest.mark.parametrize(
    ("came", "text"),
    [
        ("A brown dog runs.<|im_end|>\n<|endoftext|>", "A brown dog runs."),
        ("<|im_start|>assistant\nA brown dog runs.<|im_end|>\n<|im_start|>user\nWhat else?", "A brown dog runs."),
        ("<s> A brown dog runs.</s>", "A brown dog runs."),
        ("<answer>A brown dog runs.</answer>", "A brown dog runs."),
        ("<grounding>A brown dog runs. <phrase>", "A brown dog runs."),
        ("<think>So, a dog?</think>\n\nA brown dog runs.", "A brown dog runs."),
        ("◁think▷So, a dog?◁/think▷A brown dog runs.", "A brown dog runs."),
        ("<|channel|>analysis<|message|>A dog?<|end|><|start|>assistant<|channel|>final<|message|>A dog.<|return|>", "A dog."),
        ("A brown\x00 dog\u200b runs.\ufeff", "A brown dog runs."),
        ("A 👨‍👩‍👧 at home, می\u200cخواهم.", "A 👨‍👩‍👧 at home, می\u200cخواهم."),
        ("1 < 2, [music], a <b", "1 < 2, [music], a <b"),
        ("<think>So, a dog", ""),
        ("<|im_end|>", ""),
    ],
)  # fmt: skip
def test_what_is_around_an_answer_is_taken_off(came, text):
    assert answer_text(came, OWN) == text


def test_the_models_own_tokens_in_an_answer_are_refused_and_words_are_none():
    assert {"<grounding>", "<phrase>", "<|vision_start|>", "[BOX]"} == OWN
    failure = kept("A dog <phrase> runs.", [])
    assert "holds a control token of the model ('<phrase>')" in failure.message
    assert kept("A dog <sign> runs.", []) == "A dog <sign> runs."


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" A dog. ", " A dog. "),
        ("A dog runs.<|im_end|>\n<|endoftext|>", "A dog runs."),
        ("A dog <|box_start|> runs\x00.</s>", "A dog runs."),
        ("<s>A dog. [INST] Next", "A dog. Next"),
        ('He said "</script>" & left, 1 < 2.', 'He said "</script>" & left, 1 < 2.'),
    ],
)
def test_a_caption_goes_into_a_training_set_without_control_tokens(text, kept):
    assert training_text(text) == kept and Finish()(text, None) == kept


# Of each kind that made, or would make, a pattern look again and again at the same.
LARGE = [
    " " * 64_000, "a" + " " * 64_000 + "b", "\n" * 90_000, "a\n" * 45_000, "!" * 90_000, "a" + "!" * 90_000 + "a", "x. " * 30_000,
    "a " * 45_000, "“" * 90_000, '"' * 90_000, '."' * 45_000, "<p " * 30_000, "<s>" * 33_000, "A" + "<s>" * 33_000, "<" * 90_000,
    "[/INST" * 15_000, "<|" * 45_000, "1 " * 45_000, "1. " * 30_000, "[1," * 30_000, "(1," * 30_000, "ab" * 45_000, "Ġ" * 90_000,
    "▁" * 90_000, "i not " * 15_000, "i'm sorry " * 9_000, "the image that " * 6_000, "caption of the the " * 5_000, "{" * 90_000,
    "[" * 90_000, "`" * 90_000, "#" * 90_000, "#\n" * 40_000, " \n" * 45_000, "a," * 45_000, "- " * 45_000, "USER " * 18_000, "你" * 90_000,
    ("x" * 199 + " ") * 450, "\\boxed" * 15_000, "in 1111111111" * 7_000, "<think>" * 12_000, "</think>" * 250_000, "z" * 10_000_000,
]  # fmt: skip


@pytest.mark.parametrize("text", LARGE, ids=lambda text: repr(text[:12]))
def test_an_answer_of_any_kind_and_size_is_looked_at_in_a_moment(text):
    began = time.process_time()
    kept(text)
    answer = Answer(answer_text(text))
    if len(answer.text) <= MAX_CHARACTERS:
        too_long(answer, 100)
    assert time.process_time() - began < 2  # of a loaded machine; alone 0.3 at most


def test_an_answer_that_is_too_large_is_refused_before_any_check():
    def check(answer):
        raise AssertionError

    assert "has more than 100,000 characters" in kept("A dog runs. " * 10_000, [check]).message
