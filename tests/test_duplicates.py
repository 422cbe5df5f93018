"""Duplicates: copies are grouped whatever was done to them, strangers and other moments of one view are not, and the best one stays."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT, write_video
from skimage import data

from utils.rows import read_rows, write_rows
from utils.scoring.copies import are_copies, packed, unpacked
from utils.scoring.near_duplicates import Clips, hashed_times, hashes_of

PHOTOS = {"coffee": data.coffee(), "cat": data.chelsea(), "astronaut": data.astronaut(), "rocket": data.rocket()}


def pan(name: str, count: int = 72, size=(320, 180), first: int = 0) -> list[np.ndarray]:
    """Frames of a photograph that the camera moves over."""
    photo = cv2.resize(PHOTOS[name], (size[0] * 3 // 2, size[1] * 3 // 2))
    return [
        cv2.getRectSubPix(photo, size, (size[0] * 0.55 + 1.5 * i, size[1] * 0.7)) for i in range(first, first + count)
    ]


def logo(frame: np.ndarray) -> np.ndarray:
    marked = frame.copy()
    cv2.putText(marked, "LOGO", (235, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 3)
    return marked


CHANGES = {
    "crf": (lambda frame: frame, {"options": {"crf": "36"}}),
    "small": (lambda frame: cv2.resize(frame, (160, 90), interpolation=cv2.INTER_AREA), {}),
    "grey": (lambda frame: np.repeat(frame.mean(2, keepdims=True).astype(np.uint8), 3, 2), {}),
    "dark": (lambda frame: (frame * 0.7).astype(np.uint8), {}),
    "logo": (logo, {}),
    "bars": (lambda frame: np.pad(frame, ((40, 40), (0, 0), (0, 0))), {}),
    "webm": (lambda frame: frame, {"codec": "libvpx"}),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for name in PHOTOS:
        write_video(folder / f"{name}.mp4", pan(name))
    for change, (apply, options) in CHANGES.items():
        ending = "webm" if change == "webm" else "mp4"
        write_video(folder / f"coffee-{change}.{ending}", map(apply, pan("coffee")), **options)
    write_video(folder / "coffee-short.mp4", pan("coffee", 36, first=24))
    write_video(folder / "black1.mp4", [np.zeros((90, 160, 3), np.uint8)] * 30)
    write_video(folder / "black2.mp4", [np.zeros((90, 160, 3), np.uint8)] * 30)
    (folder / "bad.mp4").write_text("no video")
    return folder


def found(path) -> dict[str, dict]:
    return {row["video_path"]: row for row in read_rows(path, ("video_path",))}


def test_copies_are_found_and_strangers_are_not(tmp_path, run_script, clips):
    ran = run_script("compute_duplicates.py", "--video_folder", clips, "--saved_path", "d.jsonl", "--n_jobs", 1)
    rows = found(tmp_path / "d.jsonl")
    families = {path: row["duplicate_group"] for path, row in rows.items()}
    coffees = {path for path in rows if path.startswith("coffee")}
    assert len(coffees) == len(CHANGES) + 2
    assert len({families[path] for path in coffees}) == 1
    assert all(families[path] == path and rows[path]["duplicate_of"] == "" for path in set(rows) - coffees)
    assert sorted(rows[path]["duplicate_rank"] for path in coffees) == list(range(len(coffees)))
    assert "bad.mp4" in (tmp_path / "d.errors.jsonl").read_text()
    assert f"{len(CHANGES) + 1} are duplicates of 1 others" in ran.stdout


def fixed_view(moment: int, count: int = 96) -> list[np.ndarray]:
    """Frames of a camera that stands still: a cat's face goes about before the coffee, on another way in every moment."""
    background, cat = cv2.resize(PHOTOS["coffee"], (320, 180)), cv2.resize(PHOTOS["cat"], (70, 60))
    steps = np.random.default_rng(moment).normal(size=(count, 2))
    way = np.cumsum(cv2.GaussianBlur(steps, (1, 25), 6) * [12, 8], axis=0)
    frames = []
    for x, y in np.abs((way + np.array([120 + 40 * moment, 60])) % (500, 240) - (250, 120)).astype(int):
        frame = background.copy()
        frame[y : y + 60, x : x + 70] = cat
        frames.append(frame)
    return frames


def slide(text: str) -> np.ndarray:
    frame = np.full((180, 320, 3), 250, np.uint8)
    for i, line in enumerate(text.splitlines()):
        cv2.putText(frame, line, (20, 40 + 30 * i), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (20, 20, 90), 2)
    return frame


