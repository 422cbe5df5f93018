"""Films made here, judged with the network's scores of all frames by fitted numbers; the numbers; and the scores in bounded memory."""

import numpy as np
import pytest
from scenedetect import FrameTimecode
from test_joined_detector import Scripted, detect, mark
from test_transition_detector import dissolve, small
from test_transition_detector import shot as picture

from tools.fit_cuts import BOUNDS, cross_validate, fit, is_true
from utils.cutting import fitted_detector
from utils.cutting.cut_judge import fitted, probability
from utils.cutting.fitted_detector import STREAM, FittedDetector
from utils.cutting.frame_ring import RING
from utils.cutting.score_stream import ScoreStream


@pytest.fixture(scope="module")
def network():
    from utils.cutting.transnetv2 import TransNetV2

    return TransNetV2(fast=True)


def recoloured(frames: np.ndarray) -> np.ndarray:
    """The frames in colours of their own, as those of another place are."""
    return frames // 2 + np.array([110, 60, 0], np.uint8)


def test_cuts_and_a_dissolve(network):
    second = dissolve(picture(2, 60), recoloured(picture(3, 60, pan=-1)), 20)
    cuts, spans = detect(FittedDetector(lambda: network), np.concatenate([picture(1), second, picture(4)]))
    assert [cuts[0], cuts[2]] == [40, 140] and 80 <= cuts[1] <= 100
    assert len(spans) == 1 and abs(spans[0][0] - 80) <= 3 and abs(spans[0][1] - 100) <= 3


def test_light_flashes_and_lost_frames_are_no_cuts(network):
    frames = picture(1, 200).astype(float)
    frames[50:] *= 0.7  # the camera corrects its exposure at once
    frames[90:92] += 150  # a flash
    frames[130:134] = frames[130]  # the recording stalls
    assert detect(FittedDetector(lambda: network), np.clip(frames, 0, 255).astype(np.uint8)) == ([], [])


def test_what_only_the_network_sees_is_no_cut_of_a_calm_film():
    assert detect(FittedDetector(Scripted), mark(picture(1, 300), 150, 151)) == ([], [])


def test_a_span_grows_to_the_frames_that_the_network_marks():
    frames = np.concatenate([picture(1, 100), dissolve(picture(2, 90), recoloured(picture(3, 300, pan=-1)), 24)])
    cuts, spans = detect(FittedDetector(Scripted), mark(frames, 160, 196))
    assert cuts[0] == 100 and len(cuts) == 2 and spans == [(160, 196)]


def test_an_empty_film_and_one_of_one_frame():
    detector = FittedDetector(Scripted)
    assert detector.post_process(FrameTimecode(0, 24.0)) == []
    assert detect(FittedDetector(Scripted), picture(1, 1)) == ([], [])


def test_windows_are_bounded_and_memory_is_flat():
    network = Scripted()
    detector, shots = FittedDetector(lambda: network), [picture(n, 12, pan=4.0) for n in range(8)]
    for t in range(1200):
        detector.process_frame(FrameTimecode(t, 24.0), shots[t // 12 % 8][t % 12])
    assert set(network.windows) == {STREAM}
    assert len(detector._frames) < RING + STREAM + 30 and len(detector._cuts) < 30 and len(detector._spans) < 10
    assert sum(frame.image.size > 0 for frame in detector._frames) < STREAM + 60


@pytest.mark.parametrize("count", [1, 30, 151, 400])
def test_each_frame_has_its_score_whatever_the_windows(count):
    marked = mark(picture(1, count), count // 2, count)
    frames = np.stack([small(frame) for frame in marked])
    stream = ScoreStream(Scripted(), STREAM)
    scores = np.concatenate([*(stream.add(frame) for frame in frames), stream.end()])
    assert scores.shape == (count, 2) and (scores[:, 0] == (np.arange(count) >= count // 2)).all()


def test_there_is_a_number_for_each_measure(monkeypatch):
    measured = {}

    def record(kind, evidence):
        measured[kind] = set(evidence)
        assert all(np.isfinite(value) for value in evidence.values())
        return 0.0

    monkeypatch.setattr(fitted_detector, "probability", record)
    frames = np.concatenate([picture(1), dissolve(picture(2, 60, 0.3), recoloured(picture(3, 60, 0.3)), 20)])
    detect(FittedDetector(Scripted), frames)
    assert measured == {kind: set(fitted()[kind]["weights"]) for kind in ("cut", "span")}


def test_the_numbers_have_the_signs_that_their_measures_mean():
    for kind, bounds in BOUNDS.items():
        for name, (low, high) in bounds.items():
            weight = fitted()[kind]["weights"][name]
            assert (low is None or weight >= low - 1e-3) and (high is None or weight <= high + 1e-3)
    seen = [probability("cut", {**dict.fromkeys(BOUNDS["cut"], 0.3), "seen": odds}) for odds in (-6, 0, 6)]
    assert 0 < seen[0] < seen[1] < seen[2] < 1


LABEL = {"cuts": [100], "gradual": [{"type": "dissolve", "start": 200, "end": 230}]}


def test_what_is_a_true_candidate():
    assert is_true("cut", 100, 100, LABEL) is True
    assert is_true("cut", 50, 50, LABEL) is False
    assert is_true("cut", 101, 101, LABEL) is None and is_true("cut", 215, 215, LABEL) is None
    assert is_true("span", 202, 228, LABEL) is True and is_true("span", 30, 60, LABEL) is False
    assert is_true("span", 90, 110, LABEL) is False  # the hard cut explains it
    assert is_true("span", 228, 250, LABEL) is None
    clean = {"cuts": [], "gradual": [], "clean": [[10, 90]]}
    assert is_true("cut", 50, 50, clean) is False and is_true("cut", 95, 95, clean) is None


def test_a_fit_tells_cuts_from_others_in_films_that_it_has_not_seen():
    dice, rows = np.random.default_rng(0), []
    for n in range(32):
        candidates = [
            [
                "cut",
                at,
                at,
                {name: dice.normal(0, 0.1) + 0.8 * (name == "structure lost") * (at == 100) for name in BOUNDS["cut"]},
            ]
            for at in (20, 100, 180)
        ]
        film = f"film_{n}.mp4" if n % 2 else None
        rows.append(
            {"film": film, "composed": f"cut {n}", "label": {"cuts": [100], "gradual": []}, "candidates": candidates}
        )
    weights = fit(rows, "cut")["weights"]
    assert weights["structure lost"] > 1 and weights["seen"] >= 0.3 and weights["in place"] <= 0
    assert cross_validate(rows, "cut") == ["cut", "16", "0", "0", "16", "0", "0"]
