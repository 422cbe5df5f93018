"""The texts given to models: those in prompts/, a file of the user's, or the flag's own words."""

import json
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UsageError

FOLDER = Path(__file__).resolve().parents[2] / "prompts"


@dataclass(frozen=True)
class Style:
    """A kind of caption: the prompt's file in prompts/, the most words of an answer, a JSON schema's file."""

    prompt: str
    max_words: int | None = None
    schema: str | None = None


STYLES = {
    "summary": Style("summary.txt", max_words=100),
    "tags": Style("tags.txt", max_words=40),
    "dense": Style("dense.txt", max_words=300),
    "json": Style("json.txt", schema="json.schema.json"),
    "chinese": Style("chinese.txt", max_words=200),
}


def prompt_text(given: str, flag: str) -> str:
    """`given` itself, or what is in the file of that name, which ends in .txt: here or in prompts/.

    Raises: `UsageError` when there is no such file, nothing in it, or no UTF-8.
    """
    text = checked_utf8(given, flag)
    if given.endswith(".txt"):
        found = [path for path in (Path(given), FOLDER / given, FOLDER.parent / given) if path.is_file()]
        if not found:
            raise UsageError(f"{flag} {given}: no such file, here or in {FOLDER}")
        text = text_of(found[0], flag)
    if not text.strip():
        raise UsageError(f"{flag}: the prompt is empty")
    return text.strip()


def text_of(path: str | Path, flag: str) -> str:
    """What is in a text file.

    Raises: `UsageError` when it is no UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{flag} {path}: this is no text in UTF-8 (byte {error.start + 1}); save it as UTF-8"
        ) from None


def checked_utf8(text: str, flag: str) -> str:
    """`text` of a command line, which may hold bytes that are none.

    Raises: `UsageError` when it does.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{flag}: character {error.start + 1} of its text is no UTF-8") from None
    return text


def schema_of(style: Style) -> dict | None:
    return json.loads((FOLDER / style.schema).read_text(encoding="utf-8")) if style.schema else None
