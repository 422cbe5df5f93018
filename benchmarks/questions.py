"""Hold the columns of questions, or of any score, against labels: AUROC, the best bound, and precision and recall there, by column.

    python -m benchmarks.questions labels.jsonl --scores vlm_overlays.jsonl
    python -m benchmarks.questions ../shared/judged/labels.jsonl --scores vlm_overlays.jsonl --key clip \\
        --truth split_screen reasons split_screen --truth subtitles overlay_text some much

A label is a row with the clip's path in the column --key, and a column of each question's name that is true, false, 0 or 1. --truth COLUMN FIELD
VALUE … reads it out of another field: true where FIELD is one of the values, or a list that holds one. AUROC is the probability that a clip
that is labelled true has a higher value than one that is not; 0.5 is chance. The best bound is the one with the largest F1; choose it on some
films and judge it on others, as --half does: by a film's name alone, see benchmarks.judged.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.judged import half_of
from benchmarks.measure import table
from utils.rows import read_rows


def auroc(values: np.ndarray, truths: np.ndarray) -> float:
    """Area under the ROC curve of float (N,) against bool (N,), equal values counting half; NaN where all labels are one."""
    positive, negative = int(truths.sum()), int((~truths).sum())
    if not positive or not negative:
        return float("nan")
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(count) - (count - 1) / 2  # mean rank of each value, from 1
    return float((ranks[place][truths].sum() - positive * (positive + 1) / 2) / (positive * negative))


def best_bound(values: np.ndarray, truths: np.ndarray) -> tuple[float, float, float]:
    """The bound from which on values are taken for true that has the largest F1, between two values that occur; precision, recall."""
    best = (float("nan"), 0.0, 0.0)
    best_f1, there = -1.0, np.unique(values)
    for lower, bound in zip([there[0], *there], there):
        said = values >= bound
        right = int((said & truths).sum())
        precision, recall = right / max(1, int(said.sum())), right / max(1, int(truths.sum()))
        f1 = 2 * precision * recall / max(1e-9, precision + recall)
        if f1 > best_f1:
            best_f1, best = f1, (float(lower + bound) / 2, precision, recall)
    return best


def truth_of(label: dict, column: str, rule: list[str] | None) -> bool | None:
    """What a label says of a column; None where it says nothing."""
    if rule is None:
        value = label.get(column)
        return bool(value) if value in (0, 1) else None
    field, *values = rule
    value = label.get(field)
    if value is None:
        return None
    return any(one in values for one in value) if isinstance(value, list) else str(value) in values


def judged(labels: list[dict], scores: dict[str, dict], key: str, column: str, rule: list[str] | None) -> list:
    """A line of the table: column, labelled clips, those that are true, AUROC, bound, precision, recall."""
    pairs = []
    for label in labels:
        value, truth = scores.get(label[key], {}).get(column), truth_of(label, column, rule)
        if isinstance(value, (int, float)) and truth is not None:
            pairs.append((float(value), truth))
    if not pairs:
        return [column, 0, 0, "", "", "", ""]
    values, truths = np.array([v for v, _ in pairs]), np.array([t for _, t in pairs])
    bound, precision, recall = best_bound(values, truths)
    return [
        column,
        len(pairs),
        int(truths.sum()),
        *(f"{one:.3f}" for one in (auroc(values, truths), bound, precision, recall)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="JSON lines")
    parser.add_argument("--scores", type=Path, required=True, help="a result of compute_vlm_score.py, or another score")
    parser.add_argument("--key", default="video_path", help="column of the labels that holds the clip's path")
    parser.add_argument(
        "--truth", nargs="+", action="append", default=[], metavar=("COLUMN", "FIELD"), help="and values"
    )
    parser.add_argument(
        "--half", choices=["choose", "judge", "all"], default="all", help="of the labels' films (source)"
    )
    args = parser.parse_args()
    labels = [json.loads(line) for line in args.labels.read_text(encoding="utf-8").splitlines() if line.strip()]
    labels = [one for one in labels if args.half in ("all", half_of(one.get("source", one[args.key])))]
    rows = read_rows(args.scores)
    scores = {row["video_path"]: row for row in rows}
    rules = {rule[0]: rule[1:] for rule in args.truth}
    numbers = {name for row in rows for name, value in row.items() if isinstance(value, (int, float))}
    lines = [judged(labels, scores, args.key, column, rules.get(column)) for column in sorted({*rules} or numbers)]
    print(
        table(
            ["column", "labelled", "true", "AUROC", "bound", "precision", "recall"],
            [list(map(str, one)) for one in lines],
        )
    )


if __name__ == "__main__":
    main()
