"""verify_models.sh: right weights pass, and weights that are wrong (random ones) are told, each by its model. The gate tries the judgements, without a model."""

import json
import shutil
import subprocess
import sys

import pytest
import tiny_models
from conftest import ROOT
from test_image_quality_models import clip_folder, predictor_file  # noqa: F401 (fixtures)

from tools import verify_models
from utils.errors import RunError
from utils.rows import read_rows


def verify(*flags) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, "-m", "tools.verify_models", *map(str, flags)], cwd=ROOT, capture_output=True, text=True
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, ran.stdout


@pytest.mark.release
def test_the_models_that_come_with_packages_pass():
    code, said = verify("--presets", "embedded")
    assert code == 0 and "verify: 4 checks = 4 ok + 0 failed" in said, said


def test_answers_of_random_weights_are_told(monkeypatch, capsys):
    """In place of the scripts, with what random weights give: scores without order, a sentence of something else, and one that cannot be loaded."""
    names = [*verify_models.PHOTOGRAPHS, verify_models.TEXT, "blurred", "cat"]

    def rows(verifier, script: str, *flags, folder: str = "clips") -> dict[str, dict]:
        if script == "compute_text_score.py":
            raise RunError("no file of weights")
        said = "In this video, my red dog runs."
        scores = {"clip_score": 0.1, "aesthetic_score": [9.0, -1.0]}
        return {name: {**scores, "sampled_frame_caption": [said], "summary_caption": said} for name in names}

    monkeypatch.setattr(verify_models, "write_clip", lambda path, frames: None)
    monkeypatch.setattr(verify_models.Verifier, "rows", rows)
    monkeypatch.setattr(sys, "argv", ["verify_models", "--presets", "gpu", "--vlm", "tiny-vlm", "--llm", "tiny-llm"])
    with pytest.raises(SystemExit, match="1"):
        verify_models.main()
    said = capsys.readouterr().out
    for told in (
        "FAILED  CLIP ViT-L/14: every photograph nearest to its own text", "FAILED  LAION predictor v2: coffee above blurred coffee: ",
        "FAILED  tiny-vlm: names chelsea: ", "FAILED  tiny-llm: one caption with cat, sofa and window", "FAILED  EasyOCR: can be loaded and run: ",
    ):  # fmt: skip
        assert told in said, said


@pytest.mark.release
def test_random_weights_are_told(tmp_path, clip_folder, predictor_file):  # noqa: F811
    model = tiny_models.build("llava_next", tmp_path / "vlm")
    llm = tiny_models.build("qwen2", tmp_path / "llm")
    weights = ["--model_path", clip_folder, "--predictor_path", predictor_file, "--vlm", model, "--llm", llm]
    code, said = verify("--presets", "gpu", *weights, "--craft_path", tmp_path / "none.pth")
    assert code == 1
    for told in (
        "FAILED  CLIP ViT-L/14: every photograph nearest to its own text", f"FAILED  {model}: names chelsea: ",
        f"FAILED  {llm}: one caption with cat, sofa and window", "FAILED  EasyOCR: can be loaded and run: ",
    ):  # fmt: skip
        assert told in said, said


@pytest.mark.release
def test_published_scores_are_compared(tmp_path, clip_folder, predictor_file, run_script):  # noqa: F811
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("coffee", "rocket"):
        verify_models.write_clip(clips / f"{name}.mp4", verify_models.zoomed(verify_models.photograph(name), (160, 96)))
    weights = ["--model_path", clip_folder, "--predictor_path", predictor_file]
    published = tmp_path / "aesthetic_score.jsonl"
    flags = ["--video_folder", clips, "--metrics", "AestheticScore", *weights, "--saved_path", published]
    run_script("compute_video_frame_quality.py", *flags)
    reference = ["--reference_clips", clips, "--reference_scores", tmp_path / "published.jsonl", *weights]
    shutil.copy(published, tmp_path / "published.jsonl")
    code, said = verify(*reference)
    assert code == 0 and "verify: 2 checks = 2 ok + 0 failed" in said, said
    rows = [{**row, "aesthetic_score": [x + 0.02 for x in row["aesthetic_score"]]} for row in read_rows(published)]
    (tmp_path / "published.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, said = verify(*reference)
    assert code == 1 and "verify: 2 checks = 0 ok + 2 failed" in said, said
