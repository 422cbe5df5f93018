"""Faults of machine, disk and user: each ends in a sentence or an error row, and what was written stays readable."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, write_numbered

from utils.cutting.clip_track import Clip, Encoding
from utils.cutting.clip_writer import write_clips
from utils.cutting.split import clip_columns, read_source
from utils.cutting.unfinished import claim, sweep_unfinished
from utils.errors import OutputError, UsageError, VideoError
from utils.pipeline.result_file import ResultFile
from utils.rows import read_rows, write_rows
from utils.video.opening import open_video


@pytest.fixture
def dataset(tmp_path, run_script):
    """A dataset of one source of four seconds in `data`, cut into one clip."""
    (tmp_path / "data" / "raw" / "sub").mkdir(parents=True)
    write_numbered(tmp_path / "data" / "raw" / "sub" / "a.mp4", 96, sound=None)
    row = {"video_path": "sub/a.mp4", "timecode_list": [[0, 4]], "num_frames": 96, "frame_size": [192, 108]}
    (tmp_path / "data" / "scenes.jsonl").write_text(json.dumps(row) + "\n")
    run_script("video_splitting.py", *split_flags("data"))
    return tmp_path / "data"


def split_flags(folder: str | Path) -> list[str]:
    return [
        "--video_folder", f"{folder}/raw", "--video_metadata_path", f"{folder}/scenes.jsonl",
        "--output_folder", f"{folder}/clips", "--saved_path", f"{folder}/clips.jsonl", "--preset", "ultrafast",
    ]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dataset_that_was_moved_is_resumed(dataset, tmp_path, run_script):
    before = contents(dataset)
    assert str(tmp_path).encode() not in b"".join(before.values())
    moved = tmp_path / "elsewhere" / "data"
    shutil.copytree(dataset, moved)
    shutil.rmtree(dataset)
    assert "1 of 1 done before, 0 due" in run_script("video_splitting.py", *split_flags(moved)).stdout
    after = contents(moved)
    settings, now = (json.loads(files.pop("clips.settings.json")) for files in (before, after))
    assert now.pop("checked") > settings.pop("checked")  # the copies are younger than they were checked
    assert (after, now) == (before, settings)


def test_a_model_that_was_moved_is_the_same_and_another_of_its_name_is_not(tmp_path):
    for folder in ("there", "here"):
        (tmp_path / folder / "model").mkdir(parents=True)
    rows = tmp_path / "rows.jsonl"
    made = ResultFile(rows, {"model": str(tmp_path / "there" / "model")})
    made.add([{"video_path": "a.mp4"}])
    made.close()
    now = {"model": str(tmp_path / "here" / "model")}
    with pytest.raises(UsageError, match="was made with other settings: model was"):
        ResultFile(rows, now)
    os.rename(tmp_path / "there", tmp_path / "elsewhere")
    ResultFile(rows, now).close()
    assert read_rows(rows) == [{"video_path": "a.mp4"}]


ROWS = ("--video_metadata_path", "rows.jsonl")
WRONG = {
    "cutscene_detect": {"--cutscene_threshold": ("nan", "inf", "-1")},
    "video_splitting": {
        "--crf": (99, -1, 1.5),
        "--resolution_threshold": ("10x", "x10", "-5", "nan", "1e3"),
        "--min_seconds": ("nan", "0", "inf"),
        "--max_seconds": ("nan", "inf"),
        "--transition_margin": ("nan", "-1", "inf"),
        "--encoder_threads": (0, 10**6),
        "--n_jobs": (0, 10**6, "nan"),
        "--timeout_seconds": ("nan", "inf", -1),
        "--saved_freq": (0, "nan"),
        "--saved_path": (".", "", "/", "folder", "new/", "scores.txt", "scores.jsnol"),
    },
    "compute_motion_score": {
        "--short_side": (1, -2, 10**6),
        "--sampling_fps": ("nan", "inf", 0),
        "--text_score_threshold": ("nan",),
    },
    "compute_text_score": {
        "--box_threshold": (7, "nan", -0.1),
        "--low_text": (7, "nan"),
        "--link_threshold": (7,),
        "--canvas_size": (1, 10**6),
        "--num_sampled_frames": (0, 10**9),
    },
    "compute_video_frame_quality": {"--batch_size": (0, 10**9)},
    "filter_videos_by_motion_score": {
        "--min_seconds": ("nan",),
        "--high_motion_score_threshold": ("nan",),
        "--dropped_path": (".", "folder"),
        "--plot": (".", "x.jpg"),
    },
    "export_dataset": {"--saved_path": (".", "folder", "train.xml")},
    "caption_video_frame": {
        "--temperature": ("nan", "inf", -1),
        "--max_new_tokens": (0,),
        "--max_pixels": (0,),
        "--gpu_memory_utilization": (7, "nan"),
        "--request_seconds": ("inf", "nan", 0),
        "--base_url": ("http://127.0.0.1:9/v1",),
    },
    "caption_summary": {"--max_words": (0, "nan"), "--base_url": ("http://127.0.0.1:9/v1",)},
}


@pytest.mark.parametrize(
    ("script", "flag", "value"),
    [(script, flag, value) for script, flags in WRONG.items() for flag, values in flags.items() for value in values],
)
def test_an_absurd_value_of_a_flag_ends_with_2_before_any_work(script, flag, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "rows.jsonl").write_text("")
    flags = [*ROWS, *(["--output_folder", "folder"] if script == "video_splitting" else [])]
    monkeypatch.setattr(sys, "argv", [script, *flags, f"{flag}={value}"])
    with pytest.raises((SystemExit, UsageError)) as ended:
        importlib.import_module(script).main()
    if ended.type is SystemExit:
        assert ended.value.code == 2
    said = capsys.readouterr().err + str(ended.value)
    assert flag in said and str(value) in said, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "rows.jsonl"]


@pytest.mark.parametrize(
    ("flags", "nearest"),
    [
        (["--n_job", "2"], "--n_jobs"),
        (["x", "--video_fodler=y"], "--video_folder"),
        (["--motion_estimator", "diss"], "dis"),
        (["--zzzz"], None),
    ],
)
def test_a_wrong_flag_comes_with_the_nearest_and_a_command_that_lists_them(flags, nearest, ended):
    code, output = ended("compute_motion_score.py", *flags)
    assert code == 2 and (f"(nearest: {nearest})" in output if nearest else "nearest" not in output)
    assert f"{sys.executable} " in output and "--help lists the flags" in output


def test_bounds_that_nothing_lies_between_are_refused(ended, tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    filtering = ["filter_videos_by_motion_score.py", "--video_metadata_path", "rows.jsonl"]
    for flags, column in ((["--min_seconds", 20], "duration"), (["--filter", "rows.jsonl", "score", 5, 4], "score")):
        code, output = ended(*filtering, *flags)
        assert code == 2 and f"{column}: the lowest value that passes" in output


def finding_shots(tmp_path: Path) -> list[str]:
    """A command about a folder of one short video."""
    (tmp_path / "raw").mkdir()
    write_numbered(tmp_path / "raw" / "a.mp4", 12)
    flags = ["--video_folder", str(tmp_path / "raw"), "--saved_path", str(tmp_path / "scenes.jsonl"), "--overwrite"]
    return [sys.executable, str(ROOT / "cutscene_detect.py"), *flags]


@pytest.mark.slow
def test_ctrl_c_at_any_moment_of_the_start_is_a_sentence(tmp_path):
    command = finding_shots(tmp_path)
    for seconds in (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.1, 1.5):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        output, _ = process.communicate(timeout=60)
        assert "Traceback" not in output and (process.returncode, "interrupted" in output) in ((130, True), (0, False))


@pytest.mark.slow
def test_ctrl_c_in_the_first_moments_is_no_traceback_but_one_of_python_s_own_start(tmp_path):
    """Before our first line runs, and while Python looks for the folder of our first import, it is Python's to answer."""
    command, ours = finding_shots(tmp_path), 0
    for number in range(30):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(number / 30 * 0.2)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert f"{ROOT}/utils/" not in output, output
        assert process.returncode in (130, 1, -signal.SIGINT), output
        ours += output == "interrupted before any work\n"
    assert ours > 15


