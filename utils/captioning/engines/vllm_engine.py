"""The engine that runs a model in this process by vLLM: requests join and leave its batch as they come and end."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from utils.captioning.chat import Answer, Request, messages
from utils.errors import Failure, RunError, UsageError
from utils.models.weights import has_tokenizer


class VllmEngine:
    """A model of a local folder (hub snapshot), on `tensor_parallel_size` GPUs of this rank's own.

    `pictures`: the most that one request shows; `chat_template`: for a model that brings none; `options` go to `vllm.LLM` as they are.

    Raises: `UsageError` with a sentence where vLLM is not installed or cannot run the model.
    """

    def __init__(
        self,
        folder: Path,
        flag: str,
        *,
        pictures: int,
        tensor_parallel_size: int = 1,
        chat_template: str | None = None,
        options: dict | None = None,
    ):
        _own_gpus(tensor_parallel_size)
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        # A fork would hold our readers' pipes open, and would not import what ends it with us (utils/engines.py).
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        try:
            import vllm
            import vllm.exceptions
        except ImportError as error:
            raise UsageError(
                f"vLLM cannot be imported ({error}): uv pip install -r requirements-vllm.txt, or choose transformers or openai"
            ) from None
        from PIL import Image

        self.vllm, self.picture = vllm, Image.fromarray
        options = ({"limit_mm_per_prompt": {"image": pictures}} if pictures else {}) | (options or {})
        if "tokenizer" not in options and not has_tokenizer(folder):
            raise UsageError(f"{flag} {folder}: holds no tokenizer (tokenizer.json, tokenizer_config.json)")
        self.chat_template = chat_template
        try:
            self.llm = vllm.LLM(
                str(folder),
                tensor_parallel_size=tensor_parallel_size,
                enable_prefix_caching=True,
                disable_log_stats=True,
                **options,
            )
        except (vllm.exceptions.VLLMError, ValueError, OSError, RuntimeError, TypeError) as error:
            raise UsageError(f"{flag} {folder}: vLLM cannot run it: {_first_line(error)}") from error
        if pictures and not self.llm.model_config.is_multimodal_model:
            raise UsageError(
                f"{flag} {folder}: it cannot be shown pictures; take a model that sees, such as Qwen2.5-VL-7B"
            )
        self.most = 2 * self.llm.llm_engine.vllm_config.scheduler_config.max_num_seqs
        self.open: dict[str, Request] = {}
        self.refused: list[tuple[Request, Failure]] = []

    def room(self) -> bool:
        return len(self.open) < self.most

    def submit(self, request: Request) -> None:
        sampling = request.sampling
        kinds = self.vllm.sampling_params
        chat = messages(request, lambda picture: {"type": "image_pil", "image_pil": self.picture(picture)})
        try:
            params = self.vllm.SamplingParams(
                max_tokens=sampling.max_new_tokens, temperature=sampling.temperature, seed=request.seed(),
                structured_outputs=kinds.StructuredOutputsParams(json=sampling.schema) if sampling.schema else None,
                output_kind=kinds.RequestOutputKind.FINAL_ONLY,
            )  # fmt: skip
            (name,) = self.llm.enqueue_chat(
                chat, params, use_tqdm=False, chat_template=self.chat_template, chat_template_kwargs={"enable_thinking": False}
            )  # fmt: skip
        # Longer than the model's context, say: this request's own fault.
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
        except self.vllm.exceptions.VLLMServerError as error:  # its process has died, for want of memory, say
            raise RunError(f"vLLM has ended: {_first_line(error)}") from error
        return itertools.chain(refused, [(self.open.pop(out.request_id), _answer(out.outputs[0])) for out in ended])


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _answer(output) -> Answer:
    return Answer(output.text, cut=output.finish_reason == "length", tokens=len(output.token_ids))


def _own_gpus(count: int) -> None:
    """Leave this rank the `count` GPUs that are its own, and hide the launcher's variables: vLLM has ranks of its own."""
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
