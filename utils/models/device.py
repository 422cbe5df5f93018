"""The device of a rank, and frames on it."""

import os
from collections.abc import Sequence

import numpy as np
import torch


def rank_device() -> torch.device:
    """The rank's own GPU (`cuda:LOCAL_RANK`), or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def autocast(device: torch.device, precision: str):
    """Half precision (`fp16` or `bf16`) on a GPU; fp32 where `precision` says so and on a CPU."""
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    return torch.autocast(device.type, half, enabled=half is not None and device.type == "cuda")


def normalised(frames: np.ndarray, mean: Sequence[float], std: Sequence[float], device: torch.device) -> torch.Tensor:
    """uint8 (N, S, S, 3) to float32 (N, 3, S, S) as torchvision's `ToTensor` and `Normalize` give it."""
    pixels = torch.from_numpy(frames).to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(mean, device=device).view(3, 1, 1)) / torch.tensor(std, device=device).view(3, 1, 1)
