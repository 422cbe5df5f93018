"""Text that appears or disappears while its surroundings stay: overlaid text, since a moving camera moves the text of the scene along."""

import cv2
import numpy as np

from utils.scoring.boxes import Box

SIDE = 360  # pixels of the short side at which words are looked for, and twice those at which what is around them is
REACH = 0.12  # of the short side: so far may the camera have taken them from one frame to another
FOUND = 0.6  # correlation from which on what was around them is found again
LOST = (
    0.35  # correlation of their strokes below which they are nowhere; words of the scene that are found again have 0.9
)
GONE = 0.5  # of the strokes in their place at most
SHARP = 0.7  # of the strokes around them at least: else it is the frame that is blurred
FEWEST = 40  # pixels around words that can be found again


def strokes(piece: np.ndarray) -> np.ndarray:
    """What is brighter or darker than what is around it."""
    return np.abs(cv2.Laplacian(cv2.GaussianBlur(piece.astype(np.float32), (0, 0), 1), cv2.CV_32F))


def shrunk(frames: np.ndarray) -> tuple[np.ndarray, float]:
    """Frames as `are_gone` sees them, and their share of the size."""
    scale = min(1.0, SIDE / min(frames.shape[1:]))
    return np.stack(
        [cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for frame in frames]
    ), scale


def are_gone(one: np.ndarray, other: np.ndarray, box: Box) -> bool:
    """Whether the words in a box of one frame are nowhere in the other, though what is around them is, at most REACH away.

    one, other: uint8 (H, W), gray, as `shrunk` gives them; box in their pixels.
    """
    x, y, width, height = box
    out = max(6, min(2 * height, SIDE // 8))
    left, top = max(0, x - out) // 2 * 2, max(0, y - out) // 2 * 2
    right, bottom = min(one.shape[1], x + width + out), min(one.shape[0], y + height + out)
    around = np.ones((bottom // 2 - top // 2, right // 2 - left // 2), np.float32)
    inner_left, inner_top = (max(0, (edge - 2 - start) // 2) for edge, start in ((x, left), (y, top)))
    around[inner_top : -(-(y + height + 2 - top) // 2), inner_left : -(-(x + width + 2 - left) // 2)] = 0
    if around.sum() < FEWEST:
        return False
    reach = int(REACH * SIDE)
    half, half_other = (
        cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float32)
        for frame in (one, other)
    )
    part = (left // 2, top // 2, around.shape[1], around.shape[0])
    found, right_by, down_by = _find(half, half_other, part, reach // 2, around)
    if found < FOUND:
        return False
    ink, ink_there = strokes(one), strokes(other)
    if _find(ink, ink_there, box, reach, None)[0] >= LOST:
        return False
    words = _sum(ink, box), _sum(ink_there, (x + 2 * right_by, y + 2 * down_by, width, height))
    whole = (left, top, right - left, bottom - top)
    both = _sum(ink, whole), _sum(ink_there, (left + 2 * right_by, top + 2 * down_by, right - left, bottom - top))
    return words[1] < GONE * words[0] and both[1] - words[1] >= SHARP * (both[0] - words[0])


def _find(one: np.ndarray, other: np.ndarray, box: Box, reach: int, mask: np.ndarray | None) -> tuple[float, int, int]:
    """Where the other frame is most like what is in a box of one: the correlation, and how far it is to the right and below."""
    x, y, width, height = box
    left, top = max(0, x - reach), max(0, y - reach)
    window = other[top : y + height + reach, left : x + width + reach]
    alike = cv2.matchTemplate(window, one[y : y + height, x : x + width], cv2.TM_CCOEFF_NORMED, mask=mask)
    alike[~np.isfinite(alike)] = -1  # nothing but one gray
    _, best, _, (at_x, at_y) = cv2.minMaxLoc(alike)
    return best, at_x - (x - left), at_y - (y - top)


def _sum(image: np.ndarray, box: Box) -> float:
    x, y, width, height = box
    return float(image[max(0, y) : y + height, max(0, x) : x + width].sum())
