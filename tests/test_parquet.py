"""Parquet beside jsonl: the same rows come back, other programs read them, and scripts take and give either."""

import json
import math

import pandas as pd
import pyarrow
import pytest
from conftest import write_video
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from skimage import data

from utils.errors import UsageError
from utils.rows import read_rows, write_rows
from utils.rows.columns import COLUMNS

VALUES = st.recursive(
    st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5).filter(
    lambda name: name not in {"video_path", *COLUMNS}  # what those hold is checked
)
ROWS = st.lists(st.dictionaries(NAMES | st.sampled_from("abc"), VALUES, max_size=4), max_size=6)


@given(ROWS)
def test_rows_come_back_as_they_were(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    write_rows(path, rows)
    assert [json.dumps(row, sort_keys=True) for row in read_rows(path)] == [
        json.dumps(row, sort_keys=True) for row in rows
    ]


def test_numbers_texts_and_odd_values(tmp_path):
    odd = {"video_path": "é.mp4", "score": math.nan, "timecode_list": [["00:00:00.000", "00:00:01.000"]],
           "transitions": [["fade", 1.5, 2]], "attributes": {"brightness": 0.5, "main_colours": []}}  # fmt: skip
    write_rows(tmp_path / "rows.parquet", [odd, {"video_path": "b.mp4", "score": 1.5, "gone": None}])
    first, second = read_rows(tmp_path / "rows.parquet")
    assert math.isnan(first.pop("score")) and first == {k: v for k, v in odd.items() if k != "score"}
    assert second == {"video_path": "b.mp4", "score": 1.5}  # null and no column are the same


def test_pandas_reads_what_is_written(tmp_path):
    write_rows(
        tmp_path / "rows.parquet",
        [{"video_path": "ü.mp4", "n": 1, "x": 0.5, "sizes": [1, 2]}, {"video_path": "b", "x": 2.0}],
    )
    frame = pd.read_parquet(tmp_path / "rows.parquet")
    assert list(frame.video_path) == ["ü.mp4", "b"] and list(frame.x) == [0.5, 2.0] and list(frame.sizes[0]) == [1, 2]


def test_other_programs_types(tmp_path):
    table = pyarrow.table(
        {"video_path": ["a.mp4"], "when": [pd.Timestamp("2026-01-02")], "sizes": [[1, 2]], "more": [{"a": 1}]}
    )
    parquet.write_table(table, tmp_path / "list.parquet")
    assert read_rows(tmp_path / "list.parquet") == [
        {"video_path": "a.mp4", "when": "2026-01-02 00:00:00", "sizes": [1, 2], "more": {"a": 1}}
    ]


def test_what_is_no_parquet_is_a_sentence(tmp_path):
    (tmp_path / "rows.parquet").write_text('{"video_path": "a"}\n')
    with pytest.raises(UsageError, match=r"rows\.parquet cannot be read as parquet: "):
        read_rows(tmp_path / "rows.parquet")


def run_all(run_script, films, at, ending):
    """Shots, clips, two scores, the filter and captions, in files of an ending."""
    clips = ("--video_folder", at / "train", "--video_metadata_path", at / f"clips.{ending}")
    motion = ("compute_motion_score.py", *clips, "--saved_path", at / f"motion.{ending}")
    run_script("cutscene_detect.py", "--video_folder", films, "--saved_path", at / f"scenes.{ending}")
    run_script("video_splitting.py", "--video_folder", films, "--video_metadata_path", at / f"scenes.{ending}",
               "--output_folder", at / "train", "--saved_path", at / f"clips.{ending}")  # fmt: skip
    run_script("compute_video_frame_quality.py", *clips, "--saved_path", at / f"quality.{ending}")
    run_script(*motion)
    run_script("filter_videos_by_motion_score.py", *clips, "--saved_path", at / f"train.{ending}", "--filter", at / f"quality.{ending}",
               "technical_score", "none", "none", "--filter", at / f"motion.{ending}", "motion_score", "none", "none")  # fmt: skip
    run_script("caption_video_frame.py", "--video_folder", at / "train", "--video_metadata_path", at / f"train.{ending}",
               "--saved_path", at / f"frames.{ending}")  # fmt: skip
    run_script(
        "caption_summary.py",
        "--video_metadata_path",
        at / f"frames.{ending}",
        "--saved_path",
        at / f"captions.{ending}",
    )
    return run_script(*motion).stdout


def test_every_script_gives_the_same_rows(tmp_path, run_script):
    for name in ("a", "b"):
        (tmp_path / "films").mkdir(exist_ok=True)
        write_video(tmp_path / "films" / f"{name}.mp4", [data.coffee()[:240, :320]] * 80)
    for ending in ("jsonl", "parquet"):
        assert "2 of 2 done before, 0 due" in run_all(run_script, tmp_path / "films", tmp_path / ending, ending)
    for name in ("scenes", "clips", "quality", "motion", "train", "dropped", "frames", "captions"):
        as_lines = read_rows(tmp_path / "jsonl" / f"{name}.jsonl")
        assert read_rows(tmp_path / "parquet" / f"{name}.parquet") == as_lines, name
        assert len(as_lines) == (0 if name == "dropped" else 2), name
