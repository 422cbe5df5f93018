"""How `optical_flow` measures pans, zooms and rolls of known speed, real clips, and what it costs.

python -m benchmarks.truth_motion --video_folder VIDEOS
"""

import argparse
import io
import json
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from skimage import data

from compute_motion_score import sampled
from utils.scoring.optical_flow import camera_name, farneback_score, measure_motion, prepare
from utils.video.opening import decode, open_video
from utils.video_utils import get_video_path_list

PERCENTS = (0, 2, 5, 10, 20, 40, 60, 80)  # of the width per second


def mosaic(height: int) -> np.ndarray:
    """uint8 RGB (height, about 7 * height, 3): five photographs side by side."""
    photos = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), data.stereo_motorcycle()[0]]
    return np.hstack(
        [
            cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height), interpolation=cv2.INTER_CUBIC)
            for p in photos
        ]
    )


def moved(
    canvas: np.ndarray, size: tuple[int, int], x: float, y: float, zoom: float = 1.0, roll: float = 0.0
) -> np.ndarray:
    """The window of `size` (width, height) around (x, y); `roll` turns the camera clockwise, in degrees."""
    matrix = cv2.getRotationMatrix2D((x, y), roll, zoom)  # positive turns the picture counter-clockwise
    matrix[:, 2] += np.array(size) / 2 - (x, y)
    return cv2.warpAffine(canvas, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def print_pans(starts: int, seconds: float) -> None:
    print("| size | fps | " + " | ".join(f"{p} %/s" for p in PERCENTS) + " | largest error up to 40 | misnamed |")
    print("|---|---|" + "---|" * (len(PERCENTS) + 2))
    for width, height in ((854, 480), (1920, 1080), (3840, 2160)):
        canvas = mosaic(height * 5 // 4)
        for fps in (24, 30, 60):
            cells, worst, misnamed = [], 0.0, 0
            for percent in PERCENTS:
                speed, scores = percent / 100 * width, []
                every = np.arange(round(seconds * fps) + 1) / fps
                chosen = sampled_seconds(every)
                for x in np.linspace(width / 2, canvas.shape[1] - width / 2 - speed * seconds, starts):
                    frames = [
                        prepare(moved(canvas, (width, height), x + speed * t, canvas.shape[0] / 2)) for t in chosen
                    ]
                    columns = measure_motion(frames, chosen)
                    scores.append(columns["motion_score"])
                    misnamed += camera_name(columns) != ("pan right" if percent else "static")
                truth = speed / height * 100
                cells.append(f"{np.mean(scores):.2f}")
                worst = max([worst, *(abs(s / truth - 1) for s in scores)]) if 0 < percent <= 40 else worst
            print(f"| {width}x{height} | {fps} | " + " | ".join(cells) + f" | {worst:.1%} | {misnamed} |", flush=True)
    print("| truth | | " + " | ".join(f"{p * 16 / 9:.2f}" for p in PERCENTS) + " | | |\n")


def print_turns() -> None:
    canvas, size = mosaic(1440), (1280, 720)
    print("| motion | zoom | roll | pan | tilt | residual | motion_score | name |\n|---|---|---|---|---|---|---|---|")
    times = np.arange(7) / 2
    cases = [(f"zoom {z:+d} %/s", z, 0, 0, 0) for z in (-30, -10, -3, 3, 10, 30)] + [
        (f"roll {r:+d} degrees/s", 0, r, 0, 0) for r in (-20, 5, 20)
    ]
    cases += [
        ("tilt up 10 %/s", 0, 0, 0, 10),
        ("pan left 10, tilt down 8 %/s", 0, 0, -10, -8),
        ("pan right 8 and zoom in 20 %/s", 20, 0, 8, 0),
    ]
    for label, zoom, roll, pan, tilt in cases:
        base = 1.5 if zoom < 0 else 0.8
        frames = [
            prepare(
                moved(canvas, size, 4200 + pan * 7.2 * t, 720 - tilt * 7.2 * t, base * np.exp(zoom / 100 * t), roll * t)
            )
            for t in times
        ]
        c = measure_motion(frames, times)
        print(
            f"| {label} | {c['camera_zoom']:+.2f} | {c['camera_roll']:+.2f} | {c['camera_pan']:+.2f} "
            f"| {c['camera_tilt']:+.2f} "
            f"| {c['residual_motion']:.2f} | {c['motion_score']:.2f} | {camera_name(c)} |"
        )
    print()


def sampled_seconds(times, fps: float = 2) -> list[float]:
    """Which of `times`, in seconds, `compute_motion_score.sampled` takes, counted from the first of them."""
    frames = []
    for seconds in times:
        frames.append(av.VideoFrame(16, 16, "gray"))
        frames[-1].pts = round(seconds * 90_000)
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.time_base = Fraction(1, 90_000)
        return [seconds for _, seconds in sampled(iter(frames), stream, fps, {})]


def sampled_frames(path: Path, sampling_fps: float, max_seconds: float = 60) -> tuple[list[np.ndarray], list[float]]:
    frames, times = [], []
    with open_video(str(path)) as (container, stream):
        for frame, seconds in sampled(decode(container, stream), stream, sampling_fps, {}):
            if seconds < max_seconds:
                frames.append(frame.to_ndarray(format="rgb24"))
                times.append(seconds)
    return frames, times


def videos_in(folder: Path) -> list[Path]:
    return [folder / name for name in get_video_path_list(str(folder))]


def print_clips(folder: Path) -> None:
    names = (
        "motion_score",
        "camera_pan",
        "camera_tilt",
        "camera_zoom",
        "camera_roll",
        "camera_shake",
        "residual_motion",
        "moving_share",
    )
    names += ("subject_share", "static_share", "jump", "flicker")
    print("| clip | name | " + " | ".join(names) + " | CPU ms per video second |\n" + "|---" * (len(names) + 3) + "|")
    for path in videos_in(folder):
        frames, times = sampled_frames(path, 2)
        if len(frames) < 2:
            continue
        started = time.process_time()
        columns = measure_motion([prepare(f) for f in frames], times)
        cost = (time.process_time() - started) / (times[-1] - times[0] + 0.5) * 1000
        print(
            f"| {path.stem} | {camera_name(columns)} | "
            + " | ".join(f"{columns[n]:.2f}" for n in names)
            + f" | {cost:.1f} |",
            flush=True,
        )
    print()


def print_finer(folder: Path) -> None:
    print("| clip | pan, tilt at 2 fps | pan, tilt at 8 fps | motion_score 2 fps | 8 fps |\n|---|---|---|---|---|")
    for path in videos_in(folder):
        cells = []
        for fps in (2, 8):
            frames, times = sampled_frames(path, fps)
            if len(frames) > 1:
                cells.append(measure_motion([prepare(f) for f in frames], times))
        if len(cells) < 2:
            continue
        print(
            f"| {path.stem} | " + " | ".join(f"{c['camera_pan']:+.1f}, {c['camera_tilt']:+.1f}" for c in cells),
            end=" | ",
        )
        print(" | ".join(f"{c['motion_score']:.1f}" for c in cells) + " |", flush=True)
    print()


def print_farneback(folder: Path, reference: Path) -> None:
    print(
        "| clip | published | Farneback | error | Farneback CPU ms per video second | DIS |\n|---|---|---|---|---|---|"
    )
    for line in reference.read_text().splitlines():
        row = json.loads(line)
        with av.open(str(folder / row["video_path"])) as container:
            fps = container.streams.video[0].average_rate
            frames = [
                f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(video=0)) if i % int(fps / 2) == 0
            ]
        seconds = len(frames) * int(fps / 2) / float(fps)
        marks = [time.process_time()]
        score = farneback_score(prepare(f, 0) for f in frames)
        marks.append(time.process_time())
        measure_motion([prepare(f) for f in frames], [i / 2 for i in range(len(frames))])
        marks.append(time.process_time())
        costs = " | ".join(f"{d / seconds * 1000:.1f}" for d in np.diff(marks))
        print(
            f"| {row['video_path']} | {row['motion_score']:.5f} | {score:.5f} "
            f"| {abs(score - row['motion_score']):.1e} | {costs} |"
        )
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--video_folder", type=Path, help="folder of real clips; without it, made ones only")
    parser.add_argument(
        "--reference", type=Path, help="easyanimate_motion.jsonl with the published scores of clips in the folder"
    )
    parser.add_argument("--starts", type=int, default=3, help="places in the photographs where each pan starts")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each pan")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print_pans(args.starts, args.seconds)
    print_turns()
    if args.video_folder:
        print_clips(args.video_folder)
        print_finer(args.video_folder)
    if args.video_folder and args.reference:
        print_farneback(args.video_folder, args.reference)


if __name__ == "__main__":
    main()
