"""A filter learned from a person's marks, beside the dataset's own thresholds, on films that it has not seen: purity and recall in seconds.

    python -m benchmarks.learned_filter ../shared --labels judged/labels.jsonl labelled_films/judged.jsonl --dataset_folder /tmp/judged

The dataset is one that `python -m benchmarks.judged` has made. Of some films, drawn by chance, the labels are the marks: keep a star, drop
a drop, border none. tools.learn_filter's model is fitted to them, below the least number of marks too, and what it finds suitable is held
against the labels of the other films, as benchmarks.judged counts. "thresholds": what train.jsonl keeps of the same other films. "both":
clips that both keep.
"""

import argparse
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.judged import Judgement, half_of, overlap, purity_and_recall
from benchmarks.measure import table
from tools.learn_filter import EVEN, fit, read_ranks, suitability

SHARES = (0.2, 0.4, 0.6, 0.8)  # of the films, that are marked
LEAST_OVERLAP = 0.5  # of a clip, with the label that it has its mark of


def marks_of(judgement: Judgement) -> dict[str, bool]:
    """Whether each clip is starred, by its path; those judged border, or by no label, have no mark."""
    marks = {}
    for film, clips in judgement.clips.items():
        labels = [label for label in judgement.labels if Path(label["source"]).name == film]
        for clip in clips:
            best = max(labels, key=lambda label: overlap(label, clip), default=None)
            is_of = best and overlap(best, clip) >= LEAST_OVERLAP * (clip["end_seconds"] - clip["start_seconds"])
            if best and is_of and best["verdict"] != "border":
                marks[clip["video_path"]] = best["verdict"] == "keep"
    return marks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the labels are")
    parser.add_argument("--labels", nargs="+", required=True, help="files of labels, in the folder")
    parser.add_argument("--dataset_folder", type=Path, default=Path("datasets/judged"), help="of benchmarks.judged")
    parser.add_argument("--half", choices=["choose", "judge", "all"], default="all", help="of the films to judge on")
    parser.add_argument("--draws", type=int, default=20, help="of the marked films, for each share")
    args = parser.parse_args()
    labels = [json.loads(line) for name in args.labels for line in open(args.folder / name, encoding="utf-8")]
    ranks, judgement = read_ranks(str(args.dataset_folder)), Judgement(labels, args.dataset_folder)
    numbers, marks = ranks.clips.numbers, marks_of(judgement)
    clips = [clip for film in judgement.clips.values() for clip in film]
    by_thresholds = {clip["video_path"]: clip["is_kept"] for clip in clips}
    films, drawn, lines = sorted(judgement.totals()), random.Random(0), []

    def held(kept: dict[str, bool], others: set[str]) -> tuple[float, float]:
        for clip in clips:
            clip["is_kept"] = kept[clip["video_path"]]
        return purity_and_recall([total for film, total in judgement.totals().items() if film in others])

    for share in SHARES:
        found: dict[str, list[tuple[float, float]]] = {}
        counts: Counter[str] = Counter()
        done = 0
        while done < args.draws:
            marked = set(drawn.sample(films, round(share * len(films))))
            others = {film for film in films if film not in marked and args.half in ("all", half_of(film))}
            seen = [name for film in marked for clip in judgement.clips[film] if (name := clip["video_path"]) in marks]
            is_star = np.array([marks[name] for name in seen])
            if len(set(is_star)) < 2:
                continue  # nothing to learn from
            done += 1
            counts += Counter({"star": int(is_star.sum()), "drop": int((~is_star).sum())})
            found_suitable = suitability(fit(ranks.values[[numbers[name] for name in seen]], is_star), ranks.values)
            values = {name: float(found_suitable[numbers[name]]) for name in by_thresholds}
            ways = {
                "thresholds": by_thresholds,
                "learned": {name: value >= EVEN for name, value in values.items()},
                "both": {name: value >= EVEN and by_thresholds[name] for name, value in values.items()},
            }
            for way, kept in ways.items():
                found.setdefault(way, []).append(held(kept, others))
        means = [f"{mean:.2f}" for way in found.values() for mean in np.mean(way, axis=0)]
        lines.append([f"{share:.0%}", f"{counts['star'] / done:.0f} + {counts['drop'] / done:.0f}", *means])
    heads = [f"{way}: {what}" for way in found for what in ("purity", "recall")]
    print(table(["films marked", "stars + drops", *heads], lines))


if __name__ == "__main__":
    main()
