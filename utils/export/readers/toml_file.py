"""TOML, by the standard library where it has it."""

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]


def read_toml(path: Path) -> dict:
    with open(path, "rb") as file:
        return tomllib.load(file)
