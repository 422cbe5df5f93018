"""The summary of a dataset, at any time, and what scripts say while they work."""

import json
import os
import time

import pytest
from conftest import write_numbered

from tools.summary import summarize
from utils.errors import UsageError
from utils.report.funnel import Failures, FunnelStep, funnel
from utils.rows import write_rows
from utils.workers.progress import Progress

SCENES = [
    {
        "video_path": "a.mp4",
        "duration": 20.0,
        "timecode_list": [["00:00:00.000", "00:00:08.000"], [8, 10.5], ["00:10.500", "00:00:20.000"]],
    },
    {"video_path": "ü b.mp4", "duration": 3700.0, "timecode_list": [["00:00:00.000", "01:01:40.000"]]},
]
ERROR = {"video_path": "bad.mp4", "error": "VideoError", "message": "'bad.mp4' cannot be read\nmore"}
CLIPS = [
    {
        "video_path": f"{source}-{start}.mp4",
        "source_path": source,
        "start_seconds": start,
        "end_seconds": stop,
        "duration": stop - start,
    }
    for source, start, stop in (("a.mp4", 0, 8), ("ü b.mp4", 0, 10), ("ü b.mp4", 10, 20), ("ü b.mp4", 20.5, 30))
]
DROPPED = [{"video_path": clip["video_path"], "reason": "text_score above 0.02", "value": 1} for clip in CLIPS[:2]]


def write(folder, name, rows, **settings):
    write_rows(folder / f"{name}.jsonl", rows)
    if settings:
        (folder / f"{name}.settings.json").write_text(json.dumps(settings))


def dataset(folder):
    write(folder, "scenes", SCENES, detector="x")
    write(folder, "scenes.errors", [ERROR])
    write(folder, "clips", CLIPS, encoder="smart")
    write(folder, "text_score", [{"video_path": clip["video_path"], "text_score": 0.5} for clip in CLIPS[:2]], count=1)
    write(folder, "text_score.part-0", [{"video_path": CLIPS[2]["video_path"], "text_score": 0.5}])
    write(folder, "text_score.errors", [ERROR | {"video_path": CLIPS[3]["video_path"]}])
    write(folder, "train", [clip | {"text_score": 0.0} for clip in CLIPS[2:]])
    write(folder, "dropped", DROPPED)
    write(folder, "summary_caption", [{"video_path": CLIPS[2]["video_path"], "summary_caption": "A."}], version=1)


def test_all_steps(tmp_path):
    dataset(tmp_path)
    failed = Failures("VideoError", 1, [("bad.mp4", ERROR["message"])])
    assert funnel(str(tmp_path)) == [
        FunnelStep("sources", 3, 3720.0, [], [failed]),
        FunnelStep("shots", 4, 3720.0, [("give no clip (too short, or their source failed)", 2, 12.0)]),
        FunnelStep("clips", 4, 37.5),
        FunnelStep(
            "text_score.jsonl", 3, None, [], [Failures("VideoError", 1, [(CLIPS[3]["video_path"], ERROR["message"])])]
        ),
        FunnelStep("kept", 2, 19.5, [("text_score above 0.02", 2, 18.0)]),
        FunnelStep("captioned", 1, 10.0),
    ]


def test_the_text(tmp_path):
    dataset(tmp_path)
    text = summarize(str(tmp_path))
    for line in (
        "sources 3 1.03 h",
        "failed: VideoError 1",
        "clips 4 37.5 s",
        "dropped: text_score above 0.02 2 18.0 s",
        "'bad.mp4' cannot be read",
        f"{CLIPS[3]['video_path']}: 'bad.mp4' cannot be read",
    ):
        assert line in [" ".join(found.split()) for found in text.splitlines()]
    assert text.endswith("no training set yet: stage 3 writes it")


@pytest.mark.parametrize("gone", ["scenes", "clips", "train", "dropped", "text_score", "summary_caption"])
def test_a_file_that_is_not_there_yet_or_torn(tmp_path, gone):
    dataset(tmp_path)
    path = tmp_path / f"{gone}.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    summarize(str(tmp_path))
    path.write_bytes(b"")
    summarize(str(tmp_path))
    path.unlink()
    names = [step.name for step in funnel(str(tmp_path))]
    assert (
        gone in ("dropped", "scenes", "text_score")
        or {"train": "kept", "clips": "clips", "summary_caption": "captioned"}[gone] not in names
    )


def test_what_is_no_dataset_is_a_sentence(tmp_path, run_script):
    (tmp_path / "film.mp4").touch()
    with pytest.raises(UsageError, match="contains no files of the stages"):
        funnel(str(tmp_path))
    gone = run_script("tools/summary.py", "--dataset_folder", "gone", code=2, PYTHONPATH=os.getcwd())
    assert "--dataset_folder gone: no such folder" in gone.stderr


def test_the_summary_as_json(tmp_path, run_script):
    dataset(tmp_path)
    ran = run_script("tools/summary.py", "--dataset_folder", tmp_path, "--json", PYTHONPATH=os.getcwd())
    assert [step["name"] for step in json.loads(ran.stdout)["steps"]][:2] == ["sources", "shots"]


def test_progress_as_json(tmp_path, run_script):
    write_numbered(tmp_path / "a.mp4", 8)
    (tmp_path / "bad.mp4").write_text("no video")
    ran = run_script(
        "compute_video_frame_quality.py", "--video_folder", ".", "--saved_path", "s.jsonl", "--log_json", "--n_jobs", 1
    )
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [event["event"] for event in events] == ["start", "end"]
    assert (
        events[1] | {"done": 2, "total": 2, "errors": 1, "step": "quality", "rank": 0, "seconds_left": 0} == events[1]
    )
    assert "2 rows in = 1 scored + 1 errors" in ran.stdout
    again = run_script("compute_video_frame_quality.py", "--video_folder", ".", "--saved_path", "t.jsonl", LOG_JSON="1")
    assert json.loads(again.stderr.splitlines()[-1])["event"] == "end"


def test_a_log_gets_a_line_a_minute_also_while_a_row_takes_longer(capfd, monkeypatch):
    monkeypatch.setattr("utils.workers.progress.LINE_SECONDS", (0.05,))
    with Progress(10, "text", rank=1, world=2) as progress:
        for row in progress.reading([{"video_path": "a.mp4"}, {"video_path": "b\x1b.mp4"}]):
            if row["video_path"] == "a.mp4":
                progress.add(True, "a.mp4")
        time.sleep(0.4)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) > 1
    assert lines[-1].startswith("text: 1 of 10 rows of all 2 ranks, done by rank 1, 1 errors, ")
    assert lines[-1].endswith(r" s left, reading 'b\x1b.mp4'")


def test_the_first_line_of_a_log_comes_after_a_second(capfd):
    with Progress(10, "text") as progress:
        next(progress.reading([{"video_path": "a.mp4"}]))
        time.sleep(1.3)
    assert capfd.readouterr().err == "text: 0 of 10 rows, 0 errors, 0.00 rows a second, reading a.mp4\n"


def test_a_run_that_breaks_off_says_failed(capfd):
    with pytest.raises(KeyboardInterrupt), Progress(10, "text", as_json=True):
        raise KeyboardInterrupt
    assert [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()] == ["start", "failed"]
