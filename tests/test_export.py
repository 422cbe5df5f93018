"""Exports: what is planned, what is encoded, and that trainers' and libraries' own readers get each caption with its clip."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, numbered_frame, read_indices, read_video, write_numbered, write_video

from utils.errors import RunError
from utils.export.choose import over_balance, over_source_limit, validation
from utils.export.clip_steps import media_name
from utils.export.formats import FORMATS
from utils.export.media import measure
from utils.export.models import MODELS, Target, nearest_bucket
from utils.export.plan import Measured, TrainerRules, as_it_is, frames_at, plan_cut
from utils.export.read_back import check
from utils.export.readers import READERS
from utils.export.readers.sample import Medium, Sample
from utils.export.trainers import target_for
from utils.rows import read_rows, write_rows
from utils.video_utils import content_digest

HOSTILE = (
    'say "hi", he said', "line one\nline two", "# a heading", "NA", "null", "caf\u00e9 \u5f71\u7247 \U0001f98a", "a\rb\r\nc", "  padded  ", "tab\tand \\n", "- dash",
    "'single'", "[1, 2]", "{x: y}", "a,b;c|d", "x\u2028y\u0085z", "%s {} $HOME", "</b><script>", "=1+1", "nan", "word " * 3_000, "ends with \\", '"', "m\u00b2 \u2013 \u00bd",
)  # fmt: skip
SPECS = (
    ("a.mp4", 60, 24, (192, 108)),
    ("sub/\u00fc -b.mp4", 75, 30, (108, 192)),
    ("-c.webm", 50, 25, (192, 108)),
    ("d.mp4", 40, Fraction(25, 2), (160, 120)),
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder of clips of several rates, sizes and containers, and their list, list.jsonl."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "clips/sub").mkdir(parents=True)
    rows = []
    for i, (name, count, fps, size) in enumerate(SPECS):
        sound = np.sin(np.arange(int(count / fps * 48000)) / 20).astype(np.float32) if name == "a.mp4" else None
        write_numbered(
            folder / "clips" / name,
            count,
            fps,
            size,
            codec="libx264" if name.endswith("mp4") else "libvpx",
            sound=sound,
        )
        rows.append({"video_path": name, "summary_caption": f"clip {i}", "source_path": f"source {i // 2}"})
    write_rows(folder / "list.jsonl", rows)
    return folder


def export(run_script, clips: Path, *flags, code: int = 0, listed: Path | None = None):
    listed = listed or clips / "list.jsonl"
    fast = [] if "--x264_preset" in flags else ["--x264_preset", "ultrafast"]
    return run_script(
        "export_dataset.py",
        "--video_folder",
        clips / "clips",
        "--video_metadata_path",
        listed,
        "--export_folder",
        "out",
        "--n_jobs",
        1,
        *fast,
        *flags,
        code=code,
    )


def plan_of(folder: Path) -> dict[str, dict]:
    return {row["video_path"]: row for row in read_rows(folder / "out/export.plan.jsonl", ("video_path",))}


def medium_of(path: Path) -> Medium:
    """A file as it is, measured."""
    found = measure(str(path))
    return Medium(len(found.times), found.fps, *found.size, found.is_still)


def samples_of(folder: Path, format: str, model: str, ran) -> list[Sample]:
    """What the format's reader makes of an export, with the start lines as they were printed."""
    starts = [line.removeprefix("start: ") for line in ran.stdout.splitlines() if line.startswith("start: ")]
    target = target_for(format, model) if model else Target()
    return list(READERS[format](folder, medium_of, target, starts))


def clip(count: int, fps: Fraction | int, size=(1280, 720), aspect=Fraction(1)) -> Measured:
    return Measured(np.arange(count) / float(fps), 1 / float(fps), size, aspect, Fraction(fps), False)


# the plan


@pytest.mark.parametrize("fps", [Fraction(25, 2), 15, 16, Fraction(24000, 1001), 24, 25, 30, 50, Fraction(60000, 1001)])
def test_the_nearest_frame_at_each_time(fps):
    there = clip(200, fps)
    found = frames_at(there.times, there.last, Fraction(16), "nearest")
    assert len(found) == int(200 / float(fps) * 16 + 1e-6)
    for tick, number in enumerate(found):
        assert abs(there.times[number] - tick / 16) <= np.abs(there.times - tick / 16).min() + 2e-6
    assert frames_at(there.times, there.last, Fraction(fps), "nearest") == list(range(200))
    previous = frames_at(there.times, there.last, Fraction(16), "previous")
    assert all(there.times[number] <= tick / 16 + 2e-6 for tick, number in enumerate(previous))


