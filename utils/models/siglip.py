"""Embeddings of frames by SigLIP so400m patch14-384, through transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from utils.errors import UsageError
from utils.models.device import autocast, normalised
from utils.models.image_transform import ImageTransform
from utils.models.weights import from_hub, local_file

REPOSITORY = "google/siglip-so400m-patch14-384"
FILES = ["model.safetensors", "config.json"]


def siglip_weights(model_path: str | None) -> Path:
    """The weights file of SigLIP, with its config.json beside it: a user's own, or from the hub."""
    if model_path:
        return local_file(model_path, FILES[:1])
    return from_hub(REPOSITORY, FILES, "SigLIP so400m patch14-384")


class SiglipModel:
    """SigLIP's vision model on `device`: embeddings of `width` numbers, and `transform`, which brings a frame to its
    size.
    """

    def __init__(self, weights: Path, device: torch.device, precision: str = "fp16"):
        from transformers import SiglipVisionModel

        self.device, self.precision = device, precision
        load: Any = SiglipVisionModel.from_pretrained  # its declared result leaves out the loading info
        try:
            self.model, report = load(
                weights.parent, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
            if report["missing_keys"]:  # transformers would go on with random numbers
                raise ValueError(f"no weights for {min(report['missing_keys'])}")
        except Exception as error:  # noqa: BLE001  # what a foreign file makes the loader raise has no common type
            reason = str(error).strip().split("\n")[0][:120]
            raise UsageError(f"{weights.parent}: not a SigLIP model that transformers can load ({reason})") from None
        self.model.eval().to(device)
        self.width = self.model.config.hidden_size
        self.transform = ImageTransform(self.model.config.image_size, "squash")

    @torch.inference_mode()
    def embed_frames(self, frames: np.ndarray) -> np.ndarray:
        """frames: uint8 (N, size, size, 3), as `transform` gives them. Gives float32 (N, width), the pooled output,
        each of length 1.
        """
        with autocast(self.device, self.precision):
            found = self.model(normalised(frames, [0.5] * 3, [0.5] * 3, self.device)).pooler_output
        return nn.functional.normalize(found.float(), dim=-1).cpu().numpy()
