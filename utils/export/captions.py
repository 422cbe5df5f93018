"""The captions of a clip: a text, or a list of texts (short, long, tags), of which a trainer uses one or all."""

from collections.abc import Sequence

from utils.captioning.answer_text import training_text
from utils.export.choose import mixed
from utils.export.formats.entry import Format

CHOICES = ("first", "longest", "random")


def captions_of(value: str | Sequence[str]) -> list[str]:
    """Those that are not blank, each once, without the control tokens of models: a trainer's tokenizer would take them for its own."""
    texts = map(training_text, [value] if isinstance(value, str) else value)
    return list(dict.fromkeys(text for text in texts if text.strip()))


def for_format(form: Format, value: str | Sequence[str], how: str | None, path: str) -> list[str]:
    """The captions that a format gets of a clip, as it can hold them, one at least: all where its trainer takes several and `how` chooses none, else one."""
    captions = captions_of(value)
    if not captions or how or not form.several_captions:
        captions = [chosen(captions, how or "first", path) if captions else ""]
    return list(dict.fromkeys(form.caption(text) for text in captions))


def chosen(captions: Sequence[str], how: str, path: str) -> str:
    """One of them: the first, the longest, or one by the clip's path alone, so that a rerun takes the same."""
    if how == "longest":
        return max(captions, key=len)
    return captions[int(mixed(path), 16) % len(captions)] if how == "random" else captions[0]
