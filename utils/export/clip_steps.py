"""The work done for each clip of an export by the workers: plan it, then place or encode it."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from utils.errors import VideoError
from utils.export.beside import WAV, bring, files_of, given, misfit
from utils.export.media import encode, measure, place, write_first_frame, write_wav
from utils.export.models import Target
from utils.export.plan import TrainerRules, as_it_is, cut_columns, plan_cut
from utils.export.split_names import without_split_words
from utils.video.stills import is_still
from utils.video_utils import content_digest, locate

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # stems that every file system, list and tar takes as they are

Kinds = dict[str, tuple[type, ...]]  # of columns, as JSON gives them
WHOLE, NUMBER = (int,), (int, float)
MEASURED: Kinds = {
    **dict.fromkeys(("source_frames", "source_width", "source_height", "as_is_frames"), WHOLE),
    **dict.fromkeys(("source_fps", "source_seconds", "as_is_speed", "as_is_lost"), NUMBER),
    "as_is": (str,),
    "has_audio": (bool,),
}
PLANNED: Kinds = {**dict.fromkeys(("width", "height", "frames"), WHOLE), "fps": NUMBER}
CUT: Kinds = {
    "box": (list,),
    "upscale": NUMBER,
    "used_seconds": NUMBER,
    "skipped_frames": WHOLE,
    "repeated_frames": WHOLE,
}
PLACED: Kinds = {
    **dict.fromkeys(("export_file", "rate", "digest"), (str,)),
    **dict.fromkeys(("frames", "width", "height"), WHOLE),
}
RATE = re.compile(r"[1-9]\d{0,17}(/[1-9]\d{0,17})?", re.ASCII)


def is_plan(row: dict, encoded: bool) -> bool:
    """Whether a row that a run before has left is one of `plan_row`: folders are named by its numbers."""
    if not _holds(row, MEASURED) or "reason" in row:
        return _holds(row, {**MEASURED, "reason": (str,)})
    box = row.get("box")
    is_box = isinstance(box, list) and len(box) == 4 and all(type(side) is int for side in box)
    return _holds(row, {**PLANNED, **(CUT if encoded else {})}) and (is_box or not encoded)


def is_placed(row: dict) -> bool:
    """Whether a row that a run before has left is one of `place_row`."""
    return _holds(row, PLACED) and bool(RATE.fullmatch(row["rate"]))


def _holds(row: dict, kinds: Kinds) -> bool:
    return all(type(row.get(name)) in types for name, types in kinds.items())


def settings_of_target(target: Target) -> dict[str, Any]:
    """A target as JSON has it; what versions before this one did not name is left out where it says nothing."""
    found = {name: str(value) if isinstance(value, Fraction) else value for name, value in asdict(target).items()}
    return {name: value for name, value in found.items() if name != "sound" or value is not None}


def media_name(video_path: str, encoded: bool) -> str:
    """A file name of its own for each clip, flat: that of the clip, folders joined by __, where it is plain; else a plain
    form of it with 8 digits of its hash. Words that `datasets` takes for a split, and `metadata`, get an x before them.
    """
    stem, dot, ending = video_path.rpartition(".")
    stem, ending = (stem, ending.lower()) if dot and "/" not in ending else (video_path, "mp4")
    made = "png" if is_still(video_path) else "mp4"  # where it is encoded
    plain = named = stem.replace("/", "__")
    plain = "xmetadata" if plain.lower() == "metadata" else without_split_words(plain)
    if (
        plain != named
        or not SAFE.fullmatch(plain)
        or "__" in stem
        or len(plain) > 100
        or (ending != made and encoded)
        or stem != stem.lower()
    ):
        digest = hashlib.sha256(video_path.encode(errors="surrogateescape")).hexdigest()[:8]
        plain = re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-_")[:90].strip("-_") or "clip"
        plain = f"{plain}-{digest}"
    elif ending != "mp4":
        plain = f"{plain}-{ending}"  # two clips that differ in it alone have one caption file each
    return f"{plain}.{made}" if encoded else f"{plain}.{ending}"


def crop_box_of(row: dict, size: tuple[int, int]) -> list[int] | None:
    """The crop box of a row, None for the whole frame.

    Raises: `VideoError` where it is none of a frame of this size.
    """
    box = row.get("crop_box")
    if box is None:
        return None
    is_box = (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in box)
    )
    if not is_box or min(box[2:]) < 2 or box[0] + box[2] > size[0] or box[1] + box[3] > size[1]:
        raise VideoError(
            f"{row['video_path']!r}: crop_box is {box!r}, not [x, y, width, height] in a frame of {size[0]}x{size[1]} pixels"
        )
    return box


def plan_row(
    row: dict, video_folder: str | None, target: Target, trainer_rules: TrainerRules, fps_mode: str, encoded: bool,
    beside: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """The columns of a clip's plan; `reason`, where it cannot be exported. `beside`: which columns of `beside.COLUMNS` its format has a place for."""
    clip = measure(locate(row["video_path"], video_folder))
    unfit = misfit(row, beside, video_folder, clip)
    columns: dict[str, Any] = {
        "source_frames": len(clip.times),
        "source_fps": round(float(clip.fps), 3),
        "source_width": clip.size[0],
        "source_height": clip.size[1],
        "source_seconds": round(clip.seconds, 3),
        "has_audio": clip.has_audio,
        **as_it_is(clip, target, trainer_rules),
    }
    if not encoded:
        return (
            columns
            | ({"reason": unfit} if unfit else {})
            | {
                "width": clip.size[0],
                "height": clip.size[1],
                "frames": len(clip.times),
                "fps": columns["source_fps"],
            }
        )
    cut, reason = plan_cut(clip, target, crop_box_of(row, clip.size), fps_mode)
    return columns | ({"reason": unfit or reason} if cut is None or unfit else cut_columns(clip, cut))


