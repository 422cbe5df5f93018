"""A small dataset for tests of histories: videos of known content, the files that stages leave, and what counts as the training set.

`Dataset` knows the stages by their scripts, variables and files alone.
"""

import difflib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from conftest import write_video
from skimage import data
from stage_runner import STAGES, Ran, Stages

FPS, WIDTH, HEIGHT = 12, 128, 72
PROVENANCE = ("made_from", "stamp")  # columns that say what a row was made from: not part of a training set
STAMP = re.compile(
    r'^ *"[^"]+\.jsonl": "[0-9a-f]+",?\n', re.M
)  # of a file, in the card's settings of the filter: provenance
BROKEN = ("no video", "empty", "truncated")  # sources that cannot be read


def make_pool(folder: Path) -> Path:
    """Write the videos that sources are copies of: a name says what is in it."""
    photos = {
        name: cv2.resize(getattr(data, name)(), (320, 200), interpolation=cv2.INTER_AREA)
        for name in ("astronaut", "coffee", "chelsea", "rocket")
    }

    def pan(photo: str, seconds: float, speed: float) -> Iterator[np.ndarray]:
        """A view that moves `speed` pixels a second to the right."""
        for i in range(round(seconds * FPS)):
            yield cv2.getRectSubPix(photos[photo], (WIDTH, HEIGHT), (80 + speed * i / FPS, 90))

    def with_text(frame: np.ndarray) -> np.ndarray:
        return cv2.putText(
            frame.copy(), "TEXT HERE", (6, 45), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2
        )  # 13 % of the frame

    folder.mkdir(parents=True, exist_ok=True)
    for name, frames in {
        "slow": pan("astronaut", 2, 6),  # passes every threshold
        "other": pan("chelsea", 2, 6),  # as long, and of another quality
        "fast": pan("coffee", 1.5, 40),  # motion above 25 % of the short side a second
        "still": pan("coffee", 1.5, 0),
        "cut": chain(pan("coffee", 1.5, 8), pan("astronaut", 2, 7)),  # two shots
        "long": pan("chelsea", 3.5, 9),  # two or three clips where MAX_SECONDS=1.6
        "text": map(with_text, pan("chelsea", 1.5, 7)),
        "flat": (frame // 12 + 20 for frame in pan("coffee", 1.5, 9)),  # low quality
    }.items():
        write_video(folder / f"{name}.mp4", frames, FPS)
    write_video(folder / "twin.mp4", pan("astronaut", 2, 6), FPS, options={"crf": "30"})  # a near-duplicate of "slow"
    (folder / "no video.mp4").write_text("no video")
    (folder / "empty.mp4").touch()
    whole = (folder / "cut.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    return folder


def choice(default: object, *others: object, stage: int, computed: bool = False):
    """A field of `Settings`: its values, the stage that it is for; `computed`: rows depend on it, so a change needs OVERWRITE=1."""
    return field(default=default, metadata={"values": (default, *others), "stage": stage, "computed": computed})


@dataclass(frozen=True)
class Settings:
    """What a person chooses: variables of the stages, in lower case, and lists of clips."""

    detector: str = choice("transitions", "content", stage=1, computed=True)
    max_seconds: float = choice(10, 1.6, stage=1, computed=True)  # stage 2 has it as a bound
    cut_inside: str = choice("auto", "flow", stage=2, computed=True)
    quality_threshold: float = choice(1, 2.6, stage=2)
    activity_threshold: float = choice(1.5, 9, 0, stage=2)
    text_score_threshold: float = choice(0.02, 0.5, stage=2)
    crop: int = choice(0, 1, stage=2)
    min_short_side: int = choice(0, 100, stage=2)
    where: str = choice("", "camera_motion like 'pan%'", "motion_score < 10", stage=2)
    dedup: int = choice(0, 1, stage=2)
    exclude: tuple[str, ...] = choice((), stage=2)  # names of clips, in a file of marks
    include: tuple[str, ...] = choice((), stage=2)
    only: str = choice("", "first", "not A", stage=2)  # a list of one's own: `Dataset.write_list`
    frame_sample_method: str = choice("", "uniform", stage=3, computed=True)
    trigger_word: str = choice("", "sks", stage=3)
    caption_suffix: str = choice("", "Filmed in daylight.", stage=3)
    format: str = choice("", "musubi", "diffusion_pipe", stage=3)
    val_share: str = choice("", "0.4", stage=3)

    def computed(self, stage: int) -> tuple:
        """What rows of a stage's files depend on."""
        return tuple(
            getattr(self, one.name)
            for one in fields(self)
            if one.metadata["computed"] and one.metadata["stage"] == stage
        )


# The values of what may be changed at no cost, and of what rows depend on.
FREE = {
    f.name: f.metadata["values"]
    for f in fields(Settings)
    if not f.metadata["computed"] and f.metadata["values"] != ((),)
}
COMPUTED = {f.name: f.metadata["values"] for f in fields(Settings) if f.metadata["computed"]}


class Dataset:
    """A dataset folder with its sources, clips and files, and the stages that are run on it."""

    def __init__(self, stages: Stages, folder: Path, pool: Path) -> None:
        self.stages, self.folder, self.pool = stages, folder, pool
        self.raw.mkdir(parents=True)

    @property
    def raw(self) -> Path:
        return self.folder / "before_vcut"

    def path(self, name: str) -> Path:
        return self.folder / name

    def put(self, name: str, content: str) -> None:
        """Make `name` a source: a copy of the pool's video, under its name by a rename."""
        path = self.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.pool / f"{content}.mp4", path.with_suffix(".copying"))
        os.replace(path.with_suffix(".copying"), path)

    def variables(self, settings: Settings) -> dict[str, object]:
        """The environment of the stages; writes the lists that it names."""
        found: dict[str, object] = {"DATASET_FOLDER": self.folder, "MIN_SECONDS": 1, "CUT_INSIDE_THRESHOLD": 1}
        for one in fields(settings):
            value = getattr(settings, one.name)
            if one.name in ("exclude", "include"):
                if value:
                    mark = {"exclude": "drop", "include": "star"}[one.name]
                    marks = [{"video_path": clip, "mark": mark} for clip in value]
                    write_rows(self.path(f"{one.name}.jsonl"), marks)
                    found[one.name.upper()] = self.path(f"{one.name}.jsonl")
            elif one.name != "only" and value != "":
                found[one.name.upper()] = value
        return found

    def write_list(self, settings: Settings) -> dict[str, object]:
        """A person's list for stage 2, chosen from today's clips."""
        if not settings.only or not self.path("clips.jsonl").exists():
            return {}
        rows = rows_of(self.path("clips.jsonl"))
        chosen = [
            row
            for row in rows
            if (row["video_path"].endswith("-001.mp4") if settings.only == "first" else row["source_path"] != "A.mp4")
        ]
        write_rows(self.path("list.jsonl"), chosen)
        return {"VIDEO_METADATA_PATH": self.path("list.jsonl")}

    def stage(self, number: int, settings: Settings = Settings(), *, new_list: bool = True, **more) -> Ran:
        """Run a stage; `more`: variables, and `kill_after`, `real` of `Stages.run`. Without `new_list`, a list of before stays as it is."""
        options = {name: more.pop(name) for name in ("kill_after", "real") if name in more}
        variables = self.variables(settings)
        if number == 2 and settings.only:
            there = self.path("list.jsonl")
            variables |= (
                {"VIDEO_METADATA_PATH": there} if there.exists() and not new_list else self.write_list(settings)
            )
        return self.stages.run(STAGES[number - 1], variables=variables | more, **options)

    def run_all(self, settings: Settings = Settings(), **more) -> list[Ran]:
        """The three stages in order, up to the first that does not end with exit code 0."""
        ran: list[Ran] = []
        for number in (1, 2, 3):
            ran.append(self.stage(number, settings, **more))
            if ran[-1].code:
                break
        return ran

    def result(self, settings: Settings = Settings()) -> dict[str, object]:
        """The training set, and what was left out and why: what two datasets that should be the same are compared by."""
        export = self.path(settings.format) if settings.format else None
        train = rows_of(self.path("train.jsonl"))
        listed = {
            name: [row["video_path"] for row in rows_of(self.path(f"{name}.jsonl"))]
            for name in ("scenes", "clips", "technical_score", "text_score", "frame_caption", "summary_caption")
        }
        return {
            **{f"paths of {name}.jsonl": paths for name, paths in listed.items()},
            "train.jsonl": train,
            "dropped.jsonl": rows_of(self.path("dropped.jsonl")),
            "train_panda_70m.json": _text(self.path("train_panda_70m.json")),
            "clips of the set": {row["video_path"]: _digest(self.path("train") / row["video_path"]) for row in train},
            "errors": sorted(
                (path.name, row["video_path"], row["error"])
                for path in self.folder.glob("*.errors.jsonl")
                for row in rows_of(path)
            ),
            "export": self._exported(export) if export else None,
        }

    def _exported(self, folder: Path) -> dict[str, str]:
        """Media by digest, text files as they are but for where the dataset is."""
        found = {}
        for path in folder.rglob("*"):
            if path.is_file() and not path.name.startswith("export."):
                is_text = path.suffix in (".md", ".toml", ".jsonl", ".json", ".csv", ".txt", ".yaml")
                text = path.read_text(encoding="utf-8").replace(str(self.folder), "FOLDER") if is_text else ""
                text = STAMP.sub("", text) if path.name == "README.md" else text
                found[path.relative_to(folder).as_posix()] = text or _digest(path)
        return found


def rows_of(path: Path) -> list[dict]:
    """The rows of a file without their provenance; none where it is not there."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [{k: v for k, v in json.loads(line).items() if k not in PROVENANCE} for line in lines if line]


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else "not there"


def differences(result: dict, expected: dict) -> str:
    """What differs between two results, in lines; "" where nothing does."""
    lines = []
    for name in expected:
        if result[name] == expected[name]:
            continue
        ours, theirs = (_keyed(found[name]) for found in (result, expected))
        lines.append(f"{name}:")
        lines += [
            f"    {key}: {_difference(ours.get(key), theirs.get(key))}"
            for key in dict.fromkeys([*theirs, *ours])
            if ours.get(key) != theirs.get(key)
        ]
        if ours == theirs:  # as dicts
            order = [row if isinstance(row, str) else row["video_path"] for row in result[name]]
            lines.append(f"    in another order, or doubled: {order}, a clean run has {list(theirs)}")
    return "\n".join(lines)


def _keyed(found: object) -> dict:
    if isinstance(found, dict):
        return found
    if isinstance(found, list) and all(isinstance(row, dict) for row in found):
        return {row["video_path"]: row for row in found}
    if isinstance(found, list):
        return dict.fromkeys(map(str, found), "there")
    return {"": found}


def _difference(ours: object, theirs: object) -> str:
    if isinstance(ours, str) and isinstance(theirs, str) and "\n" in theirs:
        lines = list(difflib.ndiff(theirs.splitlines(), ours.splitlines()))
        return "\n        ".join(
            ["a clean run's lines (-) and ours (+):", *(line for line in lines if line[0] in "-+")]
        )
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = [name for name in dict.fromkeys([*theirs, *ours]) if ours.get(name) != theirs.get(name)]
        if names and len(names) < 6:
            ours, theirs = ({name: row[name] for name in names if name in row} for row in (ours, theirs))
    return f"is {_short(ours)}, a clean run has {_short(theirs)}"


def _short(found: object) -> str:
    text = "nothing" if found is None else json.dumps(found, ensure_ascii=False)
    return text if len(text) < 400 else f"{text[:400]}…"
