"""Which rows a report and a summary count: of scores, captions and lists those of the clips as they are now, and no file but ours."""

import base64
import gzip
import json

import numpy as np
import pytest

from utils.errors import UsageError
from utils.pipeline.ancestry import CAPTION_ANCESTORS, CLIP_COLUMNS, made_from
from utils.report.clips import SUMMARY_ANCESTORS
from utils.report.dataset import INSIDE, Dataset, describe
from utils.report.funnel import funnel, score_files
from utils.report.page import Blocks
from utils.rows import read_rows, write_rows

CLIPS = [
    {"video_path": f"{name}.mp4", "source_path": "a.mp4", "source_digest": "0", "start_seconds": i, "end_seconds": i + 4,
     "bytes": 100 + i, "duration": 4.0, "frame_size": [20, 10]}
    for i, name in enumerate("abc")
]  # fmt: skip
WEBP = b"RIFF....WEBP"


def write(folder, name: str, rows: list[dict], **settings) -> None:
    write_rows(folder / f"{name}.jsonl", rows)
    (folder / f"{name}.settings.json").write_text(json.dumps({"version": 1, **settings}))


def scores(clips: list[dict], **columns) -> list[dict]:
    """A row of each clip with the i-th value of each column."""
    return [
        {"video_path": clip["video_path"], **{column: values[i] for column, values in columns.items()},
         "made_from": made_from(clip, CLIP_COLUMNS, "0123456789abcdef 100 5")}
        for i, clip in enumerate(clips)
    ]  # fmt: skip


def stage_3(folder, clips: list[dict], **settings) -> None:
    """Lists and captions as the stages write them of these clips."""
    train = [clip | {"motion_score": 2.5} for clip in clips]
    frames = [
        {"video_path": row["video_path"], "sampled_frame_caption": ["One.", f"{row['bytes']}."], "attributes": {"motion_score": 2.5},
         "made_from": made_from(row, CAPTION_ANCESTORS, "0123456789abcdef 100 5")}
        for row in train
    ]  # fmt: skip
    summaries = [
        {"video_path": row["video_path"], "summary_caption": f"Clip {row['video_path']}.", "made_from": made_from(row, SUMMARY_ANCESTORS)}
        for row in frames
    ]  # fmt: skip
    write(folder, "clips", clips)
    write(folder, "train", train)
    write(folder, "frame_caption", frames)
    write(folder, "summary_caption", summaries, **settings)


def recut(clip: dict) -> dict:
    return clip | {"bytes": 7}


def page(folder, listed: str = "clips.jsonl") -> dict:
    """What the page shows of a dataset: by name its columns, the kept clips, and what else `describe` gives."""
    blocks = Blocks()
    data, _ = describe(
        Dataset(str(folder), f"{folder}/{listed}", f"{folder}/train", {}, frozenset()), str(folder), blocks
    )

    def block(number: int) -> bytes:
        return gzip.decompress(base64.b64decode(blocks.found[number]))

    shown = {}
    for column in data["columns"]:
        content = block(column["block"])
        if column["kind"] == "number":
            shown[column["name"]] = [None if np.isnan(value) else value for value in np.frombuffer(content, "<f8")]
        elif column["kind"] == "category":
            names = [None, *column["values"]]
            shown[column["name"]] = [names[code] for code in np.frombuffer(content, "<u2")]
        else:
            ends = np.frombuffer(content[: 4 * (data["count"] + 1)], "<u4")
            text = content[4 * (data["count"] + 1) :]
            shown[column["name"]] = [text[a:b].decode() for a, b in zip(ends, ends[1:])]
    passes = data["where_passes"]
    return data | {"shown": shown, "kept": list(block(data["kept"])), "passes": passes and list(block(passes))}


def counts(folder) -> dict[str, int]:
    return {step.name: step.count for step in funnel(str(folder))}


def test_scores_of_an_older_cut_do_not_count(tmp_path):
    old = scores(CLIPS, motion_score=[1.0, 2.0, 3.0])
    del old[2]["made_from"]  # a user's own file
    write(tmp_path, "motion_score", [*old, {"video_path": "gone.mp4", "motion_score": 9.0}])
    write_rows(tmp_path / "motion_score.errors.jsonl", [row | {"error": "VideoError"} for row in old[:1]])
    write(tmp_path, "clips", [recut(CLIPS[0]), *CLIPS[1:]])
    assert page(tmp_path)["shown"]["motion_score"] == [None, 2.0, 3.0]
    assert counts(tmp_path) == {"clips": 3, "motion_score.jsonl": 2}
    assert funnel(str(tmp_path))[-1].failures == []


