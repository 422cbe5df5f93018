"""Learn a filter from marks: from the clips that you starred and dropped in a report, estimate how suitable each clip of the dataset is.

Reads clips.jsonl, all score files beside it, and the marks saved by the report page (`video_path`, `mark`: "star" or "drop"). Writes
suitability.jsonl, a score file like any other: `suitability`, 0–1, the probability that you would star the clip rather than drop it. It includes
the marked clips, which the model was trained on; the printed accuracy is measured on clips of held-out videos.
next_to_mark.jsonl, beside it, lists the clips whose marks would help most.

    python -m tools.learn_filter --dataset_folder datasets/panda_70m --marks marks.jsonl
    python -m tools.learn_filter --dataset_folder datasets/panda_70m --marks marks.jsonl --saved_path taste.jsonl --next 50

Fitting one score over all sub-scores to human judgements is the idea of Koala-36M (arXiv:2410.08260).
"""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.cli import at_least, file_to_write, run, script_parser
from utils.errors import RunError, UsageError
from utils.pipeline.ancestry import CLIP_COLUMNS, made_from, settings_of
from utils.pipeline.result_file import write_whole
from utils.report.clips import Clips, is_there
from utils.report.dataset import columns_of
from utils.report.funnel import score_files
from utils.rows import refuse_overwriting, rows_of, write_rows
from utils.rows.columns import TEXT
from utils.startup import PROJECT
from utils.storage import is_url
from utils.working_copies import local_path

COLUMN = "suitability"
FEWEST_MARKS = 20  # of each kind; a share of 0.8 among 20 is known to 0.09, the standard error
MARKS_FOR_TREES = 200  # of each kind; with fewer, trees learn single clips by heart
LEAVES = 8  # of each tree, so that a few scores decide together
# Inverse of the penalty on squared weights. Scores are many and most tell of the same, so no one may decide alone; of 0.01 to 3, the best on
# films of the half "choose" (benchmarks.learned_filter --half choose), with little between 0.01 and 0.1.
C = 0.03
FOLDS = 10  # of the cross-validation, or as many as there are sources
EVEN = 0.5  # from here on a clip is rather one to keep: both kinds weigh the same, however many marks they have
OF_SOURCE = 2  # clips of one video among those worth marking, because they teach much the same
SHOWN_COLUMNS = 10


@dataclass(frozen=True)
class ClipRanks:
    """The clips of a list with their scores. `sources`, `stamps`: of each clip its video, and the `made_from` of its scores; `values`: float
    (clips, columns), as `ranks_of` gives them; `files`: the score files.
    """

    clips: Clips
    sources: list[str]
    stamps: list[str]
    columns: list[str]
    values: np.ndarray
    files: list[str]


def ranks_of(values: np.ndarray) -> np.ndarray:
    """Each value's rank among those known, evenly spread around 0 with a standard deviation of 1; equal values share one, and a missing value
    (NaN) has the middle. Ranks, because units and outliers have nothing to do with how much a score says.
    """
    known, ranks = np.isfinite(values), np.zeros(len(values))
    _, inverse, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    middles = (np.cumsum(counts) - counts / 2) / max(known.sum(), 1) - 0.5
    ranks[known] = middles[inverse] * 12**0.5  # values spread evenly over a length of 1 deviate by 1 / sqrt(12)
    return ranks


def read_ranks(folder: str) -> ClipRanks:
    """The clips of a dataset folder with all numbers that its score files, where they are current, have of them: of a list the mean, of true
    and false 1 and 0. For numbers that some clips lack there is a further column, "no …".

    Raises: `UsageError` where there is no list, or no score of its clips.
    """
    if not is_there(f"{folder}/clips.jsonl"):
        raise UsageError(f"{folder}/clips.jsonl: no such file; stage_1_video_cut.sh makes it in its DATASET_FOLDER")
    clips = Clips(f"{folder}/clips.jsonl")
    # A clip without a source is taken for one of its own.
    listed = [(row.get("source_path") or row["video_path"], made_from(row, CLIP_COLUMNS)) for row in clips.listed()]
    sources, stamps = [source for source, _ in listed], [stamp for _, stamp in listed]
    paths = [f"{folder}/{name}" for name in score_files(folder)]
    files = [path for path in paths if settings_of(path).get("column") != COLUMN]  # not what this tool has written
    found: dict[str, list] = {}
    for path in files:
        for name, values in columns_of(clips.results(path)).items():
            found.setdefault(name, values)  # of two columns of one name the first counts
    columns: dict[str, np.ndarray] = {}
    lacking: set[bytes] = set()
    for name, values in found.items():
        if {value.__class__ for value in values} <= {float, bool, type(None)}:
            numbers = np.array([*values, *[None] * (len(sources) - len(values))], float)
            known = np.isfinite(numbers)
            if len(np.unique(numbers[known])) > 1:
                columns[name] = numbers
            # The columns of a file lack the same clips: once for each of them, its absence would drown the scores.
            if 0 < known.sum() < len(sources) and known.tobytes() not in lacking:
                lacking.add(known.tobytes())
                columns[f"no {name}"] = 1.0 - known
    if not files or not columns:
        raise UsageError(f"{folder}: no score file has numbers of its clips; run stage_2_filter_data.sh")
    ranks = np.stack([ranks_of(numbers) for numbers in columns.values()], axis=1)
    return ClipRanks(clips, sources, stamps, list(columns), ranks, files)


