"""Questions to models that answer in text, on any engine: the requests of a row, their answers, and the second try after a
bad one.

An engine has three methods. `room()` is true while it wants another request; `submit(request)` takes one; `finished()`
works for a moment and gives (request, `Answer` or `Failure`) for those that have ended, in any order. The request itself
comes back with its answer, so no answer can go to another clip. It may have `control_tokens`, the model's own, which no answer holds.
"""

import json
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from utils.captioning.answer_text import MAX_CHARACTERS, answer_text, own_token
from utils.errors import Failure

RETRY_TEMPERATURE = 0.7  # of the second try, where the first was greedy
IDLE_SECONDS = 0.005  # between two looks for rows, while there is nothing to ask


@dataclass(frozen=True)
class Sampling:
    """How an answer is sampled: greedily at `temperature` 0. `schema`: the JSON schema that guided decoding keeps to. `alternatives`: of
    each token so many of the likeliest in its place, where the engine can give them.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    schema: dict | None = None
    alternatives: int = 0


@dataclass(frozen=True)
class Sound:
    """A WAV file, as a part of a request to an engine whose options say that it `hears`."""

    wav: bytes


@dataclass(frozen=True)
class Request:
    """One question about the clip `key`, its `index`-th.

    `content`: a list of texts (str) and images, as the engine takes them: uint8 arrays (H, W, 3), RGB, or JPEG files
    (bytes) for a server. `earlier`: rejected answers, each with the message to the model that follows it. `fallback`: what
    is kept where the second try is no better.
    """

    key: str
    index: int
    content: Sequence[Any]
    sampling: Sampling
    earlier: tuple[tuple[str, str], ...] = ()
    tries: int = 1
    fallback: "Answer | None" = None

    def seed(self) -> int:
        """A seed for this request alone, independent of the order and number of requests."""
        return zlib.crc32(f"{self.sampling.seed} {self.index} {self.tries} {self.key}".encode(errors="surrogateescape"))


@dataclass(frozen=True)
class Answer:
    """`text` as the model gave it, of so many `tokens`; `cut` where it reached `max_new_tokens`. `shortened_from`: the number
    of words that it had, where a check has shortened it. `alternatives`: of each token its text, and the likeliest in its place with
    their probabilities, where they were asked for and the engine gives them.
    """

    text: str
    cut: bool = False
    tokens: int = 0
    shortened_from: int | None = None
    alternatives: Sequence[tuple[str, Mapping[str, float]]] = ()


class Engine(Protocol):
    """A model that answers."""

    def room(self) -> bool: ...
    def submit(self, request: Request) -> None: ...
    def finished(self) -> Iterable[tuple[Request, Answer | Failure]]: ...


@dataclass(frozen=True)
class Rejection:
    """Why an answer is rejected; where that can help, a `message` to the model; and what can be kept of it if need be."""

    reason: str
    message: str | None = None
    fallback: Answer | None = None


Check = Callable[[Answer], Rejection | None]  # None for a good answer


@dataclass
class PendingRow:
    """A row with requests that the engine has yet to answer, `unanswered` of them."""

    row: dict
    got: Any
    unanswered: int
    answers: dict[int, Answer] = field(default_factory=dict)
    failure: Failure | None = None

    def take(
        self, request: Request, answer: Answer | Failure, checks: Sequence[Check], tokens: Collection[str]
    ) -> Request | None:
        """Keep the answer to one of the row's requests, or give the request to ask in its place."""
        if isinstance(answer, Answer):
            answer = replace(answer, text=answer_text(answer.text, tokens))
            checks = [can_be_checked, partial(no_control_token, tokens=tokens), *checks]
            outcome = _checked(request, answer, checks)
            if isinstance(outcome, Request):
                if not self.failure:
                    return outcome
            else:
                answer = outcome
        self.unanswered -= 1
        if isinstance(answer, Failure):
            self.failure = self.failure or answer
        else:
            self.answers[request.index] = answer
        return None


