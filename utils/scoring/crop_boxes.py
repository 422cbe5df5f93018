"""The crop boxes of clips, out of the result of compute_crop_box.py: what a score looks at of a frame."""

from collections.abc import Callable

from utils.errors import UsageError
from utils.pipeline.row_list import Lookup
from utils.rows.columns import is_of, number, tuple_of

BOX = tuple_of(number(0, True), number(0, True), number(1, True), number(1, True))  # x, y, width, height


def crop_boxes(path: str, video_folder: str | None) -> Callable[[str], list | None]:
    """The crop box of a clip by its path, out of a file; None for a clip that has none there, which is measured whole.

    Raises: `UsageError` where a box is none.
    """
    lookup = Lookup(path, video_folder)
    for row in lookup.rows:
        box = row.get("crop_box")
        if box is not None and not is_of(box, BOX):
            raise UsageError(f"{row['video_path']}: crop_box is {box!r}, not [x, y, width, height]")
    return lambda video_path: lookup(video_path).get("crop_box")
