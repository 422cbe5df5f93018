"""Images beside the clips of an export: each trainer gets them where it takes them, of the model's sizes, apart from the clips' buckets."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_numbered
from PIL import Image
from skimage import data
from test_export import export, plan_of, samples_of

from utils.export.formats import FORMATS
from utils.export.formats.entry import Entry
from utils.export.models import MODELS
from utils.export.read_back import rehearsed
from utils.export.trainers import LIBRARIES, STILLS, models_of, still_endings, target_for
from utils.rows import write_rows

WITH_STILLS = [(format, model) for format in STILLS for model in models_of(format) if still_endings(format, model)]
SMALL = ("--buckets", "192x128", "128x192", "--crf", 0)


def a_model(format: str) -> str:
    return next((model for model in ("wan2.1", "ltx2", *models_of(format)) if model in models_of(format) and still_endings(format, model)), "")  # fmt: skip


@pytest.mark.parametrize("format, model", WITH_STILLS)
def test_a_trainer_changes_nothing_of_a_still_of_its_models_sizes(tmp_path, format, model):
    target = target_for(format, model)
    entries = []
    for width, height in target.buckets:
        for kind, ending, frames in (("images", "png", 1), ("videos", "mp4", target.lengths()[-1])):
            folder = FORMATS[format].media_folder.format(width=width, height=height, usable=frames)
            file = f"{folder.replace('videos', kind)}/{width}x{height}.{ending}"
            fps = Fraction(1) if frames == 1 else target.fps or Fraction(24)
            made = frames + (target.extra_frames if frames > 1 else 0)
            entries.append(Entry(file, tmp_path / file, file, fps, width, height, made, {"video_path": file}, frames))
    found = rehearsed(format, target, {"": entries})
    for entry in entries:
        sample = found[entry.path]
        trained = entry.frames if format in LIBRARIES else entry.frames_for(target)
        assert (sample.width, sample.height, sample.frames) == (entry.width, entry.height, trained), entry
        assert sample.caption == entry.caption and not sample.skipped


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A clip, and stills: a wide one of its own kind, an upright one, and one with a crop box."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "clips/sub").mkdir(parents=True)
    photo = data.astronaut()
    write_numbered(folder / "clips/a.mp4", 130, 24, (192, 128))
    Image.fromarray(photo[:400, :]).save(folder / "clips/a.png")
    Image.fromarray(photo[:, :380]).save(folder / "clips/sub/Tall.JPG", quality=95)
    Image.fromarray(photo).save(folder / "clips/boxed.webp", lossless=True)
    names = ("a.mp4", "a.png", "sub/Tall.JPG", "boxed.webp")
    rows = [{"video_path": name, "summary_caption": f"what {name} shows"} for name in names]
    rows[-1]["crop_box"] = [100, 50, 384, 256]
    write_rows(folder / "list.jsonl", rows)
    return folder


@pytest.mark.parametrize("format", list(STILLS))
def test_stills_are_encoded_for_the_model_and_read_back(tmp_path, run_script, mixed, format):
    model = a_model(format)
    sizes = SMALL if target_for(format, model).multiple <= 64 else ()
    ran = export(run_script, mixed, "--format", format, "--model", model, *sizes)
    plan = plan_of(tmp_path)
    assert not any(row["reason"] for row in plan.values()), plan
    for name in ("a.png", "sub/Tall.JPG", "boxed.webp"):
        row = plan[name]
        made = Path(tmp_path / "out" / row["export_file"])
        assert made.suffix == ".png" and "images" in made.parts and row["trained_frames"] == 1
        assert cv2.imread(str(made)).shape[1::-1] == (row["width"], row["height"])
        assert (row["width"] > row["height"]) == (name != "sub/Tall.JPG")
    assert "an image" in ran.stdout and "1 errors" not in ran.stdout
    found = {sample.caption: sample for sample in samples_of((tmp_path / "out").absolute(), format, model, ran)}
    assert len(found) == 4 and [found[f"what {name} shows"].frames for name in ("a.png", "boxed.webp")] == [1, 1]
    if sizes:  # what was in the crop box, scaled
        _, _, width, height = plan["boxed.webp"]["box"]
        assert (width, height) == (384, 256) and (plan["boxed.webp"]["width"], plan["boxed.webp"]["height"]) == (
            192,
            128,
        )
        wanted = cv2.resize(data.astronaut()[50:306, 100:484], (192, 128), interpolation=cv2.INTER_AREA)[:, :, ::-1]
        picture = cv2.imread(str(tmp_path / "out" / plan["boxed.webp"]["export_file"]))
        assert np.abs(picture.astype(int) - wanted).max() <= 2
    again = export(run_script, mixed, "--format", format, "--model", model, *sizes)
    assert "media: 4 of 4 done before" in again.stdout


@pytest.mark.parametrize("format", list(STILLS))
def test_stills_are_linked_as_they_are(tmp_path, run_script, mixed, format):
    ran = export(run_script, mixed, "--format", format, "--ignore_crop_boxes")
    plan, endings = plan_of(tmp_path), still_endings(format, None)
    for name in ("a.png", "sub/Tall.JPG", "boxed.webp"):
        is_taken = Path(name).suffix.lower() in endings
        assert bool(plan[name]["reason"]) != is_taken and (is_taken or "ends in .webp" in plan[name]["does"])
    count = len(samples_of((tmp_path / "out").absolute(), format, "", ran))
    assert count == 1 + sum(not row["reason"] for name, row in plan.items() if name != "a.mp4")


@pytest.mark.parametrize("format", list(STILLS))
def test_a_set_of_stills_alone(tmp_path, run_script, mixed, format):
    rows = [{"video_path": "a.png", "summary_caption": "one"}, {"video_path": "boxed.webp", "summary_caption": "two"}]
    write_rows(tmp_path / "stills.jsonl", rows)
    model = a_model(format)
    ran = export(run_script, mixed, "--format", format, "--model", model, listed=tmp_path / "stills.jsonl")
    assert len(samples_of((tmp_path / "out").absolute(), format, model, ran)) == 2
    assert "0 clips, 0.00 hours, from 0 videos, and 2 images" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize(
    "format, model", [("hf", None), ("diffusers", "cogvideox"), ("musubi", "framepack"), ("videox_fun", "minimax-h3")]
)
def test_a_trainer_of_videos_alone_gets_no_still(tmp_path, run_script, mixed, format, model):
    flags = ("--model", model) if model else ("--ignore_crop_boxes",)
    export(run_script, mixed, "--format", format, *flags)
    reasons = {name: row["reason"] for name, row in plan_of(tmp_path).items()}
    assert [reasons[name] for name in ("a.png", "sub/Tall.JPG", "boxed.webp")] == ["image"] * 3
    assert reasons["a.mp4"] in ("", "no audio")


def test_clips_do_not_move_into_the_buckets_of_stills(tmp_path, run_script, mixed):
    flags = ("--format", "musubi", "--model", "wan2.1", *SMALL, "--batch_size", 2)
    export(run_script, mixed, *flags)
    plan = plan_of(tmp_path)
    assert {name: row["reason"] for name, row in plan.items()} == {
        "a.mp4": "batch_size", "a.png": "", "sub/Tall.JPG": "batch_size", "boxed.webp": "",
    }  # fmt: skip


def test_what_goes_beside_a_still_is_an_image(tmp_path, run_script, mixed):
    cv2.imwrite(str(mixed / "clips/edges.png"), np.full((200, 256, 3), 90, np.uint8))
    rows = [{"video_path": "a.png", "summary_caption": "one", "control_path": "edges.png"}, {"video_path": "boxed.webp", "summary_caption": "two", "control_path": "a.mp4"}]  # fmt: skip
    write_rows(tmp_path / "stills.jsonl", rows)
    flags = ("--format", "diffusion_pipe", "--model", "wan2.1", *SMALL)
    export(run_script, mixed, *flags, listed=tmp_path / "stills.jsonl")
    plan = plan_of(tmp_path)
    assert plan["a.png"]["reason"] == "" and "a video, and the clip is an image" in plan["boxed.webp"]["does"]
    (control,) = plan["a.png"]["beside"].values()
    assert cv2.imread(str(tmp_path / "out" / control)).shape == (128, 192, 3)


def test_lists_say_what_is_an_image(tmp_path, run_script, mixed):
    export(run_script, mixed, "--format", "easyanimate", "--ignore_crop_boxes")
    listed = json.loads((tmp_path / "out/train.json").read_text())
    assert [row["type"] for row in listed] == ["video", "image", "image", "image"]
    export(run_script, mixed, "--format", "simpletuner", "--model", "wan2.1", *SMALL, "--export_folder", "tuner")
    backends = json.loads((tmp_path / "tuner/multidatabackend.json").read_text())
    kinds = {backend["id"]: backend["dataset_type"] for backend in backends}
    assert kinds["192x128"] == "video" and kinds["192x128-images"] == kinds["128x192-images"] == "image"
    assert not any("video" in backend for backend in backends if backend["dataset_type"] == "image")


def test_a_model_of_the_table_takes_stills_or_says_that_it_does_not():
    for format, (_, without) in STILLS.items():
        assert set(without) <= set(models_of(format)) <= set(MODELS)
