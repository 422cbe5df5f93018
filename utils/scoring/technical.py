"""Technical quality of frames without a model: sharpness, exposure, contrast and colourfulness, combined to 0–10.

Parts, each 0–1 before it is written out as 0–10:

- sharpness: octaves of |LoG| (Laplacian of Gaussian, Marr & Hildreth 1980) above what the eye or the noise hides, at a
  480-pixel short side, as the mean of the sharpest quarter of the blocks, so that a sharp subject before a soft
  background is sharp (pooling after Vu, Phan & Chandler, "S3", IEEE TIP 2012). A logarithm, because block edges then
  add little where compression has emptied the blocks.
- exposure: bright enough highlights (95th percentile), few clipped pixels, a mean that is not too bright; well-exposed
  as in Mertens, Kautz & Van Reeth, "Exposure Fusion", 2007, but rising and falling in one direction each.
- contrast: RMS contrast (Peli, JOSA A 1990). colourfulness: Hasler & Süsstrunk, SPIE 5007, 2003.
- noise (Immerkær, CVIU 1996, in the quietest tenth of the blocks) and blockiness (the 8-pixel grid of Wang, Sheikh &
  Bovik, ICIP 2002) are measured at native size, where sensors and codecs leave them, and divide the product:

  10 · sharpness^0.8 · exposure^0.5 · contrast^0.1 · ((1 + colourfulness) / 2)^0.05
  / (1 + max(noise - 1, 0) / 10) / (1 + grid / 4 + grid² / 6) with grid = log2(max(blockiness / 1.2, 1))

Decent footage lands at 5–8.5, the same blurred by 0.5 % of its height or dimmed to a third at 2–4, black at 0.
"""

from collections.abc import Sequence

import cv2
import numpy as np

SHORT_SIDE = 480  # pixels, of the frame on which sharpness, exposure, contrast and colour are measured
DEFAULT_THRESHOLD = 4.0  # of 57 frames of real clips it drops fades, night, motion blur and blocks; see docs/scores.md
BLOCK = 16  # pixels
VISIBLE = 1.0  # gray levels of |LoG| that count as detail
BAND = 32 * BLOCK  # pixels; measured at a time where a whole frame would take float32 copies of 268 MB at 8192 x 8192
CLEAN_NOISE = 1.0  # gray levels; what decoded video holds without visible noise
CLEAN_GRID = 1.2  # ratio; what sensors and deblocked codecs leave of an 8-pixel grid
WEIGHTS = {"sharpness": 0.8, "exposure": 0.5, "contrast": 0.1}


def technical_columns(frames: Sequence[np.ndarray]) -> dict[str, float]:
    """Means over the frames of `measure_frame`. frames: uint8 (H, W, 3), RGB, at native size."""
    return means([measure_frame(frame) for frame in frames])


