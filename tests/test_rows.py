"""Row files: what is written is read back, a kill leaves nothing torn, and other settings are noticed."""

import json
import os
import subprocess
import sys

import pytest

from utils.errors import Failure, UsageError
from utils.pipeline.result_file import Appender, ResultFile
from utils.rows import read_rows, write_rows

ODD = {"video_path": "a b/c'\"\n%03d 影片-é.mp4", "score": 0.5, "list": [1, 2.5], "text": 'x,y\n"z"', "none": None}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_rows_survive_a_round_trip(tmp_path, name):
    write_rows(tmp_path / name, [ODD, {"video_path": "true", "score": 1}])
    first, second = read_rows(tmp_path / name)
    assert {k: first[k] for k in ("video_path", "score", "list", "text")} == {
        k: ODD[k] for k in ("video_path", "score", "list", "text")
    }
    assert second["video_path"] == "true" and second["score"] == 1


def test_a_name_that_is_no_utf8_survives(tmp_path):
    name = os.fsdecode(b"lat\xe91.mp4")
    write_rows(tmp_path / "rows.jsonl", [{"video_path": name}])
    assert read_rows(tmp_path / "rows.jsonl") == [{"video_path": name}]
    assert (tmp_path / "rows.jsonl").read_bytes().isascii()


