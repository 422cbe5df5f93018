"""Aesthetics of frames by SigLIP: discus0434's "aesthetic predictor v2.5"
(github.com/discus0434/aesthetic-predictor-v2-5).

Linear layers to 1024, 128, 64, 16 and 1 over the pooled output, brought to length 1, of SigLIP so400m patch14-384.
Scores are 1–10; its author calls 5.5 and more good. The predictor's weights are given out under the AGPL-3.0, LAION's
under the Apache-2.0.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.errors import UsageError
from utils.models.device import autocast, normalised
from utils.models.image_transform import ImageTransform
from utils.models.predictors import load_predictor
from utils.models.weights import from_hub, local_file

REPOSITORY = "google/siglip-so400m-patch14-384"
FILES = ["model.safetensors", "config.json"]
PREDICTOR_URL = "https://github.com/discus0434/aesthetic-predictor-v2-5/raw/main/models/aesthetic_predictor_v2_5.pth"
PREDICTOR_KEYS = {"name": "scoring_head", "places": (0, 2, 4, 6, 8)}


def siglip_weights(model_path: str | None) -> Path:
    """The weights file of SigLIP, with its config.json beside it: a user's own, or from the hub."""
    if model_path:
        return local_file(model_path, "--siglip_model_path", FILES[:1])
    return from_hub(REPOSITORY, FILES, "SigLIP so400m patch14-384", "--siglip_model_path")


def siglip_predictor_weights(predictor_path: str | None) -> Path:
    """The weights file of the predictor. No SHA-256 of it is published to check a download against, so the user fetches
    it.
    """
    if not predictor_path:
        raise UsageError(
            f"AestheticScoreSigLIP wants its predictor (AGPL-3.0), which is not fetched for you: put {PREDICTOR_URL} "
            "here anywhere and give the path with --siglip_predictor_path"
        )
    return local_file(predictor_path, "--siglip_predictor_path")


class SiglipAesthetics:
    """SigLIP's picture half with the predictor on `device`, and `fit`, which brings a frame to its size."""

    def __init__(self, weights: Path, predictor: Path, device: torch.device, precision: str = "fp16"):
        from transformers import SiglipVisionModel

        self.device, self.precision = device, precision
        try:
            self.model, report = SiglipVisionModel.from_pretrained(
                weights.parent, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
            if report["missing_keys"]:  # transformers would go on with random numbers
                raise ValueError(f"no weights for {min(report['missing_keys'])}")
        except Exception as error:  # what a foreign file makes the loader raise has no common type
            reason = str(error).strip().split("\n")[0][:120]
            raise UsageError(
                f"--siglip_model_path {weights.parent}: no SigLIP that transformers can load ({reason})"
            ) from None
        self.model.eval().to(device)
        width = self.model.config.hidden_size
        self.predictor = load_predictor(predictor, "--siglip_predictor_path", width=width, **PREDICTOR_KEYS)
        self.fit = ImageTransform(self.model.config.image_size, "squash")

    @torch.inference_mode()
    def scores(self, frames: np.ndarray) -> np.ndarray:
        """frames: uint8 (N, size, size, 3), as `fit` gives them. Gives a number for each."""
        with autocast(self.device, self.precision):
            found = self.model(normalised(frames, [0.5] * 3, [0.5] * 3, self.device)).pooler_output
        return self.predictor.scores(nn.functional.normalize(found.float(), dim=-1).cpu().numpy())
