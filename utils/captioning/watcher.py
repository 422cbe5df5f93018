"""Runs a command and ends it, with all that it has started, when standard input ends: with the process at its other end.

python -I utils/watcher.py COMMAND ARGUMENTS
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

STOP_SECONDS = 20  # between asking it to end and ending it


def watch(command: list[str]) -> int:
    """The exit code of `command`, which has a process group of its own."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def stop_at_end_of_input() -> None:
        while os.read(0, 1024):  # not through sys.stdin, whose lock, held here, makes the interpreter abort at its end
            pass
        _signal(child, signal.SIGTERM)
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)

    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    code = child.wait()
    _signal(child, signal.SIGKILL)  # what it has left behind
    return code


def _signal(child: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1:]))
