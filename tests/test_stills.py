"""Images beside clips: read as clips of one frame, filtered, captioned and cropped with them."""

import json
import os
import re
import shutil
import subprocess
from io import BytesIO

import cv2
import numpy as np
import pytest
from conftest import ROOT, write_video
from PIL import Image
from skimage import data

from utils.errors import VideoError
from utils.pipeline.process import RunOptions, Step, process_rows
from utils.pipeline.row_list import Rows
from utils.rows import read_rows
from utils.video.geometry import frame_to_array
from utils.video.sampling import FrameSampling
from utils.video.stills import is_still
from utils.video_utils import get_video_path_list


def photo(width: int, height: int) -> np.ndarray:
    """uint8 (height, width, 3), RGB."""
    return cv2.resize(data.astronaut(), (width, height), interpolation=cv2.INTER_AREA)


def frame_of(path) -> np.ndarray:
    indices, seconds, frames = FrameSampling("uniform", 4).frames(str(path))
    assert (indices, seconds) == ([0], [0.0])
    return frame_to_array(frames[0], "rgb24")


@pytest.mark.parametrize(
    "name, mode, options",
    [
        ("a.png", "RGB", {}),
        ("b.JPG", "RGB", {"quality": 98, "subsampling": 0}),
        ("c.jpeg", "RGB", {"quality": 98, "subsampling": 0, "progressive": True}),
        ("d.webp", "RGB", {"lossless": True}),
        ("e.webp", "RGB", {"quality": 98}),
        ("f.png", "RGBA", {}),
        ("g.png", "P", {}),
        ("h.png", "L", {}),
        ("i.jpg", "CMYK", {"quality": 98}),
        ("img_%03d.png", "RGB", {}),
    ],
)
def test_a_still_is_a_clip_of_one_frame(tmp_path, name, mode, options):
    wanted = Image.fromarray(photo(160, 120)).convert(mode)
    wanted.save(tmp_path / name, **options)
    found = frame_of(tmp_path / name)
    assert found.shape == (120, 160, 3)
    assert np.abs(found.astype(int) - np.asarray(wanted.convert("RGB"))).mean() < (12 if mode == "CMYK" else 4)


