"""What rows are made from, so that everything downstream of something that changed is due again, by itself.

Each result row says it in `made_from`: eight hex digits over the columns that it depends on ("-" where there are none), and for
a result that is read from a video the content of that file (size, head, middle, tail), its size and its time of change, which
spare a look at the content. Each list says in its settings, under `inputs`, which files it was made from.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from msgspec import UNSET

from utils.errors import UsageError, VideoError
from utils.rows import atomic_write, part_files
from utils.storage import StorageError, info, is_url, stamp_of, versions_in
from utils.video_utils import content_digest, locate
from utils.working_copies import local_path, shown, url_of, working_copy

# What distinguishes a clip from another one cut later under the same name: a score of one must not pass for the other's.
CLIP_COLUMNS = ("source_path", "source_digest", "start_seconds", "end_seconds", "bytes")
MEASURED = ("motion_score", "camera_motion", "text_score")  # of a clip, which captions and summaries may put into words
CAPTION_ANCESTORS = (*CLIP_COLUMNS, *MEASURED)
PROVENANCE = ("made_from", "stamp")  # columns that say where a row comes from, and no training set has
MISSING = "missing"  # in place of a stamp or version: there is no such file
STAGES = {"cutscene_detect.py": "stage_1_video_cut.sh", "video_splitting.py": "stage_1_video_cut.sh",
          "caption_video_frame.py": "stage_3_video_caption.sh", "caption_summary.py": "stage_3_video_caption.sh"}  # fmt: skip


def digest_of(columns: Sequence[str]) -> Callable[[Sequence[Any]], int]:
    """`rows.digest` of a row's values of `columns`, UNSET where it lacks one, as a number; 0 where it lacks all."""
    heads = [f"{json.dumps(column, ensure_ascii=False)}: " for column in columns]

    def number(values: Sequence[Any]) -> int:
        present = ", ".join([head + _text(v) for head, v in zip(heads, values) if v is not UNSET])
        return as_number(hashlib.sha256(f"{{{present}}}".encode()).digest()[:4].hex()) if present else 0

    return number


def _text(value: Any) -> str:
    """The JSON text of a value; for the most frequent kinds without a call of json.dumps, which takes as long as all else."""
    kind = value.__class__
    if kind is str:
        return encode_basestring(value)
    return repr(value) if kind is int or (kind is float and value - value == 0) else json.dumps(value, ensure_ascii=False)


def as_number(ancestry: str | None) -> int:
    """The first part of a `made_from`, eight hex digits, as a number; 0 where it says nothing."""
    try:
        return int(ancestry or "0", 16) or 1 if ancestry not in (None, "", "-") else 0
    except ValueError:
        return 1


def made_from(row: dict, columns: Sequence[str], stamp: str = "") -> str:
    """The `made_from` of a result of `row`; "" where nothing is known."""
    number = digest_of(columns)([row.get(column, UNSET) for column in columns])
    return " ".join(filter(None, [f"{number:08x}" if number else "-" if stamp else "", stamp]))


def version_of(path: str) -> str:
    """Size and time of change of a file, or what its storage has in place of that time; MISSING."""
    if is_url(path):
        try:
            found = info(path)
        except StorageError:
            return MISSING
        return as_version(stamp_of(found)) if found else MISSING
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return MISSING
    return f"{found.st_size} {found.st_mtime_ns}"


def as_version(stamp: dict) -> str:
    return f"{stamp['size']} {hashlib.sha256(stamp['version'].encode()).hexdigest()[:16]}"


def stamp_of_file(path: str) -> str:
    """The content of a file as it is now, and its version; MISSING."""
    version = version_of(path)
    try:
        return MISSING if version == MISSING else f"{content_digest(path)} {version}"
    except (OSError, VideoError):
        return MISSING


