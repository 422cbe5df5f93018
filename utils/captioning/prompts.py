"""The texts given to models: those in prompts/, a file of the user's, or the flag's own text."""

import json
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UsageError

FOLDER = Path(__file__).resolve().parents[2] / "prompts"


@dataclass(frozen=True)
class Style:
    """A kind of caption: the file of its prompt in prompts/, the maximum of words, the file of its JSON schema, and the
    prompt of earlier versions, with which a result file that was begun with it goes on.
    """

    prompt: str
    max_words: int | None = None
    schema: str | None = None
    former: str | None = None


STYLES = {
    "summary": Style("summary.txt", max_words=100, former="summary_0_2.txt"),
    "tags": Style("tags.txt", max_words=40),
    "dense": Style("dense.txt", max_words=300),
    "json": Style("json.txt", schema="json.schema.json"),
    "chinese": Style("chinese.txt", max_words=200),
}


DESCRIPTIONS = "{descriptions}"  # in a prompt: where the descriptions stand; below a prompt without it


def prompt_text(given: str) -> str:
    """`given` itself or, where it ends in .txt, the content of that file, in the working directory or in prompts/.

    Raises: `UsageError` when the file does not exist, or the prompt is empty or not UTF-8.
    """
    text = checked_utf8(given)
    if given.endswith(".txt"):
        found = [path for path in (Path(given), FOLDER / given, FOLDER.parent / given) if path.is_file()]
        if not found:
            raise UsageError(f"{given}: no such file, here or in {FOLDER}")
        text = text_of(found[0])
    if not text.strip():
        raise UsageError("the prompt is empty")
    return text.strip()


def text_of(path: str | Path) -> str:
    """The content of a text file.

    Raises: `UsageError` when it does not exist or is not UTF-8.
    """
    if not Path(path).is_file():
        raise UsageError(f"{path}: no such file")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start + 1}); save it as UTF-8") from None


def checked_utf8(text: str) -> str:
    """`text` from a command line, which may hold bytes that are not UTF-8.

    Raises: `UsageError` when it does.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"character {error.start + 1} is not UTF-8") from None
    return text


def schema_of(style: Style) -> dict | None:
    return json.loads((FOLDER / style.schema).read_text(encoding="utf-8")) if style.schema else None
