"""The text of an answer without reasoning and surrounding control tokens, limited to a size that checks can handle."""

import re
from collections.abc import Collection

MAX_CHARACTERS = 100_000  # of an answer without its reasoning; a caption of 10,000 words has 90,000

# What ends the reasoning of models, of several kinds; some templates open it in the question.
REASONED = ("</think>", "</thinking>", "</seed:think>", "◁/think▷", "[/THINK]", "<|channel|>final<|message|>")
REASONS = (
    "<think>",
    "<thinking>",
    "<seed:think>",
    "◁think▷",
    "[THINK]",
    "<|channel|>analysis",
)  # and its beginning, without an end
# What ends a turn; a server that decodes them, or does not stop at them, gives what would be the next turn, too.
ENDS = ("<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eot|>", "<|end|>", "<|return|>", "<|eom_id|>", "<|endofassistant|>",
        "<end_of_turn>", "<end_of_utterance>", "<turn|>", "</s>", "<eos>", "<|eos|>", "<｜end▁of▁sentence｜>", "[/s]", "<eoa>", "<|endofsequence|>",
        "<|END_OF_TURN_TOKEN|>", "<|end_of_turn|>", "<|EOT|>")  # fmt: skip
# What is no end and stands around text: any <|name|>, DeepSeek's, and the names of the rest. None of them is a word of a caption.
CONTROL = re.compile(
    r"<\|[^\s<>|]{1,40}\|?>|<[^\s<>|]{1,40}\|>|<｜[^\s<>｜]{1,40}｜>|<0x[0-9A-Fa-f]{2}>|<</?SYS>>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|IMG)\]"
    r"|</?(?:s|unk|pad|bos|eos|mask|cls|sep|image|img|IMG_CONTEXT|video|frame|audio|box|ref|quad|poly|loc|seg|start_of_turn|end_of_turn|start_of_image|end_of_image"
    r"|image_soft_token|end_of_utterance|fake_token_around_image|global-img|image_placeholder|row_\d+_col_\d+|loc_?\d+|tool_call|tool_response|think|answer|caption"
    r"|reserved_?\d*|extra_id_\d+|unused\d+)>"
)
_BEGINS = re.compile(rf"\s*(?:{CONTROL.pattern})(?:\s*(?:assistant|model)\s*\n)?")
LONGEST = 100  # characters of a token and the blanks after it
_MARKUP = r"([<\[][^\s<>\[\]]{1,60}[>\]])"  # of a tokenizer's added tokens, those that no text has; others are words, or blanks
_TOKEN, _TOKEN_AT_END = re.compile(_MARKUP), re.compile(rf"{_MARKUP}\s*\Z")
_BLANKS = re.compile(r"\s*")
# Not to be seen, and in the way of whoever compares or stores text: C0 and C1 but for tab, newline, carriage return and NEL; the zero-width
# space, the word joiner, the byte order mark, and the marks of direction. Zero-width joiners make emoji and Persian words.
UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_END = re.compile("|".join(map(re.escape, ENDS)), re.IGNORECASE)


def markup_tokens(names: Collection[str]) -> frozenset[str]:
    """Of the added tokens of a tokenizer, those that stand around text."""
    return frozenset(name for name in names if re.fullmatch(_MARKUP, name))


def answer_text(text: str, tokens: Collection[str] = ()) -> str:
    """What a model has answered in `text`, as it came.

    Taken off are the reasoning before it; what comes from the end of its turn on; control tokens at both ends, `tokens` being the model's
    own; characters that cannot be seen; the half character that streaming servers may leave at the end; and blank ends. Control tokens in
    the middle stay, for a check to find. Of what is longer than `MAX_CHARACTERS` so much and one more, as it came.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    for mark in REASONED:
        text = text.rpartition(mark)[2]
    text = text.strip()
    if text.startswith(REASONS):
        return ""
    if len(text) > MAX_CHARACTERS:
        return text[: MAX_CHARACTERS + 1]
    at = 0
    while found := _BEGINS.match(text, at) or _own_token(text, at, tokens):
        at = found.end()
    end = found.start() if (found := _END.search(text, at)) else len(text)
    while found := _TOKEN_AT_END.search(text, max(at, end - LONGEST), end):
        if not (CONTROL.fullmatch(found[1]) or found[1] in tokens):
            break
        end = found.start()
    return UNSEEN.sub("", text[at:end]).strip()


def training_text(text: str) -> str:
    """A caption, of whatever origin, as it may go into a training set: without control tokens, which a trainer's tokenizer would take for its
    own, wherever they are, and without characters that cannot be seen. As it is where it has none.
    """
    if not (CONTROL.search(text) or UNSEEN.search(text)):
        return text
    return re.sub(" {2,}", " ", CONTROL.sub(" ", answer_text(text))).strip()


def _own_token(text: str, at: int, tokens: Collection[str]) -> re.Match | None:
    found = _TOKEN.match(text, _BLANKS.match(text, at).end())  # type: ignore[union-attr]
    return found if found and found[1] in tokens else None


def own_token(text: str, tokens: Collection[str]) -> str:
    """The first of the model's own control tokens in an answer; "" where there is none."""
    return next((found[1] for found in _TOKEN.finditer(text) if found[1] in tokens), "") if tokens else ""