def test_frames_of_a_rule():
    wan, ltx = MODELS["wan2.1"], MODELS["ltx2"]
    assert [wan.frames_of(n) for n in (0, 1, 4, 5, 80, 81, 200)] == [0, 0, 0, 5, 77, 81, 81]
    assert [ltx.frames_of(n) for n in (8, 9, 120, 121, 130)] == [0, 9, 113, 121, 121]
    assert [Target(counts=(33, 81)).frames_of(n) for n in (32, 33, 100)] == [0, 33, 81]
    assert Target().frames_of(7) == 7


def test_every_model_of_the_table_keeps_its_own_rule():
    for name, model in MODELS.items():
        assert model.allows(model.max_frames or 0), name
        assert all(side % model.multiple == 0 for bucket in model.buckets for side in bucket), name
        for there in (clip(300, 30), clip(300, 24, (540, 960)), clip(90, Fraction(25, 2), (640, 360))):
            cut, reason = plan_cut(there, model, None, "nearest")
            assert cut and cut.size in model.buckets and model.allows(len(cut.frames)), (name, reason)
            x, y, width, height = cut.box
            assert 0 <= x <= x + width <= there.size[0] and 0 <= y <= y + height <= there.size[1]
            assert abs(width / height / (cut.size[0] / cut.size[1]) - 1) < 0.02  # not squeezed


def test_a_crop_box_and_pixels_that_are_not_square():
    cut, _ = plan_cut(
        clip(50, 25, (720, 576), Fraction(64, 45)), Target(max_pixels=512 * 288), [0, 72, 720, 432], "nearest"
    )
    assert cut and cut.box[1] >= 72 and cut.box[1] + cut.box[3] <= 504
    assert abs(cut.size[0] / cut.size[1] - 1024 / 432) < 0.03
    whole, _ = plan_cut(clip(50, 25, (641, 361)), Target(), None, "nearest")
    assert whole and whole.box == (0, 0, 640, 360) and whole.size == (640, 360)
    assert nearest_bucket((100, 200), ((832, 480), (480, 832))) == (480, 832)


def test_what_is_too_short_or_small_has_a_reason():
    assert plan_cut(clip(6, 30), MODELS["wan2.1"], None, "nearest") == (
        None,
        "too short: 3 frames at 16 fps, and the model takes 4n+1 frames up to 81",
    )
    assert "multiples of 32" in plan_cut(clip(60, 30, (20, 20)), Target(multiple=32), None, "nearest")[1]


def test_what_a_trainer_would_do_with_it():
    wan = MODELS["wan2.1"]
    model = as_it_is(clip(101, 24), wan, TrainerRules("model"))  # diffusion-pipe#391: 101 frames retimed to 67
    assert model["as_is_frames"] == 65 and "67 of 101 frames" in model["as_is"] and model["as_is_speed"] == 1
    native = as_it_is(clip(101, 24), wan, TrainerRules())
    assert (
        native["as_is_frames"] == 81
        and native["as_is_speed"] == 0.667
        and "motion at 0.67 of its speed" in native["as_is"]
    )
    squeezed = as_it_is(clip(162, 16), wan, TrainerRules("squeeze"))
    assert squeezed["as_is_frames"] == 81 and squeezed["as_is_speed"] == 2
    assert as_it_is(clip(4, 16), wan, TrainerRules())["as_is_frames"] == 0
    assert as_it_is(clip(81, 16, (832, 480)), wan, TrainerRules())["as_is"] == "used as it is"


# which clips


def test_families_stay_on_one_side():
    rows = [
        {
            "video_path": f"{i}.mp4",
            "source_path": f"s{i // 4}",
            "duplicate_group": "g" if i in (3, 4) else None,
            "same_view": "g" if i == 8 else "",
        }
        for i in range(200)
    ]
    held = validation(rows, 0.1)
    assert 0 < len(held) <= 20
    assert held == validation(rows[::-1], 0.1)
    for row in rows:
        family = [other["video_path"] in held for other in rows if other["source_path"] == row["source_path"]]
        assert len(set(family)) == 1
    assert ("3.mp4" in held) == ("4.mp4" in held) == ("8.mp4" in held)
    assert validation(rows[:3], 0.5) == set()  # one family
    assert len(validation(rows[12:20], 0.01)) == 4  # one at least


