"""Shots begin on the frame where the scene changes, timed from the first frame; what is no video becomes an error row."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest
from conftest import ROOT, write_video

from cutscene_detect import detect_shots, main
from utils.cutting.detectors import DETECTORS, make_detector
from utils.cutting.spans import timecode
from utils.errors import UsageError
from utils.video_utils import content_digest

NTSC = Fraction(24000, 1001)
WITHOUT_WEIGHTS = [name for name, detector in DETECTORS.items() if not detector.needs]


def shots(lengths: list[int], width: int = 128, height: int = 72) -> list[np.ndarray]:
    """Hard-cut shots: drifting patches of another size, colour and brightness in each, uint8 (H, W, 3)."""
    frames = []
    for number, length in enumerate(lengths):
        dice = np.random.default_rng(number)
        patches = cv2.resize(
            dice.integers(0, 256, (3 + 2 * number, 5 + 4 * number, 3), np.uint8),
            (2 * width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        tint = [(20, 40, 90), (250, 220, 180), (120, 160, 60)][number % 3]
        scene = cv2.addWeighted(patches, 0.6, np.full_like(patches, tint), 0.4, 0)
        frames += [scene[:, i // 2 % width : i // 2 % width + width] for i in range(length)]
    return frames


def detect(path, detector="transitions", threshold=None) -> dict:
    return detect_shots({"video_path": path.name}, str(path.parent), lambda: make_detector(detector, threshold, {}))


def starts(row: dict) -> list[str]:
    return [start for start, _ in row["timecode_list"]]


@pytest.mark.parametrize("detector", [name for name in WITHOUT_WEIGHTS if name != "threshold"])
@pytest.mark.parametrize("fps", [24, NTSC, 60])
def test_cuts_are_found_on_their_frame(fps, detector, tmp_path):
    second = round(fps)
    path = write_video(tmp_path / "a.mp4", shots([second, 2 * second + 7, second + 3, 2 * second]), fps)
    cuts = [0, second, 3 * second + 7, 4 * second + 10, 6 * second + 10]
    times = [timecode(float(i / Fraction(fps))) for i in cuts]
    assert detect(path, detector)["timecode_list"] == [[a, b] for a, b in zip(times, times[1:], strict=False)]


def test_cuts_of_variable_frame_rate_are_found_by_their_time(tmp_path):
    pts = np.cumsum([0] + [20, 30, 70, 40] * 35)[:-1].tolist()  # milliseconds: 1.6 s a 40 frames
    path = write_video(tmp_path / "a.mp4", shots([40, 60, 40]), 25, pts=pts, time_base=Fraction(1, 1000))
    row = detect(path)
    assert row["timecode_list"] == [
        ["00:00:00.000", "00:00:01.600"],
        ["00:00:01.600", "00:00:04.000"],
        [
            "00:00:04.000",
            "00:00:05.630",
        ],  # the last frame is taken to be as long as the one before
    ]
    assert (row["num_frames"], row["duration"]) == (140, 5.63)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mp4"])
def test_time_is_counted_from_the_first_frame(name, tmp_path):
    pts = [36000 * 25 + i for i in range(100)]  # ten hours
    row = detect(write_video(tmp_path / name, shots([50, 50]), 25, pts=pts, time_base=Fraction(1, 25)))
    assert row["timecode_list"] == [["00:00:00.000", "00:00:02.000"], ["00:00:02.000", "00:00:04.000"]]


@pytest.mark.parametrize("detector", WITHOUT_WEIGHTS)
def test_one_shot_is_one_entry(detector, tmp_path):
    row = detect(write_video(tmp_path / "a.mp4", shots([60])), detector)
    assert row["timecode_list"] == [["00:00:00.000", "00:00:02.500"]]


def test_one_frame_is_one_shot(tmp_path):
    row = detect(write_video(tmp_path / "a.mp4", shots([1])))
    assert (row["timecode_list"], row["num_frames"]) == ([["00:00:00.000", "00:00:00.042"]], 1)


def test_threshold_detector_finds_a_fade_to_black(tmp_path):
    bright = np.full((72, 128, 3), 180, np.uint8)
    frames = [bright] * 40 + [bright * 0] * 24 + [bright] * 40
    row = detect(write_video(tmp_path / "a.mp4", frames), "threshold")
    assert len(row["timecode_list"]) == 2


def test_the_threshold_is_the_detector_s(tmp_path):
    path = write_video(tmp_path / "a.mp4", shots([48, 48]))
    assert len(detect(path, "content", 27)["timecode_list"]) == 2
    assert len(detect(path, "content", 250)["timecode_list"]) == 1


def test_columns(tmp_path):
    def anamorphic(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    row = detect(write_video(tmp_path / "a.mp4", shots([48, 50], 96, 72), NTSC, change=anamorphic))
    assert row == {
        "timecode_list": [["00:00:00.000", "00:00:02.002"], ["00:00:02.002", "00:00:04.087"]],
        "transitions": [],
        "frame_rate": "24000/1001",
        "frame_size": [128, 72],  # as shown
        "duration": 4.087417,
        "num_frames": 98,
        "codec": "h264",
        "source_digest": content_digest(str(tmp_path / "a.mp4")),
    }


def test_timecode():
    assert [timecode(t) for t in (0, 0.0004, 59.9996, 3723.5, 360000)] == [
        "00:00:00.000", "00:00:00.000", "00:01:00.000", "01:02:03.500", "100:00:00.000",
    ]  # fmt: skip


# The script


def load(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def load_csv(path) -> list[dict]:
    with open(path, newline="", errors="surrogateescape") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def videos(tmp_path):
    """A folder `in` with one good video of two shots, of 2 s each, moov box first."""
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "good.mp4", shots([48, 48]), container_options={"movflags": "faststart"})
    return tmp_path / "in"


def test_what_is_no_video_becomes_an_error_row(videos, tmp_path, run_script):
    good = videos / "good.mp4"
    whole = good.read_bytes()
    (videos / "text.mp4").write_text("not a video\n" * 100)
    (videos / "empty.mp4").touch()
    (videos / "truncated.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    (videos / "header_only.mp4").write_bytes(whole[:200])
    segment = f"#EXTINF:4,\n{good}\n#EXT-X-ENDLIST\n"
    (videos / "playlist.mp4").write_text("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n" + segment)
    (videos / "playlist.ts").write_text("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n" + segment)
    (videos / "concat.mp4").write_text(f"ffconcat version 1.0\nfile '{good}'\n")
    (videos / "folder.mp4").mkdir()
    os.mkfifo(videos / "pipe.mp4")
    (videos / "loop.mp4").symlink_to("loop.mp4")
    done = run_script("cutscene_detect.py", "--video_folder", "in", "--saved_path", "scenes.jsonl", "--n_jobs", 2)
    assert "10 rows in = 1 cut into shots + 9 errors + 0 filtered" in done.stdout
    assert [row["video_path"] for row in load(tmp_path / "scenes.jsonl")] == ["good.mp4"]
    errors = load(tmp_path / "scenes.errors.jsonl")
    assert sorted(row["video_path"] for row in errors) == [
        "concat.mp4", "empty.mp4", "header_only.mp4", "loop.mp4", "pipe.mp4", "playlist.mp4", "playlist.ts",
        "text.mp4", "truncated.mp4",
    ]  # fmt: skip
    assert all(row["error"] == "VideoError" and row["video_path"] in row["message"] for row in errors)
    flags = ("--video_folder", "in", "--saved_path", "scenes.jsonl", "--n_jobs", 2)
    assert ", 0 due" in run_script("cutscene_detect.py", *flags).stdout  # none of them is taken for a mended one


NOT_UTF8 = "\udcff\udcfe.mp4"
ODD_NAMES = [
    "-leading.mp4",
    "a b.mp4",
    "concat:x|y.mp4",
    'it\'s "q".mp4',
    "n%03d.mp4",
    "two\nlines.mp4",
    "影片 é.mp4",
    NOT_UTF8,
]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_odd_names(ending, videos, tmp_path, run_script):
    for name in ODD_NAMES:
        shutil.copy(videos / "good.mp4", videos / name)
    (videos / "good.mp4").unlink()
    run_script("cutscene_detect.py", "--video_folder", "in", "--saved_path", f"scenes.{ending}", "--n_jobs", 2)
    if ending == "jsonl":
        rows = load(tmp_path / "scenes.jsonl")
    else:
        rows = [{**row, "timecode_list": json.loads(row["timecode_list"])} for row in load_csv(tmp_path / "scenes.csv")]
    assert sorted(row["video_path"] for row in rows) == sorted(set(ODD_NAMES) - {NOT_UTF8})
    (error,) = load(tmp_path / "scenes.errors.jsonl")
    assert error["video_path"] == "\ufffd\ufffd.mp4"
    assert "is not valid UTF-8" in error["message"] and "rename the file" in error["message"]
    assert all(starts(row) == ["00:00:00.000", "00:00:02.000"] for row in rows)


def test_csv_in_and_out_and_on_to_splitting(videos, tmp_path, run_script):
    shutil.copy(videos / "good.mp4", videos / "b.mp4")
    (tmp_path / "list.csv").write_text('file,label\ngood.mp4,dog\ngone.mp4,cat\nb.mp4,"cat, big"\n')
    flags = [
        "--video_metadata_path",
        "list.csv",
        "--video_path_column",
        "file",
        "--video_folder",
        "in",
        "--saved_path",
        "scenes.csv",
    ]
    assert "3 rows in = 2 cut into shots + 1 errors" in run_script("cutscene_detect.py", *flags).stdout
    rows = load_csv(tmp_path / "scenes.csv")
    assert [row["video_path"] for row in rows] == ["good.mp4", "b.mp4"]
    assert json.loads(rows[0]["timecode_list"]) == [["00:00:00.000", "00:00:02.000"], ["00:00:02.000", "00:00:04.000"]]
    assert (rows[0]["frame_rate"], rows[0]["frame_size"], rows[0]["num_frames"]) == ("24", "[128, 72]", "96")

    flags = [
        "--video_metadata_path",
        "scenes.csv",
        "--video_folder",
        "in",
        "--output_folder",
        "out",
        "--saved_path",
        "clips.csv",
    ]
    run_script("video_splitting.py", *flags, "--min_seconds", 1)
    clips = load_csv(tmp_path / "clips.csv")
    assert [row["video_path"] for row in clips] == [
        f"{stem}-Scene-00{number}.mp4" for stem in ("good", "b") for number in (1, 2)
    ]
    assert (clips[0]["num_frames"], clips[0]["frame_size"]) == ("48", "[128, 72]")


def test_wrong_use_is_a_sentence(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for flags, said in (
        (["--video_folder", "nowhere"], "nowhere: no such folder"),
        ([], "give --video_folder or --video_metadata_path"),
        (
            ["--video_folder", "in", "--detector", "transnetv2", "--transnetv2_model", "nowhere.onnx"],
            "--transnetv2_model nowhere.onnx: no such file",
        ),
        (
            ["--video_folder", "in", "--detector", "transnetv2", "--transnetv2_model", "in/good.mp4"],
            "good.mp4: not a network",
        ),
        (["--video_folder", "in", "--cutscene_threshold", "3"], "--detector fitted: this detector has no threshold"),
        (["--video_metadata_path", "list.csv"], "list.csv: no such file"),
    ):
        monkeypatch.setattr("sys.argv", ["cutscene_detect.py", *flags])
        with pytest.raises(UsageError, match=said):
            main()


def test_every_detector_is_listed_with_its_threshold(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["cutscene_detect.py", "--help"])
    with pytest.raises(SystemExit):
        main()
    said = " ".join(capsys.readouterr().out.split())
    for name, detector in DETECTORS.items():
        assert f"{name}: {detector.help}" in said
        assert detector.threshold is None or f"{name} {detector.threshold:g}" in said


def test_the_settings_are_those_of_datasets_made_before(videos, tmp_path, run_script):
    run_script("cutscene_detect.py", "--video_folder", "in", "--detector", "content", "--cutscene_threshold", 30)
    settings = json.loads((tmp_path / "scenes.settings.json").read_text())
    assert settings.pop("checked") > 0 and settings.pop("inputs") == {}
    assert settings.pop("script") == "cutscene_detect.py"
    assert settings.pop("end_fades") is True  # a file without it goes on without
    assert settings == {"file": "scenes.jsonl", "detector": "content", "threshold": 30.0, "transnetv2_model": None}


def test_a_dataset_goes_on_with_its_detector(videos, tmp_path, run_script):
    def detector() -> str:
        return json.loads((tmp_path / "scenes.settings.json").read_text())["detector"]

    run_script("cutscene_detect.py", "--video_folder", "in", "--detector", "transitions")
    assert ", 0 due" in run_script("cutscene_detect.py", "--video_folder", "in").stdout and detector() == "transitions"
    run_script("cutscene_detect.py", "--video_folder", "in", "--overwrite")
    assert detector() == "fitted"


def test_a_dataset_begun_by_the_former_default_goes_on_with_it(videos, tmp_path, run_script):
    run_script("cutscene_detect.py", "--video_folder", "in", "--detector", "both")
    (row,) = (tmp_path / "scenes.jsonl").read_text().splitlines()
    shutil.copy(tmp_path / "in" / json.loads(row)["video_path"], tmp_path / "in" / "more.mp4")
    assert "1 of 2 done before, 1 due" in run_script("cutscene_detect.py", "--video_folder", "in").stdout
    assert json.loads((tmp_path / "scenes.settings.json").read_text())["detector"] == "both"
    assert row in (tmp_path / "scenes.jsonl").read_text().splitlines()


def test_the_detector_of_the_page_about_adding_one(tmp_path):
    """docs/add_a_detector.md as it is written: a new module, an import and a line of the table, in a copy."""
    module, lines = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "add_a_detector.md").read_text(), re.DOTALL)
    assert len(module.splitlines()) < 30
    shutil.copytree(ROOT / "utils", tmp_path / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "cutscene_detect.py", tmp_path)
    (tmp_path / module.splitlines()[0].removeprefix("# ")).write_text(module)
    table = tmp_path / lines.splitlines()[0].removeprefix("# ")
    (imported,) = re.findall(r"^from .*\n", lines, re.MULTILINE)
    (entry,) = re.findall(r"^    .*\n", lines, re.MULTILINE)
    head = "DETECTORS: dict[str, Detector] = {\n"
    table.write_text(imported + table.read_text().replace(head, head + entry))

    levels = [40] * 30 + [90] * 50 + [60] * 40  # jumps of 50 and 30
    write_video(tmp_path / "in.mp4", (np.full((72, 128, 3), level, np.uint8) for level in levels))
    command = [sys.executable, "cutscene_detect.py", "--video_folder", "in.mp4", "--detector", "brightness"]
    subprocess.run(command, cwd=tmp_path, check=True)
    (row,) = load(tmp_path / "scenes.jsonl")
    assert starts(row) == ["00:00:00.000", "00:00:01.250", "00:00:03.333"]
    subprocess.run([*command, "--cutscene_threshold", "40", "--overwrite"], cwd=tmp_path, check=True)
    (row,) = load(tmp_path / "scenes.jsonl")
    assert starts(row) == ["00:00:00.000", "00:00:01.250"]
    refused = subprocess.run(
        [*command, "--cutscene_threshold", "300"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert refused.returncode == 2 and "--detector brightness: the threshold is 300" in refused.stderr
