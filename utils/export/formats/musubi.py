"""musubi-tuner's format: a list for each size and rate, a TOML that names them, and its three scripts."""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from utils.export.formats.entry import Entry, beside, grouped
from utils.export.formats.lists import quoted, toml, write_text
from utils.export.models import Target

# Of a model: the scripts' first name, the module of its LoRA, and the weights that caching of latents and of texts want (docs/*.md there).
WAN = ("wan", "lora_wan", "--vae", "--t5")
HUNYUAN = ("", "lora", "--vae", "--text_encoder1 --text_encoder2")
SCRIPTS = {
    **dict.fromkeys(("wan2.1", "wan2.1-720p", "wan2.2"), WAN),
    **dict.fromkeys(("hunyuan", "hunyuan-720p"), HUNYUAN),
    "hunyuan1.5": ("hv_1_5", "lora_hv_1_5", "--vae", "--text_encoder --byt5"),
    "framepack": ("fpack", "lora_framepack", "--vae --image_encoder", "--text_encoder1 --text_encoder2"),
    "kandinsky5": ("kandinsky5", "lora_kandinsky", "--vae", "--text_encoder_qwen --text_encoder_clip"),
    "minimax-h3": (
        "minimax_h3",
        "lora_minimax_h3",
        "--task t2va --video_vae --audio_vae",
        "--task t2va --text_encoder",
    ),
}
# Of the training script: which network the weights are of, and what docs/wan.md there trains a LoRA with; the default rate hardly moves one.
AS_DOCUMENTED = "--timestep_sampling shift --discrete_flow_shift 3.0 --learning_rate 2e-4 --max_train_epochs 16 --save_every_n_epochs 1"
TRAINED_BY = {
    **dict.fromkeys(("wan2.1", "wan2.1-720p"), f" --task t2v-14B {AS_DOCUMENTED}"),
    "wan2.2": f" --task t2v-A14B {AS_DOCUMENTED}",
    "minimax-h3": " --task t2va",
}
BESIDE = {"control_path": "control_path"}
RELEASED_H3 = 124  # frames; fewer than 5 s are an experiment there, and want a flag


def musubi(folder: Path, entries: Sequence[Entry], target: Target) -> list[str]:
    """A list for each size and rate, because a dataset of the TOML has one `resolution` and one `source_fps`, and smaller frames would be
    scaled up to it; for MiniMax H3 for each length too, whose `target_frames` are taken each from every clip that has them.
    """
    is_h3 = target.model == "minimax-h3"
    stills, entries = [e for e in entries if e.is_still], [e for e in entries if not e.is_still]
    lines = ["[general]", "batch_size = 1", "num_repeats = 1", "enable_bucket = true", "bucket_no_upscale = false", ""]
    for (width, height, fps, *frames), group in grouped(
        entries, "width", "height", "fps", *(["frames"] if is_h3 else [])
    ):
        name = "-".join([f"{width}x{height}", *(f"{count}" for count in frames), f"{float(fps):g}fps"])
        rows = [
            json.dumps({"video_path": str(e.path), "caption": e.caption, **_beside(folder, e)}) + "\n" for e in group
        ]
        write_text(folder / f"{name}.jsonl", "".join(rows))
        most = max(e.frames for e in group)
        length = (
            [f"target_frames = {frames}", 'frame_extraction = "head"']
            if is_h3
            else [f"max_frames = {most}", 'frame_extraction = "full"']
        )
        lines += [
            "[[datasets]]",
            f"video_jsonl_file = {toml(folder / f'{name}.jsonl')}",
            f"cache_directory = {toml(folder / 'cache' / name)}",
            f"resolution = [{width}, {height}]",
            *length,
            *([] if is_h3 else [f"source_fps = {_decimal(fps)}"]),
            "",
        ]
    for (width, height), group in grouped(stills, "width", "height"):
        name = f"{width}x{height}-images"
        rows = [
            json.dumps({"image_path": str(e.path), "caption": e.caption, **_beside(folder, e)}) + "\n" for e in group
        ]
        write_text(folder / f"{name}.jsonl", "".join(rows))
        lines += [
            "[[datasets]]",
            f"image_jsonl_file = {toml(folder / f'{name}.jsonl')}",
            f"cache_directory = {toml(folder / 'cache' / name)}",
            f"resolution = [{width}, {height}]",
            "",
        ]
    write_text(folder / "dataset.toml", "\n".join(lines))
    return _starts(folder, target, min((e.frames for e in entries), default=RELEASED_H3))


def _beside(folder: Path, entry: Entry) -> dict[str, str]:
    """A control video or image, by its absolute path, as the video's own."""
    return {name: str(folder / path) for name, path in beside(entry, BESIDE).items()}


def _decimal(fps: Fraction) -> str:
    """A TOML float, which `source_fps` must be."""
    return f"{float(fps):.6f}"


def _starts(folder: Path, target: Target, least: int) -> list[str]:
    config = f"--dataset_config {quoted(folder / 'dataset.toml')}"
    if target.model not in SCRIPTS:
        return [config]
    first, lora, latents, texts = SCRIPTS[target.model]
    before = f"src/musubi_tuner/{first}_" if first else "src/musubi_tuner/"
    train = f"{before}train_network.py" if first else f"{before}hv_train_network.py"
    short = " --allow_experimental_duration" if target.model == "minimax-h3" and least < RELEASED_H3 else ""
    return [
        f"python {before}cache_latents.py {config} {_weights(latents)}{short}",
        f"python {before}cache_text_encoder_outputs.py {config} {_weights(texts)}",
        f'accelerate launch --num_cpu_threads_per_process 1 --mixed_precision bf16 {train} {config}{TRAINED_BY.get(target.model, "")} --dit "$DIT" '
        f'--network_module networks.{lora} --network_dim 32 --sdpa --mixed_precision bf16 --gradient_checkpointing --output_dir "$OUTPUT" --output_name lora',
    ]


def _weights(flags: str) -> str:
    """Flags of weights with their shell variables: `--vae` becomes `--vae "$VAE"`."""
    words = flags.split()
    pairs = zip(words, [*words[1:], "--"])
    return " ".join(
        f'{word} "${word[2:].upper()}"' if word.startswith("--") and following.startswith("--") else word
        for word, following in pairs
    )