def is_file_of(stamp: str, path: str, now: str = "") -> bool:
    """Whether a file is still what it was when its stamp was taken: at once where its version, `now`, is the same, else by its content."""
    content, _, version = stamp.partition(" ")
    now = now or version_of(path)
    if stamp == MISSING or now == MISSING:
        return stamp == now
    if version.partition(" ")[0] not in ("", now.partition(" ")[0]):
        return False  # of another size
    return version == now or stamp_of_file(path).partition(" ")[0] == content


def versions(video_folder: str | None) -> Callable[[str], str]:
    """`version_of` the video of a row by its path; of a folder behind a URL by one listing."""
    if not is_url(video_folder):
        return lambda path: version_of(locate(path, video_folder))
    there = {path: as_version(stamp) for path, stamp in versions_in(str(video_folder)).items()}
    return lambda path: there.get(path) or version_of(locate(path, video_folder))


# ---- Files ---------------------------------------------------------------------------------------------------------------


def fingerprint(path: Path) -> str | None:
    """16 hex digits over a file's bytes, None where there is none."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        sha = hashlib.sha256()
        while piece := file.read(1 << 22):
            sha.update(piece)
    return sha.hexdigest()[:16]


def inputs_of(result: Path, files: Iterable[str | os.PathLike | None]) -> dict[str, str]:
    """What a result file is made from, as its settings have it: fingerprints by name, relative where a file is beside it."""
    folder, found = result.resolve().parent, {}
    for file in filter(None, files):
        path = local_path(file)
        inside = path.resolve().is_relative_to(folder)
        if fingerprinted := fingerprint(path):
            found[path.resolve().relative_to(folder).as_posix() if inside else str(path.resolve())] = fingerprinted
    return found


def settings_of(path: str | os.PathLike) -> dict:
    """The settings that a result file was made with; {} where there are none."""
    try:
        before = json.loads(working_copy(path).with_suffix(".settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return before if isinstance(before, dict) else {}


def write_settings(path: Path, settings: Mapping[str, Any], inputs: Mapping[str, str] | None) -> None:
    """Write down what a result file is made with, by which script, and from which files: None while a run is at work on it."""
    text = json.dumps({**settings, "script": os.path.basename(sys.argv[0]), "inputs": inputs}, indent=1, ensure_ascii=False)
    with atomic_write(path.with_suffix(".settings.json")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", errors="replace")


def begun_with(saved_path: str, overwrite: bool, setting: str, new: Any, old: Any = None) -> Any:
    """A choice that no flag makes: that of the existing result file, so that a dataset goes on as it was begun; `old` where that file is
    from before there was a choice, `new` where there is no file, or it is overwritten.
    """
    before = {} if overwrite else settings_of(saved_path)
    return before.get(setting, old if before and old is not None else new)


def check_inputs(path: str | os.PathLike, may_be_unfinished: bool = False) -> None:
    """That a list is of today: its run has ended, and no file that it, or one of those, was made from has changed since.

    Raises: `UsageError`, which names the stage to run.
    """
    _check(local_path(path), may_be_unfinished, set())


def _check(path: Path, may_be_unfinished: bool, seen: set[Path]) -> None:
    settings = settings_of(url_of(path) or path)
    inputs, again = settings.get("inputs", {}), _command(settings.get("script"))
    seen.add(path)
    if inputs is None and not may_be_unfinished:
        raise UsageError(f"{shown(path)} is not finished; run {again} again, which goes on with it")
    for name, before in inputs.items() if isinstance(inputs, dict) else ():
        file = path.resolve().parent / str(name)
        if url := url_of(file):
            working_copy(url)
        now = fingerprint(file)
        if now not in (None, before) or part_files(file):
            raise UsageError(f"{shown(path)} was made from {shown(file)} as it was before; run {again} again")
        if file not in seen:
            _check(file, may_be_unfinished=False, seen=seen)


def _command(script: Any) -> str:
    return f"{STAGES.get(script, 'stage_2_filter_data.sh')} ({script})" if isinstance(script, str) else "its script"
