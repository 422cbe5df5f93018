"""Names that `datasets` treats as a split (huggingface/datasets, data_files.py: SPLIT_KEYWORDS, NON_WORDS_CHARS): a word between separators in a folder or a file name."""

import re

WORDS = ("train", "training", "validation", "valid", "dev", "val", "test", "testing", "eval", "evaluation")
SEPARATORS = r"-._ 0-9"
SPLIT_WORD = re.compile(rf"(?:(?<=[{SEPARATORS}/])|^)({'|'.join(WORDS)})(?=[{SEPARATORS}/]|$)", re.IGNORECASE)


def means_a_split(name: str) -> bool:
    """Whether a relative path has such a word."""
    return SPLIT_WORD.search(name) is not None


def without_split_words(stem: str) -> str:
    """The stem with an x before each such word: `a-test-b` becomes `a-xtest-b`."""
    return SPLIT_WORD.sub(r"x\1", stem)
