"""Seams: where packets can be parted, which spans they give a shot, and clips that are copied from an IDR to a seam."""

import random
from fractions import Fraction

import numpy as np
import pytest
from conftest import numbered_frame, read_indices, read_video, write_numbered, write_video
from test_video_splitting import X264, spans_to_row

from utils.cutting.clip_track import Encoding
from utils.cutting.clip_writer import index_source
from utils.cutting.seams import MOST_LOST, find_seams, split_at_seams
from utils.cutting.spans import ClipLimits, split_shot
from utils.cutting.split import split_video

SLOW = Fraction(12)  # fps, so that clips of seconds are few frames


def seams_of(text: str) -> tuple[list[int], list[int]]:
    """Of packets in decoding order: "0k 4 2 1 3" has a keyframe that is shown first."""
    words = text.split()
    pts = np.array([int(word.rstrip("k")) for word in words])
    entries, seams = find_seams(pts, np.array([word.endswith("k") for word in words]))
    return entries.tolist(), seams.tolist()


def test_seams_are_where_all_before_is_shown_before_all_after():
    assert seams_of("0k 1 2 3k 4") == ([0, 3], [0, 1, 2, 3, 4, 5])
    assert seams_of("0k 4 2 1 3 8 6 5 7") == ([0], [0, 1, 5, 9])
    assert seams_of("0k 3 1 2 6k 4 5 7") == ([0], [0, 1, 4, 7, 8])  # 4 and 5 lead the keyframe 6: it is no entry
    assert seams_of("0k 3 1 2 4k 7 5 6") == ([0, 4], [0, 1, 4, 5, 8])
    assert seams_of("100k 300 200 410k 400") == ([0], [0, 1, 3, 5])  # frames by number, whatever their times
    assert seams_of("") == ([], [])


# Spans


def split(count: int, entries: list[int], mini_gop: int = 4, fps: int = 24, lengths=(3, 10)):
    """Spans of a shot whose seams are `mini_gop` frames apart from each entry on, in frames."""
    borders = np.arange(count + 1) / fps
    entries = np.array(entries, np.int64)
    starts = [0, *entries.tolist(), count]
    seams = np.unique([s for a, b in zip(starts, starts[1:]) for s in [*range(a + 1, b, mini_gop), a, b]])
    even = split_shot(borders, *lengths, "even")
    return split_at_seams(borders, entries, seams, *lengths, even)


@pytest.mark.parametrize(
    "count, entries, spans",
    [
        (120, [0], [(0, 120)]),
        (480, [0, 200, 340], [(0, 200), (200, 340), (340, 480)]),
        (480, [0, 120, 240, 360], [(0, 240), (240, 480)]),  # the fewest clips, alike in length
        (470, [0, 250], [(0, 237), (250, 470)]),  # a GOP of 10.4 s: its end is lost, and nothing encoded
        (240, [5], [(5, 240)]),  # few frames before the entry are lost
        (240, [40], [(0, 240)]),  # many are encoded
        (243, [0], [(0, 237)]),  # up to a mini-GOP's end at most 10 s on
        (73, [4], [(0, 73)]),  # the rest would be shorter than 3 s
    ],
)
def test_a_shot_is_split_where_little_is_lost_and_little_encoded(count, entries, spans):
    assert split(count, entries) == spans


def test_a_shot_without_entries_is_split_evenly():
    assert split(480 - 6, []) == [(0, 237), (237, 474)]


def test_lengths_keep_their_limits_and_little_is_lost_at_any_rate():
    dice = random.Random(1)
    for _ in range(200):
        fps = dice.choice([12, 24, 25, 30, 60])
        count = dice.randrange(round(3 * fps) + 1, round(100 * fps))
        entries = sorted(dice.sample(range(count), dice.randrange(0, min(count, 40))))
        lengths = dice.choice([(3, 10), (2, 5), (3, 4), (3, 3.5)])
        spans = split(count, entries, dice.choice([1, 4, 16]), fps, lengths)
        kept = sum(stop - first for first, stop in split_shot(np.arange(count + 1) / fps, *lengths, "even"))
        seconds = [(stop - first) / fps for first, stop in spans]
        assert min(seconds) > lengths[0] - 2e-3 and max(seconds) < lengths[1] + 2e-3
        assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:]))
        assert sum(stop - first for first, stop in spans) >= (1 - MOST_LOST) * kept


def test_a_shot_of_two_hours_in_which_every_frame_is_an_entry_is_split_at_once():
    count = 2 * 3600 * 24
    spans = split(count, list(range(count)))
    assert len(spans) == 720 and sum(stop - first for first, stop in spans) == count


# Clips


def x264(params: str, **more) -> dict:
    return {"fps": SLOW, "options": {"x264-params": "scenecut=0:b-adapt=0:" + params}, **more}


