"""Crop boxes: bars, subtitles, tickers and logos of known place laid over clips, and what clean clips lose.

    python -m benchmarks.truth_crop --footage FOLDER

A case counts as found where the box is within IOU of the true one: the largest rectangle without what was laid over. Without
--footage the clips are pans over photographs.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.duplicates import Frames, footage, write
from benchmarks.measure import table
from compute_crop_box import crop_columns, read_clip
from utils.scoring.boxes import largest_rectangle
from utils.scoring.rapidocr_detector import RapidTextDetector
from utils.video.sampling import FrameSampling

IOU = 0.93
Box = tuple[int, int, int, int]
LINES = (
    "And then she said nothing at all",
    "We leave tomorrow at dawn",
    "Who would have thought so?",
    "It was raining the whole night",
)


def bars(
    frames: Frames,
    left: int = 0,
    top: int = 0,
    right: int = 0,
    bottom: int = 0,
    noise: float = 0,
    blurred: bool = False,
) -> tuple[Frames, list[Box]]:
    """The picture within bars, at the frame's size."""
    height, width = frames[0].shape[:2]
    random = np.random.default_rng(0)
    made = []
    for frame in frames:
        if blurred:
            out = cv2.GaussianBlur(cv2.resize(frame, None, fx=1.8, fy=1.8)[:height, :width], (0, 0), 18)
        else:
            out = (
                np.clip(random.normal(4, noise, frame.shape), 0, 255).astype(np.uint8)
                if noise
                else np.zeros_like(frame)
            )
        inner = height - top - bottom, width - left - right
        scale = max(inner[0] / height, inner[1] / width)
        large = cv2.resize(frame, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        y, x = (large.shape[0] - inner[0]) // 2, (large.shape[1] - inner[1]) // 2
        out[top : height - bottom, left : width - right] = large[y : y + inner[0], x : x + inner[1]]
        made.append(out)
    boxes = [
        (0, 0, left, height),
        (width - right, 0, right, height),
        (0, 0, width, top),
        (0, height - bottom, width, bottom),
    ]
    return made, [box for box in boxes if box[2] and box[3]]


def put(
    frame: np.ndarray, text: str, at: tuple[float, float], size: float, strength: float = 1.0, outline: bool = True
) -> Box:
    """Write text with its lower left corner at (x, y), its letters `size` pixels high; the box of its ink."""
    scale, thick = size / 22, max(1, round(size / 11))
    (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    over = frame.copy()
    place = round(at[0]), round(at[1])
    if outline:
        cv2.putText(over, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), thick + 3, cv2.LINE_AA)
    cv2.putText(over, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), thick, cv2.LINE_AA)
    frame[:] = cv2.addWeighted(over, strength, frame, 1 - strength, 0)
    return place[0], place[1] - h, w, h + base // 2


def subtitles(frames: Frames) -> tuple[Frames, list[Box]]:
    height, width = frames[0].shape[:2]
    made, boxes = [frame.copy() for frame in frames], []
    for i, frame in enumerate(made):
        text = LINES[i * len(LINES) // len(made)]
        size = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 20 / 22, 2)[0][0]
        boxes.append(put(frame, text, ((width - size) / 2, height * 0.92), 20))
    return made, [_around(boxes)]


def ticker(frames: Frames) -> tuple[Frames, list[Box]]:
    height, width = frames[0].shape[:2]
    made = [frame.copy() for frame in frames]
    top = int(height * 0.9)
    for i, frame in enumerate(made):
        frame[top:] = (170, 20, 20)
        put(frame, "   BREAKING NEWS   ".join(LINES), (20 - 5 * i, height * 0.96), 16, outline=False)
    return made, [(0, top, width, height - top)]


def logo(frames: Frames, right: bool = True, top: bool = True, strength: float = 1.0) -> tuple[Frames, list[Box]]:
    height, width = frames[0].shape[:2]
    made, boxes = [frame.copy() for frame in frames], []
    for frame in made:
        x, y = (width * 0.84 if right else width * 0.03), (height * 0.1 if top else height * 0.95)
        over = frame.copy()
        cv2.circle(over, (round(x + 8), round(y - 8)), 11, (255, 255, 255), 3, cv2.LINE_AA)
        box = put(over, "KANAL", (x + 24, y), 17, outline=False)
        frame[:] = cv2.addWeighted(over, strength, frame, 1 - strength, 0)
        boxes.append(_around([box, (round(x - 5), round(y - 21), 26, 26)]))
    return made, [_around(boxes)]


