"""How diffusion-pipe loads a set (tdrussell/diffusion-pipe, utils/dataset.py and models/base.py).

`resolutions` of the TOML's top level is looked up even where each directory has its own. Every file of a directory that is no text, json or archive is taken
for a medium, with the `.txt` beside it, or `captions.json`, a list of captions for each file name. A video gets the nearest aspect ratio and the largest of
`frame_buckets` that its frames fill, counted in the file, before the rate is changed; where it has fewer after that, caching stops with an error.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from utils.errors import RunError
from utils.export.models import Target
from utils.export.readers.sample import Media, Medium, Sample, left_out, with_stem
from utils.export.readers.toml_file import read_toml

NO_MEDIA = {".txt", ".npz", ".json", ".parquet", ".bak", ".db"}
IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


def read(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    config = read_toml(folder / "dataset.toml")
    if "resolutions" not in config:
        raise RunError(f"{folder / 'dataset.toml'}: diffusion-pipe stops without `resolutions` at the top level")
    for directory in config.get("directory", []):
        path = Path(directory["path"])
        listed = path / "captions.json"
        captions = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else None
        for file in sorted(path.iterdir()):
            if file.is_file() and file.suffix not in NO_MEDIA:
                medium = media(file)
                beside = tuple(
                    p for name in ("control_path", "mask_path") for p in with_stem(directory.get(name), file)
                )
                if "control_path" in directory and not with_stem(directory["control_path"], file):
                    raise RunError(f"{file}: diffusion-pipe stops without a control file of its stem")
                for caption in _captions(file, captions):
                    yield replace(_sample(file, caption, medium, directory, target), beside=beside)


def _captions(file: Path, listed: dict | None) -> list[str]:
    if listed is not None:
        return listed.get(file.name, [])
    text = file.with_suffix(".txt")
    if not text.exists():
        raise RunError(
            f"{file} is in the export but has no caption beside it; does it belong to another program? Move it away"
        )
    return [text.read_text(encoding="utf-8").strip()]


def _sample(file: Path, caption: str, medium: Medium, directory: dict, target: Target) -> Sample:
    aspects = [width / height for width, height in directory["ar_buckets"]]
    aspect = min(aspects, key=lambda ar: abs(math.log(medium.width / medium.height) - math.log(ar)))
    fits = [frames for frames in {1, *directory["frame_buckets"]} if frames <= medium.frames]
    if not fits or (max(fits) == 1 and file.suffix.lower() not in IMAGES):
        return left_out(file, caption, medium, f"{medium.frames} frames fill no bucket")
    frames = _aligned(max(fits), target)
    fps = medium.fps if medium.is_still else target.fps or medium.fps
    there = int(medium.frames * float(fps) / float(medium.fps))
    if there < frames:
        raise RunError(
            f"{file}: diffusion-pipe brings it to {there} frames at {float(fps):g} fps, fewer than the {frames} of its bucket, and stops"
        )
    area = directory["resolutions"][0][0] * directory["resolutions"][0][1]
    multiple = max(16, target.multiple)
    width, height = (
        round(round(side / multiple) * multiple) for side in (math.sqrt(area * aspect), math.sqrt(area / aspect))
    )
    return Sample(file, caption, frames, width, height, float(fps))


def _aligned(frames: int, target: Target) -> int:
    step, remainder = (target.step, target.remainder) if target.step else (1, 0)
    return (frames - remainder) // step * step + remainder