VARIABLE = [i * 80 + (i % 3) * 9 + (700 if i > 100 else 0) for i in range(240)]  # milliseconds
SOURCES = {  # of 240 frames, with the least share of them that is copied: the second shot begins amid a GOP
    "default.mp4": (x264("keyint=100:bframes=3"), 0.8),
    "default.mkv": (x264("keyint=100:bframes=3"), 0.8),
    "default.ts": (x264("keyint=100:bframes=3"), 0.8),
    "no_b_frames.mp4": (x264("keyint=100:bframes=0"), 0.8),
    "pyramid_of_16.mp4": (x264("keyint=100:bframes=16:b-pyramid=normal:ref=8"), 0.75),
    "intra_only.mp4": (x264("keyint=1"), 1),
    "slices.mp4": (x264("keyint=100:bframes=3:slices=4"), 0.8),
    "slices.ts": (x264("keyint=100:bframes=3:slices=4"), 0.8),
    "open_gops.mp4": (x264("keyint=24:bframes=3:open-gop=1"), 0.4),  # one IDR: the first clip alone
    "open_gops.ts": (x264("keyint=24:bframes=3:open-gop=1"), 0.4),
    "one_idr.mp4": (x264("keyint=infinite:bframes=3"), 0.4),
    "variable.mp4": (x264("keyint=100:bframes=3", pts=VARIABLE, time_base=Fraction(1, 1000)), 0.8),
    "variable.mkv": (x264("keyint=100:bframes=3", pts=VARIABLE, time_base=Fraction(1, 1000)), 0.8),
    "ten_bits.mp4": (x264("keyint=100:bframes=3", pix_fmt="yuv420p10le"), 0),
}


def cut_at_seams(path, out, spans, times=None, encoder: str = "smart", lengths=(3, 10)) -> list[dict]:
    row = spans_to_row(path.name, times or read_video(path)[0], spans)
    encoding = Encoding(encoder=encoder, preset="ultrafast")
    return split_video(row, str(path.parent), str(out), ClipLimits(0.1, *lengths, "keyframe"), encoding)


TWINS = ("default.mkv", "slices.ts", "open_gops.ts", "variable.mkv")  # of another of these, in another container


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.release if name in TWINS else ()) for name in SOURCES]
)
def test_clips_hold_exactly_their_frames_and_copied_ones_bit_for_bit(name, tmp_path):
    options, share = SOURCES[name]
    path = write_numbered(tmp_path / name, 240, **options)
    times, pictures = read_video(path)
    rows = cut_at_seams(path, tmp_path / "out", [(0, 160), (160, 240)], times)
    seconds = [float(t) for t in times]
    kept = equal = 0
    for row in rows:
        first = int(np.argmin(np.abs(np.array(seconds) - row["start_seconds"])))
        stop = first + row["num_frames"]
        end = seconds[stop] if stop < 240 else 2 * seconds[-1] - seconds[-2]
        assert [row["start_seconds"], row["end_seconds"]] == pytest.approx([seconds[first], end], abs=1e-6)
        clip_times, clip = read_video(tmp_path / "out" / row["video_path"])
        assert read_indices(tmp_path / "out" / row["video_path"]) == list(range(first, stop))
        assert clip_times == pytest.approx([t - times[first] for t in times[first:stop]], abs=1e-4)
        equal += sum(np.array_equal(a, b) for a, b in zip(clip, pictures[first:stop], strict=True))
        kept += stop - first
    copied = sum(row["copied_frames"] for row in rows)
    assert kept >= 0.95 * 240 and copied >= share * kept and equal >= copied
    assert (copied > 0) == (share > 0)


def test_where_nothing_can_be_copied_long_shots_are_split_evenly(tmp_path):
    path = write_numbered(tmp_path / "a.mp4", 240, **x264("keyint=100:bframes=3"))
    rows = cut_at_seams(path, tmp_path / "out", [(0, 150), (150, 240)], encoder="libx264")
    assert [row["num_frames"] for row in rows] == [75, 75, 90]


def test_interlaced_sources_are_encoded(tmp_path):
    def interlaced(stream):
        stream.codec_context.flags |= 0x20040000  # ildct, ilme

    frames = (numbered_frame(i) for i in range(60))
    path = write_video(tmp_path / "a.mp4", frames, SLOW, options={"x264-params": "tff=1:keyint=20"}, change=interlaced)
    (row,) = cut_at_seams(path, tmp_path / "out", [(0, 60)])
    assert row["copied_frames"] == 0 and read_indices(tmp_path / "out" / row["video_path"]) == list(range(60))


def test_a_source_whose_parameter_sets_change_is_not_copied(tmp_path):
    """A transport stream that another encoder goes on with, under the same numbers: either's GOPs need its own sets."""
    parts = [
        write_numbered(tmp_path / f"{k}.ts", 48, options={"x264-params": X264 + params})
        for k, params in enumerate(["keyint=12", "keyint=12:cabac=0:ref=1"])
    ]
    path = tmp_path / "joined.h264.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    index = index_source(str(path))
    assert index is None or not index.can_copy
