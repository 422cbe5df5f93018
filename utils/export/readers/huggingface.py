"""How trainers and libraries that build on `datasets` load a set: `hf`, finetrainers, diffusers.

VideoFolder (huggingface/datasets, data_files.py and packaged_modules/folder_based_builder): names that mean a split, between separators in folders first, in file names second,
choose the files of a split, and all others vanish, metadata too. finetrainers (huggingface/finetrainers, finetrainers/data/dataset.py and functional/video.py): VideoFolder where there is a
`metadata.*`; videos get the bucket of most frames that they fill, then of the nearest aspect ratio. diffusers (examples/cogvideo): two lists, line by line; at most `--max_num_frames`
frames, cut to 4n+1, scaled to `--height` and `--width`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from utils.errors import RunError
from utils.export.beside import COLUMNS
from utils.export.models import Target
from utils.export.readers.sample import Media, Sample, as_it_is, needed_flag
from utils.export.split_names import means_a_split


def read_videofolder(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    _refuse_splits(folder)
    with open(folder / "metadata.jsonl", encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            path = folder / item["file_name"]
            if any(part.startswith((".", "__")) for part in Path(item["file_name"]).parts):
                raise RunError(f"{path}: `datasets` skips hidden files; please report")
            beside = tuple(folder / item[name] for name in (*COLUMNS, "control_video_file_name") if item.get(name))
            yield replace(as_it_is(path, item["caption"], media(path)), beside=beside)


def read_finetrainers(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    start = next(start for start in starts if "--dataset_config" in start)
    for config in json.loads(Path(needed_flag(start, "--dataset_config")).read_text(encoding="utf-8"))["datasets"]:
        yield from _of_dataset(config, media, target, starts)


def _of_dataset(config: dict, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    if config["dataset_type"] == "image":
        for sample in read_videofolder(Path(config["data_root"]), media, target, starts):
            aspect = sample.width / sample.height
            height, width = min(config["image_resolution_buckets"], key=lambda b: abs(b[1] / b[0] - aspect))
            yield replace(sample, width=width, height=height)
        return
    buckets = config["video_resolution_buckets"]  # frames, height, width
    for sample in read_videofolder(Path(config["data_root"]), media, target, starts):
        fits = [bucket for bucket in buckets if bucket[0] <= sample.frames]
        frames = max(bucket[0] for bucket in fits) if fits else 1
        same = [bucket for bucket in buckets if bucket[0] == frames] or buckets
        aspect = sample.width / sample.height
        _, height, width = min(same, key=lambda b: abs(b[2] / b[1] - aspect))
        yield replace(sample, frames=frames, width=width, height=height)


def read_diffusers(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    start = next(start for start in starts if "--instance_data_root" in start)
    prompts, videos = (
        (folder / needed_flag(start, flag)).read_text(encoding="utf-8").splitlines()
        for flag in ("--caption_column", "--video_column")
    )
    if len(prompts) != len(videos):
        raise RunError(f"{folder}: {len(prompts):,} prompts and {len(videos):,} videos; please report")
    listed = folder / "images.txt"
    images = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    for number, (prompt, video) in enumerate(zip(prompts, videos, strict=True)):
        medium = media(folder / video.strip())
        frames = min(medium.frames, int(needed_flag(start, "--max_num_frames")))
        width, height = int(needed_flag(start, "--width")), int(needed_flag(start, "--height"))
        frames = (frames - 1) // 4 * 4 + 1
        beside = (folder / images[number],) if images else ()
        yield Sample(folder / video.strip(), prompt.strip(), frames, width, height, float(medium.fps), beside=beside)


def _refuse_splits(folder: Path) -> None:
    """Hold every name below the folder against the rule, whatever kind of file it is; `datasets` passes hidden ones over."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        is_hidden = any(part.startswith((".", "__")) for part in Path(name).parts)
        if path.is_file() and not is_hidden and means_a_split(name):
            raise RunError(
                f"{path}: `datasets` takes this name for a split, and other files would vanish; move it away"
            )
