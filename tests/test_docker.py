"""The Dockerfile, compose.yaml and docs/docker.md: without Docker, which no test has. tests/docker/clean_root.py runs every step."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import ROOT, skip_without_venv, write_numbered
from dockerfile_parse import DockerfileParser
from test_docs_commands import VARIABLES, Command, calls_of, help_of, wrong

from tests.docker import clean_root

TARGETS = {"cpu", "gpu"}
IMAGES = {"reelset:cpu": "cpu", "reelset": "gpu"}
# Variables that other programs read.
OTHERS = {"HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}


def runs() -> list[tuple[str, dict, str]]:
    """Of each `docker run` of docs/docker.md: the image, the variables, the command in it."""
    found = []
    page = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
    for line in re.findall(r"docker run [^`\n]+", page):
        words, variables = shlex.split(line.replace("$(", "").replace(")", ""))[2:], {}
        while words[0].startswith("-"):
            option = words.pop(0)
            value = words.pop(0) if option in ("-v", "-e", "--gpus", "--shm-size", "--user") else ""
            if option == "-e":
                name, _, text = value.partition("=")
                variables[name] = text
            if option == "--user":
                words = words[1:] if words[0] == "-u:id" else words
                words = words[1:] if words[0] == "-g" else words
        found.append((words[0], variables, shlex.join(words[1:])))
    return found


def test_the_dockerfile_has_no_lint():
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed (requirements-dev.txt)")
    ran = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_the_images_are_built_from_the_locks_and_belong_to_a_user_who_is_not_root():
    parsed = DockerfileParser(path=str(ROOT / "Dockerfile")).structure
    assert [step["value"].split()[-1] for step in parsed if step["instruction"] == "FROM"][-1] == "gpu"  # the default
    for target in TARGETS:
        base, steps = clean_root.stages(ROOT / "Dockerfile", target)
        assert re.fullmatch(r"debian:\w+-slim", base)
        users = [step["value"] for step in steps if step["instruction"] == "USER"]
        assert users and users[-1] == "1000"
        installs = [
            step["value"] for step in steps if "uv pip install" in step["value"] and step["instruction"] == "RUN"
        ]
        assert any(
            re.search(r'-r (requirements\S*\.lock|"\$LOCK")', install.partition("&&")[0]) for install in installs
        )
        volumes = [json.loads(step["value"]) for step in steps if step["instruction"] == "VOLUME"]
        assert volumes == [["/cache", "/reelset/datasets"]]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-vllm.lock", "requirements-embedded.lock"])
def test_the_locks_hold_what_is_required(lock):
    def names(file: str) -> set[str]:
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        wanted = [line for line in lines if "python_version <" not in line]
        return {found[0].lower().replace("_", "-") for line in wanted if (found := re.match(r"[A-Za-z][\w.-]*", line))}

    required = names("requirements-embedded.txt" if "embedded" in lock else "requirements.txt")
    required |= names("requirements-vllm.txt") if "vllm" in lock else set()
    assert required <= names(lock)


def test_what_the_page_runs_in_an_image_exists_and_is_run_in_the_clean_root():
    found = runs()
    assert len(found) > 10
    helps = help_of(calls_of([Command("docs/docker.md", command, True) for _, _, command in found if command]))
    for image, variables, command in found:
        assert image in IMAGES, image
        assert variables.keys() <= VARIABLES | OTHERS
        assert not command or wrong(Command("docs/docker.md", command, True), helps) is None, command
        if IMAGES[image] == "cpu":
            assert command in clean_root.USES["cpu"]


def test_compose_runs_the_stages_in_their_order_and_the_server_when_the_gpu_is_free():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert services.keys() == {"vllm", "stage_1", "stage_2", "stage_3"}
    assert {name: [*service.get("depends_on", {})] for name, service in services.items()} == {
        "stage_1": [], "stage_2": ["stage_1"], "vllm": ["stage_2"], "stage_3": ["vllm"],
    }  # fmt: skip
    for service in services.values():
        assert service["build"]["target"] in TARGETS and service["image"] in IMAGES
        assert {volume.partition(":")[0] for volume in service["volumes"]} >= set(compose["volumes"])
        assert service["environment"].keys() <= VARIABLES | OTHERS
    for number in (1, 2, 3):
        (script,) = ROOT.glob(f"stage_{number}_*.sh")
        assert services[f"stage_{number}"]["command"] == f"sh {script.name}"


def test_compose_itself_takes_the_file():
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            ran = subprocess.run(
                [*command, "-f", ROOT / "compose.yaml", "config", "-q"], capture_output=True, text=True
            )
            assert ran.returncode == 0, ran.stderr
            return
    pytest.skip("docker compose is not installed")


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """A video whose shots take a second to find."""
    return write_numbered(tmp_path_factory.mktemp("sample") / "a.mp4", 240, size=(640, 360))


@pytest.mark.parametrize(
    ("command", "whom", "number", "code"),
    [
        (["sh", "stage_1_video_cut.sh"], "group", signal.SIGTERM, 143),  # `docker stop` with tini -g
        (["sh", "stage_1_video_cut.sh"], "shell", signal.SIGTERM, 143),  # without tini, or a scheduler
        (["bash", "--posix", "stage_1_video_cut.sh"], "shell", signal.SIGTERM, 143),
        (["sh", "stage_1_video_cut.sh"], "group", signal.SIGINT, 130),  # Ctrl-C in a terminal
        (["sh", "stage_1_video_cut.sh"], "shell", signal.SIGINT, 130),
        (["bash", "quickstart.sh"], "shell", signal.SIGTERM, 143),
        (["bash", "quickstart.sh"], "group", signal.SIGINT, 130),
    ],
)
def test_a_stage_that_is_stopped_ends_its_script_and_waits_for_it(command, whom, number, code, sample, tmp_path):
    """When the first process of a container ends, the others are gone."""
    if "quickstart.sh" in command:
        skip_without_venv()
    (tmp_path / "before_vcut").mkdir()
    for name in "abcdef":
        shutil.copy(sample, tmp_path / "before_vcut" / f"{name}.mp4")
    arguments = [tmp_path / "before_vcut"] if "quickstart.sh" in command else []
    environment = {
        **os.environ,
        "DATASET_FOLDER": str(tmp_path),
        "PYTHON": sys.executable,
        "PRESET": "embedded",
        "MARK": str(tmp_path),
    }
    with open(tmp_path / "printed", "w") as printed:
        stage = subprocess.Popen(
            [*command, *arguments], cwd=ROOT, env=environment | {"N_JOBS": "1"}, start_new_session=True, stdout=printed, stderr=printed
        )  # fmt: skip
    last = time.monotonic() + 60
    while not (tmp_path / "scenes.settings.json").exists():
        assert stage.poll() is None and time.monotonic() < last
        time.sleep(0.05)
    if whom == "group":
        os.killpg(stage.pid, number)
    else:
        stage.send_signal(number)
    begun = time.monotonic()
    assert stage.wait(30) == code and time.monotonic() - begun < 10
    printed = (tmp_path / "printed").read_text()
    assert "finished work is saved" in printed and "Traceback" not in printed, printed
    assert "video_splitting.py" not in printed and not (tmp_path / "clips.jsonl").exists(), printed
    until = time.monotonic() + 3  # workers see that their parent has ended
    while (left := marked(str(tmp_path))) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def marked(mark: str) -> list[list[str]]:
    """The command lines of the processes that have inherited it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stage_that_is_stopped_before_its_script_has_started_ends(number, tmp_path):
    """Python's own start, in which a background job of a shell would not answer Ctrl-C."""
    (tmp_path / "python").write_text(
        "#!/bin/sh\ncase $* in *tools.*) exit ;; esac\ntrap '' INT\n: > started\nexec sleep 20\n"
    )
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "stage.sh").write_text(
        f"set -eu\nstage=2 here={ROOT}\n. $here/presets/settings.sh\n. $here/presets/commands.sh\nrun x.py || echo went on\necho went on\n"
    )
    environment = {**os.environ, "PYTHON": str(tmp_path / "python"), "PRESET": "embedded"}
    stage = subprocess.Popen(
        ["sh", "stage.sh"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    os.killpg(stage.pid, number)
    output, _ = stage.communicate(timeout=10)
    assert stage.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number] and "went on" not in output


def test_a_stage_ends_with_the_exit_code_of_its_script(tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "before_vcut").mkdir()
    environment = {
        **os.environ,
        "DATASET_FOLDER": str(tmp_path),
        "PYTHON": str(tmp_path / "python"),
        "PRESET": "embedded",
    }
    assert subprocess.run(["sh", ROOT / "stage_1_video_cut.sh"], env=environment, capture_output=True).returncode == 7


SMI = "0, NVIDIA H100 80GB HBM3, 580.65.06, 80000, 81559, 34\n1, NVIDIA H100 80GB HBM3, 580.65.06, 1024, 81559, [N/A]\n"


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        (f"printf '{SMI}'", ["GPU 0: NVIDIA H100 80GB HBM3, 78.1 of 79.6 GiB free, 34 °C, driver 580.65.06", "GPU 1: ", "cannot use"]),
        ("echo 'NVIDIA-SMI has failed'; exit 9", ["the driver does not answer: NVIDIA-SMI has failed"]),
        (None, ["no GPU: PRESET=auto selects embedded"]),
    ],
)  # fmt: skip
def test_health_says_what_the_machine_has(tmp_path, monkeypatch, run_script, driver, told):
    """Here no machine has a GPU: the driver's tool is a script that prints what it prints."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if driver:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{driver}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    ran = subprocess.run([sys.executable, "-m", "tools.health"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.startswith("Reelset "), ran.stderr
    assert all(text in ran.stdout for text in told), ran.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_on_one_machine_for_all_is_stopped_with_it(number, tmp_path):
    """`tools.run_once`, under torchrun: the filter, the export."""
    command = f"trap 'echo saved; exit 130' TERM; : > {tmp_path}/started; while :; do sleep 0.1; done"
    once = subprocess.Popen(
        [sys.executable, "-m", "tools.run_once", "sh", "-c", command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    once.send_signal(number)
    output, _ = once.communicate(timeout=20)
    assert (once.returncode, output) == (130, "saved\n")
