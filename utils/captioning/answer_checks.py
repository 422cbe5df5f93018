"""Checks of a model's answer: each gives None, or what is `Rejection` with it."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from utils.captioning.chat import Answer, Check, Rejection, parse_json

# How refusals begin; the apostrophe may be curly.
REFUSAL = re.compile(
    r"\W*(i['’]?m (very |really )?sorry\b|i am sorry\b|sorry,|i apologi[sz]e\b|i can(['’]t|not) (assist|help|provide|see|view|describe|fulfil)"
    r"|i['’]m (unable|not able) to|i am (unable|not able) to|unfortunately, i|as an ai\b|抱歉|对不起|很抱歉|我无法|作为(一个)?(ai|人工智能))",
    re.IGNORECASE,
)
# Words of the task, which no clip holds. Narrow on purpose: a caption may tell of somebody who writes a caption.
_TASK = r"(captions?|summar(y|ies)|descriptions?|prompts?|instructions?|rewrit(e|ten|ing))"
TALK = re.compile(
    r"\b("
    # about itself and what it was told
    r"i(['’]ve| have)? (been |was )?(instructed|asked|told|tasked|required) to|i(['’]ll| will| can| would) (be )?(happy |glad )?(to )?(help|assist|provide|rewrite|summari[sz]e)"
    r"|(is|are) there anything else|let me know|feel free to|i hope (this|that)|please (provide|note|share|let)|as (you )?requested"
    # about the answer and its length
    rf"|(has|contains|is) \d+ words|this is (a|an|the) {_TASK}"
    rf"|here(['’]s| is| are)( a| an| the| your| my| one)?( possible| revised| short| brief| concise| single)? {_TASK}|(this|my|the following) (caption|summary|rewrite)\b|word (count|limit)"
    r"|(in|at most|less than|under|within|of|exactly|than) \d+ words|\d+ words or (less|fewer)|(one|a single) (caption|paragraph) of"
    # about what it was given
    rf"|(the|this|these|your) {_TASK} (above|below)|(above|provided|given|following|original) {_TASK}|{_TASK} of (the |a |its |one |these |single )*(frames?|images?|videos?|clips?)\b"
    rf"|frames? of (one|a|the) video|(ends|concludes|begins|starts|opens) with (a|the) {_TASK}|(titled|called|says) [\"“']?in this video"
    r")",
    re.IGNORECASE,
)
TALK_BEGINS = re.compile(
    rf"\W*((sure|certainly|of course|okay|ok|absolutely)[,.!:]|title:|{_TASK} ?(\d+ ?)?:|answer:|note:|好的|当然|以下是|根据(以上|上述|您|你|提供)|我(会|将|来)|标题：|描述：|说明：)",
    re.IGNORECASE,
)
LOOP_REPEATS, LOOP_CHARACTERS, LONGEST_LOOP = 3, 40, 400
SENTENCE_WORDS = 4  # a shorter sentence may come twice: "No. No."
PHRASE_WORDS, PHRASES = 8, 3  # of a phrase that comes so often
ECHO_WORDS, ECHO_CHARACTERS = 6, 24  # a Chinese or Japanese character counts for two
LEAST_KEPT = 0.25  # of the words that a caption may have, for one that is cut
_ENDS = re.compile(r"(?<=[.!?…])[\"”’')\]]*\s+|(?<=[。！？])|\n+")  # of sentences


def empty(answer: Answer) -> Rejection | None:
    return None if any(c.isalnum() for c in answer.text) else Rejection("the answer is empty")


def cut(answer: Answer, max_words: int | None = None, others: Sequence[Check] = ()) -> Rejection | None:
    """An answer that reached --max_new_tokens; its first sentences, `max_words` at most, are kept where the second try does so,
    too, and the `others` among the checks let them pass.
    """
    if not answer.cut:
        return None
    kept = shortened(answer, max_words) if max_words else None
    passes = kept and not any(check(kept) for check in others)
    return Rejection("the answer was cut at --max_new_tokens", fallback=kept if passes else None)


def refusal(answer: Answer) -> Rejection | None:
    return Rejection("the answer is a refusal") if REFUSAL.match(answer.text) else None


def talk(answer: Answer) -> Rejection | None:
    """Words about the task in place of, or beside, the caption."""
    found = TALK_BEGINS.match(answer.text) or TALK.search(answer.text)
    return Rejection(f"the answer talks about the task ({found[0].strip()!r})") if found else None


def echo(answer: Answer, prompt: str) -> Rejection | None:
    """A run of words that the answer shares with the prompt, which is without the texts that it is about."""
    asked = f" {' '.join(_words(prompt))} "
    said = _words(answer.text)
    for at in range(len(said) - ECHO_WORDS + 1):
        run = said[at : at + ECHO_WORDS]
        while f" {' '.join(run)} " in asked:
            if sum(map(_width, run)) >= ECHO_CHARACTERS:
                return Rejection(f"the answer repeats the prompt ({' '.join(run)!r})")
            if at + len(run) == len(said):
                break
            run = said[at : at + len(run) + 1]
    return None


def loop(answer: Answer) -> Rejection | None:
    """Text that ends in a repeated unit of at most 400 characters: four times or more, over 40 characters or more; the
    same sentence twice; or the same phrase of 8 words three times.
    """
    sentences = [tuple(_words(sentence)) for sentence in _ENDS.split(answer.text)]
    twice = Counter(sentence for sentence in sentences if len(sentence) >= SENTENCE_WORDS)
    words = _words(answer.text)
    phrases = Counter(tuple(words[at : at + PHRASE_WORDS]) for at in range(len(words) - PHRASE_WORDS + 1))
    if max(twice.values(), default=0) > 1 or max(phrases.values(), default=0) >= PHRASES:
        return Rejection("the answer repeats itself")
    text = re.sub(r"[\s.,;!?。，；！？]+$", "", answer.text)
    for period in range(1, min(LONGEST_LOOP, len(text) // 2) + 1):
        same = 0
        while same + period < len(text) and text[-1 - same] == text[-1 - same - period]:
            same += 1
        if same >= LOOP_REPEATS * period and same + period >= LOOP_CHARACTERS:
            return Rejection("the answer repeats itself")
    return None


def too_long(answer: Answer, max_words: int, shorten: bool = True) -> Rejection | None:
    """More than `max_words` words; of text without spaces (Chinese, Japanese), characters. With `shorten`, the answer's
    first sentences are kept where a second try is no better.
    """
    count = count_words(answer.text)
    if count <= max_words:
        return None
    return Rejection(
        f"the answer has {count} words, and the maximum is {max_words}",
        f"That has {count} words. Say it in at most {max_words} words.",
        shortened(answer, max_words) if shorten else None,
    )


def shortened(answer: Answer, max_words: int) -> Answer | None:
    """The longest beginning of at most `max_words` words that ends with a sentence, or in a list, which has none, before a
    comma; None where that leaves less than a quarter of them.
    """
    text = answer.text
    ends = [found.start() for found in _ENDS.finditer(text)] or [
        found.start() for found in re.finditer("[,，、;；]", text)
    ]
    cuts = (text[:end].rstrip() for end in reversed(ends))
    kept = next((kept for kept in cuts if LEAST_KEPT * max_words <= count_words(kept) <= max_words), None)
    return replace(answer, text=kept, shortened_from=count_words(text)) if kept else None


_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def count_words(text: str) -> int:
    """Words between spaces; each Chinese or Japanese character is one."""
    return sum(any(map(str.isalnum, word)) for word in _WORD.findall(text))


def _words(text: str) -> list[str]:
    """`count_words`' words in lower case, without the punctuation around them."""
    bare = (re.sub(r"^\W+|\W+$", "", word.lower()) for word in _WORD.findall(text))
    return [word for word in bare if word]