def test_companions_are_no_scores(tmp_path):
    for name in ("clips", "motion_score", "motion_score.aside", "duplicates.hashes"):
        write(tmp_path, name, CLIPS)
    write(tmp_path, "x", CLIPS, file="../x.jsonl")  # names no file elsewhere
    assert score_files(str(tmp_path)) == ["motion_score.jsonl", "x.jsonl"]


def test_captions_of_the_clips_as_they_are(tmp_path):
    stage_3(tmp_path, CLIPS)
    summaries = read_rows(tmp_path / "summary_caption.jsonl")
    assert page(tmp_path)["shown"]["caption"] == ["Clip a.mp4.", "Clip b.mp4.", "Clip c.mp4."]
    write_rows(tmp_path / "summary_caption.jsonl", summaries[:1])
    assert page(tmp_path)["shown"]["caption"] == ["Clip a.mp4.", "One. 101.", "One. 102."]
    assert counts(tmp_path) == {"clips": 3, "kept": 3, "captioned": 1}


def test_after_a_recut_nothing_of_the_older_clips_is_shown(tmp_path):
    stage_3(tmp_path, CLIPS)
    write(tmp_path, "clips", [recut(CLIPS[0]), *CLIPS[1:]])
    data = page(tmp_path)
    assert data["kept"] == [0, 1, 1] and data["shown"]["caption"] == ["", "Clip b.mp4.", "Clip c.mp4."]
    assert counts(tmp_path) == {"clips": 3, "kept": 2, "captioned": 2}
    # Stage 2 has run since, stage 3 has not.
    write(
        tmp_path,
        "train",
        [recut(CLIPS[0]) | {"motion_score": 2.5}, *[clip | {"motion_score": 2.5} for clip in CLIPS[1:]]],
    )
    data = page(tmp_path)
    assert data["kept"] == [1, 1, 1] and data["shown"]["caption"] == ["", "Clip b.mp4.", "Clip c.mp4."]
    assert counts(tmp_path) == {"clips": 3, "kept": 3, "captioned": 2}


@pytest.mark.parametrize("link", ["train", "frame_caption", "summary_caption"])
def test_each_link_of_the_chain_is_looked_at(tmp_path, link):
    stage_3(tmp_path, CLIPS)
    rows = read_rows(tmp_path / f"{link}.jsonl")
    changes = {
        "train": {"motion_score": 9.0},  # measured anew: captions put it into words
        "frame_caption": {"sampled_frame_caption": ["Another."]},
        "summary_caption": {"made_from": "00000001"},
    }
    write(tmp_path, link, [rows[0] | changes[link], *rows[1:]])
    first = {"train": "", "frame_caption": "Another.", "summary_caption": "One. 100."}[link]
    assert page(tmp_path)["shown"]["caption"] == [first, "Clip b.mp4.", "Clip c.mp4."]


def test_captions_that_say_not_what_they_are_made_from(tmp_path):
    """Of a summary of another column, or without `made_from`, the row of train.jsonl decides."""
    stage_3(tmp_path, CLIPS, caption_column="my_caption")
    write_rows(tmp_path / "frame_caption.jsonl", [])
    assert page(tmp_path)["shown"]["caption"] == ["Clip a.mp4.", "Clip b.mp4.", "Clip c.mp4."]
    write(tmp_path, "summary_caption", [{"video_path": "b.mp4", "summary_caption": "By hand."}])
    assert page(tmp_path)["shown"]["caption"] == ["", "By hand.", ""]
    write(tmp_path, "clips", [CLIPS[0], recut(CLIPS[1]), CLIPS[2]])
    assert "caption" not in page(tmp_path)["shown"] and counts(tmp_path)["captioned"] == 0


def test_captions_without_filters(tmp_path):
    """Clips are captioned from the list itself where there is no train.jsonl; without a list there is nothing to hold them against."""
    stage_3(tmp_path, CLIPS)
    for name in ("train.jsonl", "train.settings.json"):
        (tmp_path / name).unlink()
    assert "caption" not in page(tmp_path)["shown"]  # made from rows with a motion score
    write(tmp_path, "clips", [clip | {"motion_score": 2.5} for clip in CLIPS])
    assert page(tmp_path)["shown"]["caption"] == ["Clip a.mp4.", "Clip b.mp4.", "Clip c.mp4."]
    (tmp_path / "clips.jsonl").unlink()
    assert counts(tmp_path) == {"captioned": 3}


