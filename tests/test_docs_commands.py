"""Every command that the docs, the docstrings and the shell scripts show: its script and flags exist; the README's run as written."""

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest
from conftest import ROOT

from tools.sample_video import SHOTS, make_sample_video

READMES = ("README.md", "README_zh-CN.md")
FIRST = ("README.md", "docs/scripts.md")  # the pages that a new user's commands come from, in this order
PAGES = [
    *READMES,
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    *(f"docs/{p.name}" for p in sorted(ROOT.glob("docs/*.md"))),
]
PROGRAM = re.compile(r"([A-Z_]+=\S* )*(python3?|sh|bash|torchrun|accelerate|\w+\.py) \S+")
# What a page may show although it is not ours, and `score`, a line for stage_2_filter_data.sh; their arguments are not checked.
OTHERS = re.compile(
    r"uvx?|pip|docker|git|apt-get|vllm|sglang|lmdeploy|transformers|pytest|srun|export|ray|\.venv/bin/python|score"
)
# Needs a model, a GPU, a server or a person's marks, or is what runs this test.
NOT_RUN = re.compile(
    r"Aesthetic|CLIPScore|Semantic|easyocr|transformers|vllm|openai|SERVER|learn_filter|marks|srun|scontrol|PRESET=(cpu|gpu)|run_tests|^uv|^docker"
)
VARIABLES = {
    name
    for script in (*ROOT.glob("*.sh"), *ROOT.glob("presets/*.sh"), ROOT / "compose.yaml")
    for name in re.findall(r"\$\{?([A-Z][A-Z_]+)", script.read_text(encoding="utf-8"))
} | {"PRESET", "LOG_JSON", "PYTHONPATH", "VLLM_CPU_KVCACHE_SPACE", "HF_ENDPOINT", "CUDA_VISIBLE_DEVICES"}  # fmt: skip


@dataclass(frozen=True)
class Command:
    page: str
    text: str
    in_block: bool  # of a fenced block, so that it is whole

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def blocks(page: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.S | re.M)


def commands_of(page: str) -> list[Command]:
    """Of a Markdown page: the lines of its ```sh blocks, and the inline code that begins like a command."""
    lines = [line for block in blocks(page) for line in block.replace("\\\n", " ").splitlines()]
    found = [Command(page, line.strip(), True) for line in lines if shlex.split(line, comments=True)]
    prose = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S | re.M)
    return found + [Command(page, code, False) for code in re.findall(r"`([^`\n]+)`", prose) if PROGRAM.match(code)]


def commands_of_code() -> list[Command]:
    """Of docstrings and of the comments of shell scripts: their lines that begin like a command."""
    found = []
    for path in (*ROOT.glob("*.py"), *ROOT.glob("*.sh"), *ROOT.glob("tools/*.py"), *ROOT.glob("benchmarks/*.py")):
        text = path.read_text(encoding="utf-8")
        text = (ast.get_docstring(ast.parse(text)) or "") if path.suffix == ".py" else text.replace("\n#", "\n")
        lines = (line.strip() for line in text.replace("\\\n", " ").splitlines())
        found += [Command(path.relative_to(ROOT).as_posix(), line, False) for line in lines if PROGRAM.match(line)]
    return found


# Prints what `python STARTED --help` prints, of each of a list: in one process, since most of a --help is imports, which they share.
HELP = """
import contextlib, io, json, runpy, sys
printed = []
for started in json.load(sys.stdin):
    sys.argv = [started[-1], "--help"]
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            if started[0] == "-m":
                runpy.run_module(started[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(started[0], run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    except Exception as error:  # tools.run_once takes it for a program
        code = repr(error)
    else:
        code = "it does not end with --help"
    printed.append(f"no --help: {code}" if code else out.getvalue())
json.dump(printed, sys.stdout)
"""


