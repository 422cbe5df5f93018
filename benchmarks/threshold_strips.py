"""Draw the clips on both sides of each default threshold: the nearest that are dropped, then the nearest that are kept.

    python -m benchmarks.threshold_strips DATASET_FOLDER OUT

DATASET_FOLDER has been through stage_2_filter_data.sh. A column is a clip: its middle frame and, below it, the frame half a second
later.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.rows import read_rows
from utils.video.geometry import frame_to_array
from utils.video.sampling import sample_frames

THRESHOLDS = {  # file: column, threshold, whether values below it are dropped
    "technical_score": ("technical_score", 4, True),
    "text_score": ("text_score", 0.02, False),
    "motion_low": ("motion_score", 1.5, True),
    "motion_high": ("motion_score", 25, False),
}
SIZE = (208, 117)
LINE = 18  # pixels of the line of text above a clip
GREEN, RED = (0, 130, 60), (190, 30, 30)


def nearest(rows: list[dict], column: str, threshold: float, most: int) -> list[dict]:
    """The rows whose values are nearest to the threshold, at most two per source, by rising value."""
    chosen, sources = [], []
    for row in sorted(rows, key=lambda row: abs(row[column] - threshold)):
        if sources.count(row["source_path"]) < 2 and len(chosen) < most:
            chosen.append(row)
            sources.append(row["source_path"])
    return sorted(chosen, key=lambda row: row[column])


def clip_picture(row: dict, path: Path, text: str, colour: tuple[int, int, int]) -> Image.Image:
    half_a_second = round(row["num_frames"] / row["duration"] / 2)
    _, _, frames = sample_frames(str(path), lambda count: [count // 2, min(count - 1, count // 2 + half_a_second)])
    picture = Image.new("RGB", (SIZE[0] + 4, LINE + 2 * SIZE[1] + 4), colour)
    ImageDraw.Draw(picture).text((5, 2), text, fill="white", font=ImageFont.load_default(size=13))
    for index, frame in enumerate(frames):
        shown = frame_to_array(frame, "rgb24")
        scale = min(SIZE[0] / shown.shape[1], SIZE[1] / shown.shape[0])
        small = cv2.resize(shown, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        left, top = (SIZE[0] - small.shape[1]) // 2, (SIZE[1] - small.shape[0]) // 2
        field = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        field[top : top + small.shape[0], left : left + small.shape[1]] = small
        picture.paste(Image.fromarray(field), (2, LINE + index * (SIZE[1] + 2)))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_folder", type=Path)
    parser.add_argument("output_folder", type=Path)
    parser.add_argument("--most", type=int, default=3, help="clips on each side of a threshold (default: 3)")
    args = parser.parse_args()
    clips = {row["video_path"]: row for row in read_rows(args.dataset_folder / "clips.jsonl")}
    args.output_folder.mkdir(exist_ok=True)
    for name, (column, threshold, low) in THRESHOLDS.items():
        rows = [clips[row["video_path"]] | row for row in read_rows(args.dataset_folder / f"{column}.jsonl")]
        below = nearest([row for row in rows if row[column] < threshold], column, threshold, args.most)
        above = nearest([row for row in rows if row[column] >= threshold], column, threshold, args.most)
        sides = [(below, "dropped" if low else "kept"), (above, "kept" if low else "dropped")]
        pictures = [
            clip_picture(row, args.dataset_folder / "train" / row["video_path"], f"{word}: {row[column]:.3g}",
                         GREEN if word == "kept" else RED)
            for side, word in sides for row in side
        ]  # fmt: skip
        strip = Image.new("RGB", (sum(p.width + 4 for p in pictures) - 4, pictures[0].height), "white")
        for index, picture in enumerate(pictures):
            strip.paste(picture, (index * (picture.width + 4), 0))
        strip.save(args.output_folder / f"{name}.jpg", quality=80)
        print(f"{name}: {', '.join(row['video_path'] for side, _ in sides for row in side)}")


if __name__ == "__main__":
    main()