def test_balance_and_limits_do_not_depend_on_the_order():
    rows = [
        {
            "video_path": f"{i}.mp4",
            "source_path": "s" if i < 60 else f"s{i}",
            "camera": "static" if i % 3 else "pan",
            "motion": i / 7,
        }
        for i in range(90)
    ]
    gone = over_balance(rows, "camera")
    left = [row["camera"] for row in rows if row["video_path"] not in gone]
    assert left.count("static") == left.count("pan") == 30
    assert gone == over_balance(rows[::-1], "camera")
    quartiles = over_balance(rows, "motion")
    assert 86 <= 90 - len(quartiles) <= 90
    assert len(over_source_limit(rows, 5)) == 55


@pytest.mark.parametrize(
    "path, name",
    [("a/b.mp4", "a__b.mp4"), ("plain_1-2.mp4", "plain_1-2.mp4"), ("x.webm", "x-webm.mp4")],
)
def test_media_names(path, name):
    if path.endswith("webm"):
        assert media_name(path, encoded=False) == "x-webm.webm"
        assert media_name(path, encoded=True) != media_name("x.mp4", encoded=True)
    else:
        assert media_name(path, encoded=True) == name


def test_media_names_are_safe_and_each_its_own():
    hostile = [
        "-x.mp4",
        "a b.mp4",
        "A.mp4",
        "a.mp4",
        "a__b.mp4",
        "a/b.mp4",
        "a.b.mp4",
        "\u5f71.mp4",
        "x" * 300 + ".mp4",
        os.fsdecode(b"\xe9.mp4"),
        "a\nb.mp4",
        ".mp4",
        "a.webm",
        "a.mkv",
    ]
    names = [media_name(path, encoded=True) for path in hostile]
    assert len({name.lower() for name in names}) == len(names)
    assert all(
        name.isascii()
        and len(name) < 128
        and name.count(".") == 1
        and name[0].isalnum()
        and not set(name) & set(" \n/")
        for name in names
    )


# media


def test_encoded_clips_have_the_very_frames(tmp_path, run_script, clips):
    export(
        run_script, clips, "--model", "wan2.1", "--format", "musubi", "--buckets", "192x112", "112x192", "--crf", "0"
    )
    plan = plan_of(tmp_path)
    for name, count, fps, _ in SPECS:
        row = plan[name]
        times, pictures = read_video(tmp_path / "out" / row["export_file"])
        assert times == [Fraction(k, 16) for k in range(row["frames"])] and row["frames"] % 4 == 1
        assert pictures[0].shape[:2] == (row["height"], row["width"])
        expected = frames_at(np.arange(count) / float(fps), 1 / float(fps), Fraction(16), "nearest")[: row["frames"]]
        assert read_indices(tmp_path / "out" / row["export_file"]) == expected


def test_variable_rate_rotation_and_a_crop_box(tmp_path, run_script):
    folder = tmp_path / "in/clips"
    folder.mkdir(parents=True)
    pts = np.cumsum([0, *([1, 3] * 30)]).tolist()  # 1/30 and 3/30 s
    write_numbered(folder / "vfr.mp4", 61, 30, pts=pts, time_base=Fraction(1, 30))
    bars = [np.pad(numbered_frame(i, 192, 108), ((40, 40), (0, 0))) for i in range(48)]
    write_video(folder / "bars.mp4", bars, 24)
    rows = [
        {"video_path": "vfr.mp4", "summary_caption": "v"},
        {"video_path": "bars.mp4", "summary_caption": "b", "crop_box": [0, 40, 192, 108]},
    ]
    rows.append({"video_path": "bars.mp4/../bars2.mp4", "summary_caption": "c", "crop_box": [0, 40, 192, 1080]})
    write_numbered(folder / "bars2.mp4", 48)
    rows[-1]["video_path"] = "bars2.mp4"
    write_rows(tmp_path / "in/list.jsonl", rows)
    ran = export(run_script, tmp_path / "in", "--fps", 24, "--frames", 25, "--size_multiple", 4)
    assert "3 rows in = 2 written + 1 errors" in ran.stdout
    plan = plan_of(tmp_path)
    assert "crop_box is [0, 40, 192, 1080]" in plan["bars2.mp4"]["does"]
    assert read_indices(tmp_path / "out/videos/bars.mp4") == list(range(25))
    assert read_video(tmp_path / "out/videos/bars.mp4")[1][0].shape == (108, 192, 3)
    seconds = np.array(pts) / 30
    assert read_indices(tmp_path / "out/videos/vfr.mp4") == [int(np.abs(seconds - k / 24).argmin()) for k in range(25)]


