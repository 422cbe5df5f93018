"""Scores by CLIP and SigLIP, on tiny models of the same architecture that are made here and loaded as a user's own files."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, write_video
from skimage import data

import compute_video_frame_quality
from compute_video_frame_quality import SCORE, lowest_neighbour_cosine, read_clip
from utils.errors import UsageError, VideoError
from utils.models.image_transform import ImageTransform
from utils.models.weights import from_address, read_tensors
from utils.rows import read_rows
from utils.video.geometry import frame_to_array
from utils.video.sampling import FrameSampling, choose_frames, keyframe_indices, sample_frames

SCRIPT = "compute_video_frame_quality.py"
REAL_WEIGHTS = ROOT.parent / "shared" / "weights"
PREDICTOR = "sac+logos+ava1-l14-linearMSE.pth"
CPU = "cpu"


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    """A folder as open_clip saves it: ViT-L/14's architecture and width of embedding, but narrow, with random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 56, "layers": 2, "width": 64, "patch_size": 14}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    config = {"embed_dim": 768, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def clip(clip_folder):
    import torch

    from utils.models.clip import ClipModel, clip_weights

    return ClipModel(clip_weights(str(clip_folder)), None, torch.device(CPU))


@pytest.fixture(scope="module")
def predictor_file(tmp_path_factory) -> Path:
    """A predictor with random weights under the real one's keys."""
    import torch

    torch.manual_seed(1)
    sizes = [768, 1024, 128, 64, 16, 1]
    tensors = {}
    for place, (before, after) in zip((0, 2, 4, 6, 7), zip(sizes, sizes[1:])):
        tensors |= {
            f"layers.{place}.weight": torch.randn(after, before) / 9,
            f"layers.{place}.bias": torch.randn(after),
        }
    path = tmp_path_factory.mktemp("predictor") / PREDICTOR
    torch.save(tensors, path)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Clips that pan over a photograph, one with a cut inside, one of 239 frames; text.mp4 is no video, mute.mp4 has no caption."""
    folder = tmp_path_factory.mktemp("clips")

    def view(photo: np.ndarray, i: int) -> np.ndarray:
        return cv2.getRectSubPix(photo, (160, 96), (120 + i / 8, 100))

    coffee, cat = (cv2.resize(photo, (320, 200)) for photo in (data.coffee(), data.chelsea()))
    write_video(folder / "whole.mp4", (view(cat, i) for i in range(48)), keyframes=[24])
    no_more_keyframes = {"g": "99", "sc_threshold": "0"}
    write_video(folder / "cut.mp4", (view(cat if i < 24 else coffee, i) for i in range(48)), options=no_more_keyframes)
    write_video(folder / "long.mp4", (view(coffee, i) for i in range(239)), options={"g": "20"})
    write_video(folder / "mute.mp4", (view(coffee, i) for i in range(9)))
    (folder / "text.mp4").write_text("no video")
    rows = [
        {"video_path": f"{name}.mp4", "summary_caption": f"A {name} picture."}
        for name in ("whole", "cut", "long", "text")
    ]
    rows.append({"video_path": "mute.mp4", "summary_caption": ""})
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def scored(clips, clip_folder, predictor_file):
    """The flags of a run with every metric that shares CLIP, and the rows that one process wrote."""
    flags = [
        "--video_folder", clips, "--video_metadata_path", clips / "clips.jsonl", "--model_path", clip_folder,
        "--predictor_path", predictor_file, "--metrics", "AestheticScore", "CLIPScore", "SemanticConsistency", "TechnicalScore",
        "--batch_size", 8, "--n_jobs", 1,
    ]  # fmt: skip
    saved = clips / "aesthetic_score.jsonl"
    command = [sys.executable, ROOT / SCRIPT, *flags, "--saved_path", clips / "{column}.jsonl"]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "5 rows in = 3 scored + 2 errors + 0 filtered -> " in ran.stdout
    return flags, {row["video_path"]: row for row in read_rows(saved)}, saved.with_suffix(".errors.jsonl")


@pytest.mark.parametrize("size", [(96, 160), (213, 91), (56, 56), (40, 33), (1080, 1919)])
def test_embeddings_equal_those_of_open_clips_own_preprocessing(clip, clip_folder, size):
    import open_clip
    import torch
    from PIL import Image

    _, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    frame = cv2.resize(data.coffee(), size[::-1], interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        theirs = clip.model.encode_image(preprocess(Image.fromarray(frame))[None], normalize=True).numpy()
    ours = clip.embed_frames(clip.transform(frame)[None])
    assert ours.shape == (1, 768) and np.abs(ours - theirs).max() < 1e-6 and np.linalg.norm(ours) == pytest.approx(1)


def test_texts_are_embedded_as_open_clip_does(clip):
    import open_clip

    texts = ["a cup of coffee", "une tasse " * 90]
    theirs = clip.model.encode_text(open_clip.tokenize(texts), normalize=True).detach().numpy()
    assert np.abs(clip.embed_texts(texts) - theirs).max() < 1e-6


def test_frames_looked_at(clips):
    assert choose_frames("uniform", 4, 239) == [0, 59, 119, 179]
    keyframes = keyframe_indices(str(clips / "long.mp4"))
    assert keyframes == list(range(0, 239, 20))
    assert choose_frames("keyframe", 4, 239, keyframes) == [0, 60, 120, 180]
    assert choose_frames("keyframe", 20, 239, keyframes) == keyframes
    assert choose_frames("keyframe", 4, 48, keyframe_indices(str(clips / "whole.mp4"))) == [0, 24]


def test_the_columns_are_what_the_models_give(scored, clips, clip, predictor_file):
    from utils.models.predictors import load_laion_predictor

    _, rows, _ = scored
    assert list(rows) == ["whole.mp4", "cut.mp4", "long.mp4"] and rows["long.mp4"]["sample_frame_idx"] == [
        0,
        59,
        119,
        179,
    ]
    predictor = load_laion_predictor(predictor_file)
    for name, row in rows.items():
        _, _, frames = sample_frames(str(clips / name), lambda count: choose_frames("uniform", 4, count))
        seen = clip.embed_frames(np.stack([clip.transform(frame_to_array(frame, "rgb24")) for frame in frames]))
        text = clip.embed_texts([f"A {name[:-4]} picture."])[0]
        assert row["aesthetic_score"] == pytest.approx(predictor.scores(seen), abs=2e-4)
        assert row["clip_score"] == pytest.approx((seen @ text).mean(), abs=2e-4)
        assert row["semantic_consistency"] == pytest.approx(min(a @ b for a, b in zip(seen, seen[1:])), abs=2e-4)
        assert 0 < row["technical_score"] < 10
        assert set(row) - {"video_path", "caption_made_from", "made_from"} <= set(SCORE.columns)
        for column in ("clip_score", "semantic_consistency"):
            assert SCORE.columns[column].low <= row[column] <= SCORE.columns[column].high


def test_a_cut_inside_lowers_the_consistency(scored):
    _, rows, _ = scored
    consistency = {name: row["semantic_consistency"] for name, row in rows.items()}
    assert 1 - consistency["cut.mp4"] > 5 * (1 - consistency["whole.mp4"])  # a random CLIP finds all pictures alike
    assert lowest_neighbour_cosine(np.eye(3)[[0, 0, 1, 1]]) == 0 and lowest_neighbour_cosine(np.eye(3)[[0]]) == 1


def test_one_keyframe_of_a_clip_says_nothing_of_its_consistency(clips):
    row = {"video_path": "cut.mp4"}
    flags = {"video_folder": clips, "sampling": FrameSampling("keyframe", 4), "transforms": {}, "caption": ""}
    assert read_clip(row, metrics=["AestheticScore"], **flags)["sample_frame_idx"] == [0]
    with pytest.raises(VideoError, match="has only one keyframe"):
        read_clip(row, metrics=["SemanticConsistency"], **flags)


def test_what_cannot_be_scored_is_an_error_row(scored):
    _, _, errors = scored
    messages = {row["video_path"]: row["message"] for row in read_rows(errors)}
    assert (
        set(messages) == {"text.mp4", "mute.mp4"} and "no text in the column 'summary_caption'" in messages["mute.mp4"]
    )


@pytest.mark.release
def test_two_ranks_give_the_rows_of_one_process(scored, tmp_path):
    flags, rows, _ = scored
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command = [*torchrun, ROOT / SCRIPT, *flags, "--saved_path", tmp_path / "scores.jsonl"]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    again = read_rows(tmp_path / "scores.jsonl")
    assert [row["video_path"] for row in again] == list(rows)
    for row in again:
        one = rows[row["video_path"]]
        assert list(row) == list(one) and row["sample_frame_idx"] == one["sample_frame_idx"]
        for column in ("aesthetic_score", "clip_score", "semantic_consistency", "technical_score"):
            assert row[column] == pytest.approx(one[column], abs=2e-4)


def test_without_a_network_one_sentence_says_what_is_wanted(run_script, clips, tmp_path):
    nowhere = {"HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9", "XDG_CACHE_HOME": str(tmp_path)}
    ran = run_script(SCRIPT, "--video_folder", clips, "--metrics", "AestheticScore", code=2, **nowhere)
    assert (
        len(ran.stderr.strip().splitlines()) == 1
        and all("files ignored" in line for line in ran.stdout.splitlines())
        and not (tmp_path / "aesthetic_score.jsonl").exists()
    )
    for word in ("open_clip_model.safetensors", "http://127.0.0.1:9/timm/", "--model_path", "HF_ENDPOINT"):
        assert word in ran.stderr


def test_a_bare_file_is_fetched_once_and_its_sha256_checked(tmp_path, monkeypatch, served):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, address = served
    (folder / "a+b.pth").write_bytes(b"weights")
    address += "/a%2Bb.pth"
    right = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(UsageError, match=f"returned a different file .*{'0' * 64}.*{right}.* give the path"):
        from_address(address, "0" * 64, "the predictor")
    assert list((tmp_path / "cache" / "reelset").iterdir()) == []
    path = from_address(address, right, "the predictor")
    assert path.name == "a+b.pth" and path.read_bytes() == b"weights" and len(list(path.parent.iterdir())) == 1
    (folder / "a+b.pth").unlink()
    assert from_address(address, right, "the predictor") == path
    path.unlink()
    for url, reason in ((address, "404"), ("http://127.0.0.1:9/x.pth", "refused")):
        with pytest.raises(
            UsageError, match=f"the predictor is needed, but .* cannot be reached .*{reason}.* give the path"
        ):
            from_address(url, right, "the predictor")


def test_what_is_no_weights_is_said_in_a_sentence(clip_folder, predictor_file, tmp_path):
    import torch

    from utils.models.clip import ClipModel, clip_weights
    from utils.models.predictors import load_laion_predictor

    (tmp_path / "weights.safetensors").write_text("not weights")
    (tmp_path / "weights.pt").write_text("not weights")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pt")  # a whole module: loading it could run anything
    for name, told in {
        "weights.safetensors": "no weights that can be loaded safely",
        "weights.pt": "no weights that can be loaded safely",
        "pickled.pt": "no weights that can be loaded safely",
        "list.pt": "holds no named tensors",
    }.items():
        with pytest.raises(UsageError, match=f"{name}: .*{told}"):
            read_tensors(tmp_path / name)
    with pytest.raises(UsageError, match="weights of another model"):
        load_laion_predictor(clip_folder / "open_clip_model.safetensors")
    with pytest.raises(UsageError, match=r"weights of another model: .* holds \[1024\] where nothing is expected"):
        ClipModel(predictor_file, "ViT-S-32", torch.device(CPU))
    with pytest.raises(UsageError, match="holds none of its files"):
        clip_weights(str(tmp_path))


def test_the_flag_of_what_is_wrong_heads_the_sentence(ended, clips, clip_folder, predictor_file, tmp_path):
    flags = ["--video_folder", clips, "--metrics", "AestheticScore", "--model_path", clip_folder]
    (tmp_path / "x.pth").write_text("not weights")
    code, error = ended(SCRIPT, *flags, "--predictor_path", tmp_path / "x.pth")
    assert code == 2
    assert f"{SCRIPT}: error: --predictor_path: {tmp_path}/x.pth: no weights that can be loaded safely" in error
    code, error = ended(SCRIPT, *flags, "--predictor_path", tmp_path / "nowhere")
    assert code == 2 and error.endswith(
        f"--predictor_path: {tmp_path}/nowhere: expected a file, but this does not exist\n"
    )
    code, error = ended(SCRIPT, "--video_folder", clips, "--metrics", "AestheticScoreSigLIP")
    assert code == 2 and "error: --siglip_predictor_path: AestheticScoreSigLIP needs its predictor" in error


def test_a_clip_of_another_width_does_not_fit_the_predictor(ended, clips, clip_folder, predictor_file, tmp_path):
    import open_clip
    import torch

    config = json.loads((clip_folder / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 512
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    torch.save(model.state_dict(), tmp_path / "narrow.pt")
    weights = ["--model_path", tmp_path / "narrow.pt", "--predictor_path", predictor_file]
    code, error = ended(SCRIPT, "--video_folder", clips, "--metrics", "AestheticScore", *weights)
    assert code == 2 and "takes embeddings of 768 numbers, and" in error and "narrow.pt gives 512" in error


def test_laions_head_with_its_real_weights_rises_with_peoples_ratings():
    from utils.models.predictors import LAION_SHA256, load_laion_predictor
    from utils.models.weights import sha256_of

    if not (REAL_WEIGHTS / PREDICTOR).is_file():
        pytest.skip(f"the predictor's real weights are not in {REAL_WEIGHTS}")
    assert sha256_of(REAL_WEIGHTS / PREDICTOR) == LAION_SHA256
    embeddings = [
        np.load(REAL_WEIGHTS / "laion_rating_embeddings" / f"vit_l_14_rating{rating}.npy") for rating in range(10)
    ]
    embeddings = np.float32([e.ravel() / np.linalg.norm(e) for e in embeddings])
    scores = load_laion_predictor(REAL_WEIGHTS / PREDICTOR).scores(embeddings)
    assert np.all(np.diff(scores) > 0) and scores[0] < 2 and scores[9] > 5.5, scores


def test_siglip_and_its_predictor(tmp_path):
    import torch
    from PIL import Image
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    from utils.models.predictors import load_siglip_predictor, siglip_predictor_weights
    from utils.models.siglip import SiglipModel as OurSiglip
    from utils.models.siglip import siglip_weights

    torch.manual_seed(0)
    narrow = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(
        text_config={**narrow, "vocab_size": 99}, vision_config={**narrow, "image_size": 56, "patch_size": 14}
    )
    model = SiglipModel(config).eval()
    model.save_pretrained(tmp_path / "siglip")
    layers = [torch.nn.Linear(*pair) for pair in ((32, 1024), (1024, 128), (128, 64), (64, 16), (16, 1))]
    head = torch.nn.Sequential(*(part for layer in layers for part in (layer, torch.nn.Dropout())))[:-1].eval()
    torch.save({f"scoring_head.{key}": value for key, value in head.state_dict().items()}, tmp_path / "head.pth")

    weights, head_file = siglip_weights(str(tmp_path / "siglip")), siglip_predictor_weights(str(tmp_path / "head.pth"))
    ours, predictor = OurSiglip(weights, torch.device(CPU)), load_siglip_predictor(head_file)
    frame = cv2.resize(data.coffee(), (160, 96))
    processor = SiglipImageProcessor(
        size={"height": 56, "width": 56}, resample=3, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    with torch.inference_mode():
        pixels = processor(Image.fromarray(frame), return_tensors="pt").pixel_values
        embedding = torch.nn.functional.normalize(model.vision_model(pixels).pooler_output, dim=-1)
        theirs = float(head(embedding))
    assert ours.transform == ImageTransform(56, "squash") and ours.width == predictor.width == 32
    assert predictor.scores(ours.embed_frames(ours.transform(frame)[None])) == pytest.approx(theirs, abs=2e-3)
    with pytest.raises(UsageError, match=r"AGPL-3\.0.*pass its path"):
        siglip_predictor_weights(None)
    (tmp_path / "siglip" / "model.safetensors").write_text("not weights")
    with pytest.raises(UsageError, match=r"siglip: not a SigLIP model that transformers can load"):
        OurSiglip(weights, torch.device(CPU))


def test_technical_score_alone_needs_no_torch_and_writes_what_it_did(clips, tmp_path):
    flags = [
        "--video_folder",
        clips,
        "--video_metadata_path",
        clips / "clips.jsonl",
        "--saved_path",
        tmp_path / "{column}.jsonl",
    ]
    command = [sys.executable, "-X", "importtime", ROOT / SCRIPT, *flags]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert ran.returncode == 0 and "| numpy" in ran.stderr and not re.search(r"\| +(torch|open_clip)\b", ran.stderr)
    rows = read_rows(tmp_path / "technical_score.jsonl")
    parts = ["sharpness", "exposure", "contrast", "colourfulness", "brightness", "noise", "blockiness"]
    facts = ["bits_per_pixel", "frame_rate", "frame_rate_class"]
    assert [list(row) for row in rows] == [
        ["video_path", "sample_frame_idx", "technical_score", *parts, *facts, "made_from"]
    ] * 4
    settings = json.loads((tmp_path / "technical_score.settings.json").read_text())
    assert settings.pop("script") == SCRIPT and list(settings.pop("inputs")) == [str(clips / "clips.jsonl")]
    assert settings.pop("checked") > 0
    assert settings == {
        "file": "technical_score.jsonl", "metrics": "TechnicalScore", "method": "uniform", "count": 4, "version": 1,
    }  # fmt: skip


def test_embeddings_are_kept_beside_the_scores(clips, clip_folder, predictor_file, tmp_path, run_main, ended, capsys):
    """In parquet, none lost when rows come later, and made again where the file has gone."""
    from utils.models.embeddings import read_embeddings

    rows = [json.loads(line) for line in (clips / "clips.jsonl").read_text().splitlines()]
    (tmp_path / "fewer.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))

    def run(listed: Path) -> str:
        run_main(
            compute_video_frame_quality, "--video_folder", clips, "--video_metadata_path", listed, "--model_path", clip_folder, "--predictor_path", predictor_file,
            "--metrics", "AestheticScore", "--saved_path", "a.jsonl", "--save_embeddings", "e.parquet", "--n_jobs", 1,
        )  # fmt: skip
        return capsys.readouterr().out

    assert "embeddings: 2 clips -> e.parquet" in run(tmp_path / "fewer.jsonl")
    run(clips / "clips.jsonl")
    scored = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    paths, vectors = read_embeddings(tmp_path / "e.parquet")
    assert sorted(paths) == sorted(row["video_path"] for row in scored) and len(paths) > 2
    assert not any("clip_embedding" in row for row in scored)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1) and vectors.shape[1] == 768
    assert ", 0 due" in run(clips / "clips.jsonl")
    (tmp_path / "e.parquet").unlink()
    run(clips / "clips.jsonl")
    again, same = read_embeddings(tmp_path / "e.parquet")
    order = [again.index(path) for path in paths]
    assert np.abs(same[order] - vectors).max() < 1e-3
    code, error = ended(SCRIPT, "--video_folder", clips, "--save_embeddings", "e.parquet")
    assert code == 2 and "choose a CLIP metric" in error
