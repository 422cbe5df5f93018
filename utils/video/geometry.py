"""A frame as a player shows it: upright, square pixels, at the size that a score needs."""

from collections.abc import Callable
from fractions import Fraction
from typing import cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer

# `frame.side_data` keeps its container in the frame, and the container the frame: every frame asked would stay in memory
# until Python's garbage collector runs, 100 MiB later. (PyAV's type hints leave the argument out.)
_side_data: Callable[..., SideDataContainer] = SideDataContainer


def display_transform(frame: av.VideoFrame) -> tuple[int, bool]:
    """How a decoded frame must be turned to stand upright: (quarter turns counter-clockwise, then mirrored left to
    right).

    From the display matrix of the container (ISO/IEC 14496-12, 8.2.2), rows [a b], [c d] in 16.16 fixed point, which
    maps a decoded point (x, y) to the shown one (a*x + c*y, b*x + d*y), y downwards.
    """
    try:
        matrix = cast(SideData | None, _side_data(frame).get("DISPLAYMATRIX"))
    except ValueError:  # side data of a kind that PyAV does not know (stereo HEVC, EXIF): it still gives the rotation
        return round(frame.rotation / 90) % 4, False
    if matrix is None:
        return 0, False
    a, b, _, c, d = np.sign(np.frombuffer(bytes(matrix), np.int32)[:5])
    mirrored = a * d - b * c < 0
    if mirrored:  # take the mirroring (x -> -x) out of the matrix; a pure rotation stays
        a, c = -a, -c
    return {(1, 0): 0, (0, -1): 1, (-1, 0): 2, (0, 1): 3}.get((int(a), int(b)), 0), bool(mirrored)


def frame_to_array(
    frame: av.VideoFrame, pixel_format: str, stored_size: tuple[int, int] | None = None, interpolation: str = "AREA"
) -> np.ndarray:
    """A frame as uint8 (H, W, 3) `rgb24`/`bgr24` or (H, W) `gray`, upright; `stored_size` (width, height) before the
    turn scales it.
    """
    width, height = stored_size or (frame.width, frame.height)
    small = frame.reformat(width, height, pixel_format, interpolation=interpolation, threads=1)
    array = small.to_ndarray()
    turns, mirrored = display_transform(frame)
    if turns:
        array = np.rot90(array, turns)
    if mirrored:
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def pixel_aspect(stream: av.VideoStream) -> Fraction:
    """Width of a pixel over its height."""
    return stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)


def display_size(frame: av.VideoFrame, stream: av.VideoStream) -> tuple[int, int]:
    """Width and height of a frame as a player shows it, in pixels: square ones, upright."""
    size = (round(frame.width * pixel_aspect(stream)), frame.height)
    return size[::-1] if display_transform(frame)[0] % 2 else size


def short_side_size(frame: av.VideoFrame, stream: av.VideoStream, short_side: int) -> tuple[int, int]:
    """Stored (width, height) to scale a frame to so that, shown upright with square pixels, its short side is
    `short_side` pixels.
    """
    width, height = display_size(frame, stream)
    scale = short_side / min(width, height)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    return size[::-1] if display_transform(frame)[0] % 2 else size


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image at another size, averaging over areas when it shrinks."""
    shrinks = width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