def test_a_torn_last_line_is_passed_over_and_cut_off(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"video_path": "a"}\n{"video_path": "b", "sco')
    assert read_rows(path) == [{"video_path": "a"}]
    appender = Appender(path, saved_freq=1)
    appender.add([{"video_path": "c"}])
    appender.close()
    assert read_rows(path) == [{"video_path": "a"}, {"video_path": "c"}]


def test_a_line_that_is_no_json_is_a_sentence(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"video_path": "a"}\nnonsense\n{"video_path": "b"}\n')
    with pytest.raises(UsageError, match=r"rows.jsonl: line 2 is not JSON: 'nonsense"):
        read_rows(path)
    with pytest.raises(UsageError, match="no such file"):
        read_rows(tmp_path / "missing.jsonl")
    write_rows(path, [{"path": "a"}])
    with pytest.raises(UsageError, match="row 1 has no column 'video_path'; it has 'path'"):
        read_rows(path, required=("video_path",))


def test_an_empty_result_can_be_read(tmp_path):
    for name in ("rows.jsonl", "rows.csv"):
        write_rows(tmp_path / name, [])
        assert read_rows(tmp_path / name) == []


def test_parts_are_read_as_one_and_merged_in_input_order(tmp_path):
    path = tmp_path / "rows.jsonl"
    for rank, names in enumerate((["d", "a"], ["c", "b"])):
        results = ResultFile(path, {"model": 1}, rank=rank, world=2)
        results.add({"video_path": name} for name in names)
        results.close()
    assert not path.exists()
    results = ResultFile(path, {"model": 1})
    assert {row["video_path"] for row in results.load()[0]} == set("abcd")
    results.merge(["a", "b", "c", "d"])
    assert [row["video_path"] for row in read_rows(path)] == ["a", "b", "c", "d"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.jsonl", "rows.settings.json"]


def test_other_settings_stop_and_say_which_differ(tmp_path):
    path = tmp_path / "rows.jsonl"
    results = ResultFile(path, {"model": "small", "frames": 4})
    results.add([{"video_path": "a"}])
    results.close()
    with pytest.raises(UsageError, match=r"frames was 4 and is 8\. Pass --overwrite"):
        ResultFile(path, {"model": "small", "frames": 8})
    ResultFile(path, {"model": "small", "frames": 8}, overwrite=True)
    assert not path.exists()
    assert json.loads((tmp_path / "rows.settings.json").read_text()) == {
        "file": "rows.jsonl",
        "model": "small",
        "frames": 8,
    }


def test_errors_stay_until_they_are_retried(tmp_path):
    path = tmp_path / "rows.jsonl"
    results = ResultFile(path, {})
    results.add_error("bad.mp4", Failure("VideoError", "why"), {})
    results.close()
    assert ResultFile(path, {}).load() == (
        [],
        {"bad.mp4": {"video_path": "bad.mp4", "error": "VideoError", "message": "why"}},
    )
    assert ResultFile(path, {}, retry_errors=True).load() == ([], {})


def test_two_runs_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "rows.jsonl"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, '.')\nfrom utils.pipeline.result_file import open_for_append\nfrom pathlib import Path\n"
         f"f = open_for_append(Path({str(path)!r})); print('held', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    appender = Appender(path, saved_freq=1)
    with pytest.raises(UsageError, match="another run is writing it"):
        appender.add([{"video_path": "a"}])
    holder.communicate("")
    appender.flush()
    assert read_rows(path) == [{"video_path": "a"}]


@pytest.mark.parametrize("text", ["one\rtwo", "\r", "one\r\ntwo", "\n", '"', "a,b", "\u2028\x85\0 \x1c"])
def test_text_in_csv_stays_whole(tmp_path, text):
    rows = [{"video_path": f"{text}{i}", "summary_caption": text, "sampled_frame_caption": [text]} for i in (1, 2)]
    write_rows(tmp_path / "rows.csv", rows)
    assert read_rows(tmp_path / "rows.csv") == rows


def test_text_in_csv_stays_text(tmp_path):
    row = {"video_path": "1", "made_from": "58609040", "frame_rate": "25", "summary_caption": "2020", "codec": "1e5"}
    write_rows(tmp_path / "rows.csv", [row])
    assert read_rows(tmp_path / "rows.csv") == [row]


def test_a_second_run_is_refused_from_its_start_on(tmp_path):
    first = ResultFile(tmp_path / "rows.jsonl", {})
    for choices in ({}, {"overwrite": True}):
        with pytest.raises(UsageError, match="another run is writing it"):
            ResultFile(tmp_path / "rows.jsonl", {}, **choices)
    first.add([{"video_path": "a"}])
    first.close()
    assert ResultFile(tmp_path / "rows.jsonl", {}).load()[0] == [{"video_path": "a"}]


def test_a_kill_between_merging_and_removing_parts_doubles_nothing(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"video_path": "a"}, {"video_path": "b"}])
    write_rows(tmp_path / "rows.part-1.jsonl", [{"video_path": "b"}])
    write_rows(tmp_path / "rows.errors.jsonl", [{"video_path": "c", "error": "VideoError", "message": ""}])
    write_rows(tmp_path / "rows.errors.part-1.jsonl", [{"video_path": "c", "error": "VideoError", "message": ""}])
    results = ResultFile(path, {})
    assert len(results.load()[0]) == 2
    results.merge(["a", "b", "c"])
    assert [row["video_path"] for row in read_rows(path)] == ["a", "b"]
    assert len(read_rows(tmp_path / "rows.errors.jsonl")) == 1 and not list(tmp_path.glob("*part*"))


def test_a_whole_last_row_without_its_newline_is_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"video_path": "a"}\n{"video_path": "b"}')
    appender = Appender(path, saved_freq=1)
    appender.add([{"video_path": "c"}])
    appender.close()
    assert [row["video_path"] for row in read_rows(path)] == ["a", "b", "c"]


def test_a_csv_and_a_jsonl_of_one_name_do_not_share_their_settings(tmp_path):
    ResultFile(tmp_path / "x.jsonl", {"size": 1}).close()
    (tmp_path / "x.jsonl").touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"belong to x\.jsonl; choose another name than x"):
            ResultFile(tmp_path / "x.csv", {"size": 2}, overwrite=overwrite)
    assert '"size": 1' in (tmp_path / "x.settings.json").read_text()
    (tmp_path / "x.jsonl").unlink()
    ResultFile(tmp_path / "x.csv", {"size": 2}).close()
