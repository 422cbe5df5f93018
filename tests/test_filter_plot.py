"""The picture of the histograms: what is drawn where, read back from its pixels."""

import json

import numpy as np
from PIL import Image

from utils.scoring.histograms import (
    BOTTOM,
    FAILING,
    HEIGHT,
    LEFT,
    PASSING,
    RIGHT,
    THRESHOLD,
    TOP,
    WIDTH,
    Histogram,
    bin_edges,
    caption,
    draw_histograms,
)

INF = float("inf")


def columns_of(panel: np.ndarray, colour: tuple) -> np.ndarray:
    """The columns of a panel's plot area in which a colour is, as 0–1 of its width."""
    area = panel[TOP : HEIGHT - BOTTOM, LEFT : WIDTH - RIGHT]
    return np.flatnonzero((area == colour).all(2).any(0)) / area.shape[1]


def panels(picture: Image.Image) -> list[np.ndarray]:
    pixels = np.asarray(picture)
    return [pixels[i : i + HEIGHT] for i in range(0, len(pixels), HEIGHT)]


def test_bars_change_colour_at_the_thresholds():
    values = np.linspace(0, 10, 101)
    (panel,) = panels(draw_histograms([Histogram("motion_score", values, 2, 8)]))
    edges = bin_edges(values, 2, 8)
    low, high = ((bound - edges[0]) / (edges[-1] - edges[0]) for bound in (2, 8))
    blue, red, lines = (columns_of(panel, colour) for colour in (PASSING, FAILING, THRESHOLD))
    assert low - 0.01 < blue.min() < low + 0.03 and high - 0.03 < blue.max() < high + 0.01
    assert not ((red > low + 0.01) & (red < high - 0.01)).any() and red.min() < 0.03 and red.max() > high
    assert {low, high} == {bound for bound in (low, high) if (abs(lines - bound) < 0.004).any()}


def test_a_value_at_a_bound_passes():
    for value in (2, 8):
        (panel,) = panels(draw_histograms([Histogram("score", [value], 2, 8)]))
        assert len(columns_of(panel, PASSING)) and not len(columns_of(panel, FAILING))


def test_edges_rise_and_hold_every_threshold():
    for values in ([], [5.0], [0.0] * 3, np.random.default_rng(0).lognormal(0, 3, 1000)):
        for low, high in ((-INF, INF), (1, INF), (-INF, 0.02), (1.5, 25)):
            edges = bin_edges(np.array(values), low, high)
            assert (np.diff(edges) > 0).all() and {b for b in (low, high) if abs(b) < INF} <= set(edges)


def test_the_caption_counts():
    said = caption(Histogram("text_score", [0, 0, 0.01, 0.02, 0.5], -INF, 0.02, missing=3))
    assert said == "5 clips, 1 above 0.02 (20.0%), 3 without a score"
    assert caption(Histogram("motion_score", [1.0], 1.5, 25)) == "1 clip, 1 below 1.5 (100.0%), 0 above 25 (0.0%)"
    assert "10 beyond the axis" in caption(Histogram("score", [0.0] * 1000 + [1e6] * 10 + [1.0] * 20, -INF, INF))


def test_the_script_draws_each_filter(run_script, tmp_path):
    def rows(name, **columns):
        lines = [{"video_path": f"{i}.mp4", **{c: v[i] for c, v in columns.items()}} for i in range(4)]
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    rows("clips.jsonl", duration=[4, 5, 6, 20])
    rows("text_score.jsonl", text_score=[0, 0, 0.5, 0])
    rows("technical_score.jsonl", technical_score=[[5, 6], [float("nan")], [1, 2], [7, 8]])
    flags = [
        "--video_metadata_path", "clips.jsonl", "--text_score_metadata_path", "text_score.jsonl",
        "--filter", "technical_score.jsonl", "technical_score", 4, INF,
    ]  # fmt: skip
    run_script("filter_videos_by_motion_score.py", *flags, "--plot", "new/scores.png")
    duration, technical, text = panels(Image.open(tmp_path / "new" / "scores.png"))
    for panel in (duration, technical, text):
        assert len(columns_of(panel, PASSING)) and len(columns_of(panel, FAILING)) and len(columns_of(panel, THRESHOLD))
    with_plot = (tmp_path / "train.jsonl").read_text(), (tmp_path / "dropped.jsonl").read_text()
    assert '"0.mp4"' in with_plot[0] and with_plot[0].count("\n") == 1
    run_script("filter_videos_by_motion_score.py", *flags)
    assert ((tmp_path / "train.jsonl").read_text(), (tmp_path / "dropped.jsonl").read_text()) == with_plot
    error = run_script("filter_videos_by_motion_score.py", *flags, "--plot", "scores.jpg", code=2).stderr
    assert "scores.jpg does not end in .png" in error


def test_no_clips_are_an_empty_picture(run_script, tmp_path):
    (tmp_path / "clips.jsonl").write_text("")
    run_script("filter_videos_by_motion_score.py", "--video_metadata_path", "clips.jsonl", "--plot", "scores.png")
    (panel,) = panels(Image.open(tmp_path / "scores.png"))
    assert not len(columns_of(panel, PASSING)) and not len(columns_of(panel, FAILING))
