"""Detects answers that are not captions: refusals, claims that there is no image, errors, placeholders, by the patterns of refusals.txt.

A caption may tell of a sign that says so: what stands in quotation marks is not looked at, and most patterns hold at the beginning of a
sentence alone. Only the first `LOOKED_AT` characters are: whoever has more to tell has seen something.
"""

import re
from functools import lru_cache
from pathlib import Path

PATTERNS = Path(__file__).with_name("refusals.txt")
LOOKED_AT = 4000
# Quoted text, which a caption may read from a sign; an apostrophe is no quotation mark.
_QUOTED = re.compile(
    r"\"[^\"]{0,300}\"|“[^”]{0,300}”|„[^“”]{0,300}[“”]|«[^»]{0,300}»|「[^」]{0,300}」|『[^』]{0,300}』|《[^》]{0,300}》"
    r"|(?<!\w)['‘][^'’]{0,300}['’](?!\w)"
)


@lru_cache(maxsize=1)
def patterns() -> list[re.Pattern]:
    named: dict[str, str] = {}
    found = []
    for line in PATTERNS.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        for name, value in named.items():
            line = line.replace(f"%{name}%", value)
        name, is_named, value = line.partition(" = ")
        if is_named and name.isupper():
            named[name] = value
        else:
            found.append(re.compile(line, re.IGNORECASE))
    return found


def unquoted(text: str) -> str:
    """The beginning of `text`, a line after the other as sentences with one blank between words, without what it quotes."""
    lines = (" ".join(line.split()) for line in text[:LOOKED_AT].splitlines())
    return _QUOTED.sub("", ". ".join(line for line in lines if line))


def refuses(text: str) -> bool:
    """Whether an answer is a refusal, says that there is nothing to see, or is an error or a placeholder."""
    said = unquoted(text)
    return any(pattern.search(said) for pattern in patterns())
