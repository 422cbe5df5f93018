"""The first import of every script: what Ctrl-C does while the others, half a second of them, are imported; and open
standard streams. `cli.run` takes over from here.
"""

import contextlib
import os
import signal
import sys

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def end_at_once(*_) -> None:
    """A signal handler, for when there is nothing to save."""
    os._exit(130)


def _interrupted(*_) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted before any work\n")
    os._exit(130)


def _open_streams() -> None:
    """Where a shell closed one (`>&-`), the next file opened would take its place, and what is printed end up in it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))


# In the process that runs a script: not in a test that imports one, nor in worker processes.
_script = os.path.abspath(getattr(sys.modules["__main__"], "__file__", None) or "/")
if os.path.dirname(_script) in (PROJECT, os.path.join(PROJECT, "tools")):
    signal.signal(signal.SIGINT, _interrupted)
    _open_streams()
