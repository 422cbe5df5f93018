"""Every message of docs/troubleshooting.md, met by what causes it."""

import fcntl
import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import tiny_models
from conftest import ROOT, SCRIPT_VARIABLES, numbered_frame, write_video
from test_openai_engine import Server

import caption_summary
from utils.errors import RunError

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE, re.M)


@pytest.fixture(scope="module")
def place(tmp_path_factory, scripts):
    """A folder with good and bad videos, lists, and a result."""
    folder = tmp_path_factory.mktemp("trouble")
    for name in ("empty", "videos", "broken", "full", "odd"):
        (folder / name).mkdir()
    write_video(folder / "videos" / "a.mp4", map(numbered_frame, range(48)), 24)
    (folder / "broken" / "text.mp4").write_text("no video")
    write_video(folder / "whole.mp4", map(numbered_frame, range(200)), 24, container_options={"movflags": "+faststart"})
    whole = (folder / "whole.mp4").read_bytes()
    (folder / "broken" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "full" / "mine.txt").write_text("mine")
    (folder / "odd" / "\udcff.mp4").write_text("no video")
    lists = {
        "gone.jsonl": '{"video_path": "gone.mp4"}\n',
        "other.csv": "path\na.mp4\n",
        "torn.jsonl": '{"video_path": \n',
        "scenes.jsonl": json.dumps({"video_path": "a.mp4", "timecode_list": [["00:00:00.000", "00:00:02.000"]]}) + "\n",
        "meet.jsonl": "".join(
            json.dumps({"video_path": name, "timecode_list": []}) + "\n" for name in ("x.mp4", "x.mkv", "x.mp4.mov")
        ),
        "kept.jsonl": '{"video_path": "a.mp4"}\n',
        "kept.settings.json": json.dumps({"script": "filter_videos_by_motion_score.py", "inputs": {"gone.jsonl": "0"}}),
        "begun.jsonl": '{"video_path": "a.mp4"}\n',
        "begun.settings.json": json.dumps({"script": "filter_videos_by_motion_score.py", "inputs": None}),
        "captions.jsonl": json.dumps({"video_path": "a.mp4", "summary_caption": "A dog."}) + "\n",
        "frames.jsonl": json.dumps({"video_path": "a.mp4", "sampled_frame_caption": ["A dog."]}) + "\n",
    }
    lists["lost.jsonl"] = lists["gone.jsonl"]  # without settings
    for name, text in lists.items():
        (folder / name).write_text(text)
    run(scripts.python, folder, "compute_motion_score.py --video_folder videos --saved_path motion.jsonl")
    tiny_models.build("llama", folder / "llm")
    return folder


def run(python: Path, folder: Path, line: str, **variables: str) -> str:
    """What a command prints and writes down as errors, run in `folder` by `python`; NAME=VALUE first sets variables."""
    words = line.split()
    while "=" in words[0] and not words[0].startswith("-"):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    script = ROOT / words[0]
    command = ["sh", script] if script.suffix == ".sh" else [python, script]
    bare = {k: v for k, v in os.environ.items() if k not in SCRIPT_VARIABLES and not k.startswith("AWS_")}
    environment = {**bare, "PYTHON": str(python), "HF_ENDPOINT": "http://127.0.0.1:9", **variables}
    ran = subprocess.run([*command, *words[1:]], cwd=folder, capture_output=True, text=True, env=environment)
    errors = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.errors.jsonl"))
    return ran.stdout + ran.stderr + errors


