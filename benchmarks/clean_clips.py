"""Count the clips of video_splitting.py that contain a labelled cut, or a frame of a labelled dissolve or fade.

    python -m benchmarks.clean_clips cuts.json VIDEOS clips.jsonl

The labels: {video name: {"cuts": [first frame of a new shot, ...], "gradual": [{"type", "start", "end"}, ...]}}, in frames.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from utils.cutting.clip_writer import decoded_times
from utils.rows import read_rows
from utils.video.opening import open_video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("videos", type=Path)
    parser.add_argument("clips", type=Path)
    args = parser.parse_args()
    clips, labels = read_rows(args.clips), json.loads(args.labels.read_text())
    counted = with_cut = with_gradual = 0
    for name, label in labels.items():
        times = decoded_times(str(args.videos / name))
        with open_video(str(args.videos / name)) as (_, stream):
            seconds = (times - times[0]) * float(stream.time_base)
        for clip in (clip for clip in clips if clip["source_path"] == name):
            first, stop = np.searchsorted(seconds, [clip["start_seconds"] - 1e-6, clip["end_seconds"] - 1e-6])
            counted += 1
            with_cut += any(first < cut < stop for cut in label["cuts"])
            with_gradual += any(first < span["end"] and span["start"] < stop for span in label["gradual"])
    print(
        f"{counted} clips, {with_cut} with a labelled cut inside, {with_gradual} with a frame of a labelled transition"
    )


if __name__ == "__main__":
    main()