def test_links_cost_nothing_and_copies_are_copies(tmp_path, run_script, clips):
    export(run_script, clips, "--format", "hf")
    source = clips / "clips/a.mp4"
    assert os.path.samefile(tmp_path / "out/videos/a.mp4", source)
    run_script(
        "export_dataset.py",
        "--video_folder",
        clips / "clips",
        "--video_metadata_path",
        clips / "list.jsonl",
        "--export_folder",
        "copies",
        "--format",
        "hf",
        "--media",
        "copy",
    )
    copied = tmp_path / "copies/videos/a.mp4"
    assert copied.read_bytes() == source.read_bytes() and not os.path.samefile(copied, source)


def test_lossless_first_frames(tmp_path, run_script, clips):
    import cv2

    export(run_script, clips, "--size_multiple", 2, "--crf", 0, "--first_frames")
    first = cv2.imread(str(tmp_path / "out/first_frames/a.png"))
    assert np.array_equal(first[..., ::-1], read_video(tmp_path / "out/videos/a.mp4")[1][0])


# formats


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "clips").mkdir()
    rows = []
    for i, caption in enumerate(HOSTILE):
        frames = (numbered_frame(20 * i + j, 96 + 16 * (i % 2), 64) for j in range(6 + i % 3))
        write_video(folder / f"clips/{i}.mp4", frames)
        rows.append(
            {
                "video_path": f"{i}.mp4",
                "summary_caption": caption,
                "source_path": f"s{i // 2}",
                "score": [i, 1.5],
                "empty": None,
            }
        )
    write_rows(folder / "list.jsonl", rows)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_each_clip_its_caption(tmp_path, run_script, hostile, name):
    ran = export(run_script, hostile, "--format", name)
    assert f"{len(HOSTILE)} rows in = {len(HOSTILE)} written + 0 errors + 0 filtered" in ran.stdout
    plan, form = plan_of(tmp_path), FORMATS[name]
    made = {
        row["digest"]: int(Path(row["video_path"]).stem)
        for row in read_rows(tmp_path / "out/export.media.jsonl", ("video_path",))
    }
    samples = samples_of((tmp_path / "out").absolute(), name, "", ran)
    pairs = [(sample.digest or content_digest(str(sample.path)), sample.caption) for sample in samples]
    assert sorted(made[digest] for digest, _ in pairs) == list(range(len(HOSTILE)))
    for digest, caption in pairs:
        meant = HOSTILE[made[digest]]
        assert caption.split() == meant.split(), caption  # each word in its place
        if form.breaks == "any":
            assert caption.removesuffix(" ") == meant.removesuffix(" ")
        if form.breaks == "none":
            assert len(caption.splitlines()) == 1
    assert all(row["export_file"].isascii() for row in plan.values())


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_set_is_exported_as_one(tmp_path, run_script, name):
    """As where no clip passes: the set of the run before must not stay."""
    write_rows(tmp_path / "list.jsonl", [])
    (tmp_path / "clips").mkdir()
    ran = export(run_script, tmp_path, "--format", name)
    assert "export: 0 rows in = 0 written + 0 errors + 0 filtered" in ran.stdout


def test_datasets_loads_the_video_folder(tmp_path, run_script, hostile):
    from datasets import Video, load_dataset

    export(run_script, hostile, "--format", "hf", "--val_share", 0.2)
    seen = 0
    for split in ("train", "val"):
        loaded = load_dataset(
            "videofolder", data_dir=str(tmp_path / "out" / split), split="train", cache_dir=str(tmp_path / "cache")
        )
        loaded = loaded.cast_column("video", Video(decode=False))
        for row in loaded:
            assert row["caption"] == HOSTILE[int(Path(row["video"]["path"]).stem)]
            assert row["frames"] == 6 + int(Path(row["video"]["path"]).stem) % 3
            seen += 1
    assert seen == len(HOSTILE)
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "task_categories" in card and "Splits, by source: train" in card


