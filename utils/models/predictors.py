"""Aesthetic predictors: linear layers over an embedding of a frame.

- LAION's predictor v2 over CLIP ViT-L/14: Schuhmann's "improved aesthetic predictor"
  (github.com/christophschuhmann/improved-aesthetic-predictor), trained on ratings of 1–10; Apache-2.0.
- discus0434's "aesthetic predictor v2.5" over SigLIP so400m (github.com/discus0434/aesthetic-predictor-v2-5), 1–10; its
  author calls 5.5 and more good; AGPL-3.0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.errors import UsageError
from utils.models.weights import from_address, load_into, local_file, read_tensors

LAION_URL = (
    "https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/sac%2Blogos%2Bava1-l14-linearMSE.pth"
)
LAION_SHA256 = "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0"
SIGLIP_URL = "https://github.com/discus0434/aesthetic-predictor-v2-5/raw/main/models/aesthetic_predictor_v2_5.pth"


def laion_weights(path: str | None) -> Path:
    """The weights file of LAION's predictor: a user's own, or the public one."""
    if path:
        return local_file(path)
    return from_address(LAION_URL, LAION_SHA256, "the LAION aesthetic predictor sac+logos+ava1-l14-linearMSE.pth")


def siglip_predictor_weights(path: str | None) -> Path:
    """The weights file of the v2.5 predictor. No SHA-256 of it is published to check a download against, so the user
    fetches it.
    """
    if not path:
        raise UsageError(
            f"AestheticScoreSigLIP needs its predictor (AGPL-3.0), which is not downloaded automatically: download {SIGLIP_URL}, "
            "put it on this machine and pass its path"
        )
    return local_file(path)


class LinearStack(nn.Module):
    """Linear layers to 1024, 128, 64, 16 and 1 numbers without activations between; `name` as in the weights' keys,
    `places` as in its files, where dropout, which does nothing after training, takes the numbers between.
    """

    def __init__(self, width: int, name: str, places: Sequence[int]):
        super().__init__()
        self.width, sizes = width, [width, 1024, 128, 64, 16, 1]
        layers = {str(place): nn.Linear(*pair) for place, pair in zip(places, zip(sizes, sizes[1:]))}
        self.add_module(name, nn.ModuleDict(layers))
        self.layers_in_order = list(layers.values())

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """float32 (N, width), each of length 1, to (N,)."""
        for layer in self.layers_in_order:
            embeddings = layer(embeddings)
        return embeddings[:, 0]

    @torch.inference_mode()
    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """float32 (N, width), each of length 1, to float32 (N,)."""
        return self(torch.from_numpy(embeddings)).numpy()


def load_laion_predictor(weights: Path) -> LinearStack:
    """On the CPU."""
    return _load(weights, "layers", (0, 2, 4, 6, 7))


def load_siglip_predictor(weights: Path) -> LinearStack:
    """On the CPU."""
    return _load(weights, "scoring_head", (0, 2, 4, 6, 8))


def _load(weights: Path, name: str, places: Sequence[int]) -> LinearStack:
    tensors = read_tensors(weights)
    first = tensors.get(f"{name}.{places[0]}.weight")
    width = first.shape[1] if first is not None and first.ndim == 2 else 768
    predictor = LinearStack(width, name, places)
    load_into(predictor, tensors, weights)
    return predictor.eval()
