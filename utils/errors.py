"""What can go wrong, each in one sentence for the user. Imports nothing of the project."""

import difflib
import importlib.util
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass


def install(what: str) -> str:
    """The command, for any folder, that installs packages, or those of the project's file in "-r FILE", into the Python that runs."""
    if what.startswith("-r "):
        project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        what = f"-r {shlex.quote(os.path.join(project, what[3:]))}"
    tool = "uv pip" if importlib.util.find_spec("uv") else "pip"
    return f"{shlex.quote(sys.executable)} -m {tool} install {what}"


def nearest(word: str, among: Iterable[str], cutoff: float = 0.6) -> str:
    """What a message adds to a name that does not exist: " (nearest: NAME)", or nothing where none is near. `cutoff`: of difflib's ratio."""
    names = list(among)
    near = difflib.get_close_matches(word, names, 1, cutoff) or difflib.get_close_matches(
        word.lower(), names, 1, cutoff
    )
    return f" (nearest: {near[0]})" if near else ""


def help_command() -> str:
    """The command that prints the flags of the script that runs, as it can be pasted where the user is."""
    main = sys.modules["__main__"].__spec__
    script = sys.argv[0] if main is None else f"-m {main.name}"
    return f"{shlex.quote(sys.executable)} {script if main else shlex.quote(script)} --help"


INSTALL_ALL = install("-r requirements.lock")


class UsageError(ValueError):
    """A wrong flag or input: exit code 2."""


class RunError(Exception):
    """What keeps a run from going on though its flags and rows are right (a server that is gone): exit code 1."""


class OutputError(UsageError):
    """An output that cannot be written (`video.opening.writing` raises it): the run ends, and its row stays due."""


class VideoError(Exception):
    """What is wrong with one video: the file, what was found, what to try. It becomes an error row."""


@dataclass(frozen=True)
class Failure:
    """The error recorded for a row that gave no result: `error`, the type, and `message`, a sentence.

    `unexpected`: an exception that nobody foresaw, whose traceback is in the message; a bug, or a file of a new kind.
    """

    error: str
    message: str
    unexpected: bool = False


def named(path: str, message: str) -> str:
    """The first line of an error's message, with the path of what it is about where it does not name that itself."""
    line = message.partition("\n")[0]
    return line if path in line else f"{path}: {line}"
