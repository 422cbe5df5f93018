"""Checks of a model's answer: each gives None, or what is wrong with it and the message to the model (None: ask again
without one).
"""

import re
from collections.abc import Sequence
from functools import partial

from utils.captioning.chat import Answer, Check, parse_json

# How refusals begin; the apostrophe may be curly.
REFUSAL = re.compile(
    r"\W*(i['’]?m (very |really )?sorry\b|i am sorry\b|sorry,|i apologi[sz]e\b|i can(['’]t|not) (assist|help|provide|see|view|describe|fulfil)"
    r"|i['’]m (unable|not able) to|i am (unable|not able) to|unfortunately, i|as an ai\b|抱歉|对不起|很抱歉|我无法|作为(一个)?(ai|人工智能))",
    re.IGNORECASE,
)
LOOP_REPEATS, LOOP_CHARACTERS, LONGEST_LOOP = 3, 40, 400


def empty(answer: Answer) -> tuple[str, None] | None:
    return None if any(c.isalnum() for c in answer.text) else ("the answer is empty", None)


def cut(answer: Answer) -> tuple[str, None] | None:
    return ("the answer was cut at --max_new_tokens", None) if answer.cut else None


def refusal(answer: Answer) -> tuple[str, None] | None:
    return ("the answer is a refusal", None) if REFUSAL.match(answer.text) else None


def loop(answer: Answer) -> tuple[str, None] | None:
    """Text that ends in a repeated unit of at most 400 characters: four times or more, over 40 characters or more."""
    text = re.sub(r"[\s.,;!?。，；！？]+$", "", answer.text)
    for period in range(1, min(LONGEST_LOOP, len(text) // 2) + 1):
        same = 0
        while same + period < len(text) and text[-1 - same] == text[-1 - same - period]:
            same += 1
        if same >= LOOP_REPEATS * period and same + period >= LOOP_CHARACTERS:
            return "the answer repeats itself", None
    return None


def too_long(answer: Answer, max_words: int) -> tuple[str, str] | None:
    """More than `max_words` words; of text without spaces (Chinese, Japanese), characters."""
    count = count_words(answer.text)
    if count <= max_words:
        return None
    return (
        f"the answer has {count} words, and the maximum is {max_words}",
        f"That has {count} words. Say it in at most {max_words} words.",
    )


def count_words(text: str) -> int:
    """Words between spaces; each Chinese or Japanese character is one."""
    return len(
        [
            w
            for w in re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+", text)
            if any(map(str.isalnum, w))
        ]
    )


def not_json(answer: Answer, schema: dict) -> tuple[str, None] | None:
    """Anything but an object with the keys that `schema` requires."""
    found = parse_json(answer.text)
    whole = isinstance(found, dict) and found.keys() >= set(schema.get("required", ()))
    return None if whole else ("the answer is not a JSON object with the required keys", None)


CHECKS = {"cut": cut, "empty": empty, "refusal": refusal, "loop": loop}


def checks_for(names: Sequence[str], max_words: int | None = None, schema: dict | None = None) -> list[Check]:
    """The checks with these names, and those that the style of caption needs."""
    chosen: list[Check] = [CHECKS[name] for name in names]
    if schema:
        chosen.append(partial(not_json, schema=schema))
    if max_words:
        chosen.append(partial(too_long, max_words=max_words))
    return chosen
