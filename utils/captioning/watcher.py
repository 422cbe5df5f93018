"""Runs a command and stops it, with all its child processes, when standard input closes, that is, when the process that writes to it dies.

python -I utils/captioning/watcher.py COMMAND ARGUMENTS
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

STOP_SECONDS = 20  # between SIGTERM and SIGKILL


def watch(command: list[str]) -> int:
    """The exit code of `command`, which runs in its own process group."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def stop_at_end_of_input() -> None:
        while os.read(0, 1024):  # not sys.stdin: its lock, held here, makes the interpreter abort at exit
            pass
        _signal(child, signal.SIGTERM)
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)

    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    code = child.wait()
    _signal(child, signal.SIGKILL)  # processes that it left behind
    return code


def _signal(child: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1:]))
