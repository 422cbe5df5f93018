"""What quality says of a clip's encoding, and the metric NSFWScore."""

from fractions import Fraction

import numpy as np
import pytest
from conftest import numbered_frame, write_numbered, write_video

from utils.rows import read_rows
from utils.scoring.nsfw import classifier, nsfw_columns
from utils.video.timing import encoding_facts


@pytest.mark.parametrize(
    "fps, name", [(Fraction(25, 2), "low"), (Fraction(24000, 1001), "film"), (25, "film"), (30, "video"), (60, "high")]
)
def test_rate_and_its_class(tmp_path, fps, name):
    write_numbered(tmp_path / "a.mp4", 40, fps)
    facts = encoding_facts(str(tmp_path / "a.mp4"))
    assert facts["frame_rate_class"] == name and facts["frame_rate"] == round(float(fps), 3)


def test_bits_of_the_video_track_alone(tmp_path):
    sound = np.sin(np.arange(96_000) / 20).astype(np.float32)
    for name, more in (("silent.mp4", {}), ("loud.mp4", {"sound": sound})):
        write_numbered(tmp_path / name, 48, 24, **more)
    silent, loud = (encoding_facts(str(tmp_path / name)) for name in ("silent.mp4", "loud.mp4"))
    assert silent["bits_per_pixel"] == pytest.approx(loud["bits_per_pixel"], rel=0.01)
    size = (tmp_path / "silent.mp4").stat().st_size
    assert 0.8 * size < silent["bits_per_pixel"] * 192 * 108 * 48 / 8 < size


def test_a_rate_that_varies(tmp_path):
    pts = np.cumsum([0, *([1, 3] * 12)]).tolist()
    write_video(tmp_path / "v.mp4", [numbered_frame(i) for i in range(25)], 30, pts=pts, time_base=Fraction(1, 30))
    assert encoding_facts(str(tmp_path / "v.mp4"))["frame_rate_class"] == "variable"


def test_the_highest_nsfw_score_of_the_frames(tmp_path, run_script):
    from PIL import Image
    from skimage import data

    frames = [data.coffee(), data.astronaut()]
    single = [classifier().score(Image.fromarray(frame)) for frame in frames]
    assert nsfw_columns(frames)["nsfw_score"] == pytest.approx(max(single), abs=1e-4)
    write_numbered(tmp_path / "a.mp4", 24)
    run_script(
        "compute_video_frame_quality.py",
        "--video_folder",
        ".",
        "--metrics",
        "NSFWScore",
        "TechnicalScore",
        "--saved_path",
        "q.jsonl",
    )
    (row,) = read_rows(tmp_path / "q.jsonl")
    assert 0 <= row["nsfw_score"] <= 1 and "technical_score" in row and row["frame_rate"] == 24