def means(measured: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of what `measure_frame` found in each frame of a clip."""
    if len(measured) == 0:
        raise ValueError("technical quality needs a frame or more")
    return {name: float(np.mean([columns[name] for columns in measured])) for name in measured[0]}


def measure_frame(frame: np.ndarray) -> dict[str, float]:
    """`technical_score`, `sharpness`, `exposure`, `contrast`, `colourfulness`, each 0–10; `brightness`, mean luma,
    0–1; `noise` in gray levels; `blockiness`, steps on the strongest 8-pixel grid over those off it, 1 for none.

    frame: uint8 (H, W, 3), RGB, at native size, 16 pixels or more each way.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or min(frame.shape[:2]) < BLOCK:
        raise ValueError(f"frame must be uint8 (H, W, 3), {BLOCK} pixels or more, got {frame.dtype} {frame.shape}")
    native = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    noise, blockiness = _noise(native), _blockiness(native)
    scale = SHORT_SIDE / min(frame.shape[:2])
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    resized = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    gray = cv2.cvtColor(resized.astype(np.float32), cv2.COLOR_RGB2GRAY)
    hidden = 2 * max(noise * min(scale, 1) - CLEAN_NOISE, 0)  # averaging over a smaller frame weakens the noise
    parts = {
        "sharpness": 1 - np.exp(-_detail(gray, np.hypot(VISIBLE, hidden)) / 1.2),
        "exposure": _exposure(gray / 255),
        "contrast": 1 - np.exp(-gray.std() / 255 / 0.12),
        "colourfulness": 1 - np.exp(-_colourfulness(resized) / 25),
    }
    score = 10 * np.prod([parts[name] ** weight for name, weight in WEIGHTS.items()])
    score *= ((1 + parts["colourfulness"]) / 2) ** 0.05
    score /= 1 + max(noise - CLEAN_NOISE, 0) / 10
    grid = np.log2(max(blockiness / CLEAN_GRID, 1))
    score /= 1 + grid / 4 + grid**2 / 6
    columns = {"technical_score": score} | {name: 10 * value for name, value in parts.items()}
    columns |= {"brightness": gray.mean() / 255, "noise": noise, "blockiness": blockiness}
    return {name: float(value) for name, value in columns.items()}


def _block_means(values: np.ndarray) -> np.ndarray:
    rows, columns = values.shape[0] // BLOCK, values.shape[1] // BLOCK
    blocks = values[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return blocks.mean((1, 3)).ravel()


def _detail(gray: np.ndarray, hidden: float) -> float:
    """Octaves of |LoG| above `hidden` gray levels: mean of the quarter of the blocks that hold most."""
    log = cv2.Laplacian(cv2.GaussianBlur(gray, (0, 0), 0.7), cv2.CV_32F) / np.float32(hidden)
    blocks = np.sort(_block_means(0.5 * np.log2(1 + log * log)))
    return float(blocks[-max(1, len(blocks) // 4) :].mean())


def _exposure(luma: np.ndarray) -> float:
    highlights = 1 - np.exp(-((np.percentile(luma, 95) / 0.4) ** 2))
    clipped = (luma >= 0.98).mean()
    not_glaring = 1 / (1 + np.exp((luma.mean() - 0.8) / 0.1))
    return float(highlights * (1 - 0.3 * clipped) * not_glaring)


def _colourfulness(frame: np.ndarray) -> float:
    """Hasler & Süsstrunk's M: 0 gray, 33 moderate, 59 quite, 109 extremely colourful."""
    r, g, b = cv2.split(frame.astype(np.float32))
    opponents = (r - g, (r + g) / 2 - b)
    return float(np.hypot(*(o.std() for o in opponents)) + 0.3 * np.hypot(*(o.mean() for o in opponents)))


def _noise(gray: np.ndarray) -> float:
    """Standard deviation in gray levels, from the quietest tenth of the blocks that are neither black nor white."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    squares = []
    for top in range(0, gray.shape[0] // BLOCK * BLOCK, BAND):
        begin = max(0, top - 1)  # a row more on both sides, as the kernel reaches
        filtered = cv2.filter2D(gray[begin : top + BAND + 1], cv2.CV_32F, kernel)[top - begin :][:BAND]
        squares.append(_block_means(np.square(filtered, out=filtered)))
    deviations = np.sqrt(np.concatenate(squares))
    levels = _block_means(gray)
    usable = (levels > 4) & (levels < 251)
    return float(np.percentile(deviations[usable], 10)) if usable.any() else 0.0


def _blockiness(gray: np.ndarray) -> float:
    """Mean over both directions of the steps at the strongest of the 8 grid positions over those at the median one."""
    ratios = []
    for image in (gray, gray.T):
        total = np.zeros(image.shape[1] - 3, np.int64)
        for top in range(0, len(image), BAND):
            steps = np.diff(image[top : top + BAND].astype(np.int16), axis=1)
            jumps = np.abs(2 * steps[:, 1:-1] - steps[:, :-2] - steps[:, 2:])
            total += np.minimum(jumps, 64).sum(0)
        positions = total / len(image) / 2
        positions = positions[: len(positions) // 8 * 8].reshape(-1, 8).mean(0)
        ratios.append((positions.max() + 0.1) / (np.median(positions) + 0.1))  # 0.1: steps too small to be seen
    return float(np.mean(ratios))
