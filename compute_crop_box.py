"""Find what each clip should be cropped to: no bars, no burnt-in text, no logo.

Columns added: crop_box [x, y, width, height], the largest rectangle without them, in pixels of the upright frame as stored, null
where it is smaller than --min_crop_share; crop_share, its share of the frame's area (0–1), also where crop_box is null;
and the causes: crop_bars [left, top, right, bottom], pixels of black or blurred bars; crop_text and crop_logos, lists of
[x, y, width, height]; crop_logos is null where the clip stands still, so that marks cannot be told from the scene.

    python compute_crop_box.py --video_folder datasets/panda_70m/train --saved_path crop_box.jsonl
    python compute_text_score.py --video_folder datasets/panda_70m/train --crop_boxes crop_box.jsonl
    python export_dataset.py --video_metadata_path summary_caption.jsonl --columns_from crop_box.jsonl --model wan2.1 --export_folder SET

Nothing is cropped before the export, which encodes to crop_box; the text score can be measured within it.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

from collections.abc import Callable
from functools import partial
from typing import Any

import av
import cv2
import numpy as np

from utils.cli import add_sampling_arguments, between, from_flags, row_parser, run
from utils.pipeline.process import RunOptions, in_batches, process_rows
from utils.pipeline.row_list import open_rows
from utils.pipeline.score import Column, OnDemand, Score
from utils.scoring.bars import bars, inside
from utils.scoring.crop_box import grown, largest_rectangle, still_marks, text_bands
from utils.scoring.rapidocr_detector import SHORT_SIDE, RapidTextDetector
from utils.video.geometry import display_transform, frame_to_array
from utils.video.sampling import FrameSampling
from utils.video_utils import locate

SCORE = Score(
    "crop",
    "crop_box.jsonl",
    {
        "crop_box": Column("[x, y, width, height] in pixels, null where too little would be left", 0),
        "crop_share": Column("its share of the frame's area", 0, 1),
        "crop_bars": Column("bars at the left, top, right, bottom, pixels", 0),
        "crop_text": Column("burnt-in text, a list of [x, y, width, height]", 0),
        "crop_logos": Column("marks that stand still, likewise; null where the clip does", 0),
        "sample_frame_idx": Column("indices of the sampled frames, a list", 0),
    },
)
MARK_SIDE = 360  # pixels of the short side at which bars and marks are looked for: fine enough for a logo


def read_clip(row: dict, video_folder: str | None, sampling: FrameSampling) -> dict[str, Any]:
    """Bars and marks of one clip, in pixels of its upright frame, and its frames, uint8 (H, W, 3), RGB, as the text detector sees them."""
    indices, _, seen = sampling.each(locate(row["video_path"], video_folder), _as_seen)
    frames, (_, size) = [frame for frame, _ in seen], seen[0]
    grays = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    factor = min(1, MARK_SIDE / min(grays.shape[1:]))
    small = np.stack([cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for gray in grays])
    sides = bars(small)
    picture = inside(sides, small.shape[2], small.shape[1])
    marks = still_marks(small[:, picture[1] : picture[1] + picture[3], picture[0] : picture[0] + picture[2]])
    to_whole = size[0] / small.shape[2], size[1] / small.shape[1]
    edge = [int(np.ceil(pixels * to_whole[i % 2])) + (pixels > 0) for i, pixels in enumerate(sides)]
    return {
        "indices": indices,
        "frames": frames,
        "grays": grays,
        "size": size,
        "bars": edge,
        "marks": None
        if marks is None
        else [_scaled((x + picture[0], y + picture[1], w, h), to_whole) for x, y, w, h in marks],
    }


def _as_seen(frame: av.VideoFrame) -> tuple[np.ndarray, tuple[int, int]]:
    """A frame as the text detector sees it, and the size of the whole upright frame, (width, height)."""
    width, height = frame.width, frame.height
    scale = min(1, SHORT_SIDE / min(width, height))
    size = (height, width) if display_transform(frame)[0] % 2 else (width, height)
    return frame_to_array(frame, "rgb24", (max(1, round(width * scale)), max(1, round(height * scale)))), size


def crop_columns(batch: list[dict], boxes_in: Callable[[np.ndarray], np.ndarray], min_crop_share: float) -> list[dict]:
    """The columns of each clip of a batch. `boxes_in` gives the text boxes of a frame, (N, 4, 2)."""
    rows = []
    for clip in batch:
        width, height = clip["size"]
        frames = clip["frames"]
        to_whole = width / frames[0].shape[1], height / frames[0].shape[0]
        text = [_scaled(band, to_whole) for band in text_bands(clip["grays"], [boxes_in(frame) for frame in frames])]
        within = inside(clip["bars"], width, height)
        marks = [grown(box, min(width, height)) for box in [*text, *(clip["marks"] or [])]]
        box = largest_rectangle(within, marks)
        share = box[2] * box[3] / (width * height)
        whole = not any(clip["bars"]) and not marks
        rows.append(
            {
                "crop_box": [0, 0, width, height] if whole else list(box) if share >= min_crop_share else None,
                "crop_share": 1.0 if whole else round(share, 4),
                "crop_bars": clip["bars"],
                "crop_text": [list(one) for one in text],
                "crop_logos": clip["marks"] if clip["marks"] is None else [list(one) for one in clip["marks"]],
                "sample_frame_idx": clip["indices"],
            }
        )
    return rows


def _scaled(box: tuple[int, int, int, int], scale: tuple[float, float]) -> tuple[int, int, int, int]:
    x, y, width, height = box
    left, top = int(x * scale[0]), int(y * scale[1])
    return left, top, int(np.ceil((x + width) * scale[0])) - left, int(np.ceil((y + height) * scale[1])) - top


def boxes_by(detector: OnDemand, frame: np.ndarray) -> np.ndarray:
    return detector().boxes(frame)


def main() -> None:
    parser = row_parser(__doc__, SCORE.saved_path)
    add_sampling_arguments(parser, ["uniform"], "uniform", 12)
    parser.add_argument(
        "--min_crop_share",
        type=between(0, 1, float),
        default=0.6,
        help="share of the frame's area that a crop must leave",
    )
    args = parser.parse_args()
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    sampling = from_flags(FrameSampling, args)
    load = OnDemand(partial(RapidTextDetector, threads=args.n_jobs))
    detector = load()
    settings = {**sampling.settings, "min_crop_share": args.min_crop_share, "text": detector.settings}
    read = partial(read_clip, video_folder=args.video_folder, sampling=sampling)
    score = in_batches(partial(crop_columns, boxes_in=partial(boxes_by, load), min_crop_share=args.min_crop_share))
    process_rows(SCORE.step(read, settings, score), rows, from_flags(RunOptions, args))


if __name__ == "__main__":
    run(main)
