"""A rank that is killed costs nothing but time: the same command with another number of ranks ends with the rows of one process."""

import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from conftest import ROOT, write_video

from utils.rows import read_rows

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
# Without a GPU, `accelerate launch --num_processes 3` starts one process; --multi_gpu makes it three, on the CPU.
ACCELERATE = [str(Path(sys.executable).with_name("accelerate")), "launch", "--multi_gpu", "--num_processes", "3"]


def words(number: int) -> np.ndarray:
    """uint8 (360, 640): a line of text that grows with `number`."""
    frame = np.full((360, 640), 60, np.uint8)
    return cv2.putText(frame, "seven clips", (20, 200), cv2.FONT_HERSHEY_SIMPLEX, 1 + number / 3, 230, 3, cv2.LINE_AA)


def rows_of(path: Path) -> list[dict]:
    return read_rows(path) if path.exists() else []


@pytest.mark.slow
def test_sigkill_of_a_rank_then_another_launcher_with_another_number(tmp_path):
    folder, saved = tmp_path / "clips", tmp_path / "text_score.jsonl"
    folder.mkdir()
    for number in range(7):
        write_video(folder / f"{number}.mp4", [words(number)] * 12)
    (folder / "text.mp4").write_text("no video")
    flags = [ROOT / "compute_text_score.py", "--video_folder", folder, "--n_jobs", 1, "--saved_freq", 1, "--saved_path"]

    parts = [tmp_path / f"text_score.part-{rank}.jsonl" for rank in range(2)]
    with open(tmp_path / "printed", "w") as printed:
        launcher = subprocess.Popen([*map(str, [*TORCHRUN, *flags, saved])], stdout=printed, stderr=printed)
    while launcher.poll() is None and not any(rows_of(part) for part in parts):
        time.sleep(0.01)
    ranks = {process.environ().get("RANK"): process for process in psutil.Process(launcher.pid).children()}
    ranks["0"].kill()  # the one that the others wait for, and that ends last
    assert launcher.wait() != 0
    before = [row["video_path"] for part in parts for row in rows_of(part)]
    assert before and len(before) == len(set(before))

    again = subprocess.run([*map(str, [*ACCELERATE, *flags, saved])], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "8 rows in = 7 scored + 1 errors + 0 filtered" in again.stdout and not list(tmp_path.glob("*.part-*"))
    alone = [sys.executable, *flags, tmp_path / "alone.jsonl"]
    subprocess.run([*map(str, alone)], check=True, stdout=subprocess.DEVNULL)
    rows = read_rows(saved)
    assert rows == read_rows(tmp_path / "alone.jsonl")
    assert [row["video_path"] for row in rows] == [f"{number}.mp4" for number in range(7)]
    assert len({row["text_score"] for row in rows}) == 7