def at_rate(frames: list[np.ndarray], fps: int) -> list[np.ndarray]:
    """Frames of 24 a second at another rate, each the one that is shown then."""
    return [frames[i * 24 // fps] for i in range(len(frames) * fps // 24)]


def test_copies_are_told_from_other_moments_of_one_view(tmp_path, run_script):
    (tmp_path / "clips").mkdir()

    def write(name: str, frames, fps=24, **options) -> None:
        write_video(tmp_path / "clips" / f"{name}.mp4", frames, fps, **options)

    for moment in range(3):
        write(f"view{moment}", fixed_view(moment))
    seen = fixed_view(0)
    write("view0-crf", seen, options={"crf": "35"})
    write("view0-half", [cv2.resize(frame, (160, 90), interpolation=cv2.INTER_AREA) for frame in seen])
    write("view0-30fps", at_rate(seen, 30), 30)
    write("view0-later", seen[27:])  # an offset that no thumbnail is at
    write("view0-inner", [cv2.resize(frame[4:-4, 6:-6], (308, 172)) for frame in seen])
    photo = cv2.resize(PHOTOS["astronaut"], (640, 360))
    shot = [cv2.getRectSubPix(photo, (320, 180), (250 + i / 6, 180)) for i in range(144)]  # a slow pan
    write("shot0", shot[:72])
    write("shot1", shot[72:])
    write("slide", [slide("Why\nclips are cut")] * 72)
    write("slide-crf", [slide("Why\nclips are cut")] * 96, options={"crf": "36"})
    write("slide-half", [cv2.resize(slide("Why\nclips are cut"), (160, 90), interpolation=cv2.INTER_AREA)] * 48)
    write("slide-other", [slide("Contents\n1 cutting\n2 scores\n3 captions")] * 72)
    ran = run_script("compute_duplicates.py", "--video_folder", "clips", "--saved_path", "d.jsonl", "--n_jobs", 1)
    rows = {path.removesuffix(".mp4"): row for path, row in found(tmp_path / "d.jsonl").items()}
    copies = {name for name, row in rows.items() if row["duplicate_rank"]}
    of_view = {name for name in rows if name.startswith("view0")}
    of_slide = {"slide", "slide-crf", "slide-half"}
    assert copies < of_view | of_slide
    assert len(of_view - copies) == len(of_slide - copies) == 1
    assert len({rows[name]["duplicate_group"] for name in of_view}) == 1
    for views in (of_view | {"view1", "view2"}, {"shot0", "shot1"}, of_slide):  # the best of each shows it first
        best = {name for name in views if not rows[name]["same_view"]}
        assert len(best) == 1 and {rows[name]["same_view"] for name in views - best} == {f"{min(best)}.mp4"}
    assert rows["slide-other"]["same_view"] == ""
    assert "3 more show a view that another one shows" in ran.stdout


def test_the_best_stays_whatever_the_order(tmp_path, run_script, clips):
    paths = sorted(path.name for path in clips.glob("*.[mw]*") if path.name != "bad.mp4")
    scores = [{"video_path": path, "technical_score": 9.0 if "grey" in path else 5.0} for path in paths]
    write_rows(tmp_path / "scores.jsonl", scores)
    results = []
    for number, order in enumerate((paths, paths[::-1])):
        write_rows(tmp_path / "list.jsonl", [{"video_path": path} for path in order])
        run_script(
            "compute_duplicates.py", "--video_folder", clips, "--video_metadata_path", "list.jsonl", "--columns_from", "scores.jsonl", "--saved_path", f"{number}.jsonl"
        )  # fmt: skip
        results.append(found(tmp_path / f"{number}.jsonl"))
    assert results[0] == results[1]
    assert results[0]["coffee.mp4"]["duplicate_of"] == "coffee-grey.mp4"


def test_a_clip_that_does_not_pass_keeps_no_other_out(tmp_path, run_script, clips):
    write_rows(tmp_path / "list.jsonl", [{"video_path": path} for path in ("coffee.mp4", "coffee-grey.mp4", "cat.mp4")])
    write_rows(
        tmp_path / "s.jsonl",
        [{"video_path": path, "s": s} for path, s in (("coffee.mp4", 1), ("coffee-grey.mp4", 5), ("cat.mp4", 5))],
    )
    run_script(
        "compute_duplicates.py",
        "--video_folder",
        clips,
        "--video_metadata_path",
        "list.jsonl",
        "--filter",
        "s.jsonl",
        "s",
        3,
        "none",
        "--saved_path",
        "d.jsonl",
    )
    rows = found(tmp_path / "d.jsonl")
    assert {path: row["duplicate_rank"] for path, row in rows.items()} == {"coffee-grey.mp4": 0, "cat.mp4": 0}


def test_a_result_without_an_ending_is_made_and_its_rerun_hashes_nothing_again(tmp_path, run_script, clips):
    flags = ("--video_folder", clips, "--saved_path", "out/dups")
    run_script("compute_duplicates.py", *flags)
    rows = found(tmp_path / "out" / "dups")
    assert len(rows) == len(PHOTOS) + len(CHANGES) + 3
    assert rows["coffee.mp4"]["duplicate_group"] == rows["coffee-grey.mp4"]["duplicate_group"]
    assert "bad.mp4" in (tmp_path / "out" / "dups.errors.jsonl").read_text()
    assert ", 0 due" in run_script("compute_duplicates.py", *flags).stdout
    assert found(tmp_path / "out" / "dups") == rows


def test_a_rerun_hashes_nothing_again(tmp_path, run_script, clips):
    flags = ("--video_folder", clips, "--saved_path", "d.jsonl")
    run_script("compute_duplicates.py", *flags)
    first = (tmp_path / "d.jsonl").read_bytes()
    assert ", 0 due" in run_script("compute_duplicates.py", *flags).stdout
    assert (tmp_path / "d.jsonl").read_bytes() == first


@pytest.mark.release
def test_ranks(tmp_path, clips):
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(ROOT / "compute_duplicates.py"),
        "--video_folder",
        str(clips),
    ]
    ran = subprocess.run(
        [sys.executable, *command, "--saved_path", "d.jsonl", "--n_jobs", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert len(found(tmp_path / "d.jsonl")) == len(PHOTOS) + len(CHANGES) + 3


def test_wrong_flags(tmp_path, run_script, clips):
    ran = run_script("compute_duplicates.py", "--video_folder", clips, "--best_by", "beauty", code=2)
    assert "--best_by beauty: no row has this column" in ran.stderr
    assert not list(tmp_path.iterdir())


def test_groups_do_not_chain_and_repetitions_are_found_whatever_their_number():
    random = np.random.default_rng(0)
    base = random.integers(0, 256, (10, 32), np.uint8)
    near = base.copy()
    near[2:] = random.integers(0, 256, (8, 32), np.uint8)  # alike to base in two frames of ten
    far = near.copy()
    far[:2] = random.integers(0, 256, (2, 32), np.uint8)  # alike to near alone
    copies = [base] * 200
    clips = Clips([[row.tobytes().hex() for row in clip] for clip in (base, near, far, *copies)])
    stays, similarity = clips.groups(0.2)
    assert stays[1] == 0 and similarity[1] == 0.2
    assert stays[2] == 2  # its only likeness is a duplicate, and not the one that stays
    assert (stays[3:] == 0).all()
    assert Clips([[], []]).groups()[0].tolist() == [0, 1]


def test_embeddings_join_what_hashes_do_not(tmp_path, run_script, clips):
    import pyarrow
    from pyarrow import parquet

    paths = ["coffee.mp4", "cat.mp4", "rocket.mp4", "astronaut.mp4"]
    vectors = [[1.0, 0, 0], [0.99, 0.05, 0], [0, 1, 0], [0, 0, 1]]
    parquet.write_table(pyarrow.table({"video_path": paths, "embedding": vectors}), tmp_path / "e.parquet")
    write_rows(tmp_path / "list.jsonl", [{"video_path": path} for path in paths])
    flags = ("--video_folder", clips, "--video_metadata_path", "list.jsonl", "--saved_path", "d.jsonl")
    run_script("compute_duplicates.py", *flags, "--embeddings", "e.parquet")
    rows = found(tmp_path / "d.jsonl")
    assert rows["coffee.mp4"]["duplicate_of"] == "cat.mp4" and rows["coffee.mp4"]["duplicate_similarity"] > 0.99
    assert sum(row["duplicate_rank"] for row in rows.values()) == 1
    run_script("compute_duplicates.py", *flags, "--embeddings", "e.parquet", "--min_cosine", 0.9999)
    assert not any(row["duplicate_rank"] for row in found(tmp_path / "d.jsonl").values())
    assert "no such file" in run_script("compute_duplicates.py", *flags, "--embeddings", "gone.parquet", code=2).stderr


def test_thumbnails_are_read_as_they_were_written_and_short_clips_are_compared():
    random = np.random.default_rng(0)
    long = random.integers(0, 256, (80, 64), np.uint8)
    assert (unpacked(packed(long)) == long).all()
    assert are_copies(long, long[16:]) and are_copies(long[:50], long[10:])
    assert not are_copies(long[:40], long[30:])  # a quarter of the shorter is no copy
    assert are_copies(long[:1], long[:1]) and not are_copies(long[:1], long[1:2])


def test_a_dataset_that_was_begun_with_hashes_alone_goes_on_with_their_rule(tmp_path, run_script, clips):
    write_rows(tmp_path / "list.jsonl", [{"video_path": path} for path in ("coffee.mp4", "coffee-crf.mp4")])
    flags = ("--video_folder", clips, "--video_metadata_path", "list.jsonl", "--saved_path", "d.jsonl")
    run_script("compute_duplicates.py", *flags)
    hashed = [{k: v for k, v in row.items() if k != "thumbnails"} for row in read_rows(tmp_path / "d.hashes.jsonl")]
    settings = json.loads((tmp_path / "d.hashes.settings.json").read_text())
    assert settings.pop("copies") is True
    write_rows(tmp_path / "d.hashes.jsonl", hashed)
    (tmp_path / "d.hashes.settings.json").write_text(json.dumps(settings))
    printed = run_script("compute_duplicates.py", *flags).stdout
    assert ", 0 due" in printed and "made before 0.4" in printed
    assert all("same_view" not in row for row in found(tmp_path / "d.jsonl").values())
    run_script("compute_duplicates.py", *flags, "--overwrite")
    assert all("same_view" in row for row in found(tmp_path / "d.jsonl").values())


def test_times_of_clips_cut_at_different_ends_coincide():
    assert set(hashed_times(7.3)) <= set(hashed_times(9.9))
    assert len(hashed_times(600)) <= 32 and set(hashed_times(600)) <= set(np.arange(0, 600, 0.5))
    assert hashed_times(0.1).tolist() == [0]


def test_frames_that_show_nothing_have_no_hash():
    frames = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in pan("cat", 4)])
    assert 1 <= len(hashes_of(frames)) <= 4
    assert hashes_of(np.full((4, 90, 160), 77, np.uint8)) == []


def test_stage_2_keeps_the_best_of_duplicates(tmp_path, clips, scripts):
    dataset = tmp_path / "data set"
    dataset.mkdir()
    rows = [
        {"video_path": path, "duration": 3.0} for path in ("coffee.mp4", "coffee-crf.mp4", "cat.mp4", "astronaut.mp4")
    ]
    write_rows(dataset / "clips.jsonl", rows)
    environment = {
        **os.environ, "DATASET_FOLDER": str(dataset), "VIDEO_FOLDER": str(clips), "VIDEO_METADATA_PATH": str(dataset / "clips.jsonl"), "PRESET": "embedded",
        "REPORT": "0", "PYTHON": str(scripts.python), "N_JOBS": "1", "DEDUP": "1", "QUALITY_THRESHOLD": "0", "ACTIVITY_THRESHOLD": "0", "HIGH_MOTION_SCORE_THRESHOLD": "1000",
        "CUT_INSIDE_THRESHOLD": "1", "CUT_INSIDE": "flow", "TEXT_SCORE_THRESHOLD": "1", "MIN_SECONDS": "1",
    }  # fmt: skip
    ran = subprocess.run(["sh", str(ROOT / "stage_2_filter_data.sh")], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    kept = {row["video_path"] for row in read_rows(dataset / "train.jsonl", ("video_path",))}
    assert len(kept & {"coffee.mp4", "coffee-crf.mp4"}) == 1 and {"cat.mp4", "astronaut.mp4"} <= kept
    (dropped,) = read_rows(dataset / "dropped.jsonl", ("video_path",))
    assert dropped["reason"] == "duplicate_rank above 0"
    summary = subprocess.run(
        [sys.executable, "-m", "tools.summary", "--dataset_folder", str(dataset), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = [step["name"] for step in json.loads(summary.stdout)["steps"]]
    assert "duplicates.jsonl" in names and "duplicates.hashes.jsonl" not in names
