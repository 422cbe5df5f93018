"""Runs the transition detector over a folder of videos: its scenes, what each decision saw, what it costs.

    python -m benchmarks.cuts videos/ --labels cuts.json --out scenes.jsonl  # a row a video: timecode_list, transitions
    python -m benchmarks.cuts videos/ --labels cuts.json --scores  # and how much was lost at cuts and elsewhere
    python -m benchmarks.cuts videos/ --labels cuts.json --cost  # and CPU against decoding alone, one thread

Times are seconds from the first frame. A dissolve's border is its middle; `transitions` says
which frames around it belong to no clean shot.
"""

import argparse
import json
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.common import Timecode

from utils.transition_detector import FRAME_WIDTH, TransitionDetector


class Telling(TransitionDetector):
    """The detector, remembering what every candidate for a hard cut lost: {frame index: score}."""

    def __init__(self):
        super().__init__()
        self.scores: dict[int, float] = {}

    def _lost_beyond_motion(self, at: int) -> float:
        score = super()._lost_beyond_motion(at)
        self.scores[self._frames[at].index] = score
        return score


def small_frames(path: Path) -> Iterator[tuple[FrameTimecode, np.ndarray]]:
    """Each frame FRAME_WIDTH wide, BGR, with its time since the first."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        shrink, first = av.video.reformatter.VideoReformatter(), None
        for frame in container.decode(stream):
            first = frame.pts if first is None else first
            size = FRAME_WIDTH, max(2, round(frame.height * FRAME_WIDTH / frame.width))
            image = shrink.reformat(frame, *size, format="bgr24", interpolation="FAST_BILINEAR").to_ndarray()
            since = Timecode(frame.pts - first, stream.time_base)
            yield FrameTimecode(since, fps=stream.average_rate or Fraction(25)), image


def timecode(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    hours, minutes = milliseconds // 3_600_000, milliseconds // 60_000 % 60
    return f"{hours:02}:{minutes:02}:{milliseconds / 1000 % 60:06.3f}"


def detect(path: Path) -> tuple[dict, Telling, list[FrameTimecode]]:
    detector, cuts, last = Telling(), [], None
    for last, image in small_frames(path):
        cuts += detector.process_frame(last, image)
    cuts += detector.post_process(last)
    borders = [timecode(s) for s in sorted({0.0, *(cut.seconds for cut in cuts)} | {(last + 1).seconds})]
    spans = [[kind, timecode(start.seconds), timecode(end.seconds)] for kind, start, end in detector.transitions]
    scenes = [list(scene) for scene in zip(borders, borders[1:], strict=False)]
    return {"video_path": path.name, "timecode_list": scenes, "transitions": spans}, detector, cuts


def decode_seconds(path: Path) -> float:
    """CPU seconds of decoding alone, one thread."""
    start = time.process_time()
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for _ in container.decode(video=0):
            pass
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, required=True, help="marks by hand: {file: {cuts, gradual, not_cuts}}")
    parser.add_argument(
        "--out", type=Path, default=Path("scenes.jsonl"), help="where the rows go (default: %(default)s)"
    )
    parser.add_argument(
        "--scores", action="store_true", help="what was lost at marked cuts and at all other candidates"
    )
    parser.add_argument("--cost", action="store_true", help="CPU seconds against decoding alone")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows, at_cuts, elsewhere = [], [], []
    for name, label in json.loads(args.labels.read_text()).items():
        start = time.process_time()
        row, detector, _ = detect(args.folder / name)
        spent = time.process_time() - start
        rows.append(row)
        gradual = [range(span["start"] - 3, span["end"] + 4) for span in label["gradual"]]
        for frame, score in detector.scores.items():
            if frame in label["cuts"]:
                at_cuts.append((round(score, 2), name, frame))
            elif not any(frame in span for span in gradual):
                elsewhere.append((round(score, 2), name, frame))
        if args.cost:
            decoding = decode_seconds(args.folder / name)
            print(f"{name:36s} decode {decoding:5.2f} s  with detection {spent:5.2f} s  {spent / decoding:.2f} x")
    args.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if args.scores:
        print("lost at marked cuts:", [score for score, *_ in sorted(at_cuts)])
        print("lost at other peaks:", [score for score, *_ in sorted(elsewhere, reverse=True)])
        print("closest:", *sorted(at_cuts)[:5], *sorted(elsewhere, reverse=True)[:5], sep="\n  ")
    print(f"{len(rows)} videos -> {args.out}")


if __name__ == "__main__":
    main()