MOTION = "compute_motion_score.py --saved_path m.jsonl --video_folder"
FILTER = "filter_videos_by_motion_score.py --video_metadata_path scenes.jsonl --motion_score_metadata_path motion.jsonl"
SUMMARY = "caption_summary.py --video_metadata_path frames.jsonl --saved_path s.jsonl"
# What is run for each message, by its beginning.
CAUSES = {
    "…: contains no videos": f"{MOTION} empty",
    "--video_folder …: no such folder": f"{MOTION} nowhere",
    "… does not exist: put videos": "DATASET_FOLDER=new stage_1_video_cut.sh",
    "… does not exist: run stage_1": "DATASET_FOLDER=new stage_2_filter_data.sh",
    "… cannot be read: Invalid data": f"{MOTION} broken",
    "… cannot be decoded past frame": "cutscene_detect.py --video_folder broken --saved_path shots.jsonl",
    "… cannot be opened": f"{MOTION} videos --video_metadata_path gone.jsonl",
    "the name of … is not valid UTF-8": f"{MOTION} odd",
    "… and … would give clips of the same name": "video_splitting.py --video_metadata_path meet.jsonl --video_folder videos --output_folder out --saved_path c.jsonl",
    "… was made from an older version": f"{MOTION} videos --video_metadata_path kept.jsonl",
    "… is not finished": f"{MOTION} videos --video_metadata_path begun.jsonl",
    "…: row 1 has no column": f"{MOTION} videos --video_metadata_path other.csv",
    "…: line … is not JSON": f"{MOTION} videos --video_metadata_path torn.jsonl",
    "…: no credentials": f"{MOTION} s3://bucket/videos",
    "… was made with other settings": "compute_motion_score.py --video_folder videos --saved_path motion.jsonl --short_side 128",
    "….settings.json, which records": "compute_motion_score.py --video_folder videos --saved_path lost.jsonl",
    "…: cannot make this folder": "compute_motion_score.py --video_folder videos --saved_path /proc/new/m.jsonl",
    "stopped: all … rows of": f"{MOTION} videos --video_metadata_path gone.jsonl",
    "--export_folder … holds other files": "export_dataset.py --video_metadata_path captions.jsonl --video_folder videos --format musubi --export_folder full",
    "… of … shots are shorter": "video_splitting.py --video_metadata_path scenes.jsonl --video_folder videos --output_folder out --saved_path c.jsonl",
    "kept 0 of": f"{FILTER} --low_motion_score_threshold 1000 --high_motion_score_threshold inf --saved_path t.jsonl",
    "--where …: no column": f"{FILTER} --where speed>3",
    "PRESET=auto selects embedded": "DATASET_FOLDER=new GPUS=0 stage_1_video_cut.sh",
    "PRESET is …, not one of": "PRESET=fast stage_2_filter_data.sh",
    "… is set but is no": "MIN_SECOND=2 stage_2_filter_data.sh",
    "LAUNCHER is …, not one": "LAUNCHER=slurm stage_2_filter_data.sh",
    "… cannot be downloaded from": f"{SUMMARY} --summarizer transformers --summary_model_name Qwen3-0.6B",
    "… is neither a folder": f"{SUMMARY} --summarizer transformers --summary_model_name lama",
    "vllm: cannot be imported": f"{SUMMARY} --summarizer vllm --summary_model_name llm",
    "--base_url …: no server answers": f"{SUMMARY} --summarizer openai --base_url http://127.0.0.1:9/v1 --summary_model_name m",
}  # fmt: skip
ELSEWHERE = ("…: another run is writing it", "the answer talks about the task", "the answer has … words")


def pattern(message: str) -> re.Pattern:
    """The message with anything where it has an ellipsis; as it stands in a line of JSON too."""
    return re.compile(".+?".join(map(re.escape, message.split("…"))).replace("'", r"['\"\\]+"))


def test_the_page_has_the_messages_that_are_met_here():
    begun = [*CAUSES, *ELSEWHERE]
    assert len(MESSAGES) >= 20
    assert [m for m in MESSAGES if sum(m.startswith(start) for start in begun) != 1] == []
    assert [start for start in begun if not any(m.startswith(start) for m in MESSAGES)] == []


@pytest.mark.parametrize("start", CAUSES)
def test_a_message_is_met(place, start, scripts):
    if start.startswith("vllm") and importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed here")
    (message,) = (m for m in MESSAGES if m.startswith(start))
    said = run(scripts.python, place, CAUSES[start])
    assert pattern(message).search(said), said


def test_a_second_run_is_told_of_the_first(place, scripts):
    (message,) = (m for m in MESSAGES if "another run" in m)
    with open(place / "motion.settings.json") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        said = run(scripts.python, place, "compute_motion_score.py --video_folder videos --saved_path motion.jsonl")
    assert pattern(message).search(said), said


@pytest.mark.parametrize(
    ("start", "answer"),
    [("the answer talks", "Here is the caption: a dog."), ("the answer has", " ".join(f"word{i}" for i in range(150)))],
)
def test_a_bad_answer_is_an_error_row(place, tmp_path, run_main, start, answer):
    (message,) = (m for m in MESSAGES if m.startswith(start))
    server = Server()
    try:
        server.says[-1] = answer
        flags = ["--video_metadata_path", place / "frames.jsonl", "--summarizer", "openai", "--base_url", server.url]
        with pytest.raises(RunError, match=pattern(message)):
            run_main(caption_summary, *flags, "--summary_model_name", "tiny")
    finally:
        server.shutdown()