def help_of(starts: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    ordered = sorted(starts)
    ran = subprocess.run(
        [sys.executable, "-c", HELP], input=json.dumps(ordered), cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return dict(zip(ordered, json.loads(ran.stdout), strict=True))


def python_call(words: list[str]) -> tuple[tuple[str, ...], list[str]] | None:
    """What Python is to start ("x.py",) or ("-m", "package.x"), and its arguments; None where it is not the project's."""
    for at, word in enumerate(words):
        if word == "-m" and words[at + 1].partition(".")[0] in ("benchmarks", "tools", "tests"):
            return ("-m", words[at + 1]), words[at + 2 :]
        if word.endswith(".py") and "/" not in word:
            return (word,), words[at + 1 :]
    return None


def there(started: tuple[str, ...]) -> bool:
    return started[0] == "-m" or (ROOT / started[-1]).is_file()


def flags_of(arguments: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in arguments if re.match(r"--\w", word)}


def calls_of(commands: list[Command]) -> set[tuple[str, ...]]:
    """What is started with flags: `wrong` reads the --help of these."""
    calls = [call for command in commands if (call := python_call(command.words))]
    return {started for started, arguments in calls if flags_of(arguments) and there(started)}


def wrong(command: Command, helps: dict[tuple[str, ...], str]) -> str | None:
    """What is wrong with a command as it is written."""
    words = command.words
    while words and re.match(r"[A-Z_]+=", words[0]):
        name = words.pop(0).partition("=")[0]
        if name not in VARIABLES:
            return f"no script reads {name}"
    if words[0].endswith(".py"):
        words.insert(0, "python")
    program = "python" if words[0] == "python3" else words[0]
    if program in ("sh", "bash"):
        return None if (ROOT / words[1]).is_file() else f"no {words[1]}"
    if program not in ("python", "torchrun", "accelerate"):
        return None if OTHERS.fullmatch(program) else f"an unknown program, {program}"
    if "-m" in words and not importlib.util.find_spec(words[words.index("-m") + 1]):
        return f"no module {words[words.index('-m') + 1]}"
    if not (call := python_call(words)):
        return None if program != "python" or words[1] in ("-m", "-c") else f"{words[1]}: start it as python -m"
    started, arguments = call
    if not there(started):
        return f"no {started[-1]}"
    missing = sorted(flag for flag in flags_of(arguments) if not re.search(rf"{flag}\b", helps[started]))
    return f"{' '.join(started)} has no {', '.join(missing)}" if missing else None


@pytest.mark.slow
def test_every_command_names_scripts_flags_and_variables_that_exist():
    commands = [*(command for page in PAGES for command in commands_of(page)), *commands_of_code()]
    assert len(commands) > 50
    helps = help_of(calls_of(commands))
    found = [wrong(command, helps) for command in commands]
    faults = [f"{command.page}: {command.text}: {fault}" for command, fault in zip(commands, found) if fault]
    assert not faults, "\n".join(faults)


def test_both_readmes_show_the_same_commands():
    english, chinese = ([c.words for c in commands_of(readme) if c.in_block] for readme in READMES)
    assert chinese == english


@pytest.fixture
def checkout(tmp_path):
    """The project as in a fresh checkout, by links, with its environment set up, and the folders that the README calls IN, OUT and FOLDER."""
    for path in ROOT.iterdir():
        if path.name not in (".venv", "datasets", ".git"):
            (tmp_path / path.name).symlink_to(path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (python.parent / "python3").symlink_to(python)
    (tmp_path / ".venv" / "requirements.lock").write_bytes((ROOT / "requirements.lock").read_bytes())
    for name in ("IN", "OUT", "FOLDER"):
        (tmp_path / name).mkdir()
    (tmp_path / "FOLDER" / "sample.mp4").symlink_to(tmp_path / "IN" / "sample.mp4")
    return tmp_path


# The pages whose commands go on with the dataset of the README, in this order.
GO_ON = (*FIRST, "docs/thresholds.md", "docs/export.md", "docs/report.md")


@pytest.mark.slow
@pytest.mark.parametrize("pages", [FIRST, pytest.param(GO_ON, marks=pytest.mark.release)], ids=["readme", "all"])
def test_the_commands_of_the_pages_run_as_written(checkout, pages, scripts):
    if pages != GO_ON:  # forks of one process in place of some forty
        python = checkout / ".venv" / "bin" / "python"
        ours = f'case ${{1-}} in *.py) script={ROOT}/${{1##*/}}; shift; exec {scripts.python} "$script" "$@" ;; esac\n'
        python.write_text(python.read_text().replace("exec", f"{ours}exec", 1))
    count, width, height = (2, 640, 360) if pages == GO_ON else (1, 480, 270)
    shots = [shot for shot in SHOTS if shot.outcome == "kept"][:count]
    make_sample_video(checkout / "IN" / "sample.mp4", width=width, height=height, shots=shots)
    if pages != GO_ON:  # the quick start makes no sample where there is one: this one is shorter
        sample = checkout / "datasets" / "panda_70m" / "before_vcut" / "sample.mp4"
        sample.parent.mkdir(parents=True)
        sample.symlink_to(checkout / "IN" / "sample.mp4")
    environment = {**os.environ, "PRESET": "embedded", "PATH": f"{checkout / '.venv' / 'bin'}:{os.environ['PATH']}"}
    for name in ("DATASET_FOLDER", "VIDEO_FOLDER", "PYTHON", "OVERWRITE"):
        environment.pop(name, None)
    output = {}
    for command in (command for page in pages for command in commands_of(page) if command.in_block):
        if "datasets/other" in command.text:
            shutil.copytree(checkout / "datasets" / "panda_70m", checkout / "datasets" / "other")
        if not NOT_RUN.search(command.text):
            ran = subprocess.run(
                ["bash", "-c", command.text], cwd=checkout, env=environment, capture_output=True, text=True
            )
            assert ran.returncode == 0, f"{command.text}\n{ran.stdout}\n{ran.stderr}"
            output[shlex.join(command.words)] = ran.stdout.replace(f"{checkout}/", "")
    assert (checkout / "train_panda_70m.json").read_text(encoding="utf-8").count("sample-Scene") == len(shots)
    if pages != GO_ON:
        return
    # The quick start ends with the summary that the README shows.
    shown = re.search(r"^```\n(sources .*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)
    assert shown.group(1).strip() in output["bash quickstart.sh"]
