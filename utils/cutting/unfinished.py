"""Clips that are being written, `.name.mp4.tmp`: each is locked by its process, so that abandoned files can be recognized."""

import errno
import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path

NAME = re.compile(r"\..*-Scene-\d{3,}\.mp4\.tmp", re.DOTALL)
DAY = 86_400  # seconds; where a network file system has no locks, an older one is left over


def unfinished(clip: Path) -> Path:
    """Where a clip is until it is whole."""
    return clip.with_name(f".{clip.name}.tmp")


def claim(path: Path) -> int:
    """Make the file `path`, empty. It is locked until the descriptor that is returned is closed, or this process has ended.

    Raises: `OSError`.
    """
    path.unlink(missing_ok=True)  # a link of this name would be written through
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def sweep_unfinished(folder: Path) -> None:
    """Remove, in all the depth of a folder, the clips that no process writes any more: of a run or a worker that was killed."""
    for at, _, names in os.walk(folder):
        for name in names:
            if NAME.fullmatch(name):
                with suppress(OSError):  # another run may remove it meanwhile
                    _remove_unless_written(Path(at, name))


def _remove_unless_written(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES) or time.time() - os.fstat(descriptor).st_mtime < DAY:
            return
    finally:
        os.close(descriptor)
    path.unlink(missing_ok=True)
