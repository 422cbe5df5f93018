"""cut_inside of compute_motion_score.py: which clips the network is asked about, and what it says of them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, write_video
from test_transition_detector import dissolve, small
from test_transition_detector import shot as picture

import compute_motion_score
from compute_motion_score import motion_columns
from utils.cutting.detectors import network as one_network
from utils.rows import read_rows, write_rows

STAGE_1 = {"source_path": "film.mp4", "source_digest": "0123456789abcdef", "start_seconds": 3.0}
CHOICES = {"video_folder": None, "estimator": "dis", "short_side": 256, "sampling_fps": 2}


@pytest.fixture(scope="module")
def network():
    return one_network()


def with_dissolve() -> np.ndarray:
    return dissolve(picture(2, pan=-2), picture(3, count=62, pan=3), 12)


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    """130 frames: a cut at 40, a dissolve of 12 frames up to 80."""
    return np.stack([small(frame) for frame in np.concatenate([picture(1), with_dissolve()])])


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    """A dissolve of 40 frames, which the flow does not see."""
    frames = dissolve(picture(2, count=70, pan=-1), picture(3, count=70, pan=1), 40)[..., ::-1]
    return str(write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", frames))


def value(frames, network) -> float:
    from utils.cutting.cut_inside import CutInside

    cut = CutInside(network)
    for frame in frames:
        cut.add(frame)
    return cut.value()


def test_the_network_sees_a_cut_and_a_dissolve(network, film):
    assert value(film, network) > 0.5
    assert value(film[50:], network) > 0.5  # the dissolve
    assert value(film[:40], network) < 0.5
    assert value(film[:1], network) == value(film[:0], network) == 0.0


@pytest.mark.parametrize("length", [49, 50, 51])
def test_a_cut_between_two_windows(network, length):
    shots = [picture(1, length), picture(2, 40)]
    assert value([small(frame) for frame in np.concatenate(shots)], network) > 0.5


def test_a_flash_is_no_cut(network):
    frames = picture(1, 80)
    frames[40:42] = np.minimum(frames[40:42].astype(int) * 2 + 60, 255)
    assert value([small(frame) for frame in frames], network) < 0.5


def test_what_passes_close_by_is_no_cut(network):
    frames, thing = picture(1, 80), picture(2, 1)[0]
    for t in range(6):
        frames[40 + t, :, 16 * t : 16 * t + 150] = thing[:, :150]
    assert value([small(frame) for frame in frames], network) < 0.5


def test_a_video_of_minutes_takes_no_more_memory(network, film):
    from utils.cutting.cut_inside import CutInside

    cut = CutInside(network)
    for frame in [*film[:40].repeat(4, 0), *film[40:]]:
        cut.add(frame)
        assert len(cut._frames) < 100
    assert cut.value() > 0.5


@pytest.mark.parametrize("doubt, is_asked", [(0.0, True), (2.0, False)])
def test_where_flow_is_in_doubt_the_network_alone_decides(clip, monkeypatch, doubt, is_asked):
    monkeypatch.setattr(compute_motion_score, "DOUBT", doubt)
    own = {"video_path": clip, **STAGE_1}
    flow, asked = (motion_columns(own, **CHOICES, cut_inside=way)["cut_inside"] for way in ("flow", "ask"))
    assert asked == (compute_motion_score.cut_by_network(clip) if is_asked else flow)
    assert (asked > 0.5) == is_asked


def test_the_network_is_asked_about_clips_of_another_origin(clip):
    flow, auto, network = (
        motion_columns({"video_path": clip}, **CHOICES, cut_inside=way) for way in ("flow", "auto", "network")
    )
    assert flow["cut_inside"] < 0.5 < auto["cut_inside"] <= 1 and auto == network
    assert {**auto, "cut_inside": 0} == {**flow, "cut_inside": 0}
    own = {"video_path": clip, **STAGE_1}
    assert motion_columns(own, **CHOICES, cut_inside="auto") == flow
    assert motion_columns(own, **CHOICES, cut_inside="network") == network


def test_torch_is_not_loaded_for_the_clips_of_stage_1(clip):
    code = (
        "import sys; from compute_motion_score import motion_columns; "
        f"motion_columns({ {'video_path': clip} | STAGE_1!r}, **{CHOICES!r}, cut_inside='auto'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_a_dataset_goes_on_as_it_was_begun(run_script, tmp_path, clip):
    flags = ("--video_metadata_path", tmp_path / "clips.jsonl", "--saved_path", tmp_path / "motion.jsonl")
    settings = tmp_path / "motion.settings.json"
    write_rows(tmp_path / "clips.jsonl", [{"video_path": clip}])
    run_script("compute_motion_score.py", *flags, "--cut_inside", "flow", "--n_jobs", 1)
    assert "cut_inside" not in json.loads(settings.read_text())  # as in files made before there was a choice
    printed = run_script("compute_motion_score.py", *flags, "--n_jobs", 1).stdout
    assert ", 0 due" in printed
    run_script("compute_motion_score.py", *flags, "--overwrite", "--n_jobs", 1)
    assert json.loads(settings.read_text())["cut_inside"] == "ask"
    (row,) = read_rows(tmp_path / "motion.jsonl")
    assert row["cut_inside"] > 0.5
    assert ", 0 due" in run_script("compute_motion_score.py", *flags, "--n_jobs", 1).stdout


def test_farneback_knows_no_cut_inside(monkeypatch, capsys):
    flags = ["--video_folder", "clips", "--motion_estimator", "farneback", "--cut_inside", "network"]
    monkeypatch.setattr(sys, "argv", ["compute_motion_score.py", *flags])
    with pytest.raises(SystemExit, match="2"):
        compute_motion_score.main()
    assert "farneback gives no cut_inside" in capsys.readouterr().err
