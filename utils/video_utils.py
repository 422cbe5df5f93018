"""Which videos there are, and where each one is: files of a folder, or objects behind a URL (`s3://bucket/folder`)."""

import hashlib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from utils.errors import UsageError, VideoError
from utils.rows import check_encoding, read_rows
from utils.rows.columns import PATH, check_row
from utils.storage import RemoteFile, StorageError, check_url, exists, find, info, is_url, open_remote
from utils.video.stills import THUMBNAILS, is_still, is_still_name
from utils.working_copies import working_copy

# Endings of what the demuxers of utils/video/opening.py read, a line each: mov, matroska, avi, flv, mpegts, mpeg, asf, ogg,
# raw H.264, HEVC, AV1 and others, mxf, nut, rm, dv, yuv4mpegpipe. Not those that are as often something else (.ogg, .mod).
VIDEO_EXTENSIONS = {
    ".mp4", ".m4v", ".mov", ".qt", ".f4v", ".ismv", ".mj2", ".3gp", ".3g2",
    ".mkv", ".mk3d", ".webm",
    ".avi", ".divx",
    ".flv",
    ".ts", ".m2t", ".m2ts", ".mts", ".tp", ".trp", ".tod",
    ".mpg", ".mpeg", ".mpe", ".mpv", ".m1v", ".m2v", ".m2p", ".vob", ".vro", ".evo",
    ".wmv", ".asf", ".dvr-ms",
    ".ogv", ".ogm",
    ".264", ".h264", ".avc", ".265", ".h265", ".hevc", ".ivf", ".obu",
    ".mxf", ".nut", ".rm", ".rmvb", ".dv", ".dif", ".y4m",
}  # fmt: skip
CROPPED = ".cropped"  # ends the stem of a clip that crop_clips.py has cropped
CLIP_NAME = re.compile(r".*-Scene-\d{3,}\.mp4", re.DOTALL)
CLIP_HEADER_BYTES = 1 << 21  # some hundred for each second of a clip
DIGESTED_BYTES = 1 << 16  # at each of three places


def natural_key(text: str) -> list:
    """Sort key that puts `clip2` before `clip10`."""
    return [(1, int(part), part) if part.isdigit() else (0, 0, part) for part in re.split(r"([0-9]+)", text)]


def get_video_path_list(
    video_folder: str | None = None,
    video_metadata_path: str | None = None,
    video_path_column: str = "video_path",
    others: Counter[str] | None = None,
    stills: bool = False,
) -> list[str]:
    """Paths of all videos, relative to `video_folder` with `/` between parts, in natural order.

    The source is a folder (searched in all its depth, see `files_of`), one file, or a list: txt (a path a line), csv, jsonl or parquet
    (`video_path_column`). A list keeps its own order. Each path comes once. `others` gets the files of a folder that are no
    videos by their names, counted by their endings. `stills`: images of a folder are among them, but for covers: those with the name of a video.

    Raises: `UsageError` with a sentence for a missing file or column, or when neither source is given.
    """
    if video_metadata_path:
        if str(video_metadata_path).lower().endswith(".txt"):
            list_path = working_copy(video_metadata_path)
            if not list_path.is_file():
                raise UsageError(f"{video_metadata_path}: no such file")
            check_encoding(list_path)
            with open(list_path, encoding="utf-8-sig", errors="replace") as lines:
                found = [line.rstrip("\r\n") for line in lines]
            for number, path in enumerate(found, 1):
                if path.strip():
                    check_row({"path": path}, f"{video_metadata_path}: line {number}", {"path": PATH})
            found = [path for path in found if path.strip()]
        else:
            rows = read_rows(video_metadata_path, (video_path_column,), {video_path_column: PATH})
            found = [row[video_path_column] for row in rows]
        return list(dict.fromkeys(relative_to_folder(path, video_folder) for path in found))
    if not video_folder:
        raise UsageError("give --video_folder or --video_metadata_path; neither is set")
    if is_url(video_folder):
        return _videos_behind(video_folder, others, stills)
    if os.path.isfile(video_folder):
        return [os.path.basename(video_folder)]
    if not os.path.isdir(video_folder):
        raise UsageError(f"{video_folder}: no such folder")
    found = _videos_among(files_of(video_folder), others, stills)
    relative = (os.path.relpath(path, video_folder).replace(os.sep, "/") for path in found)
    # A name that is not UTF-8 cannot be in a row: its row holds U+FFFD in it, is no file's, and fails, saying so.
    return sorted(without_cropped([os.fsencode(path).decode(errors="replace") for path in relative]), key=natural_key)


