"""Questions about a clip whose answers become columns: reading them from a file, asking a model, parsing its answer.

A file is JSON Lines, {"column": "logo", "question": "Is there a logo?"}, or a .txt with one question a line, whose column is the words before
a colon, or the question's own. `choices`, a list of words, makes a column of one of them; `passes`, [minimum, maximum], are the bounds that
stage 2 takes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.captioning.answer_text import REASONED
from utils.captioning.chat import Answer, Rejection, object_in, parse_json
from utils.captioning.prompts import FOLDER, text_of
from utils.errors import UsageError
from utils.pipeline.score import Column

SETS = FOLDER / "questions"
YES = ["yes", "true", "y", "是", "有", "はい", "네", "예", "ja", "oui", "sí", "sim", "sì", "да"]
NO = ["no", "false", "n", "否", "不", "没有", "不是", "いいえ", "아니요", "nein", "non", "não", "нет"]
ALTERNATIVES = 20  # tokens in the place of an answer's, as many as servers give
LEAST_SURE = 0.3  # of the probability must be of yes and no together; else the answer's own text counts
CAPTION = "{caption}"  # in a question: where the clip's caption stands
COLUMN = re.compile(r"[a-z][a-z0-9_]{0,59}")
TAKEN = ("video_path", "made_from", "sample_frame_idx", "measured_in")


@dataclass(frozen=True)
class Question:
    """What is asked, the `column` that it fills, its `choices` (none: yes or no), and the bounds within which a clip passes."""

    column: str
    question: str
    choices: Sequence[str] = ()
    passes: Sequence[float | None] = field(default=(None, None), compare=False)

    @property
    def settings(self) -> list:
        """What the column depends on."""
        return [self.column, self.question, *([list(self.choices)] if self.choices else [])]

    def declared(self) -> Column:
        if self.choices:
            return Column(f"{self.question} One of {', '.join(self.choices)}")
        return Column(f"probability that a vision-language model says yes: {self.question}", 0, 1, tuple(self.passes))  # type: ignore[arg-type]

    def options(self) -> str:
        return f"one of: {', '.join(self.choices)}" if self.choices else "yes or no"

    def value(self, text: str) -> float | str | None:
        """What an answer in text says: a choice, 1 for yes, 0 for no; None where it says neither."""
        said = re.sub(r"^\W+", "", text[:400]).lower()
        known: list[tuple[float | str, list[str]]] = [(1.0, YES), (0.0, NO)]
        if self.choices:
            known = [
                (choice, [choice.lower()]) for choice in sorted(self.choices, key=len, reverse=True)
            ]  # longest first
        for value, words in known:
            if any(said.startswith(word) and _ends(said[len(word) :], word) for word in words):
                return value
        return None

    def answer(self, answer: Answer, begin: int, text: str) -> float | str | None:
        """The column's value: the probability of yes where the engine gives those of tokens, `begin` being where the answer's word begins
        in their texts; else what `text` says.
        """
        said = self.value(text)
        if self.choices or said is None:
            return said
        chance = yes_probability(answer, begin)
        return said if chance is None else round(chance, 4)


def _ends(after: str, word: str) -> bool:
    """Whether a word ends before `after`; a Chinese, Japanese or Korean one does anywhere."""
    return word[-1] >= "\u2e80" or not re.match(r"\w", after)


def yes_probability(answer: Answer, begin: int) -> float | None:
    """P(yes) / (P(yes) + P(no)) of the token in which character `begin` of the tokens' joined text is; None where that is not known."""
    at = 0
    for token, likeliest in answer.alternatives:
        at += len(token)
        if at > begin:
            yes, no = (_sum(likeliest, words) for words in (YES, NO))
            return yes / (yes + no) if yes + no >= LEAST_SURE else None
    return None


def _sum(likeliest: Mapping[str, float], words: Sequence[str]) -> float:
    bare = {token: re.sub(r"[\W_]", "", token).lower() for token in likeliest}
    return sum(chance for token, chance in likeliest.items() if bare[token] in words)


