"""The table of models, and servers that a run starts, asks and stops."""

import os
import shlex
import signal
import subprocess
import sys
import time

import psutil
import pytest
import tiny_models
from conftest import ROOT, numbered_frame, write_video

import caption_summary
import caption_video_frame
import export_dataset
from utils.captioning import model_table
from utils.captioning.engines import ENGINES
from utils.captioning.model_table import hub_id
from utils.captioning.prompts import FOLDER, STYLES, prompt_text
from utils.captioning.server import SERVERS
from utils.errors import UsageError
from utils.rows import read_rows

TABLE = read_rows(model_table.TABLE)


def test_the_table_is_whole():
    aliases = [row["alias"] for row in TABLE]
    assert len(set(aliases)) == len(aliases)
    assert set(aliases) >= {"llava-v1.6-vicuna-7b", "Qwen-VL", "ShareGPT4V-7B", "deepseek-vl-7b-chat"}
    assert set(aliases) >= {"Qwen2.5-VL-7B", "Qwen3-VL-8B", "InternVL3-8B", "SmolVLM2-500M", "Qwen2.5-7B-Instruct"}
    for row in TABLE:
        assert row["licence"] and row["gib"] > 0 and row["billions"] > 0 and row["task"] in ("caption", "summary")
        assert row["ids"].keys() <= {*ENGINES, *SERVERS}
        # A sentence about an engine that cannot run it needs a reason.
        assert "note" in row or row["ids"].keys() >= {"transformers", "vllm", "sglang", "lmdeploy"}
        assert "chat_template" not in row or (FOLDER / row["chat_template"]).is_file()


def test_a_name_becomes_the_id_that_its_engine_takes(tmp_path):
    assert hub_id("llava-v1.6-vicuna-7b", "vllm") == "llava-hf/llava-v1.6-vicuna-7b-hf"
    assert hub_id("liuhaotian/llava-v1.6-vicuna-7b", "transformers") == "llava-hf/llava-v1.6-vicuna-7b-hf"
    assert hub_id("llava-v1.6-vicuna-7b", "sglang") == "liuhaotian/llava-v1.6-vicuna-7b"
    assert hub_id("qwen2.5-vl-7b", "openai") == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert hub_id("somebody/model", "vllm") == "somebody/model"
    assert hub_id(str(tmp_path), "vllm") == str(tmp_path)
    assert hub_id("gpt-4o", "openai") == "gpt-4o"


@pytest.mark.parametrize(
    "name, engine, told",
    [
        (
            "Qwen-VL",
            "vllm",
            [
                "vllm cannot run Qwen-VL (",
                "vLLM ran it up to 0.23",
                "; use openai, or another model, such as Qwen2.5-VL-7B",
            ],
        ),
        ("deepseek-vl-7b-chat", "vllm", ["vllm cannot run deepseek-vl-7b-chat (", "; use transformers or lmdeploy"]),
        ("SmolVLM2-500M", "sglang", ["sglang cannot run SmolVLM2-500M (", "; use transformers or vllm"]),
        ("lava", "transformers", ["lava is neither a folder, nor a hub id", "the known names: llava-v1.6-vicuna-7b, "]),
        ("./missing/folder", "vllm", ["./missing/folder is neither a folder"]),
    ],
)
def test_a_model_that_an_engine_cannot_run_is_a_sentence(name, engine, told):
    with pytest.raises(UsageError) as error:
        hub_id(name, engine)
    assert all(part in str(error.value) for part in told)


def test_every_style_has_its_prompt():
    for style in STYLES.values():
        assert prompt_text(style.prompt)
    assert prompt_text("What is 'this'?\nSay it.") == "What is 'this'?\nSay it."
    for wrong, reason in {
        "missing.txt": "no such file",
        " \n": "prompt is empty",
        "": "prompt is empty",
        "a \udcff": "character 3 is not UTF-8",
    }.items():
        with pytest.raises(UsageError, match=reason):
            prompt_text(wrong)


def test_a_prompt_file_is_utf8_with_or_without_its_mark(tmp_path):
    file = tmp_path / "p.txt"
    file.write_bytes("\ufeffWhat is “this”?\r\nSay it.\r\n".encode())
    assert prompt_text(str(file)) == "What is “this”?\nSay it."
    file.write_bytes(b"What is \x93this\x94?")
    with pytest.raises(UsageError, match=r"p\.txt is not UTF-8 \(byte 9\)"):
        prompt_text(str(file))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for name, first in (("a", 5), ("b", 500)):
        write_video(folder / f"{name}.mp4", (numbered_frame(first + i) for i in range(24)))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_models.build("qwen2_5_vl", tmp_path_factory.mktemp("models") / "tiny qwen")


def command(clip, model, saved_path, *more):
    return [
        sys.executable, str(ROOT / "caption_video_frame.py"), "--video_folder", clip, "--saved_path", saved_path, "--captioner", "openai",
        "--image_caption_model_name", model, "--n_jobs", "1", "--max_retries", "0", "--skip_sight_check", *more,
    ]  # fmt: skip