def files_of(folder: str) -> list[str]:
    """Paths of all files in a folder and in those within it, but for hidden ones.

    Links to folders are followed, each folder is entered once: a real one under its own path. A link to a file is left out
    where the file itself, or another link to it, is among those found.
    """
    found: list[str] = []
    entered: set[tuple[int, int]] = set()
    due = [folder]
    while due:
        links = []
        for start in due:
            for at, names, files in os.walk(start):
                status = os.stat(at)
                if (status.st_dev, status.st_ino) in entered:
                    names.clear()
                    continue
                entered.add((status.st_dev, status.st_ino))
                names[:] = [name for name in names if not name.startswith(".")]
                links += [path for name in names if os.path.islink(path := os.path.join(at, name))]
                found += [os.path.join(at, name) for name in files if not name.startswith(".")]
        due = sorted(links, key=natural_key)
    linked = {path for path in found if os.path.islink(path)}
    if not linked:
        return found
    kept = [path for path in found if path not in linked]
    known = {os.path.realpath(path) for path in kept}
    for path in sorted(linked, key=natural_key):
        if (target := os.path.realpath(path)) not in known:
            known.add(target)
            kept.append(path)
    return kept


def _videos_among(paths: Iterable[str], others: Counter[str] | None, stills: bool) -> list[str]:
    """Those that are videos by their names, or `stills`; `others` counts the endings of the rest, "" for none."""
    videos: list[str] = []
    rest: list[str] = []
    for path in paths:
        (videos if is_video_name(posixpath.basename(path)) else rest).append(path)
    stems = {os.path.splitext(path)[0] for path in videos}
    for path in rest:
        is_cover = os.path.splitext(path)[0] in stems
        if stills and is_still(path) and not is_cover and f"/{THUMBNAILS}/" not in f"/{path}":
            videos.append(path)
        elif others is not None:
            others[os.path.splitext(path)[1].lower()] += 1
    return videos


def _videos_behind(url: str, others: Counter[str] | None, stills: bool) -> list[str]:
    """The same of a URL, by one listing."""
    found = _videos_among(
        (path for path in find(url) if not any(part.startswith(".") for part in path.split("/"))), others, stills
    )
    if not found and not exists(url):
        raise UsageError(f"{url}: no such folder")
    name = posixpath.basename(url)
    if not found and (is_video_name(name) or (stills and is_still_name(name))):
        return [posixpath.basename(url)]
    return sorted(without_cropped(found), key=natural_key)


def is_video_name(name: str) -> bool:
    """Whether a file's ending is a video's, in any case; hidden files (temporary ones, `._` files of macOS) are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def cropped_name(path: str) -> str:
    """Where the cropped form of a clip goes: beside it."""
    return os.path.splitext(path)[0] + CROPPED + (".png" if is_still(path) else ".mp4")


def without_cropped(paths: list[str]) -> list[str]:
    """The paths of a folder's videos but for the cropped forms of others of them."""
    forms = {cropped_name(path) for path in paths if not os.path.splitext(path)[0].endswith(CROPPED)}
    return [path for path in paths if path not in forms]


def is_clip(path: str) -> bool:
    """Whether video_splitting.py has written the file: by its name, and by what its header says of its source."""
    if not CLIP_NAME.fullmatch(os.path.basename(path)) or not (is_url(path) or os.path.isfile(path)):
        return False
    with _open(path) as file:
        return b'{"identity": {"source": ' in file.read(CLIP_HEADER_BYTES)


def content_digest(path: str) -> str:
    """16 hex digits over a file's size, head, middle and tail: another video under its name has others.

    Raises: `OSError`; `VideoError` where an object cannot be read.
    """
    with _open(path) as file:
        return digest_of(file)


