"""Captions made elsewhere are taken in by --captions_from, pass the checks of answers, and are finished like others."""

import json

import pytest

import caption_summary
from utils.errors import UsageError
from utils.rows import read_rows


@pytest.fixture
def frame_captions(tmp_path):
    rows = [
        {"video_path": f"sub/{name}.mp4", "sampled_frame_caption": [f"A {name}."], "attributes": {}} for name in "abcd"
    ]
    (tmp_path / "frames.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--video_metadata_path", "frames.jsonl", "--summarizer", "none", "--n_jobs", 1]


def summaries(tmp_path) -> dict:
    return {row["video_path"]: row["summary_caption"] for row in read_rows(tmp_path / "summary_caption.jsonl")}


def test_captions_made_elsewhere_are_taken_checked_and_finished(frame_captions, tmp_path, run_main):
    given = [
        {"video_path": "sub/a.mp4", "caption": "A dog\n runs.<|im_end|>"}, {"video_path": "sub/b.mp4", "caption": "I'm sorry, I can't."},
        {"video_path": "sub/c.mp4", "caption": ""},
    ]  # fmt: skip
    (tmp_path / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    run_main(caption_summary, *frame_captions, "--captions_from", "edits.jsonl", "--trigger_word", "sks")
    assert summaries(tmp_path) == {"sub/a.mp4": "sks A dog runs.", "sub/c.mp4": "sks A c.", "sub/d.mp4": "sks A d."}
    (error,) = read_rows(tmp_path / "summary_caption.errors.jsonl")
    assert error["error"] == "BadCaption" and "--captions_from: the caption is a refusal" in error["message"]
    # Another edit is taken at the next run, and one that is gone gives the caption back.
    (tmp_path / "edits.jsonl").write_text(json.dumps({"video_path": "sub/d.mp4", "caption": "A cat sleeps."}) + "\n")
    run_main(caption_summary, *frame_captions, "--captions_from", "edits.jsonl", "--retry_errors")
    assert summaries(tmp_path) == {
        "sub/a.mp4": "A a.",
        "sub/b.mp4": "A b.",
        "sub/c.mp4": "A c.",
        "sub/d.mp4": "A cat sleeps.",
    }


def test_captions_are_taken_out_of_text_files_beside_clips_and_of_csv(frame_captions, tmp_path, run_main):
    (tmp_path / "clips" / "sub").mkdir(parents=True)
    (tmp_path / "clips" / "sub" / "a.txt").write_text("A dog runs.\n", encoding="utf-8")
    run_main(caption_summary, *frame_captions, "--captions_from", "clips")
    assert summaries(tmp_path)["sub/a.mp4"] == "A dog runs." and summaries(tmp_path)["sub/b.mp4"] == "A b."
    (tmp_path / "given.csv").write_text('video_path,text\nsub/b.mp4,"A bird, which sings."\n')
    run_main(caption_summary, *frame_captions, "--captions_from", "given.csv")
    assert summaries(tmp_path)["sub/a.mp4"] == "A a." and summaries(tmp_path)["sub/b.mp4"] == "A bird, which sings."
    (tmp_path / "other.csv").write_text("video_path,size\nsub/b.mp4,5\n")
    with pytest.raises(
        UsageError, match=r"^--captions_from: other\.csv: its rows have none of the columns caption, text"
    ):
        run_main(caption_summary, *frame_captions, "--captions_from", "other.csv")


def test_a_list_of_clips_without_frame_captions_takes_given_ones_alone(tmp_path, run_main):
    (tmp_path / "train.jsonl").write_text('{"video_path": "a.mp4"}\n')
    (tmp_path / "given.jsonl").write_text('{"video_path": "a.mp4", "text": "A dog runs."}\n')
    flags = ["--video_metadata_path", "train.jsonl", "--captions_from", "given.jsonl"]
    run_main(caption_summary, *flags, "--summarizer", "none")
    assert summaries(tmp_path) == {"a.mp4": "A dog runs."}
