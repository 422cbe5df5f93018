"""Buckets: how many clips have each size and length, which of them do not fill a batch, and a coarser grid on which more do."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from utils.export.clip_steps import narrowed
from utils.export.models import Target
from utils.video.stills import is_still

Bucket = tuple[int, int, int]  # width, height, frames
BATCHES = (1, 2, 4, 8)
LEAST_AREA = 0.5  # of a frame: an upright clip goes to a square bucket, never to a wide one


@dataclass(frozen=True)
class Choice:
    """What a clip could be: `shown`, the size of its frame in square pixels; `there`, how many frames it has at the rate of the export; its
    bucket now.
    """

    shown: tuple[float, float]
    there: int
    bucket: Bucket

    def kept(self, bucket: Bucket) -> float:
        """The share of its frames and of their area that a bucket keeps, 0 where it has too few frames or would lose half of each."""
        width, height, frames = bucket
        ratio = width / height / (self.shown[0] / self.shown[1])
        area = min(ratio, 1 / ratio)
        if (frames == 1) != (self.bucket[2] == 1):  # images stay among themselves
            return 0.0
        return frames / self.there * area if frames <= self.there and area > LEAST_AREA else 0.0


def filled(choices: Mapping[str, Choice], batch_size: int) -> dict[str, Bucket | None]:
    """The bucket of each clip so that every bucket has `batch_size` clips. Of the buckets that have fewer, that is given up first by which least is lost; each of its clips
    goes to the one that keeps most of it, None where it fits none. The last bucket stays, however small.
    """
    found: dict[str, Bucket | None] = {name: choice.bucket for name, choice in choices.items()}
    while True:
        members: dict[Bucket, list[str]] = {}
        for name, bucket in found.items():
            if bucket:
                members.setdefault(bucket, []).append(name)
        small = sorted(bucket for bucket, names in members.items() if len(names) < batch_size)
        if not small or len(members) == 1:
            return found
        moves = {bucket: _moves(choices, bucket, members) for bucket in small}
        lost = {
            bucket: sum(choices[name].kept(bucket) - (choices[name].kept(other) if other else 0) for name, other in to)
            for bucket, to in moves.items()
        }
        found.update(moves[min(small, key=lambda bucket: lost[bucket])])


def _moves(
    choices: Mapping[str, Choice], bucket: Bucket, members: Mapping[Bucket, list[str]]
) -> list[tuple[str, Bucket | None]]:
    """Where the clips of a bucket would go."""
    others = sorted(set(members) - {bucket})
    best = [(name, max(others, key=choices[name].kept)) for name in members[bucket]]
    return [(name, other if choices[name].kept(other) else None) for name, other in best]


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
    if is_still(planned["video_path"]):
        return Choice((inner[2] * pixel_aspect, inner[3]), 1, (planned["width"], planned["height"], 1))
    there = planned["source_frames"] if keeps_rate else int(planned["source_seconds"] * float(target.fps or 1) + 1e-3)
    bucket = planned["width"], planned["height"], planned["frames"] - target.extra_frames
    return Choice((inner[2] * pixel_aspect, inner[3]), max(there, bucket[2]), bucket)


def left_over(counts: Iterable[int], batch_size: int) -> int:
    """How many clips do not fill a batch, bucket by bucket: what a trainer drops in each epoch that takes whole batches of one bucket alone."""
    return sum(count % batch_size for count in counts)


def batch_lines(counts: Sequence[int]) -> list[tuple[str, str]]:
    """For the plan: what whole batches of 1, 2, 4 and 8 would leave over."""
    return [(f"  left over by batches of {size}", f"{left_over(counts, size):,}") for size in BATCHES]
