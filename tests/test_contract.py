"""What every script promises: rows add up, a kill costs nothing, ranks and processes give the same rows, flags are checked first."""

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage import data

from utils.rows import read_rows

pytestmark = pytest.mark.slow  # every script, many times
ROOT = Path(__file__).parent.parent
CLOSING = re.compile(r"([\d,]+) rows in = ([\d,]+) [^+]+ \+ ([\d,]+) errors[^+]* \+ ([\d,]+) filtered -> ")


def pan(path: Path, seconds: float, cuts: tuple[float, ...] = ()) -> None:
    """A video of photographs that pan slowly, 320x180, 24 fps; another photograph from each cut on."""
    photos = [cv2.resize(photo, (480, 270)) for photo in (data.astronaut(), data.coffee(), data.chelsea())]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 320, 180, "yuv420p", Fraction(1, 24)
        stream.options = {"preset": "ultrafast", "crf": "20"}
        for i in range(round(seconds * 24)):
            photo = photos[sum(i >= cut * 24 for cut in cuts) % len(photos)]
            view = cv2.getRectSubPix(photo, (320, 180), (240 + 70 * np.sin(i / 24 * 0.4), 135))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        out.mux(stream.encode())


def script(name: str, *flags: object, launch: tuple[object, ...] = (sys.executable,)) -> subprocess.Popen:
    command = [*map(str, launch), str(ROOT / name), *map(str, flags)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def done(name: str, *flags: object, code: int = 0, **launch) -> str:
    """Run a script to its end; its output. The closing line's numbers must add up."""
    process = script(name, *flags, **launch)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    rows_in, out, errors, filtered = (int(n.replace(",", "")) for n in CLOSING.search(output).groups())
    assert rows_in == out + errors + filtered, output
    return output


def stage_flags(folder: Path) -> dict[str, list]:
    """Each script and its flags, in the order of the stages, on the videos in `folder`/raw."""
    clips = ["--video_folder", folder / "clips", "--video_metadata_path", folder / "clips.jsonl"]
    scores = [
        "--filter", folder / "technical_score.jsonl", "technical_score", 2, "none",
        "--text_score_metadata_path", folder / "text_score.jsonl", "--text_score_threshold", 0.2,
    ]  # fmt: skip
    return {
        "cutscene_detect.py": ["--video_folder", folder / "raw", "--saved_path", folder / "scenes.jsonl"],
        "video_splitting.py": ["--video_metadata_path", folder / "scenes.jsonl", "--video_folder", folder / "raw",
                               "--output_folder", folder / "clips", "--saved_path", folder / "clips.jsonl"],
        "compute_video_frame_quality.py": [*clips, "--saved_path", folder / "technical_score.jsonl"],
        "compute_text_score.py": [*clips, "--saved_path", folder / "text_score.jsonl"],
        "compute_audio_score.py": [*clips, "--saved_path", folder / "audio.jsonl"],
        "compute_motion_score.py": [*clips, "--saved_path", folder / "motion_score.jsonl", *scores],
        "filter_videos_by_motion_score.py": [*clips, "--saved_path", folder / "train.jsonl", *scores,
                                             "--motion_score_metadata_path", folder / "motion_score.jsonl"],
        "caption_video_frame.py": ["--video_folder", folder / "clips", "--video_metadata_path", folder / "train.jsonl",
                                   "--saved_path", folder / "frame_caption.jsonl"],
        "caption_summary.py": ["--video_metadata_path", folder / "frame_caption.jsonl", "--saved_path", folder / "summary_caption.jsonl"],
        "export_dataset.py": ["--video_folder", folder / "clips", "--video_metadata_path", folder / "summary_caption.jsonl",
                              "--saved_path", folder / "train_panda_70m.json"],
    }  # fmt: skip


RAW = ("one.mp4", "sub/one.mp4", 'sub/it\'s "a" % -b ü影.mp4', "three.mp4")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A folder through which every script has gone, with what each printed."""
    folder = tmp_path_factory.mktemp("data set")
    for name, seconds, cuts in zip(RAW, (4, 5, 8, 12), ((), (1,), (4,), ())):
        pan(folder / "raw" / name, seconds, cuts)
    (folder / "raw" / "text.MP4").write_text("no video")
    (folder / "raw" / "notes.txt").write_text("not taken for a video")
    return folder, {name: done(name, *flags) for name, flags in stage_flags(folder).items()}


def test_a_broken_video_is_an_error_row_and_the_rest_goes_on(dataset):
    folder, printed = dataset
    assert "5 rows in = 4 cut into shots + 1 errors + 0 filtered" in printed["cutscene_detect.py"]
    (error,) = read_rows(folder / "scenes.errors.jsonl")
    assert error["video_path"] == "text.MP4" and error["error"] == "VideoError" and "text.MP4" in error["message"]


def test_clips_of_every_folder_reach_the_training_set(dataset):
    folder, _ = dataset
    clips = [row["video_path"] for row in read_rows(folder / "clips.jsonl")]
    assert clips == [
        "one-Scene-001.mp4",
        'sub/it\'s "a" % -b ü影-Scene-001.mp4',
        'sub/it\'s "a" % -b ü影-Scene-002.mp4',
        "sub/one-Scene-001.mp4",
        "three-Scene-001.mp4",
        "three-Scene-002.mp4",
    ]
    trained = json.loads((folder / "train_panda_70m.json").read_text(encoding="utf-8"))
    kept = [row["video_path"] for row in read_rows(folder / "train.jsonl")]
    assert [row["file_path"] for row in trained] == kept and set(kept) <= set(clips) and kept
    assert all(
        set(row) == {"file_path", "text", "type"} and row["type"] == "video" and row["text"].endswith(".")
        for row in trained
    )
    assert "pan" in trained[0]["text"]


def test_score_files_hold_their_columns_and_only_real_scores(dataset):
    folder, _ = dataset
    for name, columns in {
        "technical_score": {
            "sample_frame_idx",
            "technical_score",
            "sharpness",
            "exposure",
            "contrast",
            "colourfulness",
        },
        "text_score": {"text_score"},
        "motion_score": {"motion_score", "camera_motion"},
        "train": {"technical_score", "text_score", "motion_score", "duration", "source_path"},
        "frame_caption": {"image_caption_model", "prompt", "sampled_frame_idx", "sampled_frame_caption"},
        "summary_caption": {"summary_model", "summary_caption"},
    }.items():
        for row in read_rows(folder / f"{name}.jsonl"):
            assert columns <= set(row), name
            assert not any(value is None for value in row.values())


def test_a_rerun_has_nothing_to_do_and_changes_nothing(dataset, scripts):
    folder, _ = dataset
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jsonl")}
    for name, flags in stage_flags(folder).items():
        output = done(name, *flags, launch=(scripts.python,))
        assert name in ("filter_videos_by_motion_score.py", "export_dataset.py") or ", 0 due" in output, output
    rewritten = {"train.jsonl", "dropped.jsonl"}
    assert [p.name for p, mtime in before.items() if p.stat().st_mtime_ns != mtime and p.name not in rewritten] == []


@pytest.mark.parametrize(
    "name",
    [
        "cutscene_detect.py",
        "video_splitting.py",
        "compute_motion_score.py",
        pytest.param("compute_text_score.py", marks=pytest.mark.release),
    ],
)
def test_sigkill_at_any_moment_loses_and_doubles_nothing(dataset, tmp_path, name):
    folder, _ = dataset
    flags = stage_flags(folder)[name]
    saved = Path(flags[flags.index("--saved_path") + 1])
    again = tmp_path / saved.name
    flags[flags.index("--saved_path") + 1] = again
    if name == "video_splitting.py":
        flags[flags.index("--output_folder") + 1] = tmp_path / "clips"
    moments = random.Random(name)
    for n_jobs in (1, 2, 3):
        process = script(name, *flags, "--saved_freq", 1, "--n_jobs", n_jobs)
        time.sleep(moments.uniform(0.5, 3))
        os.killpg(process.pid, signal.SIGKILL) if n_jobs == 2 else process.kill()
        process.communicate()
    done(name, *flags, "--n_jobs", 2)
    times = {"bytes": 0, "stamp": ""}
    assert [row | times for row in read_rows(again)] == [row | times for row in read_rows(saved)]
    if name == "video_splitting.py":
        time.sleep(1)  # readers of a killed run end with it
        made = {p.relative_to(tmp_path / "clips").as_posix() for p in (tmp_path / "clips").rglob("*") if p.is_file()}
        assert made == {row["video_path"] for row in read_rows(saved)}


@pytest.mark.parametrize(
    "name", ["compute_motion_score.py", pytest.param("compute_text_score.py", marks=pytest.mark.release)]
)
def test_two_ranks_give_the_rows_of_one_process(dataset, tmp_path, name):
    folder, _ = dataset
    flags = stage_flags(folder)[name]
    saved = Path(flags[flags.index("--saved_path") + 1])
    flags[flags.index("--saved_path") + 1] = tmp_path / saved.name
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone")
    done(name, *flags, "--n_jobs", 1, launch=torchrun)
    assert read_rows(tmp_path / saved.name) == read_rows(saved)
    assert not list(tmp_path.glob("*.part-*"))


def test_a_recut_clip_is_scored_anew(dataset, tmp_path, scripts):
    folder, _ = dataset
    flags = stage_flags(folder)["compute_video_frame_quality.py"]
    saved = flags[flags.index("--saved_path") + 1] = tmp_path / "technical_score.jsonl"
    done("compute_video_frame_quality.py", *flags, launch=(scripts.python,))
    clips = read_rows(folder / "clips.jsonl")
    clips[0]["end_seconds"] += 1
    recut = flags[flags.index("--video_metadata_path") + 1] = tmp_path / "clips.jsonl"
    recut.write_text("".join(json.dumps(row) + "\n" for row in clips))
    assert "1 results no longer match their input" in done(
        "compute_video_frame_quality.py", *flags, launch=(scripts.python,)
    )
    assert len(read_rows(saved)) == len(clips)


@pytest.mark.parametrize("name", list(stage_flags(Path())))
def test_wrong_flags_end_with_2_before_any_work(dataset, tmp_path, name, ended):
    folder, _ = dataset
    flags = stage_flags(folder)[name]
    for wrong in (["--no_such_flag", "1"], ["--saved_path"]):
        code, output = ended(name, *flags, *wrong)
        assert code == 2 and "error:" in output
    missing = [
        tmp_path / "missing.jsonl"
        if a == "--video_metadata_path"
        else tmp_path / "missing"
        if a == "--video_folder"
        else b
        for a, b in itertools.pairwise([None, *flags])
    ]
    code, output = ended(name, *missing)
    assert code == 2 and re.search(r"error: .*missing.*: no such", output), output


def test_other_settings_stop_with_what_differs(dataset, ended):
    folder, _ = dataset
    code, output = ended(
        "compute_motion_score.py", *stage_flags(folder)["compute_motion_score.py"], "--sampling_fps", 4
    )
    assert code == 2 and "sampling_fps was 2 and is 4.0" in output and "--overwrite" in output


def test_an_empty_folder_is_an_empty_result(tmp_path, scripts):
    (tmp_path / "raw").mkdir()
    for name, flags in stage_flags(tmp_path).items():
        assert "0 rows in" in done(name, *flags, launch=(scripts.python,))
    assert json.loads((tmp_path / "train_panda_70m.json").read_text()) == []


def test_stages_run_under_sh_with_everything_from_the_environment(dataset, tmp_path, scripts):
    folder, _ = dataset
    environment = {
        **os.environ,
        "DATASET_FOLDER": str(tmp_path / "out"),
        "PYTHON": str(scripts.python),
        "PRESET": "embedded",
        "N_JOBS": "2",
    }
    for stage, extra in (
        ("stage_1_video_cut.sh", {"VIDEO_FOLDER": str(folder / "raw"), "MAX_SECONDS": "5"}),
        ("stage_2_filter_data.sh", {"QUALITY_THRESHOLD": "2"}),
        ("stage_3_video_caption.sh", {}),
    ):
        ran = subprocess.run(
            ["sh", str(ROOT / stage)],
            env={**environment, "MAX_SECONDS": "5", **extra},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "+ " in ran.stdout
    clips = read_rows(tmp_path / "out" / "clips.jsonl")
    assert len(clips) == 7 and max(row["duration"] for row in clips) <= 5
    assert json.loads((tmp_path / "out" / "train_panda_70m.json").read_text())
    stopped = subprocess.run(
        ["sh", str(ROOT / "stage_1_video_cut.sh")],
        env={**environment, "VIDEO_FOLDER": str(folder / "raw"), "MAX_SECONDS": "6"},
        capture_output=True,
        text=True,
    )
    assert stopped.returncode == 2 and "max_seconds was 5.0 and is 6.0" in stopped.stderr


def test_overwrite_and_retry_errors_are_flags_of_every_script(dataset, tmp_path):
    """Of the commands that the stages print, and that PYTHON=true does not run."""
    folder, _ = dataset
    shutil.copy(folder / "clips.jsonl", tmp_path)
    for name in ("train", "summary_caption"):
        shutil.copy(folder / "train.jsonl", tmp_path / f"{name}.jsonl")
    for stage, scripts in (("1_video_cut", 2), ("2_filter_data", 4), ("3_video_caption", 3)):
        environment = {
            **os.environ, "DATASET_FOLDER": str(tmp_path), "VIDEO_FOLDER": str(folder / "raw"), "PYTHON": "true", "PRESET": "embedded",
            "REPORT": "0", "OVERWRITE": "1", "RETRY_ERRORS": "1",
        }  # fmt: skip
        command = ["sh", str(ROOT / f"stage_{stage}.sh")]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True)
        lines = [line for line in ran.stdout.splitlines() if line.startswith("+ ")]
        assert ran.returncode == 0 and len(lines) == scripts, ran.stdout + ran.stderr
        assert all(line.endswith(" --overwrite --retry_errors") for line in lines), ran.stdout


@pytest.mark.release
def test_overwrite_and_retry_errors_reach_every_stage(dataset, tmp_path):
    folder, _ = dataset
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(folder / "raw" / "one.mp4", raw)
    (raw / "late.mp4").write_text("no video yet")
    environment = {
        **os.environ,
        "DATASET_FOLDER": str(tmp_path / "out"),
        "PYTHON": sys.executable,
        "PRESET": "embedded",
    }

    def stages(**variables):
        printed = ""
        for stage, videos in (("1_video_cut", raw), ("2_filter_data", None), ("3_video_caption", None)):
            where = {"VIDEO_FOLDER": str(videos)} if videos else {}
            ran = subprocess.run(
                ["sh", str(ROOT / f"stage_{stage}.sh")],
                env={**environment, **where, **variables},
                capture_output=True,
                text=True,
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
            printed += ran.stdout
        return printed

    assert "2 rows in = 1 cut into shots + 1 errors" in stages()
    shutil.copy(folder / "raw" / "three.mp4", raw / "late.mp4")
    assert "2 rows in = 2 cut into shots + 0 errors" in stages()  # a mended source is due without a flag
    assert ", 1 due" not in stages(RETRY_ERRORS="1")
    before = (tmp_path / "out" / "motion_score.jsonl").read_bytes()
    assert "done before" not in stages(OVERWRITE="1")
    assert (tmp_path / "out" / "motion_score.jsonl").read_bytes() == before


def test_a_working_directory_with_a_utils_of_its_own_is_no_matter(dataset, tmp_path, run_script):
    folder, _ = dataset
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "__init__.py").write_text("raise SystemExit('the wrong utils')")
    flags = stage_flags(folder)["compute_motion_score.py"]
    flags[flags.index("--saved_path") + 1] = tmp_path / "motion_score.jsonl"
    assert "+ 0 errors +" in run_script("compute_motion_score.py", *flags).stdout


def test_frames_of_a_clip_are_those_of_easyanimate():
    from utils.video.sampling import choose_frames

    assert choose_frames("uniform", 4, 239) == [0, 59, 119, 179]
    assert choose_frames("mid", 4, 239) == [119] and choose_frames("uniform", 4, 2) == [0, 1]
    assert np.all(np.diff(choose_frames("uniform", 16, 100)) > 0)


def test_an_error_is_tried_again_when_its_input_has_changed(tmp_path, scripts):
    pan(tmp_path / "raw" / "a.mp4", 4)
    flags, here = stage_flags(tmp_path)["video_splitting.py"], (scripts.python,)
    row = {"video_path": "a.mp4", "timecode_list": [["00:00:00.000", "00:00:09.000"]]}
    (tmp_path / "scenes.jsonl").write_text(json.dumps(row) + "\n")
    assert "0 cut into 0 clips + 1 errors" in done(
        "video_splitting.py", *flags, code=1, launch=here
    )  # every row failed
    row["timecode_list"] = [["00:00:00.000", "00:00:04.000"]]
    (tmp_path / "scenes.jsonl").write_text(json.dumps(row) + "\n")
    assert "1 cut into 1 clips + 0 errors" in done("video_splitting.py", *flags, launch=here)
