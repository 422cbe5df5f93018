"""Fit the weights that decide cuts (utils/cutting/cut_judge.json) on films with known cuts.

    python -m tools.fit_cuts ../shared/videos/cuts.json ../shared/labelled_films/cuts.json ../shared/one_shot/labels.json \
        --clean ../shared/judged/labels.jsonl --footage ../shared/one_shot ../shared/videos --table /tmp/table

Every candidate of the detector is an example, by what was measured of it: of the real films beside the label files, the half to choose on
(`benchmarks.judged.half_of`); of clips that hold no cut; and of composed films, of the half of the sources to tune on. Real films weigh as much as
composed ones. The sign of each weight is what its measure means, and the network's counts at least so much: composed films hold too little of what
it knows. First each film's candidates are judged by numbers fitted without it, then the numbers of all are written. The table of candidates is kept
and resumed.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from scipy.optimize import minimize

from benchmarks.composed_cuts import detect
from benchmarks.composed_films import KINDS, compose, sources
from benchmarks.judged import half_of
from benchmarks.measure import table
from cutscene_detect import detect_shots
from utils.cutting.cut_judge import FITTED
from utils.cutting.detectors import network
from utils.cutting.fitted_detector import CERTAIN, FittedDetector
from utils.cutting.frame_ring import Frame, Span

STRENGTH = {"cut": 0.2, "span": 0.5}  # of the regularisation, inverse
MORE, LESS, FREE = (0.0, None), (None, 0.0), (None, None)
BOUNDS: dict[str, dict[str, tuple[float | None, float | None]]] = {  # of the weights
    "cut": {
        "seen": (0.3, None),
        "structure lost": MORE,
        "colours lost": MORE,
        "colours replaced": FREE,
        "in place": LESS,
        "nearby": LESS,
        "surprise": MORE,
        "rearranged": MORE,
        "came back": LESS,
        "camera moved": LESS,
        "contrast": FREE,
    },
    "span": {
        "frames": FREE,
        "colours lost": MORE,
        "wipe": MORE,
        "peak": LESS,
        "colours apart": MORE,
        "back": LESS,
        "off the line": LESS,
        "seen": MORE,
    },
}
NEAR = 3  # frames beside a transition where a candidate is no example
FOLDS = 8


class Recorder(FittedDetector):
    """Keeps each candidate, ["cut", "span" or "run", first frame, last frame, evidence], and takes none for a transition."""

    def __init__(self):
        super().__init__(network)
        self.candidates: list[list] = []
        self.seconds: list[float] = []

    def _look(self, frame: Frame) -> None:
        self.seconds.append(frame.seconds)
        super()._look(frame)

    def _probability(self, kind: str, where: Frame | Span, evidence: dict[str, float]) -> float:
        first, last = (where.index, where.index) if isinstance(where, Frame) else (where.start.index, where.end.index)
        kind = "run" if isinstance(where, Span) and where.kind == "gradual" else kind  # only the network sees it
        self.candidates.append([kind, first, last, {name: round(float(v), 5) for name, v in evidence.items()}])
        return 0.0


def is_true(kind: str, first: int, last: int, label: dict) -> bool | None:
    """Whether a candidate is a transition; None where it is no example."""
    cuts, spans = label["cuts"], [(g["type"], g["start"], g["end"]) for g in label["gradual"]]
    near = [span for span in spans if first <= span[2] + NEAR and last >= span[1] - NEAR]
    if "clean" in label and not any(start < first and last < stop for start, stop in label["clean"]):
        return None
    if kind == "cut":
        if first in cuts:
            return True
        return None if near or any(abs(first - cut) <= NEAR for cut in cuts) else False
    if near:
        shares = [(min(last, b) - max(first, a)) / (max(last, b) - min(first, a)) for _, a, b in near]
        return True if max(shares) > 0.5 and not any(what.startswith(("fade", "logo")) for what, *_ in near) else None
    if any(first < cut <= last for cut in cuts):
        return False  # the hard cut explains it
    return None if any(abs(first - cut) <= 1 or abs(last - cut) <= 1 for cut in cuts) else False


def real_films(labels: list[Path], clean: list[Path]) -> Iterator[tuple[Path, dict]]:
    """Films and their labels, of the half to choose on. "clean" of a label: spans in seconds, the only ones that are examples."""
    for path in labels:
        found = json.loads(path.read_text())
        for name, label in found.get("cuts", found.get("videos", found)).items():
            yield path.parent / name, label
    for path in clean:
        spans: dict[Path, list] = {}
        for row in map(json.loads, path.read_text().splitlines()):
            film = path.parent.parent / row["source"]
            if film.parent == path.parent / "videos" and not row["transitions"]:  # the others have labels of their own
                spans.setdefault(film, []).append([row["start_seconds"], row["end_seconds"]])
        for film, found in spans.items():
            yield film, {"cuts": [], "gradual": [], "clean": found}


def recorded(path: Path, watch: Callable[[Recorder], dict]) -> dict:
    """The row of a film in the table: as it was recorded before, or made by `watch`."""
    if path.exists():
        return json.loads(path.read_text())
    row = watch(Recorder())
    path.write_text(json.dumps(row))
    return row


def watch_film(film: Path, label: dict, recorder: Recorder) -> dict:
    detect_shots({"video_path": film.name}, str(film.parent), lambda: recorder)
    if "clean" in label:
        frames = [np.searchsorted(recorder.seconds, [start, stop]).tolist() for start, stop in label["clean"]]
        label = label | {"clean": frames}
    return {"film": film.name, "label": label, "candidates": recorder.candidates}


def watch_composed(kind: str, names: list[str], seed: int, recorder: Recorder) -> dict:
    film = compose(kind, names, seed)
    detect(recorder, film)
    what = "fade" if film.kind.startswith("fade") else film.kind
    spans = [{"type": what, "start": start, "end": end} for start, end in film.spans]
    label = {"cuts": [int(cut) for cut in film.cuts], "gradual": spans}
    return {"film": None, "composed": f"{kind} {seed}", "label": label, "candidates": recorder.candidates}


def footage(folders: list[Path]) -> list[str]:
    """Sources of composed films of both halves: that of `composed_cuts`, and of real films, that to choose on."""
    return [name for name in sources(folders, "tune") if not Path(name).is_file() or half_of(name) == "choose"]


def rows(args: argparse.Namespace) -> list[dict]:
    args.table.mkdir(parents=True, exist_ok=True)
    found = []
    for film, label in real_films(args.labels, args.clean):
        if film.name not in args.skip and args.half in ("all", half_of(film.name)):
            found.append(recorded(args.table / f"{film.name}.json", partial(watch_film, film, label)))
    names = footage(args.footage)
    for seed, kind in product(range(args.films), KINDS):
        found.append(recorded(args.table / f"composed {seed} {kind}.json", partial(watch_composed, kind, names, seed)))
    return found


def examples(found: list[dict], kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evidence float (n, measures) in the order of BOUNDS, bool (n,) whether each is a transition, and (n,) whether of a real film."""
    kinds = (kind, "run") if kind == "span" else (kind,)
    chosen = [
        ([evidence[name] for name in BOUNDS[kind]], truth, row["film"] is not None)
        for row in found
        for one, first, last, evidence in row["candidates"]
        if one in kinds and (truth := is_true(one, first, last, row["label"])) is not None
    ]
    values, truths, real = zip(*chosen) if chosen else ((), (), ())
    return np.array(values, float).reshape(-1, len(BOUNDS[kind])), np.array(truths, bool), np.array(real, bool)