@dataclass(frozen=True)
class Making:
    """How media come into an export's `folder`: `how` is none, link, copy or encode; the rest is of encode, but for `first_frames`, and
    `beside`, the columns of `beside.COLUMNS` that the format has a place for, and WAV where its trainer takes audio from there. `audio`: whether clips keep theirs.
    """

    folder: str
    how: str
    target: Target
    fps_mode: str = "nearest"
    crf: int = 16
    preset: str = "medium"
    audio: bool = False
    first_frames: bool = False
    beside: tuple[str, ...] = ()


def narrowed(target: Target, planned: dict) -> Target:
    """The target with the one size and length that a clip's plan chose among several."""
    if target.buckets:
        target = replace(target, buckets=((planned["width"], planned["height"]),))
    return replace(target, counts=(planned["frames"] - target.extra_frames,)) if target.counts else target


def place_row(row: dict, video_folder: str | None, making: Making) -> dict[str, Any]:
    """Bring a clip's media into the export, at `export_file` of its row; what they then are."""
    source = locate(row["video_path"], video_folder)
    medium = Path(making.folder) / row["export_file"] if making.how != "none" else Path(source)
    clip, cut, span = None, None, None
    if making.how == "encode":
        clip = measure(source)
        cut, reason = plan_cut(clip, narrowed(making.target, row), crop_box_of(row, clip.size), making.fps_mode)
        if cut is None:
            raise VideoError(f"{source!r} has changed since the export was planned: {reason}")
        audio = making.audio and clip.has_audio
        span = encode(source, medium, cut, making.crf, making.preset, audio, making.target.sound)
    elif making.how != "none":
        place(source, medium, making.how)
    made = measure(str(medium))
    for column, file in files_of(row, making.beside, making.how == "encode").items() if making.how != "none" else ():
        if column == WAV:
            write_wav(source, Path(making.folder) / file, *(span or made.span), making.target.sound)
            continue
        other = locate(row[column], video_folder)
        bring(other, column, Path(making.folder) / file, making.how, cut, clip, (making.crf, making.preset))
    if making.first_frames and "first_frame" not in given(row, making.beside):
        write_first_frame(medium, Path(making.folder) / first_frame_file(row))
    return {
        "export_file": row["export_file"],
        "frames": len(made.times),
        "rate": str(made.fps),
        "width": made.size[0],
        "height": made.size[1],
        "bytes": medium.stat().st_size,
        "digest": content_digest(str(medium)),
    }


def first_frame_file(row: dict) -> str:
    """Where the first frame of a clip goes, relative to the export."""
    path = Path(row["export_file"])
    return str(
        Path(*path.parts[:1], "first_frames", f"{path.stem}.png")
        if row.get("split")
        else Path("first_frames", f"{path.stem}.png")
    )