def _around(boxes: list[Box]) -> Box:
    x, y = min(b[0] for b in boxes), min(b[1] for b in boxes)
    return x, y, max(b[0] + b[2] for b in boxes) - x, max(b[1] + b[3] for b in boxes) - y


CASES: dict[str, Callable[[Frames], tuple[Frames, list[Box]]]] = {
    "clean": lambda frames: (frames, []),
    "letterbox": partial(bars, top=45, bottom=45),
    "pillarbox": partial(bars, left=80, right=80),
    "window box": partial(bars, left=40, top=30, right=40, bottom=30),
    "one bar": partial(bars, bottom=40),
    "noisy bars": partial(bars, top=45, bottom=45, noise=4),
    "blurred sides": partial(bars, left=110, right=110, blurred=True),
    "blurred top and bottom": partial(bars, top=50, bottom=50, blurred=True),
    "subtitles": subtitles,
    "ticker": ticker,
    "logo": logo,
    "logo, bottom left": partial(logo, right=False, top=False),
    "watermark, half transparent": partial(logo, strength=0.5),
    "watermark, 30 %": partial(logo, strength=0.3),
    "letterbox and subtitles": lambda frames: (lambda barred, more: (barred[0], more[1] + barred[1]))(*_twice(frames)),
    "dark, letterbox": lambda frames: bars([(frame * 0.25).astype(np.uint8) for frame in frames], top=45, bottom=45),
    "dark, clean": lambda frames: ([(frame * 0.12).astype(np.uint8) for frame in frames], []),
}


def _twice(frames: Frames) -> tuple[tuple[Frames, list[Box]], tuple[Frames, list[Box]]]:
    written = subtitles(frames)
    made, boxes = bars(frames, top=45, bottom=45)
    lines = []
    for i, frame in enumerate(made):
        lines.append(put(frame, LINES[i * len(LINES) // len(made)], (150, 300), 18))
    return (made, boxes), (written[0], [_around(lines)])


def overlap(one: Box, other: Box) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(0, width) * max(0, height)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def results(folder: str | None, cases: list[str]) -> Iterator[tuple[str, str, float, bool, float]]:
    """Clip, case, IoU, whether nothing can be told of marks, share."""
    detector = RapidTextDetector(threads=2)
    with tempfile.TemporaryDirectory() as work:
        for name, frames in footage(folder):
            for case, change in ((name, CASES[name]) for name in cases):
                made, laid = change(frames)
                path = Path(work) / "clip.mp4"
                write(path, made)
                clip = read_clip({"video_path": str(path)}, None, FrameSampling("uniform", 12))
                (row,) = crop_columns([clip], lambda: detector, 0)
                height, width = made[0].shape[:2]
                true = largest_rectangle((0, 0, width, height), laid) if laid else (0, 0, width, height)
                yield name, case, overlap(tuple(row["crop_box"]), true), row["crop_logos"] is None, row["crop_share"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--footage", help="folder of clips without bars, text and logos")
    parser.add_argument("--verbose", action="store_true", help="also print each clip that is wrong")
    parser.add_argument(
        "--cases", nargs="+", choices=list(CASES), default=list(CASES), metavar="CASE", help="these alone"
    )
    args = parser.parse_args()
    found = list(results(args.footage, args.cases))
    rows = []
    for case in args.cases:
        of_case = [one for one in found if one[1] == case]
        ious = [iou for _, _, iou, _, _ in of_case]
        told = [iou for _, _, iou, unknown, _ in of_case if not unknown]
        rows.append(
            [
                case,
                f"{sum(iou >= IOU for iou in ious)} of {len(ious)}",
                f"{np.median(ious):.3f}",
                f"{min(ious):.3f}",
                f"{sum(iou >= IOU for iou in told)} of {len(told)}",
            ]
        )
    print(table(["case", "found", "median IoU", "lowest", "where the clip moves"], rows))
    for name, case, iou, unknown, share in found if args.verbose else ():
        if iou < IOU:
            print(f"{case}: {name}: IoU {iou:.2f}, share {share:.2f}{', cannot tell of marks' if unknown else ''}")


if __name__ == "__main__":
    main()
