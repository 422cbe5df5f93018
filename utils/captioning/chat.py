"""Questions to models that answer in words, whatever engine runs them: what is asked, whose answer comes back, whether
it is one, and what is done when it is not.

An engine has three methods. `room()` says whether it wants another request; `submit(request)` takes one;
`finished()` works for a moment and gives (request, `Answer` or `Failure`) of those that have ended, in any order. The
request itself comes back with its answer, so that no answer can go to another clip.
"""

import json
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from utils.errors import Failure

RETRY_TEMPERATURE = 0.7  # of the second try, where the first was greedy
IDLE_SECONDS = 0.005  # between two looks, while there is nothing to ask yet


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn: greedy at `temperature` 0; `schema`, a JSON schema that it must keep to."""

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    schema: dict | None = None


@dataclass(frozen=True)
class Request:
    """One question. `content`: a list of texts (str) and pictures, as the engine takes them: uint8 arrays (H, W, 3),
    or JPEG files (bytes) for a server.
    `earlier`: the answers to it that were no good, each with what is wrong, as told to the model.
    """

    key: str
    place: int
    content: Sequence[Any]
    sampling: Sampling
    earlier: tuple[tuple[str, str], ...] = ()
    tries: int = 1

    def seed(self) -> int:
        """A seed of this request's own, so that neither the order of the requests nor their number plays a part."""
        return zlib.crc32(f"{self.sampling.seed} {self.place} {self.tries} {self.key}".encode(errors="surrogateescape"))


@dataclass(frozen=True)
class Answer:
    """`text` as the model gave it; `cut` where the limit of tokens ended it; `tokens`, how many it has."""

    text: str
    cut: bool = False
    tokens: int = 0


class Engine(Protocol):
    """What runs a model."""

    def room(self) -> bool: ...
    def submit(self, request: Request) -> None: ...
    def finished(self) -> Iterable[tuple[Request, Answer | Failure]]: ...


# A check gives None for a good answer, else what is wrong with it and, where the model can be told, what to tell it.
Check = Callable[[Answer], tuple[str, str | None] | None]


@dataclass
class Asked:
    """A row whose questions are with the engine."""

    row: dict
    got: Any
    texts: dict[int, str] = field(default_factory=dict)
    open: int = 0
    failure: Failure | None = None


def ask(
    items: Iterable[tuple[dict, Any] | None],
    engine: Engine,
    requests: Callable[[dict, Any], list[Request]],
    columns: Callable[[dict, Any, list[str]], dict],
    checks: Sequence[Check],
) -> Iterator[tuple[dict, dict | Failure]]:
    """The stream of rows of `process_rows`, asked: `requests(row, what was read)` are a row's questions, with keys of
    their own; `columns(row, what was read, answers in the requests' order)` are what is saved.

    An answer that a check refuses is asked for once more with other sampling. A row with a request that failed, or
    whose second answer is refused too, is a `Failure` that says why.
    """
    items, more = iter(items), True
    asked: dict[str, Asked] = {}
    while more or asked:
        while more and engine.room():
            item = next(items, items)
            if item is items:
                more = False
            elif item is None:  # nothing read yet: the engine goes on with what it has
                break
            elif isinstance(item[1], Failure):
                yield item
            else:
                row, got = item
                questions = requests(row, got)
                asked[row["video_path"]] = Asked(row, got, open=len(questions))
                for question in questions:
                    engine.submit(question)
        if not asked:
            time.sleep(IDLE_SECONDS)
            continue
        for request, answer in engine.finished():
            one = asked[request.key]
            if isinstance(answer, Answer):
                answer = replace(answer, text=strip_reasoning(answer.text))
                again = _second_try(request, answer, checks)
                if isinstance(again, Request) and not one.failure:
                    engine.submit(again)
                    continue
                answer = again if isinstance(again, Failure) else answer
            one.open -= 1
            if isinstance(answer, Failure):
                one.failure = one.failure or answer
            else:
                one.texts[request.place] = answer.text
            if not one.open:
                del asked[request.key]
                texts = [one.texts[place] for place in sorted(one.texts)]
                yield one.row, one.failure or columns(one.row, one.got, texts)


def _second_try(request: Request, answer: Answer, checks: Sequence[Check]) -> Request | Failure | None:
    """None for a good answer; the request once more, or the failure where that was the second."""
    wrong = next(filter(None, (check(answer) for check in checks)), None)
    if wrong is None:
        return None
    reason, told = wrong
    if request.tries > 1:
        return Failure("BadAnswer", f"{reason}, and the one before was no better; it begins {answer.text[:80]!r}")
    warmer = max(request.sampling.temperature, RETRY_TEMPERATURE)
    return replace(
        request,
        sampling=replace(request.sampling, temperature=warmer),
        earlier=((answer.text, told),) if told else (),
        tries=request.tries + 1,
    )


def messages(request: Request, picture_part: Callable[[Any], dict], parts_always: bool = False) -> list[dict]:
    """The chat that `request` is, in OpenAI's form; `picture_part` gives the part of a message for a picture.

    A message without pictures is a plain string, as every server and template takes it; with `parts_always` a list of
    one part, which the templates of models that see want.
    """
    chat = [("user", request.content)]
    for answer, told in request.earlier:
        chat += [("assistant", [answer]), ("user", [told])]

    def content(parts: Sequence[Any]) -> str | list[dict]:
        if not parts_always and all(isinstance(part, str) for part in parts):
            return "\n".join(parts)
        return [{"type": "text", "text": part} if isinstance(part, str) else picture_part(part) for part in parts]

    return [{"role": role, "content": content(parts)} for role, parts in chat]


def strip_reasoning(text: str) -> str:
    """`text` without the thoughts that reasoning models put before their answer (some templates open them in the
    question), without half a character, as servers that stream may leave one at the end, and without blank ends.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return re.sub(r"^(.*</think>|\s*<think>.*)", "", text, flags=re.DOTALL).strip()


def parse_json(text: str) -> Any:
    """What `text` says in JSON; None for text that is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None
