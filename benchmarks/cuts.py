"""What the transition detector measures at each decision, and what it costs, over a folder of labelled videos.

    python -m benchmarks.cuts videos/ --labels cuts.json --scores  # how much was lost at cuts and elsewhere
    python -m benchmarks.cuts videos/ --labels cuts.json --cost  # CPU against decoding alone, one thread

Each video goes through `cutscene_detect.detect_shots`.
"""

import argparse
import json
import time
from pathlib import Path

import cv2

from cutscene_detect import detect_shots
from utils.cutting.transition_detector import TransitionDetector
from utils.video.opening import open_video


class RecordingDetector(TransitionDetector):
    """The detector, which keeps the score of every candidate for a hard cut: {frame index: score}."""

    def __init__(self):
        super().__init__()
        self.scores: dict[int, float] = {}

    def _lost_beyond_motion(self, at: int) -> float:
        score = super()._lost_beyond_motion(at)
        self.scores[self._frames[at].index] = score
        return score


def detect(folder: Path, name: str) -> RecordingDetector:
    """The detector after it has seen a video through `cutscene_detect.detect_shots`."""
    detector = RecordingDetector()
    detect_shots({"video_path": name}, str(folder), lambda: detector)
    return detector


def decode_seconds(path: Path) -> float:
    """CPU seconds of decoding alone, one thread."""
    start = time.process_time()
    with open_video(str(path)) as (container, stream):
        for _ in container.decode(stream):
            pass
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, required=True, help="hand-made labels: {file: {cuts, gradual}}")
    parser.add_argument(
        "--scores", action="store_true", help="what was lost at labelled cuts and at all other candidates"
    )
    parser.add_argument("--cost", action="store_true", help="CPU seconds against decoding alone")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    at_cuts, elsewhere = [], []
    for name, label in json.loads(args.labels.read_text()).items():
        start = time.process_time()
        detector = detect(args.folder, name)
        spent = time.process_time() - start
        gradual = [range(span["start"] - 3, span["end"] + 4) for span in label["gradual"]]
        for frame, score in detector.scores.items():
            if frame in label["cuts"]:
                at_cuts.append((round(score, 2), name, frame))
            elif not any(frame in span for span in gradual):
                elsewhere.append((round(score, 2), name, frame))
        if args.cost:
            decoding = decode_seconds(args.folder / name)
            print(f"{name:36s} decode {decoding:5.2f} s  with detection {spent:5.2f} s  {spent / decoding:.2f} x")
    if args.scores:
        print("lost at labelled cuts:", [score for score, *_ in sorted(at_cuts)])
        print("lost at other peaks:", [score for score, *_ in sorted(elsewhere, reverse=True)])
        print("closest:", *sorted(at_cuts)[:5], *sorted(elsewhere, reverse=True)[:5], sep="\n  ")


if __name__ == "__main__":
    main()