# A proxy that leads nowhere: a server on this machine is asked without it.
PROXY = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
ENVIRONMENT = {**os.environ, **PROXY, "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}


def left_of(model) -> list[psutil.Process]:
    """Server processes that hold the model of these tests."""
    return [
        p
        for p in psutil.process_iter(["cmdline"])
        if "serve" in (line := p.info["cmdline"] or []) and str(model) in line
    ]


@pytest.mark.slow
def test_a_run_starts_its_server_asks_it_and_stops_it(clip, model, tmp_path, run_main):
    served = command(clip, model, tmp_path / "rows.jsonl", "--engine_server", "transformers")
    ran = subprocess.run(served, env=ENVIRONMENT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 captioned + 0 errors" in ran.stdout and "transformers is ready after" in ran.stdout
    here = command(clip, model, tmp_path / "here.jsonl")
    here[here.index("openai")] = "transformers"
    run_main(caption_video_frame, *here[2:])
    texts = [
        [row["sampled_frame_caption"] for row in read_rows(tmp_path / name)] for name in ("rows.jsonl", "here.jsonl")
    ]
    assert len(texts[0]) == 2 and all(text for (text,) in texts[0] + texts[1]) and texts[0][0] != texts[0][1]
    assert not left_of(model)
    again = subprocess.run(served, env=ENVIRONMENT, capture_output=True, text=True)
    assert "0 due" in again.stdout and "is ready" not in again.stdout  # no server for nothing


def test_a_killed_run_leaves_no_server(clip, model, tmp_path):
    run = subprocess.Popen(
        command(clip, model, tmp_path / "rows.jsonl", "--engine_server", "transformers"),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
    )
    began = time.monotonic()
    while not left_of(model) and time.monotonic() < began + 60:
        time.sleep(0.2)
    assert left_of(model)
    run.send_signal(signal.SIGKILL)
    run.wait()
    while left_of(model) and time.monotonic() < began + 120:
        time.sleep(0.2)
    assert not left_of(model)


@pytest.mark.parametrize(
    "server, more, told",
    [
        ("vllm", (), "--engine_server vllm: the program vllm is not on the PATH"),
        (
            "transformers",
            ("--captioner", "transformers"),
            "needs --captioner or --summarizer openai, not ",
        ),
        ("vllm", ("--captioner", "attributes"), "needs --captioner or --summarizer openai, not "),
        ("transformers", ("--base_url", "http://127.0.0.1:1/v1"), "names another one; pass only one of the two"),
        ("transformers", ("--server_args='",), "--server_args ': No closing quotation"),
    ],
)
def test_a_server_that_cannot_be_started_is_a_sentence(clip, model, tmp_path, monkeypatch, ended, server, more, told):
    for name, value in {**ENVIRONMENT, "PATH": "/usr/bin:/bin"}.items():
        monkeypatch.setenv(name, value)
    flags = command(clip, model, tmp_path / "rows.jsonl", "--engine_server", server, *more)[2:]
    code, said = ended("caption_video_frame.py", *flags)
    assert code == 2 and told in said and "Traceback" not in said
    assert not (tmp_path / "rows.jsonl").exists() and not left_of(model)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more, told",
    [
        pytest.param(
            "--server_args=--no-such-flag", "transformers ended before it was ready", marks=pytest.mark.release
        ),
        ("--server_seconds=1", "was not ready after 1 seconds"),
    ],
)
def test_a_server_that_does_not_come_is_a_sentence(clip, model, tmp_path, more, told):
    run = command(clip, model, tmp_path / "rows.jsonl", "--engine_server", "transformers", more)
    ran = subprocess.run(run, env={**ENVIRONMENT, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert ran.returncode == 1 and told in ran.stderr and "Traceback" not in ran.stderr
    assert not (tmp_path / "rows.jsonl").exists() and not left_of(model)


@pytest.mark.slow
def test_stage_3_takes_everything_from_the_environment(clip, model, tmp_path, run_main):
    """The commands that the stage prints, and PYTHON=true does not run, in this process, which has loaded torch."""
    rows = '{"video_path": "a.mp4", "motion_score": 3.21, "camera_motion": "pan left"}\n{"video_path": "b.mp4"}\n'
    (tmp_path / "train.jsonl").write_text(rows)
    environment = {
        **ENVIRONMENT, "DATASET_FOLDER": str(tmp_path), "VIDEO_FOLDER": str(clip), "PYTHON": "true", "GPUS": "0", "PRESET": "cpu", "REPORT": "0",
        "IMAGE_CAPTION_MODEL": str(model), "NUM_SAMPLED_FRAMES": "2", "CAPTION_UNIT": "frame", "SUMMARIZER": "transformers", "N_JOBS": "1",
        "SUMMARY_MODEL": str(tiny_models.build("qwen2", tmp_path / "llm")), "APPEND_ATTRIBUTES": "1", "SEED": "3", "SKIP_SIGHT_CHECK": "1",
    }  # fmt: skip
    ran = subprocess.run(
        ["sh", str(ROOT / "stage_3_video_caption.sh")], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 1 and "nothing is left" in ran.stderr, ran.stdout + ran.stderr  # nothing was run
    commands = [line.removeprefix(f"+ true {ROOT}/") for line in ran.stdout.splitlines() if line.startswith("+ ")]
    scripts = (caption_video_frame, caption_summary, export_dataset)
    for script, printed in zip(scripts, commands, strict=True):
        name, _, flags = printed.partition(" ")
        assert name == f"{script.__name__}.py"
        run_main(script, *shlex.split(flags))
    first, second = read_rows(tmp_path / "summary_caption.jsonl")
    assert first["summary_caption"].startswith("In this video") and first["summary_caption"].endswith(
        " Camera motion: pan left. Motion score: 3.2."
    )
    assert "Camera motion" not in second["summary_caption"]
    assert [len(row["sampled_frame_caption"]) for row in read_rows(tmp_path / "frame_caption.jsonl")] == [2, 2]
    assert (tmp_path / "train_panda_70m.json").is_file()
