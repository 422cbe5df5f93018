"""What motion costs: DIS flow at a 256-pixel short side beside Farneback flow at native size, in CPU-seconds per second of video.

    python -m benchmarks.motion FOLDER --runs 3

Both see frames at 2 fps, and decode only those and what they are predicted from: "decoding what 2 fps need". The scripts are measured with all
their processes (films that stage 1 has not cut are checked for cuts inside by TransNetV2, which the first of the two rows leaves out); their start-up, on one second of 64 x 64 pixels, is subtracted in the columns from "past start-up" on. The rows "in memory" have
the frames decoded before the clock starts. Videos need a second or more.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

import cv2

from benchmarks.cases import Case, Side, folder_parser, motion, past_start_up, plain_decoding, prepare, tiny
from benchmarks.measure import Usage, ratio, table
from compute_motion_score import sampled
from utils.scoring import optical_flow
from utils.scoring.optical_flow import SAMPLING_FPS, farneback_score, measure_motion
from utils.video.geometry import frame_to_array
from utils.video.opening import decode, open_video

NEEDED_DECODING = "decoding what 2 fps need"
NEEDED = """
import sys
from compute_motion_score import SAMPLING_FPS, sampled_alone
from utils.video.opening import open_video
for path in sys.argv[1:]:
    with open_video(path) as (container, stream):
        for frame in sampled_alone(container, stream, SAMPLING_FPS, {}):
            pass
"""


def needed_decoding(case: Case, out: Path) -> list[list[str]]:
    return [[sys.executable, "-c", NEEDED, *case.paths]]


def dis(frames: list, times: list) -> None:
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    for previous, following in zip(frames, frames[1:]):
        estimator.calc(previous, following, None)


IN_MEMORY: dict[
    str, tuple[Callable, int]
] = {  # a function of frames and times, and the frames' short side; 0 is native
    "bare DIS at 256, in memory": (dis, 256),
    "all motion columns at 256, in memory": (measure_motion, 256),
    "bare Farneback at native size, in memory": (lambda frames, times: farneback_score(frames), 0),
}


def in_memory(paths: list[str], runs: int) -> dict[str, list[float]]:
    """CPU-seconds over all videos, run by run."""
    cv2.setNumThreads(1)
    seconds = {name: [0.0] * runs for name in IN_MEMORY}
    for path in paths:
        with open_video(path) as (container, stream):
            picked = sampled(decode(container, stream), stream, SAMPLING_FPS, {})
            native, times = zip(*((frame_to_array(frame, "gray"), time) for frame, time in picked))
        for run in range(runs):
            for name, (side, short_side) in IN_MEMORY.items():
                frames = [optical_flow.prepare(frame, short_side) for frame in native]
                started = process_time()
                side(frames, times)
                seconds[name][run] += process_time() - started
    return seconds


def main() -> None:
    args = folder_parser(__doc__).parse_args()
    sides: dict[str, Side] = {
        "plain decoding, one thread": plain_decoding,
        NEEDED_DECODING: needed_decoding,
        "compute_motion_score.py (DIS at 256)": partial(motion, flags=["--cut_inside", "flow"]),
        "the same, TransNetV2 on all frames": motion,
        "compute_motion_score.py (Farneback, native)": partial(
            motion, flags=["--motion_estimator", "farneback", "--short_side", "0"]
        ),
    }
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        case, small = prepare(args.folder, work / "found"), tiny(work / "tiny")
        usages, net = past_start_up(sides, case, small, args.runs)
        bare = in_memory(case.paths, args.runs)
        video_seconds = case.video_seconds
        print(f"{len(case.paths)} videos of {video_seconds:.0f} s\n")
    *_, script_reference = net.values()
    *_, bare_reference = bare.values()
    rows = [
        [
            name,
            f"{median(usage.cpu_seconds for usage in usages[name]) / video_seconds:.4f}",
            f"{median(net[name]) / video_seconds:.4f}",
            f"{ratio(net[name], net[NEEDED_DECODING]):.2f}",
            f"{ratio(net[name], script_reference):.3f}",
            *Usage.peaks(usages[name]),
        ]
        for name in sides
    ] + [
        [name, "", f"{median(spent) / video_seconds:.4f}", "", f"{ratio(spent, bare_reference):.3f}", "", ""]
        for name, spent in bare.items()
    ]
    header = [
        "",
        "CPU-s per second",
        "past start-up",
        "÷ decoding what 2 fps need",
        "÷ Farneback",
        "largest process, MiB",
        "all together, MiB",
    ]
    print(table(header, rows))


if __name__ == "__main__":
    main()
