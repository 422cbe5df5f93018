"""Formats that are a list of paths and captions, with settings beside it where a trainer has such."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from utils.export.formats.entry import Entry, grouped
from utils.export.models import Target
from utils.rows import atomic_write

# Cells that pandas takes for missing, whatever their quotes (pandas.io.parsers, na_values); a space tells them from it.
MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}  # fmt: skip


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def write_json(path: Path, value: Any) -> None:
    """Only ASCII, so that a reader in whatever locale gets the same."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as out,
    ):
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{cell} " if cell in MISSING else cell for cell in row] for row in rows)


def easyanimate(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    write_json(folder / "train.json", [{"file_path": e.file, "text": e.caption, "type": "video"} for e in entries])
    return _alibaba(folder, target)


def videox_fun(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    write_json(
        folder / "train.json",
        [
            {"file_path": e.file, "text": e.caption, "type": "video", "width": e.width, "height": e.height}
            for e in entries
        ],
    )
    return _alibaba(folder, target)


def _alibaba(folder: Path, target: Target) -> list[str]:
    rate = " --video_sample_stride=1" if target.fps else ""  # the media have the model's rate already
    frames = (
        f" --video_sample_n_frames={target.max_frames or max(target.counts)}"
        if target.max_frames or target.counts
        else ""
    )
    return [f"--train_data_dir={folder} --train_data_meta={folder / 'train.json'}{rate}{frames}"]


def musubi(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """A list for each size and rate, because a dataset of the TOML has one `resolution` and one `source_fps`."""
    lines = ["[general]", "batch_size = 1", "num_repeats = 1", "bucket_no_upscale = true", ""]
    sized = bool(target.buckets)
    for values, group in grouped(entries, *(("width", "height") if sized else ()), "fps"):
        fps = float(values[-1])
        name = "-".join([*(str(value) for value in values[:-1]), f"{fps:g}fps"])
        size = values[:2] if sized else max((e.width * e.height, e.width, e.height) for e in group)[1:]
        write_text(
            folder / f"{name}.jsonl",
            "".join(json.dumps({"video_path": str(e.path), "caption": e.caption}) + "\n" for e in group),
        )
        lines += [
            "[[datasets]]",
            f"video_jsonl_file = {toml(folder / f'{name}.jsonl')}",
            f"cache_directory = {toml(folder / 'cache' / name)}",
            f"resolution = [{size[0]}, {size[1]}]",
            f"enable_bucket = {'false' if sized else 'true'}",
            'frame_extraction = "full"',
            f"max_frames = {max(e.frames for e in group)}",
            f"source_fps = {fps:.6f}",
            "",
        ]
    write_text(folder / "dataset.toml", "\n".join(lines))
    return [f"--dataset_config {folder / 'dataset.toml'}"]


def toml(value: object) -> str:
    """A TOML string: JSON's escapes are TOML's."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def ltx2(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    write_json(folder / "dataset.json", [{"video": e.file, "caption": e.caption} for e in entries])
    return [f'scripts/process_dataset.py {folder / "dataset.json"} --resolution-buckets "{_buckets(entries)}"']


def ltx_video(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    write_json(folder / "dataset.json", [{"media_path": e.file, "caption": e.caption} for e in entries])
    return [f'scripts/preprocess_dataset.py {folder / "dataset.json"} --resolution-buckets "{_buckets(entries)}"']


def _buckets(entries: Sequence[Entry]) -> str:
    return ";".join(f"{w}x{h}x{f}" for (w, h, f), _ in grouped(entries, "width", "height", "frames"))


def opensora(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    columns = ("path", "text", "num_frames", "height", "width", "aspect_ratio", "resolution", "fps")
    write_csv(
        folder / "train.csv",
        columns,
        (
            (
                str(e.path),
                e.caption,
                e.frames,
                e.height,
                e.width,
                round(e.height / e.width, 6),
                e.height * e.width,
                round(float(e.fps), 3),
            )
            for e in entries
        ),
    )
    return [f"--dataset.data-path {folder / 'train.csv'}"]


def finetrainers(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    write_text(
        folder / "metadata.jsonl",
        "".join(json.dumps({"file_name": e.file, "caption": e.caption}) + "\n" for e in entries),
    )
    diffusers(folder, entries, target)
    buckets = [[f, h, w] for (w, h, f), _ in grouped(entries, "width", "height", "frames")]
    write_json(
        folder / "training.json",
        {"datasets": [{"data_root": str(folder), "dataset_type": "video", "video_resolution_buckets": buckets}]},
    )
    return [f"--dataset_config {folder / 'training.json'}"]


def diffusers(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    write_text(folder / "prompts.txt", "".join(e.caption + "\n" for e in entries))
    write_text(folder / "videos.txt", "".join(e.file + "\n" for e in entries))
    return [f"--instance_data_root {folder} --caption_column prompts.txt --video_column videos.txt"]


def diffsynth(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    write_json(folder / "metadata.json", [{"video": e.file, "prompt": e.caption} for e in entries])
    frames = max((e.frames for e in entries), default=0)
    return [f"--dataset_base_path {folder} --dataset_metadata_path {folder / 'metadata.json'} --num_frames {frames}"]
