"""What docs/scaling.md shows: the command lines of its launchers, its Slurm script and its RayJob start what they say."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, SCRIPT_VARIABLES

PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
SHOWN = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.S | re.M) for line in block.splitlines()]
STAGES = [line for line in SHOWN if re.match(r"([A-Z_]+=\S+ )+sh stage", line)]
(ENTRYPOINT,) = re.findall(r"entrypoint: (.*)", PAGE)
SLURM = "\n".join(line for line in SHOWN if re.match("export|srun", line))


def dry_run(command: str, tmp_path, **environment: str) -> list[str]:
    """The Python commands that a shell command starts, by a Python that prints its arguments in place of running."""
    python, bin_folder = tmp_path / "python", tmp_path / "bin"
    python.write_text('#!/bin/sh\ncase $* in *tools.stage_settings* | *tools.installed*) exit ;; esac\necho "RAN $*"\n')
    bin_folder.mkdir()
    (bin_folder / "scontrol").write_text("#!/bin/sh\necho node7; echo node8\n")
    (bin_folder / "srun").write_text('#!/bin/sh\nfor SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@" || exit; done\n')
    for file in (python, *bin_folder.iterdir()):
        file.chmod(0o755)
    clean = {k: v for k, v in os.environ.items() if k not in SCRIPT_VARIABLES and not k.startswith("RAY")}
    dataset = tmp_path / "data"  # with what each stage begins with
    (dataset / "before_vcut").mkdir(parents=True)
    for name in ("clips.jsonl", "train.jsonl", "summary_caption.jsonl"):
        (dataset / name).write_text("{}\n")
    clean |= {
        "DATASET_FOLDER": str(dataset),
        "PYTHON": str(python),
        "PRESET": "embedded",
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
    }
    ran = subprocess.run(["sh", "-c", command], cwd=ROOT, env=clean | environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return re.findall(r"^RAN (.*)", ran.stdout, re.M)


def launched(lines: list[str]) -> set[str]:
    """How each line starts its script: by which launcher, as which of how many machines."""
    names = {"torch.distributed.run": "torchrun", "accelerate.commands.launch": "accelerate"}
    found = set()
    for line in lines:
        module = next(
            (name for key, name in names.items() if f"-m {key}" in line), "ray" if " --ray" in line else "none"
        )
        count = re.search(r"--(?:nnodes|num_machines)[= ](\d+)", line)
        rank = re.search(r"--(?:node_rank|machine_rank)[= ](\d+)", line)
        found.add(f"{module} {rank[1] if rank else 0}/{count[1] if count else 1}")
    return found


def test_the_page_shows_every_launcher():
    assert len(STAGES) >= 7
    assert {re.search(r"LAUNCHER=(\w+)", line)[1] for line in STAGES if "LAUNCHER" in line} == {
        "none", "torchrun", "accelerate", "ray"
    }  # fmt: skip


@pytest.mark.parametrize("line", STAGES)
def test_a_stage_starts_by_the_launcher_that_it_names(line, tmp_path):
    named = (re.search(r"LAUNCHER=(\w+)", line) or ("", "ray" if "RAY_ADDRESS" in line else "torchrun"))[1]
    nodes, rank = (re.search(rf"{name}=(\d)", line) for name in ("NNODES", "NODE_RANK"))
    expected = f"{named} {rank[1] if rank else 0}/{nodes[1] if nodes else 1}"
    found = launched(dry_run(line, tmp_path))
    assert expected in found and found <= {expected, "none 0/1", "ray 0/1"}


def test_the_slurm_script_starts_each_machine_once(tmp_path):
    lines = dry_run(SLURM, tmp_path, SLURM_JOB_NODELIST="node[7-8]", SLURM_NNODES="2")
    assert launched(lines) == {"torchrun 0/2", "torchrun 1/2"}
    assert all("--master_addr=node7" in line for line in lines)


def test_the_entrypoint_of_the_rayjob_gives_every_row_to_ray(tmp_path):
    command = ENTRYPOINT.replace("/reelset", str(ROOT)).replace("/data", str(tmp_path / "data"))
    lines = dry_run(command, tmp_path, RAY_ADDRESS="10.0.0.1:6379")
    assert "ray 0/1" in launched(lines)
    assert [line for line in lines if "--ray" not in line and not re.search("filter_videos|make_report", line)] == []


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ("LAUNCHER=mpi", "LAUNCHER is 'mpi', not one of none, torchrun, accelerate, ray"),
        ("NNODES=2", "NNODES=2: set MASTER_ADDR"),
        ("LAUNCHER=none NNODES=2 MASTER_ADDR=a", "LAUNCHER=none and NNODES=2"),
    ],
)
def test_wrong_choices_are_a_sentence(variables, message):
    environment = os.environ | {"PYTHON": sys.executable, "PRESET": "embedded"}
    ran = subprocess.run(["sh", "-c", f"{variables} sh stage_1_video_cut.sh"], cwd=ROOT, env=environment, capture_output=True, text=True)  # fmt: skip
    assert ran.returncode == 2 and message in ran.stderr and "Traceback" not in ran.stderr
