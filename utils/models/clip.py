"""Scores of frames by CLIP: aesthetics (LAION's predictor v2), agreement with a text, likeness of neighbouring frames.

CLIP is open_clip's; ViT-L/14 with OpenAI's weights where nothing else is given. The predictor is Schuhmann's "improved
aesthetic predictor" (github.com/christophschuhmann/improved-aesthetic-predictor): five linear layers, trained on
ratings of 1–10, over the embedding of length 1.
"""

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.errors import UsageError
from utils.models.device import autocast, normalised, rank_device
from utils.models.image_transform import ImageTransform
from utils.models.predictors import load_predictor, predictor_weights
from utils.models.weights import from_hub, load_into, local_file, read_tensors, sha256_of
from utils.pipeline.ranks import Ranks

ARCHITECTURE = "ViT-L-14-quickgelu"  # OpenAI trained with QuickGELU, which no weights file says
CLIP_REPOSITORY = "timm/vit_large_patch14_clip_224.openai"
CLIP_FILES = [
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "ViT-L-14.pt",
]  # fmt: skip
# ViT-L-14.pt as OpenAI gives it out, a TorchScript archive; the digest stands in its address.
OPENAI_SCRIPT_SHA256 = "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"


def clip_weights(model_path: str | None) -> Path:
    """The weights file of CLIP: a user's own, or OpenAI's ViT-L/14 from the hub."""
    if model_path:
        return local_file(model_path, "--model_path", CLIP_FILES)
    what = f"CLIP ViT-L/14 with OpenAI's weights ({CLIP_FILES[0]})"
    return from_hub(CLIP_REPOSITORY, CLIP_FILES[:1], what, "--model_path")


class ClipModel:
    """CLIP on `device`: embeddings of length 1 of frames and texts, and `fit`, which brings a frame to its size.

    Without an `architecture`, a name of open_clip's, it is that of the `open_clip_config.json` beside the weights, else
    `ARCHITECTURE`.
    """

    def __init__(self, weights: Path, architecture: str | None, device: torch.device, precision: str = "fp16"):
        import open_clip  # here, because it takes as long as everything else together

        self.device, self.precision = device, precision
        tensors = read_tensors(weights, "--model_path", OPENAI_SCRIPT_SHA256)
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
            raise UsageError(f"--model_path {weights}: no CLIP of open_clip can be made ({str(error)[:120]})") from None
        finally:
            logging.disable(logging.NOTSET)
        load_into(self.model, tensors, weights, "--model_path")
        self.model.eval().to(device)
        wanted = self.model.visual.preprocess_cfg
        sizes = {wanted["size"]} if isinstance(wanted["size"], int) else set(wanted["size"])
        if len(sizes) != 1 or wanted["resize_mode"] not in ("shortest", "squash"):
            raise UsageError(
                f"--model_path {weights}: pictures of {wanted['size']}, {wanted['resize_mode']}, cannot be made"
            )
        self.fit = ImageTransform(sizes.pop(), wanted["resize_mode"], wanted["interpolation"])
        self.mean, self.std = wanted["mean"], wanted["std"]

    @torch.inference_mode()
    def embed_frames(self, frames: np.ndarray) -> np.ndarray:
        """frames: uint8 (N, size, size, 3), as `fit` gives them. Gives float32 (N, D), each of length 1."""
        with autocast(self.device, self.precision):
            found = self.model.encode_image(normalised(frames, self.mean, self.std, self.device))
        return nn.functional.normalize(found.float(), dim=-1).cpu().numpy()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (N, D), each of length 1; what goes beyond the model's context (77 tokens) is cut off."""
        with autocast(self.device, self.precision):
            found = self.model.encode_text(self.tokenizer(list(texts)).to(self.device))
        return nn.functional.normalize(found.float(), dim=-1).cpu().numpy()


def load_models(args: argparse.Namespace, ranks: Ranks) -> tuple[dict, dict[str, str]]:
    """The models that `args.metrics` need, by name, on the rank's device, each once; and the SHA-256 of each file of
    weights.

    Raises: `UsageError` with a sentence when weights cannot be had, are none, or do not fit together.
    """
    from utils.models import siglip as siglip

    wanted = {}
    if set(args.metrics) & {"AestheticScore", "CLIPScore", "SemanticConsistency"}:
        wanted["clip"] = partial(clip_weights, args.model_path)
    if "AestheticScore" in args.metrics:
        wanted["predictor"] = partial(predictor_weights, args.predictor_path)
    if "AestheticScoreSigLIP" in args.metrics:
        wanted["siglip_predictor"] = partial(siglip.siglip_predictor_weights, args.siglip_predictor_path)
        wanted["siglip"] = partial(siglip.siglip_weights, args.siglip_model_path)
    files = ranks.after_rank_0("weights", lambda: {name: fetch() for name, fetch in wanted.items()})
    device, models = rank_device(), {}
    if "predictor" in files:
        models["predictor"] = load_predictor(files["predictor"])
    if "clip" in files:
        architecture = args.clip_architecture if args.model_path else ARCHITECTURE
        models["clip"] = ClipModel(files["clip"], architecture, device, args.precision)
    if "predictor" in files and (gives := models["clip"].embed_texts([""]).shape[1]) != models["predictor"].width:
        raise UsageError(
            f"--model_path {files['clip']}: AestheticScore's predictor takes embeddings of {models['predictor'].width} numbers, "
            f"as CLIP ViT-L/14 gives them; this one gives {gives}"
        )
    if "siglip" in files:
        models["siglip"] = siglip.SiglipAesthetics(files["siglip"], files["siglip_predictor"], device, args.precision)
    return models, {name: sha256_of(file)[:16] for name, file in files.items()}
