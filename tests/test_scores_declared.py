"""What the scripts declare of their scores is what they write, and what presets, flags and docs say."""

import argparse
import importlib
import json
import re
import subprocess

import cv2
import pytest
from conftest import ROOT, without_provenance, write_video
from skimage import data

from tools.stage_settings import BY_NAME, PRESETS
from utils.cli import add_filter_arguments
from utils.pipeline.score import Column, Score
from utils.rows import read_rows

SCRIPTS = {path.name: importlib.import_module(path.stem) for path in sorted(ROOT.glob("compute_*.py"))}
SCORES: dict[str, Score] = {name: module.SCORE for name, module in SCRIPTS.items()}
COLUMNS: dict[str, Column] = {  # of questions, files of the user's among them, docs have no table
    name: column for script, score in SCORES.items() if script != "compute_vlm_score.py" for name, column in score.columns.items()
}  # fmt: skip
BOUNDS = {name: column.passes for name, column in COLUMNS.items() if column.passes != (None, None)}
KNOWN = {  # the settings of a run without flags, as they have been since 0.1: with others, older files would not resume
    "compute_video_frame_quality.py": {"metrics": "TechnicalScore", "method": "uniform", "count": 4, "version": 1},
    "compute_text_score.py": {
        "method": "mid", "count": 1, "detector": "PP-OCRv6_det_small.onnx", "box_threshold": 0.6, "version": 2, "look": "parts",
    },
    "compute_motion_score.py": {
        "estimator": "dis", "short_side": 256, "sampling_fps": 2, "cut_inside": "ask", "version": 1, "activity": True, "camera": "background",  # without: flow, no activity, the whole frame
    },
}  # fmt: skip


def test_every_score_is_declared_with_its_bounds():
    assert set(KNOWN) <= set(SCORES)
    assert BOUNDS == BOUNDS | {
        "technical_score": (4, None), "aesthetic_score": (4, None), "aesthetic_score_siglip": (4, None),
        "semantic_consistency": (0.8, None), "text_score": (None, 0.02), "motion_score": (None, 25),
        "activity": (1.5, None), "cut_inside": (None, 0.5),
    }  # fmt: skip
    for name, column in COLUMNS.items():
        low, high = column.passes
        assert column.meaning and (low is None or low >= column.low) and (high is None or high <= column.high), name


