"""Frames that the decoder conceals are found, with those predicted from them, and reach no clip."""

import json
import shutil
from pathlib import Path

import av
import pytest
from conftest import read_indices, write_numbered
from test_video_splitting import x264

from utils.errors import VideoError
from utils.rows import read_rows
from utils.video.damage import Damage
from utils.video.opening import decode, open_video

FLAGS = ("--video_metadata_path", "scenes.jsonl", "--video_folder", "in", "--output_folder", "out", "--min_seconds", 1)


def damage_packets(path: Path, *frames: int) -> None:
    """Overwrite bytes in the middle of the packets of these frames."""
    with av.open(str(path)) as container:
        packets = {packet.pts: (packet.pos, packet.size) for packet in container.demux(video=0) if packet.size}
        step = sorted(packets)[1]
    content = bytearray(path.read_bytes())
    for frame in frames:
        start, size = packets[frame * step]
        content[start + size // 2 : start + size // 2 + 12] = bytes(range(7, 19))
    path.write_bytes(content)


def seen_by_decoder(frames: str, flagged: list[int]) -> Damage:
    """What is noted of frames, a letter each: K, a keyframe, P, or B; `flagged`: those that the decoder reports."""
    damage = Damage()
    damage.key.extend(letter == "K" for letter in frames)
    damage.between.extend(letter == "B" for letter in frames)
    damage.flagged.extend(i in flagged for i in range(len(frames)))
    return damage


@pytest.mark.parametrize(
    ("frames", "flagged", "spans"),
    [
        ("KPPPKPPPKPPP", [], []),
        ("KPPPKPPPKPPP", [5], [(5, 8)]),  # until the next keyframe
        ("KPPPKPPPKPPP", [4], [(4, 8)]),
        ("KPPPKPPPKPPP", [9], [(9, 12)]),
        ("KPPPKPPPKPPP", [1, 9], [(1, 4), (9, 12)]),
        ("KPPPKPPPKPPP", [3, 4], [(3, 8)]),
        ("KBBPBBPBBKPPPPPP", [3], [(1, 9)]),  # B frames before it are predicted from it
        ("KBBPBBPBBKPPPPPP", [4], [(4, 6)]),  # of a B frame those beside it at most
        ("KBBPBBPBBKPPPPPP", [5], [(4, 6)]),
        ("KBBPBBPBBKPPPPPP", [5, 6], [(4, 9)]),
    ],
)
def test_damage_lasts_until_a_frame_that_needs_none_before_it(frames, flagged, spans):
    assert seen_by_decoder(frames + "K" + "P" * 12, flagged).spans("a.mp4") == spans


def test_what_is_sound_is_kept_unless_most_is_reported():
    """Two reported frames that no keyframe follows for long cost what may be predicted from them, not the video."""
    assert seen_by_decoder("KPPKPPPP", [3]).spans("a.mp4") == [(3, 8)]
    assert seen_by_decoder("K" + "P" * 200, [3, 4]).spans("a.mp4") == [(3, 201)]
    assert seen_by_decoder("KPPPPPPK", [1, 2, 3, 4]).spans("a.mp4") == [(1, 7)]
    with pytest.raises(VideoError, match=r"'a\.mp4' is damaged: 6 of its 8 frames"):
        seen_by_decoder("KPPPPPPK", [1, 2, 3, 4, 5]).spans("a.mp4")
    with pytest.raises(VideoError, match=r"'a\.mp4' is damaged: 8 of its 8 frames"):
        seen_by_decoder("KPPKPPPP", [0, 3]).spans("a.mp4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """whole.mp4; part.mp4, whose frames 60 to 71 are damaged; all.mp4, damaged from each keyframe on."""
    folder = tmp_path_factory.mktemp("damage")
    (folder / "in").mkdir()
    path = write_numbered(
        folder / "in" / "whole.mp4", 144, size=(384, 216), **x264("keyint=24:min-keyint=24:bframes=0")
    )
    for name in ("part.mp4", "all.mp4"):
        shutil.copy(path, folder / "in" / name)
    damage_packets(folder / "in" / "part.mp4", 60)
    damage_packets(folder / "in" / "all.mp4", *range(0, 144, 24))
    return folder


def test_damaged_frames_reach_no_clip(folder, run_script, tmp_path):
    shutil.copytree(folder / "in", tmp_path / "in")
    said = run_script("cutscene_detect.py", "--video_folder", "in", "--saved_path", "scenes.jsonl").stdout
    assert "3 rows in = 2 cut into shots + 1 errors" in said
    rows = {row["video_path"]: row for row in read_rows(tmp_path / "scenes.jsonl")}
    assert rows["part.mp4"]["damaged"] == [["00:00:02.500", "00:00:03.000"]]
    assert rows["part.mp4"]["damaged_share"] == round(12 / 144, 4)
    assert not {"damaged", "damaged_share"} & set(rows["whole.mp4"])
    (error,) = read_rows(tmp_path / "scenes.errors.jsonl")
    assert error["video_path"] == "all.mp4" and "is damaged: 144 of its 144 frames" in error["message"]

    one_shot = {"timecode_list": [[0, 6]], "transitions": []}
    (tmp_path / "scenes.jsonl").write_text("".join(json.dumps(row | one_shot) + "\n" for row in rows.values()))
    run_script("video_splitting.py", *FLAGS, "--transition_margin", 0, "--saved_path", "clips.jsonl")
    seen = {path.name: read_indices(path) for path in (tmp_path / "out").iterdir()}
    assert seen == {
        "part-Scene-001.mp4": list(range(60)),
        "part-Scene-002.mp4": list(range(72, 144)),
        "whole-Scene-001.mp4": list(range(144)),
    }
    again = run_script("video_splitting.py", *FLAGS, "--transition_margin", 0, "--saved_path", "clips.jsonl").stdout
    assert "2 of 2 done before, 0 due" in again


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx265"), ("a.mkv", "mjpeg"), ("a.avi", "mjpeg")])
def test_decoders_that_only_log_damage_are_listened_to(name, codec, tmp_path):
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_numbered(tmp_path / name, 48, codec=codec, pix_fmt=pixels, size=(384, 216))
    with open_video(str(path)) as (container, stream):
        whole = Damage()
        times = [frame.pts for frame in decode(container, stream, whole)]
        assert not whole.spans(str(path))
    with open_video(str(path)) as (container, stream):
        assert [frame.pts for frame in decode(container, stream)] == times
    if codec == "mjpeg":
        content = bytearray(path.read_bytes())
        starts = [i for i in range(len(content)) if content[i : i + 3] == b"\xff\xd8\xff"]
        middle = (starts[20] + starts[21]) // 2
        content[middle : middle + 200] = bytes([0xFF, 0x00] * 100)
        path.write_bytes(content)
        with open_video(str(path)) as (container, stream):
            damage = Damage()
            assert [frame.pts for frame in decode(container, stream, damage)] == times
        assert damage.spans(str(path)) == [(20, 21)]
