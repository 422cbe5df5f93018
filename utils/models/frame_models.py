"""The models that score frames, by name: where the weights of each come from, and how they are loaded."""

from collections.abc import Callable
from pathlib import Path

from utils.models.clip import ClipModel, clip_weights
from utils.models.device import rank_device
from utils.models.predictors import (
    LinearStack,
    laion_weights,
    load_laion_predictor,
    load_siglip_predictor,
    siglip_predictor_weights,
)
from utils.models.siglip import SiglipModel, siglip_weights

FrameModel = ClipModel | SiglipModel | LinearStack

# The weights file of each model: a user's own at the given path, or, without a path, the public one.
FETCH: dict[str, Callable[[str | None], Path]] = {
    "clip": clip_weights,
    "predictor": laion_weights,
    "siglip_predictor": siglip_predictor_weights,
    "siglip": siglip_weights,
}


def load_model(name: str, weights: Path, architecture: str | None, precision: str) -> FrameModel:
    """A model of `FETCH` with its weights; CLIP and SigLIP on the rank's device, in `precision` where that is a GPU.

    Raises: `UsageError` where the file holds something else.
    """
    if name == "clip":
        return ClipModel(weights, architecture, rank_device(), precision)
    if name == "siglip":
        return SiglipModel(weights, rank_device(), precision)
    return (load_laion_predictor if name == "predictor" else load_siglip_predictor)(weights)
