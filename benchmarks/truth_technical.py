"""Print technical scores of real frames made worse step by step, which steps do not fall, and the cost of a frame.

python -m benchmarks.truth_technical VIDEOS
"""

import argparse
import time
from pathlib import Path

import av
import cv2
import numpy as np

from utils.scoring.technical import measure_frame

STEPS = {
    "blur, % of height": (0, 0.14, 0.2, 0.28, 0.42, 0.55, 0.85, 1.2, 1.7),
    "dark, gain": (1, 0.7, 0.5, 0.35, 0.25, 0.15, 0.08, 0.04),
    "glare, gain": (1, 1.5, 2, 3, 4, 6, 10),
    "JPEG quality": (100, 75, 50, 35, 20, 10, 5),
    "noise, levels": (0, 5, 10, 20, 30, 50),
}


def worsened(frame: np.ndarray, kind: str, step: float) -> np.ndarray:
    if kind.startswith("blur"):
        return cv2.GaussianBlur(frame, (0, 0), step / 100 * min(frame.shape[:2])) if step else frame
    if kind.startswith("dark"):
        return (frame * step).astype(np.uint8)
    if kind.startswith("glare"):  # a step of 1 brings the mean to 0.45 of white, unless it is above
        return (frame * max(1, 115 / max(frame.mean(), 1)) * float(step)).clip(0, 255).astype(np.uint8)
    if kind.startswith("JPEG"):
        return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, step])[1], cv2.IMREAD_COLOR)
    return (frame + np.random.default_rng(0).normal(0, step, frame.shape)).clip(0, 255).astype(np.uint8)


def frames_of(path: Path, every_seconds: float, most: int) -> list[tuple[float, np.ndarray]]:
    """Up to `most` (seconds, RGB frame), the first one second in."""
    frames, due, first = [], 1.0, None
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                now = float(frame.pts * frame.time_base)
                first = now if first is None else first
                if now - first >= due - 0.1:
                    frames.append((now - first, frame.to_ndarray(format="rgb24")))
                    due += every_seconds
                if len(frames) == most:
                    break
        except av.error.InvalidDataError:
            pass
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("video_folder", type=Path)
    parser.add_argument("--every_seconds", type=float, default=4.3)
    parser.add_argument("--most", type=int, default=2, help="frames a video")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    paths = [p for p in sorted(args.video_folder.iterdir()) if p.suffix not in (".md", ".json") and p.stem[:3] != "bad"]
    named = [
        (f"{p.stem} {now:.0f} s", frame)
        for p in paths
        for now, frame in frames_of(p, args.every_seconds, args.most if p.stem[:3] != "ms_" else 2 * args.most)
    ]
    names = ("technical_score", "sharpness", "exposure", "contrast", "colourfulness", "noise", "blockiness")
    print(f"| frame | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for name, frame in named:
        columns = measure_frame(frame)
        print(f"| {name} | " + " | ".join(f"{columns[n]:.2f}" for n in names) + " |")
    named = [
        (name, frame) for name, frame in named if measure_frame(frame)["technical_score"] >= 1
    ]  # black has no less
    print(
        "\n| worse by | frames | falls at every step | largest rise | mean score at each step | exceptions |\n|---|---|---|---|---|---|"
    )
    for kind, steps in STEPS.items():
        scores = [[measure_frame(worsened(frame, kind, s))["technical_score"] for s in steps] for _, frame in named]
        broken = [
            f"{name} ({', '.join(f'{s:g}' for s, a, b in zip(steps[1:], row, row[1:], strict=False) if b >= a)})"
            for (name, _), row in zip(named, scores, strict=True)
            if any(b >= a for a, b in zip(row, row[1:], strict=False))
        ]
        rise = max(0, np.diff(scores).max())
        means = ", ".join(f"{s:g}: {m:.1f}" for s, m in zip(steps, np.mean(scores, 0), strict=True))
        print(
            f"| {kind} | {len(named)} | {len(named) - len(broken)} | {rise:.2f} | {means} | {'; '.join(broken)} |",
            flush=True,
        )
    print("\n| size | CPU ms a frame |\n|---|---|")
    for size in ((640, 360), (1280, 720), (1920, 1080), (3840, 2160)):
        frame = cv2.resize(named[-1][1], size)
        started = time.process_time()
        for _ in range(5):
            measure_frame(frame)
        print(f"| {size[0]}x{size[1]} | {(time.process_time() - started) * 200:.0f} |")


if __name__ == "__main__":
    main()
