"""Images as clips of one frame: which files are stills, and how FFmpeg opens one."""

import os
import posixpath
from typing import Any

from utils.errors import VideoError

STILL_EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp"}
PLOT, THUMBNAILS = "scores.png", "report_files"  # what stages draw, in a folder that may be scanned
DEMUXERS = {b"\xff\xd8\xff": "jpeg_pipe", b"\x89PNG": "png_pipe", b"RIFF": "webp_pipe"}  # by how a file begins


def is_still_name(name: str) -> bool:
    """Whether a file's ending is that of an image which is read as a clip of one frame, in any case; hidden files are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in STILL_EXTENSIONS and name != PLOT


def is_still(path: str) -> bool:
    """`is_still_name` of a path's last part."""
    return is_still_name(posixpath.basename(path))


def opening_of(path: str, head: bytes, protocols: str) -> dict[str, Any]:
    """How av.open is told of an image that begins with `head`: left to itself, FFmpeg takes a name of its kind for a pattern of many files.

    Raises: `VideoError`.
    """
    kind = next((demuxer for magic, demuxer in DEMUXERS.items() if head.startswith(magic)), None)
    if kind is None:
        raise VideoError(f"{path!r} is not the JPEG, PNG or WebP image that its name claims; convert it to one")
    options = {"protocol_whitelist": protocols, "format_whitelist": kind}
    return {"format": kind, "options": options, "metadata_errors": "replace"}
