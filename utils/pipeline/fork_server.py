"""Imported by the server that worker processes are forked from, and by nothing else: what it says of a worker that fails
to start.
"""

import sys
import traceback
from types import TracebackType


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Nothing of a worker whose pool has ended meanwhile: the locks that they shared are gone, and so is the work."""
    ended = isinstance(error, FileNotFoundError) and any(
        frame.filename.endswith("synchronize.py") for frame in traceback.extract_tb(trace)
    )
    if not ended:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _report
