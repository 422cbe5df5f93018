"""Measuring inside crop boxes: how a score's rows get their box, and how its results record it.

add_crop_argument(parser)
boxes = CropBoxes.given_to(rows, args.crop_boxes, args.video_folder)
look = cropped(row.get("crop_box"))  # utils/video/cropping.py, in read(row)
{..., **measured_in(row)}  # the columns that read(row) gives
SCORE.step(read, settings, is_whole=boxes.check_for(saved_path), inputs=boxes.inputs)
"""

from collections.abc import Callable

from utils.cli import about
from utils.errors import UsageError
from utils.pipeline.ancestry import settings_of
from utils.pipeline.row_list import Lookup, Rows
from utils.rows import check_has
from utils.rows.columns import is_of, number, tuple_of

BOX = tuple_of(number(0, True), number(0, True), number(1, True), number(1, True))  # x, y, width, height
LOOKED_AT = 1000  # rows of a list, for a column crop_box of its own: it is no request to measure in it
MEASURED_IN = "measured_in"  # the result column that holds the box; "text_crop_box" in files of 0.3


class CropBoxes:
    """The crop box of each clip out of a file; without one, no clip has a box."""

    def __init__(self, path: str | None, video_folder: str | None = None):
        """Raises: `UsageError` where the file is missing or a box is none."""
        self.path, self.row_of = path, None
        if path:
            with about("--crop_boxes"):
                self.row_of = Lookup(path, video_folder)
                for row in self.row_of.rows:
                    check_has(row, ("crop_box",), f"{path}: {row['video_path']}")
                    if (box := row.get("crop_box")) is not None and not is_of(box, BOX):
                        raise UsageError(f"{row['video_path']}: crop_box is {box!r}, not [x, y, width, height]")

    @classmethod
    def given_to(cls, rows: Rows, path: str | None, video_folder: str | None) -> "CropBoxes":
        """The boxes, each of which its row gets as `crop_box`, whatever the list had there."""
        boxes = cls(path, video_folder)
        if path or any("crop_box" in row for row in rows.head(LOOKED_AT)):
            rows.change = lambda row: {**row, "crop_box": boxes.of(row["video_path"])}
        return boxes

    def of(self, video_path: str) -> list[int] | None:
        """None for a clip that is not cropped, or has no box: it is measured whole."""
        row = self.row_of(video_path) if self.row_of else {}
        return None if row.get("crop_share") == 1 and not any(row.get("crop_bars") or ()) else row.get("crop_box")

    @property
    def inputs(self) -> list[str]:
        return [self.path] if self.path else []

    def check_for(self, saved_path: str) -> Callable[[list[dict]], bool] | None:
        """`is_of_box` where a result file may hold results of boxes; None where it cannot, as that costs a look at each of its rows."""
        before = settings_of(saved_path)
        made_from = before.get("inputs") or before.get("at_work_on") or {}
        return self.is_of_box if self.path or len(made_from) > 1 else None

    def is_of_box(self, results: list[dict]) -> bool:
        """Whether a clip's results were measured in the box that it has now: otherwise they are due again."""
        result = results[0]
        if self.row_of and "text_crop_box" in result:
            return result["text_crop_box"] == self.row_of(result["video_path"]).get("crop_box")
        return result.get(MEASURED_IN, result.get("text_crop_box")) == self.of(result["video_path"])


def measured_in(row: dict) -> dict[str, list[int]]:
    """The result column of a row that is measured in a box; none where it is measured whole."""
    box = row.get("crop_box")
    return {} if box is None else {MEASURED_IN: box}
