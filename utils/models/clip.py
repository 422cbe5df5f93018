"""Embeddings of frames and texts by CLIP of open_clip; ViT-L/14 with OpenAI's weights by default."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.errors import UsageError
from utils.models.device import autocast, normalised
from utils.models.image_transform import ImageTransform
from utils.models.weights import from_hub, load_into, local_file, read_tensors

ARCHITECTURE = "ViT-L-14-quickgelu"  # OpenAI trained with QuickGELU, which no weights file says
REPOSITORY = "timm/vit_large_patch14_clip_224.openai"
FILES = [
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "ViT-L-14.pt",
]  # fmt: skip
# ViT-L-14.pt as OpenAI gives it out, a TorchScript archive; the digest is part of its address.
OPENAI_SCRIPT_SHA256 = "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"


def clip_weights(model_path: str | None) -> Path:
    """The weights file of CLIP: a user's own, or OpenAI's ViT-L/14 from the hub."""
    if model_path:
        return local_file(model_path, FILES)
    return from_hub(REPOSITORY, FILES[:1], f"CLIP ViT-L/14 with OpenAI's weights ({FILES[0]})")


class ClipModel:
    """CLIP on `device`: embeddings of length 1, of `width` numbers, and `transform`, which brings a frame to its size.

    Without an `architecture`, a name of open_clip's, it is that of the `open_clip_config.json` beside the weights, else
    `ARCHITECTURE`.
    """

    def __init__(self, weights: Path, architecture: str | None, device: torch.device, precision: str = "fp16"):
        import open_clip  # here, because it takes as long as everything else together

        self.device, self.precision = device, precision
        tensors = read_tensors(weights, OPENAI_SCRIPT_SHA256)
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
        for key in ("input_resolution", "context_length", "vocab_size"):  # numbers that OpenAI's archive holds
            tensors.pop(key, None)
        logging.disable(logging.WARNING)  # open_clip warns of random weights, which are filled in below
        try:
            configured = (weights.parent / "open_clip_config.json").is_file()
            name = architecture or (f"local-dir:{weights.parent}" if configured else ARCHITECTURE)
            self.model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
            self.tokenizer = open_clip.get_tokenizer(name)
        except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
            raise UsageError(f"{weights}: open_clip cannot load it as CLIP ({str(error)[:120]})") from None
        finally:
            logging.disable(logging.NOTSET)
        load_into(self.model, tensors, weights)
        self.model.eval().to(device)
        expected = self.model.visual.preprocess_cfg
        sizes = {expected["size"]} if isinstance(expected["size"], int) else set(expected["size"])
        if len(sizes) != 1 or expected["resize_mode"] not in ("shortest", "squash"):
            raise UsageError(
                f"{weights}: this CLIP takes images of {expected['size']} pixels ({expected['resize_mode']}); "
                "only square ones, by shortest or squash, are supported"
            )
        self.transform = ImageTransform(sizes.pop(), expected["resize_mode"], expected["interpolation"])
        self.mean, self.std = expected["mean"], expected["std"]
        self.width = self.embed_texts([""]).shape[1]

    @torch.inference_mode()
    def embed_frames(self, frames: np.ndarray) -> np.ndarray:
        """frames: uint8 (N, size, size, 3), as `transform` gives them. Gives float32 (N, width), each of length 1."""
        with autocast(self.device, self.precision):
            found = self.model.encode_image(normalised(frames, self.mean, self.std, self.device))
        return nn.functional.normalize(found.float(), dim=-1).cpu().numpy()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (N, width), each of length 1; what goes beyond the model's context (77 tokens) is cut off."""
        with autocast(self.device, self.precision):
            found = self.model.encode_text(self.tokenizer(list(texts)).to(self.device))
        return nn.functional.normalize(found.float(), dim=-1).cpu().numpy()
