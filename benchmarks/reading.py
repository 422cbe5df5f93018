"""What reading a clip's sampled frames costs, in CPU-seconds: Reelset beside decord, OpenCV and PyAV, one thread each.

    python -m benchmarks.reading FOLDER --runs 3

The frames are those of quality (4) and text (the middle one), as RGB at native size.
"""

import os
from collections.abc import Callable
from functools import partial
from statistics import median
from time import process_time

os.environ["OPENCV_FFMPEG_THREADS"] = "1"  # read by OpenCV when it opens a video

import av
import cv2
import decord
import numpy as np

from benchmarks.cases import folder_parser
from benchmarks.measure import ratio, table
from utils.video.geometry import frame_to_array
from utils.video.opening import open_video
from utils.video.sampling import choose_frames, sample_frames
from utils.video.timing import packet_times
from utils.video_utils import get_video_path_list

Clock = dict[str, list[float]]  # the CPU-seconds of each side in each run


def reelset(path: str, indices: list[int]) -> list[np.ndarray]:
    return [frame_to_array(frame, "rgb24") for frame in sample_frames(path, lambda count: indices)[2]]


def with_decord(path: str, indices: list[int]) -> list[np.ndarray]:
    reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
    return list(reader.get_batch(indices).asnumpy())


def opencv_seeking(path: str, indices: list[int]) -> list[np.ndarray]:
    video, frames = cv2.VideoCapture(path, cv2.CAP_FFMPEG), []
    for index in indices:
        video.set(cv2.CAP_PROP_POS_FRAMES, index)
        frames.append(video.read()[1])
    return frames


def opencv_in_order(path: str, indices: list[int]) -> list[np.ndarray]:
    video, frames = cv2.VideoCapture(path, cv2.CAP_FFMPEG), []
    for index in range(indices[-1] + 1):
        video.grab()
        if index in indices:
            frames.append(video.retrieve()[1])
    return frames


def pyav_seeking(path: str, indices: list[int]) -> list[np.ndarray]:
    frames = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for index in indices:
            pts = (stream.start_time or 0) + int(index / stream.average_rate / stream.time_base)
            container.seek(pts, stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.pts >= pts - 1)
            frames.append(frame.to_ndarray(format="rgb24"))
    return frames


def pyav_in_order(path: str, indices: list[int]) -> list[np.ndarray]:
    frames = []
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(video=0)):
            if index in indices:
                frames.append(frame.to_ndarray(format="rgb24"))
            if index == indices[-1]:
                break
    return frames


READERS = {
    "Reelset": reelset,
    "decord": with_decord,
    "OpenCV, seeking": opencv_seeking,
    "OpenCV, in order": opencv_in_order,
    "PyAV, seeking": pyav_seeking,
    "PyAV, in order": pyav_in_order,
}


def take_turns(sides: dict[str, Callable], works: list[tuple], runs: int) -> Clock:
    """CPU-seconds of each side in each run, over all works. The sides alternate at each work, after one round that is not counted."""
    for side in sides.values():
        side(*works[0])
    seconds = {name: [0.0] * runs for name in sides}
    for run in range(runs):
        for work in works:
            for name, side in sides.items():
                started = process_time()
                side(*work)
                seconds[name][run] += process_time() - started
    return seconds


def reading_table(paths: list[str], runs: int) -> str:
    lines = []
    for title, choose in {
        "4 frames (quality)": partial(choose_frames, "uniform", 4),
        "the middle frame (text)": partial(choose_frames, "mid", 1),
    }.items():
        works = []
        for path in paths:
            with open_video(path) as (container, stream):
                works.append((path, choose(len(packet_times(container, stream)[0]))))
        seconds = take_turns(READERS, works, runs)
        cheapest = [min(seconds[name][run] for name in READERS if name != "Reelset") for run in range(runs)]
        cells = [f"{1000 * median(seconds[name]) / len(paths):.0f}" for name in READERS]
        lines.append([title, *cells, f"{ratio(seconds['Reelset'], cheapest):.2f}"])
    return table(["CPU ms a clip", *READERS, "Reelset ÷ cheapest"], lines)


def main() -> None:
    args = folder_parser(__doc__).parse_args()
    cv2.setNumThreads(1)
    print(reading_table([str(args.folder / path) for path in get_video_path_list(str(args.folder))], args.runs))


if __name__ == "__main__":
    main()
