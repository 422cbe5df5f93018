"""Aesthetic predictors: linear layers over an embedding."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.models.weights import from_address, load_into, local_file, read_tensors

PREDICTOR_URL = (
    "https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/sac%2Blogos%2Bava1-l14-linearMSE.pth"
)


PREDICTOR_SHA256 = "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0"


def predictor_weights(predictor_path: str | None) -> Path:
    """The weights file of LAION's aesthetic predictor v2: a user's own, or the public one."""
    if predictor_path:
        return local_file(predictor_path, "--predictor_path")
    what = "the LAION aesthetic predictor sac+logos+ava1-l14-linearMSE.pth"
    return from_address(PREDICTOR_URL, PREDICTOR_SHA256, what, "--predictor_path")


class LinearStack(nn.Module):
    """Linear layers to 1024, 128, 64, 16 and 1 numbers without activations between; `name` as in the weights' keys,
    `places` as in its files, where dropout, which does nothing after training, takes the numbers between.
    """

    def __init__(self, width: int, name: str = "layers", places: Sequence[int] = (0, 2, 4, 6, 7)):
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


def load_predictor(weights: Path, flag: str = "--predictor_path", **shape) -> LinearStack:
    """A predictor with its weights, on the CPU; `shape` as `LinearStack` takes it."""
    predictor = LinearStack(**({"width": 768} | shape))
    load_into(predictor, read_tensors(weights, flag), weights, flag)
    return predictor.eval()
