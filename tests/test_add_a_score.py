"""The score of docs/add_a_score.md, taken from the page: it runs, resumes, filters, shares its work between ranks, and is
one line of stage 2.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SCRIPT_VARIABLES, without_provenance, write_video

from utils.rows import read_rows

PAGE = (ROOT / "docs" / "add_a_score.md").read_text(encoding="utf-8")
SCRIPT = "compute_black_share.py"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in SCRIPT_VARIABLES} | {"PYTHONPATH": str(ROOT)}


def fenced(language: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return code


def half_black(share: float) -> np.ndarray:
    """uint8 (90, 160): the left `share` black, the rest bright, over a wave that keeps encoders busy."""
    frame = np.full((90, 160), 180, np.uint8) + (np.arange(160) % 40).astype(np.uint8)
    frame[:, : round(160 * share)] = 0
    return frame


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder with the project's scripts and the one of the page."""
    for path in (*ROOT.glob("*.py"), ROOT / "utils", ROOT / "presets", ROOT / "tools"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / SCRIPT).write_text(fenced("python"), encoding="utf-8")
    return tmp_path


@pytest.fixture
def clips(tmp_path) -> Path:
    """Three clips of 3.5 seconds, whose black shares are 0, a quarter and three quarters, and a file that is no video."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for share in (0, 25, 75):
        rolled = (np.roll(half_black(share / 100), i, axis=0 if share else 1) for i in range(84))
        write_video(folder / f"black{share:02}.mp4", rolled)
    (folder / "text.mp4").write_text("no video")
    return folder


def run(command: list, folder: Path) -> str:
    ran = subprocess.run([*map(str, command)], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_page_is_short():
    assert len(fenced("python").splitlines()) <= 60
    assert len(fenced("sh").splitlines()) == 1


def test_it_measures_filters_and_resumes(project, clips):
    flags = ["--video_folder", clips, "--saved_path", "black_share.jsonl"]
    assert "4 rows in = 3 scored + 1 errors" in run([sys.executable, SCRIPT, *flags], project)
    rows = {row["video_path"]: row for row in read_rows(project / "black_share.jsonl")}
    assert {name: round(row["black_share"], 1) for name, row in rows.items()} == {
        "black00.mp4": 0.0, "black25.mp4": 0.2, "black75.mp4": 0.8,
    }  # fmt: skip
    assert rows["black00.mp4"]["sample_frame_idx"] == [0, 21, 42, 63]
    settings = json.loads((project / "black_share.settings.json").read_text())
    assert without_provenance(settings) == {"file": "black_share.jsonl", "method": "uniform", "count": 4, "version": 1}
    assert settings["script"] == SCRIPT and settings["inputs"] == {}  # a folder is no file
    assert "4 of 4 done before, 0 due" in run([sys.executable, SCRIPT, *flags], project)
    (project / "clips.jsonl").write_text(
        "".join(json.dumps({"video_path": name, "duration": 3.5}) + "\n" for name in rows)
    )
    line = re.search(r"`(--filter black_share.jsonl [^`]*)`", PAGE)[1].split()
    kept = ["--video_metadata_path", "clips.jsonl", "--saved_path", "train.jsonl"]
    run([sys.executable, "filter_videos_by_motion_score.py", *kept, *line], project)
    assert [row["video_path"] for row in read_rows(project / "train.jsonl")] == ["black00.mp4", "black25.mp4"]
    (dropped,) = read_rows(project / "dropped.jsonl")
    assert dropped["reason"] == "black_share above 0.5"


@pytest.fixture
def whole(project, clips) -> list[dict]:
    """The rows of thirty more clips."""
    for i in range(30):
        (clips / f"copy{i:02}.mp4").hardlink_to(clips / f"black{(0, 25, 75)[i % 3]:02}.mp4")
    run([sys.executable, SCRIPT, "--video_folder", clips, "--saved_path", "whole.jsonl"], project)
    rows = read_rows(project / "whole.jsonl")
    assert len(rows) == 33
    return rows


def test_a_kill_half_way_gives_the_rows_of_one_run(project, clips, whole):
    flags = ["--video_folder", str(clips), "--saved_freq", "1"]
    killed = [sys.executable, SCRIPT, *flags, "--n_jobs", "1", "--saved_path", "killed.jsonl"]
    process = subprocess.Popen(killed, cwd=project, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL)
    saved, deadline = project / "killed.jsonl", time.monotonic() + 60
    while not (saved.is_file() and saved.read_bytes().count(b"\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = saved.read_bytes().count(b"\n")
    assert 3 <= done < 33
    again = run(killed, project)
    assert 3 <= int(re.search(r"([\d]+) of 34 done before", again)[1]) < 34
    assert read_rows(saved) == whole


@pytest.mark.release
def test_two_ranks_give_the_rows_of_one_run(project, clips, whole):
    flags = ["--video_folder", str(clips), "--saved_freq", "1"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run([*torchrun, SCRIPT, *flags, "--saved_path", "ranks.jsonl"], project)
    assert read_rows(project / "ranks.jsonl") == whole and not list(project.glob("*.part-*"))


def test_one_line_adds_it_to_stage_2(project, clips):
    stage = (ROOT / "stage_2_filter_data.sh").read_text(encoding="utf-8")
    text_line = next(line for line in stage.splitlines(keepends=True) if "compute_text_score.py" in line)
    (project / "stage.sh").write_text(stage.replace(text_line, text_line + fenced("sh")), encoding="utf-8")
    dataset = project / 'it\'s a "data set" *'
    dataset.mkdir()
    rows = [{"video_path": path.name, "duration": 3.5} for path in clips.iterdir()]
    (dataset / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = ENVIRONMENT | {
        "PYTHON": sys.executable, "PRESET": "embedded", "DATASET_FOLDER": str(dataset), "VIDEO_FOLDER": str(clips),
        "VIDEO_METADATA_PATH": str(dataset / "clips.jsonl"),
        "QUALITY_THRESHOLD": "0", "TEXT_SCORE_THRESHOLD": "1", "ACTIVITY_THRESHOLD": "0",
        "HIGH_MOTION_SCORE_THRESHOLD": "1000", "CUT_INSIDE_THRESHOLD": "1",
    }  # fmt: skip
    ran = subprocess.run(["sh", "stage.sh"], cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert {row["video_path"] for row in read_rows(dataset / "motion_score.jsonl")} == {"black00.mp4", "black25.mp4"}
    trained = read_rows(dataset / "train.jsonl")
    assert {row["video_path"] for row in trained} == {"black00.mp4", "black25.mp4"}
    assert all({"technical_score", "text_score", "black_share", "motion_score"} <= set(row) for row in trained)
    reasons = {row["video_path"]: row["reason"] for row in read_rows(dataset / "dropped.jsonl")}
    assert reasons == {"black75.mp4": "black_share above 0.5", "text.mp4": "no technical_score"}
    order = re.findall(r"^(\w+_\w+) .*\d%$", ran.stdout, re.MULTILINE)
    assert order == ["technical_score", "text_score", "black_share", "motion_score", "cut_inside"]