def fit(found: list[dict], kind: str) -> dict:
    """The numbers of `cut_judge` for one kind of candidates: logistic regression with bounded weights, regularised where the
    measures have a standard deviation of 1.
    """
    values, truth, real = examples(found, kind)
    weight = np.where(real, (~real).sum() / max(1, real.sum()) if (~real).any() else 1.0, 1.0)
    mean, scale = values.mean(0), values.std(0) + 1e-9
    scaled, sign = (values - mean) / scale, np.where(truth, 1.0, -1.0)

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (scaled @ numbers[:-1] + numbers[-1])
        slope = -weight * sign / (1 + np.exp(margin))
        penalty = numbers[:-1] / STRENGTH[kind]
        return float(weight @ np.logaddexp(0, -margin) + penalty @ numbers[:-1] / 2), np.append(
            scaled.T @ slope + penalty, slope.sum()
        )

    bounds = [
        tuple(None if end is None else end * s for end in ends)
        for ends, s in zip(BOUNDS[kind].values(), scale, strict=True)
    ]
    start = np.zeros(len(bounds) + 1)
    found_at = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[*bounds, FREE], options={"maxiter": 2000}).x
    weights = found_at[:-1] / scale
    named = {name: round(float(w), 4) for name, w in zip(BOUNDS[kind], weights, strict=True)}
    return {"bias": round(float(found_at[-1] - weights @ mean), 4), "weights": named}


def cross_validate(found: list[dict], kind: str) -> list[str]:
    """By numbers fitted without each film and its fold, of real and composed films: true candidates, missed, false."""
    counts = np.zeros((2, 3), int)
    for fold in range(FOLDS):
        held = [row for row in found if crc32(name_of(row).encode()) % FOLDS == fold]
        values, truth, real = examples(held, kind)
        if not len(truth):
            continue
        numbers = fit([row for row in found if crc32(name_of(row).encode()) % FOLDS != fold], kind)
        odds = values @ np.array(list(numbers["weights"].values())) + numbers["bias"]
        taken = 1 / (1 + np.exp(-odds)) >= CERTAIN[kind]
        for one, which in enumerate((real, ~real)):
            counts[one] += (truth & which).sum(), (truth & ~taken & which).sum(), (taken & ~truth & which).sum()
    return [kind, *map(str, counts.ravel())]


def name_of(row: dict) -> str:
    return row["film"] or row["composed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, nargs="*", help="files of labelled cuts, stored beside their films")
    parser.add_argument("--clean", type=Path, nargs="*", default=[], help="files of judged clips that hold no cut")
    parser.add_argument("--skip", nargs="*", default=[], help="real films to leave out, by name")
    parser.add_argument("--half", choices=["choose", "all"], default="choose", help="which real films to use")
    parser.add_argument(
        "--footage", type=Path, nargs="*", default=[], help="folders of one-shot videos to compose films from"
    )
    parser.add_argument("--films", type=int, default=14, help="number of composed films per kind")
    parser.add_argument("--table", type=Path, required=True, help="folder for the table of candidates")
    parser.add_argument("--saved_path", type=Path, default=FITTED)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    found = rows(args)
    titles = ["candidates", "real", "missed", "false", "composed", "missed", "false"]
    print(table(titles, [cross_validate(found, kind) for kind in CERTAIN]))
    args.saved_path.write_text(json.dumps({kind: fit(found, kind) for kind in CERTAIN}, indent=1) + "\n")


if __name__ == "__main__":
    main()
