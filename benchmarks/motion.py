"""What motion costs: DIS flow at a 256-pixel short side beside Farneback flow at native size, in CPU-seconds per second of video.

    python benchmarks/motion.py FOLDER --runs 3

Both see frames at 2 fps. The scripts are measured with all their processes; their start-up, on one second of 64 x 64 pixels, is taken off in the
columns right of "past start-up". The rows "in memory" have the frames decoded before the clock starts.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

from cases import Side, motion, plain_decoding, prepare, tiny
from measure import ROOT, Usage, compare, past_start_up, ratio, table

sys.path.append(str(ROOT))


def in_memory(paths: list[str], runs: int) -> dict[str, list[float]]:
    """CPU-seconds over all videos, run by run, of the bare estimators and of all that `measure_motion` makes of DIS."""
    import cv2

    from compute_motion_score import sampled
    from utils.scoring.optical_flow import SAMPLING_FPS, farneback_score, measure_motion, prepare
    from utils.video.geometry import frame_to_array
    from utils.video.opening import decode, open_video

    def dis(frames: list, times: list) -> None:
        estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        for previous, following in zip(frames, frames[1:]):
            estimator.calc(previous, following, None)

    cv2.setNumThreads(1)
    sides: dict[str, tuple[Callable, int]] = {
        "bare DIS at 256, in memory": (dis, 256),
        "all motion columns at 256, in memory": (measure_motion, 256),
        "bare Farneback at native size, in memory": (lambda frames, times: farneback_score(frames), 0),
    }
    seconds = {name: [0.0] * runs for name in sides}
    for path in paths:
        with open_video(path) as (container, stream):
            picked = sampled(decode(container, stream), stream, SAMPLING_FPS, {})
            native, times = zip(*((frame_to_array(frame, "gray"), time) for frame, time in picked))
        for run in range(runs):
            for name, (side, short_side) in sides.items():
                frames = [prepare(frame, short_side) for frame in native]
                prefetch = process_time()
                side(frames, times)
                seconds[name][run] += process_time() - prefetch
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of readable videos of a second or more")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs (default: 3)")
    args = parser.parse_args()

    def farneback(case, out):
        return motion(case, out, "--motion_estimator", "farneback", "--short_side", "0")

    sides: dict[str, Side] = {
        "plain decoding, one thread": plain_decoding,
        "compute_motion_score.py (DIS at 256)": motion,
        "compute_motion_score.py (Farneback, native)": farneback,
    }
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        case, small = prepare(args.folder, work / "found"), tiny(work / "tiny")
        start_up = compare({name: partial(side, small) for name, side in sides.items()}, args.runs)
        usages = compare({name: partial(side, case) for name, side in sides.items()}, args.runs)
        bare = in_memory(case.paths, args.runs)
        video_seconds = case.video_seconds
        print(f"{len(case.paths)} videos of {video_seconds:.0f} s\n")
    net = {name: past_start_up(usages[name], start_up[name], commands=1) for name in sides}
    *_, script_reference = net.values()
    *_, bare_reference = bare.values()
    rows = [
        [
            name,
            f"{median(usage.cpu_seconds for usage in usages[name]) / video_seconds:.4f}",
            f"{median(net[name]) / video_seconds:.4f}",
            f"{ratio(net[name], script_reference):.3f}",
            *Usage.peaks(usages[name]),
        ]
        for name in sides
    ] + [
        [name, "", f"{median(spent) / video_seconds:.4f}", f"{ratio(spent, bare_reference):.3f}", "", ""]
        for name, spent in bare.items()
    ]
    header = ["", "CPU-s per second", "past start-up", "÷ Farneback", "largest process, MiB", "all together, MiB"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
