"""The openai engine against a real server, `transformers serve`, with a tiny checkpoint, over loopback."""

import io
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from conftest import numbered_frame, write_video
from PIL import Image

from utils.captioning.chat import Request, Sampling
from utils.captioning.engines.transformers_engine import TransformersEngine, TransformersOptions
from utils.captioning.frames import read_images
from utils.rows import read_rows
from utils.video.sampling import FrameSampling

pytestmark = (
    pytest.mark.release
)  # tests/test_engines.py has a server in the gate; starting the server takes ten seconds
CLIPS = ["a.mp4", "b.mp4"]
PROMPT = 'Describe the "picture".\nWhat happens?'


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The folder of a tiny checkpoint and the address of the server that runs it."""
    for package in ("fastapi", "uvicorn"):
        pytest.importorskip(package, reason="`transformers serve` wants it; it is in requirements-dev.txt")
    folder = tmp_path_factory.mktemp("served")
    model = tiny_models.build("llava_next", folder / "model")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [
        Path(sys.executable).with_name("transformers"),
        "serve",
        model,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([*command, "--device", "cpu"], stdout=log, stderr=log, env=environment)
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:  # it starts still
                assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.3)
        yield model, f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for i, clip in enumerate(CLIPS):
        write_video(folder / clip, (numbered_frame(500 * i + j) for j in range(24)))
    return folder


@pytest.mark.parametrize("unit", ["frame", "clip"])
def test_the_server_says_what_the_same_model_says_here(served, clips, tmp_path, run_script, unit):
    import torch

    model, url = served
    done = run_script(
        "caption_video_frame.py", "--video_folder", clips, "--captioner", "openai", "--base_url", url, "--image_caption_model_name", model,
        "--frame_sample_method", "uniform", "--num_sampled_frames", 2, "--caption_unit", unit, "--image_caption_prompt", PROMPT,
        "--saved_path", "rows.jsonl", "--max_new_tokens", 32, "--n_jobs", 1, "--skip_sight_check",
    )  # fmt: skip
    assert "2 rows in = 2 captioned + 0 errors" in done.stdout
    rows = {row["video_path"]: row["sampled_frame_caption"] for row in read_rows(tmp_path / "rows.jsonl")}
    engine = TransformersEngine(model, TransformersOptions(), images=True)

    def here(*content) -> str:
        engine.submit(Request("", 0, content, Sampling(32)))
        ((_, answer),) = engine.finished()
        return answer.text

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for clip in CLIPS:
        got = read_images({"video_path": clip}, clips, FrameSampling("uniform", 2), 10**6, True)
        first, second = (np.asarray(Image.open(io.BytesIO(picture))) for picture in got["images"])
        if unit == "frame":
            assert rows[clip] == [here(first, PROMPT), here(second, PROMPT)]
        else:
            assert rows[clip] == [here("0.0 s:", first, "0.5 s:", second, PROMPT)]
    torch.set_num_threads(threads)
    assert rows["a.mp4"] != rows["b.mp4"]
