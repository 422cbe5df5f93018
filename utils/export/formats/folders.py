"""Formats that are folders of media, each beside a text file of its caption, and settings that name the folders."""

import json
from collections.abc import Sequence
from math import ceil, isqrt
from pathlib import Path

from utils.export.formats.entry import Entry, beside, grouped
from utils.export.formats.lists import quoted, toml, write_json, write_text
from utils.export.models import Target
from utils.export.simpletuner_size import square_edge

# What the trainers call the folders of what goes beside clips, with equal stems.
DIFFUSION_PIPE_BESIDE = {"control_path": "control_path", "mask_path": "mask_path"}
AI_TOOLKIT_BESIDE = {"control_path": "control_path"}
# SimpleTuner's conditioning_type of each.
SIMPLETUNER_BESIDE = {"control_path": "controlnet", "reference_path": "reference_strict", "mask_path": "mask"}


def write_captions(folder: Path, entries: Sequence[Entry]) -> None:
    """A text file beside each medium, a line for each of several captions. Readers strip it and take any line end for a line feed."""
    for entry in entries:
        write_text((folder / entry.file).with_suffix(".txt"), "\n".join(entry.captions))


def diffusion_pipe(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """A directory of the TOML for each folder, which holds clips of one size and one number of frames at the model's rate: several sizes are matched to
    the wrong aspect ratio, and bucketed by the frames of the file, which at another rate may be more than the trainer then has.
    """
    by_length = grouped(entries, "width", "height", "usable", "is_still")
    groups = [((w, h, u), group) for (w, h, u, still), group in by_length if u > 1 or still]
    first = list(groups[0][0][:2]) if groups else [512, 512]
    lines = [f"resolutions = [{first}]  # looked up, though each directory has its own", "enable_ar_bucket = true", ""]
    for (width, height, frames), group in groups:
        if any(entry.others for entry in group):  # a text file is one caption there
            listed = {Path(entry.file).name: entry.captions for entry in group}
            write_json((folder / group[0].file).parent / "captions.json", listed)
        else:
            write_captions(folder, group)
        besides = [
            f"{name} = {toml((folder / path).parent)}"
            for name, path in beside(group[0], DIFFUSION_PIPE_BESIDE).items()  # equal stems
        ]
        lines += [
            "[[directory]]",
            f"path = {toml((folder / group[0].file).parent)}",
            "num_repeats = 1",
            f"resolutions = [[{width}, {height}]]",
            f"ar_buckets = [[{width}, {height}]]",
            f"frame_buckets = {sorted({1, frames})}",
            *besides,
            "",
        ]
    write_text(folder / "dataset.toml", "\n".join(lines))
    train = 'deepspeed --num_gpus=1 train.py --deepspeed --config "$CONFIG"'
    return [f"in CONFIG: dataset = {toml(folder / 'dataset.toml')}", f"{train} --cache_only", train]


def simpletuner(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """A backend for each size, with buckets by length inside: many small ones would fail its check of bucket sizes. Images have backends of their own."""
    write_captions(folder, entries)
    backends: list[dict] = []
    for (width, height, still), group in grouped(entries, "width", "height", "is_still"):
        name = f"{width}x{height}" + ("-images" if still else "")
        counts = [e.frames for e in group]
        length = {
            "bucket_strategy": "resolution_frames",
            "frame_interval": 1,
            "min_frames": min(counts),
            "max_frames": max(counts),
        }
        resolution = square_edge((width, height), target.multiple) or round((width * height) ** 0.5)
        size = {
            "metadata_backend": "discovery",
            "crop": False,
            "resolution": resolution,
            "resolution_type": "pixel_area",
        }
        conditions = [
            {
                "id": f"{name}-{kind}",
                "type": "local",
                "dataset_type": "conditioning",
                "conditioning_type": kind,
                "source_dataset_id": name,
                "instance_data_dir": str((folder / path).parent),
                "cache_dir_vae": str(folder / "cache" / "vae" / f"{name}-{kind}"),
                **size,
                **({} if still else {"video": length}),
            }
            for kind, path in beside(group[0], SIMPLETUNER_BESIDE).items()  # equal names
        ]
        backends.append(
            {
                "id": name,
                "type": "local",
                "dataset_type": "image" if still else "video",
                "instance_data_dir": str((folder / group[0].file).parent),
                "cache_dir_vae": str(folder / "cache" / "vae" / name),
                "caption_strategy": "textfile",
                **size,
                "repeats": 0,
                **({"conditioning_data": [condition["id"] for condition in conditions]} if conditions else {}),
                **({} if still else {"video": length, **_simpletuner_audio(group, target)}),
            }
        )  # fmt: skip
        backends += conditions
    text = {
        "id": "text",
        "type": "local",
        "dataset_type": "text_embeds",
        "default": True,
        "cache_dir": str(folder / "cache" / "text"),
    }
    write_json(folder / "multidatabackend.json", [*backends, text])
    family = {"wan": "wan", "ltx": "ltxvideo2"}.get(target.model[:3])
    model = (
        f"--model_family {family} --aspect_bucket_alignment {target.multiple}" if family else '--model_family "$FAMILY"'
    )
    rate = f" --framerate {float(target.fps):g}" if target.fps else ""
    return [f"simpletuner train {model}{rate} --data_backend_config {quoted(folder / 'multidatabackend.json')}"]


def _simpletuner_audio(group: Sequence[Entry], target: Target) -> dict[str, dict]:
    """Without this part it trains LTX-2 on the frames alone; with it, it stops at a clip without audio unless that may be silence."""
    if not any(e.audio for e in group):
        return {}
    form = {"sample_rate": target.sound.rate, "channels": target.sound.channels} if target.sound else {}
    return {"audio": {"auto_split": True, **form, "allow_zero_audio": not all(e.audio for e in group)}}


def ai_toolkit(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """A dataset for each size and number of frames: with `num_frames` that of the files, nothing is squeezed. `resolution`² pixels are the most, so that its
    root is rounded up.
    """
    write_captions(folder, entries)
    lines = ["datasets:"]
    for (width, height, frames, _), group in grouped(entries, "width", "height", "frames", "is_still"):
        edge = isqrt(width * height)
        lines += [
            f"  - folder_path: {json.dumps(str((folder / group[0].file).parent), ensure_ascii=False)}",
            "    caption_ext: txt",
            f"    num_frames: {frames}",
            f"    fps: {ceil(group[0].fps) if group[0].fps.denominator == 1 else float(group[0].fps):g}",
            f"    resolution: [{edge + (edge * edge < width * height)}]",
            *(["    do_audio: true"] if any(e.audio for e in group) else []),
            *(
                f"    {name}: {json.dumps(str((folder / path).parent), ensure_ascii=False)}"
                for name, path in beside(group[0], AI_TOOLKIT_BESIDE).items()
            ),
        ]
    write_text(folder / "datasets.yaml", "\n".join(lines) + "\n")
    return [f"copy the `datasets` of {quoted(folder / 'datasets.yaml')} into the job's process", 'python run.py "$JOB"']
