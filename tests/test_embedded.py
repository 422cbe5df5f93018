"""The default preset without PyTorch: the three stages on what requirements-embedded.lock holds, and what the others say there."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.sample_video import SHOTS, make_sample_video
from utils import NO_TELEMETRY

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-embedded.lock"
# Seen by every Python that is started: packages outside the lock are not there.
HIDING = """
import sys
from importlib.machinery import PathFinder

class Locked:
    find_distributions = PathFinder.find_distributions
    invalidate_caches = PathFinder.invalidate_caches

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Locked
"""


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> set[str]:
    return {normalised(name) for name in re.findall(r"^([\w.-]+)==", LOCK.read_text(encoding="utf-8"), re.M)}


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory) -> dict[str, str]:
    """The environment of a machine on which only requirements-embedded.lock is installed, by a PYTHON that sees no more."""
    kept = locked() | {"pip", "setuptools"}
    packages = importlib.metadata.packages_distributions()
    hidden = sorted(name for name, owners in packages.items() if not kept & {normalised(owner) for owner in owners})
    assert {"torch", "transformers", "easyocr", "open_clip", "pandas", "scipy", "pyarrow"} <= set(hidden)
    folder = tmp_path_factory.mktemp("hiding")
    (folder / "sitecustomize.py").write_text(f"HIDDEN = {set(hidden)!r}\n{HIDING}")
    gone = ("PRESET", "DATASET_FOLDER", "VIDEO_FOLDER", "OVERWRITE")
    environment = {name: value for name, value in os.environ.items() if name not in gone}
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder}:$PYTHONPATH exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return {**environment, "PYTHON": str(python)}


def run_stages(environment: dict[str, str], dataset: Path) -> None:
    (dataset / "before_vcut").mkdir(parents=True)
    shots = [shot for shot in SHOTS if shot.outcome == "kept"][:2]
    make_sample_video(dataset / "before_vcut" / "sample.mp4", width=480, height=270, shots=shots)
    for stage in ("stage_1_video_cut.sh", "stage_2_filter_data.sh", "stage_3_video_caption.sh"):
        ran = subprocess.run(
            ["sh", ROOT / stage],
            env={**environment, "PRESET": "embedded", "DATASET_FOLDER": str(dataset)},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "unexpected" not in ran.stdout + ran.stderr
    assert (dataset / "train_panda_70m.json").read_text(encoding="utf-8").count("file_path") == len(shots)
    assert (dataset / "report.html").exists() and (dataset / "scores.png").exists()


@pytest.mark.slow
def test_the_three_stages_run_on_what_the_lock_holds(without_torch, tmp_path):
    run_stages(without_torch, tmp_path / "set")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PRESET": "cpu"}, "AestheticScore (open_clip), transformers (transformers)"),
        (
            {"PRESET": "gpu", "ENGINE": "transformers"},
            "AestheticScore (open_clip), easyocr (easyocr), transformers (transformers)",
        ),
        ({"PRESET": "embedded", "DEDUP": "1"}, "DEDUP (faiss)"),
        ({"PRESET": "embedded", "TEXT_DETECTOR": "easyocr"}, "easyocr (easyocr)"),
    ],
)
def test_what_the_other_presets_need_is_said_before_any_work(variables, sentence, without_torch, tmp_path):
    ran = subprocess.run(
        ["sh", ROOT / "stage_2_filter_data.sh"],
        env={**without_torch, **variables, "DATASET_FOLDER": str(tmp_path / "none")},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    command = rf"\S+ -m (uv )?pip install -r {ROOT}/requirements.lock"
    said = rf"not installed, but chosen: {re.escape(sentence)}; {command}, or PRESET=embedded\n"
    assert re.fullmatch(said, ran.stderr), ran.stderr


@pytest.mark.parametrize(
    ("command", "package"),
    [
        (["compute_video_frame_quality.py", "--metrics", "AestheticScore"], "torch"),
        (["compute_text_score.py", "--text_detector", "easyocr"], "torch"),
        (["caption_video_frame.py", "--captioner", "transformers"], "(transformers|huggingface_hub)"),
        (["compute_duplicates.py"], "faiss"),
    ],
)
def test_a_script_says_what_to_install(command, package, without_torch, tmp_path):
    (tmp_path / "in").mkdir()
    make_sample_video(tmp_path / "in" / "sample.mp4", width=320, height=180, shots=SHOTS[1:2])
    ran = subprocess.run(
        [
            without_torch["PYTHON"],
            ROOT / command[0],
            "--video_folder",
            tmp_path / "in",
            "--saved_path",
            tmp_path / "x.jsonl",
            *command[1:],
        ],
        env=without_torch,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2, ran.stderr
    assert re.search(
        rf"error: {package}\S* is not installed: \S+ -m (uv )?pip install -r {ROOT}/requirements.lock$",
        ran.stderr.strip(),
    )


def test_a_venv_that_has_everything_is_never_made_smaller(tmp_path):
    """And the gate completes one that the quick start made."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$*" >> log\n')
    python.chmod(0o755)
    small, whole = (tmp_path / name for name in ("requirements-embedded.lock", "requirements.lock"))
    small.write_text("small")
    whole.write_text("whole")

    def installed(lock: str) -> list[str]:
        """The locks that are installed where this one is asked for."""
        (tmp_path / "log").write_text("")
        subprocess.run(["bash", "-c", f". {ROOT}/tools/setup_venv.sh {lock}"], cwd=tmp_path, check=True)
        return re.findall(r"-r (\S+)", (tmp_path / "log").read_text())

    assert installed(small.name) == [small.name]
    assert installed(small.name) == []
    assert installed(whole.name) == [whole.name]
    assert installed(small.name) == []
    whole.write_text("newer")
    assert installed(small.name) == [whole.name]
    assert installed(whole.name) == []


@pytest.mark.release
def test_the_three_stages_run_in_an_environment_made_of_the_lock(tmp_path):
    """And it takes less than the gigabyte that the documents say."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--system-certs",
        "--no-deps",
        "--python",
        python,
    ]
    subprocess.run([*install, "-r", LOCK], check=True)
    assert sum(file.lstat().st_size for file in (tmp_path / "venv").rglob("*")) < 1e9
    run_stages({**os.environ, "PYTHON": str(python)}, tmp_path / "set")


def test_nothing_reports_its_use_to_its_makers(tmp_path):
    """ONNX Runtime would write a device id and a queue of events into the cache."""
    environment = {name: value for name, value in os.environ.items() if name not in {*NO_TELEMETRY, "CI"}}
    code = "from utils.scoring.rapidocr_detector import RapidTextDetector; RapidTextDetector()"
    subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**environment, "HOME": str(tmp_path)}, check=True, timeout=60
    )
    assert not list(tmp_path.iterdir())
