"""The settings of the stages: what does not exist, or cannot be, is said before any work; help and docs are those of the table."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, skip_without_venv

import compute_video_frame_quality
import cutscene_detect
from tools import stage_settings
from tools.stage_settings import BY_NAME, SCRIPTS, SETTINGS, Wrong, carried, given, help_of, markdown, slips
from utils.captioning.caption_styles import LENGTHS
from utils.captioning.prompts import STYLES

STAGES = list(SCRIPTS.values())
# What the scripts set for themselves, or a shell or scheduler for them.
OTHERS = {"CUDA_VISIBLE_DEVICES", "PYTHONPATH", "END", "IFS"}


def run(stage: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, **variables}
    return subprocess.run(["sh", ROOT / stage, *arguments], env=environment, capture_output=True, text=True)


def test_the_table_has_every_variable_of_the_stages():
    files = [ROOT / stage for stage in STAGES] + list((ROOT / "presets").glob("*.sh"))
    text = "\n".join(re.sub(r"(^|\s)#.*", "", file.read_text(encoding="utf-8")) for file in files)
    used = set(re.findall(r"\$\{?([A-Z][A-Z0-9_]+)", text)) - OTHERS
    assert used - BY_NAME.keys() == set()
    assert BY_NAME.keys() - used <= {"LOG_JSON", "TECHNICAL_SCORE_THRESHOLD"}, "no stage uses it"
    assert len(BY_NAME) == len(SETTINGS)


def test_docs_settings_is_the_table():
    page = ROOT / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == markdown(), f"run: python -m tools.stage_settings markdown > {page}"


def test_choices_are_those_of_the_scripts():
    """Written down in the table, since its checks come before it is known whether the scripts' packages are there."""
    assert BY_NAME["DETECTOR"].kind.choices == tuple(cutscene_detect.DETECTORS)
    assert set(BY_NAME["REWRITE"].kind.choices) == STYLES.keys() - {"summary"}
    assert all(BY_NAME["STYLES"].kind.fits(length) for length in LENGTHS)
    assert BY_NAME["METRICS"].kind.choices == tuple(compute_video_frame_quality.METRICS)


@pytest.mark.parametrize("stage", STAGES)
def test_help_is_no_work(stage, tmp_path):
    ran = run(stage, "N_JOBS=8", "--help", DATASET_FOLDER=str(tmp_path / "set"))
    assert ran.returncode == 0 and ran.stdout.strip() == help_of(stage.split("_")[1]).strip()
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    "arguments, variables, sentence",
    [
        ([], {"TEXT_SCORE_THRESOLD": "0.5"}, "did you mean TEXT_SCORE_THRESHOLD?"),
        ([], {"DATASET_FODLER": "x"}, "did you mean DATASET_FOLDER?"),
        ([], {"MIN_SECOND": "2"}, "did you mean MIN_SECONDS?"),
        (["TRIGER_WORD=x"], {}, "unknown setting TRIGER_WORD (nearest: TRIGGER_WORD)"),
        (["--n_jobs", "8"], {}, "'--n_jobs' is not NAME=VALUE"),
        (["n_jobs=8"], {}, "unknown setting n_jobs (nearest: N_JOBS)"),
        ([], {"TEXT_SCORE_THRESHOLD": "two%"}, "TEXT_SCORE_THRESHOLD is 'two%', not a number from 0 to 1"),
        ([], {"TEXT_SCORE_THRESHOLD": "2"}, "not a number from 0 to 1"),
        ([], {"N_JOBS": "0"}, "N_JOBS is '0', not a whole number from 1"),
        ([], {"PRESET": "embeded"}, "(nearest: embedded)"),
        ([], {"MIN_SECONDS": "12"}, "MIN_SECONDS is 12, above MAX_SECONDS, 10"),
        (
            [],
            {"LOW_MOTION_SCORE_THRESHOLD": "30"},
            "LOW_MOTION_SCORE_THRESHOLD is 30, above HIGH_MOTION_SCORE_THRESHOLD, 25",
        ),
        ([], {"METRICS": "TechnicalScore Asthetic"}, "METRICS is 'TechnicalScore Asthetic', not some of"),
        ([], {"VLM_QUESTIONS": "content overlay"}, "VLM_QUESTIONS: overlay: no such file, and no set in"),
        ([], {"DEDUP": "yes"}, "DEDUP is 'yes', not one of 0, 1"),
        ([], {"EXCLUDE": "no such file"}, "not an existing file"),
        ([], {"FORMAT": "mushubi"}, "FORMAT is 'mushubi', not one of"),
        ([], {"FORMAT": "musubi", "MODEL": "wan21"}, "(nearest: wan2.1)"),
        ([], {"FORMAT": "opensora", "MODEL": "ltx2"}, "opensora does not train ltx2; set FORMAT to one of"),
        (["WHERE=technical_scor > 5"], {}, "no column 'technical_scor'"),
        (["WHERE=technical_score >"], {}, "WHERE 'technical_score >'"),
    ],
)
def test_slips_are_told_at_once(arguments, variables, sentence, tmp_path):
    (tmp_path / "clips.jsonl").write_text('{"video_path": "a.mp4"}\n')
    ran = run(STAGES[1], *arguments, DATASET_FOLDER=str(tmp_path), **variables)
    assert ran.returncode == 2 and sentence in ran.stderr and len(ran.stderr.splitlines()) == 1, ran.stderr
    assert "+ " not in ran.stdout and sorted(path.name for path in tmp_path.iterdir()) == ["clips.jsonl"]


