"""On a Ray cluster of two nodes, one of which is killed at work: the rows, errors and clips of one process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPT_VARIABLES

from tools.sample_video import SHOTS, make_sample_video
from utils.rows import read_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(8):
        make_sample_video(folder / f"{number}.mp4", width=320, height=180, shots=SHOTS[number % 3 : number % 3 + 1])
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    pytest.importorskip("ray.data")
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield started
    started.shutdown()


def start(script: str, *flags: object, address: str = "") -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k not in (*SCRIPT_VARIABLES, "RAY_ADDRESS")}
    if address:
        environment["RAY_ADDRESS"] = address
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *map(str, flags)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ends(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == code, output
    return output


def rows_of(path: Path) -> list[dict]:
    """What appending leaves is in the order of arrival."""
    return sorted(read_rows(path), key=lambda row: row["video_path"])


@pytest.mark.release
def test_a_node_killed_at_work_costs_no_row(cluster, videos, tmp_path):
    script, flags = "compute_text_score.py", ("--video_folder", videos, "--saved_freq", 1, "--saved_path")
    ends(start(script, *flags, tmp_path / "alone.jsonl"))
    second = cluster.add_node(num_cpus=1)
    running = start(script, *flags, tmp_path / "ray.jsonl", address=cluster.address)
    until = time.monotonic() + 200
    while running.poll() is None and time.monotonic() < until:
        if (tmp_path / "ray.jsonl").exists() and (tmp_path / "ray.jsonl").read_text().count("\n"):
            break
        time.sleep(0.05)
    assert running.poll() is None, running.communicate()[0]
    cluster.remove_node(second, allow_graceful=False)
    output = ends(running)
    assert "9 rows in = 8 scored + 1 errors + 0 filtered" in output
    assert rows_of(tmp_path / "ray.jsonl") == rows_of(tmp_path / "alone.jsonl")
    assert rows_of(tmp_path / "ray.errors.jsonl") == rows_of(tmp_path / "alone.errors.jsonl")


@pytest.mark.release
def test_a_reader_over_its_time_costs_its_own_row(cluster, tmp_path):
    """With the limits of one process: what reads a video is killed."""
    folder = tmp_path / "videos"
    folder.mkdir()
    make_sample_video(folder / "long.mp4", width=960, height=540, shots=SHOTS)
    flags = ("--video_folder", folder, "--timeout_seconds", 0.1, "--saved_path")
    output = ends(start("cutscene_detect.py", *flags, tmp_path / "ray.jsonl", address=cluster.address), code=1)
    assert "all 1 rows of cutscene_detect failed" in output and "took more than 0.1 seconds" in output


@pytest.mark.release
def test_shots_are_found_and_cut_on_a_cluster(cluster, videos, tmp_path):
    scenes, clips = tmp_path / "scenes.jsonl", tmp_path / "clips"
    ends(start("cutscene_detect.py", "--video_folder", videos, "--saved_path", scenes, address=cluster.address))
    flags = ["--video_metadata_path", scenes, "--video_folder", videos, "--output_folder", clips, "--saved_path"]
    output = ends(start("video_splitting.py", *flags, tmp_path / "clips.jsonl", address=cluster.address))
    rows = read_rows(tmp_path / "clips.jsonl")
    assert rows and {row["video_path"] for row in rows} == {file.name for file in clips.iterdir()}, output


def test_ray_and_ranks_do_not_go_together_and_ray_is_imported_where_asked_for():
    code = "import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_path(r'%s', run_name='__main__')\nexcept SystemExit: print('ray' in sys.modules)"
    for script in ("compute_text_score.py", "cutscene_detect.py"):
        done = subprocess.run([sys.executable, "-c", code % (ROOT / script)], capture_output=True, text=True, cwd=ROOT)
        assert done.stdout.endswith("False\n"), done.stdout + done.stderr
