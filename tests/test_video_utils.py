"""Which videos there are, and frames read by index."""

import os
from collections import Counter

import av
import pytest
from conftest import numbered_frame, read_index, read_video, write_numbered

from cutscene_detect import detect_shots
from utils.cutting.detectors import make_detector
from utils.errors import UsageError
from utils.video.geometry import frame_to_array
from utils.video.opening import DEMUXERS, open_video
from utils.video.sampling import decode_needed, sample_frames
from utils.video.timing import is_hidden, packet_times
from utils.video_utils import VIDEO_EXTENSIONS, content_digest, get_video_path_list


def test_a_folder_is_searched_in_all_its_depth_and_in_natural_order(tmp_path, monkeypatch):
    names = [
        "clip10.mp4",
        "clip2.MP4",
        "in/clip2.MP4",
        "in/in/x.WebM",
        "b/a.mkv",
        "b/a.3gp",
        "b/n.txt",
        ".hidden.mp4",
        ".cache/a.mp4",
    ]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    wanted = ["b/a.3gp", "b/a.mkv", "clip2.MP4", "clip10.mp4", "in/clip2.MP4", "in/in/x.WebM"]
    assert get_video_path_list(str(tmp_path / "in")) == wanted
    monkeypatch.chdir(tmp_path)
    assert get_video_path_list("in") == wanted  # though in/ holds a folder of its own name
    assert get_video_path_list("in/b/a.mkv") == ["a.mkv"]


