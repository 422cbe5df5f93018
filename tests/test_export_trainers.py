"""Sets as their trainers load them: every trainer with every model of the table, names, rates, buckets, start lines."""

import json
import shlex
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import ROOT, write_numbered
from test_export import export, medium_of, plan_of, samples_of

from utils.errors import RunError
from utils.export.beside import COLUMNS, WAV
from utils.export.buckets import Choice, filled, left_over
from utils.export.captions import captions_of
from utils.export.clip_steps import media_name
from utils.export.formats import FORMATS
from utils.export.formats.entry import Entry
from utils.export.media import measure
from utils.export.models import MODELS, Target
from utils.export.read_back import rehearsed
from utils.export.readers import READERS
from utils.export.split_names import means_a_split
from utils.export.trainers import LIBRARIES, PAIRS, STILLS, audio_of, models_of, target_for, trainers_of
from utils.rows import read_rows, write_rows

EVERY_PAIR = [(format, model) for format in FORMATS for model in models_of(format)]


def entries_of(target: Target, folder: Path) -> list[Entry]:
    """A clip of each size and length that an export makes for a target."""
    entries = []
    for width, height in target.buckets:
        for frames in target.lengths():
            name = f"videos/{width}x{height}x{frames}/{width}x{height}x{frames}.mp4"
            made = frames + target.extra_frames
            row = {"video_path": name}
            entries.append(
                Entry(
                    name,
                    folder / name,
                    f"{frames} frames",
                    target.fps or Fraction(24),
                    width,
                    height,
                    made,
                    row,
                    frames,
                )
            )
    return entries


# every trainer with every model


@pytest.mark.parametrize("format, model", EVERY_PAIR)
def test_a_trainer_changes_nothing_of_what_is_made_for_its_model(tmp_path, format, model):
    target = target_for(format, model)
    entries = entries_of(target, tmp_path)
    assert entries
    if FORMATS[format].media_folder == "videos/{width}x{height}":
        entries = [with_folder(entry, f"videos/{entry.width}x{entry.height}") for entry in entries]
    if audio_of(format, model) == "wav":
        entries = [replace(e, audio=True, beside={WAV: e.file.replace("videos", "audio") + ".wav"}) for e in entries]
    found = rehearsed(format, target, {"": entries})
    for entry in entries:
        sample = found[entry.path]
        trained = entry.frames if format in LIBRARIES else entry.frames - target.extra_frames
        assert (sample.width, sample.height, sample.frames) == (entry.width, entry.height, trained)
        assert sample.caption == entry.caption and not sample.skipped
        assert sample.fps == pytest.approx(float(target.fps or 24), rel=1e-3)


def with_folder(entry: Entry, folder: str) -> Entry:
    file = f"{folder}/{Path(entry.file).name}"
    return replace(entry, file=file, path=entry.path.parents[2] / file)


def test_each_model_is_trained_by_what_says_so_and_pairs_name_models_that_there_are():
    for format, models in PAIRS.items():
        assert format in FORMATS and format in READERS and models and set(models) <= set(MODELS)
    assert set(FORMATS) == set(READERS) == set(PAIRS) | set(LIBRARIES)
    assert trainers_of("minimax-h3")[:3] == ["videox_fun", "musubi", "diffusion_pipe"]
    with pytest.raises(KeyError):
        target_for("musubi", "skyreels-v2")


def test_rules_that_are_no_multiple_and_one():
    h3, framepack = MODELS["minimax-h3"], MODELS["framepack"]
    assert [h3.frames_of(n) for n in (21, 22, 38, 39, 123, 124, 500)] == [0, 22, 22, 39, 107, 124, 124]
    assert h3.rule == "17n+5 frames up to 124" and h3.least_frames == 22
    assert [framepack.frames_of(n) for n in (36, 37, 72, 73, 200)] == [0, 37, 37, 73, 145]
    chunks = target_for("diffusion_pipe", "minimax-h3")
    assert [chunks.frames_of(n) for n in (16, 17, 33, 34, 124)] == [0, 17, 17, 34, 119] and chunks.rule.startswith(
        "17n frames"
    )


# names


HOSTILE_NAMES = (
    "a-test-b", "ss_train_vp9", "val", "dev.1", "my eval 2", "training", "test", "Test-set", "x9test9", "metadata", ".hidden", "__private", "latest", "valley", "sub/test/a", "train/b",
)  # fmt: skip


