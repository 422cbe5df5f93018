"""The card of an export, README.md: its contents, how it was made, and how to start training with it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from utils.captioning.attributes import PLACEHOLDER, is_placeholder
from utils.export.formats.entry import Entry
from utils.rows.columns import BOXES

BARS = " ▁▂▃▄▅▆▇█"
BINS = 20
NOT_SHOWN = {"start_seconds", "end_seconds", "bytes", "sample_frame_idx", "sampled_frame_idx", *BOXES}


def histogram(values: Sequence[float]) -> str:
    """A line of bars from the minimum to the maximum."""
    counts, _ = np.histogram(values, BINS)
    return "".join(BARS[-(-int(count) * (len(BARS) - 1) // max(1, int(counts.max())))] for count in counts)


def numbers_of(entries: Sequence[Entry]) -> dict[str, list[float]]:
    """The columns of the clips that hold numbers, with their values; of a list of numbers, its mean."""
    found: dict[str, list[float]] = {
        "seconds": [e.frames / float(e.fps) for e in entries if not e.is_still],
        "frames": [e.frames for e in entries if not e.is_still],
    }
    found = {name: values for name, values in found.items() if values}
    for name in dict.fromkeys(name for e in entries for name in e.row if name not in NOT_SHOWN):
        values = [_number(e.row.get(name)) for e in entries]
        known = [value for value in values if value is not None and np.isfinite(value)]
        if len(known) * 2 > len(values):
            found.setdefault(name, known)
    return found


def _number(value: object) -> float | None:
    if isinstance(value, list) and value and all(isinstance(v, (int, float)) for v in value):
        return float(np.mean(value))
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def card(
    name: str,
    entries: Mapping[str, Sequence[Entry]],
    starts: Sequence[str],
    settings: Mapping[str, object],
    dropped: Counter,
    filters: Mapping | None,
    license: str | None,
) -> str:
    """Markdown, with the header that hubs read. `entries` by split; `starts`: flags of the trainer; `filters`: what the rows were chosen by."""
    everything = [entry for group in entries.values() for entry in group]
    clips = [e for e in everything if not e.is_still]
    hours = sum(e.frames / float(e.fps) for e in clips) / 3600
    sources = len({str(e.row.get("source_path") or e.row["video_path"]) for e in clips})
    stills = f", and {len(everything) - len(clips):,} images" if len(clips) < len(everything) else ""
    header = ["---", *([f"license: {json.dumps(license)}"] if license else []), "task_categories:", "- text-to-video"]
    header += [f"size_categories:\n- {_size_category(len(everything))}", "---"]
    lines = [*header, f"# {name}", "", f"{len(clips):,} clips, {hours:.2f} hours, from {sources:,} videos{stills}."]
    if made_up := sum(is_placeholder(e.row) for e in everything):
        lines += ["", f"**{made_up:,} captions are placeholders, {PLACEHOLDER}.**", ""]
    if len(entries) > 1:
        lines.append(
            "Splits, by source: " + ", ".join(f"{split} {len(group):,}" for split, group in entries.items()) + "."
        )
    lines += ["", "| size | fps | clips |", "|---|---|---|"]
    sizes = Counter((e.width, e.height, "image" if e.is_still else f"{round(float(e.fps), 3):g}") for e in everything)
    lines += [f"| {w}x{h} | {fps} | {count:,} |" for (w, h, fps), count in sizes.most_common(20)]
    lines += ["", "| column | minimum | median | maximum | |", "|---|---|---|---|---|"]
    for column, values in numbers_of(everything).items() if everything else ():
        low, middle, high = (f"{v:.4g}" for v in (min(values), float(np.median(values)), max(values)))
        lines.append(f"| {column} | {low} | {middle} | {high} | `{histogram(values)}` |")
    for model in ("image_caption_model", "summary_model"):
        if names := Counter(str(e.row[model]) for e in everything if e.row.get(model)):
            lines += ["", f"{model}: " + ", ".join(f"{key} ({count:,})" for key, count in names.most_common())]
    if filters:
        lines += ["", "## Filters", "```json", json.dumps(filters, indent=1, ensure_ascii=False), "```"]
    if dropped:
        lines += ["", "## Not exported", *(f"- {reason}: {count:,}" for reason, count in dropped.most_common())]
    lines += ["", "## Settings", "```json", json.dumps(settings, ensure_ascii=False), "```"]
    lines += [
        "",
        "## Start a trainer",
        "```",
        *starts,
        "```",
        "Paths are those of the machine of the export: after a move, export again.",
    ]
    licences = Counter(str(e.row["license"]) for e in everything if e.row.get("license"))
    said = [f"- {key}: {count:,}" for key, count in licences.most_common()] or [
        license or "Not known: they are those of the sources."
    ]
    return "\n".join([*lines, "", "## Licences", *said, ""])


def _size_category(count: int) -> str:
    bounds = (
        ("n<1K", 1_000),
        ("1K<n<10K", 10_000),
        ("10K<n<100K", 100_000),
        ("100K<n<1M", 1_000_000),
        ("1M<n<10M", 10_000_000),
    )
    return next((name for name, bound in bounds if count < bound), "n>10M")


def filters_of(path: str | None) -> dict | None:
    """What the list's rows were chosen by, from the file that the filter leaves beside it."""
    settings = Path(path or "").with_suffix(".settings.json")
    try:
        found = json.loads(settings.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or "filters" not in found:
        return None
    return {name: value for name, value in found.items() if name not in ("script", "inputs")}