def test_webdataset_and_pandas_read_theirs(tmp_path, run_script, hostile):
    import pandas
    import webdataset

    export(run_script, hostile, "--format", "webdataset")
    shards = sorted(map(str, (tmp_path / "out/shards").glob("*.tar")))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [sample["txt"].decode() for sample in samples] == list(HOSTILE)
    assert [json.loads(sample["json"])["video_path"] for sample in samples] == [f"{i}.mp4" for i in range(len(HOSTILE))]
    assert all(sample["mp4"] == (hostile / f"clips/{i}.mp4").read_bytes() for i, sample in enumerate(samples))
    run_script(
        "export_dataset.py",
        "--video_folder",
        hostile / "clips",
        "--video_metadata_path",
        hostile / "list.jsonl",
        "--export_folder",
        "csv",
        "--format",
        "opensora",
    )
    table = pandas.read_csv(tmp_path / "csv/train.csv")
    assert [text.removesuffix(" ") for text in table["text"]] == [text.removesuffix(" ") for text in HOSTILE]
    assert list(table["num_frames"]) == [6 + i % 3 for i in range(len(HOSTILE))]
    run_script(
        "export_dataset.py",
        "--video_folder",
        hostile / "clips",
        "--video_metadata_path",
        hostile / "list.jsonl",
        "--export_folder",
        "table",
        "--format",
        "parquet",
    )
    assert list(pandas.read_parquet(tmp_path / "table/data.parquet")["caption"]) == list(HOSTILE)


@pytest.mark.parametrize(
    "model, name", [("wan2.1", "musubi"), ("ltx2", "ltx2"), ("wan2.2-5b", "diffusion_pipe"), ("cogvideox", "diffusers")]
)
def test_what_a_model_gets_is_what_its_trainer_keeps(tmp_path, run_script, clips, model, name):
    """Rate, frame count and size of every exported file are such that the trainer changes nothing."""
    export(run_script, clips, "--model", model, "--format", name)
    target = MODELS[model]
    kept = [row for row in plan_of(tmp_path).values() if not row["reason"]]
    assert len(kept) == len(SPECS)
    for row in kept:
        made = measure(str(tmp_path / "out" / row["export_file"]))
        assert made.fps == target.fps and made.size in target.buckets and target.allows(len(made.times))
        assert as_it_is(made, target, FORMATS[name].trainer_rules)["as_is"] == "used as it is"


def test_a_caption_on_another_clip_is_found(tmp_path, run_script, clips):
    ran = export(run_script, clips, "--format", "ltx2", "--model", "ltx2", "--buckets", "192x128", "--frames", "any")
    starts = [line.removeprefix("start: ") for line in ran.stdout.splitlines() if line.startswith("start: ")]
    listed = tmp_path / "out/dataset.json"
    rows = json.loads(listed.read_text())
    rows[0]["caption"], rows[1]["caption"] = rows[1]["caption"], rows[0]["caption"]
    listed.write_text(json.dumps(rows))
    made = read_rows(tmp_path / "out/export.media.jsonl", ("video_path",))
    with pytest.raises(RunError, match="has the caption"):
        check((tmp_path / "out").absolute(), "ltx2", *entries_of(tmp_path / "out", made), Target(), starts)


def entries_of(folder: Path, made: list[dict]):
    from utils.export.formats.entry import Entry

    entries = [
        Entry(
            row["export_file"],
            folder.absolute() / row["export_file"],
            f"clip {i}",
            Fraction(24),
            192,
            128,
            row["frames"],
            {},
        )
        for i, row in enumerate(made)
    ]
    return entries, [row["digest"] for row in made]


# the run


def test_a_dry_run_writes_nothing(tmp_path, run_script, clips):
    before = set(tmp_path.rglob("*"))
    ran = export(run_script, clips, "--model", "wan2.1", "--format", "musubi", "--dry_run")
    assert set(tmp_path.rglob("*")) == before
    assert "a.mp4: as it is: " in ran.stdout and "writes 832x480, 21 frames at 16 fps" in ran.stdout


def test_a_second_run_does_nothing_again_and_follows_the_list(tmp_path, run_script, clips):
    flags = ("--format", "diffusion_pipe", "--model", "wan2.1", "--buckets", "192x112")
    export(run_script, clips, *flags)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.mp4")}
    assert "0 due" in export(run_script, clips, *flags).stdout
    assert first == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.mp4")}
    rows = read_rows(clips / "list.jsonl", ("video_path",))
    write_rows(tmp_path / "fewer.jsonl", [{**row, "summary_caption": "new"} for row in rows[1:]])
    export(run_script, clips, *flags, listed=tmp_path / "fewer.jsonl")
    media = sorted(path.name for path in (tmp_path / "out").rglob("*.mp4"))
    texts = sorted(path.name for path in (tmp_path / "out/videos").rglob("*.txt"))
    assert len(media) == len(texts) == 3 and "a.mp4" not in media
    export(
        run_script, clips, *flags, "--val_share", 0.5, listed=tmp_path / "fewer.jsonl"
    )  # media move, nothing is encoded again
    moved = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.mp4")}
    assert moved == {path.name: stamp for path, stamp in first.items() if path.name != "a.mp4"}
    assert not (tmp_path / "out/dataset.toml").exists() and (tmp_path / "out/val/dataset.toml").exists()
    other = export(run_script, clips, "--format", "diffusion_pipe", "--model", "ltx2", code=2)
    assert "settings" in other.stderr