def test_no_medium_has_a_name_that_means_a_split_or_is_passed_over():
    names = [media_name(f"{stem}.mp4", encoded=True) for stem in HOSTILE_NAMES]
    assert not any(means_a_split(name) or name.startswith((".", "__", "metadata")) for name in names)
    assert len(set(names)) == len(names)
    assert media_name("latest.mp4", encoded=True) == "latest.mp4"  # no word of its own
    for word in ("train/a.mp4", "a/val-2/b.mp4", "eval.mp4", "x_test1.mp4"):
        assert means_a_split(word)
    assert not means_a_split("attest.mp4") and not means_a_split("videos/contest.mp4")


@pytest.fixture(scope="module")
def badly_named(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("badly_named")
    rows = []
    for i, stem in enumerate(HOSTILE_NAMES):
        path = folder / "clips" / f"{stem}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_numbered(path, 6, 24, (64, 48))
        rows.append({"video_path": f"{stem}.mp4", "summary_caption": f"clip {i}", "source_path": f"s{i}"})
    write_rows(folder / "list.jsonl", rows)
    return folder


@pytest.mark.parametrize("format", ["hf", "finetrainers"])
def test_datasets_loads_every_clip_whatever_it_is_called(tmp_path, run_script, badly_named, format):
    from datasets import Video, load_dataset

    export(run_script, badly_named, "--format", format)
    loaded = load_dataset(
        "videofolder", data_dir=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert sorted(row["caption"] for row in loaded.cast_column("video", Video(decode=False))) == sorted(
        f"clip {i}" for i in range(len(HOSTILE_NAMES))
    )


def test_datasets_takes_the_splits_from_the_root_of_a_set(tmp_path, run_script, badly_named):
    from datasets import Video, load_dataset

    export(run_script, badly_named, "--format", "hf", "--val_share", 0.3)
    loaded = load_dataset("videofolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    captions = {
        split: {row["caption"] for row in rows.cast_column("video", Video(decode=False))}
        for split, rows in loaded.items()
    }
    assert set(captions) == {"train", "validation"} and not captions["train"] & captions["validation"]
    assert len(captions["train"] | captions["validation"]) == len(HOSTILE_NAMES)


def test_a_foreign_file_whose_name_means_a_split_is_found(tmp_path, run_script, badly_named):
    export(run_script, badly_named, "--format", "hf")
    (tmp_path / "out/test-notes.json").write_text("{}")
    assert "takes this name for a split" in export(run_script, badly_named, "--format", "hf", code=1).stderr


# what single trainers stumbled over


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Clips of two rates, three lengths and two sizes."""
    folder = tmp_path_factory.mktemp("set")
    (folder / "clips").mkdir()
    rows = []
    for name, frames, fps, size in (
        ("long.mp4", 130, 24, (192, 128)),
        ("middle.mp4", 100, 24, (192, 128)),
        ("upright.mp4", 60, 24, (128, 192)),
        ("native.mp4", 81, 16, (192, 128)),
        ("short.mp4", 30, 24, (128, 192)),
    ):
        write_numbered(folder / "clips" / name, frames, fps, size)
        rows.append({"video_path": name, "summary_caption": f"the {name}"})
    write_rows(folder / "list.jsonl", rows)
    return folder


SMALL = ("--buckets", "192x128", "128x192")


@pytest.mark.parametrize(
    "format, model, frames",
    [
        ("diffusion_pipe", "wan2.1", {"long": 81, "middle": 61, "upright": 21, "native": 81}),
        ("ltx2", "ltx2.3", {"long": 121, "middle": 89, "upright": 33, "native": 121}),
        ("ltx_video", "ltx-video", {"long": 121, "middle": 89, "upright": 33, "native": 121}),
        ("musubi", "framepack", {"long": 145, "middle": 109, "upright": 73, "native": 145, "short": 37}),
        ("musubi", "minimax-h3", {"long": 124, "middle": 90, "upright": 56, "native": 90, "short": 22}),
        ("diffsynth", "ltx2", {"long": 121, "middle": 89, "upright": 33, "native": 121}),
        ("simpletuner", "wan2.2-5b", {"long": 121, "middle": 89, "upright": 33, "native": 121}),
        ("ai_toolkit", "ltx2", {"long": 121, "middle": 89, "upright": 33, "native": 121}),
        ("finetrainers", "wan2.1", {"long": 81, "middle": 61, "upright": 21, "native": 81}),
    ],
)
def test_the_plan_promises_what_the_reader_finds(tmp_path, run_script, clips, format, model, frames):
    ran = export(run_script, clips, "--format", format, "--model", model, *SMALL)
    plan = {Path(path).stem: row for path, row in plan_of(tmp_path).items()}
    assert {name: row["trained_frames"] for name, row in plan.items() if not row["reason"]} == frames
    by_file = {Path(row["export_file"]).name: row for row in plan.values() if not row["reason"]}
    seen = 0
    for sample in samples_of((tmp_path / "out").absolute(), format, model, ran):
        row = by_file[sample.path.name]
        assert (sample.frames, sample.width, sample.height) == (row["trained_frames"], row["width"], row["height"])
        assert sample.fps == pytest.approx(row["trained_fps"]) == pytest.approx(float(MODELS[model].fps or 0))
        assert sample.caption == f"the {row['video_path']}"
        seen += 1
    assert seen == len(frames)


def test_a_frame_more_saves_a_group_where_durations_are_rounded(tmp_path, run_script, clips):
    """ffmpeg prints durations with two decimals, from which DiffSynth-Studio computes floor(duration * 24)."""
    import imageio_ffmpeg

    export(run_script, clips, "--format", "diffsynth", "--model", "ltx2", *SMALL)
    for row in plan_of(tmp_path).values():
        if row["reason"]:
            continue
        reader = imageio_ffmpeg.read_frames(str(tmp_path / "out" / row["export_file"]))
        there = int(next(reader)["duration"] * 24)
        reader.close()
        assert (there - 1) // 8 * 8 + 1 == row["trained_frames"] == row["frames"] - 1
        assert len(measure(str(tmp_path / "out" / row["export_file"])).times) == row["frames"]


def test_diffusion_pipe_has_a_default_resolution_and_a_folder_for_each_length(tmp_path, run_script, clips):
    export(run_script, clips, "--format", "diffusion_pipe", "--model", "wan2.1", *SMALL)
    text = (tmp_path / "out/dataset.toml").read_text(encoding="utf-8")
    assert text.startswith("resolutions = [[") and text.count("[[directory]]") == 3
    (tmp_path / "out/dataset.toml").write_text(text.partition("\n")[2])
    with pytest.raises(RunError, match="top level"):
        list(
            READERS["diffusion_pipe"](
                (tmp_path / "out").absolute(), medium_of, target_for("diffusion_pipe", "wan2.1"), []
            )
        )


def test_links_are_planned_by_the_trainers_rule(tmp_path, run_script, clips):
    """diffusion-pipe brings 24 fps to 16: 130 frames to 86, of which 81 are used; 30 frames to 20, of which 17."""
    ran = export(run_script, clips, "--format", "diffusion_pipe", "--model", "wan2.1", "--media", "link")
    plan = plan_of(tmp_path)
    frames = {"long.mp4": 81, "middle.mp4": 65, "upright.mp4": 37, "native.mp4": 81, "short.mp4": 17}
    assert {path: row["trained_frames"] for path, row in plan.items()} == frames
    assert {row["trained_fps"] for row in plan.values()} == {16}
    assert "trained on: 192x128, 65 frames at 16 fps" in plan["middle.mp4"]["does"]
    assert len(samples_of((tmp_path / "out").absolute(), "diffusion_pipe", "wan2.1", ran)) == 5
    export(run_script, clips, "--format", "musubi", "--model", "framepack", "--media", "link", "--export_folder", "fp")
    left_out = {row["video_path"]: row["reason"] for row in read_rows(tmp_path / "fp/export.plan.jsonl")}
    assert (
        left_out["short.mp4"] == "too short" and sum(not reason for reason in left_out.values()) == 4
    )  # no frame is repeated
    other = export(run_script, clips, "--format", "diffusion_pipe", "--model", "ltx2", "--media", "link", code=2)
    assert "settings" in other.stderr


def test_without_a_model_the_plan_says_what_it_cannot_know(tmp_path, run_script, clips):
    ran = export(run_script, clips, "--format", "diffusion_pipe", "--dry_run", "table")
    assert "brings clips to the rate of its model, which is not known here: give --model" in ran.stdout
    assert "give --model" not in export(run_script, clips, "--format", "ltx2", "--dry_run", "table").stdout


# buckets and batches


def test_buckets_that_fill_no_batch_are_given_up():
    wide, square, tall = (192.0, 128.0), (128.0, 128.0), (128.0, 192.0)
    choices = {f"w{i}": Choice(wide, 81, (192, 128, 81)) for i in range(4)}
    choices |= {f"s{i}": Choice(wide, 50, (192, 128, 45)) for i in range(3)}
    choices |= {"square": Choice(square, 60, (128, 128, 45)), "long": Choice(wide, 90, (192, 128, 81))}
    found = filled(choices, 4)
    assert found["square"] == (192, 128, 45) and [found[f"s{i}"] for i in range(3)] == [(192, 128, 45)] * 3
    assert found["long"] == found["w0"] == (192, 128, 81)
    assert filled(choices, 1) == {name: choice.bucket for name, choice in choices.items()}
    # A longer clip comes down to a shorter one, which cannot come up; an upright clip does not become a wide one.
    pair = {
        "a": Choice(wide, 60, (192, 128, 45)),
        "b": Choice(wide, 30, (192, 128, 21)),
        "t": Choice(tall, 60, (128, 192, 45)),
    }
    assert filled(pair, 2) == {"a": (192, 128, 21), "b": (192, 128, 21), "t": None}
    assert [left_over([5, 2, 9], size) for size in (1, 2, 4, 8)] == [0, 2, 4, 8]


def test_a_batch_size_moves_clips_to_fuller_buckets(tmp_path, run_script, clips):
    flags = ("--format", "diffusion_pipe", "--model", "wan2.1", *SMALL)
    plain = export(run_script, clips, *flags, "--dry_run", "table").stdout
    assert "the trainer's buckets" in plain and "left over by batches of 2" in plain
    export(run_script, clips, *flags, "--batch_size", 2)
    plan = {path: row for path, row in plan_of(tmp_path).items() if not row["reason"]}
    sizes = [(row["trained_width"], row["trained_height"], row["trained_frames"]) for row in plan.values()]
    assert all(sizes.count(bucket) >= 2 for bucket in sizes)
    for row in plan.values():
        made = measure(str(tmp_path / "out" / row["export_file"]))
        assert (*made.size, len(made.times)) == (row["width"], row["height"], row["frames"])
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.mp4")}
    export(run_script, clips, *flags, "--batch_size", 2)  # and again: nothing is made anew
    assert first == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.mp4")}


# start lines


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in LIBRARIES])
def test_start_lines_are_words_of_a_shell_whatever_the_folder_is_called(tmp_path, format):
    model = models_of(format)[0]
    target = target_for(format, model)
    folder = tmp_path / "My Holiday's Videos-13"
    entries = entries_of(target, folder)
    for entry in entries:
        entry.path.parent.mkdir(parents=True, exist_ok=True)
        entry.path.touch()
    starts = FORMATS[format].write(folder, entries, target)
    words = [
        word.partition("=")[2] or word for start in starts for word in shlex.split(start.replace("the job's", "the"))
    ]
    named = [word for word in words if "Holiday" in word]
    assert named and all(Path(word).exists() or ".precomputed" in word for word in named)
    commands = [start for start in starts if not start.startswith(("in CONFIG:", "copy "))]
    assert commands and all(
        start.split()[0] in ("python", "uv", "accelerate", "deepspeed", "torchrun", "simpletuner") for start in commands
    )


# the documentation


def model_line(model: str) -> str:
    """A model's line of docs/export.md."""
    target = MODELS[model]
    sizes = ", ".join(f"{w}x{h}" for w, h in target.buckets if w >= h)
    lengths = ", ".join(map(str, target.lengths()))
    hears = any(pair.audio for models in PAIRS.values() for name, pair in models.items() if name == model)
    audio = (
        f"{target.sound.rate // 1000} kHz {'stereo' if target.sound.channels == 2 else 'mono'}"
        if target.sound
        else "as it is"
        if hears
        else "–"
    )
    return f"| `{model}` | {float(target.fps or 0):g} | {target.rule.replace(' frames', '')} | ×{target.multiple} | {sizes} | {lengths} | {audio} |"


def pair_line(format: str) -> str:
    """A trainer's line of docs/export.md: its models, and what it makes otherwise than the model's line says."""
    models = []
    for model in models_of(format):
        target, plain = target_for(format, model), MODELS[model]
        changes = [target.rule.replace(" frames", "")] if target.rule != plain.rule else []
        changes += [f"×{target.multiple}"] if target.multiple != plain.multiple else []
        changes += (
            [", ".join(f"{w}x{h}" for w, h in target.buckets if w >= h)] if target.buckets != plain.buckets else []
        )
        changes += ["a frame more in the file"] if target.extra_frames else []
        models.append(f"`{model}`" + (f" ({'; '.join(changes)})" if changes else ""))
    return f"| `{format}` | {', '.join(models)} |"


def test_the_tables_of_the_documentation_are_those_of_the_code():
    lines = (ROOT / "docs/export.md").read_text(encoding="utf-8").splitlines()
    expected = [*(model_line(model) for model in MODELS), *(pair_line(format) for format in PAIRS)]
    for column in COLUMNS:
        names = [f"`{name}`" for name, form in FORMATS.items() if column in form.beside]
        expected += [
            line for line in lines if line.startswith(f"| `{column}`") and line.endswith(f"| {', '.join(names)} |")
        ] or [column]
    assert [line for line in expected if line not in lines] == []
    silent = {"beside": "| included", "alone": "| left out if others have audio |", "never": "| left out |"}
    for format, models in PAIRS.items():
        for model, pair in models.items():
            said = [
                line for line in lines if f"`{format}`" in line and f"`{model}`" in line and silent[pair.silent] in line
            ]
            assert bool(pair.audio) == any(("wav" in line) == (pair.audio == "wav") for line in said), (format, model)


def test_the_table_of_stills_is_that_of_the_code():
    text = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    rows = [
        line for line in text.partition("## Stills")[2].partition("\n## ")[0].splitlines() if line.startswith("| `")
    ]
    for format, (endings, without) in STILLS.items():
        (row,) = [line for line in rows if f"`{format}`" in line.split("|")[1]]
        named = {model for model in MODELS if f"`{model}`" in row.split("|")[3]}
        assert named >= set(without) and not (named - set(without)) & set(models_of(format))
        assert (".webp" in endings) == ("no `.webp`" not in row)
    assert sum(line.split("|")[1].count("`") for line in rows[1:]) == 2 * len(STILLS)


# several captions


CAPTIONS = ["short", "the longest of them all, in two\nlines", "tag, tag", "short", " "]


@pytest.fixture(scope="module")
def captioned(tmp_path_factory) -> Path:
    """Two clips, one of which has three captions, one of them twice."""
    folder = tmp_path_factory.mktemp("captioned")
    (folder / "clips").mkdir()
    for name, frames in (("many.mp4", 9), ("one.mp4", 10)):
        write_numbered(folder / "clips" / name, frames, 24, (64, 64))
    rows = [("many.mp4", CAPTIONS), ("one.mp4", "alone")]
    write_rows(folder / "list.jsonl", [{"video_path": path, "summary_caption": text} for path, text in rows])
    return folder


@pytest.mark.parametrize("format", ["diffusion_pipe", "simpletuner", "musubi", "hf"])
def test_all_captions_go_to_a_trainer_that_takes_several(tmp_path, run_script, captioned, format):
    ran = export(run_script, captioned, "--format", format)
    captions = [sample.caption for sample in samples_of((tmp_path / "out").absolute(), format, "", ran)]
    lines = "the longest of them all, in two lines"
    expected = {
        "diffusion_pipe": ["short", CAPTIONS[1], "tag, tag", "alone"],
        "simpletuner": ["short", lines, "tag, tag", "alone"],
    }
    assert sorted(captions) == sorted(expected.get(format, ["short", "alone"]))


def test_one_of_several_captions_is_chosen(tmp_path, run_script, captioned):
    for how in ("first", "longest", "random"):
        ran = export(run_script, captioned, "--format", "diffusion_pipe", "--caption", how)
        found = {
            sample.path.name: sample.caption
            for sample in samples_of((tmp_path / "out").absolute(), "diffusion_pipe", "", ran)
        }
        assert found["one.mp4"] == "alone" and found["many.mp4"] in CAPTIONS
        assert how == "random" or found["many.mp4"] == CAPTIONS[how == "longest"]
    assert not list((tmp_path / "out").rglob("captions.json"))
    run_script(
        "export_dataset.py",
        "--video_metadata_path",
        captioned / "list.jsonl",
        "--saved_path",
        "set.json",
        "--caption",
        "longest",
    )
    assert [entry["text"] for entry in json.loads((tmp_path / "set.json").read_text())] == [CAPTIONS[1], "alone"]


def test_control_tokens_of_models_do_not_get_into_a_set():
    assert captions_of("A dog runs.<|im_end|>\n<|endoftext|>") == ["A dog runs."]
    assert captions_of(["A dog.</s>", "A dog.", "<|im_end|>"]) == ["A dog."]