@pytest.mark.parametrize(
    "stage, setting, sentence",
    [
        ("1", "WHERE=technical_scor > 5", "no column 'technical_scor' (nearest: technical_score)"),
        ("1", "EXCLUDE={notes}", "is not JSON"),
        ("1", "EXCLUDE={folder}", "not an existing file"),
        ("1", "COLUMNS_FROM={notes}", "COLUMNS_FROM: "),
        ("1", "VLM_QUESTIONS=overlay", "VLM_QUESTIONS: overlay: no such file"),
        ("1", "CAPTIONS_FROM=no such file", "not an existing file or folder"),
        (
            "1",
            "BASE_URL=localhost:8000",
            "BASE_URL is 'localhost:8000', not an address such as http://localhost:8000/v1",
        ),
        ("1", "REWRITE=tag", "(nearest: tags)"),
        ("1", "STYLES=short,lng", "not some of short, long, tags"),
        ("1", "ENGINE_ARGS={{x}}", "not a JSON object"),
        ("1", "SUMMARY_PROMPT=nope.txt", "not a text, or an existing .txt file"),
        ("1", "MAX_SECONDS=inf", "MAX_SECONDS is 'inf'"),
        ("1", "DATASET_FOLDER={notes}", "not a folder"),
        ("1", "NODE_RANK=1", "NODE_RANK is 1"),
        ("1", "--n_jobs=8", "(nearest: N_JOBS)"),
        ("quality", "aesthetic_score", "QUALITY_SCORE is 'aesthetic_score', not one of what TechnicalScore gives"),
    ],
)
def test_a_stage_meets_the_slips_of_later_ones(stage, setting, sentence, tmp_path, capsys):
    (tmp_path / "notes").write_text("hello\n")
    setting = setting.format(notes=tmp_path / "notes", folder=tmp_path)
    assert stage_settings.main([stage, setting, *(["TechnicalScore"] if stage == "quality" else [])]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1


def test_settings_that_no_slip_is_in(capsys, tmp_path):
    """Columns of clips that are still to be cut, prompts of prompts/, all of a style's lengths."""
    right = [
        "WHERE=source_path like 'a%' and technical_score > 5",
        "IMAGE_CAPTION_PROMPT=clip.txt",
        "STYLES=tags,long,short",
        'ENGINE_ARGS={"a": 1}',
    ]
    assert stage_settings.main(["1", *right, f"DATASET_FOLDER={tmp_path}/new", "BASE_URL=https://x/v1"]) == 0
    assert stage_settings.main(["quality", "nsfw_score", "TechnicalScore", "NSFWScore"]) == 0


def test_a_program_that_is_not_there_and_a_score_that_is_not_made(tmp_path):
    for setting, sentence in (
        ("PYTHON=/no/python", "PYTHON is '/no/python'"),
        ("METRICS=NSFWScore", "QUALITY_SCORE is 'technical_score'"),
    ):
        ran = run(STAGES[0], **{"DATASET_FOLDER": str(tmp_path), "PRESET": "embedded", **dict([setting.split("=")])})
        assert ran.returncode == 2 and sentence in ran.stderr and len(ran.stderr.splitlines()) == 1


def test_arguments_count_as_variables_and_are_quoted():
    found = given("2", ["WHERE=camera_motion = 'it''s; rm -rf $HOME'", "N_JOBS=3"], {"N_JOBS": "2", "HOME": "/"})
    assert found == {"WHERE": "camera_motion = 'it''s; rm -rf $HOME'", "N_JOBS": "3"}
    ran = run("stage_3_video_caption.sh", 'DATASET_FOLDER=/no such/it\'s "here" $(touch x)')
    assert '/no such/it\'s "here" $(touch x)/train.jsonl does not exist' in ran.stderr


def test_variables_of_others_are_nobodys_business():
    others = [
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "MODELS_DIR",
        "SEEDS",
        "MODELS",
        "HF_ENDPOINT",
        "GPU",
        "FORMATTER",
        "NUM_THREADS",
    ]
    assert given("1", [], dict.fromkeys(others, "x") | {"model": "x", "format": "x"}) == {}
    for name, value in {"N_JOB": "2", "n_jobs": "2", "PRESETS": "cpu"}.items():
        with pytest.raises(Wrong, match=f"{name} is set but is no setting"):
            given("1", [], {name: value})
    with pytest.raises(Wrong, match="N_JOBS is 'x'"):
        given("1", [], {"N_JOBS": "x"})
    assert slips("THRESOLD", "THRESHOLD") == 1 and slips("FODLER", "FOLDER") == 1 and slips("ab", "cd") == 2


def test_a_python_without_packages_starts_again_under_the_environment(tmp_path):
    """`-S` leaves them out."""
    copy = tmp_path / "a b"
    for name in ("utils", "tools", "compute_text_score.py"):
        copy.mkdir(exist_ok=True)
        (copy / name).symlink_to(ROOT / name)
    bare = [sys.executable, "-S", "compute_text_score.py", "--version"]
    ran = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True)
    if (ROOT / ".venv" / "bin" / "python").exists():
        assert ran.returncode == 0 and ran.stdout.startswith("Reelset")
    else:
        assert ran.returncode == 2 and "lacks Reelset's packages" in ran.stderr


