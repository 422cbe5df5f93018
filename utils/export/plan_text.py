"""The plan as text for the terminal: one line per clip, and a table for all."""

from collections import Counter
from collections.abc import Sequence

from utils.export.buckets import batch_lines
from utils.video.stills import is_still

LARGE_UPSCALE = 1.5  # a clip that is enlarged by more is visibly softer than those that fill the model's size


def in_words(planned: dict) -> str:
    """What is encoded of a clip."""
    said = [_size(planned)]
    if planned["box"] != [0, 0, planned["source_width"], planned["source_height"]]:
        x, y, width, height = planned["box"]
        said.append(f"cut to {width}x{height} at {x},{y}")
    if planned["upscale"] > 1.005:
        said.append(f"scaled up {planned['upscale']:g} times")
    if is_still(planned["video_path"]):
        return ", ".join(said)
    if planned["repeated_frames"]:
        said.append(f"{planned['repeated_frames']} frames shown twice")
    said.append(f"{planned['used_seconds']:g} of {planned['source_seconds']:g} s")
    return ", ".join(said)


def _size(planned: dict) -> str:
    if is_still(planned["video_path"]):
        return f"{planned['width']}x{planned['height']}, an image"
    return f"{planned['width']}x{planned['height']}, {planned['frames']} frames at {planned['fps']:g} fps"


def table(plan: Sequence[dict], unknown: str = "") -> str:
    """How many clips a trainer would skip, retime, cut or slow down as they are, what the export does with them, and how full the buckets of the trainer are then. `unknown`: a
    sentence on what the plan cannot say.
    """
    there = [planned for planned in plan if "as_is_frames" in planned]
    kept = [planned for planned in plan if not planned["reason"]]
    lines = [("as they are, the trainer would", "clips")]
    for label, count in (
        ("skip or refuse", sum(not p["as_is_frames"] for p in there)),
        ("use fewer frames than there are", sum(0 < p["as_is_frames"] < p["source_frames"] for p in there)),
        (
            "show motion at another speed",
            sum(abs(p["as_is_speed"] - 1) > 0.01 and p["as_is_frames"] > 0 for p in there),
        ),
        ("cut off or squeeze the frame", sum(p["as_is_lost"] > 0.01 for p in there)),
        ("use whole, as it is", sum(p["as_is"] == "used as it is" for p in there)),
    ):
        lines.append((f"  {label}", f"{count:,}"))
    lines.append(("the export", "clips"))
    groups = Counter(_size(p) + (f", {p['split']}" if p.get("split") else "") for p in kept)
    lines += [(f"  writes {label}", f"{count:,}") for label, count in groups.most_common(15)]
    if len(groups) > 15:
        lines.append(
            (f"  writes {len(groups) - 15:,} other kinds", f"{sum(c for _, c in groups.most_common()[15:]):,}")
        )
    if large := sum(p.get("upscale", 1) > LARGE_UPSCALE for p in kept):
        lines.append((f"  scales up by more than {LARGE_UPSCALE} (MAX_UPSCALE leaves them out)", f"{large:,}"))
    lines += [
        (f"  leaves out: {label}", f"{count:,}")
        for label, count in Counter(p["reason"] for p in plan if p["reason"]).most_common()
    ]
    buckets = Counter(
        (p["trained_width"], p["trained_height"], p["trained_frames"])
        for p in kept
        if p.get("trained_frames") and p.get("split") != "val"
    )
    lines.append(("the trainer's buckets", f"{len(buckets):,}"))
    lines += [
        (f"  {w}x{h}, {frames} frames" if frames > 1 else f"  {w}x{h}, images", f"{count:,}")
        for (w, h, frames), count in buckets.most_common(15)
    ]
    skipped = sum(p.get("trained_frames") == 0 for p in kept)
    lines += [("  none: the trainer skips them", f"{skipped:,}")] if skipped else []
    lines += batch_lines(list(buckets.values()))
    width = max(len(label) for label, _ in lines)
    text = "\n".join(f"{label:<{width}} {count:>9}" for label, count in lines)
    return f"{text}\n{unknown}" if unknown else text
