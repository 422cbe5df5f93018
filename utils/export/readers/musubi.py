"""How musubi-tuner loads a set (kohya-ss/musubi-tuner, src/musubi_tuner/dataset: image_video_dataset.py, datasources.py, bucket.py, media_utils.py).

Each [[datasets]] of the TOML has one list, one `resolution` and one `source_fps`. Where that is given, frames are dropped down to the
architecture's rate, and never repeated; MiniMax H3 goes by time stamps instead. `full` takes all frames up to `max_frames`, cut to 4n+1; `head`
takes one sample for each of `target_frames` that the video has. FramePack cuts on to whole windows, and stops where there is none. Caching makes
buckets of the area of `resolution` whatever `enable_bucket` and `bucket_no_upscale` say, and takes that of the nearest aspect ratio.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from utils.errors import RunError
from utils.export.models import Size, Target
from utils.export.readers.sample import Media, Medium, Sample, floored, still
from utils.export.readers.toml_file import read_toml

WINDOW = 36  # frames of FramePack's window of 9 latents


def read(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    for dataset in read_toml(folder / "dataset.toml").get("datasets", []):
        listed = dataset.get("image_jsonl_file") or dataset["video_jsonl_file"]
        with open(listed, encoding="utf-8") as lines:
            items = [json.loads(line) for line in lines if line.strip()]
        if 0 < sum("control_path" in item for item in items) < len(items):
            raise RunError(f"{listed}: musubi-tuner needs a control_path for every video or for none")
        for item in items:
            path = Path(item["image_path" if "image_jsonl_file" in dataset else "video_path"])
            beside = (Path(item["control_path"]),) if item.get("control_path") else ()
            if "image_jsonl_file" in dataset:
                medium = media(path)
                size = _bucket((medium.width, medium.height), dataset["resolution"], 16)
                yield replace(still(path, item["caption"], medium, size), beside=beside)
                continue
            for sample in _samples(path, item["caption"], media(path), dataset, target):
                yield replace(sample, beside=beside)


def _samples(path: Path, caption: str, medium: Medium, dataset: dict, target: Target) -> Iterator[Sample]:
    there, fps = _retimed(medium, dataset.get("source_fps"), target)
    if dataset.get("frame_extraction", "head") == "full":
        lengths = [(min(there, dataset["max_frames"]) - 1) // 4 * 4 + 1]
    else:
        lengths = [frames for frames in dataset["target_frames"] if frames <= there]
    multiple = 32 if target.model == "minimax-h3" else 16
    width, height = _bucket((medium.width, medium.height), dataset["resolution"], multiple)
    for frames in lengths:
        if target.model == "framepack":
            frames = (frames - 1) // WINDOW * WINDOW + 1
            if frames <= WINDOW:
                raise RunError(f"{path}: FramePack needs at least 37 frames; a shorter clip aborts all caching")
        yield Sample(path, caption, frames, width, height, fps)
    if not lengths:
        yield Sample(path, caption, 0, width, height, fps, f"fewer than {min(dataset['target_frames'])} frames")


def _retimed(medium: Medium, source_fps: float | None, target: Target) -> tuple[int, float]:
    """How many frames are there at the architecture's rate, and that rate."""
    wanted, own = float(target.fps or 0), float(medium.fps)
    if target.model == "minimax-h3":
        return math.ceil(medium.frames / own * wanted - 1e-9), wanted
    if source_fps is None or not wanted or wanted >= source_fps:
        return medium.frames, own
    return int((medium.frames - 1) * wanted / source_fps) + 1, wanted


def _bucket(size: Size, resolution: Sequence[int], multiple: int) -> Size:
    area = resolution[0] * resolution[1]
    edge = math.isqrt(area)
    buckets: set[Size] = set()
    for side in range(floored(edge // 2, multiple), edge + multiple, multiple):
        if side:
            buckets |= {(side, floored(area // side, multiple)), (floored(area // side, multiple), side)}
    aspect = size[0] / size[1]
    return min(
        sorted(bucket for bucket in buckets if min(bucket)), key=lambda b: abs(b[0] / b[1] - aspect), default=size
    )
