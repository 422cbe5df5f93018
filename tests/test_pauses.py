"""Long shots are split in pauses of speech where the limits leave one."""

import numpy as np
import pytest
from conftest import read_indices, write_numbered
from speech import talk
from test_video_splitting import cut, x264

from compute_audio_score import read
from utils.cutting.pauses import border_costs, split_in_pauses
from utils.cutting.spans import ClipLimits, split_shot

RATE = 48_000
NO_ENTRIES = np.zeros(0, int)


def borders(seconds: float, fps: int = 25) -> np.ndarray:
    return np.arange(round(seconds * fps) + 1) / fps


def split(
    seconds: float, speech: list[tuple[float, float]], entries: np.ndarray = NO_ENTRIES, limits=(3, 10)
) -> list[float]:
    """Seconds at which a shot is parted; every frame is in a clip, and every clip within the limits."""
    shot = borders(seconds)
    spans = split_in_pauses(shot, speech, entries, *limits, parts=split_shot(shot, *limits, "even"))
    at = [first for first, _ in spans] + [spans[-1][1]]
    assert at[0] == 0 and at[-1] == len(shot) - 1 and [stop for _, stop in spans] == at[1:]
    lengths = np.diff(shot[at])
    assert lengths.min() >= limits[0] - 0.01 and lengths.max() <= limits[1] + 0.01
    return shot[at[1:-1]].tolist()


def test_a_shot_is_parted_in_the_middle_of_pauses():
    speech = [(0, 4), (4.6, 12), (12.4, 13), (14, 19), (19.4, 22)]
    parted = split(24, speech)
    assert set(parted) <= {4.3, 4.28, 4.32, 12.2, 13.5, 13.48, 13.52, 19.2} | {at for at in parted if at > 22.15}
    assert border_costs(np.array(parted), speech).max() == 0


def test_where_there_is_no_pause_it_is_parted_within_speech_and_no_more_often_than_needed():
    assert split(24, [(0, 24)]) == pytest.approx([8, 16], abs=0.1)
    assert split(18, [(0, 7), (7.5, 18)]) == pytest.approx(
        [9], abs=0.1
    )  # a second border, in the pause, would save no word
    assert split(19, [(0, 19)]) == pytest.approx([9.5], abs=0.1)


def test_of_the_places_in_a_pause_one_that_can_be_copied_from_is_taken():
    entries = np.arange(0, 24 * 25, 31)  # IDR frames, each 1.24 s
    parted = split(24, [(0, 6), (10, 14), (18, 24)], entries)
    assert {round(at * 25) for at in parted} <= set(entries.tolist()) and border_costs(
        np.array(parted), [(0, 6), (10, 14), (18, 24)]
    ).max() == 0


def test_without_speech_or_where_it_does_not_fit_it_is_split_as_else():
    shot = borders(25)
    for speech, limits in (([], (3, 10)), ([(0, 25)], (9, 10))):
        parts = split_shot(shot, *limits, "even")
        assert split_in_pauses(shot, speech, NO_ENTRIES, *limits, parts=parts) == parts
    short = borders(9)
    assert split_in_pauses(short, [(1, 3), (5, 8)], NO_ENTRIES, 3, 10, parts=[(0, 225)]) == [(0, 225)]


@pytest.mark.parametrize("encoder, long_shots", [("libx264", "even"), ("smart", "keyframe")])
def test_clips_of_a_talk_end_in_its_pauses(encoder, long_shots, tmp_path):
    """A shot of a talk: split by length alone a word is cut; with the choice, every inner edge is in a pause, and the score hears none."""
    sound, spoken = talk((1.6, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7))
    count = int(len(sound) / RATE * 24)
    path = write_numbered(tmp_path / "talk.mp4", count, sound=sound, **x264("keyint=30"))
    choices = {"min_seconds": 3, "max_seconds": 7, "long_shots": long_shots}
    cut_words = {}
    for prefer in (False, True):
        out = tmp_path / str(prefer)
        rows = cut(path, [(0, count)], out, encoder, prefer_pauses=prefer, **choices)
        inner = [row["start_seconds"] for row in rows[1:]]
        cut_words[prefer] = [at for at in inner if any(start - 0.05 < at < stop + 0.05 for start, stop in spoken)]
        if prefer:
            assert [index for row in rows for index in read_indices(out / row["video_path"])] == list(range(count))
            scored = [read(row, str(out)) for row in rows]
            assert not any(row["speech_at_start"] or row["speech_at_end"] for row in scored)
    assert cut_words[False] and not cut_words[True]


def test_the_choice_is_no_setting_where_it_is_off():
    """A list that was begun before there was one goes on."""
    assert "prefer_pauses" not in ClipLimits().settings
    assert ClipLimits(prefer_pauses=True).settings["prefer_pauses"] is True
