"""Watermarks that are barely visible in single frames: the median of a clip's frames keeps text that stands still and blurs what moves behind it."""

from collections.abc import Callable

import cv2
import numpy as np

from utils.scoring.boxes import Box, bounds

SIDE = 320  # pixels of the short side
MOVES = 6.0  # gray levels: standard deviation over time, from which on a pixel moves
MOVING_SHARE = 0.5  # of the pixels in and around the words move: else they may be the scene's
LEAST_MOVING = 0.05  # of all pixels, for words to be told
LEVEL = 3.0  # degrees off level: faint words are read in part, and their boxes lean
LONG = 2.0  # times as long as high
FRAMES = 6  # at least, for a median


def standing_words(frames: np.ndarray, boxes_in: Callable[[np.ndarray, int], np.ndarray]) -> list[Box]:
    """Words that stay where they are before a picture that moves. frames: uint8 (T, H, W), gray, spread over the clip; boxes_in: text boxes
    (N, 4, 2) of a frame, uint8 (H, W, 3), that is seen with its short side at so many pixels.
    """
    if len(frames) < FRAMES:
        return []
    scale = min(1.0, SIDE / min(frames.shape[1:]))
    small = np.stack([cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for frame in frames])
    moves = np.std(small, axis=0) >= MOVES
    if moves.mean() < LEAST_MOVING:
        return []
    median = np.median(small, axis=0).astype(np.uint8)
    found: list[Box] = []
    for corners in boxes_in(np.repeat(median[..., None], 3, 2), SIDE):
        x, y, width, height = bounds(corners, median.shape[1], median.shape[0])
        angle = cv2.minAreaRect(corners)[2] % 90
        out = max(6, height // 2)
        moving = moves[max(0, y - out) : y + height + out, max(0, x - out) : x + width + out].mean()
        if width >= LONG * height and min(angle, 90 - angle) <= LEVEL and moving >= MOVING_SHARE:
            left, top = round(x / scale), round(y / scale)
            found.append((left, top, round((x + width) / scale) - left, round((y + height) / scale) - top))
    return found
