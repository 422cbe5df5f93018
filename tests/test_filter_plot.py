"""The histograms of the filter: which bars pass, where the thresholds are."""

import json

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image, ImageColor

from utils.scoring.histograms import FAILING, PASSING, THRESHOLD, Histogram, bin_edges, caption, draw_histograms

INF = float("inf")


def bars(axes, colour: str) -> list[tuple[float, float]]:
    """The spans [left, right) of the bars of a colour that hold a value."""
    found = [
        (b.get_x(), b.get_x() + b.get_width())
        for b in axes.patches
        if to_hex(b.get_facecolor()) == colour and b.get_height()
    ]
    return sorted(found)


def lines(axes) -> set[float]:
    return {line.get_xdata()[0] for line in axes.lines}


def has_colour(path, colour: str) -> bool:
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return bool((pixels == ImageColor.getrgb(colour)).all(2).any())


def test_bars_change_colour_at_the_thresholds():
    (axes,) = draw_histograms([Histogram("motion_score", np.linspace(0, 10, 101), 2, 8)]).axes
    blue, red = bars(axes, PASSING), bars(axes, FAILING)
    assert np.allclose([blue[0][0], blue[-1][1]], [2, 8]) and lines(axes) == {2, 8}
    assert red[0][0] == 0 and red[-1][1] > 10 and not any(2 < (a + b) / 2 < 8 for a, b in red)


def test_a_value_at_a_bound_passes():
    for value in (2, 8):
        (axes,) = draw_histograms([Histogram("score", [value], 2, 8)]).axes
        assert len(bars(axes, PASSING)) == 1 and not bars(axes, FAILING)


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
    assert all(has_colour(tmp_path / "new" / "scores.png", colour) for colour in (PASSING, FAILING, THRESHOLD))
    with_plot = (tmp_path / "train.jsonl").read_text(), (tmp_path / "dropped.jsonl").read_text()
    assert '"0.mp4"' in with_plot[0] and with_plot[0].count("\n") == 1
    run_script("filter_videos_by_motion_score.py", *flags)
    assert ((tmp_path / "train.jsonl").read_text(), (tmp_path / "dropped.jsonl").read_text()) == with_plot
    error = run_script("filter_videos_by_motion_score.py", *flags, "--plot", "scores.jpg", code=2).stderr
    assert "scores.jpg does not end in .png" in error


def test_no_clips_give_empty_histograms(run_script, tmp_path):
    (tmp_path / "clips.jsonl").write_text("")
    run_script("filter_videos_by_motion_score.py", "--video_metadata_path", "clips.jsonl", "--plot", "scores.png")
    assert not has_colour(tmp_path / "scores.png", PASSING) and not has_colour(tmp_path / "scores.png", FAILING)
