"""What the default stages keep, held against clips that a person judged: purity and recall in seconds, and what is wrong by reason.

    python -m benchmarks.judged ../shared --labels judged/labels.jsonl labelled_films/judged.jsonl
    python -m benchmarks.judged ../shared --labels judged/labels.jsonl --half judge --dataset_folder /tmp/judged --sheets /tmp/sheets
    python -m benchmarks.judged ../shared --labels judged/labels.jsonl labelled_films/judged.jsonl --half judge --camera

Purity is the share of the kept, labelled seconds that nobody would throw out; recall, of the seconds that a person would keep, those that
are kept. Both are counted in seconds of the films, so that other cuts than those of the labels do no harm. In brackets, the middle 90 % of
what 2,000 draws of as many films give.

Half of the films are to choose constants on and half to judge them on. Which is which was settled by a film's name alone, before the first
constant was chosen: see `half_of`.

With `--camera`, no stage runs: the labelled spans are measured as `compute_motion_score.py` does, and the words for the camera are held against
the labels' (`camera`). "tracking" is right with any move, "mixed" with all but "static"; neither counts in the share.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.measure import table
from compute_motion_score import CLOSE_EVERY, CLOSE_FPS
from utils.rows import read_rows
from utils.scoring.optical_flow import SAMPLING_FPS, camera_name, measure_motion, prepare
from utils.video.geometry import frame_to_array
from utils.video.opening import decode, open_video
from utils.video.timing import seconds_between

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("stage_1_video_cut.sh", "stage_2_filter_data.sh")
LEAST_SECONDS = 0.5  # of a labelled clip, that count as wrong
DRAWS = 2000
SHEET = (6, 2)  # frames of a clip on a sheet, across and down


def half_of(source: str) -> str:
    """The half that a film belongs to, "choose" or "judge", by its file name."""
    return "judge" if hashlib.sha256(Path(source).name.encode()).digest()[0] % 2 else "choose"


class Judgement:
    """Labelled clips of films beside what a dataset kept of them, in seconds."""

    def __init__(self, labels: list[dict], dataset: Path):
        kept = {row["video_path"] for row in read_rows(dataset / "train.jsonl")}
        why = {row["video_path"]: row["reason"] for row in read_rows(dataset / "dropped.jsonl")}
        self.clips: dict[str, list[dict]] = defaultdict(list)
        for row in read_rows(dataset / "clips.jsonl"):
            name = row["video_path"]
            self.clips[Path(row["source_path"]).name].append(row | {"is_kept": name in kept, "why": why.get(name, "")})
        self.labels = [label for label in labels if Path(label["source"]).name in self.clips]

    def kept_seconds(self, label: dict) -> float:
        clips = self.clips[Path(label["source"]).name]
        seconds = label["end_seconds"] - label["start_seconds"]
        return min(seconds, sum(overlap(label, clip) for clip in clips if clip["is_kept"]))

    def totals(self) -> dict[str, Counter]:
        """Of each film: seconds labelled keep, border and drop, and what is kept of them."""
        found: dict[str, Counter] = defaultdict(Counter)
        for label in self.labels:
            film, verdict = found[Path(label["source"]).name], label["verdict"]
            film[verdict] += label["end_seconds"] - label["start_seconds"]
            film[f"{verdict} kept"] += self.kept_seconds(label)
        return found

    def wrong(self) -> list[tuple[str, str, float, dict]]:
        """("kept" or "lost", why, seconds, label) of what is wrong: why a person would drop it, or what dropped it."""
        found = []
        for label in self.labels:
            kept, seconds = self.kept_seconds(label), label["end_seconds"] - label["start_seconds"]
            if label["verdict"] == "drop" and kept > LEAST_SECONDS:
                found.append(("kept", ", ".join(label["reasons"]), kept, label))
            if label["verdict"] == "keep" and seconds - kept > LEAST_SECONDS:
                clips = [
                    clip
                    for clip in self.clips[Path(label["source"]).name]
                    if overlap(label, clip) and not clip["is_kept"]
                ]
                best = max(clips, key=lambda clip: overlap(label, clip), default=None)
                found.append(("lost", best["why"] if best else "in no clip", seconds - kept, label))
        return found


def overlap(one: dict, other: dict) -> float:
    """Seconds that two spans share."""
    return max(0.0, min(one["end_seconds"], other["end_seconds"]) - max(one["start_seconds"], other["start_seconds"]))


def purity_and_recall(films: list[Counter]) -> tuple[float, float]:
    total: Counter = sum(films, Counter())
    kept = sum(total[f"{verdict} kept"] for verdict in ("keep", "border", "drop"))
    return 1 - total["drop kept"] / max(kept, 1e-9), total["keep kept"] / max(total["keep"], 1e-9)


def interval(films: list[Counter]) -> np.ndarray:
    """The middle 90 % of purity and recall over draws of films: float (2, 2), from and to of each."""
    draw = random.Random(0)
    drawn = [purity_and_recall(draw.choices(films, k=len(films))) for _ in range(DRAWS)]
    return np.percentile(np.array(drawn), [5, 95], axis=0).T


CLEAR = ("static", "handheld", "named")  # labels whose words are right or wrong


def kind_of(label: str) -> str:
    """static, handheld, tracking, mixed; or "named", for a move with its direction."""
    return label if label in ("static", "handheld", "tracking", "mixed") else "named"


def is_right(label: str, name: str) -> bool:
    """Whether the words for a camera are those of a label: "pan right", "tilt", "pan/static", "tracking", ..."""
    if label == "tracking":
        return name not in ("static", "handheld")
    return name != "static" if label == "mixed" else any(words in name for words in label.split("/"))


def camera_frames(labels: list[dict], film: Path) -> list[tuple[list, list, list]]:
    """Of each labelled span of a film: frames at 2 fps, their times, and pairs of frames close in time, each (before, after, seconds)."""
    found: list[tuple[list, list, list]] = [([], [], []) for _ in labels]
    due = np.zeros((len(labels), 2), int)  # the next sample at 2 fps and at 8
    before: dict[int, tuple[np.ndarray, float]] = {}
    with open_video(str(film)) as (container, stream):
        first = None
        for frame in decode(container, stream):
            first = frame.pts if first is None else first
            now = seconds_between(first, frame.pts, stream)
            for number, label in enumerate(labels):
                seconds = now - label["start_seconds"] + 1e-3
                if not 0 <= seconds < label["end_seconds"] - label["start_seconds"]:
                    continue
                at, close = int(seconds * SAMPLING_FPS), int(seconds * CLOSE_FPS)
                if at < due[number, 0] and close < due[number, 1]:
                    continue
                x, y, w, h = label.get("picture_box") or (0, 0, frame.width, frame.height)
                gray = prepare(frame_to_array(frame, "gray")[y : y + h, x : x + w])
                if at >= due[number, 0]:
                    found[number][0].append(gray)
                    found[number][1].append(seconds)
                if close % CLOSE_EVERY == 1 and number in before:
                    found[number][2].append((before[number][0], gray, seconds - before[number][1]))
                if close % CLOSE_EVERY == 0:
                    before[number] = gray, seconds
                due[number] = at + 1, close + 1
    return found


def print_camera(labels: list[dict], films: dict[str, Path]) -> None:
    spans: dict[str, list[dict]] = defaultdict(list)
    for label in labels:
        if label.get("camera"):
            spans[Path(label["source"]).name].append(label)
    counts: dict[str, Counter] = defaultdict(Counter)
    for name, of_film in spans.items():
        for label, (frames, times, close) in zip(of_film, camera_frames(of_film, films[name]), strict=True):
            if len(frames) < 2:
                continue
            words = camera_name(measure_motion(frames, times, close.__iter__))
            right = is_right(label["camera"], words)
            what = words if words in ("static", "handheld") else "right move" if right else "other move"
            counts[kind_of(label["camera"])][what] += 1
            counts[kind_of(label["camera"])]["right"] += right
            if not right:
                print(f"{label['camera']} -> {words}: {name}, {label['start_seconds']:.1f} s", file=sys.stderr)
    columns = ("static", "handheld", "right move", "other move", "right")
    print(
        table(
            ["label", *columns],
            [[kind, *(str(counts[kind][c]) for c in columns)] for kind in (*CLEAR, "tracking", "mixed")],
        )
    )
    right, clips = (sum(sum(counts[kind][c] for c in cs) for kind in CLEAR) for cs in (columns[-1:], columns[:-1]))
    print(f"static, handheld and named: {right} of {clips} right")


def run_stages(films: list[Path], dataset: Path, stages: tuple[str, ...]) -> None:
    """The stages on links to the films, resumed where they ran before. The environment's variables apply."""
    folder = dataset / "films"
    folder.mkdir(parents=True, exist_ok=True)
    for film in films:
        if not (link := folder / film.name).is_symlink():
            link.symlink_to(film.resolve())
    variables = {**os.environ, "DATASET_FOLDER": str(dataset), "REPORT": "0"}
    for stage in stages:
        where = {"VIDEO_FOLDER": str(folder)} if stage == STAGES[0] else {}
        subprocess.run(["sh", ROOT / stage], env=variables | where, check=True, stdout=sys.stderr)


