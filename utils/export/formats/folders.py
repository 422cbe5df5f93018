"""Formats that are folders of media, each beside a text file of its caption, and settings that name the folders."""

import json
from collections.abc import Sequence
from pathlib import Path

from utils.export.formats.entry import Entry, grouped
from utils.export.formats.lists import toml, write_json, write_text
from utils.export.models import Target


def write_captions(folder: Path, entries: Sequence[Entry]) -> None:
    """A text file beside each medium. Readers strip it and take any line end for a line feed."""
    for entry in entries:
        write_text((folder / entry.file).with_suffix(".txt"), entry.caption)


def diffusion_pipe(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """A directory of the TOML for each size: its buckets of sizes are matched to the wrong aspect ratio where there are several."""
    write_captions(folder, entries)
    lines = ["enable_ar_bucket = true", ""]
    for (width, height), group in grouped(entries, "width", "height"):
        counts = sorted({1, *(_usable(e, target) for e in group)} - {0})
        lines += [
            "[[directory]]",
            f"path = {toml((folder / group[0].file).parent)}",
            "num_repeats = 1",
            f"resolutions = [[{width}, {height}]]",
            f"ar_buckets = [[{width}, {height}]]",
            f"frame_buckets = {counts}",
            "",
        ]
    write_text(folder / "dataset.toml", "\n".join(lines))
    return [f"dataset = {toml(folder / 'dataset.toml')}"]


def _usable(entry: Entry, target: Target) -> int:
    """The frames that a clip has in the trainer, which brings it to the model's rate."""
    retimed = int(entry.frames * float(target.fps or entry.fps) / float(entry.fps) + 1e-6)
    return target.frames_of(min(retimed, entry.frames))


def simpletuner(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """A backend for each size and number of frames, because `num_frames` is one for a backend."""
    write_captions(folder, entries)
    backends: list[dict] = []
    for (width, height, frames), group in grouped(entries, "width", "height", "frames"):
        name = f"{width}x{height}x{frames}"
        backends.append(
            {
                "id": name,
                "type": "local",
                "dataset_type": "video",
                "instance_data_dir": str((folder / group[0].file).parent),
                "cache_dir_vae": str(folder / "cache" / "vae" / name),
                "caption_strategy": "textfile",
                "metadata_backend": "discovery",
                "crop": False,
                "resolution": round((width * height) ** 0.5),
                "resolution_type": "pixel_area",
                "repeats": 0,
                "video": {"num_frames": frames, "min_frames": frames, "bucket_strategy": "aspect_ratio"},
            }
        )
    text = {
        "id": "text",
        "type": "local",
        "dataset_type": "text_embeds",
        "default": True,
        "cache_dir": str(folder / "cache" / "text"),
    }
    write_json(folder / "multidatabackend.json", [*backends, text])
    return [f"--data_backend_config {folder / 'multidatabackend.json'}"]


def ai_toolkit(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """A dataset for each size and number of frames: with `num_frames` that of the files, nothing is squeezed."""
    write_captions(folder, entries)
    lines = ["datasets:"]
    for (width, height, frames), group in grouped(entries, "width", "height", "frames"):
        lines += [
            f"  - folder_path: {json.dumps(str((folder / group[0].file).parent), ensure_ascii=False)}",
            "    caption_ext: txt",
            f"    num_frames: {frames}",
            f"    fps: {float(group[0].fps):g}",
            f"    resolution: [{round((width * height) ** 0.5)}]",
        ]
    write_text(folder / "datasets.yaml", "\n".join(lines) + "\n")
    return [f"copy the `datasets` of {folder / 'datasets.yaml'} into the job's process"]
