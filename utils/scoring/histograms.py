"""Histograms of scores with their thresholds, as one figure, drawn by matplotlib."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BINS = 60
FEW = 200  # values, up to which the axis shows all of them
PASSING, FAILING, THRESHOLD = "#2f6fb0", "#d68c82", "#b02020"


@dataclass
class Histogram:
    """The values of a score and the bounds [low, high] that pass; infinite ones are none. `missing`: rows without it."""

    name: str
    values: Sequence[float]
    low: float
    high: float
    missing: int = 0


def draw_histograms(histograms: Sequence[Histogram]) -> Figure:
    """One below the other: values that pass in blue, others in red, thresholds as lines.

    The height of a bar is the square root of its count, so that a few clips are seen beside many. The axis shows every
    threshold and the middle 98 % of the values (of a few, all); values beyond are in the first and last bar, and the
    caption counts it.
    """
    figure = Figure(figsize=(9.6, 2.8 * max(len(histograms), 1)), dpi=100, layout="constrained")
    for axes, histogram in zip(np.ravel(figure.subplots(max(len(histograms), 1), squeeze=False)), histograms):
        _draw(axes, histogram)
    return figure


def _draw(axes: Axes, histogram: Histogram) -> None:
    values, low, high = np.asarray(histogram.values, float), histogram.low, histogram.high
    edges = bin_edges(values, low, high)
    inside = np.where(edges == high, np.nextafter(high, np.inf), edges)  # a value at the upper bound passes
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), inside)[0]
    passes = (edges[:-1] >= low) & (edges[1:] <= high)
    colours = np.where(passes, PASSING, FAILING).tolist()
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours, edgecolor="white", linewidth=0.5)
    axes.set_yscale("function", functions=(lambda count: np.sqrt(np.maximum(count, 0)), np.square))
    axes.set_ylim(0, max(counts.max(), 1) * 1.1)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_title(histogram.name, loc="left")
    axes.set_title(caption(histogram), loc="right", fontsize="small", color="gray")
    axes.set_ylabel("clips (square root)", fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    for bound in (low, high):
        if math.isfinite(bound):
            axes.axvline(bound, color=THRESHOLD)
            axes.annotate(
                f" {bound:.4g}",
                (bound, 1),
                xycoords=("data", "axes fraction"),
                color=THRESHOLD,
                va="top",
                fontsize="small",
            )


def bin_edges(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """About `BINS` + 1 rising edges, of which finite thresholds are some, so that a bar passes or fails whole."""
    bounds = [bound for bound in (low, high) if math.isfinite(bound)]
    start, stop = np.percentile(values, [1, 99] if len(values) > FEW else [0, 100]) if len(values) else (0.0, 1.0)
    start, stop = min(start, *bounds, stop), max(stop, *bounds, start)
    pad = (stop - start or abs(start) or 1.0) * 0.04
    first = start - pad if bounds and start == min(bounds) else start
    marks = sorted({first, *bounds, stop + pad})
    pieces = [
        np.linspace(a, b, max(1, round(BINS * (b - a) / (marks[-1] - marks[0]))), endpoint=False)
        for a, b in zip(marks, marks[1:])
    ]
    return np.array([*np.concatenate(pieces), marks[-1]])


def caption(histogram: Histogram) -> str:
    """How many values there are, how many are outside the bounds and beyond the axis, and how many rows have none."""
    values = np.asarray(histogram.values, float)
    parts = [f"{len(values):,} clip{'' if len(values) == 1 else 's'}"]
    for word, bound, count in (
        ("below", histogram.low, int((values < histogram.low).sum())),
        ("above", histogram.high, int((values > histogram.high).sum())),
    ):
        if math.isfinite(bound):
            parts.append(f"{count:,} {word} {bound:.4g} ({count / max(len(values), 1):.1%})")
    edges = bin_edges(values, histogram.low, histogram.high)
    if beyond := int(((values < edges[0]) | (values > edges[-1])).sum()):
        parts.append(f"{beyond:,} beyond the axis, in its first and last bar")
    if histogram.missing:
        parts.append(f"{histogram.missing:,} without a score")
    return ", ".join(parts)