def read_marks(path: str, clips: Clips) -> dict[int, bool]:
    """Whether each marked clip is starred, by its number; of a clip that is marked twice the last counts. Prints how many are not in the list.

    Raises: `UsageError` for a mark that is neither "star" nor "drop".
    """
    marked = {}
    for number, row in enumerate(rows_of(path, ("video_path", "mark"), {"mark": TEXT}), 1):
        if row["mark"] not in ("star", "drop"):
            raise UsageError(f"{path}: row {number}: 'mark' is {row['mark']!r}; a report page saves 'star' and 'drop'")
        marked[clips.relative(row["video_path"])] = row["mark"] == "star"
    known = {clips.numbers[name]: is_star for name, is_star in marked.items() if name in clips.numbers}
    if len(known) < len(marked):
        print(f"{path}: {len(marked) - len(known):,} of {len(marked):,} marked clips are not in the list")
    return known


def fit(values: np.ndarray, is_star: np.ndarray, trees: bool = False) -> Any:
    """A model of scikit-learn, to which both kinds weigh the same. values: float (marks, columns); is_star: bool (marks,), of both kinds."""
    if trees:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits  # which scikit-learn needs itself

        grown = HistGradientBoostingClassifier(max_leaf_nodes=LEAVES, class_weight="balanced", random_state=0)
        with threadpool_limits(1):  # of some hundred marks, threads wait for each other longer than they work
            return grown.fit(values, is_star)
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, class_weight="balanced", max_iter=1000).fit(values, is_star)


def suitability(model: Any, values: np.ndarray) -> np.ndarray:
    """The probability, 0–1, that each clip would be starred rather than dropped."""
    return model.predict_proba(values)[:, 1]


def unseen_suitability(values: np.ndarray, is_star: np.ndarray, sources: list[str], trees: bool = False) -> np.ndarray:
    """That of each marked clip by a model fitted without any clip of its source; NaN where the others have marks of one kind only."""
    from sklearn.model_selection import GroupKFold

    found, folds = np.full(len(is_star), np.nan), min(FOLDS, len(set(sources)))
    for seen, unseen in GroupKFold(folds).split(values, groups=sources) if folds > 1 else ():
        if len(set(is_star[seen])) == 2:
            found[unseen] = suitability(fit(values[seen], is_star[seen], trees), values[unseen])
    return found


