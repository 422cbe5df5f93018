"""Whether one frame is found again in another: in place, displaced, in other light, by its colours, or by a camera
move.

Frames are small, uint8, gray (h, w) or BGR (h, w, 3); shares are 0–1. docs/cuts.md says how each constant was chosen.
"""

import cv2
import numpy as np

BLOCK, STRIDE, REACH = 12, 6, 8  # pixels: a block's side, the step between blocks, how far one is looked for
TEXTURE = 2.0  # levels: blocks of a smaller standard deviation have nothing that could be found again
CHANCE, SURE = 0.5, 0.9  # correlation that a block reaches by chance within reach, and that of the same thing moved
FLOW_SIZE = 128, 72  # pixels at which motion between two frames is looked for
CHANGED, FEW = 25, 20  # levels by which a changed pixel differs at that size; fewer of them show nothing
KEYPOINTS = 30  # matches that agree on one camera move; unrelated frames reach 6, slides of one template 23
FEW_CORNERS = 8  # fewer show no camera move


def blocks_found(a: np.ndarray, b: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """How well each textured block of `a` is found in `b` within `reach` pixels (0-1), and its weight; gray uint8.

    Each block is correlated with what surrounds its position, mean and contrast removed, so that light does not count
    (normalised cross-correlation, OpenCV's TM_CCOEFF_NORMED).
    """
    surroundings = cv2.copyMakeBorder(b, reach, reach, reach, reach, cv2.BORDER_REFLECT)
    height, width = a.shape
    scores, weights = [], []
    for y in range((height - BLOCK) % STRIDE // 2, height - BLOCK + 1, STRIDE):
        for x in range((width - BLOCK) % STRIDE // 2, width - BLOCK + 1, STRIDE):
            block = a[y : y + BLOCK, x : x + BLOCK]
            texture = cv2.meanStdDev(block)[1][0, 0]
            if texture < TEXTURE:
                continue
            window = surroundings[y : y + BLOCK + 2 * reach, x : x + BLOCK + 2 * reach]
            best = cv2.minMaxLoc(cv2.matchTemplate(window, block, cv2.TM_CCOEFF_NORMED))[1]
            scores.append(best if best < 1.01 else 0.0)  # OpenCV may return infinity where the window is flat
            weights.append(min(texture, 20.0))  # a white title must not outweigh the scene
    return np.clip((np.array(scores) - CHANCE) / (SURE - CHANCE), 0, 1), np.array(weights)


def found_share(a: np.ndarray, b: np.ndarray, reach: int = REACH) -> float:
    """Share (0-1) of the texture of `a` that is found in `b` within `reach` pixels; 0 for a frame without texture."""
    scores, weights = blocks_found(a, b, reach)
    return float(np.average(scores, weights=weights)) if len(scores) else 0.0


def share_in_place(a: np.ndarray, b: np.ndarray) -> float:
    """Share (0-1) of the textured cells of 4 x 4 pixels that differ by less than half their texture; gray uint8."""
    cells = a.shape[1] // 4, a.shape[0] // 4
    a, b = np.float32(a), np.float32(b)
    means, squares = ([cv2.resize(x, cells, interpolation=cv2.INTER_AREA) for x in p] for p in ((a, b), (a * a, b * b)))
    texture = np.sqrt(np.maximum(np.maximum(*(s - m * m for s, m in zip(squares, means, strict=True))), 0))
    same = cv2.resize(abs(a - b), cells, interpolation=cv2.INTER_AREA) < texture / 2
    return float(same[texture > TEXTURE].mean()) if (texture > TEXTURE).any() else 0.0


def colours_lost(a: np.ndarray, b: np.ndarray) -> float:
    """Share (0-1) of the pixels of `a` whose colour is not in `b`: BGR uint8, smoothed Lab histograms of 16^3."""
    histograms = []
    for frame in (a, b):
        h = cv2.calcHist([cv2.cvtColor(frame, cv2.COLOR_BGR2LAB)], [0, 1, 2], None, [16] * 3, [0, 256] * 3)
        for axis in range(3):
            h = (np.roll(h, 1, axis) + 2 * h + np.roll(h, -1, axis)) / 4
        histograms.append(h / h.sum())
    return 1 - float(np.minimum(*histograms).sum())


def camera_agreement(a: np.ndarray, b: np.ndarray) -> int:
    """Corners of `a` that one pan, zoom or roll, not standing still, takes to `b` (BGR uint8); 0 where they are too few
    to tell.
    """
    orb = cv2.ORB.create(400, 1.3, 6, edgeThreshold=12, patchSize=24, fastThreshold=8)
    (points_a, descriptors_a), (points_b, descriptors_b) = (
        orb.detectAndCompute(cv2.cvtColor(x, cv2.COLOR_BGR2GRAY), None) for x in (a, b)
    )
    if min(len(points_a), len(points_b)) < FEW_CORNERS:
        return 0
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(descriptors_a, descriptors_b)
    if len(matches) < FEW_CORNERS:
        return 0
    here = np.array([points_a[m.queryIdx].pt for m in matches], np.float32)
    there = np.array([points_b[m.trainIdx].pt for m in matches], np.float32)
    move, agree = cv2.estimateAffinePartial2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=3, maxIters=500)
    if move is None:
        return 0
    travel = np.abs(here @ move[:, :2].T + move[:, 2] - here).max(axis=1)
    return int(agree.sum()) if float(np.median(travel)) > 2.0 else 0


def camera_moved(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether KEYPOINTS corners agree on such a move."""
    return camera_agreement(a, b) >= KEYPOINTS


def unexplained(a: np.ndarray, b: np.ndarray) -> float:
    """Levels of `b`, in the light of `a`, that no motion takes there from `a` (BGR uint8): what optical flow leaves over,
    as the mean of the worst 8 of 16 x 9 blocks of 8 x 8 pixels.
    """
    return float(np.sort(flow_leaves(a, b)[0], axis=None)[-8:].mean())


def explained_share(a: np.ndarray, b: np.ndarray) -> float:
    """Share (0-1) of the textured blocks of `b` that optical flow takes there from `a` (BGR uint8), but for a third of
    their texture; 0 where there are none.
    """
    left, texture = flow_leaves(a, b)
    textured = texture > 2 * TEXTURE
    return float((left < texture / 3)[textured].mean()) if textured.any() else 0.0


def flow_leaves(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of 16 x 9 blocks of `b`, in the light of `a`: the mean of the levels that optical flow from `a` leaves over, and the
    standard deviation, float32 (9, 16).
    """
    old, new = (
        cv2.cvtColor(cv2.resize(x, FLOW_SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY) for x in (a, b)
    )
    new = np.clip((new - new.mean()) * (old.std() / max(new.std(), 1.0)) + old.mean(), 0, 255).astype(np.uint8)
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = estimator.calc(new, old, np.zeros((*new.shape, 2), np.float32))
    x, y = np.meshgrid(np.arange(FLOW_SIZE[0], dtype=np.float32), np.arange(FLOW_SIZE[1], dtype=np.float32))
    moved = cv2.remap(old, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    left = cv2.resize(cv2.absdiff(moved, new).astype(np.float32), (16, 9), interpolation=cv2.INTER_AREA)
    values = new.astype(np.float32)
    mean, square = (cv2.resize(v, (16, 9), interpolation=cv2.INTER_AREA) for v in (values, values**2))
    return left, np.sqrt(np.maximum(square - mean**2, 0))


def colours_replaced(a: np.ndarray, b: np.ndarray) -> float:
    """Share (0-1) of the colours lost among the pixels that change from `a` to `b` (BGR uint8): little where the same
    things are elsewhere, much where others appear or the light changes.
    """
    a, b = (cv2.resize(x, FLOW_SIZE, interpolation=cv2.INTER_AREA) for x in (a, b))
    changed = cv2.absdiff(a, b).max(axis=2) > CHANGED
    return colours_lost(a[changed][None], b[changed][None]) if changed.sum() >= FEW else 1.0


def picture_replaced(a: np.ndarray, b: np.ndarray) -> float:
    """How much of frame `a` is gone in frame `b`, 0–1: the mean of the structure and of the colours lost.

    a, b: uint8 (h, w, 3), BGR, 64 x 36 pixels or so. Half a second apart, motion within a shot stays below 0.5.
    """
    gray_a, gray_b = (cv2.cvtColor(x, cv2.COLOR_BGR2GRAY) for x in (a, b))
    if min(gray_a.std(), gray_b.std()) < TEXTURE:
        return 0.0  # black, or any one tone: left to the fades
    found = max(found_share(gray_a, gray_b), found_share(gray_b, gray_a))
    return (1 - found + colours_lost(a, b)) / 2