def ask(
    items: Iterable[tuple[dict, Any] | None],
    engine: Engine,
    requests: Callable[[dict, Any], list[Request]],
    columns: Callable[[dict, Any, list[Answer]], dict | Failure],
    checks: Sequence[Check] | Callable[[Request], Sequence[Check]],
) -> Iterator[tuple[dict, dict | Failure]]:
    """Each row of a `process_rows` stream with the columns that the model's answers give.

    `requests(row, got)` are the questions about a row, `got` what was read of it; `columns(row, got, answers)` is what is
    saved, `answers` in the order of the requests; a row without a request has its columns at once. `checks` are those of all answers, or a function of the request.

    An answer that a check rejects is asked for once more with other sampling. A row is a `Failure` when one of its
    requests fails or has a second bad answer.
    """
    stream, more = iter(items), True
    asked: dict[str, PendingRow] = {}
    tokens: Collection[str] = getattr(engine, "control_tokens", frozenset())
    while more or asked:
        while more and engine.room():
            try:
                item = next(stream)
            except StopIteration:
                more = False
                break
            if item is None:  # nothing read yet: the engine goes on with what it has
                break
            row, got = item
            if isinstance(got, Failure):
                yield row, got
                continue
            questions = requests(row, got)
            if not questions:
                yield row, columns(row, got, [])
                continue
            asked[row["video_path"]] = PendingRow(row, got, len(questions))
            for question in questions:
                engine.submit(question)
        if not asked:
            time.sleep(IDLE_SECONDS)
            continue
        for request, answer in engine.finished():
            one = asked[request.key]
            of_request = checks(request) if callable(checks) else checks
            if again := one.take(request, answer, of_request, tokens):
                engine.submit(again)
            elif not one.unanswered:
                del asked[request.key]
                answers = [answer for _, answer in sorted(one.answers.items())]
                yield one.row, one.failure or columns(one.row, one.got, answers)


def can_be_checked(answer: Answer) -> Rejection | None:
    """First of all checks: what is larger than any caption is refused before a pattern looks at it."""
    is_small = len(answer.text) <= MAX_CHARACTERS
    return None if is_small else Rejection(f"the answer has more than {MAX_CHARACTERS:,} characters")


def no_control_token(answer: Answer, tokens: Collection[str]) -> Rejection | None:
    """`tokens`: the model's own."""
    token = own_token(answer.text, tokens)
    return Rejection(f"the answer holds a control token of the model ({token!r})") if token else None


def _checked(request: Request, answer: Answer, checks: Sequence[Check]) -> Request | Answer | Failure:
    """A good answer itself; for a bad one the request to ask next, or where that was the second, what is kept, or the failure."""
    wrong = next(filter(None, (check(answer) for check in checks)), None)
    if wrong is None:
        return answer
    fallback = wrong.fallback or request.fallback
    if request.tries > 1:
        reason = f"{wrong.reason}, and the first try was rejected too; it begins {answer.text[:80]!r}"
        return fallback or Failure("BadAnswer", reason)
    warmer = max(request.sampling.temperature, RETRY_TEMPERATURE)
    return replace(
        request,
        sampling=replace(request.sampling, temperature=warmer),
        earlier=((answer.text, wrong.message),) if wrong.message else (),
        tries=request.tries + 1,
        fallback=fallback,
    )


def messages(request: Request, image_part: Callable[[Any], dict], always_parts: bool = False) -> list[dict]:
    """The request as a chat in OpenAI's form; `image_part(image)` is the part of a message for an image, or for a sound.

    A message without images is a plain string, which every server and template takes; with `always_parts` a list of one
    part, which the templates of vision-language models want.
    """
    chat = [("user", request.content)]
    for answer, message in request.earlier:
        chat += [("assistant", [answer]), ("user", [message])]

    def content(parts: Sequence[Any]) -> str | list[dict]:
        if not always_parts and all(isinstance(part, str) for part in parts):
            return "\n".join(parts)
        return [{"type": "text", "text": part} if isinstance(part, str) else image_part(part) for part in parts]

    return [{"role": role, "content": content(parts)} for role, parts in chat]


def parse_json(text: str) -> Any:
    """The value that `text` holds; None for what is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the latter of [[[[…
        return None


def object_in(text: str) -> dict:
    """The JSON object in an answer, also of a server that ignores the schema and puts words or a fence around it; {} without one."""
    found = parse_json(text[text.find("{") : text.rfind("}") + 1])
    return found if isinstance(found, dict) else {}