def read_questions(given: str) -> list[Question]:
    """The questions of a file, or of a set in prompts/questions, by its name.

    Raises: `UsageError`, which names file and line.
    """
    path = next((path for path in (Path(given), SETS / given, SETS / f"{given}.jsonl") if path.is_file()), None)
    if path is None:
        sets = ", ".join(sorted(file.stem for file in SETS.glob("*.jsonl")))
        raise UsageError(f"{given}: no such file, and no set in {SETS} ({sets})")
    found: dict[str, Question] = {}
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        question = _of_text(line) if path.suffix == ".txt" else _of_json(line)
        if isinstance(question, str):
            raise UsageError(f"{path}: line {number}: {question}")
        if question.column in found or question.column in TAKEN:
            raise UsageError(f"{path}: line {number}: the column {question.column} exists already; choose another name")
        found[question.column] = question
    if not found:
        raise UsageError(f"{path}: contains no questions")
    return list(found.values())


def _of_text(line: str) -> Question | str:
    name, colon, question = line.partition(":")
    if colon and COLUMN.fullmatch(name.strip()) and question.strip():
        return Question(name.strip(), question.strip())
    words = "_".join(re.findall(r"[a-z0-9]+", line.lower()))[:60].strip("_")
    column = words if words[:1].isalpha() else f"question_{words}".strip("_")
    return Question(column, line.strip()) if words else f"{line[:80]!r} has no word for a column; write NAME: before it"


def _of_json(line: str) -> Question | str:
    row = parse_json(line)
    if not isinstance(row, dict):
        return f"{line[:80]!r} is no JSON object"
    column, question, choices, passes = (row.get(name) for name in ("column", "question", "choices", "passes"))
    if unknown := row.keys() - {"column", "question", "choices", "passes"}:
        return f"there is no {sorted(unknown)[0]!r}; columns are column, question, choices and passes"
    if not isinstance(column, str) or not COLUMN.fullmatch(column):
        return f"column is {column!r}, not a name of small letters, digits and _"
    if not isinstance(question, str) or not question.strip():
        return f"question is {question!r}, not a text"
    if choices is not None and (
        not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices)
    ):
        return f"choices are {choices!r}, not a list of two words or more"
    if passes is not None and (choices or not _are_bounds(passes)):
        return f"passes is {passes!r}, not [minimum, maximum], each a number or null, of a question without choices"
    return Question(column, question.strip(), tuple(choices or ()), tuple(passes or (None, None)))


def _are_bounds(passes: Any) -> bool:
    return isinstance(passes, list) and len(passes) == 2 and all(b is None or type(b) in (int, float) for b in passes)


# One request a question


def alone(question: Question) -> str:
    return f"{question.question}\nAnswer with one word alone: {question.options()}."


def check_alone(answer: Answer, question: Question) -> Rejection | None:
    wrong = question.value(answer.text) is None
    return Rejection(f"the answer to {question.question!r} is not {question.options()}") if wrong else None


def value_alone(answer: Answer, question: Question) -> float | str | None:
    joined = "".join(token for token, _ in answer.alternatives)
    word = re.search(r"\w+", answer.text)
    after_reasoning = max(joined.rfind(end) + len(end) if end in joined else 0 for end in REASONED)
    begin = joined.find(word[0], after_reasoning) if word else -1
    return question.answer(answer, begin if begin >= 0 else len(joined), answer.text)


# One request for all of them


def together(questions: Sequence[Question]) -> str:
    lines = [f'"{one.column}": {one.question} ({one.options()})' for one in questions]
    return "Answer these questions with one JSON object, which has these keys and a word for each:\n" + "\n".join(lines)


def schema(questions: Sequence[Question]) -> dict:
    words = {one.column: {"type": "string", "enum": list(one.choices or ("yes", "no"))} for one in questions}
    return {"type": "object", "properties": words, "required": list(words), "additionalProperties": False}


def check_together(answer: Answer, questions: Sequence[Question]) -> Rejection | None:
    said = object_in(answer.text)
    for one in questions:
        if one.value(str(said.get(one.column, ""))) is None:
            return Rejection(f"the answer says nothing about {one.column}, or not {one.options()}")
    return None


def values_together(answer: Answer, questions: Sequence[Question]) -> dict[str, float | str | None]:
    said, joined = object_in(answer.text), "".join(token for token, _ in answer.alternatives)
    values = {}
    for one in questions:
        key = re.search(rf'"{one.column}"\s{{0,20}}:\s{{0,20}}"?(?=\w)', joined)
        values[one.column] = one.answer(answer, key.end() if key else len(joined), str(said[one.column]))
    return values
