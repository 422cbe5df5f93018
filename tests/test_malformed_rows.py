"""A malformed row ends every script with a sentence that names file, line and column: exit code 2, no traceback."""

import importlib
import json
import sys

import numpy as np
import pytest

from utils.cli import Filter
from utils.errors import UsageError
from utils.pipeline.filters import passing_rows
from utils.pipeline.result_file import ResultFile
from utils.pipeline.row_list import Rows, open_rows
from utils.rows import read_rows

GOOD = {
    "video_path": "a.mp4",
    "source_path": "a.mp4",
    "timecode_list": [["00:00:00.000", "00:00:04.000"]],
    "summary_caption": "A dog.",
    "sampled_frame_caption": ["A dog."],
    "attributes": {"motion_score": 1.5, "camera_motion": "pan left and zoom in", "main_colours": ["red"]},
    "start_seconds": 0,
    "end_seconds": 4,
    "duration": 4,
}
LISTED = ("--video_metadata_path", "list.jsonl")
SCRIPTS = {
    "cutscene_detect": LISTED,
    "video_splitting": (*LISTED, "--output_folder", "out", "--preset", "ultrafast"),
    "compute_video_frame_quality": (*LISTED, "--metrics", "TechnicalScore"),
    "compute_text_score": LISTED,
    "compute_motion_score": LISTED,
    "filter_videos_by_motion_score": LISTED,
    "caption_video_frame": LISTED,
    "caption_summary": LISTED,
    "export_dataset": LISTED,
    "tools.summary": ("--dataset_folder", "."),
}
HUGE = int("9" * 400)
MALFORMED: dict[str, list] = {
    "video_path": ["a\0.mp4", "\ud800.mp4", ".", "..", "a/..", "", "/", None, 5, True, ["a"], {"a": 1}],
    "duration": [float("inf"), float("nan"), -1, HUGE, "4", None, [], [4], [[4]], {}, True],
    "start_seconds": ["0", None, -1, float("nan"), [0]],
    "end_seconds": [float("inf"), "soon"],
    "num_frames": [1.5, "96", None, -1, HUGE],
    "bytes": [-5, [1], "many"],
    "clip_count": [0, "1", None],
    "frame_size": [[], [1920], [1920, "1080"], ["a", "b"], [0, 5], [[1], [2]], "1920x1080", None, 5, [HUGE, 2]],
    "timecode_list": [5, None, "soon", [[]], [[0]], [["a", "b"]], [[0, float("inf")]], [[0, -1]], [[0, 1, 2]], {}],
    "transitions": [[["dissolve", 0]], [[0, 1]], "none", [[["a"], 0, 1]], None],
    "damaged": [[["a", 0]], 5],
    "motion_score": ["high", [], [[1]], HUGE, float("inf"), None],
    "text_score": ["0.1", {}],
    "aesthetic_score": [[], [[5]], ["5"], "5", None],
    "sample_frame_idx": [5, ["0"], [[0]], [-1], [0.5]],
    "sampled_frame_idx": [None, [HUGE]],
    "camera_motion": ["dolly in", "pan", "pan sideways", ["pan left"], 5],
    "attributes": [["dog"], "dog", {"motion_score": "high"}, {"camera_motion": "dolly"}, {"main_colours": [1]}],
    "made_from": [5, ["a"]],
    "anything": ["\udfff\ud800", json.loads("[" * 200 + "]" * 200)],
}
LINES = {
    "no object": b"[1, 2]\n",
    "no JSON": b"a.mp4\n",
    "no JSON and no end of line": b"a.mp4",
    "deep": b'{"video_path": "a.mp4", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}\n",
    "utf-16": ('{"video_path": "a.mp4"}\n' * 2).encode("utf-16"),
    "utf-16 without its mark": ('{"video_path": "a.mp4"}\n' * 2).encode("utf-16-le"),
    "an integer that Python will not read": b'{"video_path": "a.mp4", "duration": ' + b"9" * 5000 + b"}\n",
}


def error_of(script: str, monkeypatch) -> str:
    """What the script says as it refuses its input."""
    main = importlib.import_module(script).main
    monkeypatch.setattr(sys, "argv", [script, *SCRIPTS[script]])
    with pytest.raises(UsageError) as ended:
        main()
    return str(ended.value)