def test_links_are_followed_once_and_what_is_not_looked_at_is_counted(tmp_path):
    """A link in a circle, a folder that is reached twice, a film that is linked twice; files that are no videos by their endings."""
    folder, outside = tmp_path / "in", tmp_path / "outside"
    for name in (
        "in/b.mp4",
        "in/real/c.MXF",
        "in/note.txt",
        "in/README",
        "outside/a.vob",
        "outside/deep/d.f4v",
        "outside/deep/x.TXT",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (folder / "a_circle").symlink_to(folder)
    (folder / "a_second_name").symlink_to(folder / "real")
    (folder / "link").symlink_to(outside)
    (folder / "link2").symlink_to(outside / "deep")
    (folder / "a.mp4").symlink_to(folder / "b.mp4")
    (outside / "back").symlink_to(folder / "real")
    (folder / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    others = Counter()
    wanted = ["b.mp4", "gone.mp4", "link/a.vob", "link/deep/d.f4v", "real/c.MXF"]
    assert get_video_path_list(str(folder), others=others) == wanted
    assert others == {".txt": 2, "": 1}
    (tmp_path / "linked").symlink_to(folder)
    assert get_video_path_list(str(tmp_path / "linked")) == wanted


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "b.mp4\n./a.mp4\n\nb.mp4\n"),
        ("list.csv", 'id,path\n1,b.mp4\n2,./a.mp4\n3,"b.mp4"\n'),
        ("list.jsonl", '{"path": "b.mp4"}\n{"path": "./a.mp4"}\n{"path": "b.mp4"}\n'),
    ],
)
def test_a_list_keeps_its_order_and_gives_each_video_once(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert get_video_path_list(str(tmp_path), str(tmp_path / name), "path") == ["b.mp4", "a.mp4"]


def test_what_is_missing_is_a_sentence(tmp_path):
    (tmp_path / "list.csv").write_text("id,path\n1,a.mp4\n")
    with pytest.raises(UsageError, match="row 1 has no column 'video_path'; it has 'id', 'path'"):
        get_video_path_list(None, str(tmp_path / "list.csv"))
    with pytest.raises(UsageError, match="no such folder"):
        get_video_path_list(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="neither is set"):
        get_video_path_list("")  # never the working directory


def test_endings_of_ffmpegs_demuxers_are_looked_for():
    """All that FFmpeg names as theirs, but for what is audio, images, subtitles, playlists or as often audio (.ogg)."""
    named = {f".{ending}" for name in DEMUXERS.split(",") for ending in av.ContainerFormat(name, "r").extensions}
    no_video = {".avif", ".heic", ".heif", ".ism", ".isma", ".m4a", ".m4b", ".mka", ".mks", ".ogg", ".h26l", ".psp"}
    assert named - no_video <= VIDEO_EXTENSIONS
    assert {".vob", ".m2t", ".divx", ".asf", ".ogv", ".3g2", ".f4v", ".mxf", ".rmvb"} <= VIDEO_EXTENSIONS


def preview_and_film(path, default: int, sizes=((96, 54), (192, 108)), codecs=("libx264", "libx264")):
    """Two video tracks: 24 frames numbered from 0 and 24 from 100; `default`: which is marked so, -1 for none."""
    with av.open(str(path), "w") as out:
        tracks = []
        for number, (size, codec) in enumerate(zip(sizes, codecs, strict=True)):
            track = out.add_stream(codec, rate=24)
            track.width, track.height = size
            track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            track.disposition = av.stream.Disposition.default if number == default else 0
            tracks.append(track)
        for number, (track, size) in enumerate(zip(tracks, sizes, strict=True)):
            for i in range(1 if track.codec_context.name == "mjpeg" else 24):
                frame = av.VideoFrame.from_ndarray(numbered_frame(100 * number + i, *size), "gray")
                out.mux(track.encode(frame.reformat(format=track.pix_fmt)))
            out.mux(track.encode())


@pytest.mark.parametrize(
    ("name", "more", "first"),
    [
        ("film_is_default.mkv", {"default": 1}, 100),
        ("small_one_is_default.mkv", {"default": 0}, 0),
        ("none_is.ts", {"default": -1}, 100),
        ("none_is_first_larger.ts", {"default": -1, "sizes": ((192, 108), (96, 54))}, 0),
        ("a_large_cover.mkv", {"default": 0, "codecs": ("mjpeg", "libx264"), "sizes": ((640, 640), (192, 108))}, 100),
    ],
)
def test_the_default_track_else_the_largest_is_read(name, more, first, tmp_path):
    preview_and_film(tmp_path / name, **more)
    indices, _, frames = sample_frames(str(tmp_path / name), lambda count: range(count))
    assert indices == list(range(24))
    assert [read_index(frame_to_array(frame, "rgb24")) for frame in frames] == list(range(first, first + 24))
    row = detect_shots({"video_path": name}, str(tmp_path), lambda: make_detector("content", None, {}))
    assert row["video_track"] == f"{1 + first // 100} of 2"


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
def test_frames_are_those_of_their_index(ending, tmp_path):
    path = write_numbered(tmp_path / f"a.{ending}", 60)
    indices, seconds, frames = sample_frames(str(path), lambda count: [0, count // 2, 31, count - 1])
    assert indices == [0, 30, 31, 59]
    assert [read_index(frame_to_array(frame, "rgb24")) for frame in frames] == indices
    assert seconds == pytest.approx([i / 24 for i in indices], abs=2e-3)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_what_no_wanted_frame_needs_stays_undecoded_and_the_pictures_are_the_same(codec, tmp_path):
    path = write_numbered(tmp_path / "a.mp4", 96, codec=codec, options={"preset": "medium", "bf": "3"})
    whole = read_video(path)[1]
    for wanted in ([0, 24, 48, 72], range(5, 96, 7), [95]):
        _, _, frames = sample_frames(str(path), lambda count, wanted=wanted: wanted)
        assert all((frame_to_array(f, "rgb24") == whole[i]).all() for i, f in zip(wanted, frames, strict=True))
    with open_video(str(path)) as (container, stream):
        times, _ = packet_times(container, stream)
        decoded = [frame.pts for frame in decode_needed(container, stream, {times[50]})]
    assert times[50] in decoded and len(decoded) < 80


def test_hidden_frames_of_vp8_and_vp9_are_not_counted():
    key, shown, hidden, superframe = (
        bytes([first, 0, last]) for first, last in ((0x92, 0), (0x96, 0), (0x94, 0), (0x94, 0xC9))
    )
    told = [is_hidden(av.Packet(data), "libvpx-vp9") for data in (key, shown, hidden, superframe)]
    assert told == [False, False, True, False]
    assert is_hidden(av.Packet(b"\x01"), "vp8") and not is_hidden(av.Packet(b"\x11"), "vp8")
    assert not is_hidden(av.Packet(hidden), "h264")


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(OSError):
        content_digest(str(tmp_path / "pipe.mp4"))
