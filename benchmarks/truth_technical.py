"""Technical scores of real frames, degraded step by step: which steps do not lower the score, and the cost of a frame.

python -m benchmarks.truth_technical VIDEOS
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.measure import table
from utils.scoring.technical import measure_frame
from utils.video_utils import get_video_path_list

STEPS = {
    "blur, % of height": (0, 0.14, 0.2, 0.28, 0.42, 0.55, 0.85, 1.2, 1.7),
    "dark, gain": (1, 0.7, 0.5, 0.35, 0.25, 0.15, 0.08, 0.04),
    "glare, gain": (1, 1.5, 2, 3, 4, 6, 10),
    "JPEG quality": (100, 75, 50, 35, 20, 10, 5),
    "noise, levels": (0, 5, 10, 20, 30, 50),
}


def degraded(frame: np.ndarray, kind: str, step: float) -> np.ndarray:
    if kind.startswith("blur"):
        return cv2.GaussianBlur(frame, (0, 0), step / 100 * min(frame.shape[:2])) if step else frame
    if kind.startswith("dark"):
        return (frame * step).astype(np.uint8)
    if kind.startswith("glare"):  # a step of 1 brings the mean to 0.45 of white, unless it is above
        return (frame * max(1, 115 / max(frame.mean(), 1)) * float(step)).clip(0, 255).astype(np.uint8)
    if kind.startswith("JPEG"):
        return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, step])[1], cv2.IMREAD_COLOR)
    return (frame + np.random.default_rng(0).normal(0, step, frame.shape)).clip(0, 255).astype(np.uint8)


def frames_of(folder: Path, every_seconds: float, most: int) -> Iterator[tuple[str, np.ndarray]]:
    """Up to `most` frames of each video that can be read: (name and second, uint8 (H, W, 3), RGB), the first one second in."""
    for path in (folder / name for name in get_video_path_list(str(folder))):
        due, first, count = 1.0, None, 0
        with suppress(av.error.FFmpegError), av.open(str(path)) as container:
            for frame in container.decode(video=0):
                now = float(frame.pts * frame.time_base)
                first = now if first is None else first
                if now - first >= due - 0.1:
                    yield f"{path.stem} {now - first:.0f} s", frame.to_ndarray(format="rgb24")
                    due, count = due + every_seconds, count + 1
                if count == most:
                    break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video_folder", type=Path)
    parser.add_argument("--every_seconds", type=float, default=4.3, help="between frames (default: 4.3)")
    parser.add_argument("--most", type=int, default=2, help="frames per video (default: 2)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    frames = list(frames_of(args.video_folder, args.every_seconds, args.most))
    names = ("technical_score", "sharpness", "exposure", "contrast", "colourfulness", "noise", "blockiness")
    scores = [measure_frame(frame) for _, frame in frames]
    rows = [[name, *(f"{columns[n]:.2f}" for n in names)] for (name, _), columns in zip(frames, scores, strict=True)]
    print(table(["frame", *names], rows) + "\n")
    # Black frames cannot get worse.
    frames = [named for named, columns in zip(frames, scores, strict=True) if columns["technical_score"] >= 1]
    rows = []
    for kind, steps in STEPS.items():
        scores = [[measure_frame(degraded(frame, kind, s))["technical_score"] for s in steps] for _, frame in frames]
        broken = [
            f"{name} ({', '.join(f'{s:g}' for s, a, b in zip(steps[1:], row, row[1:], strict=False) if b >= a)})"
            for (name, _), row in zip(frames, scores, strict=True)
            if any(b >= a for a, b in zip(row, row[1:], strict=False))
        ]
        rise = max(0, np.diff(scores).max())
        means = ", ".join(f"{s:g}: {m:.1f}" for s, m in zip(steps, np.mean(scores, 0), strict=True))
        rows.append([kind, str(len(frames)), str(len(frames) - len(broken)), f"{rise:.2f}", means, "; ".join(broken)])
    print(
        table(
            ["worse by", "frames", "falls at every step", "largest rise", "mean score at each step", "exceptions"], rows
        )
    )
    rows = []
    for size in ((640, 360), (1280, 720), (1920, 1080), (3840, 2160)):
        frame = cv2.resize(frames[-1][1], size)
        started = time.process_time()
        for _ in range(5):
            measure_frame(frame)
        rows.append([f"{size[0]}x{size[1]}", f"{(time.process_time() - started) * 200:.0f}"])
    print("\n" + table(["size", "CPU ms a frame"], rows))


if __name__ == "__main__":
    main()