def auroc(found: np.ndarray, is_star: np.ndarray) -> float:
    """How often a starred clip is found more suitable than a dropped one; NaN where one of the kinds is missing."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_star, found)) if len(set(is_star)) == 2 else np.nan


def kept_by_thresholds(folder: str, clips: Clips) -> set[int] | None:
    """The numbers of the clips in train.jsonl; None where there is none, or marks have chosen it, so that it would be held against itself."""
    path = f"{folder}/train.jsonl"
    settings = settings_of(path)
    chosen_by = f"{settings.get('filters')} {settings.get('where')}"
    by_marks = settings.get("exclude") or settings.get("include") or COLUMN in chosen_by
    return None if by_marks or not is_there(path) else {number for number, _ in clips.kept(path)}


def worth_marking(found: np.ndarray, sources: list[str], marked: Collection[int], count: int) -> list[int]:
    """The numbers of the clips without a mark that are nearest to even, few of each source."""
    chosen: list[int] = []
    taken: Counter[str] = Counter()
    for number in np.argsort(np.abs(found - EVEN), kind="stable").tolist():
        if len(chosen) < count and number not in marked and taken[sources[number]] < OF_SOURCE:
            chosen.append(number)
            taken[sources[number]] += 1
    return chosen


def row_of_table(name: str, kept: np.ndarray, is_star: np.ndarray, found: np.ndarray | None = None) -> str:
    """How many marked clips are kept, the share of them that are starred, the share of the starred that are kept, AUROC."""
    right, area = (kept & is_star).sum(), f"{auroc(found, is_star):.2f}" if found is not None else ""
    return (
        f"  {name:<32}{kept.sum():>6,}{right / max(kept.sum(), 1):>8.2f}{right / max(is_star.sum(), 1):>8.2f}{area:>7}"
    )


def judge(ranks: ClipRanks, folder: str, marks: Mapping[int, bool]) -> bool:
    """Print how well marks of sources are told that the model has not seen, beside the thresholds. Whether trees tell them better."""
    numbers, is_star = list(marks), np.array([*marks.values()])
    values, sources = ranks.values[numbers], [ranks.sources[number] for number in numbers]
    found = {"learned, logistic regression": unseen_suitability(values, is_star, sources)}
    judged = np.isfinite(found["learned, logistic regression"])
    if len(set(is_star[judged])) < 2:
        print("not evaluated: star and drop clips of several sources, so that some can be held out")
        return False
    if min(is_star.sum(), (~is_star).sum()) >= MARKS_FOR_TREES:
        found["learned, trees"] = unseen_suitability(values, is_star, sources, trees=True)
    print(f"  {f'of {judged.sum():,} marked clips, unseen':<32}{'kept':>6}{'purity':>8}{'recall':>8}{'AUROC':>7}")
    for name, each in found.items():
        print(row_of_table(name, each[judged] >= EVEN, is_star[judged], each[judged]))
    by_thresholds = kept_by_thresholds(folder, ranks.clips)
    if by_thresholds is None:
        print("  no train.jsonl made by thresholds alone: nothing to compare with")
    else:
        kept = np.array([number in by_thresholds for number in numbers])
        print(row_of_table("train.jsonl, by its thresholds", kept[judged], is_star[judged]))
    best = max(found, key=lambda name: auroc(found[name][judged], is_star[judged]))
    return best == "learned, trees"


def print_weights(weights: np.ndarray, columns: list[str]) -> None:
    """The columns with the largest weights of the logistic regression, and what a clip to keep has of them."""
    print("most important columns, with their weights in the logistic regression")
    for i in np.argsort(-np.abs(weights))[:SHOWN_COLUMNS]:
        print(f"  {columns[i]:<32}{weights[i]:>6.2f}  {'higher' if weights[i] > 0 else 'lower'} is better")


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--dataset_folder", default="datasets/panda_70m", help="dataset root (a folder or URL)")
    parser.add_argument("--marks", required=True, metavar="FILE", help="marks.jsonl, as the report page saves it")
    parser.add_argument(
        "--saved_path", type=file_to_write, help=f"result file (default: {COLUMN}.jsonl in --dataset_folder)"
    )
    parser.add_argument("--next", type=at_least(0), default=20, help="number of clips to suggest for marking next")
    args = parser.parse_args()
    folder, saved_path = args.dataset_folder, args.saved_path or f"{args.dataset_folder}/{COLUMN}.jsonl"
    next_path = os.path.join(os.path.dirname(saved_path), "next_to_mark.jsonl")
    ranks = read_ranks(folder)
    listed, trained = f"{folder}/clips.jsonl", f"{folder}/train.jsonl"
    read = {"--marks": args.marks, "the clips": listed, "the training set": trained}
    read |= {f"the scores {path}": path for path in ranks.files}
    refuse_overwriting({"--saved_path": saved_path, "the clips to mark next": next_path}, read)
    marks = read_marks(args.marks, ranks.clips)
    counts = {"starred": sum(marks.values()), "dropped": len(marks) - sum(marks.values())}
    print(f"{args.marks}: {counts['starred']:,} clips starred, {counts['dropped']:,} dropped")
    wanted = " and ".join(
        f"{FEWEST_MARKS - count} more {kind}" for kind, count in counts.items() if count < FEWEST_MARKS
    )
    too_few = RunError(f"{args.marks}: a filter needs {FEWEST_MARKS} clips of each kind: mark {wanted}")
    if not all(counts.values()):
        raise too_few
    use_trees = not wanted and judge(ranks, folder, marks)
    seen, is_star = ranks.values[list(marks)], np.array([*marks.values()])
    regression = fit(seen, is_star)
    found = suitability(fit(seen, is_star, trees=True) if use_trees else regression, ranks.values)
    rows = [{"video_path": path, COLUMN: round(float(p), 4)} for path, p in zip(ranks.clips.numbers, found)]
    local_path(saved_path).parent.mkdir(parents=True, exist_ok=True)
    if chosen := [rows[number] for number in worth_marking(found, ranks.sources, marks, args.next)]:
        write_rows(local_path(next_path), chosen)
        print(f"worth marking next (the least certain) -> {next_path}")
        print(*(f"  {row[COLUMN]:.4f}  {row['video_path']}" for row in chosen), sep="\n")
    if wanted:
        raise too_few
    print_weights(regression.coef_[0], ranks.columns)
    # train.jsonl is no input: the command below makes it from this file.
    model = {"model": "trees", "leaves": LEAVES} if use_trees else {"model": "logistic regression", "C": C}
    write_whole(
        saved_path,
        [row | ({"made_from": stamp} if stamp else {}) for row, stamp in zip(rows, ranks.stamps)],
        [],
        {"version": 1, "column": COLUMN, **model, **counts, "columns": ranks.columns},
        [listed, *ranks.files, args.marks],
    )
    listed, saved_path, trained = (
        path if is_url(path) else os.path.abspath(path) for path in (listed, saved_path, trained)
    )
    command = [sys.executable, f"{PROJECT}/filter_videos_by_motion_score.py", "--video_metadata_path", listed]
    command += ["--filter", saved_path, COLUMN, str(EVEN), "none", "--saved_path", trained]
    print(f"to filter by it:\n  {shlex.join(command)}")
    print(f"{COLUMN}: {len(rows):,} clips, learned from {len(marks):,} marks -> {saved_path}")


if __name__ == "__main__":
    run(main)
