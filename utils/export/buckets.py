"""Buckets: how many clips have each size and length, what does not fill a batch, and a grid on which more does."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from utils.export.clip_steps import narrowed
from utils.export.models import Target

Bucket = tuple[int, int, int]  # width, height, frames
BATCHES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Choice:
    """What a clip could be: `shown`, the size of its frame in square pixels; `there`, how many frames it has at the rate of the export; its
    bucket now.
    """

    shown: tuple[float, float]
    there: int
    bucket: Bucket

    def kept(self, bucket: Bucket) -> float:
        """The share of its frames and of their area that a bucket keeps, 0 where it has too few frames."""
        width, height, frames = bucket
        ratio = width / height / (self.shown[0] / self.shown[1])
        return frames / self.there * min(ratio, 1 / ratio) if frames <= self.there else 0.0


def filled(choices: Mapping[str, Choice], batch_size: int) -> dict[str, Bucket | None]:
    """The bucket of each clip so that every bucket has `batch_size` clips: the smallest bucket is given up first, each of its clips goes to the
    one that keeps most of it, None where it fits none. The last bucket stays, however small.
    """
    found: dict[str, Bucket | None] = {name: choice.bucket for name, choice in choices.items()}
    while True:
        counts = Counter(bucket for bucket in found.values() if bucket)
        smallest = min(counts, key=lambda bucket: (counts[bucket], bucket), default=None)
        if smallest is None or counts[smallest] >= batch_size or len(counts) == 1:
            return found
        others = sorted(set(counts) - {smallest})
        for name in [name for name, bucket in found.items() if bucket == smallest]:
            best = max(others, key=choices[name].kept)
            found[name] = best if choices[name].kept(best) else None


def fill_batches(
    rows: Sequence[dict],
    plan: Sequence[dict],
    target: Target,
    keeps_rate: bool,
    batch_size: int,
    replan: Callable[..., dict],
) -> None:
    """Give up buckets that fill no batch: their clips go to another one, for which `replan(row, target=...)` plans them anew, or are left out. What
    is held back for validation stays as it is.
    """
    choices = {
        planned["video_path"]: _choice_of(row, planned, target, keeps_rate)
        for row, planned in zip(rows, plan, strict=True)
        if not planned["reason"] and planned.get("split") != "val"
    }
    buckets = filled(choices, batch_size)
    for row, planned in zip(rows, plan, strict=True):
        path = planned["video_path"]
        if path not in buckets or (bucket := buckets[path]) == choices[path].bucket:
            continue
        if bucket is None:
            planned.update(reason="batch_size", does=f"it fits no bucket of {batch_size} clips")
            continue
        size = {"width": bucket[0], "height": bucket[1], "frames": bucket[2] + target.extra_frames}
        planned.update(replan(row, target=narrowed(target, size)))


def _choice_of(row: dict, planned: dict, target: Target, keeps_rate: bool) -> Choice:
    """A clip's frame in square pixels, and its frames at the rate of the export, from what its plan says."""
    _, _, width, height = planned["box"]
    pixel_aspect = planned["width"] / planned["height"] / (width / height)
    inner = row.get("crop_box") or [0, 0, planned["source_width"], planned["source_height"]]
    there = planned["source_frames"] if keeps_rate else int(planned["source_seconds"] * float(target.fps or 1) + 1e-3)
    bucket = planned["width"], planned["height"], planned["frames"] - target.extra_frames
    return Choice((inner[2] * pixel_aspect, inner[3]), max(there, bucket[2]), bucket)


def left_over(counts: Iterable[int], batch_size: int) -> int:
    """How many clips do not fill a batch, bucket by bucket: what a trainer drops in each epoch that takes whole batches of one bucket alone."""
    return sum(count % batch_size for count in counts)


def batch_lines(counts: Sequence[int]) -> list[tuple[str, str]]:
    """For the plan: what whole batches of 1, 2, 4 and 8 would leave over."""
    return [(f"  in no whole batch of {size}", f"{left_over(counts, size):,}") for size in BATCHES]
