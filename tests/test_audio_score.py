"""What is measured of a clip's audio: levels of tones that are known, speech that eSpeak NG has spoken and that is cut at known places."""

import json

import numpy as np
import pytest
from conftest import numbered_frame, write_video
from speech import speak, talk

import compute_audio_score
from compute_audio_score import audio_columns, read
from utils.models.voice import RATE as VOICE_RATE
from utils.models.voice import VoiceDetector, speech_spans
from utils.rows import read_rows
from utils.scoring.audio_levels import clipping_share, loudness, silent_share

RATE = 48_000


def tone(level: float, seconds: float = 4, hertz: float = 997, rate: int = RATE) -> np.ndarray:
    """A sine whose peaks are `level` dB of full scale, float32 (samples,)."""
    return (10 ** (level / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def clip(path, sound, seconds: float = 4, **options):
    return write_video(path, (numbered_frame(i) for i in range(round(24 * seconds))), sound=sound, **options)


@pytest.mark.parametrize("level", [-12, -23, -40])
@pytest.mark.parametrize("layout, below", [("stereo", 0), ("mono", 3.01)])
@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_the_loudness_of_a_tone_is_known(level, layout, below, rate, tmp_path):
    """BS.1770-4: a sine near 1 kHz in both channels of stereo has as many LUFS as its peaks have dB of full scale; in one channel 3.01 less."""
    clip(tmp_path / "a.mp4", tone(level, rate=rate), layout=layout, sound_rate=rate)
    row = read({"video_path": "a.mp4"}, str(tmp_path))
    assert row["loudness"] == pytest.approx(level - below, abs=0.5)
    assert (row["has_audio"], row["channels"], row["sample_rate"]) == (True, 1 + (layout == "stereo"), rate)
    assert row["silent_share"] == 0 and row["clipping_share"] == 0 and row["speech_share"] == 0


def test_silence_is_gated_and_counted(tmp_path):
    """Half of the clip is silent: its loudness is that of the other half. Audio that ends early is followed by silence."""
    clip(tmp_path / "a.mp4", np.concatenate([tone(-20, 2), np.zeros(2 * RATE, np.float32)]), layout="stereo")
    clip(tmp_path / "b.mp4", tone(-20, 1), layout="stereo")
    half, quarter = (read({"video_path": name}, str(tmp_path)) for name in ("a.mp4", "b.mp4"))
    assert half["loudness"] == pytest.approx(-20, abs=0.5) and half["silent_share"] == pytest.approx(0.5, abs=0.02)
    assert quarter["silent_share"] == pytest.approx(0.75, abs=0.02)
    left_only = np.stack([tone(-20), np.zeros(4 * RATE, np.float32)])
    assert silent_share(left_only, RATE) == 0
    assert loudness(left_only, RATE) == pytest.approx(-23.01, abs=0.1)
    assert silent_share(tone(-55)[None], RATE) == 0 and silent_share(tone(-60)[None], RATE) == 1
    assert loudness(np.zeros((2, RATE), np.float32), RATE) == -70 and loudness(tone(-20, 0.2)[None], RATE) > -24


def test_clipped_samples_are_counted(tmp_path):
    """A sine of twice full scale is cut off for two thirds of the time; in one of two channels, that channel counts."""
    cut_off = np.clip(tone(6.02), -1, 1)
    assert clipping_share(cut_off[None]) == pytest.approx(2 / 3, abs=0.05)
    assert clipping_share(np.stack([tone(-1), cut_off])) == pytest.approx(2 / 3, abs=0.05)
    assert clipping_share(tone(-1)[None]) == 0
    clip(tmp_path / "a.mp4", cut_off)
    clip(tmp_path / "b.mp4", tone(-1))
    assert read({"video_path": "a.mp4"}, str(tmp_path))["clipping_share"] > 0.1  # AAC lowers what it leaves of the tops
    assert read({"video_path": "b.mp4"}, str(tmp_path))["clipping_share"] < 0.01  # but for the first attack


def test_speech_is_found_where_it_is():
    sound, spoken = talk((0.8, 0.7, 1.2, 0.9), VOICE_RATE)
    found = VoiceDetector().speech(sound)
    share = sum(stop - start for start, stop in found) / sum(stop - start for start, stop in spoken)
    assert 0.85 < share < 1.1
    for (start, stop), name in zip(spoken, ("first", "second", "third")):
        inside = [span for span in found if span[1] > start and span[0] < stop]
        assert inside[0][0] == pytest.approx(start, abs=0.15) and inside[-1][1] == pytest.approx(stop, abs=0.25), name
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * VOICE_RATE).astype(np.float32)
    for other in (noise, tone(-12, rate=VOICE_RATE), np.zeros(VOICE_RATE, np.float32), np.zeros(0, np.float32)):
        assert VoiceDetector().speech(other) == []


def test_short_speech_counts_at_an_edge_alone():
    """Windows of 32 ms: pauses below 0.1 s do not end speech; what is shorter than 0.25 s is none, unless it goes on outside."""
    of = {"s": 0.9, ".": 0.1, "?": 0.4}
    spans = {text: speech_spans(np.array([of[letter] for letter in text]), len(text) * 0.032) for text in (
        "..ssssssssss..........", "....sss...........", "..........sss", "ss...........", "....ssssss..sssss....", "....sssssss????????....", "")}  # fmt: skip
    in_windows = [[(round(a / 0.032), round(b / 0.032)) for a, b in found] for found in spans.values()]
    assert in_windows == [[(2, 12)], [], [(10, 13)], [(0, 2)], [(4, 17)], [(4, 19)], []]


def test_a_clip_that_begins_or_ends_within_a_word_is_told():
    """Speech that is cut at many places: in the midst of words both sides are told, in pauses neither."""
    sound, spoken = talk((3, 0.8, 0.8, 3))
    power = np.convolve(sound**2, np.ones(2400) / 2400, "same") ** 0.5
    wrong, count = [], 0
    for at in np.arange(3, len(sound) / RATE - 3, 0.05):
        here = round(at * RATE)
        if power[here - 2400 : here + 2400].min() > 0.03:
            wanted = 1
        elif all(at < start - 0.2 or at > stop + 0.3 for start, stop in spoken):
            wanted = 0
        else:
            continue  # at the edge of a word
        before, after = sound[here - 3 * RATE : here], sound[here : here + 3 * RATE]
        count += 1
        told = audio_columns(before[None], RATE)["speech_at_end"], audio_columns(after[None], RATE)["speech_at_start"]
        wrong += [(round(at, 2), wanted, told)] if told != (wanted, wanted) else []
    assert count > 40 and len(wrong) <= 0.05 * count, wrong


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    spoken = speak("The quick brown fox jumps over the lazy dog, and she sells sea shells by the sea shore.")
    assert len(spoken) > 4.4 * RATE
    pause = np.zeros(RATE // 2, np.float32)
    whole, spans = talk((0.5, 0.6))
    clip(folder / "cut.mp4", spoken[RATE // 4 : RATE // 4 + 4 * RATE])
    clip(folder / "whole.mp4", whole, len(whole) / RATE)
    clip(folder / "tone.mp4", np.concatenate([pause, tone(-20, 3), pause]))
    clip(folder / "silent.mp4", np.zeros(4 * RATE, np.float32))
    clip(folder / "none.mp4", None)
    return folder, (spans[0][1] - spans[0][0]) / (len(whole) / RATE)


def test_the_script_scores_and_the_filter_drops(clips, run_main, run_script, tmp_path, capsys):
    folder, share = clips
    run_main(compute_audio_score, "--video_folder", folder, "--saved_path", "audio.jsonl", "--n_jobs", 1)
    rows = {row["video_path"].removesuffix(".mp4"): row for row in read_rows(tmp_path / "audio.jsonl")}
    assert len(rows) == 5 and "5 rows in = 5 scored" in capsys.readouterr().out
    assert {name: (row["speech_at_start"], row["speech_at_end"]) for name, row in rows.items()} == {
        "cut": (1, 1), "whole": (0, 0), "tone": (0, 0), "silent": (0, 0), "none": (0, 0),
    }  # fmt: skip
    assert rows["whole"]["speech_share"] == pytest.approx(share, abs=0.1) and rows["cut"]["speech_share"] > 0.8
    assert rows["tone"]["speech_share"] == 0 and rows["silent"]["loudness"] == rows["none"]["loudness"] == -70
    assert [rows[name]["has_audio"] for name in ("none", "silent")] == [False, True]
    assert rows["none"]["silent_share"] == 1 and rows["none"]["channels"] == rows["none"]["sample_rate"] == 0
    (tmp_path / "clips.jsonl").write_text(
        "".join(json.dumps({"video_path": f"{name}.mp4", "duration": 4}) + "\n" for name in rows)
    )
    bounds = (("loudness", -40, "none"), ("speech_at_start", "none", 0), ("speech_at_end", "none", 0))
    filters = [word for column, *limits in bounds for word in ("--filter", "audio.jsonl", column, *limits)]
    run_script(
        "filter_videos_by_motion_score.py",
        "--video_metadata_path",
        "clips.jsonl",
        "--saved_path",
        "train.jsonl",
        *filters,
    )
    assert {row["video_path"] for row in read_rows(tmp_path / "train.jsonl")} == {"whole.mp4", "tone.mp4"}
