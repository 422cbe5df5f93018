"""Find a crop box for each clip that excludes bars, overlaid text, logos and insets, and measure how much text remains.

Columns added: crop_box [x, y, width, height], the largest rectangle without them, in pixels of the upright frame as stored, null
if it is smaller than --min_crop_share of the frame without its bars; crop_share, its share of that frame (0–1), also when crop_box is null;
crop_short_side, pixels; overlay_text_share, the share of the crop box (of the frame if there is none) covered by overlaid text, and
scene_text_share, the same for text that belongs to the scene (signs, shirts), each in the frame with the most (0–1);
and the causes: crop_bars [left, top, right, bottom], pixels of black or blurred bars; crop_text, crop_logos and crop_insets (picture-in-
picture), lists of [x, y, width, height]; crop_logos is null if nothing in the clip moves, because marks then cannot be told from the scene.

    python compute_crop_box.py --video_folder datasets/panda_70m/train --saved_path crop_box.jsonl
    python compute_motion_score.py --video_folder datasets/panda_70m/train --crop_boxes crop_box.jsonl
    python crop_clips.py --video_folder datasets/panda_70m/train --video_metadata_path train.jsonl --saved_path cropped.jsonl
    python export_dataset.py --video_metadata_path summary_caption.jsonl --columns_from crop_box.jsonl --model wan2.1 --export_folder SET

This script crops nothing itself: other scores measure within the box (--crop_boxes), crop_clips.py writes cropped clips, and an export
crops while it encodes. A result file started by version 0.3 is resumed by its rule: crop_share refers to the whole frame, and there are no
text shares or insets.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import av
import cv2
import numpy as np

from utils.cli import add_sampling_arguments, between, from_flags, row_parser, run
from utils.pipeline.ancestry import setting_of_existing
from utils.pipeline.process import RunOptions, in_batches, process_rows
from utils.pipeline.row_list import open_rows
from utils.pipeline.score import Column, OnDemand, Score
from utils.scoring.bars import bars, inside
from utils.scoring.boxes import Box, bounds, covered_share, grown, largest_rectangle, share_in
from utils.scoring.insets import insets
from utils.scoring.overlays import find_overlays
from utils.scoring.rapidocr_detector import SHORT_SIDE, RapidTextDetector
from utils.scoring.standing_words import standing_words
from utils.scoring.still_marks import still_marks
from utils.scoring.text_bands import text_bands
from utils.video.geometry import display_transform, frame_to_array
from utils.video.sampling import FrameSampling
from utils.video_utils import locate

SCORE = Score(
    "crop",
    "crop_box.jsonl",
    {
        "crop_box": Column("[x, y, width, height] in pixels, null where too little would be left", 0),
        "crop_share": Column("its share of the picture within the bars", 0, 1, passes=(0.88, None)),
        "crop_short_side": Column("the short side of the crop box, pixels", 0, passes=(256, None)),
        "overlay_text_share": Column("share of the crop box covered by overlaid text", 0, 1, passes=(None, 0.002)),
        "scene_text_share": Column("the same of other text", 0, 1),
        "crop_bars": Column("bars at the left, top, right, bottom, pixels", 0),
        "crop_text": Column("overlaid text, a list of [x, y, width, height]", 0),
        "crop_insets": Column("pictures set into the picture, likewise", 0),
        "crop_logos": Column("marks that stand still, likewise; null where the clip does", 0),
        "sample_frame_idx": Column("indices of the sampled frames, a list", 0),
    },
)
MARK_SIDE = 360  # pixels of the short side at which bars and marks are looked for: fine enough for a logo
FIRST_LOOK = 3  # text is searched for in every third frame, and in the others if there may be overlaid text
GLIMPSE = 1  # frames after each of these there is a glimpse for lines that come between them
COVERED = 0.3  # of such a line may lie where text was found already
RULE = "overlays 2"  # in the settings: incremented with each change of what counts as overlaid text


def read_clip(row: dict, video_folder: str | None, sampling: FrameSampling) -> dict[str, Any]:
    """The sampled frames of one clip, uint8 (H, W, 3), RGB, as the text detector sees them, and the size of its upright frame."""
    indices, _, seen = sampling.each(locate(row["video_path"], video_folder), _as_seen)
    return {"indices": indices, "frames": [frame for frame, _ in seen], "size": seen[0][1]}


def _as_seen(frame: av.VideoFrame) -> tuple[np.ndarray, tuple[int, int]]:
    """A frame as the text detector sees it, and the size of the whole upright frame, (width, height)."""
    width, height = frame.width, frame.height
    scale = min(1, SHORT_SIDE / min(width, height))
    size = (height, width) if display_transform(frame)[0] % 2 else (width, height)
    return frame_to_array(frame, "rgb24", (max(1, round(width * scale)), max(1, round(height * scale)))), size


def crop_columns(
    batch: list[dict], detector: Callable[[], RapidTextDetector], min_crop_share: float, rule: str = RULE
) -> list[dict]:
    """The columns of each clip of a batch."""
    return [_columns(clip, detector(), min_crop_share, rule) for clip in batch]


def _columns(clip: dict, detector: RapidTextDetector, min_crop_share: float, rule: str) -> dict:
    frames, (width, height) = clip["frames"], clip["size"]
    grays = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    scale = width / grays.shape[2], height / grays.shape[1]
    if rule == "bands":
        found: tuple[list[Box], list[Box], list[list[Box]]] = (
            [],
            text_bands(grays, list(map(detector.boxes, frames))),
            [],
        )
    else:
        found = look_for_text(frames, grays, detector)
    words, text, scene = found
    sides, marks, set_in = around_the_picture(grays, words, clip["size"], rule)
    text = [_scaled(box, scale) for box in text]
    picture = inside(sides, width, height)
    obstacles = [grown(box, min(width, height)) for box in [*text, *set_in, *(marks or [])]]
    box = largest_rectangle(picture, obstacles)
    whole = (0, 0, width, height)
    of = whole if rule == "bands" else picture
    share = box[2] * box[3] / (of[2] * of[3])
    if not obstacles and (rule != "bands" or not any(sides)):
        box, share = (box if any(sides) else whole), 1.0
    left = box if share >= min_crop_share else None
    within = left or picture
    return {
        "crop_box": None if left is None else list(left),
        "crop_share": round(min(share, 1.0), 4),
        **(
            {
                "crop_short_side": min(within[2:]),
                "overlay_text_share": round(covered_share(text, within), 6),
                "scene_text_share": round(
                    max(covered_share([_scaled(one, scale) for one in there], within) for there in scene), 6
                ),
                "crop_insets": [list(one) for one in set_in],
            }
            if rule != "bands"
            else {}
        ),
        "crop_bars": sides,
        "crop_text": [list(one) for one in text],
        "crop_logos": marks if marks is None else [list(one) for one in marks],
        "sample_frame_idx": clip["indices"],
    }


def look_for_text(
    frames: Sequence[np.ndarray], grays: np.ndarray, detector: RapidTextDetector
) -> tuple[list[Box], list[Box], list[list[Box]]]:
    """All text boxes of a clip; the places of text laid over it; and of each frame the boxes of other text. It is looked for in a third of
    the frames first, in those in between where a glimpse shows another line, and in all where these leave it open; and in the median of all,
    for what is faint.
    """
    height, width = grays.shape[1:]
    count = len(frames)
    boxes: list[np.ndarray | None] = [None] * count
    doubtful: list[np.ndarray | None] = [None] * count

    def look(number: int) -> None:
        if boxes[number] is None:
            boxes[number], doubtful[number] = detector.boxes_and_doubtful(frames[number])

    def words() -> list[Box]:
        return [bounds(box, width, height) for found in boxes if found is not None for box in found]

    start = min(1, count - 1)
    for number in range(start, count, FIRST_LOOK):
        look(number)
    for number in range(start + GLIMPSE, count - 1, FIRST_LOOK):  # what is in the last alone cannot be told
        lines = [bounds(box, width, height) for box in detector.glimpse(frames[number])]
        if any(share_in(line, words()) < COVERED for line in lines):
            look(number)
    overlays, scene, is_open = find_overlays(grays, boxes, doubtful)
    if is_open:
        for number in range(count):
            look(number)
        overlays, scene, _ = find_overlays(grays, boxes, doubtful)
    overlays += [box for box in standing_words(grays, detector.boxes_at) if share_in(box, overlays) < COVERED]
    return words(), overlays, scene


def around_the_picture(
    grays: np.ndarray, words: Sequence[Box], size: tuple[int, int], rule: str
) -> tuple[tuple[int, ...], list[Box] | None, list[Box]]:
    """The bars of a clip, [left, top, right, bottom], and the marks and the insets within them, in pixels of its upright frame, which has
    `size`.

    grays: uint8 (T, H, W); words: boxes of text in their pixels, which may stand in a bar.
    """
    factor = min(1, MARK_SIDE / min(grays.shape[1:]))
    small = np.stack([cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for gray in grays])
    sides = bars(small, [_scaled(grown(box, grays.shape[1]), (factor, factor)) for box in words])
    x, y, width, height = inside(sides, small.shape[2], small.shape[1])
    picture = small[:, y : y + height, x : x + width]
    scale = size[0] / small.shape[2], size[1] / small.shape[1]
    edges = tuple(int(np.ceil(pixels * scale[i % 2])) + (pixels > 0) for i, pixels in enumerate(sides))

    def in_frame(boxes: Sequence[Box]) -> list[Box]:
        return [_scaled((left + x, top + y, w, h), scale) for left, top, w, h in boxes]

    marks = still_marks(picture)
    return edges, None if marks is None else in_frame(marks), [] if rule == "bands" else in_frame(insets(picture))


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    x, y, width, height = box
    left, top = int(x * scale[0]), int(y * scale[1])
    return left, top, int(np.ceil((x + width) * scale[0])) - left, int(np.ceil((y + height) * scale[1])) - top


def main() -> None:
    parser = row_parser(__doc__, SCORE.saved_path)
    add_sampling_arguments(parser, ["uniform"], "uniform", 12)
    parser.add_argument(
        "--min_crop_share",
        type=between(0, 1, float),
        help="minimum share of the frame, bars excluded, that a crop must keep (default: that of the existing --saved_path, else 0.5)",
    )
    args = parser.parse_args()
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    sampling = from_flags(FrameSampling, args)
    load = OnDemand(partial(RapidTextDetector, threads=args.n_jobs))
    detector = load()
    # The first "overlays" was never released: a file with it is told that its settings were others.
    rule = (
        "bands" if setting_of_existing(args.saved_path, args.overwrite, "rule", RULE, old="bands") == "bands" else RULE
    )
    existing_share = setting_of_existing(args.saved_path, args.overwrite, "min_crop_share", 0.5)
    least = existing_share if args.min_crop_share is None else args.min_crop_share
    settings = {**sampling.settings, "min_crop_share": least, "text": detector.settings}
    if rule != "bands":  # which files of 0.3 do not name
        settings["rule"] = rule
    read = partial(read_clip, video_folder=args.video_folder, sampling=sampling)
    columns = partial(crop_columns, detector=load, min_crop_share=least, rule=rule)
    process_rows(SCORE.step(read, settings, in_batches(columns)), rows, from_flags(RunOptions, args))


if __name__ == "__main__":
    run(main)
