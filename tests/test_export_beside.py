"""What goes beside the clips of an export: control and reference videos, masks and first frames come in with the clip's own crop, size, frames and rate."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import read_indices, write_numbered
from test_export import export, plan_of, samples_of

from utils.export.beside import WAV
from utils.export.formats import FORMATS
from utils.export.media import measure
from utils.export.trainers import models_of
from utils.rows import read_rows, write_rows
from utils.video_utils import is_video_name

SMALL = ("--buckets", "192x128", "128x192", "--crf", 0)


@pytest.fixture(scope="module")
def paired(tmp_path_factory) -> Path:
    """Two clips, each with a control video of twice the size and a reference video numbered alike, a mask image and a reference image of another shape."""
    folder = tmp_path_factory.mktemp("paired")
    for name in ("clips/sub", "clips/extra"):
        (folder / name).mkdir(parents=True)
    rows = []
    for name, frames, size in (("wide.mp4", 60, (240, 128)), ("sub/tall.mp4", 40, (128, 192))):
        stem = Path(name).stem
        twice = (size[0] * 2, size[1] * 2)
        write_numbered(folder / "clips" / name, frames, 24, size)
        write_numbered(folder / f"clips/extra/{stem}_control.mp4", frames, 24, twice)
        write_numbered(folder / f"clips/extra/{stem}_reference.mp4", frames, 24, size)
        left = np.zeros((twice[1], twice[0]), np.uint8)
        left[:, : size[0]] = 255
        cv2.imwrite(str(folder / f"clips/extra/{stem}_mask.png"), left)
        cv2.imwrite(str(folder / f"clips/extra/{stem}_face.jpg"), np.full((50, 70, 3), 90, np.uint8))
        rows.append(
            {
                "video_path": name,
                "summary_caption": f"the {stem} one",
                "control_path": f"extra/{stem}_control.mp4",
                "reference_path": f"extra/{stem}_reference.mp4",
                "mask_path": f"extra/{stem}_mask.png",
            }
        )
    write_rows(folder / "list.jsonl", rows)
    return folder


def changed(paired: Path, path: Path, **columns) -> Path:
    """The list of `paired` with other values of `columns` for its first clip, a function of the row for each of its clips."""
    rows = read_rows(paired / "list.jsonl")
    for i, row in enumerate(rows):
        row.update(
            {
                name: value(row) if callable(value) else value
                for name, value in columns.items()
                if callable(value) or not i
            }
        )
    write_rows(path, rows)
    return path


def extra(ending: str) -> Callable[[dict], str]:
    return lambda row: f"extra/{Path(row['video_path']).stem}_{ending}"


# Where a trainer takes images alone, or videos alone.
OTHERS = {
    "diffsynth": {"reference_path": extra("face.jpg"), "mask_path": extra("control.mp4")},
    "ai_toolkit": {"control_path": extra("mask.png")},
    "simpletuner": {"mask_path": extra("control.mp4")},
}


@pytest.mark.parametrize("format", [name for name, form in FORMATS.items() if form.beside and name != "diffusers"])
def test_what_is_beside_a_clip_is_cut_as_the_clip_is(tmp_path, run_script, paired, format):
    model = {
        "musubi": "wan2.1",
        "diffsynth": "wan2.1",
        "ai_toolkit": "wan2.1",
        "diffusion_pipe": "wan2.1",
        "simpletuner": "wan2.1",
        "finetrainers": "wan2.1",
    }
    flags = ("--model", model[format]) if format in model else ()
    flags += SMALL if flags else ()
    listed = changed(paired, tmp_path / "l.jsonl", **OTHERS.get(format, {}))
    ran = export(run_script, paired, "--format", format, *flags, listed=listed)
    columns = set(FORMATS[format].beside) - {"first_frame", WAV}
    samples = samples_of((tmp_path / "out").absolute(), format, model.get(format, ""), ran)
    if format in ("hf", "parquet"):
        rows = {row["export_file"]: row for row in plan_of(tmp_path).values()}
        assert len(rows) == 2 and not any(row["reason"] for row in rows.values())
    if format == "diffusion_pipe":
        columns = {"control_path", "mask_path"}
    assert len(samples) == 2
    for sample in samples:
        assert len(sample.beside) == len(columns), sample
        clip = measure(str(sample.path)) if sample.path.exists() else None  # in a tar
        for path in sample.beside if sample.path.exists() else ():
            if is_video_name(path.name):
                made = measure(str(path))
                if flags:
                    assert (made.size, list(made.times), made.fps) == (clip.size, list(clip.times), clip.fps)
                    assert read_indices(path) == read_indices(sample.path)
                assert len(made.times) == len(clip.times)
            elif path.parts[-2] == "masks" or "masks" in path.parts:
                mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                across = mask.shape[1]
                assert not flags or mask.shape == clip.size[::-1]
                # cut about the middle, as the clip was
                assert (mask[:, : across // 2] == 255).all() and not mask[:, across // 2 :].any()


def test_a_first_frame_that_is_given_or_made_goes_with_the_clip(tmp_path, run_script, paired):
    ran = export(run_script, paired, "--format", "diffusers", "--model", "cogvideox", *SMALL, "--first_frames")
    samples = samples_of((tmp_path / "out").absolute(), "diffusers", "cogvideox", ran)
    for sample in samples:
        (frame,) = sample.beside
        assert cv2.imread(str(frame)).shape[1::-1] == measure(str(sample.path)).size
    assert len((tmp_path / "out/images.txt").read_text().splitlines()) == 2
    assert len(samples) == 2
    # one that is given stays, and the other is made
    listed = changed(paired, tmp_path / "l.jsonl", first_frame="extra/wide_mask.png")
    for folder, media in (("linked", ("--media", "link")), ("encoded", SMALL)):
        flags = ("--format", "diffusers", "--model", "cogvideox", *media, "--first_frames", "--export_folder", folder)
        export(run_script, paired, *flags, listed=listed)
        frames = [
            cv2.imread(str(tmp_path / folder / name)) for name in (tmp_path / folder / "images.txt").read_text().split()
        ]
        assert [set(np.unique(frame)) == {0, 255} for frame in frames] == [True, False]


@pytest.mark.parametrize(
    "columns, said",
    [
        ({"control_path": "sub/tall.mp4"}, "40 frames, and the clip has 60"),
        ({"control_path": "extra/odd.mp4"}, "not the aspect ratio"),
        ({"control_path": "extra/fast.mp4"}, "30 fps, and the clip has 24"),
        ({"control_path": ""}, "it has no control_path"),
        ({"control_path": 7}, "it has no control_path"),
        ({"control_path": []}, "it has no control_path"),
    ],
)
def test_what_does_not_fit_leaves_its_clip_out(tmp_path, run_script, paired, columns, said):
    if not (paired / "clips/extra/odd.mp4").exists():
        write_numbered(paired / "clips/extra/odd.mp4", 60, 24, (128, 240))
        write_numbered(paired / "clips/extra/fast.mp4", 60, 30, (240, 128))
    listed = changed(paired, tmp_path / "l.jsonl", **columns)
    export(run_script, paired, "--format", "musubi", "--model", "wan2.1", *SMALL, listed=listed)
    plan = plan_of(tmp_path)
    assert plan["wide.mp4"]["reason"] == "control_path" and said in plan["wide.mp4"]["does"]
    assert not plan["sub/tall.mp4"]["reason"]


@pytest.mark.parametrize(
    "format, column, path",
    [
        ("diffusion_pipe", "mask_path", "extra/wide_control.mp4"),
        ("musubi", "control_path", "extra/wide_mask.png"),
        ("ltx2", "reference_path", "extra/wide_mask.png"),
    ],
)
def test_a_trainer_gets_no_image_for_a_video_and_no_video_for_an_image(
    tmp_path, run_script, paired, format, column, path
):
    listed = changed(paired, tmp_path / "l.jsonl", **{column: path})
    export(run_script, paired, "--format", format, "--dry_run", "table", listed=listed)
    export(run_script, paired, "--format", format, "--model", models_of(format)[0], *SMALL, listed=listed)
    plan = plan_of(tmp_path)
    assert plan["wide.mp4"]["reason"] == column and not plan["sub/tall.mp4"]["reason"]


def test_lightricks_trainers_get_the_columns_that_they_look_for(tmp_path, run_script, paired):
    listed = changed(paired, tmp_path / "l.jsonl", mask_path=extra("control.mp4"))
    export(run_script, paired, "--format", "ltx2", "--model", "ltx2", *SMALL, listed=listed)
    (row, *_) = json.loads((tmp_path / "out/dataset.json").read_text())
    assert list(row) == ["video", "caption", "reference_video", "video_mask"]
    flags = ("--format", "ltx_video", "--model", "ltx-video", *SMALL, "--export_folder", "older")
    ran = export(run_script, paired, *flags, listed=listed)
    for path in (tmp_path / "older").glob("dataset*.json"):
        assert [list(row) for row in json.loads(path.read_text())] == [["media_path", "caption", "reference_path"]]
    assert ran.stdout.count("--video-column media_path --reference-column reference_path") == 2


def test_what_has_no_place_is_said_to_stay_behind(tmp_path, run_script, paired):
    said = export(run_script, paired, "--format", "opensora", "--dry_run", "table").stdout
    assert all(f"{c} stays behind: opensora has no place for it" in said for c in ("control_path", "reference_path"))
    said = export(run_script, paired, "--format", "simpletuner").stdout  # which looks for equal names
    assert "control_path stays behind: simpletuner takes it from --media encode alone" in said
    assert not (tmp_path / "out/control").exists()


def test_datasets_gives_the_control_video_that_finetrainers_asks_for(tmp_path, run_script, paired):
    import datasets

    ran = export(run_script, paired, "--format", "finetrainers", "--model", "wan2.1", *SMALL)
    loaded = datasets.load_dataset("videofolder", data_dir=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))  # fmt: skip
    assert len(loaded) == 2 and loaded.features["control_video"] == loaded.features["video"]
    assert "--training_type control-lora --control_type custom" in ran.stdout


def test_simpletuner_pairs_datasets_by_their_ids(tmp_path, run_script, paired):
    listed = changed(paired, tmp_path / "l.jsonl", mask_path=extra("control.mp4"))
    export(run_script, paired, "--format", "simpletuner", "--model", "wan2.1", *SMALL, listed=listed)
    backends = {b["id"]: b for b in json.loads((tmp_path / "out/multidatabackend.json").read_text())}
    assert backends["192x128"]["conditioning_data"] == ["192x128-controlnet", "192x128-reference_strict", "192x128-mask"]  # fmt: skip
    for kind in ("controlnet", "reference_strict", "mask"):
        condition = backends[f"192x128-{kind}"]
        assert condition["dataset_type"] == "conditioning" and condition["conditioning_type"] == kind
        assert condition["source_dataset_id"] == "192x128" and condition["video"] == backends["192x128"]["video"]
        assert [path.name for path in Path(condition["instance_data_dir"]).iterdir()] == ["wide.mp4"]


def test_what_cannot_be_read_is_an_error_of_its_clip(tmp_path, run_script, paired):
    (paired / "clips/extra/broken.mp4").write_bytes(b"no video")
    for path in ("extra/broken.mp4", "extra/none.mp4"):
        listed = changed(paired, tmp_path / "l.jsonl", control_path=path)
        ran = export(run_script, paired, "--format", "musubi", "--model", "wan2.1", *SMALL, listed=listed)
        assert "1 errors" in ran.stdout and path in str(plan_of(tmp_path)["wide.mp4"])
        assert len(list((tmp_path / "out").rglob("control/**/*.mp4"))) == 1


def test_a_run_again_makes_nothing_anew_and_takes_away_what_is_no_longer_listed(tmp_path, run_script, paired):
    flags = ("--format", "musubi", "--model", "wan2.1", *SMALL)
    export(run_script, paired, *flags)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.mp4")}
    assert len(first) == 4
    export(run_script, paired, *flags)
    assert first == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.mp4")}
    (lost,) = (path for path in first if path.name == "wide.mp4" and "control" in path.parts)
    lost.unlink()
    export(run_script, paired, *flags)
    assert lost.exists()
    write_rows(tmp_path / "l.jsonl", read_rows(paired / "list.jsonl")[1:])
    export(run_script, paired, *flags, listed=tmp_path / "l.jsonl")
    assert {path.name for path in (tmp_path / "out").rglob("*.mp4")} == {"sub__tall.mp4"}
    assert len(list((tmp_path / "out").rglob("*.mp4"))) == 2


@pytest.mark.parametrize("format", ["webdataset", "musubi", "diffusion_pipe"])
def test_what_is_beside_a_clip_moves_with_it_from_split_to_split(tmp_path, run_script, paired, format):
    flags = ("--format", format, "--media", "link")
    for share in ("0", "0.5", "0"):
        export(run_script, paired, *flags, *(("--val_share", share) if share != "0" else ()))
        places = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.mp4")]
        assert {path.parts[0] in ("train", "val") for path in places} == {share != "0"}
        kept = {"control"} if format != "webdataset" else {"control", "reference"}
        assert len([path for path in places if kept & set(path.parts)]) == 2 * len(kept)
        assert len(places) == 2 * len(kept) + 2


def test_datasets_loads_clips_with_what_is_beside_them(tmp_path, run_script, paired):
    import datasets

    export(run_script, paired, "--format", "hf", "--val_share", "0.5")
    loaded = datasets.load_dataset("videofolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert sum(len(split) for split in loaded.values()) == 2
    for split in loaded.values():
        for row in split.remove_columns("video"):
            assert row["control_path"]


def test_webdataset_gives_what_is_beside_a_clip_with_it(tmp_path, run_script, paired):
    import webdataset

    export(run_script, paired, "--format", "webdataset", "--model", "wan2.1", *SMALL)
    samples = list(webdataset.WebDataset(str(tmp_path / "out/shards/000000.tar"), shardshuffle=False))
    assert len(samples) == 2
    for sample in samples:
        (tmp_path / "clip.mp4").write_bytes(sample["mp4"])
        for column in ("control_path", "reference_path"):
            (tmp_path / "other.mp4").write_bytes(sample[f"{column}.mp4"])
            assert read_indices(tmp_path / "other.mp4") == read_indices(tmp_path / "clip.mp4")
        assert sample["mask_path.png"].startswith(b"\x89PNG")
