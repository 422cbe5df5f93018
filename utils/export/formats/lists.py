"""Formats that are a list of paths and captions, with settings beside it where a trainer has such."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from utils.export.beside import WAV
from utils.export.formats.entry import Entry, beside, grouped
from utils.export.missing_cells import MISSING
from utils.export.models import Target
from utils.rows import atomic_write


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
        # A space tells a cell from a missing one.
        writer.writerows([f"{cell} " if cell in MISSING else cell for cell in row] for row in rows)


def quoted(path: object) -> str:
    """A path as a shell takes it: `/My Holiday/set` needs quotes."""
    return quote(str(path))


def most_frames(entries: Sequence[Entry], target: Target) -> int:
    """The largest number of frames that a clip is trained on."""
    return max((e.frames_for(target) for e in entries), default=0)


def kind_of(entry: Entry) -> str:
    return "image" if entry.is_still else "video"


# What trainers call what goes beside a clip.
EASYANIMATE_BESIDE = {"control_path": "control_file_path"}
FINETRAINERS_BESIDE = {"control_path": "control_video_file_name"}  # `datasets` makes the column control_video of it
VIDEOX_BESIDE = {"control_path": "control_file_path", WAV: "audio_path"}
LTX2_BESIDE = {"reference_path": "reference_video", "mask_path": "video_mask"}
LTX_VIDEO_BESIDE = {"reference_path": "reference_path"}
DIFFSYNTH_BESIDE = {
    "control_path": "control_video",
    "reference_path": "reference_image",
    "mask_path": "vace_video_mask",
    WAV: "input_audio",
}
DIFFUSERS_BESIDE = {"first_frame": "images.txt"}


def easyanimate(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """Without --video_repeat it trains on the images alone."""
    rows = [
        {"file_path": e.file, "text": e.caption, "type": kind_of(e)} | beside(e, EASYANIMATE_BESIDE) for e in entries
    ]
    write_json(folder / "train.json", rows)
    script = "train_control.py" if any(e.beside for e in entries) else "train.py"
    return [f"accelerate launch scripts/{script} {_alibaba(folder, entries, target)} --video_repeat=1"]


VIDEOX_SCRIPTS = {
    "cogvideox": "cogvideox_fun",
    "minimax-h3": "minimax_h3",
    "wan2.2-5b": "wan2.2",
    "wan2.2-s2v": "wan2.2",
}


def videox_fun(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    rows = [
        {"file_path": e.file, "text": e.caption, "type": kind_of(e), "width": e.width, "height": e.height}
        | beside(e, VIDEOX_BESIDE)
        for e in entries
    ]
    write_json(folder / "train.json", rows)
    name = VIDEOX_SCRIPTS.get(target.model, target.model.removesuffix("-720p") or "wan2.1")
    kind = "train_s2v" if target.model == "wan2.2-s2v" else "train"
    script = f"scripts/{name}/{kind}_lora.py"
    if any("control_path" in e.beside for e in entries) and target.model != "wan2.2-s2v":
        script = f"scripts/{name.removesuffix('_fun')}_fun/train_control_lora.py"
    model = '--pretrained_model_name_or_path "$MODEL"'
    return [
        f"accelerate launch --mixed_precision bf16 {script} {model} {_alibaba(folder, entries, target)} --enable_bucket"
    ]


def _alibaba(folder: Path, entries: Sequence[Entry], target: Target) -> str:
    frames = max(1, most_frames(entries, target))
    # The media have the model's rate already: no stride.
    return f"--train_data_dir={quoted(folder)} --train_data_meta={quoted(folder / 'train.json')} --video_sample_stride=1 --video_sample_n_frames={frames}"


def toml(value: object) -> str:
    """A TOML string: JSON's escapes are TOML's."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _ltx_buckets(entries: Sequence[Entry]) -> dict[tuple[int, int, int], list[Entry]]:
    """The clips by bucket: sides that are multiples of 32 and 8n+1 frames, or the trainers refuse it; none of a clip is scaled up for it."""
    groups: dict[tuple[int, int, int], list[Entry]] = {}
    for (width, height, frames), group in grouped(entries, "width", "height", "frames"):
        bucket = max(32, width // 32 * 32), max(32, height // 32 * 32), (frames - 1) // 8 * 8 + 1
        groups.setdefault(bucket, []).extend(group)
    return groups


def ltx2(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """One list of all buckets; where there are several the trainer takes a batch size of 1."""
    write_json(
        folder / "dataset.json", [{"video": e.file, "caption": e.caption, **beside(e, LTX2_BESIDE)} for e in entries]
    )
    buckets = [f"{w}x{h}x{f}" for w, h, f in _ltx_buckets(entries)]
    if not buckets:
        return []
    models = '--model-path "$MODEL" --text-encoder-path "$TEXT_ENCODER"'
    # Named for versions of the trainer that do not find it by itself.
    listed = f"{quoted(folder / 'dataset.json')} --video-column video --resolution-buckets {quote(';'.join(buckets))}"
    several = (
        [] if len(buckets) == 1 else ["in CONFIG: optimization.batch_size 1, as the trainer wants of several buckets"]
    )
    where = f"in CONFIG: data.preprocessed_data_root {json.dumps(str(folder / '.precomputed'), ensure_ascii=False)}"
    return [
        f"uv run python scripts/process_dataset.py {listed} {models}",
        where,
        *several,
        'uv run python scripts/train.py "$CONFIG"',
    ]


def ltx_video(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """A list for each bucket, and a run of the trainer for each: it takes one."""
    groups = _ltx_buckets(entries)
    starts = []
    for (width, height, frames), group in groups.items():
        bucket = f"{width}x{height}x{frames}"
        listed = folder / ("dataset.json" if len(groups) == 1 else f"dataset-{bucket}.json")
        write_json(listed, [{"media_path": e.file, "caption": e.caption, **beside(e, LTX_VIDEO_BESIDE)} for e in group])
        place = quoted(folder / f".precomputed-{bucket}")
        reference = " --reference-column reference_path" if any(e.beside for e in group) else ""
        columns = f"--caption-column caption --video-column media_path{reference} --output-dir {place}"
        starts.append(f"python scripts/preprocess_dataset.py {quoted(listed)} --resolution-buckets {bucket} {columns}")
    return [*starts, *(['python scripts/train.py "$CONFIG"'] if starts else [])]


def opensora(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    columns = ("path", "text", "num_frames", "height", "width", "aspect_ratio", "resolution", "fps")
    rows = (
        (str(e.path), e.caption, e.frames, e.height, e.width, round(e.height / e.width, 6), e.height * e.width, round(float(e.fps), 3))
        for e in entries
    )  # fmt: skip
    write_csv(folder / "train.csv", columns, rows)
    script = "scripts/diffusion/train.py configs/diffusion/train/stage1.py"
    return [f"torchrun --nproc_per_node 8 {script} --dataset.data-path {quoted(folder / 'train.csv')}"]


def finetrainers(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """A VideoFolder, beside an ImageFolder where there are images; the settings' name means no split, or `datasets` would take it for one."""
    settings = []
    for (still,), group in grouped(entries, "is_still"):
        root = folder / Path(group[0].file).parts[0] if any(e.is_still for e in entries) else folder
        rows = [
            {"file_name": str(Path(folder, e.file).relative_to(root)), "caption": e.caption}
            | beside(e, FINETRAINERS_BESIDE)
            for e in group
        ]
        write_text(root / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        sizes = grouped(group, "width", "height", "frames")
        buckets = (
            {"image_resolution_buckets": [[h, w] for (w, h, _), _ in sizes]}
            if still
            else {"video_resolution_buckets": [[f, h, w] for (w, h, f), _ in sizes]}
        )
        kind = "image" if still else "video"
        settings.append({"data_root": str(root), "dataset_type": kind, **buckets, "reshape_mode": "bicubic"})
    write_json(folder / "datasets.json", {"datasets": settings})
    name = {"cogvideox": "cogvideox", "hunyuan": "hunyuan_video", "ltx-video": "ltx_video", "wan2.1": "wan"}.get(
        target.model, '"$NAME"'
    )
    model = f'--model_name {name} --pretrained_model_name_or_path "$MODEL"'
    kind = "control-lora --control_type custom" if any(e.beside for e in entries) else "lora"
    return [
        f"accelerate launch train.py {model} --training_type {kind} --dataset_config {quoted(folder / 'datasets.json')}"
    ]


def diffusers(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    write_text(folder / "prompts.txt", "".join(e.caption + "\n" for e in entries))
    write_text(folder / "videos.txt", "".join(e.file + "\n" for e in entries))
    images = [e.beside["first_frame"] + "\n" for e in entries if "first_frame" in e.beside]
    if images and len(images) == len(entries):
        write_text(folder / "images.txt", "".join(images))
    sizes = grouped(entries, "width", "height")
    (width, height), _ = max(sizes, key=lambda group: len(group[1]), default=((720, 480), []))
    fps = f" --fps {float(entries[0].fps):g}" if entries else ""
    frames = f"--max_num_frames {max(1, most_frames(entries, target))} --height {height} --width {width}{fps}"
    lists = f"--instance_data_root {quoted(folder)} --caption_column prompts.txt --video_column videos.txt"
    model = '--pretrained_model_name_or_path "$MODEL"'
    return [f"accelerate launch examples/cogvideo/train_cogvideox_lora.py {model} {lists} {frames}"]


DIFFSYNTH_SCRIPTS = {"ltx": "ltx2", "min": "minimax_h3"}


def diffsynth(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """Audio in the clips is listed as a file, too: LTX-2 and MiniMax H3 look into the video for it."""
    is_s2v = target.model == "wan2.2-s2v"  # driven by sound, from a first frame; a control video is the speaker's pose
    names = DIFFSYNTH_BESIDE | ({"control_path": "s2v_pose_video"} if is_s2v else {})
    track = {"input_audio"} if entries and not is_s2v and all(e.audio for e in entries) else set()
    write_json(
        folder / "metadata.json",
        [{"video": e.file, "prompt": e.caption, **dict.fromkeys(track, e.file), **beside(e, names)} for e in entries],
    )
    pixels = max((e.width * e.height for e in entries), default=1)
    where = f"--dataset_base_path {quoted(folder)} --dataset_metadata_path {quoted(folder / 'metadata.json')}"
    extra = sorted({name for e in entries for name in beside(e, names)} | track)
    inputs = [*extra, *(["input_image"] if is_s2v else [])]
    keys = f"--data_file_keys {','.join(['video', *extra])}" + (f" --extra_inputs {','.join(inputs)}" if inputs else "")
    frames = f"--num_frames {most_frames(entries, target)} --max_pixels {pixels} {keys}"
    script = f"examples/{DIFFSYNTH_SCRIPTS.get(target.model[:3], 'wanvideo')}/model_training/train.py"
    model = '--model_id_with_origin_paths "$MODEL" --lora_base_model dit --output_path "$OUTPUT"'
    if is_s2v:
        model += ' --audio_processor_config "$AUDIO_PROCESSOR"'
    return [f"accelerate launch {script} {where} {frames} {model}"]