@pytest.mark.parametrize(
    "script", sorted({*SCRIPTS} - {"compute_vlm_score.py"})
)  # whose columns are its questions: tests/test_vlm_score.py
def test_a_run_writes_the_columns_that_are_declared(run_script, tmp_path, script):
    photo = cv2.resize(data.coffee(), (480, 320))
    frames = (cv2.getRectSubPix(photo, (240, 160), (130 + 2 * i, 160)) for i in range(48))
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "clip.mp4", frames)
    run_script(script, "--video_folder", "clips", "--saved_path", "score.jsonl", "--n_jobs", 1)
    (row,) = read_rows(tmp_path / "score.jsonl")
    declared = SCORES[script].columns
    if hasattr(SCRIPTS[script], "METRICS"):
        declared = {
            **{
                name: declared[name]
                for name in ("sample_frame_idx", "bits_per_pixel", "frame_rate", "frame_rate_class")
            },
            **SCRIPTS[script].METRICS["TechnicalScore"].columns,
        }
    assert set(row) == {"video_path", *declared, "made_from"}
    assert re.fullmatch(rf"- [0-9a-f]{{16}} {(tmp_path / 'clips' / 'clip.mp4').stat().st_size}", row["made_from"])
    for name, column in declared.items():
        for value in row[name] if isinstance(row[name], list) else [row[name]]:
            assert isinstance(value, str) or column.low <= value <= column.high, f"{name} is {value}"
    settings = json.loads((tmp_path / "score.settings.json").read_text())
    assert settings["script"] == script
    if script in KNOWN:
        assert KNOWN[script] | {"file": "score.jsonl"} == without_provenance(settings)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_thresholds(preset):
    """Each preset's, and the column that QUALITY_SCORE names is one of its METRICS."""
    names = ("QUALITY_SCORE", "QUALITY_THRESHOLD", "METRICS", "OVERLAY_TEXT_THRESHOLD", "MIN_CROP_SHARE", "MIN_SHORT_SIDE", "LOW_MOTION_SCORE_THRESHOLD",
             "HIGH_MOTION_SCORE_THRESHOLD", "ACTIVITY_THRESHOLD", "CUT_INSIDE_THRESHOLD")  # fmt: skip
    shown = " ".join(f'"${name}"' for name in names)
    command = f'set -eu; PYTHON=python; . "$0"; . "${{0%/*}}/thresholds.sh"; printf "%s\\n" {shown}'
    ran = subprocess.run(
        ["sh", "-c", command, ROOT / "presets" / f"{preset}.sh"], env={}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    score, quality, metrics, text, crop, side, low, high, activity, cut = ran.stdout.splitlines()
    assert score in [SCRIPTS["compute_video_frame_quality.py"].METRICS[name].column for name in metrics.split()]
    assert BOUNDS[score] == (float(quality), None)
    assert BOUNDS["overlay_text_share"] == (None, float(text))
    assert BOUNDS["crop_share"] == (float(crop), None) and BOUNDS["crop_short_side"] == (float(side), None)
    assert BOUNDS["motion_score"] == (None, float(high)) and low == "none"
    assert BOUNDS["activity"] == (float(activity), None)
    assert BOUNDS["cut_inside"] == (None, float(cut))


def test_the_filter_flags_defaults():
    parser = argparse.ArgumentParser()
    add_filter_arguments(parser, motion=True)
    flags = parser.parse_args([])
    assert BOUNDS["aesthetic_score"] == (flags.aesthetic_score_threshold, None)
    assert BOUNDS["text_score"] == (None, flags.text_score_threshold)
    # The script alone, which may be given scores without an activity, also has the lowest motion score that stage 2 had.
    assert (flags.low_motion_score_threshold, flags.high_motion_score_threshold) == (1.5, BOUNDS["motion_score"][1])


@pytest.mark.parametrize("page", ["docs/design.md", "docs/scores.md"])
def test_the_docs_tables_of_scores(page):
    """A row `| column | … | bounds |` has the declared bounds, and every column with bounds has a row."""
    table = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    rows = {name: bounds_in(cell) for name, cell in table if name in COLUMNS}
    assert rows == rows | BOUNDS
    assert all(COLUMNS[name].passes == bounds for name, bounds in rows.items())


def bounds_in(cell: str) -> tuple[float | None, float | None]:
    """ "mean ≥ 4", "≤ 0.02", "1.5–25" or nothing."""
    numbers = [float(number.replace("−", "-")) for number in re.findall(r"−?\d+(?:\.\d+)?", cell)]
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    return (numbers[0] if "≥" in cell else None, numbers[0] if "≤" in cell else None) if numbers else (None, None)


def test_the_table_of_settings_has_the_thresholds_of_the_scores():
    """Its defaults are those of the embedded preset."""
    of_scores = {
        "QUALITY_THRESHOLD": BOUNDS["technical_score"][0], "ACTIVITY_THRESHOLD": BOUNDS["activity"][0], "HIGH_MOTION_SCORE_THRESHOLD": BOUNDS["motion_score"][1],
        "CUT_INSIDE_THRESHOLD": BOUNDS["cut_inside"][1], "MIN_CROP_SHARE": BOUNDS["crop_share"][0], "OVERLAY_TEXT_THRESHOLD": BOUNDS["overlay_text_share"][1],
    }  # fmt: skip
    assert {name: float(BY_NAME[name].default) for name in of_scores} == of_scores
