"""Two machines, which are two network namespaces of this one that share its files: the stage scripts give the rows of one
process, and a machine that dies costs nothing but time.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, SCRIPT_VARIABLES

from tools.sample_video import SHOTS, make_sample_video
from utils.rows import read_rows

pytestmark = pytest.mark.release
SILENT = 10  # seconds after which a machine is taken for dead, 60 by default
LAUNCH = ("LAUNCHER", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NUM_PROCESSES", "RAY_ADDRESS")


def ip(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *words], capture_output=True, text=True)


@pytest.fixture
def machines():
    """The names of two network namespaces, and the address of the first, on a link between them."""
    names = [f"reelset{os.getpid()}{letter}" for letter in "ab"]
    try:
        made = [ip("netns", "add", name) for name in names]
    except FileNotFoundError:
        pytest.skip("two machines are made by the command `ip`, which is not installed")
    try:
        if any(one.returncode for one in made):
            pytest.skip(f"two machines are network namespaces, which need root: {made[0].stderr.strip()}")
        link = ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        if link.returncode:
            pytest.skip(f"no link between network namespaces can be made here: {link.stderr.strip()}")
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.213.77.{number}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield names, "10.213.77.1"
    finally:
        for name in names:
            held = ip("netns", "pids", name).stdout.split()
            for pid in held:  # only what a failed test has left there
                os.kill(int(pid), signal.SIGKILL)
            ip("netns", "delete", name)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        make_sample_video(folder / f"{number}.mp4", width=320, height=180, shots=SHOTS[number % 3 : number % 3 + 2])
    (folder / "text.mp4").write_text("no video")
    return folder


def start(stage: str, dataset: Path, machine: str | None = None, **variables: object) -> subprocess.Popen:
    """`sh STAGE` on the dataset, in a network namespace; what it prints goes to a file beside the dataset."""
    environment = {k: v for k, v in os.environ.items() if k not in (*SCRIPT_VARIABLES, *LAUNCH)}
    environment |= {"PYTHON": sys.executable, "PRESET": "embedded", "DATASET_FOLDER": str(dataset), "N_JOBS": "1"}
    environment |= {"RANK_SILENT_SECONDS": str(SILENT)} | {k: str(v) for k, v in variables.items()}
    inside = ["ip", "netns", "exec", machine] if machine else []
    with open(f"{dataset}.{machine}.txt", "w") as printed:
        command = [*inside, "sh", str(ROOT / stage)]
        return subprocess.Popen(command, env=environment, stdout=printed, stderr=printed, cwd=dataset.parent)


def printed(dataset: Path, machine: str | None = None) -> str:
    return Path(f"{dataset}.{machine}.txt").read_text()


def new_dataset(folder: Path, name: str, videos: Path) -> Path:
    dataset = folder / name
    dataset.mkdir()
    (dataset / "before_vcut").symlink_to(videos)
    return dataset


def on_both(stage: str, dataset: Path, machines, **variables) -> list[subprocess.Popen]:
    names, address = machines
    shared = {"NNODES": 2, "MASTER_ADDR": address, **variables}
    return [start(stage, dataset, name, NODE_RANK=rank, **shared) for rank, name in enumerate(names)]


def ends(processes: list[subprocess.Popen], dataset: Path, names, seconds: float = 400) -> None:
    for process, name in zip(processes, names, strict=True):
        assert process.wait(seconds) == 0, printed(dataset, name)


def results(dataset: Path) -> dict[str, list[dict]]:
    """The rows of each file; messages name the dataset's folder, which is another one."""

    def moved(value):
        return value.replace(str(dataset), "DATASET") if isinstance(value, str) else value

    rows = {file.name: read_rows(file) for file in sorted(dataset.glob("*.jsonl"))}
    return {name: [{k: moved(v) for k, v in row.items()} for row in found] for name, found in rows.items()}


def everything_below(process: subprocess.Popen) -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, videos) -> Path:
    """The dataset as one process makes it."""
    dataset = new_dataset(tmp_path_factory.mktemp("one"), "alone", videos)
    for stage in ("stage_1_video_cut.sh", "stage_2_filter_data.sh", "stage_3_video_caption.sh"):
        assert start(stage, dataset).wait(400) == 0, printed(dataset)
    return dataset


def test_two_machines_cut_what_one_process_cuts(machines, videos, alone, tmp_path):
    shared = new_dataset(tmp_path, "shared", videos)
    ends(on_both("stage_1_video_cut.sh", shared, machines, NUM_PROCESSES=2), shared, machines[0])
    cut = {name: results(alone)[name] for name in results(shared)}
    assert results(shared) == cut and len(cut["clips.jsonl"]) > 4
    assert not list(shared.glob("*.part-*"))


def test_two_machines_of_accelerate_score_and_caption_as_one_process(machines, alone, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    clips = {"VIDEO_FOLDER": alone / "train", "VIDEO_METADATA_PATH": alone / "clips.jsonl"}
    ends(on_both("stage_2_filter_data.sh", shared, machines, LAUNCHER="accelerate", **clips), shared, machines[0])
    clips["VIDEO_METADATA_PATH"] = shared / "train.jsonl"
    ends(on_both("stage_3_video_caption.sh", shared, machines, LAUNCHER="accelerate", **clips), shared, machines[0])
    assert results(shared) == {name: results(alone)[name] for name in results(shared)}
    assert (shared / "train_panda_70m.json").read_text() == (alone / "train_panda_70m.json").read_text()
    assert not list(shared.glob("*.part-*"))


@pytest.mark.parametrize("dies", [0, 1])
def test_a_machine_that_dies_ends_the_other_with_a_sentence_and_a_rerun_resumes(
    machines, videos, alone, tmp_path, dies
):
    """It vanishes: its link is down before its processes are killed, so that nothing is said on the network."""
    names, _ = machines
    shared = new_dataset(tmp_path, "shared", videos)
    both = on_both("stage_1_video_cut.sh", shared, machines)
    until = time.monotonic() + 120
    while not list(shared.glob("scenes.part-*.jsonl")) and time.monotonic() < until:
        time.sleep(0.02)
    ip("-n", names[dies], "link", "set", "eth0", "down")
    for process in everything_below(both[dies]):
        process.kill()
    survivor, began = 1 - dies, time.monotonic()
    assert both[survivor].wait(4 * SILENT + 60) != 0
    said = printed(shared, names[survivor])
    assert ("the counter at" in said) if dies == 0 else ("rank 1 of 2 has died" in said), said
    assert time.monotonic() - began < 3 * SILENT + 60
    both[dies].wait()

    ip("-n", names[dies], "link", "set", "eth0", "up")
    ends(on_both("stage_1_video_cut.sh", shared, machines), shared, names)
    assert results(shared) == {name: results(alone)[name] for name in results(shared)}
