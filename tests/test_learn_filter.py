"""A filter learned from marks: the rule that it finds, what it is judged by, and what it says where marks or scores are missing."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from tools.learn_filter import (
    ClipRanks,
    auroc,
    fit,
    judge,
    ranks_of,
    read_ranks,
    suitability,
    unseen_suitability,
    worth_marking,
)
from utils.pipeline.ancestry import CLIP_COLUMNS, made_from
from utils.report.clips import Clips
from utils.rows import read_rows, write_rows

SOURCES, CLIPS = 30, 5  # videos, clips of each
FLAGS = ("--dataset_folder", ".", "--marks", "marks.jsonl")


def write_scores(folder: Path, name: str, rows: list[dict]) -> None:
    write_rows(folder / f"{name}.jsonl", rows)
    (folder / f"{name}.settings.json").write_text(json.dumps({"file": f"{name}.jsonl", "version": 1}))


@pytest.fixture
def is_good(tmp_path) -> dict[str, bool]:
    """Write a dataset whose good clips are sharper than they have text, both from 0 to 1, and return which are good. The sharpness is a list
    of two frames' and the text in other units; three more columns say nothing. Two of three videos are marked.
    """
    drawn, good = random.Random(1), {}
    clips, sharp, text, marks = [], [], [], []
    for i in range(SOURCES * CLIPS):
        source, start = f"film {i // CLIPS}.mp4", 10.0 * (i % CLIPS)
        clip = {"video_path": f"clip {i}.mp4", "source_path": source, "start_seconds": start, "end_seconds": start + 5, "duration": 5.0}  # fmt: skip
        key = {"video_path": clip["video_path"], "made_from": made_from(clip, CLIP_COLUMNS)}
        a, b = drawn.random(), drawn.random()
        clips.append(clip)
        sharp.append(key | {"sharp": [a - 0.1, a + 0.1], "noise": drawn.random(), "sample_frame_idx": [i, i]})
        text.append(key | {"text": 1000 * b**3, "is_red": drawn.random() < 0.5, "words": "a"})
        good[clip["video_path"]] = a > b
        if i // CLIPS % 3:
            marks.append({"video_path": clip["video_path"], "mark": "star" if a > b else "drop"})
    write_rows(tmp_path / "clips.jsonl", clips)
    write_rows(tmp_path / "marks.jsonl", marks)
    write_scores(tmp_path, "sharp", sharp)
    write_scores(tmp_path, "text", text)
    return good


def learn(folder: Path, *flags: str) -> str:
    command = [sys.executable, "-m", "tools.learn_filter", "--dataset_folder", str(folder), "--marks", str(folder / "marks.jsonl"), *flags]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_it_learns_a_rule_of_two_columns_and_the_filter_takes_it(tmp_path, is_good, run_script):
    printed = learn(tmp_path, "--next", "3")
    rows, marked = read_rows(tmp_path / "suitability.jsonl"), {row["video_path"] for row in read_rows(tmp_path / "marks.jsonl")}  # fmt: skip
    unmarked = [row for row in rows if row["video_path"] not in marked]
    right = [(row["suitability"] >= 0.5) == is_good[row["video_path"]] for row in unmarked]
    assert len(rows) == SOURCES * CLIPS and len(right) == 50 and sum(right) >= 45
    assert all(row["suitability"] == round(row["suitability"], 4) for row in rows)
    table = printed[printed.index("most important columns") :].splitlines()[1:3]
    assert sorted((line.split()[0], *line.split()[2:]) for line in table) == [
        ("sharp", "higher", "is", "better"),
        ("text", "lower", "is", "better"),
    ]
    settings = json.loads((tmp_path / "suitability.settings.json").read_text())
    assert settings["columns"] == ["sharp", "noise", "text", "is_red"] and settings["C"] > 0
    assert settings["inputs"].keys() == {"clips.jsonl", "sharp.jsonl", "text.jsonl", "marks.jsonl"}

    nearest = sorted(unmarked, key=lambda row: abs(row["suitability"] - 0.5))
    assert {row["video_path"] for row in read_rows(tmp_path / "next_to_mark.jsonl")} <= {r["video_path"] for r in nearest[:6]}  # fmt: skip

    command = printed[printed.index("to filter by it:") :].splitlines()[1]
    subprocess.run(command, shell=True, cwd="/", check=True, capture_output=True)
    kept = {row["video_path"]: row["suitability"] for row in read_rows(tmp_path / "train.jsonl")}
    assert kept == {row["video_path"]: row["suitability"] for row in rows if row["suitability"] >= 0.5}
    # Learned again, its own result is no input, and what it chose itself nothing to compare with.
    assert "nothing to compare with" in learn(tmp_path)
    assert read_rows(tmp_path / "suitability.jsonl") == rows
    write_rows(tmp_path / "marks.jsonl", read_rows(tmp_path / "marks.jsonl")[:60])
    flags = ("--video_metadata_path", "clips.jsonl", "--filter", "suitability.jsonl", "suitability", 0.5, "none")
    again = run_script("filter_videos_by_motion_score.py", *flags, code=2).stderr
    assert "marks.jsonl; run python -m tools.learn_filter" in again


def test_it_is_judged_by_sources_that_it_has_not_seen_beside_the_thresholds(tmp_path, is_good, ended):
    """Each source has a mark of its own and a column by which it is known: what tells nothing of another source."""
    sources = [f"{i // 4}" for i in range(80)]
    is_star = np.array([int(source) % 2 == 0 for source in sources])
    values = np.eye(20)[[int(source) for source in sources]] * 4
    assert auroc(suitability(fit(values, is_star), values), is_star) == 1
    assert auroc(unseen_suitability(values, is_star, [f"{i}" for i in range(80)]), is_star) > 0.9
    assert auroc(unseen_suitability(values, is_star, sources), is_star) < 0.6

    write_rows(tmp_path / "train.jsonl", [row for row in read_rows(tmp_path / "clips.jsonl")][::2])
    code, printed = ended("tools.learn_filter", *FLAGS)
    learned, thresholds = (next(line for line in printed.splitlines() if line.startswith(name)) for name in ("  learned", "  train.jsonl"))  # fmt: skip
    purity, recall, area = map(float, learned.split()[-3:])
    assert code == 0 and min(purity, recall, area) > 0.85 > max(map(float, thresholds.split()[-2:]))


def test_too_few_marks(tmp_path, is_good, ended):
    marks = read_rows(tmp_path / "marks.jsonl")
    stars, drops = ([row for row in marks if row["mark"] == mark] for mark in ("star", "drop"))
    write_rows(tmp_path / "marks.jsonl", stars[:15] + drops[:1])
    code, printed = ended("tools.learn_filter", *FLAGS, "--next", 7)
    assert code == 1 and "a filter needs 20 clips of each kind: mark 5 more starred and 19 more dropped" in printed
    assert len(read_rows(tmp_path / "next_to_mark.jsonl")) == 7 and not (tmp_path / "suitability.jsonl").exists()
    (tmp_path / "next_to_mark.jsonl").unlink()
    write_rows(tmp_path / "marks.jsonl", stars[:30])
    code, printed = ended("tools.learn_filter", *FLAGS)
    assert code == 1 and "mark 20 more dropped" in printed and not (tmp_path / "next_to_mark.jsonl").exists()


def test_clips_that_are_not_in_the_list(tmp_path, is_good, ended):
    gone = [{"video_path": "gone.mp4", "mark": "drop", "reason": "blurry"}]
    write_rows(tmp_path / "marks.jsonl", read_rows(tmp_path / "marks.jsonl") + gone)
    code, printed = ended("tools.learn_filter", *FLAGS)
    assert code == 0 and "marks.jsonl: 1 of 101 marked clips are not in the list" in printed


def test_scores_that_are_missing_or_of_older_clips(tmp_path, is_good, ended):
    text = read_rows(tmp_path / "text.jsonl")
    write_scores(tmp_path, "text", [row | ({"made_from": "01234567"} if i % 2 else {}) for i, row in enumerate(text)])
    ranks = read_ranks(str(tmp_path))
    assert ranks.columns == ["sharp", "noise", "text", "no text", "is_red"]
    assert not ranks.values[1::2, 2].any() and np.count_nonzero(ranks.values[::2, 2]) >= 74  # one may be the median
    (tmp_path / "text.jsonl").unlink()
    code, _ = ended("tools.learn_filter", *FLAGS)
    assert code == 0
    assert json.loads((tmp_path / "suitability.settings.json").read_text())["columns"] == ["sharp", "noise"]
    (tmp_path / "sharp.jsonl").unlink()
    code, printed = ended("tools.learn_filter", *FLAGS)
    assert code == 2 and ".: no score file has numbers of its clips; run stage_2_filter_data.sh" in printed


def test_wrong_files_are_sentences(tmp_path, is_good, ended):
    def refused(*flags: str) -> str:
        code, printed = ended("tools.learn_filter", *flags)
        assert code == 2
        return printed

    assert "gone/clips.jsonl: no such file" in refused("--dataset_folder", "gone", "--marks", "marks.jsonl")
    assert "gone.jsonl: no such file" in refused("--dataset_folder", ".", "--marks", "gone.jsonl")
    assert "would overwrite the scores ./text.jsonl" in refused(*FLAGS, "--saved_path", "text.jsonl")
    write_rows(tmp_path / "marks.jsonl", [{"video_path": "clip 1.mp4", "mark": "maybe"}])
    assert "marks.jsonl: row 1: 'mark' is 'maybe'" in refused(*FLAGS)


def test_ranks_and_what_is_worth_marking():
    ranks = ranks_of(np.array([5, np.nan, 1000, 5, -1, np.inf]))
    assert ranks[1] == ranks[5] == 0 and ranks[4] < ranks[0] == ranks[3] < ranks[2]
    assert ranks_of(np.arange(1000.0)).std() == pytest.approx(1, abs=1e-3)
    found = np.array([0.5, 0.51, 0.52, 0.6, 0.1, 0.49])
    assert worth_marking(found, ["a", "a", "a", "a", "b", "c"], {5}, 3) == [0, 1, 4]


def test_trees_where_they_tell_what_no_line_can(tmp_path, monkeypatch, capsys):
    """Good is what is high, or low, in both columns; a third one says nothing."""
    monkeypatch.setattr("tools.learn_filter.FOLDS", 2)
    values = np.random.default_rng(1).uniform(-1.7, 1.7, (600, 3))
    marks = dict(enumerate(values[:, 0] * values[:, 1] > 0))
    ranks = ClipRanks(Clips(None), [f"{i // 3}" for i in range(600)], [], [], values, [])
    assert judge(ranks, str(tmp_path), marks)
    line, trees = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines() if "learned" in line)
    assert line < 0.7 and trees > 0.9
    few = dict(list(marks.items())[:390])  # fewer than 200 of one kind
    assert not judge(ranks, str(tmp_path), few) and "trees" not in capsys.readouterr().out
