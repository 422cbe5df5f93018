"""Row files: what is written is read back, a kill leaves nothing torn, and other settings are noticed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_numbered

from utils.errors import Failure, UsageError
from utils.pipeline.appender import Appender
from utils.pipeline.result_file import ResultFile, ResumeState
from utils.pipeline.row_list import Rows
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


def test_a_name_that_is_not_utf8_is_a_row_that_says_so(tmp_path, run_script):
    """In a folder, and in a list that a version before 0.4 wrote: an error row, and the run goes on."""
    (tmp_path / "in").mkdir()
    write_numbered(tmp_path / "in/a.mp4", 48)
    (tmp_path / "in" / os.fsdecode(b"lat\xe91.mp4")).write_bytes(b"x")
    run_script("cutscene_detect.py", "--video_folder", "in", "--detector", "content", "--saved_path", "s.jsonl")
    (error,) = read_rows(tmp_path / "s.errors.jsonl")
    assert (
        error["video_path"] == "lat\ufffd1.mp4"
        and "not valid UTF-8" in error["message"]
        and "rename" in error["message"]
    )
    (tmp_path / "old.jsonl").write_text('{"video_path": "a.mp4"}\n{"video_path": "lat\\udce91.mp4"}\n')
    flags = ["--video_folder", "in", "--video_metadata_path", "old.jsonl", "--detector", "content"]
    assert (
        "2 rows in = 1 cut into shots + 1 errors"
        in run_script("cutscene_detect.py", *flags, "--saved_path", "t.jsonl").stdout
    )


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


def resumed(path: Path, rows: list[dict], **options) -> tuple[ResultFile, ResumeState]:
    """A result file held against rows that depend on nothing."""
    results = ResultFile(path, {}, **options)
    return results, results.resume(Rows.of(rows).scan(), np.zeros(len(rows), bool))


def paths(names: str) -> list[dict]:
    return [{"video_path": name} for name in names]


def test_parts_are_read_as_one_and_merged_in_input_order(tmp_path):
    path = tmp_path / "rows.jsonl"
    for rank, names in enumerate(("da", "cb")):
        results = ResultFile(path, {}, rank=rank, world=2)
        results.add(paths(names))
        results.close()
    assert not path.exists()
    results, state = resumed(path, paths("abcd"))
    assert state.finished.all()
    assert read_rows(path) == paths("abcd")
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
    settings = json.loads((tmp_path / "rows.settings.json").read_text())
    assert {name: settings[name] for name in ("file", "model", "frames")} == {
        "file": "rows.jsonl",
        "model": "small",
        "frames": 8,
    }


@pytest.mark.parametrize("settings", [None, "", "[1]", "{"])
def test_rows_whose_settings_are_gone_are_not_added_to(tmp_path, settings):
    path = tmp_path / "rows.jsonl"
    write_rows(path, paths("a"))
    if settings is not None:
        (tmp_path / "rows.settings.json").write_text(settings)
    with pytest.raises(UsageError, match=r"rows.settings.json, which records its settings, is missing or unreadable"):
        ResultFile(path, {})
    ResultFile(path, {}, overwrite=True).close()


@pytest.mark.parametrize("file", ["../x.jsonl", "a/b", 5, None, {"a": 1}, ""])
def test_settings_of_an_odd_owner_are_a_sentence(tmp_path, file):
    (tmp_path / "rows.settings.json").write_text(json.dumps({"file": file}))
    with pytest.raises(UsageError, match=r"rows.settings.json: file is .*, not the name of a result file"):
        ResultFile(tmp_path / "rows.jsonl", {})


def test_errors_stay_until_they_are_retried(tmp_path):
    path = tmp_path / "rows.jsonl"
    results = ResultFile(path, {})
    results.add_error("bad.mp4", Failure("VideoError", "why"), {})
    results.close()
    results, state = resumed(path, [{"video_path": "bad.mp4"}])
    assert state.failed.all() and state.errors == [{"video_path": "bad.mp4", "error": "VideoError", "message": "why"}]
    results.close()
    assert not resumed(path, [{"video_path": "bad.mp4"}], retry_errors=True)[1].failed.any()


def test_two_runs_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "rows.jsonl"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, '.')\nfrom utils.pipeline.appender import open_for_append\nfrom pathlib import Path\n"
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
    row = {
        "video_path": "1",
        "made_from": "58609040",
        "frame_rate": "25",
        "summary_caption": "2020",
        "codec": "1e5",
        "source_digest": "8045616291954398",
    }
    write_rows(tmp_path / "rows.csv", [row])
    assert read_rows(tmp_path / "rows.csv") == [row]


def test_a_second_run_is_refused_from_its_start_on(tmp_path):
    first = ResultFile(tmp_path / "rows.jsonl", {})
    for choices in ({}, {"overwrite": True}):
        with pytest.raises(UsageError, match="another run is writing it"):
            ResultFile(tmp_path / "rows.jsonl", {}, **choices)
    first.add([{"video_path": "a"}])
    first.close()
    assert resumed(tmp_path / "rows.jsonl", paths("a"))[1].finished.all()


def test_a_kill_between_merging_and_removing_parts_doubles_nothing(tmp_path):
    path = tmp_path / "rows.jsonl"
    ResultFile(path, {}).close()
    write_rows(path, paths("ab"))
    write_rows(tmp_path / "rows.part-1.jsonl", paths("b"))
    write_rows(tmp_path / "rows.errors.jsonl", [{"video_path": "c", "error": "VideoError", "message": ""}])
    write_rows(tmp_path / "rows.errors.part-1.jsonl", [{"video_path": "c", "error": "VideoError", "message": ""}])
    _, state = resumed(path, paths("abc"))
    assert state.finished.tolist() == [True, True, False] and state.failed.tolist() == [False, False, True]
    assert read_rows(path) == paths("ab")
    assert len(read_rows(tmp_path / "rows.errors.jsonl")) == 1 and not list(tmp_path.glob("*part*"))


def test_a_quotation_mark_that_is_never_closed_is_a_sentence(tmp_path):
    (tmp_path / "rows.csv").write_text('video_path,caption\none.mp4,a 5" screen\ntwo.mp4,"unclosed\nthree.mp4,lost\n')
    with pytest.raises(UsageError, match=r"rows\.csv: line 3: a quotation mark is never closed"):
        read_rows(tmp_path / "rows.csv")


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
