"""--video_reader decord: the frames that PyAV gives, or a sentence why not."""

import json
import subprocess
from fractions import Fraction
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from conftest import ROOT, write_numbered, write_video
from skimage import data

from utils.errors import VideoError
from utils.rows import read_rows
from utils.video.sampling import FrameSampling, sample_frames

pytest.importorskip("decord", exc_type=ImportError)
SHARED = ROOT.parent / "shared" / "videos"
PHOTO = cv2.resize(data.coffee(), (960, 640))
STEPS = [2, 1, 4, 1, 1, 3] * 8  # twenty-fourths of a second
PTS = np.cumsum([0, *STEPS[:-1]]).tolist()
B_FRAMES = {"preset": "medium", "bf": "3", "g": "25"}
SAME = {  # name: size, and options of write_video
    "small.mp4": ((160, 96), {}),
    "odd.mp4": ((322, 182), {}),
    "large.mp4": ((900, 600), {}),
    "upright.mkv": ((180, 320), {}),
    "b frames.mp4": ((320, 180), {"options": B_FRAMES}),
    "vfr.mp4": ((320, 180), {"pts": PTS, "time_base": Fraction(1, 24)}),
    "vfr b frames.mkv": ((320, 180), {"pts": PTS, "time_base": Fraction(1, 24), "options": B_FRAMES}),
    "full range.mp4": ((320, 180), {"pix_fmt": "yuvj420p"}),
    "4:4:4.mp4": ((320, 180), {"pix_fmt": "yuv444p"}),
    "closed gops.mp4": ((320, 180), {"options": {**B_FRAMES, "g": "9"}}),
    "hevc.mp4": ((320, 180), {"codec": "libx265", "options": {"x265-params": "open-gop=0:keyint=12"}}),
    "hevc 10 bit.mp4": ((320, 180), {"codec": "libx265", "pix_fmt": "yuv420p10le"}),
    "vp9.webm": ((320, 180), {"codec": "libvpx-vp9"}),
    "-i 'x' \"y\"\n%03d 影 concat:a|b.mp4": ((320, 180), {}),
}
COLOURS = [("bt709", "tv"), ("bt709", "pc"), ("smpte170m", "tv"), ("bt470bg", "pc")]


def photo(path: Path, size: tuple[int, int], count: int = 48, **options) -> Path:
    """A view of `size` that moves over a photograph."""
    centre = np.array(size) / 2
    views = (cv2.getRectSubPix(PHOTO, size, (centre[0] + i, centre[1] + i / 2)) for i in range(count))
    return write_video(path, views, **options)


def ffmpeg(*arguments: object) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *map(str, arguments)], check=True)


