"""How DiffSynth-Studio loads a set (modelscope/DiffSynth-Studio, diffsynth/core/data/operators.py and unified_dataset.py, examples/*/model_training/train.py).

A frame larger than `--max_pixels` is scaled down; sides are floored to the model's multiple. At most `--num_frames` frames, cut to the model's rule. LTX-2 and MiniMax H3
fix the rate: a video then has floor(duration * 24) frames, and the duration is what ffmpeg prints, rounded to two decimals.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from utils.errors import RunError
from utils.export.models import Size, Target
from utils.export.readers.sample import Media, Medium, Sample, flag, floored, needed_flag, still


def read(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    start = next(start for start in starts if "--dataset_metadata_path" in start)
    base = Path(needed_flag(start, "--dataset_base_path"))
    for item in json.loads(Path(needed_flag(start, "--dataset_metadata_path")).read_text(encoding="utf-8")):
        path = base / item["video"]
        keys = needed_flag(start, "--data_file_keys").split(",")
        wanted = {*(flag(start, "--extra_inputs") or "").split(",")} - {
            "",
            "input_image",
            "end_image",
        }  # these two are frames of the video
        if wanted - item.keys():
            raise RunError(
                f"{path}: DiffSynth-Studio stops at a row without {min(wanted - item.keys())}, one of its extra inputs"
            )
        # Audio of LTX-2 and MiniMax H3 is looked for in a video, and so may be listed as the clip itself.
        beside = tuple(base / item[key] for key in keys if key in item and item[key] != item["video"])
        yield replace(_sample(path, item["prompt"], media(path), start, target), beside=beside)


def _sample(path: Path, caption: str, medium: Medium, start: str, target: Target) -> Sample:
    if medium.is_still:
        return still(path, caption, medium, _scaled(medium, start, target))
    fixed = bool(target.extra_frames)
    there = math.floor(round(medium.frames / float(medium.fps), 2) * float(target.fps or 0)) if fixed else medium.frames
    frames = min(there, int(needed_flag(start, "--num_frames")))
    step, remainder = (target.step, target.remainder) if target.step else (4, 1)
    if there < int(needed_flag(start, "--num_frames")):
        while frames > 1 and frames % step != remainder:
            frames -= 1
    size = _scaled(medium, start, target)
    return Sample(path, caption, frames, *size, float(target.fps if fixed and target.fps else medium.fps))


def _scaled(medium: Medium, start: str, target: Target) -> Size:
    most = int(flag(start, "--max_pixels") or 1920 * 1080)
    scale = max(1.0, (medium.width * medium.height / most) ** 0.5)
    width, height = (floored(int(side / scale), max(16, target.multiple)) for side in (medium.width, medium.height))
    return width, height
