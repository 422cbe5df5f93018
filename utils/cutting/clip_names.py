"""What the clips of each source are called, and which files of the output folder are clips of a source."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from utils.cutting.clip_writer import read_identity
from utils.own_files import inside
from utils.storage import find
from utils.video.opening import writing
from utils.video_utils import CLIP_NAME
from utils.working_copies import local_path, remove

MAX_NAME_BYTES = 250  # of 255 that file systems allow: a clip being written has a dot and .tmp around its name


def add_clip_prefixes(rows: list[dict]) -> None:
    """Give each source `clip_prefix`, the path that its clips' names begin with: mirrored below the output folder.

    Two sources of one folder whose names differ only in their ending keep the ending; where that does not tell them
    apart, a digest of the path does.
    """
    paths = {row["video_path"]: mirrored(row["video_path"]) for row in rows}
    stems = Counter(path.with_suffix("") for path in paths.values())
    for row in rows:
        path = paths[row["video_path"]]
        row["clip_prefix"] = str(path if stems[path.with_suffix("")] > 1 else path.with_suffix(""))
    prefixes = Counter(row["clip_prefix"] for row in rows)
    for row in rows:
        if prefixes[row["clip_prefix"]] > 1:
            row["clip_prefix"] += "-" + hashlib.sha256(os.fsencode(row["video_path"])).hexdigest()[:8]
        row["clip_prefix"] += "-Scene-"


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


def remove_unowned_clips(output_folder: str, prefixes: dict[str, str], clips: list[dict]) -> None:
    """Remove listed clips whose source gives none any more, or names them otherwise. `prefixes`: of each source that
    gives clips; clips under the same names are replaced when the source is cut. A list may name any file: only one in the
    folder goes that is a clip of that source by its own word.
    """
    for clip in clips:
        prefix = prefixes.get(clip["source_path"])
        if prefix is None or not clip["video_path"].startswith(prefix):
            path = inside(local_path(output_folder), clip["video_path"])
            if path and CLIP_NAME.fullmatch(path.name) and _source_of(path) == clip["source_path"]:
                with writing(path):
                    remove(path)


def _source_of(path: Path) -> str | None:
    """The source that a clip says it was cut from; None where it is none of ours."""
    return read_identity(path).get("identity", {}).get("source")
