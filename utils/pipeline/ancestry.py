"""Provenance of rows: everything downstream of a change becomes due again automatically.

Each result row says it in `made_from`: eight hex digits over the columns that it depends on ("-" where there are none), and for
a result that is read from a video the stamp of that file: sixteen hex digits over its content (size, head, middle, tail), and its
size. Each list says in its settings under `inputs` which files it was made from, and under `checked` when the stamps of all its
rows were last right: a file that has not changed since need not be looked at.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from msgspec import UNSET

from utils.errors import UsageError, VideoError
from utils.rows import atomic_write, part_files
from utils.storage import is_url, versions_in
from utils.video_utils import content_digest, file_size, locate
from utils.working_copies import local_path, shown, url_of, working_copy

# What distinguishes a clip from another one cut later under the same name: a score of one must not pass for the other's.
CLIP_COLUMNS = ("source_path", "source_digest", "start_seconds", "end_seconds", "bytes")
MEASURED = ("motion_score", "camera_motion", "text_score")  # of a clip, which captions and summaries may put into words
CAPTION_ANCESTORS = (*CLIP_COLUMNS, *MEASURED)
PROVENANCE = ("made_from", "stamp")  # columns that say where a row comes from, and no training set has
MISSING = "missing"  # in place of a stamp: there is no such file
CHANGED, GONE = -1, -2  # in place of a size
CLOCK_SECONDS = 2  # by which the clocks of this machine and of a file server may differ
STAGES = {"cutscene_detect.py": "stage_1_video_cut.sh", "video_splitting.py": "stage_1_video_cut.sh",
          "caption_video_frame.py": "stage_3_video_caption.sh", "caption_summary.py": "stage_3_video_caption.sh",
          "learn_filter.py": "python -m tools.learn_filter"}  # fmt: skip


@lru_cache
def digest_of(columns: tuple[str, ...]) -> Callable[[Sequence[Any]], int]:
    """`rows.digest` of a row's values of `columns`, UNSET where it lacks one, as a number; 0 where it lacks all. It is taken of every row at
    every run, so it is written for speed.
    """
    heads = [f"{json.dumps(column, ensure_ascii=False)}: " for column in columns]
    pair, text_of = zip, {str: encode_basestring, int: int.__repr__, float: float.__repr__}.get

    def number(values: Sequence[Any]) -> int:
        present = [head + text_of(v.__class__, _json)(v) for head, v in pair(heads, values) if v is not UNSET]
        if not present:
            return 0
        return int.from_bytes(sha256(f"{{{', '.join(present)}}}".encode()).digest()[:4], "big") or 1

    return number


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def as_number(ancestry: str | None) -> int:
    """The first part of a `made_from`, eight hex digits, as a number; 0 where it says nothing."""
    try:
        return int(ancestry or "0", 16) or 1 if ancestry not in (None, "", "-") else 0
    except ValueError:
        return 1


def made_from(row: dict, columns: Sequence[str], stamp: str = "") -> str:
    """The `made_from` of a result of `row`; "" where nothing is known."""
    number = digest_of(tuple(columns))([row.get(column, UNSET) for column in columns])
    return " ".join(filter(None, [f"{number:08x}" if number else "-" if stamp else "", stamp]))


def stamp_of(path: str) -> str:
    """The content of a file as it is now, and its size in bytes; MISSING."""
    try:
        return f"{content_digest(path)} {file_size(path)}"
    except (OSError, VideoError, ValueError):
        return MISSING


def is_file_of(stamp: str, path: str) -> bool:
    """Whether a file is still what it was when its stamp was taken."""
    now = stamp_of(path)
    return now == stamp or (now != MISSING and now.partition(" ")[0] == stamp.partition(" ")[0])


def unchanged_sizes(folder: str | None, since: float) -> Callable[[str], int]:
    """The size of a row's file by its path, where the file has not changed `since`, in seconds of the epoch; CHANGED, or GONE. Of a folder
    behind a URL by one listing.
    """
    if is_url(folder):
        there = versions_in(str(folder))

        def size_behind_url(path: str) -> int:
            found = there.get(path)
            return GONE if found is None else found["size"] if found["modified"] <= since else CHANGED

        return size_behind_url

    root = locate("", folder)

    def size(path: str) -> int:
        try:
            found = os.stat(os.path.join(root, path))
        except (OSError, ValueError):
            return GONE
        # Also the time of a rename, or of a copy that keeps the time of its content.
        return found.st_size if max(found.st_ctime, found.st_mtime) <= since else CHANGED

    return size


# ---- Files ---------------------------------------------------------------------------------------------------------------


def fingerprint(path: Path) -> str | None:
    """16 hex digits over a file's bytes, None where there is none."""
    if not path.is_file():
        return None
    found = path.stat()
    return _fingerprint(path, found.st_size, found.st_mtime_ns, found.st_ino)


