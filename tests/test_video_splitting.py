"""Clips hold their span: every frame of it and no other, its audio in step, under names that say where it came from."""

import json
import random
import re
import shutil
import subprocess
from fractions import Fraction

import av
import cv2
import decord
import imageio_ffmpeg
import numpy as np
import pytest
from conftest import numbered_frame, read_index, read_indices, read_samples, read_video, write_numbered, write_video
from skimage import data

from utils.cutting.clip_track import Encoding
from utils.cutting.spans import ClipLimits, clean_spans, shot_borders, split_shot, timecode
from utils.cutting.split import split_video
from utils.errors import UsageError, VideoError
from utils.video.opening import decode, open_video
from utils.video.timing import packet_times
from video_splitting import main

# Sources of 120 frames, as arguments of `write_numbered`; x264 gets GOPs and B-frames dictated, so that each case is
# what it says.
X264 = "scenecut=0:b-adapt=0:bframes=3:"
NTSC = Fraction(24000, 1001)
VARIABLE = [i * 40 + (i % 3) * 9 + (700 if i > 60 else 0) for i in range(120)]  # milliseconds


def x264(params: str, **more) -> dict:
    return {"options": {"x264-params": X264 + params}, **more}


SOURCES = {
    "closed_gops.mp4": x264("keyint=12"),
    "open_gops.mp4": x264("keyint=12:open-gop=1"),
    "one_keyframe.mp4": x264("keyint=infinite"),
    "odd_idrs.mp4": {
        "options": {"x264-params": X264 + "keyint=infinite", "forced-idr": "1"},
        "keyframes": [0, 1, 7, 31, 32, 59, 97, 119],
    },
    "pyramid_of_16.mp4": {
        "options": {"x264-params": "scenecut=0:b-adapt=0:bframes=16:b-pyramid=normal:ref=8:keyint=20"}
    },
    "intra_refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}},
    "variable.mp4": x264("keyint=15", pts=VARIABLE, time_base=Fraction(1, 1000)),
    "first_pts_5_s.mkv": x264("keyint=12", pts=[5000 + t for t in VARIABLE], time_base=Fraction(1, 1000)),
    "first_pts_9_h.ts": x264("keyint=12", pts=[9 * 3600 * 24 + i for i in range(120)], time_base=Fraction(1, 24)),
    "ntsc.mp4": x264("keyint=12", fps=NTSC),
    "ntsc.mkv": x264("keyint=12:open-gop=1", fps=NTSC),
    "60_fps.mp4": x264("keyint=30", fps=60),
    "fragmented.mp4": x264("keyint=12", container_options={"movflags": "frag_keyframe+empty_moov"}),
    "h264.flv": x264("keyint=12"),
    "h264.avi": x264("keyint=12"),
    "full_range.mp4": x264("keyint=12", pix_fmt="yuvj420p"),
    "ten_bits.mp4": x264("keyint=12", pix_fmt="yuv420p10le"),
    "odd_size.mp4": x264("keyint=12", pix_fmt="yuv444p", size=(193, 109)),
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "options": {"bf": "2", "b": "3M"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2", "b": "5M", "g": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "b": "2M"}},
    "hevc_10_bits.mkv": {
        "codec": "libx265",
        "pix_fmt": "yuv420p10le",
        "options": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:keyint=12:bframes=3"},
    },
    "alpha_qtrle.mov": {"codec": "qtrle", "pix_fmt": "argb"},
    "alpha_png.mov": {"codec": "png", "pix_fmt": "rgba"},
}
COPIED = {  # of these sources, smart copies GOPs, or the head of one
    "closed_gops.mp4", "open_gops.mp4", "one_keyframe.mp4", "intra_refresh.mp4", "ntsc.mkv", "odd_idrs.mp4", "pyramid_of_16.mp4", "variable.mp4", "first_pts_5_s.mkv", "first_pts_9_h.ts",
    "ntsc.mp4", "60_fps.mp4", "fragmented.mp4", "h264.flv",
}  # fmt: skip
SHOTS = [(0, 33), (33, 61), (61, 97), (97, 120)]


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """`sources(name)`: the path of one of `SOURCES`, made once."""
    folder = tmp_path_factory.mktemp("sources")

    def make(name: str):
        path = folder / name
        if not path.exists():
            write_numbered(path, 120, **SOURCES[name])
        return path

    return make


def spans_to_row(name: str, times: list[Fraction], spans) -> dict:
    """The row that cutscene_detect would write of shots with these frames [first, stop)."""
    borders = [float(t) for t in [*times, 2 * times[-1] - times[-2]]]
    codes = [[timecode(borders[first]), timecode(borders[stop])] for first, stop in spans]
    return {"video_path": name, "timecode_list": codes, "num_frames": len(times), "clip_prefix": "clip-"}


def cut(path, spans, out, encoder="smart", times=None, **choices) -> list[dict]:
    """The rows of the clips of `spans`, written to the folder `out`."""
    times = times or read_video(path)[0]
    encoding = Encoding(encoder=encoder, preset="ultrafast", audio=choices.pop("audio", True))
    limits = ClipLimits(**{"min_seconds": 0.1, "max_seconds": 60, "long_shots": "even", **choices})
    return split_video(spans_to_row(path.name, times, spans), str(path.parent), str(out), limits, encoding)


# Frames


# "smart" encodes what it cannot copy just as libx264 does; of what it copies, the gate encodes one of each way to be read.
ENCODED = {"closed_gops.mp4", "open_gops.mp4", "variable.mp4", "first_pts_9_h.ts"}
CASES = [
    pytest.param(name, encoder, marks=pytest.mark.release if encoder == "libx264" and name not in ENCODED else ())
    for name in SOURCES
    for encoder in ("smart", "libx264")
]


@pytest.mark.parametrize("name, encoder", CASES)
def test_a_clip_holds_exactly_the_frames_of_its_shot(name, encoder, sources, tmp_path):
    path = sources(name)
    times, frames = read_video(path)
    if name == "h264.avi":  # AVI holds no times of presentation, and PyAV's are FFmpeg's guess
        times = [Fraction(i, 24) for i in range(len(frames))]
    rows = cut(path, SHOTS, tmp_path, encoder, times)
    assert [row["num_frames"] for row in rows] == [stop - first for first, stop in SHOTS]
    for row, (first, stop) in zip(rows, SHOTS, strict=True):
        clip_times, clip_frames = read_video(tmp_path / row["video_path"])
        assert [read_index(p) for p in clip_frames] == list(range(first, stop))
        assert clip_times == pytest.approx([t - times[first] for t in times[first:stop]], abs=1e-4)
        assert row["start_seconds"] == pytest.approx(float(times[first]), abs=1e-6)
        height, width = (side // 2 * 2 for side in frames[0].shape[:2])
        worst = max(
            np.abs(clip.astype(int) - source[:height, :width]).mean()
            for clip, source in zip(clip_frames, frames[first:stop], strict=True)
        )
        assert worst < 6, "a frame is not that of the source"
    assert (sum(row["copied_frames"] for row in rows) > 0) == (encoder == "smart" and name in COPIED)
    assert not list(tmp_path.glob(".*"))  # no temporary file stays


@pytest.mark.parametrize("reader", ["pyav", "opencv", "decord"])
@pytest.mark.parametrize("name", ["closed_gops.mp4", "pyramid_of_16.mp4", "first_pts_9_h.ts"])
def test_copied_frames_are_bit_equal_and_every_loader_reads_copied_and_encoded_parts(name, reader, sources, tmp_path):
    path = sources(name)
    _, frames = read_video(path)
    (row,) = cut(path, [(17, 103)], tmp_path)
    assert 0 < row["copied_frames"] < row["num_frames"]
    read = {
        "pyav": lambda path: read_video(path)[1],
        "opencv": read_with_opencv,
        "decord": lambda path: decord.VideoReader(str(path))[:].asnumpy(),
    }[reader]
    clip = read(tmp_path / row["video_path"])
    assert [read_index(frame) for frame in clip] == list(range(17, 103))
    if reader == "pyav":
        equal = [np.array_equal(a, b) for a, b in zip(clip, frames[17:103], strict=True)]
        assert sum(equal) >= row["copied_frames"]
        assert not equal[0] and not equal[-1]  # both edges lie inside a GOP


def read_with_opencv(path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (got := capture.read())[0]:
        frames.append(got[1])
    return frames


def test_a_whole_source_in_one_clip_is_copied_to_the_last_frame(sources, tmp_path):
    for name in ("one_keyframe.mp4", "closed_gops.mp4"):
        (row,) = cut(sources(name), [(0, 120)], tmp_path / name)
        assert row["copied_frames"] == row["num_frames"] == 120
        assert read_indices(tmp_path / name / row["video_path"]) == list(range(120))


def test_parameter_sets_that_change_midway(tmp_path):
    """Two encoders' streams joined in one transport stream; both call their sets number 0."""
    path = tmp_path / "joined.ts"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=24, options={"x264-params": X264 + "keyint=12", "threads": "1"})
        video.width, video.height, video.pix_fmt = 192, 108, "yuv420p"
        second = av.CodecContext.create("libx264", "w")
        second.width, second.height, second.pix_fmt, second.framerate = 192, 108, "yuv420p", Fraction(24)
        second.time_base = Fraction(1, 24)
        second.options = {"x264-params": "bframes=0:ref=1:cabac=0:keyint=12", "profile": "baseline", "threads": "1"}
        for i in range(120):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i), "gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 24)
            packets = (video if i < 60 else second).encode(frame) + (video.encode(None) if i == 59 else [])
            for packet in packets + (second.encode(None) if i == 119 else []):
                packet.stream = video
                out.mux(packet)
    for row, (first, stop) in zip(cut(path, SHOTS, tmp_path / "clips"), SHOTS, strict=True):
        clip = tmp_path / "clips" / row["video_path"]
        assert read_indices(clip) == [read_index(p) for p in read_with_opencv(clip)] == list(range(first, stop))


def test_a_clip_that_is_cut_again(sources, tmp_path):
    """Its encoded edges brought parameter sets of a number of their own, which the new edges must not take over."""
    (row,) = cut(sources("closed_gops.mp4"), [(5, 115)], tmp_path)
    again = tmp_path / row["video_path"]
    encoding = Encoding(preset="slow", crf=30)
    row = spans_to_row(again.name, read_video(again)[0], [(0, 50), (50, 110)])
    limits = ClipLimits(min_seconds=0.1, max_seconds=60, long_shots="even")
    rows = split_video(row, str(tmp_path), str(tmp_path / "out"), limits, encoding)
    for row, (first, stop) in zip(rows, [(5, 55), (55, 115)], strict=True):
        assert read_indices(tmp_path / "out" / row["video_path"]) == list(range(first, stop))


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_a_source_whose_parameter_sets_have_the_number_of_the_edges(name, tmp_path):
    path = write_numbered(tmp_path / name, 120, **x264("keyint=12:cabac=0:sps-id=31"))
    for row, (first, stop) in zip(cut(path, SHOTS, tmp_path / "out"), SHOTS, strict=True):
        assert read_indices(tmp_path / "out" / row["video_path"]) == list(range(first, stop))


@pytest.mark.parametrize("encoder", ["smart", "libx264"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_applied(degrees, encoder, sources, tmp_path):
    """Frames on their side with a display matrix that sets them upright."""
    plain, rotated = tmp_path / "plain.mp4", tmp_path / "rotated.mp4"
    write_video(plain, (np.rot90(numbered_frame(i), -degrees // 90) for i in range(60)))
    ffmpeg(["-display_rotation", str(degrees), "-i", plain, "-c", "copy", rotated])
    (row,) = cut(rotated, [(11, 47)], tmp_path / "out", encoder)
    assert row["frame_size"] == [192, 108]
    assert read_indices(tmp_path / "out" / row["video_path"]) == list(range(11, 47))


def ffmpeg(arguments: list) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *map(str, arguments)], check=True)


def test_pixels_that_are_not_square_become_square(tmp_path):
    def anamorphic(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    path = write_numbered(tmp_path / "wide.mp4", 60, size=(144, 108), change=anamorphic)
    (row,) = cut(path, [(11, 47)], tmp_path / "out")
    assert row["frame_size"] == [192, 108]
    _, frames = read_video(tmp_path / "out" / row["video_path"])
    assert frames[0].shape == (108, 192, 3)
    assert [read_index(frame) for frame in frames] == list(range(11, 47))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_interlaced_sources_become_progressive(codec, tmp_path):
    """Fields are bright and dark in turn: what is left of the comb tells whether they were brought together."""

    def interlaced(stream):
        stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me

    frames = [
        numbered_frame(i) // 2 + np.array([0, 60], np.uint8).repeat(1)[np.arange(108) % 2][:, None] for i in range(60)
    ]
    path = write_video(
        tmp_path / "comb.mkv", frames, codec=codec, options={"b": "8M", "x264-params": "tff=1"}, change=interlaced
    )
    (row,) = cut(path, [(11, 47)], tmp_path / "out")
    _, before = read_video(path)
    _, after = read_video(tmp_path / "out" / row["video_path"])
    assert len(after) == 36
    assert all(comb(new) < comb(old) / 3 for new, old in zip(after, before[11:47], strict=True))


def comb(frame: np.ndarray) -> float:
    """How much neighbouring lines differ beyond lines two apart."""
    grey = frame.mean(2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


# Audio


RATE = 48000
PITCHES = [330, 550, 770, 990]  # Hz, one a shot


def stepped_tone(rate: int, seconds: float = 5, octave: float = 1) -> np.ndarray:
    """A tone whose pitch changes with each of `SHOTS` at 24 fps, float32 (samples,), `octave` times PITCHES."""
    ends = [round(stop / 24 * rate) for _, stop in SHOTS]
    pitch = (
        octave * np.array(PITCHES)[np.searchsorted(ends, np.arange(round(seconds * rate)), side="right").clip(max=3)]
    )
    return (0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / rate)).astype(np.float32)


def pitch_of(samples: np.ndarray) -> float:
    """The strongest frequency, in Hz, to within that of a period."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 17))
    return float(spectrum.argmax() * RATE / (1 << 17))


def lag(samples: np.ndarray, expected: np.ndarray, most: float = 0.2) -> float:
    """Seconds that `samples` come late, of at most `most`."""
    size = 1 << 18  # above twice the longest audio here
    fit = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(expected, size)), size)
    shift = np.arange(-round(most * RATE), round(most * RATE))
    return float(shift[fit[shift].argmax()]) / RATE


@pytest.mark.parametrize(
    "name, rate, layout, codec",
    [
        ("aac.mp4", 48000, "stereo", "aac"),
        ("mono_22050.mov", 22050, "mono", "pcm_s16le"),
        ("surround.ts", 48000, "5.1", "ac3"),
        ("high_rate.mkv", 96000, "stereo", "flac"),
        ("cd.mkv", 44100, "stereo", "aac"),
        ("phone.mkv", 8000, "mono", "aac"),
    ],
)
def test_audio_stays_in_step(name, rate, layout, codec, tmp_path):
    path = write_numbered(
        tmp_path / name,
        120,
        sound=stepped_tone(rate),
        sound_rate=rate,
        layout=layout,
        sound_codec=codec,
        **x264("keyint=12"),
    )
    across = [(20, 80)]  # over two changes of pitch
    for spans in (SHOTS, across):
        for row, (first, stop) in zip(cut(path, spans, tmp_path / str(len(spans))), spans, strict=True):
            assert row["has_audio"]
            samples = read_samples(tmp_path / str(len(spans)) / row["video_path"])
            expected = stepped_tone(RATE)[round(first / 24 * RATE) : round(stop / 24 * RATE)]
            with av.open(str(tmp_path / str(len(spans)) / row["video_path"])) as container:
                audio = container.streams.audio[0]
                assert float(audio.duration * audio.time_base) == pytest.approx((stop - first) / 24, abs=0.03)
            if spans is across:
                assert abs(lag(samples, expected)) < 0.03
            else:
                part = RATE * 3 // 100  # nothing of a neighbour: the first and the last 30 ms and what is between
                wanted = PITCHES[SHOTS.index((first, stop))]
                assert pitch_of(samples) == pytest.approx(wanted, abs=5)
                assert pitch_of(samples[part : 3 * part]) == pytest.approx(wanted, abs=60)
                assert pitch_of(samples[len(expected) - 3 * part : len(expected) - part]) == pytest.approx(
                    wanted, abs=60
                )


def test_audio_that_begins_before_the_frames(tmp_path):
    """The frames begin 2 s after the audio."""
    path = tmp_path / "late_frames.mkv"
    pts = [2000 + round(i * 1000 / 24) for i in range(120)]
    write_numbered(
        path, 120, pts=pts, time_base=Fraction(1, 1000), sound=np.concatenate([np.zeros(2 * RATE), stepped_tone(RATE)])
    )
    (row,) = cut(path, [(20, 80)], tmp_path / "out")
    samples = read_samples(tmp_path / "out" / row["video_path"])
    assert abs(lag(samples, stepped_tone(RATE)[round(20 / 24 * RATE) : round(80 / 24 * RATE)])) < 0.03


def test_no_audio_and_sources_without_audio(tmp_path):
    path = write_numbered(tmp_path / "a.mp4", 48, sound=stepped_tone(RATE, 2))
    for source, choices in ((path, {"audio": False}), (write_numbered(tmp_path / "b.mp4", 48), {})):
        (row,) = cut(source, [(3, 40)], tmp_path / source.stem, **choices)
        assert not row["has_audio"]
        with av.open(str(tmp_path / source.stem / row["video_path"])) as container:
            assert not container.streams.audio


def damaged_audio(path, whole):
    """`whole` with every second byte of its audio packets inverted, the frames untouched."""
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        streams = {stream: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            data = bytes(packet)
            if packet.stream.type == "audio":
                data = bytes(byte ^ 0xFF if i % 2 else byte for i, byte in enumerate(data))
            new = av.Packet(data)
            new.pts, new.dts, new.time_base, new.is_keyframe = (
                packet.pts,
                packet.dts,
                packet.time_base,
                packet.is_keyframe,
            )
            new.stream = streams[packet.stream]
            out.mux(new)


def test_damaged_audio_costs_only_the_audio(tmp_path):
    whole = write_numbered(tmp_path / "whole.mp4", 48, sound=stepped_tone(RATE, 2))
    damaged_audio(tmp_path / "damaged.mp4", whole)
    (row,) = cut(tmp_path / "damaged.mp4", [(3, 40)], tmp_path / "out")
    assert read_indices(tmp_path / "out" / row["video_path"]) == list(range(3, 40))
    assert row.get("audio_error") or row["has_audio"]


def test_audio_that_changes_midway(tmp_path):
    """Broadcasts go from stereo to 5.1 between programme and film, and from one rate to another."""
    parts = [
        write_numbered(tmp_path / "a.ts", 48, sound=stepped_tone(48000, 2), layout="stereo", sound_codec="ac3"),
        write_numbered(
            tmp_path / "b.ts", 48, sound=stepped_tone(44100, 2), sound_rate=44100, layout="5.1", sound_codec="ac3"
        ),
    ]
    (tmp_path / "list.txt").write_text("".join(f"file '{part.name}'\n" for part in parts))
    ffmpeg(["-f", "concat", "-i", tmp_path / "list.txt", "-c", "copy", tmp_path / "both.ts"])
    (row,) = cut(tmp_path / "both.ts", [(10, 80)], tmp_path / "out")
    assert row["num_frames"] == 70
    if "audio_error" not in row:
        expected = np.concatenate([stepped_tone(RATE, 2), stepped_tone(RATE, 2)])[10 * 2000 : 80 * 2000]
        assert abs(lag(read_samples(tmp_path / "out" / row["video_path"]), expected)) < 0.03


def joined(path, counts, tones) -> None:
    """Transport streams one after the other in one file, as `cat` joins them: the times of each begin anew. The frames are numbered through."""
    with open(path, "wb") as out:
        for first, count, tone in zip(np.cumsum([0, *counts]).tolist(), counts, tones, strict=False):
            part = path.with_name("part.ts")
            write_video(part, (numbered_frame(first + i) for i in range(count)), sound=tone, **x264("keyint=12"))
            out.write(part.read_bytes())


@pytest.mark.parametrize("counts", [(72, 96, 60), (48, 120, 72), (120, 48, 72)])
def test_joined_transport_streams_keep_each_parts_audio(counts, tmp_path):
    """Where a part's times begin anew, clips carry the sound that is under their frames."""
    tones = [stepped_tone(RATE, count / 24, octave) for count, octave in zip(counts, (1, 2, 4))]
    path, expected, borders = tmp_path / "joined.ts", np.concatenate(tones), np.cumsum([0, *counts]).tolist()
    joined(path, counts, tones)
    with av.open(str(path)) as container:
        stored = [frame.pts for frame in container.decode(video=0)]
    assert sum(later < earlier for earlier, later in zip(stored, stored[1:])) == 2
    times = [Fraction(i, 24) for i in range(sum(counts))]
    apart = list(zip(borders, borders[1:]))
    across = [(at - 20, at + 24) for at in borders[1:-1]]
    for name, spans in (("apart", apart), ("across", across)):
        rows = cut(path, spans, tmp_path / name, times=times)
        for row, (first, stop) in zip(rows, spans, strict=True):
            clip = tmp_path / name / row["video_path"]
            assert row["has_audio"] and "audio_error" not in row
            assert read_indices(clip) == list(range(first, stop))
            samples, wanted = read_samples(clip), expected[first * 2000 : stop * 2000]
            assert abs(lag(samples, wanted)) < 0.03
            for at in (1500, len(wanted) // 2 - 5500, len(wanted) // 2 + 2500, len(wanted) - 5500):
                assert pitch_of(samples[at : at + 4000]) == pytest.approx(pitch_of(wanted[at : at + 4000]), rel=0.1)


def test_joined_streams_of_which_one_is_silent_say_so(tmp_path):
    """No clock tells which of the frames the sound of the one part belongs to."""
    joined(tmp_path / "joined.ts", (48, 60), (None, stepped_tone(RATE, 2.5)))
    times = [Fraction(i, 24) for i in range(108)]
    first, second = cut(tmp_path / "joined.ts", [(0, 48), (48, 108)], tmp_path / "out", times=times)
    for row in (first, second):
        assert not row["has_audio"] and "restart 1 times, its audio timestamps 0 times" in row["audio_error"]
    assert read_indices(tmp_path / "out" / second["video_path"]) == list(range(48, 108))


def test_joined_streams_keep_the_rate_of_each_part_and_are_not_copied(tmp_path):
    """The second part's frames vary in length; `copy` seeks by times, which name no place here."""
    path = tmp_path / "joined.ts"
    parts = [
        x264("keyint=12", pts=[3600 * i for i in range(50)]),
        x264("keyint=12", pts=[1800 * (i * 3 // 2) for i in range(60)]),
    ]
    for number, options in enumerate(parts):
        write_numbered(tmp_path / f"{number}.ts", len(options["pts"]), time_base=Fraction(1, 90_000), **options)
    path.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    with open_video(str(path)) as (container, stream):
        times = np.array([frame.pts for frame in decode(container, stream)])
    second = times[50:] - times[50]
    assert second.tolist() == [1800 * (i * 3 // 2) for i in range(60)] and 0 < times[50] - times[49] <= 3600
    with open_video(str(path)) as (container, stream):
        assert packet_times(container, stream) is None
    with pytest.raises(VideoError, match=r"restart at .* --encoder copy"):
        cut(
            path,
            [(0, 50)],
            tmp_path / "out",
            encoder="copy",
            times=[Fraction(int(t - times[0]), 90_000) for t in times],
        )


# Lengths


def frames_of(shot: np.ndarray, spans) -> list[int]:
    return [stop - first for first, stop in spans]


def even_borders(seconds: float, fps=Fraction(60)) -> np.ndarray:
    return np.arange(round(seconds * fps) + 1) / float(fps)


@pytest.mark.parametrize(
    "seconds, min_seconds, max_seconds, long_shots, lengths",
    [
        (15, 3, 10, "even", [7.5, 7.5]),
        (12, 3, 10, "even", [6, 6]),
        (23.5, 3, 10, "greedy", [10, 10, 3.5]),
        (22, 3, 10, "greedy", [10, 10]),
        (10, 3, 10, "even", [10]),
        (10, 3, 10, "greedy", [10]),
        (20, 3, 10, "even", [10, 10]),
        (4.5, 3, 4, "even", [4]),  # halves would be too short
        (4.5, 3, 4, "greedy", [4]),
        (3, 3, 10, "even", [3]),
    ],
)
def test_long_shots_are_split(seconds, min_seconds, max_seconds, long_shots, lengths):
    spans = split_shot(even_borders(seconds), min_seconds, max_seconds, long_shots)
    assert [(stop - first) / 60 for first, stop in spans] == lengths
    assert spans[0][0] == 0 and all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_lengths_keep_their_limits_at_any_rate():
    dice = random.Random(1)
    for _ in range(300):
        fps = dice.choice([12, 24, 25, 30, 50, 60, NTSC, Fraction(30000, 1001), Fraction(25, 2)])
        count = dice.randrange(round(3 * fps) + 1, round(100 * fps))
        steps = np.full(count, float(1 / Fraction(fps)))
        if dice.random() < 0.3:
            steps *= np.random.default_rng(count).uniform(0.5, 1.5, count)
        borders = np.concatenate([[0], np.cumsum(steps)])
        for long_shots in ("even", "greedy"):
            spans = split_shot(borders, 3, 10, long_shots)
            seconds = [borders[stop] - borders[first] for first, stop in spans]
            assert spans and min(seconds) > 3 - 2e-3 and max(seconds) < 10 + 2e-3
            assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))
            if long_shots == "even":
                assert sum(stop - first for first, stop in spans) == count


def test_a_frame_shown_longer_than_the_longest_clip_is_in_none():
    borders = np.array([0, 1, 2, 3, 20, 21, 22, 23, 24, 25], float)  # a still of 17 s between moving parts
    for long_shots in ("even", "greedy"):
        spans = split_shot(borders, 3, 10, long_shots)
        assert all(borders[stop] - borders[first] <= 10 for first, stop in spans)


@pytest.mark.parametrize("fps", [8, 16, NTSC, 60, Fraction(120000, 1001)])
def test_a_cut_may_be_at_any_frame(fps, tmp_path):
    """At 23.976 fps every 24th frame begins halfway between two milliseconds: the twelfth at 0.5005 s."""
    path = write_numbered(tmp_path / "a.mp4", 200, fps, size=(64, 48))
    cuts = [0, 7, 12, 25, 36, 50, 60, 77, 84, 91, 108, 121, 132, 143, 156, 169, 180, 191, 200]
    rows = cut(path, list(zip(cuts, cuts[1:], strict=False)), tmp_path / "out", min_seconds=0.02)
    assert [row["num_frames"] for row in rows] == np.diff(cuts).tolist()


def test_a_shot_begins_with_the_first_frame_at_or_after_its_cut():
    seconds = np.arange(100) / 25
    assert shot_borders([], seconds, 4.0) == [0, 4]
    assert shot_borders([1.0004, 1.01, 2.0, 9.0], seconds, 4.0) == [0, 1, 1.04, 2, 4]  # 9 s is outside


def test_transitions_and_their_margins_are_kept_out():
    row = {"timecode_list": [["0", "5"], ["5", "9"]], "transitions": [["dissolve", "4.5", "5.5"], ["fade", "8.8", "9"]]}
    assert clean_spans(row, 0.25) == [(0, 4.25), (5.75, pytest.approx(8.55))]


# Files


def make_folder(folder, sizes: dict[str, int]) -> None:
    """Numbered videos of so many frames at 24 fps, below `folder`."""
    for name, count in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_numbered(folder / name, count, **x264("keyint=12"))


def save_scenes(path, shots: dict[str, list[tuple[float, float]]]) -> None:
    """A scenes file of shots given in seconds."""
    rows = [
        {"video_path": name, "timecode_list": [[timecode(a), timecode(b)] for a, b in spans]}
        for name, spans in shots.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def load(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def state(folder) -> dict[str, int]:
    """Every file below a folder, hidden ones too, with the time of its last change in nanoseconds."""
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


FLAGS = [
    "--video_metadata_path",
    "scenes.jsonl",
    "--video_folder",
    "in",
    "--output_folder",
    "out",
    "--saved_path",
    "clips.jsonl",
]
FLAGS += ["--min_seconds", "1", "--max_seconds", "3", "--preset", "ultrafast", "--n_jobs", "2"]


@pytest.fixture
def split(run_script):
    """Run video_splitting.py on `scenes.jsonl` and the folder `in`; gives what it printed."""
    return lambda *flags, **more: run_script("video_splitting.py", *FLAGS, *flags, **more)


def test_files_of_a_run_and_of_the_next(tmp_path, split):
    make_folder(tmp_path / "in", {"a.mp4": 96, "deep/er/a.mp4": 48, "twice.mkv": 48, "twice.mp4": 48, "short.mp4": 12})
    shots = {
        "a.mp4": [(0, 1.5), (1.5, 2), (2, 4)],
        "deep/er/a.mp4": [(0, 2)],
        "twice.mkv": [(0, 2)],
        "twice.mp4": [(0, 2)],
    }
    save_scenes(tmp_path / "scenes.jsonl", {**shots, "short.mp4": [(0, 0.5)]})
    said = split().stdout
    assert "5 rows in = 4 cut into 5 clips + 0 errors + 1 filtered" in said
    assert "2 of 7 shots are shorter than 1 s and dropped" in said
    out, clips = tmp_path / "out", tmp_path / "clips.jsonl"
    assert sorted(state(out)) == [
        "a-Scene-001.mp4", "a-Scene-002.mp4", "deep/er/a-Scene-001.mp4", "twice.mkv-Scene-001.mp4",
        "twice.mp4-Scene-001.mp4",
    ]  # fmt: skip
    rows = load(clips)
    assert [row["video_path"] for row in rows] == sorted(
        state(out)
    )  # in the order of the scenes file, in this case the same
    assert [(row["start_seconds"], row["end_seconds"], row["num_frames"]) for row in rows[:2]] == [
        (0, 1.5, 36),
        (2, 4, 48),
    ]
    first = {
        "video_path": "a-Scene-001.mp4",
        "source_path": "a.mp4",
        "frame_rate": "24",
        "frame_size": [192, 108],
        "duration": 1.5,
    }
    assert {**rows[0], **first, "codec": "h264", "bytes": (out / "a-Scene-001.mp4").stat().st_size} == rows[0]

    before = state(out)
    split()
    assert (state(out), load(clips)) == (before, rows)  # nothing is made again

    (out / "a-Scene-002.mp4").unlink()
    split()
    assert {**state(out), "a-Scene-002.mp4": 0} == {**before, "a-Scene-002.mp4": 0}  # only what was missing
    assert load(clips) == rows

    refused = split("--min_seconds", "0.3", code=2)
    assert "min_seconds" in refused.stderr and "--overwrite" in refused.stderr
    assert load(clips) == rows

    save_scenes(tmp_path / "scenes.jsonl", {**shots, "a.mp4": [(0, 2.5)], "deep/er/a.mp4": [(0, 0.5), (0.5, 2)]})
    split()
    assert sorted(state(out)) == [
        "a-Scene-001.mp4", "deep/er/a-Scene-001.mp4", "twice.mkv-Scene-001.mp4", "twice.mp4-Scene-001.mp4",
    ]  # fmt: skip
    assert [row["num_frames"] for row in load(clips)] == [60, 36, 48, 48]
    assert read_indices(out / "deep/er/a-Scene-001.mp4") == list(range(12, 48))
    assert state(out)["twice.mkv-Scene-001.mp4"] == before["twice.mkv-Scene-001.mp4"]

    split("--min_seconds", "2.2", "--overwrite")
    assert [row["video_path"] for row in load(clips)] == ["a-Scene-001.mp4"]


def test_clips_that_no_longer_belong_are_in_no_list_and_stay_until_they_may_go(tmp_path, split):
    """Of a source whose shots are all too short now, and of one that is named anew as a second one shares its stem."""
    make_folder(tmp_path / "in", {"short.mp4": 48, "a.mp4": 48, "a.mkv": 48})
    save_scenes(tmp_path / "scenes.jsonl", {"short.mp4": [(0, 2)], "a.mp4": [(0, 2)]})
    split()
    assert sorted(state(tmp_path / "out")) == ["a-Scene-001.mp4", "short-Scene-001.mp4"]
    save_scenes(tmp_path / "scenes.jsonl", {"short.mp4": [(0, 0.5)], "a.mp4": [(0, 2)], "a.mkv": [(0, 2)]})
    mine = write_numbered(tmp_path / "out" / "mine-Scene-001.mp4", 30)  # not written by the script
    before = state(tmp_path / "out")
    assert "2 clips of sources that are gone, or of shots that are now cut differently, stay" in split().stdout
    listed = ["a.mkv-Scene-001.mp4", "a.mp4-Scene-001.mp4"]
    assert sorted(row["video_path"] for row in load(tmp_path / "clips.jsonl")) == listed
    after = state(tmp_path / "out")
    assert before.items() <= after.items() and sorted(after.keys() - before.keys()) == listed
    assert "2 clips" in split("--remove_orphans").stdout
    assert state(tmp_path / "out") == {name: after[name] for name in [*listed, mine.name]}
    assert sorted(row["video_path"] for row in load(tmp_path / "clips.jsonl")) == listed


def test_a_source_that_is_no_longer_asked_for_leaves_the_list_and_is_not_cut_again_if_its_clips_are_whole(
    tmp_path, split
):
    make_folder(tmp_path / "in", {"a.mp4": 96, "b.mp4": 96, "c.mp4": 48})
    halves = [(0, 2), (2, 4)]
    save_scenes(tmp_path / "scenes.jsonl", {"a.mp4": halves, "b.mp4": halves})
    split()
    rows = load(tmp_path / "clips.jsonl")
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))  # one of b's is lost
    save_scenes(tmp_path / "scenes.jsonl", {"c.mp4": [(0, 2)]})
    before = state(tmp_path / "out")
    assert "4 clips of sources that are gone" in split().stdout
    assert {row["source_path"] for row in load(tmp_path / "clips.jsonl")} == {"c.mp4"}
    after = state(tmp_path / "out")
    assert before.items() <= after.items() and len(after) == 5
    save_scenes(tmp_path / "scenes.jsonl", {"a.mp4": halves, "b.mp4": halves})
    assert "1 of 2 done before, 1 due" in split().stdout
    assert load(tmp_path / "clips.jsonl")[:3] == rows[:3] and len(load(tmp_path / "clips.jsonl")) == 4
    again = state(tmp_path / "out")
    assert [again[name] for name in before if name.startswith("a-")] == [
        before[name] for name in before if name.startswith("a-")
    ]


def test_names_never_meet(tmp_path, split):
    """Whatever the sources are called, each clip is its own file and holds its own source."""
    names = {".y.mp4": 28, "x.mp4": 30, "x.mkv": 36, "x.mov.mp4": 42, ".x.mp4": 48, "x-Scene-001.mp4": 54, "y.mp4": 60}
    make_folder(tmp_path / "in", names)
    save_scenes(tmp_path / "scenes.jsonl", {name: [(0, count / 24)] for name, count in names.items()})
    assert f"{len(names)} clips" in split().stdout
    rows = load(tmp_path / "clips.jsonl")
    assert len({row["video_path"] for row in rows}) == len(names) == len(state(tmp_path / "out"))
    for row in rows:
        assert len(read_indices(tmp_path / "out" / row["video_path"])) == names[row["source_path"]]


@pytest.mark.parametrize(
    "names", [["x.mp4.mov", "x.mp4", "x.mkv"], ["../up.mp4", "up.mp4"], ["up.mp4", "y.mp4", "../up.mkv", "../up.mp4"]]
)
def test_names_that_would_meet_are_refused(tmp_path, split, names):
    (tmp_path / "in").mkdir()
    save_scenes(tmp_path / "scenes.jsonl", {name: [(0, 2)] for name in names})
    said = split(code=2).stderr
    one, other, name = re.search(
        r"scenes.jsonl: (\S+) and (\S+) would give clips of the same name, (\S+); rename", said
    ).groups()
    assert {one, other} < set(names) or {one, other} == set(names)
    assert name == ("x.mp4-Scene-001.mp4" if "x.mkv" in names else name)
    assert not (tmp_path / "clips.jsonl").exists() and not state(tmp_path / "out")


def test_names_stay_in_the_output_folder(tmp_path, split):
    make_folder(tmp_path, {"above.mp4": 30, "in/up.mp4": 36, "away/up.mp4": 42})
    away = str(tmp_path / "away" / "up.mp4")
    save_scenes(tmp_path / "scenes.jsonl", {"../above.mp4": [(0, 1.25)], "up.mp4": [(0, 1.5)], away: [(0, 1.75)]})
    split()
    rows = load(tmp_path / "clips.jsonl")
    assert sorted(row["num_frames"] for row in rows) == [30, 36, 42]
    assert sorted(len(read_indices(tmp_path / "out" / row["video_path"])) for row in rows) == [30, 36, 42]
    assert len(state(tmp_path)) == 3 + 3 + len(["scenes.jsonl", "clips.jsonl", "clips.settings.json"])


NOT_UTF8 = "\udcff\udcfe.mp4"
ODD_NAMES = [
    "a b.mp4",
    'it\'s "q".mp4',
    "two\nlines.mp4",
    "-leading.mp4",
    "n%03d.mp4",
    "影片 é.mp4",
    NOT_UTF8,
    "concat:a|b.mp4",
    "$(x).mp4",
]


def test_odd_names(tmp_path, split):
    make_folder(tmp_path / "in", {"plain.mp4": 30})
    for name in ODD_NAMES:
        shutil.copy(tmp_path / "in" / "plain.mp4", tmp_path / "in" / name)
    save_scenes(tmp_path / "scenes.jsonl", {name: [(0, 1.25)] for name in ODD_NAMES})
    split()
    fine = [name for name in ODD_NAMES if name != NOT_UTF8]
    assert [row["source_path"] for row in load(tmp_path / "clips.jsonl")] == fine
    assert sorted(state(tmp_path / "out")) == sorted(name[:-4] + "-Scene-001.mp4" for name in fine)
    (error,) = load(tmp_path / "clips.errors.jsonl")
    assert error["video_path"] == "\ufffd\ufffd.mp4"
    assert "is not valid UTF-8" in error["message"] and "rename the file" in error["message"]


def test_sources_that_fail_cost_their_own_row(tmp_path, split):
    make_folder(tmp_path / "in", {"good.mp4": 48, "cut_off.mp4": 96, "no_index.mp4": 96})
    write_numbered(tmp_path / "in" / "front.mp4", 96, container_options={"movflags": "faststart"}, **x264("keyint=12"))
    for name, part in {"cut_off.mp4": 0.5, "front.mp4": 0.6}.items():
        whole = (tmp_path / "in" / name).read_bytes()
        (tmp_path / "in" / name).write_bytes(whole[: round(len(whole) * part)])
    (tmp_path / "in" / "empty.mp4").touch()
    (tmp_path / "in" / "no_index.mp4").unlink()
    names = ["cut_off.mp4", "front.mp4", "good.mp4", "empty.mp4", "no_index.mp4"]
    save_scenes(
        tmp_path / "scenes.jsonl", {name: [(0, 2), (2, 4)] if name != "good.mp4" else [(0, 2)] for name in names}
    )
    assert "5 rows in = 1 cut into 1 clips + 4 errors + 0 filtered" in split().stdout
    errors = load(tmp_path / "clips.errors.jsonl")
    assert sorted(row["video_path"] for row in errors) == ["cut_off.mp4", "empty.mp4", "front.mp4", "no_index.mp4"]
    assert all(row["error"] == "VideoError" and row["video_path"] in row["message"] for row in errors)
    assert not [name for name in state(tmp_path / "out") if ".tmp" in name]

    make_folder(tmp_path / "in", {"cut_off.mp4": 96})
    split("--retry_errors")
    assert [row["num_frames"] for row in load(tmp_path / "clips.jsonl")] == [48, 48, 48]
    assert len(load(tmp_path / "clips.errors.jsonl")) == 3


def test_a_source_that_lost_its_last_frames_since_its_shots_were_found(sources, tmp_path):
    """Half a second less than the 120 frames that its row speaks of."""
    short = write_numbered(tmp_path / "short.mp4", 108, **x264("keyint=12"))
    times, _ = read_video(sources("closed_gops.mp4"))
    with pytest.raises(VideoError, match=r"short\.mp4"):
        cut(short, SHOTS, tmp_path / "out", times=times)


def test_copying_says_what_it_got(sources, tmp_path):
    """`copy` begins at the keyframe before; a clip that is found whole by a later run gives the same row."""
    rows = cut(sources("closed_gops.mp4"), SHOTS, tmp_path, "copy")
    for row, (first, _) in zip(rows, SHOTS, strict=True):
        indices = read_indices(tmp_path / row["video_path"])
        assert indices[0] == first // 12 * 12
        assert row["num_frames"] == pytest.approx(len(indices), abs=3)
    (tmp_path / rows[0]["video_path"]).unlink()
    assert cut(sources("closed_gops.mp4"), SHOTS, tmp_path, "copy") == rows


def test_lengths_that_no_whole_number_of_frames_fits(tmp_path, split):
    """At 23.976 fps 71 frames are 2.961 s and 72 are 3.003 s: no clip is 3 s long; the row is still accounted for."""
    write_numbered(tmp_path / "five.mp4", 120, NTSC)
    (tmp_path / "in").mkdir()
    (tmp_path / "five.mp4").rename(tmp_path / "in" / "five.mp4")
    save_scenes(tmp_path / "scenes.jsonl", {"five.mp4": [(0, 5.005)]})
    said = split("--min_seconds", "3", "--max_seconds", "3", code=1).stdout  # every source failed
    assert "1 rows in" in said
    assert not load(tmp_path / "clips.jsonl")


def test_small_sources_are_filtered(tmp_path, split):
    make_folder(tmp_path / "in", {"a.mp4": 48, "b.mp4": 48})
    rows = [
        {"video_path": name, "timecode_list": [["0", "2"]], "frame_size": size}
        for name, size in (("a.mp4", [192, 108]), ("b.mp4", [192, 107]))
    ]
    (tmp_path / "scenes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "2 rows in = 1 cut into 1 clips + 0 errors + 1 filtered" in split("--resolution_threshold", "192x108").stdout


def test_wrong_use_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def error_text(*flags) -> str:
        monkeypatch.setattr("sys.argv", ["video_splitting.py", *FLAGS, *flags])
        with pytest.raises((UsageError, SystemExit)) as ended:
            main()
        return f"{ended.value} {capsys.readouterr().err}"

    assert "--video_folder in: no such folder" in error_text()
    (tmp_path / "in").mkdir()
    assert "scenes.jsonl: no such file" in error_text()
    assert "--max_seconds 0.5" in error_text("--max_seconds", "0.5")
    assert "quickest" in error_text("--preset", "quickest")
    for wrong in ([["a", "b"]], [[1]], "soon"):
        (tmp_path / "scenes.jsonl").write_text(json.dumps({"video_path": "a.mp4", "timecode_list": wrong}) + "\n")
        assert "timecode_list" in error_text()


def test_the_output_folder_is_not_that_of_the_sources(tmp_path, run_script):
    """A source named like a clip of another would be taken for one that no longer belongs, and removed."""
    make_folder(tmp_path / "in", {"a.mp4": 48, "a-Scene-007.mp4": 48})
    save_scenes(tmp_path / "scenes.jsonl", {"a.mp4": [(0, 2)], "a-Scene-007.mp4": [(0, 2)]})
    flags = [
        "--video_metadata_path",
        "scenes.jsonl",
        "--video_folder",
        "in",
        "--output_folder",
        "in",
        "--min_seconds",
        "1",
    ]
    run_script("video_splitting.py", *flags, code=2)
    assert sorted(state(tmp_path / "in")) == ["a-Scene-007.mp4", "a.mp4"]


def test_overwriting_replaces_the_clips_of_what_is_cut_anew_and_counts_the_others(tmp_path, split):
    make_folder(tmp_path / "in", {"a.mp4": 96, "b.mp4": 48})
    save_scenes(tmp_path / "scenes.jsonl", {"a.mp4": [(0, 1.5), (1.5, 4)], "b.mp4": [(0, 2)]})
    split()
    assert len(state(tmp_path / "out")) == 3
    done = split("--min_seconds", "2.2", "--overwrite")
    assert "1 clips of sources that are gone, or of shots that are now cut differently, stay" in done.stdout
    assert sorted(state(tmp_path / "out")) == ["a-Scene-001.mp4", "b-Scene-001.mp4"]
    assert "1 clips" in split("--min_seconds", "2.2", "--remove_orphans").stdout
    assert (
        sorted(state(tmp_path / "out"))
        == ["a-Scene-001.mp4"]
        == [r["video_path"] for r in load(tmp_path / "clips.jsonl")]
    )


@pytest.mark.slow
def test_equal_input_gives_equal_bytes(tmp_path, run_script):
    """x264's AVX-512 code gave 11 different streams for 24 encodings of one video."""
    photos = [cv2.resize(photo, (480, 270)) for photo in (data.astronaut(), data.coffee())]
    views = (cv2.getRectSubPix(photos[i >= 40], (320, 180), (240 + i / 2, 135)) for i in range(80))
    (tmp_path / "in").mkdir()
    source = write_video(tmp_path / "in" / "0.mp4", views, options={"bf": "0"})
    for number in range(1, 16):
        shutil.copy(source, tmp_path / "in" / f"{number}.mp4")
    rows = [{"video_path": f"{number}.mp4", "timecode_list": [[0, 80 / 24]]} for number in range(16)]
    (tmp_path / "scenes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--video_folder", "in", "--video_metadata_path", "scenes.jsonl", "--encoder", "libx264", "--no_audio")
    run_script("video_splitting.py", *flags, "--output_folder", "out", "--saved_path", "clips.jsonl")
    streams = set()
    for clip in (tmp_path / "out").iterdir():
        with av.open(str(clip)) as container:
            streams.add(b"".join(map(bytes, container.demux(video=0))))
    assert len(streams) == 1
