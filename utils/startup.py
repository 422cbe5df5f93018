"""The first import of every script: what Ctrl-C and SIGTERM do while the others, half a second of them, are imported; and
open standard streams. `ending.run` takes over from here.

It imports only what Python's own start has: `signal` and `contextlib` take 10 ms, in which Ctrl-C would be a traceback.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` makes enums of
import os
import sys


def end_at_once(*_) -> None:
    """A signal handler, for when there is nothing to save."""
    os._exit(130)


def _interrupted(*_) -> None:
    try:  # noqa: SIM105
        os.write(2, b"interrupted before any work\n")
    except OSError:
        pass
    os._exit(130)


PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# In the process that runs a script: not in a test that imports one, nor in worker processes or Ray's, where it is `__mp_main__`.
_main = sys.modules["__main__"]
_script = os.path.abspath(getattr(_main, "__file__", None) or "/")
_is_script = _main.__name__ == "__main__" and os.path.dirname(_script) in (PROJECT, os.path.join(PROJECT, "tools"))
if _is_script:
    for _number in (_signal.SIGINT, _signal.SIGTERM):  # the second would be ignored where the script is process 1
        _signal.signal(_number, _interrupted)


def _open_streams() -> None:
    """Where a shell closed one (`>&-`), the next file opened would take its place, and what is printed end up in it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))


def _use_environment() -> None:
    """Start again under the environment beside the scripts, where this Python lacks their packages: a command that is pasted works
    whether or not that environment is active.
    """
    if any(os.path.isdir(os.path.join(folder, "msgspec")) for folder in sys.path):  # the one that every script needs
        return
    python = os.path.join(PROJECT, ".venv", "bin", "python")
    if os.access(python, os.X_OK) and os.environ.get("REELSET_PYTHON") != python:
        os.environ["REELSET_PYTHON"] = python  # once: that environment may lack them, too
        arguments = sys.argv if _main.__spec__ is None else ["-m", _main.__spec__.name, *sys.argv[1:]]
        os.execv(python, [python, *arguments])
    from shlex import quote

    command = f"cd {quote(PROJECT)} && bash tools/setup_venv.sh"
    os.write(2, f"{sys.executable} lacks Reelset's packages; to install them: {command}\n".encode())
    os._exit(2)


if _is_script:
    _open_streams()
    _use_environment()