def write(folder, content: bytes) -> None:
    for name in ("list.jsonl", "scenes.jsonl"):  # the second for tools.summary
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_refuses_every_malformed_row(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for column, values in MALFORMED.items():
        for value in values:
            rows = [GOOD, GOOD | {"video_path": "b.mp4"}, GOOD | {"video_path": "c.mp4"} | {column: value}]
            write(tmp_path, "".join(json.dumps(row) + "\n" for row in rows).encode())
            said = error_of(script, monkeypatch)
            assert ".jsonl: line 3" in said and column in said and "\n" not in said, said


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("content", LINES.values(), ids=LINES.keys())
def test_every_script_refuses_text_that_holds_no_rows(script, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, content)
    assert ".jsonl: line 1" in error_of(script, monkeypatch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video_path,duration,duration\na.mp4,1,2\n", "line 1 has two columns named 'duration'"),
        ("video_path,duration\na.mp4,1\nb.mp4,2,3,c\n", "line 3 has more cells than the 2 columns"),
        ('video_path,x\n"a\nb.mp4",1\nb.mp4,"' + "[" * 5000 + '"\n', "line 4 holds lists"),
        ("video_path,duration\na.mp4,Infinity\n", "line 2: duration is 'Infinity', not a number of seconds"),
        ("video_path,duration\na.mp4,-1\n", "line 2: duration is -1, not"),
        ("video_path,duration\n,1\n", "row 1 has no column 'video_path'"),
        ("video_path\n..\n", "line 2: video_path is '..', not a path"),
    ],
)
def test_malformed_csv(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text(text)
    monkeypatch.setitem(SCRIPTS, "cutscene_detect", ("--video_metadata_path", "list.csv"))
    assert message in error_of("cutscene_detect", monkeypatch)


@pytest.mark.parametrize("content", ["a.mp4\nb\0.mp4\n", "a.mp4\n.\n", "a.mp4\n/\n"])
def test_malformed_txt(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text(content)
    monkeypatch.setitem(SCRIPTS, "cutscene_detect", ("--video_metadata_path", "list.txt"))
    assert "list.txt: line 2: path is " in error_of("cutscene_detect", monkeypatch)
    (tmp_path / "list.txt").write_text(content, encoding="utf-16")
    assert "save the file as UTF-8" in error_of("cutscene_detect", monkeypatch)


def test_the_column_of_the_paths_is_checked_under_its_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.jsonl").write_text('{"clip": ["a"]}\n')
    monkeypatch.setitem(SCRIPTS, "cutscene_detect", (*LISTED, "--video_path_column", "clip"))
    assert "list.jsonl: line 1: clip is ['a'], not a path" in error_of("cutscene_detect", monkeypatch)


@pytest.mark.parametrize("value", ["high", None, [], [[1]], HUGE, True, {}])
def test_a_score_that_is_no_number(value, tmp_path):
    (tmp_path / "score.jsonl").write_text(json.dumps({"video_path": "a.mp4", "mine": value}) + "\n")
    (tmp_path / "list.jsonl").write_text('{"video_path": "a.mp4"}\n')
    with pytest.raises(UsageError, match=r"line 1: mine is .*, not a number or a list of numbers"):
        passing_rows(
            open_rows(None, str(tmp_path / "list.jsonl")), [Filter(str(tmp_path / "score.jsonl"), "mine", 0, 1)]
        )


def test_result_files_that_are_resumed_are_checked_too(tmp_path):
    for name, key, line in (
        ("rows.jsonl", "video_path", '{"video_path": ["a"]}'),
        ("rows.jsonl", "source_path", '{"video_path": "a.mp4"}'),
        ("rows.errors.jsonl", "video_path", '{"error": "VideoError"}'),
    ):
        (tmp_path / "rows.jsonl").unlink(missing_ok=True)
        (tmp_path / name).write_text(line + "\n")
        (tmp_path / "rows.settings.json").write_text("[1]")  # no object: as if there were none
        rows = Rows.of([{"video_path": "a.mp4"}]).scan()
        results = ResultFile(tmp_path / "new.jsonl", {}, key=key)
        results.path, results.errors_path = tmp_path / "rows.jsonl", tmp_path / "rows.errors.jsonl"
        with pytest.raises(UsageError, match=r"rows\..*(line|row) 1"):
            results.resume(rows, np.zeros(1, bool))
        results.close()
        (tmp_path / name).unlink()


def test_a_truncated_last_line_of_a_list_is_reported_once_and_of_a_resumed_file_not_at_all(tmp_path, capsys):
    path = tmp_path / "list.jsonl"
    path.write_text('{"video_path": "a.mp4"}\n{"video_path": "b.mp')
    assert read_rows(path, resumed=True) == [{"video_path": "a.mp4"}] and not capsys.readouterr().err
    assert read_rows(path) == [{"video_path": "a.mp4"}]
    assert capsys.readouterr().err == f"{path}: line 2, the last, is incomplete and ignored\n"
    path.write_text('{"video_pa')
    assert read_rows(path, resumed=True) == []  # killed before its first row was whole
    with pytest.raises(UsageError, match="line 1 is not JSON"):
        read_rows(path)
    path.with_suffix(".settings.json").write_text("{}")
    assert read_rows(path) == [] and "line 1, the last, is incomplete" in capsys.readouterr().err


def test_what_is_odd_but_right_stays(tmp_path):
    odd = GOOD | {
        "video_path": " ..mp4",
        "aesthetic_score": [float("nan"), 5],
        "frame_size": [1920.0, 1080],
        "num_frames": 96.0,
        "timecode_list": [[0, 1.5], ["1:30", " 00:02:00.5"]],
        "camera_motion": None,
        "caption": "😀",
    }
    (tmp_path / "list.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(odd).encode() + b"\n")
    (row,) = read_rows(tmp_path / "list.jsonl")
    assert {**row, "aesthetic_score": 0} == {**odd, "aesthetic_score": 0}
