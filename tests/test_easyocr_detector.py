"""EasyOCR's detector through the product's own path on the CPU, with weights made here: random ones, and ones that see what is bright."""

import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from conftest import ROOT, write_video

import compute_text_score
from utils.errors import UsageError
from utils.rows import read_rows
from utils.scoring.easyocr_detector import EasyTextDetector, md5
from utils.scoring.text_area import text_area_share
from utils.video.sampling import FrameSampling

# EasyOCR and torch are imported where they are used: they take seconds, which no other file of tests shall pay.
if TYPE_CHECKING:
    from easyocr.craft import CRAFT

SIZE = (256, 128)


def bright_craft() -> "CRAFT":
    """CRAFT whose character map is the brightness at half the size: 1 for white, 0 for black; its map of gaps is 0."""
    from easyocr.craft import CRAFT
    from torch.nn import BatchNorm2d, Conv2d

    network = CRAFT()
    for parameter in network.parameters():
        parameter.data.zero_()
    for module in network.modules():
        if isinstance(module, BatchNorm2d):
            module.weight.data.fill_(1)
    first = network.basenet.slice1[0].weight.data
    first[0, :, 1, 1] = 1 / 7.32  # white is 2.25 + 2.43 + 2.64 after EasyOCR's normalisation; black is below 0
    for layer in (*network.basenet.slice1[1:], *network.upconv4.conv[1:], *network.conv_cls):
        if isinstance(layer, Conv2d):
            layer.weight.data[0, 0, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
    network.upconv4.conv[0].weight.data[0, 64] = 1  # 64 channels from above, then those of slice1
    return network


def save(network: "CRAFT", path: Path, **options) -> Path:
    """The weights as the real file has them: named as in a DataParallel."""
    import torch

    torch.save({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, path, **options)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The folder of a user's craft_mlt_25k.pth that sees what is bright."""
    folder = tmp_path_factory.mktemp("weights")
    save(bright_craft(), folder / "craft_mlt_25k.pth")
    return folder


@pytest.fixture(scope="module")
def detector(weights) -> EasyTextDetector:
    return EasyTextDetector(weights)


def bars(*boxes: tuple, size=SIZE) -> np.ndarray:
    """A black frame with white bars, each ((centre x, y), (width, height), angle)."""
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    for box in boxes:
        cv2.fillPoly(frame, [cv2.boxPoints(box).round().astype(int)], (255, 255, 255))
    return frame


@pytest.fixture(scope="module", autouse=True)
def patched():
    import easyocr_detection_patched

    return easyocr_detection_patched


@pytest.fixture(scope="module")
def unpatched():
    """EasyOCR's detection module as it is on disk."""
    import easyocr.detection

    spec = importlib.util.spec_from_file_location("easyocr.unpatched", easyocr.detection.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the quantisation that EasyOCR asks for
def test_the_patched_loader_gives_the_network_bare_and_easyocrs_own(tmp_path, unpatched):
    import easyocr.detection
    import torch
    from easyocr.craft import CRAFT

    torch.manual_seed(0)
    network = CRAFT().eval()
    network.basenet.slice1[1].running_mean.normal_()  # a buffer, not a parameter
    new, old = (
        save(network, tmp_path / name, _use_new_zipfile_serialization=zipped)
        for name, zipped in (("new.pth", True), ("old.pth", False))
    )
    networks = [easyocr.detection.get_detector(str(path)) for path in (new, old)]  # as EasyOCR's own reader calls it
    assert all(type(loaded) is CRAFT and not loaded.training for loaded in networks)
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = network(picture)
        for loaded in (*networks, unpatched.get_detector(str(new))):
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(loaded(picture), expected, strict=True))


def test_another_device_gets_the_whole_network_and_no_data_parallel(weights):
    import easyocr.detection
    from easyocr.craft import CRAFT

    network = easyocr.detection.get_detector(str(weights / "craft_mlt_25k.pth"), device="meta")
    assert type(network) is CRAFT
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}


def test_a_rank_takes_its_own_gpu(monkeypatch):
    import torch

    from utils.models.device import rank_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(rank_device()) == "cuda:1"
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert str(rank_device()) == "cuda:0"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(rank_device()) == "cpu"


def test_the_patch_may_be_applied_twice(capsys, patched):
    import easyocr.detection

    assert easyocr.detection.get_detector is patched.get_detector
    patched.patch()
    assert easyocr.detection.get_detector is patched.get_detector
    assert capsys.readouterr() == ("", "")


def test_another_version_is_a_sentence(monkeypatch, capsys, patched):
    import easyocr.detection

    monkeypatch.setattr(patched, "version", lambda name: "9.9")
    monkeypatch.setattr(easyocr.detection, "get_detector", lambda trained_model, device, quantize, cudnn_benchmark: 0)
    patched.patch()
    assert "written for EasyOCR 1.7.2 and finds 9.9" in capsys.readouterr().err
    monkeypatch.setattr(easyocr.detection, "get_detector", lambda folder: 0)
    with pytest.raises(UsageError, match=r"EasyOCR 9.9 loads its detector in another way than 1\.7\.2"):
        patched.patch()


def test_the_patch_explains_itself(monkeypatch, capsys, patched):
    monkeypatch.setattr(sys, "argv", ["easyocr_detection_patched.py"])
    patched.main()
    printed = capsys.readouterr().out
    assert "DataParallel" in printed and printed.endswith("EasyOCR 1.7.2 is installed, and the patch fits it.\n")


def test_level_and_rotated_boxes_both_count(detector):
    level, tilted = ((65, 30), (90, 18), 0), ((185, 75), (90, 18), 35)
    boxes = detector(bars(level, tilted))
    assert len(boxes) == 2
    for box, ((x, y), _, angle) in zip(boxes, (level, tilted)):
        (found_x, found_y), sides, found_angle = cv2.minAreaRect(box)
        assert abs(found_x - x) < 4 and abs(found_y - y) < 4
        assert 90 < max(sides) < 130 and 18 < min(sides) < 55  # EasyOCR grows the map's boxes and adds a margin
        assert min((found_angle - angle) % 90, (angle - found_angle) % 90) < 3
    alone = [text_area_share(detector(bars(bar)), SIZE) for bar in (level, tilted)]
    assert text_area_share(boxes, SIZE) == pytest.approx(sum(alone), rel=0.02)
    assert alone[1] > alone[0] > 90 * 18 / (256 * 128)


@pytest.mark.parametrize("angle", [15, 45, 60, 90])
def test_every_angle_reads_about_the_same_area(detector, angle):
    level, turned = (text_area_share(detector(bars(((128, 64), (90, 18), a))), SIZE) for a in (0, angle))
    assert 0.8 * level < turned < 2 * level


def test_boxes_are_clipped_to_the_frame_and_black_has_none(detector):
    assert text_area_share(detector(bars(((128, 64), (2000, 2000), 0))), SIZE) == 1
    assert detector(bars()).shape == (0, 4, 2)


def test_thresholds_reach_easyocr(weights):
    grey = bars(((128, 64), (90, 18), 0)) // 5 * 4  # a map of 0.69
    assert len(EasyTextDetector(weights, text_threshold=0.5)(grey)) == 1
    assert len(EasyTextDetector(weights, text_threshold=0.75)(grey)) == 0


def run_main(monkeypatch, *flags: object) -> None:
    monkeypatch.setattr(sys, "argv", ["compute_text_score.py", *map(str, flags)])
    compute_text_score.main()


@pytest.mark.release
def test_two_ranks_give_the_rows_of_one_process(tmp_path, monkeypatch, capsys, weights):

    (tmp_path / "clips").mkdir()
    for i in range(18):
        bar = bars(((48, 32), (36 + i, 10), 5 * i), size=(96, 64))
        write_video(tmp_path / "clips" / f"{i:02}.mp4", [bar] * 3)
    (tmp_path / "clips" / "x.mp4").write_text("no video")
    flags = ["--video_folder", tmp_path / "clips", "--text_detector", "easyocr", "--model_path", weights, "--n_jobs", 1]
    run_main(monkeypatch, *flags, "--saved_path", tmp_path / "one.jsonl")
    assert "19 rows in = 18 scored + 1 errors + 0 filtered" in capsys.readouterr().out
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ran = subprocess.run(
        [*launch, ROOT / "compute_text_score.py", *map(str, flags), "--saved_path", tmp_path / "two.jsonl"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = read_rows(tmp_path / "one.jsonl")
    assert read_rows(tmp_path / "two.jsonl") == rows and not list(tmp_path.glob("*.part-*"))
    assert all(row["text_boxes"] == 1 and 0.08 < row["text_score"] < 0.6 for row in rows)
    settings = json.loads((tmp_path / "two.settings.json").read_text())
    assert settings["detector"] == "EasyOCR 1.7.2" and settings["weights"] == md5(weights / "craft_mlt_25k.pth")[:8]
    assert settings["text_threshold"] == 0.7 and settings["canvas_size"] == 2560


def test_readers_hand_over_frames_no_larger_than_the_detector_sees(tmp_path):
    write_video(tmp_path / "wide.mp4", [bars(size=(640, 96))])
    write_video(tmp_path / "tall.mp4", [bars(size=(96, 640))])
    for name, shape in (("wide.mp4", (48, 320, 3)), ("tall.mp4", (320, 48, 3))):
        _, (frame,) = compute_text_score.read_frames(
            {"video_path": name}, str(tmp_path), FrameSampling("mid"), long_side=320
        )
        assert frame.shape == shape
    _, (frame,) = compute_text_score.read_frames(
        {"video_path": "wide.mp4"}, str(tmp_path), FrameSampling("mid"), long_side=2560
    )
    assert frame.shape == (96, 640, 3)


def test_a_text_file_and_another_networks_weights_are_refused(tmp_path):
    import torch

    path = tmp_path / "craft_mlt_25k.pth"
    for content in (b"no weights\n", b"", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(
            UsageError, match=r"craft_mlt_25k.pth: no file of weights; CRAFT's, craft_mlt_25k.pth, is expected"
        ):
            EasyTextDetector(tmp_path)
        assert path.read_bytes() == content
    for other in ({"module.conv.weight": torch.zeros(3)}, [torch.zeros(3)], {0: 1}):
        torch.save(other, path)
        with pytest.raises(UsageError, match="weights of another network"):
            EasyTextDetector(tmp_path)


def test_weights_that_would_run_code_are_refused(tmp_path):
    import torch

    class Stranger:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"module.x": Stranger()}, tmp_path / "craft_mlt_25k.pth")
    with pytest.raises(UsageError, match="no file of weights"):
        EasyTextDetector(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_no_weights_and_no_network_end_before_any_video_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("easyocr.config.MODULE_PATH", str(tmp_path / "EasyOCR"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    write_video(tmp_path / "clip.mp4", [bars(size=(192, 108))])
    flags = ["--video_folder", tmp_path, "--text_detector", "easyocr", "--saved_path", tmp_path / "text.jsonl"]
    with pytest.raises(UsageError) as stopped:
        run_main(monkeypatch, *flags)
    sentence = str(stopped.value)
    assert re.search(r"cannot be downloaded \(.*refused.*\): unpack https://\S+/craft_mlt_25k.zip and put", sentence)
    assert f"craft_mlt_25k.pth into {tmp_path}/EasyOCR/model, or give its path with --model_path" in sentence
    assert sentence.startswith("--text_detector easyocr: EasyOCR's detector is missing")
    assert "--text_detector rapidocr" in sentence and "\n" not in sentence
    assert not list(tmp_path.glob("text*")) and [p.name for p in (tmp_path / "EasyOCR" / "model").iterdir()] == [
        ".craft_mlt_25k.pth.lock"
    ]


def test_wrong_usage_ends_with_2(run_script, tmp_path):
    flags = ["--video_folder", tmp_path, "--text_detector", "easyocr", "--model_path", tmp_path / "nowhere"]
    (tmp_path / "clip.mp4").write_text("not read")
    error = run_script("compute_text_score.py", *flags, code=2).stderr
    assert re.fullmatch(
        r"compute_text_score.py: error: --model_path: .*/nowhere: expected a folder with craft_mlt_25k.pth, or the file itself, but this .*\n",
        error,
    )
    error = run_script("compute_text_score.py", "--video_folder", tmp_path, "--low_text", 0.3, code=2).stderr
    assert error == "compute_text_score.py: error: --low_text is a flag of --text_detector easyocr\n"
    assert not (tmp_path / "text_score.jsonl").exists()


def test_easyocrs_own_download_comes_whole_or_not_at_all(tmp_path, monkeypatch, weights, served):
    import easyocr.config

    served_folder, address = served
    monkeypatch.setattr("easyocr.config.MODULE_PATH", str(tmp_path / "EasyOCR"))
    with zipfile.ZipFile(served_folder / "x.zip", "w") as packed:
        packed.write(weights / "craft_mlt_25k.pth", "craft_mlt_25k.pth")
    known = {"url": f"{address}/x.zip", "md5sum": "another"}
    monkeypatch.setitem(easyocr.config.detection_models, "craft", known)
    with pytest.raises(UsageError, match="another MD5"):
        EasyTextDetector()
    file = tmp_path / "EasyOCR" / "model" / "craft_mlt_25k.pth"
    assert not file.exists()
    known["md5sum"] = md5(weights / "craft_mlt_25k.pth")
    assert len(EasyTextDetector()(bars(((128, 64), (90, 18), 0)))) == 1
    (served_folder / "x.zip").unlink()
    EasyTextDetector()  # not downloaded again
    file.write_text("damaged")
    with pytest.raises(UsageError, match=r"damaged, or another file .* remove it"):
        EasyTextDetector()
    assert file.read_text() == "damaged"