def test_the_ending_may_lie_and_a_photo_stands_upright(tmp_path):
    picture = Image.fromarray(photo(160, 120))
    picture.save(tmp_path / "a.png", "JPEG", quality=98)
    assert frame_of(tmp_path / "a.png").shape == (120, 160, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    picture.save(tmp_path / "b.jpg", quality=98, exif=exif)
    found, wanted = frame_of(tmp_path / "b.jpg"), np.rot90(photo(160, 120), -1)
    assert found.shape == wanted.shape and np.abs(found.astype(int) - wanted).mean() < 4


def test_what_is_no_still_is_an_error_in_a_sentence(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff nothing")
    frames = [Image.fromarray(photo(64, 64)), Image.fromarray(photo(64, 64)[::-1])]
    frames[0].save(tmp_path / "c.webp", save_all=True, append_images=frames[1:])
    for name, why in (("a.png", "not the JPEG, PNG or WebP"), ("b.jpg", "no image that can"), ("c.webp", "c.webp")):
        with pytest.raises(VideoError, match=why):
            frame_of(tmp_path / name)


def test_a_folder_gives_its_stills_but_for_covers(tmp_path):
    for name in (
        "a.mp4",
        "a.jpg",
        "b.PNG",
        "sub/a.webp",
        ".hidden.png",
        "scores.png",
        "report_files/ab/ab.webp",
        "d.gif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert get_video_path_list(str(tmp_path)) == ["a.mp4"]
    assert get_video_path_list(str(tmp_path), stills=True) == ["a.mp4", "b.PNG", "sub/a.webp"]
    assert get_video_path_list(str(tmp_path / "b.PNG"), stills=True) == ["b.PNG"]
    assert not is_still("x/scores.png") and not is_still("a.png.mp4")


def scored(row: dict) -> dict:
    return {"motion_score": 1.0}


def test_a_step_that_takes_no_stills_counts_them(tmp_path, capsys):
    rows = Rows.of({"video_path": path} for path in ("a.mp4", "b.png", "c.JPG", "b.png"))
    step = Step("motion", scored, {}, opens_video=False, stills=False)
    process_rows(step, rows, RunOptions(str(tmp_path / "motion.jsonl")))
    said = capsys.readouterr().out
    assert "3 rows in = 1 scored + 0 errors + 2 filtered (2 of them stills, to which it does not apply)" in said
    assert [row["video_path"] for row in read_rows(tmp_path / "motion.jsonl")] == ["a.mp4"]


def stage(number: int, folder, scripts, **settings) -> str:
    script = {2: "stage_2_filter_data.sh", 3: "stage_3_video_caption.sh"}[number]
    environment = {**os.environ, "DATASET_FOLDER": str(folder / "set"), "VIDEO_FOLDER": str(folder / "raw"), "PRESET": "embedded", "PYTHON": str(scripts.python), "N_JOBS": "1", "CROP": "1", "MIN_SHORT_SIDE": "256", **settings}  # fmt: skip
    ran = subprocess.run(["sh", str(ROOT / script)], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("with_clips", [True, False])
def test_stages_2_and_3_take_stills(tmp_path, scripts, with_clips):
    (tmp_path / "raw").mkdir()
    sharp, barred = photo(640, 480), photo(640, 480)
    barred[:50] = barred[-50:] = 0
    Image.fromarray(sharp).save(tmp_path / "raw/a.jpg", quality=95)
    Image.fromarray(barred).save(tmp_path / "raw/bars.png")
    Image.fromarray((sharp * 0.03).astype(np.uint8)).save(tmp_path / "raw/dark.webp", lossless=True)
    Image.fromarray(photo(100, 75)).save(tmp_path / "raw/small.png")
    if with_clips:
        wide = photo(640, 400)
        write_video(tmp_path / "raw/still.mp4", (wide[:256, 2 * i : 2 * i + 320] for i in range(96)))
        Image.fromarray(sharp).save(tmp_path / "raw/still.jpg")  # a cover
    said = stage(2, tmp_path, scripts, **({} if with_clips else {"AUDIO": "1", "DEDUP": "1"}))
    kept = {row["video_path"]: row for row in read_rows(tmp_path / "set/train.jsonl")}
    assert {"a.jpg", "bars.png"} <= kept.keys() <= {"a.jpg", "bars.png", "still.mp4"}
    dropped = {row["video_path"]: row["reason"] for row in read_rows(tmp_path / "set/dropped.jsonl")}
    assert dropped["dark.webp"].startswith("technical_score") and dropped["small.png"].startswith("crop_short_side")
    assert "filtered (4 of them stills, to which it does not apply)" in said
    (spared,) = re.findall("4 of the rows are stills, exempt from scores that stills do not have: (.*)", said)
    assert {"duration"} < set(spared.split(", "))
    assert "is missing" not in said
    assert kept["a.jpg"]["media_type"] == "image" and kept["a.jpg"]["frame_size"] == [640, 480]
    assert "duration" not in kept["a.jpg"] and "frame_rate" not in kept["a.jpg"]
    assert Image.open(tmp_path / "raw/bars.cropped.png").size == (640, kept["bars.png"]["crop_box"][3])
    assert 370 <= kept["bars.png"]["crop_box"][3] <= 380

    page = (tmp_path / "set/report.html").read_text(encoding="utf-8")
    (shown,) = json.loads(page.partition('id="report">')[2].partition("</script>")[0])["datasets"]
    without = {column["name"] for column in shown["columns"] if column.get("without_stills")}
    assert shown["stills"] is not None and "technical_score" not in without
    assert {"motion_score", "cut_inside"} <= without or not with_clips

    stage(3, tmp_path, scripts)
    captions = {row["video_path"]: row["summary_caption"] for row in read_rows(tmp_path / "set/summary_caption.jsonl")}
    assert captions.keys() == kept.keys() and all(captions.values())
    listed = {row["file_path"]: row["type"] for row in read_rows_of_json(tmp_path / "set/train_panda_70m.json")}
    assert listed["a.jpg"] == listed["bars.cropped.png"] == "image"
    assert listed.get("still.mp4", "video") == "video"
    again = stage(
        2, tmp_path, scripts, **({} if with_clips else {"AUDIO": "1", "DEDUP": "1"})
    )  # cropped forms are no new stills
    assert f"{5 if with_clips else 4} of {5 if with_clips else 4} done before" in again


def read_rows_of_json(path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node, which runs the report's page")
def test_the_page_of_a_report_spares_stills_as_the_filter_does():
    program = f"import {{ Choice }} from {json.dumps(str(ROOT / 'report_page/src/choice.js'))};"
    program += """
        const column = (name, without_stills) => ({ kind: "number", name, file: "f", without_stills, values: Float64Array.of(NaN, NaN, 9) });
        const columns = [column("motion", true), column("quality", undefined)];
        const filters = columns.map(({ name }) => ({ file: "f", column: name, low: 5, high: null }));
        const judged = (chosen) => [...new Choice({ columns, filters: chosen, count: 3, marks: {}, stills: Uint8Array.of(1, 0, 1) }, { all: () => [] }).failed];
        console.log(JSON.stringify([judged([filters[0]]), judged([filters[1]])]));
    """
    ran = subprocess.run(["node", "--input-type=module", "-e", program], capture_output=True, text=True)
    first, second = json.loads(ran.stdout or ran.stderr)
    assert [code < 0 for code in first] == [True, False, True] and [code < 0 for code in second] == [False, False, True]


def test_a_filter_holds_stills_against_what_they_have(tmp_path, run_script):
    names = ("a.png", "b.png", "c.mp4")
    (tmp_path / "list.jsonl").write_text("".join(f'{{"video_path": "{n}", "frame_size": [64, 64]}}\n' for n in names))
    for name, settings in (("of_all", {}), ("of_clips", {"stills": False})):
        value = {"of_all": {"a.png": 1, "b.png": 9}, "of_clips": {}}[name]
        rows = "".join(f'{{"video_path": "{path}", "{name}": {v}}}\n' for path, v in {"c.mp4": 9, **value}.items())
        (tmp_path / f"{name}.jsonl").write_text(rows)
        (tmp_path / f"{name}.settings.json").write_text(str({"file": f"{name}.jsonl", **settings, "inputs": {}}).replace("'", '"').replace("False", "false"))  # fmt: skip
    flags = [word for name in ("of_all", "of_clips") for word in ("--filter", f"{name}.jsonl", name, 5, "none")]
    run_script("filter_videos_by_motion_score.py", "--video_metadata_path", "list.jsonl", "--min_seconds=-inf", *flags, "--saved_path", "train.jsonl", code=2)  # fmt: skip
    (tmp_path / "list.jsonl").write_text((tmp_path / "list.jsonl").read_text().replace('c.mp4", ', 'c.mp4", "duration": 5, '))  # fmt: skip
    run_script("filter_videos_by_motion_score.py", "--video_metadata_path", "list.jsonl", *flags, "--saved_path", "train.jsonl")  # fmt: skip
    assert [row["video_path"] for row in read_rows(tmp_path / "train.jsonl")] == ["b.png", "c.mp4"]


def test_stills_of_a_url_are_those_of_the_folder(tmp_path):
    from utils import storage

    url = f"memory://stills/{tmp_path.name}"
    content = BytesIO()
    Image.fromarray(photo(160, 120)).save(content, "PNG")
    storage.filesystem(url).pipe_file(f"{url}/a.png", content.getvalue())
    assert get_video_path_list(url, stills=True) == ["a.png"]
    assert np.array_equal(frame_of(f"{url}/a.png"), photo(160, 120))
