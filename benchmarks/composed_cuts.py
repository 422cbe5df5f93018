"""Films composed of real one-shot footage, whose transitions are known to the frame: what each detector finds, by kind.

    python -m benchmarks.composed_cuts --footage one_shot/ videos/          # every video of one_shot/, ss_* of videos/
    python -m benchmarks.composed_cuts --footage one_shot/ --half judge     # sources that no constant was chosen on
    python -m benchmarks.composed_cuts --smoke                              # seconds; photographs of scikit-image

Half of the sources, by their names, are for choosing constants (tune), the others for judging. Each cell of the table
is found, missed, false. A cut counts within a frame, a gradual transition by a cut in its span or 3 frames beside it.
"left" is the number of gradual transitions of which more than 2 frames are in a shot, outside the spans returned.
"""

import argparse
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.common import Timecode

from benchmarks.composed_films import Film, films, sources
from utils.cutting.detectors import DETECTORS as KNOWN
from utils.cutting.detectors import make_detector

DETECTORS = ("transitions", "transnetv2", "both", "fitted", "adaptive")  # of the table in utils/cutting/detectors.py


def detect(detector, film: Film) -> tuple[list[int], list[tuple[int, int]]]:
    """First frames of new shots, and the spans that belong to no shot."""
    base = Fraction(1, 90000)
    times = [FrameTimecode(Timecode(round(s / base), base), fps=25.0) for s in film.seconds]
    number = {time.pts: t for t, time in enumerate(times)}
    cuts = [cut for time, frame in zip(times, film.frames) for cut in detector.process_frame(time, frame)]
    cuts += detector.post_process(times[-1])
    transitions = getattr(detector, "transitions", [])
    spans = [(number[start.pts], number.get(end.pts, len(times))) for _, start, end in transitions]
    return sorted({number[cut.pts] for cut in cuts if cut.pts in number}), spans


def judge(film: Film, cuts: list[int], spans: list[tuple[int, int]]) -> np.ndarray:
    """Found, missed, false, left."""
    hits = sum(any(abs(cut - c) <= 1 for cut in cuts) for c in film.cuts)
    hits += sum(any(start - 3 <= cut <= end + 3 for cut in cuts) for start, end in film.spans)
    true = [(c - 1, c + 1) for c in film.cuts] + [(start - 3, end + 3) for start, end in film.spans]
    false = sum(not any(low <= cut <= high for low, high in true) for cut in cuts)
    hidden = np.zeros(len(film.frames), bool)
    for start, end in spans:
        hidden[start:end] = True
    left = sum(int((~hidden[start:end]).sum()) > 2 for start, end in film.spans)
    return np.array([hits, len(film.cuts) + len(film.spans) - hits, false, left])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--footage", type=Path, nargs="*", default=[], help="folders of one-shot videos")
    parser.add_argument("--half", choices=["tune", "judge", "all"], default="judge", help="which sources")
    parser.add_argument(
        "--skip", nargs="*", default=["black"], help="words in the names of footage that is no steady shot"
    )
    parser.add_argument("--films", type=int, default=16, help="of each kind")
    parser.add_argument("--detectors", nargs="+", choices=list(KNOWN), default=list(DETECTORS))
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    parser.add_argument("--smoke", action="store_true", help="one film of each kind, of photographs")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.smoke:
        args.footage, args.half, args.films = [], "all", 1
    names = sources(args.footage, args.half, args.skip)
    table: dict[str, dict[str, np.ndarray]] = defaultdict(lambda: {name: np.zeros(4, int) for name in args.detectors})
    for film in films(names, args.films, args.only):
        for name in args.detectors:
            table[film.kind][name] += judge(film, *detect(make_detector(name, None, {}), film))
    print(f"| kind | {' | '.join(f'{name}: found, missed, false, left' for name in args.detectors)} |")
    print("|" + "---|" * (1 + len(args.detectors)))
    rows = {**table, "all": {name: sum(row[name] for row in table.values()) for name in args.detectors}}
    for kind, row in rows.items():
        print(f"| {kind} | {' | '.join(', '.join(map(str, row[name])) for name in args.detectors)} |")


if __name__ == "__main__":
    main()