def digest_of(file: IO[bytes] | RemoteFile) -> str:
    """`content_digest` of an open file."""
    size = file.seek(0, os.SEEK_END)
    found = hashlib.sha256(str(size).encode())
    for start in (0, size // 2, max(0, size - DIGESTED_BYTES)):
        file.seek(start)
        found.update(file.read(DIGESTED_BYTES))
    return found.hexdigest()[:16]


def file_size(path: str) -> int:
    """In bytes; of an object as its storage says, without fetching it. Raises: as `content_digest`."""
    if not is_url(path):
        return os.stat(path).st_size
    try:
        found = info(path)
    except StorageError as error:
        raise VideoError(f"{path!r} cannot be read: {error.strerror}") from None
    if found is None:
        raise VideoError(f"{path!r} cannot be read: no such object")
    return found["size"]


@contextmanager
def _open(path: str) -> Iterator[IO[bytes] | RemoteFile]:
    if not is_url(path):
        with open(path, "rb", opener=_at_once) as file:
            yield file
        return
    try:
        yield open_remote(path, by_ranges=True)
    except StorageError as error:
        raise VideoError(f"{path!r} cannot be read: {error.strerror}") from None


def _at_once(path: str, flags: int) -> int:
    """An opener that does not wait for what writes into a named pipe, which cannot be read as a file then."""
    return os.open(path, flags | os.O_NONBLOCK)


def present_in(folder: str | None) -> Callable[[str], bool]:
    """Whether there is a file at a path relative to `folder`; of a URL by one listing."""
    if folder is None or not is_url(folder):
        return lambda path: os.path.isfile(locate(path, folder))
    found = set(find(folder)) or {posixpath.basename(folder)}  # or the folder is itself a video
    return found.__contains__


def relative_to_folder(path: str, video_folder: str | None) -> str:
    """The key of a video: `path` relative to `video_folder` where it is inside, else as given; `/` between parts.

    A relative path in a list means: in `video_folder`; where only the path as given leads to a file in the folder
    (`videos/a.mp4` beside `--video_folder videos`), that is meant.
    """
    for given in (path, video_folder or ""):
        if is_url(given):
            check_url(given)
    if is_url(path):
        root = (video_folder or "").rstrip("/") + "/"
        return path.removeprefix(root) if is_url(video_folder) else path
    if video_folder and not is_url(video_folder):
        root = os.path.abspath(video_folder)
        absolute = os.path.abspath(path)
        inside = absolute.startswith(root + os.sep)
        if os.path.isabs(path) or (inside and not os.path.lexists(os.path.join(root, path))):
            path = os.path.relpath(absolute, root) if inside else path
    return os.path.normpath(path).replace(os.sep, "/")


def prefix_inside(video_folder: str | None) -> str | None:
    """How paths begin that are given from the working directory and lie in the folder; "" where none can, None where all may."""
    if not video_folder or is_url(video_folder):
        return ""
    root = os.path.abspath(video_folder) + os.sep
    return None if (os.getcwd() + os.sep).startswith(root) else os.path.relpath(root) + os.sep


def relative_to(video_folder: str | None) -> Callable[[str], str]:
    """`relative_to_folder` for many paths of one folder: what it would leave as it is, is told by a look."""
    inside = prefix_inside(video_folder)

    def relative(path: str) -> str:
        # "//" is also of a URL; what only looks odd ("a./b") is looked at closely, too.
        is_odd = "//" in path or "./" in path or "\\" in path or path[0] in "/." or path[-1] in "/."
        if is_odd or inside is None or (inside and path.startswith(inside)):
            return relative_to_folder(path, video_folder)
        return path

    return relative


def locate(video_path: str, video_folder: str | None) -> str:
    """The file of a row's `video_path`. A `video_folder` that is itself a file is that file."""
    if is_url(video_path) or (is_url(video_folder) and os.path.isabs(video_path)):
        return video_path
    if video_folder and is_url(video_folder):
        folder = video_folder.rstrip("/")
        is_itself = posixpath.basename(folder) == video_path and (
            is_video_name(video_path) or is_still_name(video_path)
        )
        return folder if is_itself else f"{folder}/{video_path}"
    if video_folder and os.path.isfile(video_folder):
        video_folder = os.path.dirname(video_folder)
    return os.path.join(video_folder or "", video_path)
