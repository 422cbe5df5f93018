"""The share of a frame that text boxes cover."""

from collections.abc import Sequence

import numpy as np
from shapely import MultiPoint, box, union_all
from shapely.geometry.base import BaseGeometry


def text_area_share(polygons: Sequence[np.ndarray] | np.ndarray, frame_size: tuple[int, int]) -> float:
    """Area of the union of the polygons inside the frame over the frame's area, 0–1: overlaps count once. Exact.

    polygons: (N, 4, 2), corners (x, y) in pixels in any order; rotated and beyond the frame as they like.
    frame_size: (width, height).
    """
    width, height = frame_size
    if width <= 0 or height <= 0:
        raise ValueError(f"frame_size must be positive, got {frame_size}")
    return float(union_all(hulls_of(polygons)).intersection(box(0, 0, width, height)).area / (width * height))


def hulls_of(polygons: Sequence[np.ndarray] | np.ndarray) -> list[BaseGeometry]:
    """Each (4, 2) of `polygons` as a convex shape, whatever the order of its corners."""
    return [MultiPoint(corners).convex_hull for corners in np.asarray(polygons, float).reshape(-1, 4, 2)]