SAVES_IN_PEACE = """
import os, signal, sys, threading, time
sys.path.insert(0, {root!r})
from utils.cli import run

def main():
    timer = threading.Timer(0.1, lambda: [os.kill(os.getpid(), n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGINT)])
    try:
        timer.start()
        for _ in range(500):  # on a busy machine a signal may come just before a sleep, which it then does not end
            time.sleep(0.1)
    finally:
        time.sleep(0.5)
        print("saved", flush=True)

run(main)
"""


def test_a_signal_that_comes_twice_does_not_interrupt_what_is_being_saved(tmp_path):
    """From the terminal, and passed on by a stage's shell or torchrun."""
    ended = subprocess.run(
        [sys.executable, "-c", SAVES_IN_PEACE.format(root=str(ROOT))], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (130, "saved\n") and "Traceback" not in ended.stderr, ended.stderr


LOSES_CTRL_C = """
import signal, sys, threading
sys.path.insert(0, {root!r})
from utils.cli import run

def main():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("lost", flush=True)  # as an exception in a callback is
    held = threading.Lock()
    held.acquire()
    try:
        held.acquire()
    finally:
        print("saved", flush=True)

run(main)
"""


def test_an_interrupt_that_was_lost_is_raised_again(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", LOSES_CTRL_C.format(root=str(ROOT))], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (130, "lost\nsaved\n") and "interrupted" in ended.stderr


@pytest.mark.parametrize(
    ("change", "code", "expected"),
    [
        ("exec >&-", 0, ""),
        ("exec >&- 2>&- <&-", 0, ""),
        ("export TMPDIR=$PWD/{long}; mkdir $TMPDIR", 0, "1 cut into shots"),
        ("unset HOME", 0, "1 cut into shots"),
        ("ulimit -n 64", 0, "1 cut into shots"),
        ("mkdir gone; cd gone; rmdir ../gone", 2, "the working directory no longer exists"),
        ("echo '[1]' > scenes.settings.json; : > scenes.jsonl", 0, "1 cut into shots"),
    ],
)
def test_odd_surroundings_end_in_no_traceback(change, code, expected, tmp_path):
    command = finding_shots(tmp_path)
    script = f'{change.format(long="x" * 120)}; exec "$@"'
    ended = subprocess.run(["bash", "-c", script, "bash", *command], capture_output=True, text=True, cwd=tmp_path)
    said = ended.stdout + ended.stderr
    assert ended.returncode == code and expected in said and "Traceback" not in said, said
    assert code or len(read_rows(tmp_path / "scenes.jsonl")) == 1


def test_a_reader_that_ends_early_is_no_traceback(tmp_path):
    command = finding_shots(tmp_path)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert "Traceback" not in process.stderr.read() and process.wait() in (0, 1)
    assert len(read_rows(tmp_path / "scenes.jsonl")) == 1


def test_what_a_killed_run_left_is_swept_and_a_live_one_keeps_its_own(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    long_ago = time.time() - 10
    left = {pid: tmp_path / f".rows.jsonl.{pid}.tmp" for pid in (ended.pid, os.getppid())}
    other = tmp_path / f".more.jsonl.{ended.pid}.tmp"
    for path in (*left.values(), other):
        path.write_text("half a")
        os.utime(path, (long_ago, long_ago))
    ResultFile(tmp_path / "rows.jsonl", {}).close()
    assert (left[ended.pid].exists(), left[os.getppid()].exists(), other.exists()) == (False, True, True)
    os.utime(left[os.getppid()], (0, 0))  # the number of a process is given again one day
    write_rows(tmp_path / "rows.jsonl", [])
    assert not left[os.getppid()].exists() and other.exists()


@pytest.mark.parametrize("encoder", ["smart", "libx264", "copy"])
def test_an_output_that_is_gone_or_in_the_way_is_not_blamed_on_the_source(encoder, tmp_path):
    path = str(write_numbered(tmp_path / "a.mp4", 24))
    source = read_source(path, 24)
    (tmp_path / "file").write_text("where a folder must be")
    clip = Clip(tmp_path / "file" / "a.mp4", source.times, int(source.borders[-1]), {})
    with pytest.raises(OutputError, match=r"file/a\.mp4: cannot be written"):
        write_clips(path, [clip], source.index, Encoding(encoder, preset="ultrafast"))
    clip = Clip(tmp_path / "out" / "a.mp4", source.times, int(source.borders[-1]), {})
    write_clips(path, [clip], source.index, Encoding(encoder, preset="ultrafast"))
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(OutputError, match=r"out/a\.mp4: cannot be written: No such file"):
        clip_columns(clip, source)


def test_a_playlist_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "list.mkv").write_text("ffconcat version 1.0\nfile a.mp4\n")
    with pytest.raises(VideoError) as refused, open_video(str(tmp_path / "list.mkv")):
        pass
    assert "it can refer to other files; convert it to mp4 or mkv" in str(refused.value)
    assert "whitelist" not in str(refused.value) and len(str(refused.value)) < 300


def test_a_clip_that_no_process_writes_any_more_is_swept_and_another_is_not(tmp_path):
    (tmp_path / "sub").mkdir()
    other = ("clip-Scene-001.mp4", ".notes.tmp", ".x-Scene-001.mp4.part", "sub/.y-Scene-1.mp4.tmp")
    left = (".a-Scene-001.mp4.tmp", "sub/.line\nbreak-Scene-1000.mp4.tmp")
    for name in (*other, *left):
        (tmp_path / name).write_text("half a")
    code = "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from utils.cutting.unfinished import claim; claim(Path(sys.argv[2])); print(flush=True); time.sleep(60)"
    live = tmp_path / "sub" / ".b-Scene-001.mp4.tmp"
    writer = subprocess.Popen([sys.executable, "-c", code, ROOT, live], stdout=subprocess.PIPE)
    writer.stdout.readline()
    sweep_unfinished(tmp_path)
    assert set(contents(tmp_path)) == {*other, "sub/.b-Scene-001.mp4.tmp"}
    writer.kill()
    writer.wait()
    sweep_unfinished(tmp_path)
    assert set(contents(tmp_path)) == set(other)


def test_an_unfinished_clip_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".a-Scene-001.mp4.tmp").symlink_to("mine")
    os.close(claim(tmp_path / ".a-Scene-001.mp4.tmp"))
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.release), signal.SIGINT, signal.SIGKILL]
)
def test_of_a_clip_that_is_being_written_when_the_run_ends_nothing_is_left(number, tmp_path, run_script):
    """At the latest after the next run, whatever that one cuts."""
    (tmp_path / "raw").mkdir()
    write_numbered(tmp_path / "raw" / "a.mp4", 120, size=(1280, 720))
    write_numbered(tmp_path / "raw" / "b.mp4", 24)
    slow = ("--preset", "placebo", "--encoder", "libx264", "--min_seconds", "1", "--n_jobs", "1")
    for name, seconds in (("a", 5), ("b", 1)):
        row = {"video_path": f"{name}.mp4", "timecode_list": [[0, seconds]]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    flags = ("--video_folder", "raw", "--output_folder", "clips", "--saved_path", "clips.jsonl", *slow)
    command = [sys.executable, ROOT / "video_splitting.py", "--video_metadata_path", "a.jsonl", *flags]
    run = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True, text=True)
    until = time.monotonic() + 60
    while not (tmp_path / "clips" / ".a-Scene-001.mp4.tmp").exists():
        assert run.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    if number == signal.SIGKILL:
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    run.communicate(timeout=30)
    if number != signal.SIGKILL:
        assert run.returncode == 130 and contents(tmp_path / "clips") == {}
    else:
        assert set(contents(tmp_path / "clips")) == {".a-Scene-001.mp4.tmp"}
    run_script("video_splitting.py", "--video_metadata_path", "b.jsonl", *flags)
    assert set(contents(tmp_path / "clips")) == {"b-Scene-001.mp4"}


def test_a_codec_that_mp4_cannot_hold_leaves_no_file(tmp_path):
    path = str(write_numbered(tmp_path / "a.avi", 24, codec="huffyuv", pix_fmt="yuv422p"))
    source = read_source(path, 24)
    clip = Clip(tmp_path / "out" / "a.mp4", source.times, int(source.borders[-1]), {})
    with pytest.raises(VideoError, match="--encoder copy cannot mux it into mp4"):
        write_clips(path, [clip], source.index, Encoding("copy"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_of_crop_boxes_without_any_is_refused(ended, tmp_path):
    """Clips would be measured whole, as if nothing were to be cropped."""
    (tmp_path / "scores.jsonl").write_text('{"video_path": "a.mp4", "technical_score": 5.0}\n')
    flags = ["--video_metadata_path", "scores.jsonl", "--crop_boxes", "scores.jsonl", "--saved_path", "m.jsonl"]
    code, output = ended("compute_motion_score.py", *flags)
    assert code == 2 and "--crop_boxes: scores.jsonl: a.mp4 has no column 'crop_box'" in output
    for folder in (".", "/"):
        code, output = ended("compute_motion_score.py", "--video_metadata_path", folder)
        assert code == 2 and f"{folder} is a folder, not a file of rows" in output
