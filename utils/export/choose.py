"""Which clips are exported, and which are held out for validation: the same for the same rows in any order."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from utils.export.beside import given
from utils.video_utils import is_video_name


def choose(
    rows: Sequence[dict], plan: list[dict], max_per_source: int | None, balance: str | None, val_share: float
) -> None:
    """Leave out of the plan what is too much of one kind, and split what stays."""
    left = [row for row, planned in zip(rows, plan, strict=True) if not planned["reason"]]
    if max_per_source:
        left = _without(left, over_source_limit(left, max_per_source), plan, f"max_per_source {max_per_source}")
    if balance:
        left = _without(left, over_balance(left, balance), plan, f"balance {balance}")
    if val_share:
        held = validation(left, val_share)
        for planned in plan:
            if not planned["reason"]:
                planned["split"] = "val" if planned["video_path"] in held else "train"


def leave_out_without(rows: Sequence[dict], plan: list[dict], columns: Sequence[str], only: Mapping[str, str]) -> None:
    """Leave out the clips without a path in one of these columns where others have one: trainers want it of every clip or of none. `only`: whether a trainer takes a "video" or an
    "image" in a column that does not take both; or the "same" as the clip, which may be an image.
    """
    for column in columns:
        paths = [given(row, [column]).get(column, "") for row in rows]
        for path, planned in zip(paths, plan, strict=True):
            kind, wanted = _kind(path), only.get(column, "")
            wanted = _kind(planned["video_path"]) if wanted == "same" else wanted
            if path and not planned["reason"] and wanted not in ("", kind):
                planned.update(reason=column, does=f"its {column} is no {wanted}, which the trainer takes alone")
        kept = [(path, planned) for path, planned in zip(paths, plan, strict=True) if not planned["reason"]]
        if column != "first_frame" and any(path for path, _ in kept):
            for path, planned in kept:
                if not path:
                    planned.update(reason=column, does=f"it has no {column}, and other clips of the set have one")


def _kind(path: str) -> str:
    return "video" if is_video_name(os.path.basename(path)) else "image"


def leave_out_silent(plan: list[dict], silent: str) -> None:
    """Leave out the clips without audio where the trainer takes them "never", or "alone" and others have some."""
    kept = [planned for planned in plan if not planned["reason"]]
    if silent == "never" or (silent == "alone" and any(planned["has_audio"] for planned in kept)):
        for planned in kept:
            if not planned["has_audio"]:
                why = "" if silent == "never" else ", and other clips of the set have some"
                planned.update(reason="no audio", does=f"it has no audio, of which the trainer learns{why}")


def _without(rows: list[dict], gone: set[str], plan: Sequence[dict], flag: str) -> list[dict]:
    """The rows that are not `gone`, which the plan notes."""
    for planned in plan:
        if planned["video_path"] in gone:
            planned.update(reason=flag.partition(" ")[0], does=f"--{flag}")
    return [row for row in rows if row["video_path"] not in gone]


def mixed(path: str) -> str:
    """Pseudo-random, stable sort key for sampling clips: unlike names, it says nothing of their source or time."""
    return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()


def source_of(row: dict) -> str:
    """The video that a clip was cut from; a clip of which that is not known is its own."""
    return str(row.get("source_path") or row["video_path"])


def over_source_limit(rows: Sequence[dict], limit: int) -> set[str]:
    """The clips that are too many where no source may give more than `limit`."""
    return _beyond(rows, source_of, limit)


def over_balance(rows: Sequence[dict], column: str) -> set[str]:
    """The clips that are too many where no value of `column` may have more than the rarest. Numbers are told apart by quartile, lists and
    objects by their text; clips without the column are a value of their own.
    """
    value_of = _values(rows, column)
    counts: dict[Any, int] = defaultdict(int)
    for row in rows:
        counts[value_of[row["video_path"]]] += 1
    return _beyond(rows, lambda row: value_of[row["video_path"]], min(counts.values(), default=0))


def _values(rows: Sequence[dict], column: str) -> dict[str, Any]:
    found = {row["video_path"]: row.get(column) for row in rows}
    numbers = sorted(v for v in found.values() if isinstance(v, (int, float)) and not isinstance(v, bool) and v == v)
    if len(set(numbers)) <= 4:
        return {path: str(value) for path, value in found.items()}
    bounds = [numbers[len(numbers) * i // 4] for i in (1, 2, 3)]
    return {
        path: sum(value >= b for b in bounds) if isinstance(value, (int, float)) and value == value else str(value)
        for path, value in found.items()
    }


def _beyond(rows: Sequence[dict], group_of: Callable[[dict], Any], limit: int) -> set[str]:
    groups = defaultdict(list)
    for row in rows:
        groups[group_of(row)].append(row["video_path"])
    return {path for paths in groups.values() for path in sorted(paths, key=mixed)[limit:]}


def validation(rows: Sequence[dict], share: float) -> set[str]:
    """The clips that are held back, about `share` of them and never more: whole families, which are the clips of one source and of its
    duplicates, so that nothing of what is validated on has been trained on. One family at least, if there are two.
    """
    families = sorted(_families(rows), key=lambda family: min(mixed(path) for path in family))
    if share <= 0 or len(families) < 2:
        return set()
    room = share * len(rows)
    held: set[str] = set()
    for family in families:
        if len(held) + len(family) <= room:
            held |= family
    return held or min(families, key=lambda family: (len(family), min(mixed(path) for path in family)))


def _families(rows: Iterable[dict]) -> list[set[str]]:
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    clips: dict[str, tuple[str, str]] = {}
    for row in rows:
        source = ("source", source_of(row))
        clips[row["video_path"]] = source
        for column in ("duplicate_group", "same_view"):
            if group := row.get(column):
                parent[root(("group", str(group)))] = root(source)
    families = defaultdict(set)
    for path, source in clips.items():
        families[root(source)].add(path)
    return list(families.values())
