"""Checkpoints with the shape of models that caption, and random weights: what they cost to run is what the real ones cost, where no
model hub is at hand. The tokenizer is a small one; the matrices of the vocabulary have their real size.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT

sys.path.append(str(ROOT / "tests"))  # tiny_models, tiny_families


def llava_1_6_7b() -> dict[str, Any]:
    """LLaVA-1.6 with Vicuna 7B and CLIP ViT-L/14 at 336 pixels: the whole image and up to four tiles."""
    side, tiles = 336, [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    return {
        "family": "llava_next",
        "text": {
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 32, "head_dim": 128, "vocab_size": 32064,
        },
        "vision": {
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "image_size": side, "projection_dim": 768,
        },
        "model": {"image_grid_pinpoints": tiles, "image_seq_length": 576},
        "images": {
            "size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}, "image_grid_pinpoints": tiles,
        },
    }  # fmt: skip


def qwen3_vl_8b() -> dict[str, Any]:
    """Qwen3-VL 8B: images in their own shape, 32 x 32 pixels a token."""
    return {
        "family": "qwen3_vl",
        "text": {
            "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
            "rope_parameters": {
                "rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True, "rope_theta": 5e6,
            },
        },
        "vision": {
            "hidden_size": 1152, "intermediate_size": 4304, "depth": 27, "num_heads": 16, "out_hidden_size": 4096,
            "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24],
        },
        "model": {},
        "images": {"size": {"shortest_edge": 65536, "longest_edge": 16777216}},
    }  # fmt: skip


SHAPES: dict[str, Callable[[], dict[str, Any]]] = {"llava-1.6-7b": llava_1_6_7b, "qwen3-vl-8b": qwen3_vl_8b}


def shaped_config(name: str, folder: Path, layers: int | None = None) -> Any:
    """Save a small checkpoint of the family in `folder`, its processor with the sizes of `name`, and give the configuration of
    its shape; with `layers` of each kind alone, to try it.
    """
    import tiny_models
    from transformers import AutoConfig, AutoProcessor

    shape = SHAPES[name]()
    tiny_models.build(shape["family"], folder)
    config = AutoConfig.from_pretrained(folder)
    for part, changes in (
        (config.text_config, shape["text"]),
        (config.vision_config, shape["vision"]),
        (config, shape["model"]),
    ):
        for key, value in changes.items():
            setattr(part, key, value)
    if layers:
        config.text_config.num_hidden_layers = layers
        for key in ("num_hidden_layers", "depth"):
            if hasattr(config.vision_config, key):
                setattr(config.vision_config, key, layers)
        if hasattr(config.vision_config, "deepstack_visual_indexes"):
            config.vision_config.deepstack_visual_indexes = [0]
    if hasattr(config.text_config, "layer_types"):
        config.text_config.layer_types = ["full_attention"] * config.text_config.num_hidden_layers
    processor = AutoProcessor.from_pretrained(folder)
    for key, value in shape["images"].items():
        setattr(processor.image_processor, key, value)
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    return config


def make_shape(name: str, folder: Path, layers: int | None = None) -> Path:
    """The checkpoint in `folder`, in bfloat16: 14 GB of LLaVA, 18 of Qwen3-VL. Its answers have no end of their own."""
    import torch
    from tiny_families import name_as_on_the_hub
    from transformers import AutoModelForImageTextToText

    config = shaped_config(name, folder, layers)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder, max_shard_size="100GB")  # one file, whose names are changed below
    if SHAPES[name]()["family"] == "llava_next":
        name_as_on_the_hub(folder / "model.safetensors")
    return folder
