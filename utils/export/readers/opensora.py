"""How Open-Sora 2 loads a set (hpcaitech/Open-Sora, opensora/datasets/datasets.py): a table by pandas, which takes some words for missing cells."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.errors import RunError
from utils.export.missing_cells import MISSING
from utils.export.models import Target
from utils.export.readers.sample import Media, Sample, needed_flag


def read(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    csv.field_size_limit(2**31 - 1)
    listed = Path(needed_flag(next(start for start in starts if "--dataset.data-path" in start), "--dataset.data-path"))
    with open(listed, newline="", encoding="utf-8", errors="surrogateescape") as file:
        for item in csv.DictReader(file):
            if item["text"] in MISSING:
                raise RunError(f"{listed}: pandas takes the caption {item['text']!r} for a missing one; please report")
            path = Path(item["path"])
            medium = media(path)
            is_video = target.step and int(item["num_frames"]) > 1
            frames = target.frames_of(int(item["num_frames"])) if is_video else int(item["num_frames"])
            text = item["text"]  # its last space tells a caption from a missing cell
            text = text[:-1] if text.endswith(" ") and text[:-1] in MISSING else text
            yield Sample(path, text, frames, int(item["width"]), int(item["height"]), float(medium.fps))
