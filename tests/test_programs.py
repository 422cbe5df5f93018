"""Transport streams that carry several programs: a clip gets the sound of its own video, or none where its program has none."""

import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from compute_audio_score import read
from utils.captioning.sound import read_sound
from utils.cutting.audio import JoinedAudio, read_audio
from utils.export.media import measure
from utils.rows import read_rows

SMALL, LARGE = "320x180", "640x360"  # the larger video is the one that is read


def stream(path: Path, programs: list[list[str | int]]) -> Path:
    """A transport stream of 4 s; each program is a list of videos' sizes and of audios' frequencies in Hz."""
    tracks = [track for program in programs for track in program]
    sources = [
        f"testsrc=size={t}:rate=25:duration=4" if isinstance(t, str) else f"sine=frequency={t}:duration=4"
        for t in tracks
    ]
    inputs = [word for source in sources for word in ("-f", "lavfi", "-i", source)]
    maps = [word for number in range(len(tracks)) for word in ("-map", str(number))]
    numbers, groups = iter(range(len(tracks))), []
    for program in programs:
        groups += ["-program", ":".join(f"st={next(numbers)}" for _ in program)]
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-ar", "48000", *groups, "-f", "mpegts"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *inputs, *maps, *coding, path], check=True)
    return path


def hertz(samples: np.ndarray, rate: int) -> float:
    """The frequency with most power."""
    return float(np.argmax(np.abs(np.fft.rfft(samples)))) * rate / len(samples)


@pytest.mark.parametrize(
    "programs, heard",
    [
        ([[SMALL, 440], [LARGE, 1000]], 1000),
        ([[LARGE, 440], [SMALL, 1000]], 440),
        ([[SMALL, 440, 600], [LARGE, 1000, 2000]], 1000),
        ([[SMALL, LARGE, 440]], 440),
        ([[LARGE, 440, 1000]], 440),
        ([[SMALL, 440], [LARGE]], None),
    ],
)
def test_a_video_has_the_sound_of_its_program(programs, heard, tmp_path):
    path = stream(tmp_path / "a.ts", programs)
    clip = measure(str(path))
    assert clip.size == (640, 360) and clip.has_audio is (heard is not None)
    row = read({"video_path": "a.ts"}, str(tmp_path))
    assert row["has_audio"] is (heard is not None) and row["channels"] == (heard is not None)
    sounds = [
        read_audio(str(path), Fraction(2), Fraction(4)),
        JoinedAudio(str(path), []).read(Fraction(2), Fraction(4)),
    ]
    assert [sound is not None and round(hertz(sound[0][0], sound[1]), -1) for sound in sounds] == [heard or False] * 2
    assert (read_sound(str(path)) is None) is (heard is None)


def test_clips_are_cut_with_it(tmp_path, run_script):
    stream(tmp_path / "a.ts", [[SMALL, 440], [LARGE, 1000]])
    run_script("cutscene_detect.py", "--video_folder", tmp_path, "--saved_path", "scenes.jsonl", "--n_jobs", 1)
    run_script(
        "video_splitting.py", "--video_metadata_path", "scenes.jsonl", "--video_folder", tmp_path, "--output_folder", "clips", "--n_jobs", 1
    )  # fmt: skip
    (clip,) = read_rows(tmp_path / "clips.jsonl")
    samples, rate = read_audio(str(tmp_path / "clips" / clip["video_path"]), Fraction(1), Fraction(3)) or (
        np.zeros((1, 1)),
        1,
    )
    assert clip["frame_size"] == [640, 360] and clip["has_audio"] and round(hertz(samples[0], rate), -1) == 1000
