"""The sample video holds what its table says: shots of these lengths, cuts on these frames, this sound."""

from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from tools.sample_video import SAMPLE_RATE, SHOTS, get_pitch, get_truth, make_sample_video


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A small sample: its path, its frames, uint8 (T, 180, 320, 3), RGB, and its sound, float32 (samples,)."""
    path = tmp_path_factory.mktemp("sample") / "sample.mp4"
    make_sample_video(path, width=320, height=180)
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return path, frames, sound


def test_truth_of_the_whole_film():
    truth = get_truth()
    assert [start for start, _ in truth.spans] == [0, 96, 144, 240, 360, 444, 528, 792, 876]
    assert truth.spans[-1][1] == 40 * 24
    assert truth.dissolves == [(240, 264)]


def test_truth_at_a_fractional_frame_rate():
    truth = get_truth(SHOTS[:3], Fraction(30000, 1001))
    assert truth.spans == [(0, 120), (120, 180), (180, 300)]  # 4 s, 6 s and 10 s at 29.97 frames a second, rounded


def test_every_outcome_is_shown():
    outcomes = [shot.outcome for shot in SHOTS]
    assert {"split", "too short", "poor quality", "text", "still", "too fast"} < set(outcomes)
    assert outcomes.count("kept") >= 3


def test_file_is_as_promised(sample):
    path, frames, _ = sample
    assert [file.name for file in path.parent.iterdir()] == ["sample.mp4"]  # no part file stays
    assert frames.shape == (40 * 24, 180, 320, 3)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt, video.average_rate) == ("h264", "yuv420p", 24)
        assert video.codec_context.has_b_frames
        assert container.streams.audio[0].codec_context.name == "aac"


def test_neighbouring_frames_differ_at_cuts_only(sample):
    change = np.array([cv2.absdiff(before, frame).mean() for before, frame in pairwise(sample[1])])
    truth = get_truth()
    dissolving_in = {start for start, _ in truth.dissolves}
    cuts = [start - 1 for start, _ in truth.spans[1:] if start not in dissolving_in]
    shaken = np.zeros(len(change), bool)
    for shot, (start, stop) in zip(SHOTS, truth.spans, strict=True):
        shaken[start:stop] = shot.shake > 0
    assert change[cuts].min() > 40
    change[cuts] = 0
    assert change[~shaken].max() < 25
    assert change[shaken].max() < change[shaken].mean() * 3  # no jump stands out


def test_still_shot_is_still(sample):
    index = [shot.outcome for shot in SHOTS].index("still")
    start, stop = get_truth().spans[index]
    frames = sample[1][start:stop].astype(np.int16)
    assert np.abs(np.diff(frames, axis=0)).mean() < 0.5  # what the codec does


def test_pitch_changes_with_the_shot(sample):
    sound = sample[2]
    truth = get_truth()
    assert len(sound) == pytest.approx(40 * SAMPLE_RATE, abs=2048)
    for index, (start, stop) in enumerate(truth.spans):
        # One second from both ends of the shot, a twentieth of a second away from the cut.
        for begin in (start / 24 + 0.05, stop / 24 - 1.05):
            second = sound[int(begin * SAMPLE_RATE) :][:SAMPLE_RATE]
            loudest = np.abs(np.fft.rfft(second * np.hanning(SAMPLE_RATE))).argmax()  # bins of 1 Hz
            assert loudest == pytest.approx(get_pitch(index), abs=1)


def test_same_bytes_every_time(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        make_sample_video(tmp_path / name, width=320, height=180, shots=SHOTS[1:3])
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
