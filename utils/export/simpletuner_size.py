"""SimpleTuner's size of a frame, for the writer and the reader of its format (simpletuner/helpers/multiaspect/image.py, pixel areas)."""

from utils.export.models import Size


def trained_size(size: Size, resolution: int, multiple: int) -> Size:
    """The size that a frame gets: the edge of the square of `resolution`² pixels, rounded to the multiple, stretched to the frame's
    aspect ratio, which is rounded to two decimals first; each side is rounded to the multiple in turn.
    """
    edge = _nearest(resolution, multiple)
    aspect = round(size[0] / size[1], 2)
    if aspect == 1:
        return edge, edge
    return _nearest(edge * aspect**0.5, multiple), _nearest(edge / aspect**0.5, multiple)


def square_edge(size: Size, multiple: int) -> int | None:
    """A `resolution` under which frames of this size stay as they are; None where there is none."""
    nearest = _nearest((size[0] * size[1]) ** 0.5, multiple)
    edges = (nearest, nearest - multiple, nearest + multiple)
    return next((edge for edge in edges if edge > 0 and trained_size(size, edge, multiple) == size), None)


def _nearest(value: float, multiple: int) -> int:
    return max(multiple, round(value / multiple) * multiple)
