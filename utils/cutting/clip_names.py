"""Names of the clips of each source, and which files of the output folder are clips of a source."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from utils.cutting.clip_writer import read_identity
from utils.errors import UsageError
from utils.pipeline.ancestry import GONE, is_file_of
from utils.pipeline.own_files import inside
from utils.storage import find
from utils.video.opening import writing
from utils.video_utils import CLIP_NAME, file_size, get_video_path_list, is_clip, locate
from utils.working_copies import local_path, remove

MAX_NAME_BYTES = 250  # of 255 that file systems allow: a clip being written has a dot and .tmp around its name


def clip_prefixes(paths: Iterable[str]) -> Callable[[str], str]:
    """A function that gives the path that the names of a source's clips begin with: mirrored below the output folder.

    Two sources of one folder whose names differ only in their ending keep the ending. Raises: `UsageError` where that does not tell them
    apart.
    """
    paths = list(paths)
    stems = Counter(hash(mirrored(path).with_suffix("")) for path in paths)
    shared = {stem for stem, count in stems.items() if count > 1}
    # "x.mp4" beside "x.mkv" keeps its ending, and is then called as "x.mp4.mov" is without.
    met = paths if shared else ()
    kept = {hash(whole) for path in met if hash((whole := mirrored(path)).with_suffix("")) in shared}

    def prefix(path: str) -> str:
        whole = mirrored(path)
        return f"{whole if hash(whole.with_suffix('')) in shared else whole.with_suffix('')}-Scene-"

    owners: dict[str, str] = {}
    for path in paths:
        whole = mirrored(path)
        if whole.as_posix() != path or (stem := hash(whole.with_suffix(""))) in shared or stem in kept:
            owner = owners.setdefault(prefix(path), path)
            if owner != path:
                raise UsageError(
                    f"{owner} and {path} would give clips of the same name, {prefix(path)}001.mp4; rename one of them, or split them into two "
                    "datasets"
                )
    return prefix


def mirrored(video_path: str) -> PurePosixPath:
    """The path below the output folder of a source that may be absolute or outside the video folder."""
    return PurePosixPath(*[part for part in PurePosixPath(video_path).parts if part not in ("/", "..")])


def clip_name(prefix: str, number: int) -> str:
    """Path of a source's clip, relative to the output folder; the first is number 1."""
    return f"{prefix}{number:03}.mp4"


def remove_other_clips(output_folder: str, row: dict, keep: Collection[str]) -> None:
    """Remove a source's clips whose names are not in `keep`, and what a killed run left half-written; nothing else."""
    path, prefix = local_path(output_folder) / row["clip_prefix"], re.escape(Path(row["clip_prefix"]).name)
    folder = path.parent
    for path in folder.glob("*") if folder.is_dir() else ():
        half_written = re.fullmatch(rf"\.{prefix}\d{{3,}}\.mp4\.tmp", path.name)
        unwanted = re.fullmatch(rf"{prefix}\d{{3,}}\.mp4", path.name) and path.name not in keep
        if half_written or (unwanted and _source_of(path) == row["video_path"]):
            with writing(path):
                path.unlink()


def remove_other_objects(output_folder: str, row: dict, keep: Collection[str]) -> set[str]:
    """The same where clips are behind a URL, by one listing; the paths of the clips of this source that are left there."""
    remove_working_copies(output_folder, row)
    prefix, left = row["clip_prefix"], set()
    for name in find(output_folder, prefix):
        if not re.fullmatch(r"\d{3,}\.mp4", name.removeprefix(prefix)):
            continue
        copy = local_path(output_folder) / name
        if copy.name in keep or _source_of(copy) != row["video_path"]:
            left.add(name)
        else:
            with writing(copy):
                remove(copy)
    return left


def remove_working_copies(output_folder: str, row: dict) -> None:
    """Remove the local files of a source's clips, which are uploaded, or which a killed run left."""
    path = local_path(output_folder) / row["clip_prefix"]
    for copy in path.parent.glob("*") if path.parent.is_dir() else ():
        if re.fullmatch(rf"\.?{re.escape(path.name)}\d{{3,}}\.mp4(\.tmp)?", copy.name):
            copy.unlink(missing_ok=True)


def is_as_written(clip: dict, output_folder: str, size: int) -> bool:
    """Whether a clip is on disk as its row says; `size`: of `unchanged_sizes`. One that is not is removed, lest it be taken for one that a
    killed run has written.
    """
    path = locate(clip["video_path"], output_folder)
    if "stamp" in clip:
        is_same = size == clip.get("bytes") or (size != GONE and is_file_of(clip["stamp"], path))
    else:  # rows until 0.3
        is_same = size != GONE and file_size(path) == clip.get("bytes", file_size(path))
    file = inside(local_path(output_folder), clip["video_path"])
    if file and not is_same and size != GONE and is_clip(path):
        with writing(path):
            remove(file)
    return is_same


def orphans(output_folder: str, listed: np.ndarray) -> list[str]:
    """Clips in the folder, written by us, that are in no list; `listed`: hashes of the paths that are."""
    found = [path for path in get_video_path_list(output_folder) if CLIP_NAME.fullmatch(os.path.basename(path))]
    found = [path for path in found if not _behind_link(path, output_folder)]  # that may be another dataset's
    left = np.isin(np.array([hash(path) for path in found], np.int64), listed, invert=True)
    return [path for path, is_left in zip(found, left) if is_left and is_clip(locate(path, output_folder))]


def _behind_link(path: str, folder: str) -> bool:
    """Whether a folder on the way from `folder` to `path`, which is relative to it, is a symbolic link."""
    parts = path.split("/")[:-1]
    return any(os.path.islink(os.path.join(folder, *parts[: n + 1])) for n in range(len(parts)))


def _source_of(path: Path) -> str | None:
    """The source that a clip says it was cut from; None where it is none of ours."""
    return read_identity(path).get("identity", {}).get("source")