def _width(word: str) -> int:
    return 2 if re.fullmatch(r"[\u3040-\u30ff\u3400-\u9fff]", word) else len(word)


def not_json(answer: Answer, schema: dict) -> Rejection | None:
    """Anything but an object with the keys that `schema` requires."""
    found = parse_json(answer.text)
    whole = isinstance(found, dict) and found.keys() >= set(schema.get("required", ()))
    return None if whole else Rejection("the answer is not a JSON object with the required keys")


CHECKS: dict[str, Check] = {
    "cut": cut,
    "empty": empty,
    "refusal": refusal,
    "loop": loop,
    "talk": talk,
    "echo": partial(echo, prompt=""),
}


def checks_for(
    names: Sequence[str],
    prompt: str = "",
    max_words: int | None = None,
    schema: dict | None = None,
    shorten: bool = True,
) -> list[Check]:
    """The checks with these names, and those that the style of caption needs."""
    every: dict[str, Check] = {**CHECKS, "echo": partial(echo, prompt=prompt)}
    chosen = [every[name] for name in names if name != "cut"]
    if schema:
        chosen.append(partial(not_json, schema=schema))
    if "cut" in names:  # first: what was cut in its reasoning is empty, too
        chosen.insert(0, partial(cut, max_words=max_words if shorten else None, others=tuple(chosen)))
    if max_words:  # last: what it shortens has passed the others
        chosen.append(partial(too_long, max_words=max_words, shorten=shorten))
    return chosen