def test_a_switch_of_0_is_off(tmp_path):
    """The stages ask whether it is set."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase $* in *stage_settings*) exec {sys.executable} "$@" ;; esac\n')
    python.chmod(0o755)
    (tmp_path / "before_vcut").mkdir()
    common = {"DATASET_FOLDER": str(tmp_path), "PYTHON": str(python), "REPORT": "0", "OVERWRITE": "0"}
    off, on = run(STAGES[0], **common), run(STAGES[0], "OVERWRITE=1", **common)
    assert "--overwrite" not in off.stdout and "+ " in off.stdout and "--overwrite" in on.stdout


def test_auto_takes_what_is_installed(tmp_path):
    """A GPU in a machine where the quick start has installed its own set alone."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\ncase $* in *"installed AestheticScore"*) exit 2 ;; esac\nexec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    for python, said in (
        (str(bare), "selects embedded: 1 CUDA device(s) found, but the packages"),
        (sys.executable, "selects gpu: 1 CUDA device(s) found"),
    ):
        ran = run(STAGES[0], PYTHON=python, GPUS="1", DATASET_FOLDER=str(tmp_path))
        assert said in ran.stdout and ran.returncode == 2 and "before_vcut does not exist" in ran.stderr


def test_what_a_person_saved_is_not_forgotten(tmp_path):
    for name in ("captions.jsonl", "train.jsonl"):
        (tmp_path / name).write_text("")
    (tmp_path / "train").mkdir()
    common = {"DATASET_FOLDER": str(tmp_path), "PRESET": "embedded", "REPORT": "0"}
    sentence = f"{tmp_path}/captions.jsonl exists and is not used; to use it: CAPTIONS_FROM={tmp_path}/captions.jsonl"
    assert sentence in run(STAGES[2], **common).stdout
    assert "not used" not in run(STAGES[2], f"CAPTIONS_FROM={tmp_path}/captions.jsonl", **common).stdout


def test_a_report_hands_on_what_a_later_run_of_the_stage_needs():
    environment = {
        "CROP": "0",
        "N_JOBS": "2",
        "WHERE": "a > 1",
        "OVERWRITE": "1",
        "TRIGGER_WORD": "sks",
        "HOME": "/",
        "DEDUP": "",
    }
    assert carried("2", environment) == {"CROP": "0", "N_JOBS": "2"}
    assert carried("3", environment) == {"TRIGGER_WORD": "sks", "N_JOBS": "2"}


def test_the_shell_scripts_run_by_sh_and_name_the_lock_that_they_install():
    """`sh` may be dash; a sourced script without arguments has those of the one that sources it."""
    ran = subprocess.run(["sh", ROOT / "quickstart.sh", "no such folder"], capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stderr == "quickstart.sh: no such folder is not a folder\n"
    for script in ROOT.glob("*.sh"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"^\. tools/setup_venv\.sh$", text, re.M), script.name


def test_the_quick_start_meets_a_slip_before_it_makes_its_sample(tmp_path):
    skip_without_venv()
    variables = {**os.environ, "DATASET_FOLDER": str(tmp_path / "set"), "TEXT_SCORE_THRESOLD": "0.5"}
    ran = subprocess.run(["bash", ROOT / "quickstart.sh"], env=variables, capture_output=True, text=True)
    assert ran.returncode == 2 and "did you mean TEXT_SCORE_THRESHOLD?" in ran.stderr
    assert not (tmp_path / "set").exists()