def draw_sheet(label: dict, film: Path, path: Path) -> None:
    """Frames spread over a labelled clip, in one picture."""
    across, down = SHEET
    times = np.linspace(label["start_seconds"], label["end_seconds"], across * down + 2)[1:-1]
    pictures, before = [], None
    with av.open(str(film)) as container:
        waiting = list(times)
        first = None
        for frame in container.decode(video=0):
            first = frame.time if first is None else first
            while waiting and frame.time - first >= waiting[0]:
                before = cv2.resize(frame.to_ndarray(format="bgr24"), (320, 320 * frame.height // frame.width // 2 * 2))
                pictures.append(before)
                waiting.pop(0)
            if not waiting:
                break
    if pictures:
        blank = np.zeros_like(pictures[0])
        pictures += [blank] * (across * down - len(pictures))
        rows = [np.hstack(pictures[i : i + across]) for i in range(0, across * down, across)]
        cv2.imwrite(str(path), np.vstack(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the labels are, and the films that they name")
    parser.add_argument(
        "--labels", nargs="+", required=True, help="files of labels, in the folder; films beside them or by path"
    )
    parser.add_argument("--half", choices=["choose", "judge", "all"], default="choose")
    parser.add_argument(
        "--dataset_folder", type=Path, default=Path("datasets/judged"), help="resumed where it is there"
    )
    parser.add_argument("--stages", nargs="*", default=list(STAGES), help="to run before; none: the dataset as it is")
    parser.add_argument("--sheets", type=Path, help="folder for a picture of each clip that is wrong")
    parser.add_argument(
        "--camera", action="store_true", help="the words for the camera beside the labels', and no stages"
    )
    args = parser.parse_args()
    labels, films = [], {}
    for name in args.labels:
        for label in map(json.loads, open(args.folder / name, encoding="utf-8")):
            labels.append(label)
            beside = args.folder / Path(name).parent / label["source"]
            films[Path(label["source"]).name] = beside if beside.exists() else args.folder / label["source"]
    chosen = [label for label in labels if args.half in ("all", half_of(label["source"]))]
    if args.camera:
        print_camera(chosen, films)
        return
    run_stages(list(films.values()), args.dataset_folder, tuple(args.stages))
    judgement = Judgement(chosen, args.dataset_folder)
    totals = judgement.totals()
    counts: Counter = sum(totals.values(), Counter())
    wrong = judgement.wrong()
    print(
        table(
            ["verdict", "s labelled", "s kept"],
            [[v, f"{counts[v]:.0f}", f"{counts[f'{v} kept']:.0f}"] for v in ("keep", "border", "drop")],
        )
    )
    for kind, title in (("kept", "kept, which a person would drop"), ("lost", "dropped, which a person would keep")):
        reasons: dict[str, list[float]] = defaultdict(list)
        for what, why, seconds, _ in wrong:
            if what == kind:
                reasons[why].append(seconds)
        print(
            table(
                [title, "clips", "s"],
                [
                    [why, str(len(found)), f"{sum(found):.0f}"]
                    for why, found in sorted(reasons.items(), key=lambda one: -sum(one[1]))
                ],
            )
        )
    spread = interval(list(totals.values()))
    purity, recall = purity_and_recall(list(totals.values()))
    print(
        f"{len(totals)} films ({args.half}): purity {purity:.3f} [{spread[0][0]:.3f}, {spread[0][1]:.3f}], recall {recall:.3f} [{spread[1][0]:.3f}, {spread[1][1]:.3f}]"
    )
    if args.sheets:
        args.sheets.mkdir(parents=True, exist_ok=True)
        for number, (what, why, _, label) in enumerate(wrong):
            name = Path(label["source"]).name
            draw_sheet(
                label,
                films[name],
                args.sheets / f"{what}_{why.replace(' ', '_').replace('/', '_')[:40]}_{number:03}_{name}.jpg",
            )


if __name__ == "__main__":
    main()
