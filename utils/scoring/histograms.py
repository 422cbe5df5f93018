"""Histograms of scores with their thresholds, as one picture, drawn with Pillow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 960, 280  # pixels of one histogram
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 62, 46  # margins around its bars
BINS = 60
FEW = 200  # values, up to which the axis shows all of them
PASSING, FAILING, THRESHOLD = (47, 111, 176), (214, 140, 130), (176, 32, 32)
INK, GREY, GRID = (30, 30, 30), (110, 110, 110), (228, 228, 228)


@dataclass
class Histogram:
    """The values of a score and the bounds [low, high] that pass; infinite ones are none. `missing`: rows without it."""

    name: str
    values: Sequence[float]
    low: float
    high: float
    missing: int = 0


def draw_histograms(histograms: Sequence[Histogram]) -> Image.Image:
    """One below the other; values that pass in blue, others in red, thresholds as lines with their number.

    The height of a bar is the square root of its count, so that a few clips are seen beside many. The axis shows every
    threshold and the middle 98 % of the values (of a few, all); what lies beyond is in the first and last bar, and the
    caption says so.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT * max(len(histograms), 1)), "white")
    for i, histogram in enumerate(histograms):
        picture.paste(_panel(histogram), (0, i * HEIGHT))
    return picture


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


def _panel(histogram: Histogram) -> Image.Image:
    values, low, high = np.asarray(histogram.values, float), histogram.low, histogram.high
    edges = bin_edges(values, low, high)
    inside = np.where(edges == high, np.nextafter(high, np.inf), edges)  # a value at the upper bound passes
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), inside)[0]
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    title, small = ImageFont.load_default(20), ImageFont.load_default(14)
    floor, top = HEIGHT - BOTTOM, TOP + 18
    most = max(int(counts.max()), 1)

    def x(value: float) -> float:
        return LEFT + (value - edges[0]) / (edges[-1] - edges[0]) * (WIDTH - LEFT - RIGHT)

    def y(count: float) -> float:
        return floor - math.sqrt(count / most) * (floor - top)

    draw.text((LEFT, 8), histogram.name, INK, title)
    draw.text((WIDTH - RIGHT, 14), "blue passes, red does not; heights are square roots", GREY, small, anchor="ra")
    draw.text((LEFT, 36), caption(histogram), GREY, small)
    for count in _count_ticks(most):
        draw.line([(LEFT, y(count)), (WIDTH - RIGHT, y(count))], GRID)
        draw.text((LEFT - 8, y(count)), f"{count:,.0f}", GREY, small, anchor="rm")
    for left, right, count in zip(edges, edges[1:], counts):
        if count:
            passes = low <= left and right <= high
            box = [x(left) + 0.5, min(y(count), floor - 2), max(x(right) - 1.5, x(left) + 0.5), floor]
            draw.rectangle(box, PASSING if passes else FAILING)
    draw.line([(LEFT, floor), (WIDTH - RIGHT, floor)], INK)
    for value in _ticks(edges[0], edges[-1]):
        draw.line([(x(value), floor), (x(value), floor + 5)], INK)
        draw.text((x(value), floor + 9), number(value), INK, small, anchor="ma")
    for bound, side, text in ((low, 1, f"from {number(low)}"), (high, -1, f"up to {number(high)}")):
        if math.isfinite(bound):
            draw.line([(x(bound), TOP), (x(bound), floor)], THRESHOLD, 2)
            room = WIDTH - RIGHT - x(bound) if side > 0 else x(bound) - LEFT
            side = side if room > draw.textlength(text, small) + 4 else -side
            draw.text((x(bound) + 4 * side, top - 2), text, THRESHOLD, small, anchor="lb" if side > 0 else "rb")
    if not len(values):
        draw.text(((LEFT + WIDTH - RIGHT) / 2, (top + floor) / 2), "no clip has this score", GREY, title, anchor="mm")
    return picture


def caption(histogram: Histogram) -> str:
    """How many values there are, how many lie outside the bounds and outside the picture, and how many rows have none."""
    values = np.asarray(histogram.values, float)
    parts = [f"{len(values):,} clip{'' if len(values) == 1 else 's'}"]
    for word, bound, count in (
        ("below", histogram.low, int((values < histogram.low).sum())),
        ("above", histogram.high, int((values > histogram.high).sum())),
    ):
        if math.isfinite(bound):
            parts.append(f"{count:,} {word} {number(bound)} ({count / max(len(values), 1):.1%})")
    edges = bin_edges(values, histogram.low, histogram.high)
    if beyond := int(((values < edges[0]) | (values > edges[-1])).sum()):
        parts.append(f"{beyond:,} beyond the axis, in its first and last bar")
    if histogram.missing:
        parts.append(f"{histogram.missing:,} without a score")
    return ", ".join(parts)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _ticks(start: float, stop: float, about: int = 8) -> list[float]:
    """At most `about` + 1 multiples of 1, 2 or 5 times a power of ten, from `start` to `stop`."""
    step = 10 ** math.floor(math.log10((stop - start) / about))
    step *= next(factor for factor in (1, 2, 5, 10) if (stop - start) / (factor * step) <= about)
    return [i * step for i in range(math.ceil(start / step - 1e-9), math.floor(stop / step + 1e-9) + 1)]


def _count_ticks(most: int) -> list[int]:
    """0, `most`, and those of 1, 2, 5, 10, … between that stand clear of their neighbours when their square root is
    drawn.
    """
    ticks = [most]
    for count in [factor * 10**power for power in range(len(str(most)) - 1, -1, -1) for factor in (5, 2, 1)]:
        if count < most and math.sqrt(ticks[-1] / most) - math.sqrt(count / most) > 0.15 < math.sqrt(count / most):
            ticks.append(count)
    return [*ticks, 0]
