"""Which files of a folder our lists may remove or replace: a list may have been edited, or come with a dataset from elsewhere."""

import os
from pathlib import Path


def inside(folder: Path, name: object) -> Path | None:
    """The file `name` of `folder`, which need not be there. None where a row says what is no relative path, or one that
    leads out of the folder: by `..`, or by a symbolic link on its way. Its last part may be a link: to remove or rename it
    does not follow it, to open it does.
    """
    if not isinstance(name, str) or not name or "\0" in name or os.path.isabs(name):
        return None
    parts = Path(name).parts
    if not parts or ".." in parts:
        return None
    root, at = os.path.realpath(folder), os.path.realpath(Path(folder, *parts[:-1]))
    return Path(folder, *parts) if at == root or at.startswith(root.rstrip(os.sep) + os.sep) else None
