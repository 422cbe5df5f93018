"""How a script ends: exit code 0 done, 1 cannot go on, 2 wrong usage or an output that cannot be written, 130 interrupted; one
message, no traceback.
"""

import atexit
import contextlib
import io
import math
import os
import signal
import sys
import time
from collections.abc import Callable

from utils.errors import INSTALL_ALL, RunError, UsageError
from utils.startup import end_at_once
from utils.working_copies import shown

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
SECONDS_TO_END = 5  # after Ctrl-C; what is done is saved within a second
SECONDS_OF_ONE_SIGNAL = 1

_interrupted_at = -math.inf  # when the last signal came, monotonic seconds


def _interrupt(number: int, _) -> None:
    """Raises: `KeyboardInterrupt`, and again until the script has ended: Python drops it in some callbacks, and a lock that
    it leaves held may keep worker processes from being stopped. One signal that a terminal, a stage's shell and torchrun
    all pass on interrupts once, not what is being saved.
    """
    global _interrupted_at
    now, before = time.monotonic(), _interrupted_at
    _interrupted_at = now
    if number == signal.SIGALRM or now - before > SECONDS_OF_ONE_SIGNAL:
        signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_END, SECONDS_TO_END)
        raise KeyboardInterrupt


def run(main: Callable[[], None]) -> None:
    """Call a script's `main` and turn its ends into exit codes. SIGTERM ends like Ctrl-C: what is done is written
    first.
    """
    atexit.register(_ignore_signals)
    try:
        sys.exit(_ended(main))
    except KeyboardInterrupt:  # while another was reported
        end_at_once()


def _ignore_signals() -> None:
    """At the very end, when all has been said: Python would let them end the process as if it had failed."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _ended(main: Callable[[], None]) -> int:
    code = 0
    try:
        try:
            for number in SIGNALS:  # a shell's background jobs start with SIGINT ignored
                signal.signal(number, _interrupt)
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8, nor the terminal
            code = _exit_code(main)
        except KeyboardInterrupt:
            code = 130
            _report("interrupted; finished work is saved, and the same command resumes")
        for number in SIGNALS:  # nothing is left to be saved
            signal.signal(number, end_at_once)
        sys.stdout.flush()
    except OSError as error:  # nobody reads the last lines (`| head -1`), or the disk is full
        if code == 0 and not isinstance(error, BrokenPipeError):
            code = 2
            _report(f"{os.path.basename(sys.argv[0])}: error: standard output: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _exit_code(main: Callable[[], None]) -> int:
    name = os.path.basename(sys.argv[0])
    try:
        try:
            os.getcwd()
        except FileNotFoundError:
            raise UsageError("the working directory no longer exists; change to another one") from None
        main()
    except UsageError as error:
        _report(f"{name}: error: {error}")
        return 2
    except ModuleNotFoundError as error:  # requirements-embedded.lock leaves out what the default preset does not need
        _report(f"{name}: error: {error.name} is not installed: {INSTALL_ALL}")
        return 2
    except RunError as error:
        _report(f"{name}: stopped: {error}\nfinished work is saved, and the same command resumes")
        return 1
    except BrokenPipeError:
        _report(f"{name}: stopped: what read its output (head, a pager) has ended")
        return 1
    except OSError as error:  # an output that cannot be written; a video's own faults are error rows
        _report(f"{name}: error: {error.filename or _unnamed()}: {error.strerror or error}")
        return 2
    return 0


def _unnamed() -> str:
    """What could not be written, where an error names no file: all files that are ours are named by who writes them."""
    try:
        print(flush=True)  # with something to write, because Python may not hold back what it could not
    except OSError:
        return "standard output"
    return "output"


def _report(message: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be full or closed
        print(shown(message), file=sys.stderr)
