"""Checks of a model's answer: each returns None, or a `Rejection` with the reason."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

from utils.captioning.answer_text import CONTROL
from utils.captioning.chat import Answer, Check, Rejection, parse_json
from utils.captioning.refusals import LOOKED_AT, refuses, unquoted

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
PUNCTUATION = 20  # signs on end, blanks between them or not: more than any ellipsis, rule or row of stars
BLANKS = 100  # on end
COUNTED = 3  # times that a sentence comes with other numbers
COUNTED_WORDS, COUNTED_PHRASES = 4, 5  # of a phrase with a number in it, and how often it comes with other numbers
NUMBERS = 60  # on end: a month's days and a clock's hours are fewer
LONGEST_WORD = 200  # characters, of a script with blanks between words: a URL has fewer
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
    return Rejection("the answer was truncated at --max_new_tokens", fallback=kept if passes else None)


def refusal(answer: Answer) -> Rejection | None:
    """A refusal, a word that nothing was shown, or an error in place of a caption."""
    return Rejection("the answer is a refusal") if refuses(answer.text) else None


# What formats text, or a conversation, and is no part of it. A backquote, a brace or a colon may be: three in a row, a whole object, a role.
MARKUP = {
    "control tokens": CONTROL,
    "the turns of a conversation": re.compile(
        r"^assistant\s{0,3}\n|(?:^|\n)[#*\s]{0,9}(?:user|assistant|system|human|bot|gpt|instruction|response)[*\s]{0,9}[:：]|\b(?:ASSISTANT|USER):", re.IGNORECASE
    ),
    "tokens of a vocabulary": re.compile(r"[ĠĊ][A-Za-z,.]|▁\w{1,40}▁"),
    "a block of code": re.compile("```|~~~"),
    "LaTeX": re.compile(r"\\(?:boxed|text|textbf|mathrm|frac|begin|section|item|caption)\b|\$\$"),
    "HTML": re.compile(r"</?(?:p|div|br|b|i|u|strong|em|ul|ol|li|h[1-6]|span|html|body|head|script|img|a|table|tr|td|code|pre)\b[^<>]{0,200}>|<!doctype|&(?:nbsp|amp|lt|gt|quot);", re.IGNORECASE),
    "Markdown": re.compile(r"(?:^|\n)#{1,6} |\|[ :]?---|!\[[^\]\n]{0,99}\]\(|(?:^|\n)---+\s*\n"),
    "coordinates": re.compile(r"[(\[] ?\d{1,4}(?:\.\d{1,4})?(?:, ?\d{1,4}(?:\.\d{1,4})?){3} ?[)\]]|\(\d{1,4}, ?\d{1,4}\),? ?\(\d{1,4}, ?\d{1,4}\)"),
    "a template's blank": re.compile(r"\{\{|\}\}|\[(?:insert|describe|your|caption|description)\b[^\]\n]{0,60}\]|<(?:insert|your|description|subject)\b[^<>\n]{0,60}>|\{(?:caption|description|image|text|subject)\}", re.IGNORECASE),
    "data instead of text": re.compile(rf"data:\w+/|[!-~]{{{LONGEST_WORD}}}"),
}  # fmt: skip


def markup(answer: Answer, is_json: bool = False) -> Rejection | None:
    """Control tokens, the turns of a conversation, code, LaTeX, HTML, coordinates: text that nobody would train on. With `is_json`, of
    the values of the object that was asked for.
    """
    text = answer.text
    if text[:1] in ("{", "[") and not is_json and isinstance(parse_json(text), (dict, list)):
        return Rejection("the answer holds JSON")
    said = unquoted(text) if len(text) <= LOOKED_AT else text
    for what, pattern in MARKUP.items():
        if found := pattern.search(said if what in QUOTABLE else text):
            return Rejection(f"the answer holds {what} ({found[0].strip()[:40]!r})")
    return None


QUOTABLE = ("HTML", "a template's blank")  # what a sign or a screen may say


_EAST, _LATIN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2,}"), re.compile(r"[A-Za-z]{2,}")


def mixed(answer: Answer) -> Rejection | None:
    """A sentence that goes on in another language: Chinese, Japanese or Korean words in Latin text. Names in the former, and what is quoted,
    are no mixture: there must be two runs, one of 4 characters, and not many more characters than Latin words.
    """
    said = unquoted(answer.text)
    east, latin = _EAST.findall(said), len(_LATIN.findall(said))
    if len(east) < 2 or max(map(len, east)) < 4 or 1.5 * latin < sum(map(len, east)):
        return None
    return Rejection(f"the answer mixes languages ({east[0][:20]!r})")


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
    """Text that ends in a repeated unit of at most 400 characters: four times or more, over 40 characters or more; the same sentence twice,
    or three times with other numbers; the same phrase of 8 words three times; 20 punctuation marks, or 100 blanks, on end.
    """
    text = answer.text
    if _repeats(text) or _counts(text) or _SIGNS.search(text) or _ends_in_loop(text.rstrip(" \t\r\n.,;!?。，；！？")):
        return Rejection("the answer repeats itself")
    return None


_SIGNS = re.compile(rf"(?:[^\w\s]\s{{0,3}}){{{PUNCTUATION}}}|\s{{{BLANKS}}}")


def _repeats(text: str) -> bool:
    sentences = [tuple(_words(sentence)) for sentence in _ENDS.split(text)]
    twice = Counter(sentence for sentence in sentences if len(sentence) >= SENTENCE_WORDS)
    words = _words(text)
    phrases = Counter(tuple(words[at : at + PHRASE_WORDS]) for at in range(len(words) - PHRASE_WORDS + 1))
    return max(twice.values(), default=0) > 1 or max(phrases.values(), default=0) >= PHRASES


def _counts(text: str) -> bool:
    """Whether sentences or phrases come again and again with other numbers in them."""
    sentences = Counter(tuple(map(_without_number, _words(sentence))) for sentence in _ENDS.split(text))
    if any(count >= COUNTED and "0" in words and len(words) > 2 for words, count in sentences.items()):
        return True
    words = [_without_number(word) for word in _words(text)]
    phrases = Counter(tuple(words[at : at + COUNTED_WORDS]) for at in range(len(words) - COUNTED_WORDS + 1))
    for phrase, count in phrases.items():
        numbers = phrase.count("0")
        if numbers and count >= (COUNTED_PHRASES if numbers < COUNTED_WORDS - 1 else NUMBERS):
            return True
    return False


_SPELLED = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty"
_NUMBER = re.compile(
    rf"\W?\d[\d.,:/]*(?:st|nd|rd|th|s|%)?|{'|'.join(_SPELLED.split())}|[〇二三四五六七八九十百]", re.IGNORECASE
)


def _without_number(word: str) -> str:
    return "0" if _NUMBER.fullmatch(word) else word


def _ends_in_loop(text: str) -> bool:
    for period in range(1, min(LONGEST_LOOP, len(text) // 2) + 1):
        enough = max(LOOP_REPEATS * period, LOOP_CHARACTERS - period)
        if enough + period <= len(text) and text[-enough:] == text[-enough - period : -period]:
            return True
    return False


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
    counts = accumulate(count_words(text[begin:end]) for begin, end in zip([0, *ends], ends))
    fit = [end for end, count in zip(ends, counts) if LEAST_KEPT * max_words <= count <= max_words]
    return replace(answer, text=text[: fit[-1]].rstrip(), shortened_from=count_words(text)) if fit else None


_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def count_words(text: str) -> int:
    """Words between spaces; each Chinese or Japanese character is one."""
    return sum(any(map(str.isalnum, word)) for word in _WORD.findall(text))


def _words(text: str) -> list[str]:
    """`count_words`' words in lower case, without the punctuation around them."""
    found = (_BARE.search(word) for word in _WORD.findall(text.lower()))
    return [word[0] for word in found if word]


_BARE = re.compile(r"\w(?:.*\w)?")


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
    "markup": markup,
    "mixed": mixed,
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
    every["markup"] = partial(markup, is_json=bool(schema))
    chosen = [every[name] for name in names if name != "cut"]
    if schema:
        chosen.append(partial(not_json, schema=schema))
    if "cut" in names:  # first: what was cut in its reasoning is empty, too
        chosen.insert(0, partial(cut, max_words=max_words if shorten else None, others=tuple(chosen)))
    if max_words:  # last: what it shortens has passed the others
        chosen.append(partial(too_long, max_words=max_words, shorten=shorten))
    return chosen