def test_killed_half_way_it_goes_on(tmp_path, run_script, clips):
    rows = [{"video_path": f"{i}.mp4", "summary_caption": f"clip {i}"} for i in range(30)]
    (tmp_path / "in/clips").mkdir(parents=True)
    for row in rows:
        (tmp_path / "in/clips" / row["video_path"]).write_bytes((clips / "clips/a.mp4").read_bytes())
    write_rows(tmp_path / "in/list.jsonl", rows)
    flags = ["--model", "wan2.1", "--format", "diffusion_pipe"]
    command = [sys.executable, str(ROOT / "export_dataset.py"), "--video_folder", "in/clips", "--video_metadata_path", "in/list.jsonl", "--export_folder", "out", "--n_jobs", "1", "--x264_preset", "ultrafast", *flags, "--saved_freq", "1"]  # fmt: skip
    started = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while len(list((tmp_path / "out").rglob("*.mp4"))) < 4 and started.poll() is None:
            time.sleep(0.05)
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("[!.]*.mp4")}
    assert 0 < len(before) < 30
    export(run_script, tmp_path / "in", *flags)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.mp4")}
    assert len(after) == 30
    assert sum(after[path] != stamp for path, stamp in before.items()) <= 2  # at most what was not yet written down


@pytest.mark.parametrize(
    "flags, said",
    [
        (("--model", "wan2.1", "--media", "link", "--fps", "16"), "--fps needs --media encode"),
        (("--format", "hf", "--media", "none"), "expects the clips in its folder"),
        (("--buckets", "100x100", "--size_multiple", "16"), "multiples of 16"),
        (("--frames", "80", "--model", "wan2.1", "--format", "musubi"), "4n+1"),
        (("--frames", "73", "121", "--model", "framepack", "--format", "musubi"), "36n+1 frames up to 145"),
        (("--model", "wan2.2-5b", "--format", "musubi"), "wan2.2-5b is trained by --format videox_fun, diffusion_pipe"),
        (("--model", "wan2.1"), "--format easyanimate does not train wan2.1, but easyanimate"),
        (("--batch_size", "2"), "--batch_size needs buckets to choose from"),
        (("--balance", "nothing"), "no row has this column"),
        (("--fps", "0"), "not a frame rate"),
        (("--val_share", "0.9"), "0.5"),
        (("--columns_from", "gone.jsonl"), "gone.jsonl"),
    ],
)
def test_wrong_flags_end_before_any_work(tmp_path, run_script, clips, flags, said):
    assert said in export(run_script, clips, *flags, code=2).stderr
    assert not (tmp_path / "out").exists()


def test_unreadable_and_uncaptioned_clips_are_rows_of_the_plan(tmp_path, run_script, clips):
    rows = [*read_rows(clips / "list.jsonl", ("video_path",)), {"video_path": "gone.mp4", "summary_caption": "x"}]
    rows[0]["summary_caption"] = " \n"
    write_rows(tmp_path / "more.jsonl", rows)
    ran = export(run_script, clips, "--format", "diffusers", listed=tmp_path / "more.jsonl")
    assert "5 rows in = 3 written + 1 errors + 1 filtered" in ran.stdout
    plan = plan_of(tmp_path)
    assert plan["a.mp4"]["reason"] == "no caption" and "gone.mp4" in plan["gone.mp4"]["does"]
    assert len((tmp_path / "out/prompts.txt").read_text().splitlines()) == 3


def test_columns_from_a_file(tmp_path, run_script, clips):
    rows = read_rows(clips / "list.jsonl", ("video_path",))
    write_rows(
        tmp_path / "scores.jsonl",
        [{"video_path": row["video_path"], "technical_score": 5.5, "source_path": "another"} for row in rows],
    )
    export(run_script, clips, "--format", "parquet", "--columns_from", "scores.jsonl")
    found = read_rows(tmp_path / "out/data.parquet", ("video_path",))
    assert {row["technical_score"] for row in found} == {5.5} and found[0]["source_path"] == "source 0"


