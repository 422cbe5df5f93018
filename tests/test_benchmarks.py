"""Every benchmark runs, in a small size, and prints its table, some of them in the gate; benchmarks/README.md lists them all."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import tiny_models
from conftest import ROOT, write_video
from skimage import data

from utils.rows import read_rows, write_rows

pytestmark = pytest.mark.slow
CUT, COUNT = 80, 160  # frames of the video, at 24 fps

# The arguments of each in a small size, and what its output must contain. Of {videos}, a video has one cut.
SMOKE = {
    "clean_clips": ("{labels} {videos} {dataset}/clips.jsonl", "2 clips, 0 with a labelled cut inside, 0 with a frame"),
    "cut_inside": ("--smoke --only cut", "| jump cut | 1 | "),
    "cuts": ("{videos} --labels {labels} --scores --cost", "lost at other peaks: []"),
    "duplicates": ("--clips 50", "| 50 | 500 | "),
    "judged": ("{judged} --labels labels.jsonl --half all --dataset_folder {judged} --stages", "(all): purity "),
    "learned_filter": ("{judged} --labels labels.jsonl --dataset_folder {judged} --draws 2", "| 80% | 4 + 4 | "),
    "memory": ("{video} --minutes 0.1 0.12", "| compute_motion_score.py, the uncut video |"),
    "metadata": ("--rows 20", "| 20 | 0 | resume | "),
    "motion": ("{videos} --runs 1", "| bare Farneback at native size, in memory |"),
    "pipeline": ("--rows 8 --n_jobs 1 --frame_size 64 36 --saved_path {out}/rows.jsonl", "8 rows in = 8 "),
    "questions": (
        "{judged}/labels.jsonl --scores {judged}/s.jsonl --key clip --truth score verdict drop",
        "| score | 10 | 5 | 1.000 | 0.500 | 1.000 | 1.000 |",
    ),
    "reading": ("{dataset}/train --runs 1", "| 4 frames (quality) |"),
    "remote_reading": ("{video} --minutes 0.1", "| mp4, moov at the end |"),
    "report": ("--rows 17", "| 17 | "),
    "stage_1": ("{videos} --runs 1", "| stage 1, smart |"),
    "stage_2": ("{videos} --runs 1 --canvas_size 64 --rows 8", "| motion, DIS ÷ bare native Farneback |"),
    "stage_3": ("--clips 2 --runs 1 --max_new_tokens 4 --n_jobs 1", "| caption_video_frame.py, 1 reading |"),
    "summaries": ("--video_metadata_path {captions} --model {model}", "| descriptions | 2 | 2 |"),
    "schedule": ("--ranks 20 --clips 5000 --operations 50000", "| 128 | 4 | "),
    "workers": ("{videos} --runs 1", "| video_splitting.py | "),
    "composed_cuts": ("--smoke --only flash", "| all | 0, 0, "),
    "stages": ("{videos} --runs 1", "| scenedetect + ffmpeg + Farneback |"),
    "threshold_strips": ("{dataset} {out}", "motion_high: a-Scene-001.mp4"),
    "truth_crop": ("--footage {videos} --cases clean letterbox", "| letterbox | "),
    "composed_cameras": ("--photos 1", "| racing game, 4 m/s | zoom in | "),
    "truth_motion": ("--starts 1 --seconds 0.5 --video_folder {videos}", "| zoom -30 %/s |"),
    "truth_technical": ("{videos}", "| JPEG quality | 2 |"),
    "truth_text": ("--short_side 96 --video_folder {videos}", "| chessboard |"),
}
# Those of a second or two of CPU; of speed, memory and tables, of marked truth, of labels, of the report. The others run before a
# release, some with all scripts.
GATE = {
    "clean_clips", "judged", "learned_filter", "metadata", "pipeline", "questions", "reading", "remote_reading", "report", "schedule", "threshold_strips", "truth_technical",
}  # fmt: skip
LIBRARIES = {"cases", "composed_films", "disturbances", "measure", "model_shapes"}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """What the arguments name: a folder with one video, its labels, and a dataset made of it."""
    folder = tmp_path_factory.mktemp("benchmarks")
    videos, dataset = folder / "videos", folder / "dataset"
    videos.mkdir()
    photos = [cv2.resize(photo, (480, 270)) for photo in (data.astronaut(), data.coffee())]
    views = (cv2.getRectSubPix(photos[t >= CUT], (320, 180), (170 + t / 2, 135)) for t in range(COUNT))
    video = write_video(videos / "a.mp4", views)
    label = {"cuts": [CUT], "gradual": []}
    (folder / "labels.json").write_text(json.dumps({"a.mp4": label}))
    for name, *flags in (
        ("cutscene_detect.py", "--saved_path", dataset / "scenes.jsonl"),
        ("video_splitting.py", "--video_metadata_path", dataset / "scenes.jsonl", "--saved_path",
         dataset / "clips.jsonl", "--output_folder", dataset / "train"),
    ):  # fmt: skip
        subprocess.run([sys.executable, ROOT / name, "--video_folder", videos, *flags], check=True, capture_output=True)
    clips = [row["video_path"] for row in read_rows(dataset / "clips.jsonl")]
    for column, values in {"technical_score": (1, 9), "text_score": (0, 0.5), "motion_score": (0.5, 30)}.items():
        rows = ({"video_path": clip, column: value} for clip, value in zip(clips, values, strict=True))
        (dataset / f"{column}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    captions = folder / "frame_caption.jsonl"
    told = ({"video_path": name, "sampled_frame_caption": [f"The image shows {name}."]} for name in ("a dog", "a boat"))
    captions.write_text("".join(json.dumps(row) + "\n" for row in told))
    paths = {
        "captions": captions,
        "model": folder / "model",
        "videos": videos,
        "video": video,
        "labels": folder / "labels.json",
        "dataset": dataset,
        "judged": judged_dataset(folder / "judged"),
    }
    return {name: str(path) for name, path in paths.items()}


def judged_dataset(folder: Path) -> Path:
    """Ten films of one clip, every second one to drop; their labels, one score, and what a filter kept."""
    folder.mkdir()
    span = {"start_seconds": 0.0, "end_seconds": 5.0}
    clips = [{"video_path": f"{i}-1.mp4", "source_path": f"{i}.mp4", "duration": 5.0, **span} for i in range(10)]
    verdicts = ["drop" if i % 2 else "keep" for i in range(10)]
    labels = [
        {"source": f"films/{i}.mp4", "clip": f"{i}-1.mp4", "verdict": verdict, "reasons": [], **span}
        for i, verdict in enumerate(verdicts)
    ]
    write_rows(folder / "labels.jsonl", labels)
    write_rows(folder / "clips.jsonl", clips)
    write_rows(folder / "s.jsonl", [{"video_path": clip["video_path"], "score": i % 2} for i, clip in enumerate(clips)])
    (folder / "s.settings.json").write_text("{}")
    write_rows(folder / "train.jsonl", clips[:5])
    write_rows(folder / "dropped.jsonl", [{"video_path": clip["video_path"], "reason": "score"} for clip in clips[5:]])
    return folder


def test_every_benchmark_is_here_and_in_the_readme():
    names = {path.stem for path in ROOT.glob("benchmarks/*.py")}
    assert names == set(SMOKE) | LIBRARIES
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"python -m benchmarks\.(\w+)", readme)) == set(SMOKE)


@pytest.mark.parametrize(
    "name", [name if name in GATE else pytest.param(name, marks=pytest.mark.release) for name in SMOKE]
)
def test_a_benchmark_prints_its_table(name, places, tmp_path):
    arguments, expected = SMOKE[name]
    if "{model}" in arguments:
        tiny_models.build("llama", places["model"])
    command = [part.format(out=tmp_path, **places) for part in arguments.split(" ")]
    ran = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *command], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    output = ran.stdout + ran.stderr
    assert ran.returncode == 0, output
    assert expected in output, output
    assert "nan" not in ran.stdout, output
