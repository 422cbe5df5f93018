"""How Lightricks' two trainers load a set.

LTX-2 (Lightricks/LTX-2, packages/ltx-trainer/scripts/process_videos.py): buckets of the start line, widths and heights that are multiples of 32 and 8n+1
frames; a video with fewer frames than the smallest is skipped; of the buckets that its frames fill, it gets that of the nearest aspect ratio, then that
with most frames. LTX-Video-Trainer (scripts/preprocess_dataset.py, process_videos.py): one bucket a run, or it refuses. Both take the first frames as they
come, and media must be inside the list's folder.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.errors import RunError
from utils.export.models import Target
from utils.export.readers.sample import Media, Sample, left_out, needed_flag

Bucket = tuple[int, int, int]  # width, height, frames
BESIDE = ("reference_video", "video_mask", "reference_path")


def read_ltx2(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    for start in starts:
        if "process_dataset.py" in start:
            yield from _listed(folder, "video", media, _buckets(start))


def read_ltx_video(folder: Path, media: Media, target: Target, starts: Sequence[str]) -> Iterator[Sample]:
    for start in starts:
        if "preprocess_dataset.py" in start:
            buckets = _buckets(start)
            if len(buckets) > 1:
                raise RunError(f"LTX-Video-Trainer takes one resolution bucket a run: {start}")
            yield from _listed(_list_of(start), "media_path", media, buckets)


def _buckets(start: str) -> list[Bucket]:
    buckets = [tuple(map(int, bucket.split("x"))) for bucket in needed_flag(start, "--resolution-buckets").split(";")]
    if wrong := [b for b in buckets if b[0] % 32 or b[1] % 32 or b[2] % 8 != 1]:
        raise RunError(f"the LTX trainers refuse a bucket of {wrong[0]}: sides are multiples of 32, frames 8n+1")
    return buckets  # type: ignore[return-value]


def _list_of(start: str) -> Path:
    import shlex

    return next(Path(word) for word in shlex.split(start) if word.endswith(".json"))


def _listed(place: Path, column: str, media: Media, buckets: list[Bucket]) -> Iterator[Sample]:
    listed = place / "dataset.json" if place.is_dir() else place
    for item in json.loads(listed.read_text(encoding="utf-8")):
        path = listed.parent / item[column].strip()
        if Path(item[column]).is_absolute():
            raise RunError(f"{listed}: {item[column]} is outside the list's folder, which the trainer refuses")
        medium = media(path)
        beside = tuple(listed.parent / item[name] for name in BESIDE if name in item)
        fits = [bucket for bucket in buckets if bucket[2] <= medium.frames]
        if not fits:
            yield left_out(path, item["caption"], medium, f"fewer than {min(b[2] for b in buckets)} frames")
            continue
        aspect = math.log(medium.width / medium.height)
        width, height, frames = min(fits, key=lambda b: (abs(aspect - math.log(b[0] / b[1])), -b[2], -b[0] * b[1]))
        yield Sample(path, item["caption"], frames, width, height, float(medium.fps), beside=beside)
