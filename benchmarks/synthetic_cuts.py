"""Shot detection on labelled synthetic films: ours beside two detectors of PySceneDetect.

python -m benchmarks.synthetic_cuts                      # a table: kind x found, missed and false
python -m benchmarks.synthetic_cuts --only dissolve      # the kinds whose name contains the word
python -m benchmarks.synthetic_cuts --save films/        # write the films as H.264 with their labels.json, for other detectors
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from scenedetect import FrameTimecode
from scenedetect.common import Timecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from benchmarks.measure import table
from benchmarks.synthetic_films import PHOTOS, Film, films, save
from utils.cutting.transition_detector import TransitionDetector


def ours(film: Film) -> list[int]:
    return run(TransitionDetector(), film)


def adaptive(film: Film) -> list[int]:
    return run(
        AdaptiveDetector(adaptive_threshold=3.5, window_width=3, min_scene_len=max(1, round(0.6 * film.fps))), film
    )


def content(film: Film) -> list[int]:
    return run(ContentDetector(threshold=27.0), film)


def run(detector, film: Film) -> list[int]:
    """First frames of new shots. PySceneDetect's detectors get plain frame numbers, ours the film's own times."""
    cuts, base = [], Fraction(1, 90000)
    plain = not isinstance(detector, TransitionDetector)
    times = [
        FrameTimecode(t if plain else Timecode(round(s / base), base), fps=float(film.fps))
        for t, s in enumerate(film.seconds)
    ]
    number = {time.pts: t for t, time in enumerate(times)}
    for time, frame in zip(times, film.frames, strict=True):
        cuts += detector.process_frame(time, frame)
    return sorted({number[cut.pts] for cut in cuts + detector.post_process(times[-1])})


def judge(film: Film, cuts: list[int]) -> tuple[int, int, int]:
    """Found, missed, false: a cut within 1 frame, a gradual transition by a cut in its span or 3 frames beside it."""
    found = sum(any(abs(cut - c) <= 1 for cut in cuts) for c in film.cuts)
    found += sum(any(start - 3 <= cut <= end + 3 for cut in cuts) for start, end in film.spans)
    false = [
        c
        for c in cuts
        if not any(abs(c - t) <= 1 for t in film.cuts) and not any(a - 3 <= c <= b + 3 for a, b in film.spans)
    ]
    return found, len(film.cuts) + len(film.spans) - found, len(false)


def cells(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--photos", type=int, default=len(PHOTOS), help="how many of the photographs (default: all)")
    parser.add_argument("--save", type=Path, help="write the films there instead of judging")
    args = parser.parse_args()
    chosen = films(args.only, args.photos)
    if args.save:
        save(args.save, chosen)
        return
    detectors: dict[str, Callable[[Film], list[int]]] = {"ours": ours, "adaptive 3.5": adaptive, "content 27": content}
    tally: dict[str, dict[str, np.ndarray]] = defaultdict(lambda: {name: np.zeros(3, int) for name in detectors})
    counts: dict[str, int] = defaultdict(int)
    for film in chosen:
        counts[film.kind] += 1
        for name, detector in detectors.items():
            tally[film.kind][name] += judge(film, detector(film))
    rows = [[kind, str(counts[kind]), *(cells(tally[kind][name]) for name in detectors)] for kind in tally]
    totals = [cells(sum(row[name] for row in tally.values())) for name in detectors]
    header = ["kind", "films", *(f"{name}: found, missed, false" for name in detectors)]
    print(table(header, [*rows, ["all", str(sum(counts.values())), *totals]]))


if __name__ == "__main__":
    main()
