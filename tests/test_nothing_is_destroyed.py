"""What a wrong path, a second run or a changed source could destroy or get wrong in silence."""

import importlib
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import numbered_frame, read_indices, write_numbered, write_video

from utils.cutting import split
from utils.cutting.clip_names import is_as_written
from utils.cutting.clip_track import Encoding
from utils.cutting.spans import ClipLimits
from utils.errors import UsageError, VideoError
from utils.models.embeddings import encoded, move_embeddings
from utils.pipeline.ancestry import CHANGED
from utils.rows import digest, read_rows, write_rows
from utils.video_utils import content_digest, is_clip

SPLIT = ("--output_folder", "in/data/train", "--min_seconds", 1, "--preset", "ultrafast", "--n_jobs", 2)


def state(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def stage_1(run_script):
    """Both scripts on the folder `in`, the dataset in `in/data`; what they printed."""

    def run(*flags) -> str:
        no_cuts = ("--detector", "content", "--cutscene_threshold", 1000)
        scenes = ("--video_folder", "in", "--saved_path", "in/data/scenes.jsonl", *no_cuts)
        clips = ("--video_folder", "in", "--video_metadata_path", "in/data/scenes.jsonl")
        found = run_script("cutscene_detect.py", *scenes, *flags).stdout
        cut = run_script("video_splitting.py", *clips, *SPLIT, "--saved_path", "in/data/clips.jsonl", *flags)
        return found + cut.stdout

    return run


def test_a_dataset_inside_the_folder_of_the_sources_gives_no_clips_of_clips(tmp_path, stage_1):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/b-Scene-001.mp4"):  # the second is named like a clip, and is none
        write_numbered(tmp_path / "in" / name, 48)
    stage_1()
    before = state(tmp_path / "in")
    assert "in/data/train/sub/b-Scene-001-Scene-001.mp4" in {f"in/{name}" for name in before}
    for flags in ((), (), ("--overwrite",)):
        assert "in: 2 clips of video_splitting.py in it are skipped" in stage_1(*flags)
        assert set(state(tmp_path / "in")) == set(before)
    assert len(read_rows(tmp_path / "in/data/scenes.jsonl")) == len(read_rows(tmp_path / "in/data/clips.jsonl")) == 2
    assert is_clip(str(tmp_path / "in/data/train/a-Scene-001.mp4"))
    assert not is_clip(str(tmp_path / "in/sub/b-Scene-001.mp4")) and not is_clip("missing-Scene-001.mp4")


def test_overwriting_cuts_damaged_clips_anew(tmp_path, stage_1):
    (tmp_path / "in").mkdir()
    write_numbered(tmp_path / "in" / "a.mp4", 48)
    stage_1()
    clip = tmp_path / "in/data/train/a-Scene-001.mp4"
    content = bytearray(clip.read_bytes())
    start = content.index(b"mdat") + 4
    content[start:] = bytes(len(content) - start)  # its header, and with it its identity, is whole
    clip.write_bytes(content)
    assert "1 rows in = 1 cut into 1 clips + 0 errors" in stage_1("--overwrite")
    assert read_indices(clip) == list(range(48))


def test_a_source_replaced_by_another_of_its_size_and_timing_is_cut_and_scored_anew(tmp_path, stage_1, run_script):
    (tmp_path / "in").mkdir()
    source, other = tmp_path / "in" / "a.mp4", tmp_path / "other.mp4"
    write_numbered(source, 48)
    write_video(other, (numbered_frame(100 + i) for i in range(48)))
    size = max(source.stat().st_size, other.stat().st_size) + 8
    for path in (source, other):
        path.write_bytes(path.read_bytes() + (size - path.stat().st_size).to_bytes(4, "big") + b"free")
        os.truncate(path, size)
    stage_1()
    score = (
        "--video_folder",
        "in/data/train",
        "--video_metadata_path",
        "in/data/clips.jsonl",
        "--saved_path",
        "s.jsonl",
    )
    run_script("compute_video_frame_quality.py", *score)
    (before,) = read_rows(tmp_path / "s.jsonl")

    shutil.copy(other, source)
    clips = (
        "--video_folder",
        "in",
        "--video_metadata_path",
        "in/data/scenes.jsonl",
        "--saved_path",
        "in/data/clips.jsonl",
    )
    ended = run_script("video_splitting.py", *clips, *SPLIT, "--overwrite", code=1)  # the shots are those of the first
    assert "is not the file whose shots were detected" in ended.stderr
    stage_1("--overwrite")
    assert read_indices(tmp_path / "in/data/train/a-Scene-001.mp4") == list(range(100, 148))
    assert "1 results no longer match" in run_script("compute_video_frame_quality.py", *score).stdout
    (after,) = read_rows(tmp_path / "s.jsonl")
    assert before["made_from"] != after["made_from"]


def test_the_digest_sees_head_middle_tail_and_size(tmp_path):
    path = tmp_path / "a.mp4"
    whole = bytes(1_000_000)
    digests = set()
    for place in (None, 0, 500_000, 999_999):
        path.write_bytes(whole if place is None else whole[:place] + b"x" + whole[place + 1 :])
        digests.add(content_digest(str(path)))
    path.write_bytes(whole + b"\0")
    assert len(digests | {content_digest(str(path))}) == 5
    path.write_bytes(b"")
    assert len(content_digest(str(path))) == 16


def test_rows_of_before_without_a_digest_stay_done(tmp_path, stage_1):
    """As if a version had made them that knew no digest."""
    (tmp_path / "in").mkdir()
    write_numbered(tmp_path / "in" / "a.mp4", 48)
    stage_1()
    scenes, clips = tmp_path / "in/data/scenes.jsonl", tmp_path / "in/data/clips.jsonl"
    (scene,), (clip,) = read_rows(scenes), read_rows(clips)
    del scene["source_digest"], clip["source_digest"]
    clip["made_from"] = digest(scene | {"clip_prefix": "a-Scene-"}, ("timecode_list", "transitions", "clip_prefix"))
    scenes.write_text(json.dumps(scene) + "\n")
    clips.write_text(json.dumps(clip) + "\n")
    assert stage_1().count("1 of 1 done before, 0 due") == 2


ROW = {
    "video_path": "a.mp4",
    "timecode_list": [[0, 2]],
    "duration": 4,
    "summary_caption": "A dog.",
    "sampled_frame_caption": ["A dog."],
    "attributes": {},
    "text_score": 0,
}
OUT = ("--output_folder", "out", "--preset", "ultrafast")


SCRIPTS = {
    "cutscene_detect": (),
    "video_splitting": OUT,
    "compute_video_frame_quality": (),
    "compute_text_score": (),
    "compute_motion_score": (),
    "filter_videos_by_motion_score": (),
    "caption_video_frame": (),
    "caption_summary": (),
    "export_dataset": (),
}


def refused(script: str, monkeypatch, *flags) -> str:
    """What the script says as it refuses its flags."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
    with pytest.raises(UsageError) as ended:
        importlib.import_module(script).main()
    return str(ended.value)


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_replaces_its_input(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed, link, hard = (
        f"{name}.json{'' if script == 'export_dataset' else 'l'}" for name in ("list", "link", "hard")
    )
    (tmp_path / listed).write_text(json.dumps(ROW) + "\n")
    (tmp_path / link).symlink_to(listed)
    os.link(tmp_path / listed, tmp_path / hard)
    before = state(tmp_path)
    for name in (listed, f"../{tmp_path.name}/{listed}", link, hard):
        for more in ((), ("--overwrite",)):
            flags = ("--video_metadata_path", listed, *SCRIPTS[script], "--saved_path", name, *more)
            assert "would overwrite --video_metadata_path" in refused(script, monkeypatch, *flags)
            assert state(tmp_path) == before


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("filter_videos_by_motion_score", ("--dropped_path", "list.jsonl")),
        ("filter_videos_by_motion_score", ("--saved_path", "new.jsonl", "--dropped_path", "./new.jsonl")),
        ("filter_videos_by_motion_score", ("--saved_path", "dropped.jsonl")),  # dropped_path's default
        ("filter_videos_by_motion_score", ("--text_score_metadata_path", "text.jsonl", "--dropped_path", "text.jsonl")),
        ("filter_videos_by_motion_score", ("--text_score_metadata_path", "text.jsonl", "--saved_path", "text.jsonl")),
        ("compute_motion_score", ("--filter", "text.jsonl", "text_score", 0, 1, "--saved_path", "./text.jsonl", "--overwrite")),
    ],
)  # fmt: skip
def test_no_script_replaces_a_score_file_or_its_other_output(script, flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("list.jsonl", "text.jsonl"):
        (tmp_path / name).write_text(json.dumps(ROW) + "\n")
    before = state(tmp_path)
    said = refused(script, monkeypatch, "--video_metadata_path", "list.jsonl", *flags)
    assert "would overwrite" in said and state(tmp_path) == before


@pytest.mark.parametrize("path", ["/etc/passwd", "../../x.mp4", "sub/../../x.mp4"])
def test_the_training_set_names_no_file_outside_its_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "list.jsonl").write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | {"video_path": path}) + "\n")
    said = refused("export_dataset", monkeypatch, "--video_metadata_path", "list.jsonl", "--video_folder", "in")
    assert "is outside --video_folder in" in said and not (tmp_path / "train_panda_70m.json").exists()


def test_an_output_that_cannot_be_written_ends_the_run_and_fails_no_row(tmp_path, run_script):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    write_numbered(tmp_path / "in" / "sub" / "a.mp4", 48)
    (tmp_path / "scenes.jsonl").write_text(json.dumps({"video_path": "sub/a.mp4", "timecode_list": [[0, 2]]}) + "\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("a file where a folder must be")
    flags = ("--video_metadata_path", "scenes.jsonl", "--video_folder", "in", "--min_seconds", 1, *OUT)
    ended = run_script("video_splitting.py", *flags, code=2)
    assert "out/sub/a-Scene-001.mp4: cannot be written: " in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "clips.errors.jsonl").exists()
    (tmp_path / "out" / "sub").unlink()
    assert "1 rows in = 1 cut into 1 clips + 0 errors" in run_script("video_splitting.py", *flags).stdout


@pytest.mark.parametrize("script", list(SCRIPTS)[:5])
def test_a_stage_whose_every_row_failed_says_why_and_ends_with_1(script, tmp_path, run_script):
    (tmp_path / "in").mkdir()
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(ROW | {"video_path": f"{i}.mp4"}) + "\n" for i in range(5)))
    for i in range(5):
        (tmp_path / "in" / f"{i}.mp4").write_text("no video")
    own = (*OUT, "--min_seconds", 1) if script == "video_splitting" else ()
    flags = ("--video_metadata_path", "list.jsonl", "--video_folder", "in", *own, "--saved_path", "saved.jsonl")
    for _ in range(2):  # the second finds them done
        ended = run_script(f"{script}.py", *flags, code=1)
        assert "5 rows in = 0 " in ended.stdout and "all 5 rows of " in ended.stderr and "failed" in ended.stderr
        assert ended.stderr.count("cannot be read") == 3 and "Traceback" not in ended.stderr
    write_numbered(tmp_path / "in" / "0.mp4", 48)
    run_script(f"{script}.py", *flags, "--retry_errors")


def test_a_source_replaced_while_it_is_cut_is_an_error_and_leaves_no_clip(tmp_path, monkeypatch):
    source, other = write_numbered(tmp_path / "a.mp4", 48), tmp_path / "other.mp4"
    write_video(other, (numbered_frame(100 + i) for i in range(48)))
    row = {"video_path": "a.mp4", "timecode_list": [[0, 2]], "clip_prefix": "a-Scene-"}
    write_clips = split.write_clips

    def replaced_meanwhile(*arguments):
        os.replace(other, source)
        write_clips(*arguments)

    monkeypatch.setattr(split, "write_clips", replaced_meanwhile)
    limits, encoding = ClipLimits(min_seconds=1), Encoding("libx264")
    with pytest.raises(VideoError, match="was replaced or removed while it was cut"):
        split.split_video(row, str(tmp_path), str(tmp_path / "out"), limits, encoding)
    assert not list((tmp_path / "out").iterdir())


def test_a_list_of_clips_can_name_any_file_and_only_a_clip_of_that_source_goes(tmp_path):
    write_numbered(tmp_path / "a.mp4", 48)
    row = {"video_path": "a.mp4", "timecode_list": [[0, 2]], "clip_prefix": "a-Scene-"}
    (clip,) = split.split_video(
        row, str(tmp_path), str(tmp_path / "out"), ClipLimits(min_seconds=1), Encoding(preset="ultrafast")
    )
    (tmp_path / "elsewhere").mkdir()
    for name in ("x-Scene-001.mp4", "elsewhere/x-Scene-001.mp4", "out/x-Scene-001.mp4"):
        shutil.copy(tmp_path / "out" / clip["video_path"], tmp_path / name)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "b-Scene-001.mp4").write_text("no clip of ours")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    before = state(tmp_path)
    outside = ("../x-Scene-001.mp4", f"{tmp_path}/x-Scene-001.mp4", "link/x-Scene-001.mp4", "../out/a-Scene-001.mp4")
    for name in (*outside, "notes.txt", "b-Scene-001.mp4", "gone-Scene-001.mp4"):
        assert not is_as_written({"video_path": name, "stamp": "other 5", "bytes": 5}, str(tmp_path / "out"), CHANGED)
    assert state(tmp_path) == before
    assert is_as_written(clip, str(tmp_path / "out"), CHANGED)
    assert not is_as_written(clip | {"stamp": "other 5"}, str(tmp_path / "out"), CHANGED)
    assert before.keys() - state(tmp_path).keys() == {"out/a-Scene-001.mp4"}


@pytest.mark.parametrize("embedding", [7, None, "", "no base64", "AAA=", [1]])
def test_an_embedding_that_is_none_is_a_sentence_and_the_file_of_before_stays(embedding, tmp_path):
    rows = [{"video_path": "a.mp4", "clip_embedding": encoded(np.ones((1, 4), np.float32))}]
    write_rows(tmp_path / "s.jsonl", rows)
    move_embeddings(tmp_path / "s.jsonl", tmp_path / "e.parquet")
    before = (tmp_path / "e.parquet").read_bytes()
    write_rows(tmp_path / "s.jsonl", [*rows, {"video_path": "b.mp4", "clip_embedding": embedding}])
    with pytest.raises(UsageError, match=r"s.jsonl: clip_embedding of 'b.mp4' is not an embedding of this model"):
        move_embeddings(tmp_path / "s.jsonl", tmp_path / "e.parquet")
    assert (tmp_path / "e.parquet").read_bytes() == before