def test_stage_3_writes_the_set_for_a_trainer(tmp_path, clips, scripts):
    rows = read_rows(clips / "list.jsonl", ("video_path",))
    dataset = tmp_path / "data set"
    dataset.mkdir()
    write_rows(
        dataset / "train.jsonl",
        [
            {"video_path": row["video_path"], "source_path": "s", "motion_score": 5.0, "crop_box": [0, 0, 96, 96]}
            for row in rows
        ],
    )
    environment = {**os.environ, "DATASET_FOLDER": str(dataset), "VIDEO_FOLDER": str(clips / "clips"), "PRESET": "embedded", "REPORT": "0", "PYTHON": str(scripts.python), "N_JOBS": "1"}  # fmt: skip
    stage = ["sh", str(ROOT / "stage_3_video_caption.sh")]
    wrong = subprocess.run(
        stage, env={**environment, "FORMAT": "musubi", "MODEL": "wan9"}, capture_output=True, text=True
    )
    assert wrong.returncode == 2 and "wan9" in wrong.stderr and not (dataset / "frame_caption.jsonl").exists()
    ran = subprocess.run(
        stage, env={**environment, "FORMAT": "musubi", "MODEL": "wan2.1"}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "as they are, the trainer would" in ran.stdout.partition("caption_video_frame.py")[0]
    assert len(json.loads((dataset / "train_panda_70m.json").read_text(encoding="utf-8"))) == len(rows)
    assert len(list((dataset / "musubi-wan2.1/videos").glob("*.mp4"))) == len(rows)
    card = (dataset / "musubi-wan2.1/README.md").read_text(encoding="utf-8")
    assert "motion_score" in card and "crop_box" not in card  # a box has no mean
    assert f"**{len(rows)} captions are placeholders, made of measurements; do not train on them.**" in card
    assert f"export: {len(rows)} captions are placeholders" in ran.stdout
    row = next(line for line in ran.stdout.splitlines() if "scales up by more than 1.5 (MAX_UPSCALE" in line)
    assert row.split()[-1] == str(len(rows))
    ran = subprocess.run(
        [*stage, "FORMAT=musubi", "MODEL=wan2.1", "MAX_UPSCALE=1.5"], env=environment, capture_output=True, text=True
    )
    assert "leaves out: too small" in ran.stdout and not [*(dataset / "musubi-wan2.1/videos").glob("*.mp4")]
    flags = [
        "EXPORT_BATCH_SIZE=4",
        "EXPORT_CAPTION=longest",
        "FIRST_FRAMES=1",
        "MAX_PER_SOURCE=2",
        "BALANCE=motion_score",
    ]
    ran = subprocess.run(
        [*stage, "FORMAT=diffusion_pipe", "MODEL=wan2.1", f"EXPORT_FOLDER={dataset / 'all'}", *flags],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "leaves out: max_per_source" in ran.stdout and len(list((dataset / "all/first_frames").glob("*.png"))) == 2
    wrong = subprocess.run(
        [*stage, "FORMAT=musubi", "EXPORT_BATCH_SIZE=0"], env=environment, capture_output=True, text=True
    )
    assert wrong.returncode == 2 and "EXPORT_BATCH_SIZE" in wrong.stderr


def test_a_folder_with_other_files_is_left_alone(tmp_path, run_script, clips):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_text("mine")
    assert "holds other files (README.md)" in export(run_script, clips, "--format", "hf", code=2).stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["README.md"]


def test_what_a_killed_run_or_a_trainer_leaves_is_no_medium(tmp_path, run_script, clips):
    export(run_script, clips, "--format", "diffusion_pipe")
    (media,) = {path.parent for path in (tmp_path / "out").rglob("a.mp4")}
    (media / ".half.mp4.tmp").write_bytes(b"half")
    (media / "cache").mkdir()
    (media / "buckets.json").write_text("{}")
    export(run_script, clips, "--format", "diffusion_pipe")
    assert not (media / ".half.mp4.tmp").exists() and (media / "buckets.json").exists()
    (media / "stray.mp4").write_bytes(b"not ours")
    assert "stray.mp4 is in the export" in export(run_script, clips, "--format", "diffusion_pipe", code=1).stderr


def outside_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.*")) if path.is_file()}


OUTSIDE = ("../precious.txt", "{tmp}/precious.txt", "videos/../../precious.txt", "videos", 7)


@pytest.fixture
def exported(tmp_path, run_script, clips):
    """An export of one clip, and beside it a file and a folder that are none of its business."""
    (tmp_path / "precious.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.mp4").write_text("mine")
    write_rows(tmp_path / "one.jsonl", read_rows(clips / "list.jsonl", ("video_path",))[:1])
    export(run_script, clips, "--format", "webdataset", listed=tmp_path / "one.jsonl")
    return tmp_path / "out"


@pytest.mark.parametrize("name", OUTSIDE)
def test_whatever_its_own_lists_name_an_export_removes_nothing_outside_its_folder(
    name, tmp_path, run_script, clips, exported
):
    name = name.format(tmp=tmp_path) if isinstance(name, str) else name
    write_rows(tmp_path / "other.jsonl", read_rows(clips / "list.jsonl", ("video_path",))[3:])
    before = outside_of(tmp_path)
    (exported / "export.files.json").write_text(json.dumps([name]))
    rows = read_rows(exported / "export.media.jsonl")
    write_rows(exported / "export.media.jsonl", [row | {"export_file": name} for row in rows])
    said = export(run_script, clips, "--format", "webdataset", listed=tmp_path / "one.jsonl")
    assert "1 rows in = 1 written" in said.stdout and outside_of(tmp_path) == before
    (row,) = read_rows(exported / "export.media.jsonl")
    assert row["export_file"] == "videos/a.mp4" and (exported / "videos/a.mp4").is_file()
    write_rows(
        exported / "export.media.jsonl", [row | {"export_file": name}]
    )  # and of a clip that is exported no longer
    export(run_script, clips, "--format", "webdataset", listed=tmp_path / "other.jsonl")
    assert outside_of(tmp_path) == before


@pytest.mark.parametrize(
    "text", ["7", '{"../precious.txt": 1}', '[["../precious.txt"], null, ".", "", "a\\u0000b"]', "[" * 100_000]
)
def test_a_list_of_files_that_is_none_is_ignored(text, tmp_path, run_script, clips, exported):
    (exported / "export.files.json").write_text(text)
    export(run_script, clips, "--format", "webdataset", listed=tmp_path / "one.jsonl")
    assert json.loads((exported / "export.files.json").read_text()) == ["shards/000000.tar"]


@pytest.mark.parametrize(
    "columns",
    [{"rate": "1/0", "reason": 3}, {"rate": 24, "as_is": 1}, {"digest": None, "fps": []}, {"width": "../../x"}],
)
def test_a_row_of_the_run_before_that_is_none_is_made_again(columns, tmp_path, run_script, clips, exported):
    right = {name: read_rows(exported / name) for name in ("export.measured.jsonl", "export.media.jsonl")}
    for name, rows in right.items():
        write_rows(exported / name, [row | columns for row in rows])
    export(run_script, clips, "--format", "webdataset", listed=tmp_path / "one.jsonl")
    for name, rows in right.items():
        kept = {column: value for column, value in columns.items() if column not in rows[0]}
        assert read_rows(exported / name) in (rows, [rows[0] | kept])


@pytest.mark.parametrize("link", ["videos", "shards", "export.media.jsonl"])
def test_an_export_does_not_write_through_links_out_of_its_folder(link, tmp_path, run_script, clips, exported):
    target = tmp_path / ("elsewhere" if "." not in link else "elsewhere/media.jsonl")
    (tmp_path / "elsewhere" / "000007.tar").write_text("mine")
    (exported / link).rename(tmp_path / "moved")
    (exported / link).symlink_to(target)
    before = outside_of(tmp_path / "elsewhere")
    said = export(run_script, clips, "--format", "webdataset", code=2)
    assert f"out/{link} is a symbolic link" in said.stderr and outside_of(tmp_path / "elsewhere") == before


def test_an_unfinished_file_that_is_a_link_is_not_written_through(tmp_path, run_script, clips, exported):
    (tmp_path / "out").rename(tmp_path / "before")
    for flags in (("--media", "encode", "--first_frames"), ("--media", "copy")):
        (tmp_path / "out/videos").mkdir(parents=True)
        (tmp_path / "out/first_frames").mkdir()
        (tmp_path / "out/export.measured.jsonl").write_text("")
        for name in ("videos/.a.mp4.tmp", "first_frames/.a.png.tmp"):
            (tmp_path / "out" / name).symlink_to(tmp_path / "precious.txt")
        export(run_script, clips, *flags, listed=tmp_path / "one.jsonl")
        assert (tmp_path / "precious.txt").read_text() == "mine" and not list((tmp_path / "out").rglob(".*.tmp"))
        (tmp_path / "out").rename(tmp_path / flags[1])