@pytest.mark.parametrize("count", [1, INSIDE + 1])
def test_no_file_but_a_thumbnail_is_read_or_linked(tmp_path, count):
    (tmp_path / "secret").write_bytes(b"secret")
    names = ["../secret", f"{tmp_path}/secret", "ab/../../secret", "ab/" + "0" * 20 + ".webp\n", "", None, 5, ["ab"]]
    good = "ab/ab" + "0" * 18 + ".webp"
    clips = [{"video_path": f"{i}.mp4", "thumbnail": "../secret"} for i in range(len(names) + count)]
    write(tmp_path, "clips", clips)
    write(tmp_path, "motion_score", [{"video_path": "0.mp4", "thumbnail": "../secret"}])
    assert "thumbnail" not in page(tmp_path)["shown"]
    (tmp_path / "report_files" / "ab").mkdir(parents=True)
    (tmp_path / "report_files" / good).write_bytes(WEBP)
    made = [{"video_path": clip["video_path"], "thumbnail": name} for clip, name in zip(clips, [*names, good])]
    write(tmp_path / "report_files", "thumbnails", made)
    inside = f"data:image/webp;base64,{base64.b64encode(WEBP).decode()}"
    expected = [""] * len(names) + [inside if count == 1 else f"report_files/{good}"] + [""] * (count - 1)
    assert page(tmp_path)["shown"]["thumbnail"] == expected


def test_a_malformed_row_is_a_sentence(tmp_path):
    write(tmp_path, "clips", CLIPS)
    write(
        tmp_path,
        "motion_score",
        [*scores(CLIPS, motion_score=[1, 2, 3])[:2], {"video_path": "c.mp4", "motion_score": "high"}],
    )
    for read in (page, counts):
        with pytest.raises(UsageError, match=r"motion_score\.jsonl: line 3: motion_score is 'high', not a number"):
            read(tmp_path)
    write(tmp_path, "clips", [*CLIPS, {"video_path": "d.mp4", "source_path": ["a"]}])
    for read in (page, counts):
        with pytest.raises(UsageError, match=r"clips\.jsonl: line 4: source_path is \['a'\], not a path"):
            read(tmp_path)


def test_kinds_of_columns(tmp_path):
    more = {"flag": [True, False, None], "word": ["x", "", "y"], "mixed": [1, "x", 2], "nested": [[[1]], 1, 2], "none": [None] * 3,
            "huge": [10**400, 1, 2], "means": [[1, 2], [3.5], 4], "sample_frame_idx": [[1], [2], [3]], "whole": [1, None, float("nan")]}  # fmt: skip
    write(tmp_path, "mine", scores(CLIPS, **more)[::-1])
    write(tmp_path, "clips", [*CLIPS, {"video_path": "./a.mp4", "duration": 9.0}])
    data = page(tmp_path)
    hidden = ("video_path", "source_path", "start_seconds", "end_seconds", "bytes")
    assert {name: values for name, values in data["shown"].items() if name not in hidden} == {
        "duration": [4.0] * 3, "pixels": [200.0] * 3, "short_side": [10.0] * 3, "flag": ["true", "false", None], "word": ["x", None, "y"],
        "means": [1.5, 3.5, 4.0], "whole": [1.0, None, None],
    }  # fmt: skip
    assert data["count"] == 3 and data["shown"]["video_path"] == ["a.mp4", "b.mp4", "c.mp4"]
    assert {column["name"]: column.get("whole") for column in data["columns"]} | {"whole": True, "means": False} == {
        column["name"]: column.get("whole") for column in data["columns"]
    }
    many = [{"video_path": f"{i}.mp4", "word": str(i)} for i in range(101)]
    write(tmp_path, "clips", many)
    assert "word" not in page(tmp_path)["shown"]
    write(tmp_path, "clips", many[1:])
    assert len(page(tmp_path)["shown"]["word"]) == 100


def test_the_condition_in_force(tmp_path):
    """Over the columns of all files; a clip's own value wins, and an older cut's is unknown. Also where a score is older than the list."""
    write(tmp_path, "clips", [recut(CLIPS[0]), CLIPS[1], CLIPS[2] | {"frame_size": [30, 10]}])
    write(
        tmp_path,
        "mine",
        scores(CLIPS, Score=[5, 6, float("nan")], duration=[0, 0, 0]),
        inputs={"clips.jsonl": "0" * 16},
    )
    for where, expected in {
        "score > 1 and duration = 4": [0, 1, 0],
        "score is null": [1, 0, 1],
        "pixels > 200 or video_path = 'a.mp4'": [1, 0, 1],
    }.items():
        write(tmp_path, "train", [], where=where)
        assert page(tmp_path)["passes"] == expected, where
