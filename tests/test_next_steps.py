"""The lines that quickstart.sh ends with run as they are printed."""

import re
import shlex
import subprocess
import venv

import pytest
from conftest import ROOT, write_numbered
from test_docs_commands import FIRST, commands_of, python_call

import tools.next_steps
from tools.stage_settings import BY_NAME
from utils.rows import write_rows
from utils.startup import PROJECT


@pytest.fixture
def elsewhere(tmp_path):
    """Run a line as it is pasted into a plain shell in another folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def run(line: str, code: int = 0, **environment: str) -> str:
        plain = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8", **environment}
        ran = subprocess.run(["sh", "-c", line], cwd=folder, env=plain, capture_output=True, text=True, timeout=300)
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    return run


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "my holiday's set"
    (folder / "train").mkdir(parents=True)
    write_numbered(folder / "train" / "a.mp4", 100, size=(832, 480))
    rows = [{"video_path": "a.mp4", "duration": 4.0, "motion_score": 5.0}]
    write_rows(folder / "clips.jsonl", rows)
    write_rows(folder / "train.jsonl", rows)
    error = {"error": "VideoError", "message": "cannot be read"}
    write_rows(folder / "scenes.errors.jsonl", [{"video_path": f"{i}.mp4", **error} for i in range(5)])
    write_rows(
        folder / "summary_caption.jsonl",
        [{"video_path": "a.mp4", "summary_model": "attributes", "summary_caption": "A scene."}],
    )
    (folder / "report.html").write_text("")
    return folder


def test_what_to_do_next(dataset, run_main, capsys, monkeypatch):
    for name in BY_NAME.keys() - {"PYTHON"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "PRESET": "embedded",
        "MIN_SECONDS": "2",
        "TRIGGER_WORD": "a b",
        "EXCLUDE": "marks.jsonl",
        "OVERWRITE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(dataset.parent)
    run_main(tools.next_steps, "--dataset_folder", dataset.name, "--videos", "films")
    exclude = shlex.quote(str(dataset.parent / "marks.jsonl"))
    quoted = shlex.quote(str(dataset))
    assert capsys.readouterr().out.splitlines() == [
        "1. open the report to review clips, adjust thresholds, mark clips and edit captions:",
        f"  {(dataset / 'report.html').as_uri()}",
        "2. retry failed files, 0.mp4, 1.mp4, 2.mp4 and 2 more:",
        f"  DATASET_FOLDER={quoted} PRESET=embedded MIN_SECONDS=2 EXCLUDE={exclude} TRIGGER_WORD='a b' RETRY_ERRORS=1 bash {PROJECT}/quickstart.sh {dataset.parent / 'films'}",
        "3. export the set for your trainer; docs/export.md lists FORMAT and MODEL:",
        f"  DATASET_FOLDER={quoted} PRESET=embedded FORMAT=musubi MODEL=wan2.1 TRIGGER_WORD='a b' sh {PROJECT}/stage_3_video_caption.sh",
        "4. before you train, caption the clips: 1 captions are placeholders, made of measurements; do not train on them (docs/captions.md)",
    ]


@pytest.mark.slow
def test_the_line_of_the_export_runs_as_pasted(dataset, elsewhere):
    line = next(step for step in tools.next_steps.steps(str(dataset), None) if "FORMAT=musubi" in step).splitlines()[1]
    (dataset / "summary_caption.jsonl").unlink()
    assert "1 rows in = 1 written" in elsewhere(line, PRESET="embedded", N_JOBS="1")
    assert len(list((dataset / "musubi-wan2.1").rglob("*.mp4"))) == 1


@pytest.mark.slow
def test_pythons_without_the_packages_start_again_under_the_environment(tmp_path, elsewhere):
    """So what docs and messages print as `python ...` works whether or not an environment is active."""
    venv.create(tmp_path / "bare", with_pip=False)
    path = f"{tmp_path / 'bare' / 'bin'}:/usr/bin:/bin"
    calls = {
        call[0]
        for page in FIRST
        for command in commands_of(page)
        if command.in_block and (call := python_call(command.words))
    }
    assert ("-m", "tools.summary") in calls and len(calls) > 10
    for call in sorted(calls):
        printed = elsewhere(f"cd {shlex.quote(str(ROOT))} && python {shlex.join(call)} --help", PATH=path)
        assert "show this help message" in printed
    filtering = shlex.quote(str(ROOT / "filter_videos_by_motion_score.py"))
    assert "--video_metadata_path" in elsewhere(f"python {filtering} --help", PATH=path)  # in another folder


def test_printed_commands_name_no_bare_python():
    """Commands in what scripts print, not in docs: `python` may be no program there, or another one."""
    found = []
    for path in (
        *ROOT.glob("*.py"),
        *ROOT.glob("utils/**/*.py"),
        *ROOT.glob("tools/*.py"),
        *ROOT.glob("*.sh"),
        *ROOT.glob("presets/*.sh"),
    ):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"(print|echo|Error|fail)\b.*\bpython3? (-m )?[\w.]+", line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []


def test_the_commands_that_a_stage_prints_can_be_pasted(tmp_path, elsewhere):
    folder = tmp_path / "it's a set"
    (folder / "train").mkdir(parents=True)
    (folder / "clips.jsonl").write_text("")
    settings = f"PYTHON=true REPORT=0 PRESET=embedded DATASET_FOLDER={shlex.quote(str(folder))} WHERE={shlex.quote('duration > 1')}"
    printed = elsewhere(f"{settings} sh {shlex.quote(str(ROOT / 'stage_2_filter_data.sh'))} || true")
    line = next(line for line in printed.splitlines() if "filter_videos_by_motion_score.py" in line)
    words = shlex.split(line.removeprefix("+ "))
    assert f"--video_metadata_path={folder}/clips.jsonl" in words and "--where=duration > 1" in words
    elsewhere(line.removeprefix("+ "))