def assert_same(path: Path, every: int) -> None:
    """The same indices and times; frames of the same size, of which no one differs by two levels in the mean."""
    ours, theirs = (
        sample_frames(str(path), lambda n: range(n // 9, n, every), reader) for reader in ("pyav", "decord")
    )
    assert ours[:2] == theirs[:2]
    for one, other in zip(ours[2], theirs[2], strict=True):
        one, other = (frame.to_ndarray(format="rgb24").astype(int) for frame in (one, other))
        assert one.shape == other.shape and np.abs(one - other).mean() < 2


# Every frame, some, or few: each is another way to seek, of which the gate takes one for all files.
@pytest.mark.parametrize(
    "every", [pytest.param(1, marks=pytest.mark.release), 7, pytest.param(29, marks=pytest.mark.release)]
)
@pytest.mark.parametrize("name", SAME)
def test_decord_gives_the_frames_of_pyav(tmp_path, name, every):
    size, options = SAME[name]
    assert_same(photo(tmp_path / name, size, **options), every)


@pytest.mark.parametrize("matrix, colour_range", COLOURS)
def test_decord_reads_colours_as_pyav_does(tmp_path, matrix, colour_range):
    photo(tmp_path / "plain.mp4", (320, 180), 20)
    scaled = f"scale=out_color_matrix={matrix}:out_range={colour_range}"
    tags = ["-colorspace", matrix, "-color_range", colour_range, "-c:v", "libx264"]
    ffmpeg("-i", tmp_path / "plain.mp4", "-vf", scaled, *tags, tmp_path / "tagged.mp4")
    assert_same(tmp_path / "tagged.mp4", 5)


def refused(path: Path) -> str:
    """The sentence with which decord refuses a video that PyAV reads."""
    assert FrameSampling("uniform", 4).frames(str(path))[0]
    with pytest.raises(VideoError) as stopped:
        FrameSampling("uniform", 4, "decord").frames(str(path))
    sentence = str(stopped.value)
    assert "\n" not in sentence and sentence.startswith(repr(str(path))) and sentence.endswith("pyav reads it")
    return sentence


def test_what_decord_cannot_read_is_a_sentence(tmp_path):
    plain = photo(tmp_path / "plain.mp4", (320, 180), options=B_FRAMES)
    assert "decord fails on its libdav1d video" in refused(photo(tmp_path / "av1.mp4", (320, 180), codec="libsvtav1"))
    assert "(mpegts) in which decord does not seek" in refused(photo(tmp_path / "x.ts", (320, 180)))
    assert "(avi) in which decord does not seek" in refused(photo(tmp_path / "x.avi", (320, 180), codec="mpeg4"))
    for turn in ("-display_rotation:90", "-display_hflip"):
        option, _, degrees = turn.partition(":")
        ffmpeg(option, *filter(None, [degrees]), "-i", plain, "-c", "copy", tmp_path / f"{option}.mp4")
        assert "rotated or mirrored" in refused(tmp_path / f"{option}.mp4")
    ffmpeg("-ss", "1.5", "-i", plain, "-c", "copy", tmp_path / "edit list.mp4")  # hides frames before 1.5 s
    assert "frames where" in refused(tmp_path / "edit list.mp4")
    open_gop = {**B_FRAMES, "x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"}
    found = photo(tmp_path / "open gop.mp4", (320, 180), 60, options=open_gop)
    assert "open GOP" in refused(found)
    assert "open GOP" in refused(photo(tmp_path / "x265.mp4", (320, 180), 60, codec="libx265", options={"g": "20"}))


def test_what_is_no_local_video_is_refused_as_pyav_does(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n")
    for name in ("text.mp4", "list.mp4", "nowhere.mp4"):
        sentences = set()
        for reader in ("pyav", "decord"):
            with pytest.raises(VideoError) as stopped:
                FrameSampling("uniform", 4, reader).frames(str(tmp_path / name))
            sentences.add(str(stopped.value))
        assert len(sentences) == 1


@pytest.mark.parametrize(
    "script, score", [("compute_video_frame_quality.py", "technical_score"), ("compute_text_score.py", "text_score")]
)
def test_the_scores_are_those_of_pyav_and_the_reader_is_a_setting(run_script, tmp_path, script, score):
    (tmp_path / "clips").mkdir()
    photo(tmp_path / "clips" / "a.mp4", (320, 180), 24)
    write_numbered(tmp_path / "clips" / "b.mp4", 30)
    photo(tmp_path / "clips" / "av1.mp4", (320, 180), codec="libsvtav1")
    flags = ["--video_folder", tmp_path / "clips", "--n_jobs", 1]
    run_script(script, *flags, "--saved_path", "pyav.jsonl")
    ran = run_script(script, *flags, "--saved_path", "decord.jsonl", "--video_reader", "decord")
    assert "3 rows in = 2 scored + 1 errors" in ran.stdout
    ours, theirs = ({r["video_path"]: r for r in read_rows(tmp_path / f"{n}.jsonl")} for n in ("pyav", "decord"))
    for name in ("a.mp4", "b.mp4"):
        assert theirs[name][score] == pytest.approx(ours[name][score], abs=0.01)
        assert theirs[name]["sample_frame_idx"] == ours[name]["sample_frame_idx"]
    settings = [json.loads((tmp_path / f"{name}.settings.json").read_text()) for name in ("pyav", "decord")]
    for one in settings:
        del one["checked"]  # when the run began
    assert settings[1] == settings[0] | {"file": "decord.jsonl", "video_reader": "decord"}
    assert "video_reader" not in settings[0]
    stopped = run_script(script, *flags, "--saved_path", "pyav.jsonl", "--video_reader", "decord", code=2)
    assert "video_reader" in stopped.stderr


REAL = sorted(path for path in SHARED.glob("[fps]*_*.*") if path.suffix != ".md") if SHARED.is_dir() else []
REFUSED = {  # of the real ones, and why
    "fmt_av1_hdr10_vertical_4s.mp4": "decord fails", "fmt_h264_flv_1s.flv": "does not seek", "fmt_mpeg4_avi_4s.avi": "does not seek",
    "fmt_hevc10_rot90_vfr_editlist_3s.mp4": "rotated", "fmt_mpegts_bbb_2s.ts": "does not seek",
    "fmt_rotate_and_reflect.mp4": "rotated or mirrored", "fmt_vp9_no_duration_5s.webm": "decord fails",
    "ss_dog_bed_rot270_5s.mp4": "rotated",
}  # fmt: skip
GATE = (
    "fmt_h264_flv",
    "fmt_rotate",
    "panda_scene_004",
)  # containers, turns and codecs are tested above on videos made here


@pytest.mark.skipif(not REAL, reason=f"no real videos at {SHARED}")
@pytest.mark.parametrize(
    "path",
    [path if path.name.startswith(GATE) else pytest.param(path, marks=pytest.mark.release) for path in REAL],
    ids=lambda path: path.stem,
)
def test_real_videos(path):
    if path.name in REFUSED:
        assert REFUSED[path.name] in refused(path)
    else:
        assert_same(path, 37)