@lru_cache  # a filter asks for that of its list once for each score file
def _fingerprint(path: Path, *version: int) -> str:
    with open(path, "rb") as file:
        sha = sha256()
        while piece := file.read(1 << 22):
            sha.update(piece)
    return sha.hexdigest()[:16]


def inputs_of(result: Path, files: Iterable[str | os.PathLike | None]) -> dict[str, str]:
    """What a result file is made from, as its settings have it: fingerprints by name, relative where a file is beside it."""
    folder, found = result.resolve().parent, {}
    for file in files:
        if not file:
            continue
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


def write_settings(
    path: Path, settings: Mapping[str, Any], inputs: Mapping[str, str] | None, checked: float | None = None
) -> None:
    """Write down what a result file is made with, by which script, from which files (None while a run is at work on it), and when its stamps
    were right.
    """
    origin = {"script": os.path.basename(sys.argv[0]), "inputs": inputs, **({"checked": checked} if checked else {})}
    text = json.dumps({**settings, **origin}, indent=1, ensure_ascii=False)
    with atomic_write(path.with_suffix(".settings.json")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", errors="replace")


def last_checked(path: str | os.PathLike) -> float:
    """When the stamps of a result file's rows were last right, in seconds of the epoch; 0 where it does not say."""
    found = settings_of(path).get("checked")
    # One in the future is of a clock that was set back since: then nothing is known of times.
    return found if isinstance(found, (int, float)) and found <= time.time() + CLOCK_SECONDS else 0.0


def is_made_of(path: str, inputs: Mapping[str, str]) -> bool:
    """Whether a result file, finished or not, holds results of these inputs and of nothing else, so that none of them has to be held against
    its row.
    """
    settings, file = settings_of(path), local_path(path)
    is_alone = not part_files(file) and not file.with_suffix(".aside.jsonl").exists()
    return is_alone and inputs in (settings.get("inputs"), settings.get("at_work_on"))


def setting_of_existing(saved_path: str, overwrite: bool, setting: str, new: Any, old: Any = None) -> Any:
    """A setting that the user left open: the value in the existing result file, so that it can be resumed; `old` if that file predates
    the setting; `new` if there is no file, or it is overwritten.
    """
    before = {} if overwrite else settings_of(saved_path)
    return before.get(setting, old if before and old is not None else new)


def is_checked(path: str | os.PathLike) -> bool:
    """Whether a file is a result file that nobody has edited since its run ended: its rows were checked, or made, by that."""
    if not isinstance(settings_of(path).get("inputs"), dict):
        return False
    file = local_path(path)
    return file.stat().st_mtime_ns <= file.with_suffix(".settings.json").stat().st_mtime_ns


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
        raise UsageError(f"{shown(path)} is not finished; run {again} again to resume it")
    for name, before in inputs.items() if isinstance(inputs, dict) else ():
        file = Path(os.path.abspath(path)).parent / str(name)
        if url := url_of(file):
            working_copy(url)
        now = fingerprint(file)
        if now not in (None, before) or part_files(file):
            raise UsageError(f"{shown(path)} was made from an older version of {shown(file)}; run {again} again")
        if file not in seen:
            _check(file, may_be_unfinished=False, seen=seen)


def _command(script: Any) -> str:
    return f"{STAGES.get(script, 'stage_2_filter_data.sh')} ({script})" if isinstance(script, str) else "its script"
