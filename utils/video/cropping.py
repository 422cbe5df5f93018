"""A frame cropped to its crop box: scores measure it as if the video itself had been cropped."""

from collections.abc import Callable, Sequence

import av
from av.filter import Graph

from utils.errors import VideoError
from utils.video.geometry import display_transform


def cropped(box: Sequence[int] | None) -> Callable[[av.VideoFrame], av.VideoFrame]:
    """A function that crops the frames of one video to `box`, [x, y, width, height] in pixels of the upright frame as stored, without
    copying them; times and rotation stay. None: it gives each frame back.

    The function raises `VideoError` where the box is not within the frame.
    """
    if box is None:
        return lambda frame: frame
    graphs: dict[tuple[int, int, str], Graph] = {}  # by size and format of the frames, of which most videos have one

    def crop(frame: av.VideoFrame) -> av.VideoFrame:
        key = frame.width, frame.height, frame.format.name
        if key not in graphs:
            graphs[key] = _graph(frame, as_stored(frame, box))
        graphs[key].vpush(frame)
        return graphs[key].vpull()

    return crop


def as_stored(frame: av.VideoFrame, box: Sequence[int]) -> tuple[int, int, int, int]:
    """A box of the upright frame as a box of the frame as it is stored. Raises: `VideoError` where it is not within it."""
    x, y, width, height = box
    turns, mirrored = display_transform(frame)
    tall = bool(turns % 2)
    upright = (frame.height, frame.width) if tall else (frame.width, frame.height)
    if x + width > upright[0] or y + height > upright[1]:
        raise VideoError(
            f"crop_box is {list(box)}, not [x, y, width, height] within a frame of {upright[0]}x{upright[1]} pixels; run compute_crop_box.py again"
        )
    if mirrored:
        x = upright[0] - x - width
    for _ in range(turns):  # one quarter turn back: clockwise
        x, y, width, height = upright[1] - y - height, x, height, width
        upright = upright[::-1]
    return x, y, width, height


def _graph(frame: av.VideoFrame, box: tuple[int, int, int, int]) -> Graph:
    x, y, width, height = box
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    crop = graph.add("crop", f"{width}:{height}:{x}:{y}:exact=1")
    sink = graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    return graph
