"""The engine that runs a model in this process by vLLM: requests join and leave its batch as they come and end."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from utils.arguments import UsageError
from utils.chat import Answer, Request, messages
from utils.workers import Failure


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
        try:
            import vllm
        except ImportError as error:
            raise UsageError(
                f"vLLM cannot be imported ({error}): uv pip install -r requirements-vllm.txt, or choose transformers or openai"
            ) from None
        from PIL import Image

        self.vllm, self.picture = vllm, Image.fromarray
        options = ({"limit_mm_per_prompt": {"image": pictures}} if pictures else {}) | (options or {})
        self.chat_template = chat_template
        try:
            self.llm = vllm.LLM(
                str(folder),
                tensor_parallel_size=tensor_parallel_size,
                enable_prefix_caching=True,
                disable_log_stats=True,
                **options,
            )
        except (
            ValueError,
            OSError,
            RuntimeError,
            TypeError,
        ) as error:  # of a model or an option that it cannot run, in words
            raise UsageError(f"{flag} {folder}: vLLM cannot run it: {str(error).strip().split(chr(10))[0]}") from error
        self.most = 2 * self.llm.llm_engine.vllm_config.scheduler_config.max_num_seqs
        self.open: dict[str, Request] = {}
        self.refused: list[tuple[Request, Failure]] = []

    def room(self) -> bool:
        return len(self.open) < self.most

    def submit(self, request: Request) -> None:
        sampling = request.sampling
        schema = self.vllm.sampling_params.StructuredOutputsParams(json=sampling.schema) if sampling.schema else None
        params = self.vllm.SamplingParams(
            max_tokens=sampling.max_new_tokens, temperature=sampling.temperature, seed=request.seed(), structured_outputs=schema,
            output_kind=self.vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
        )  # fmt: skip
        chat = messages(request, lambda picture: {"type": "image_pil", "image_pil": self.picture(picture)})
        try:
            (name,) = self.llm.enqueue_chat(
                chat, params, use_tqdm=False, chat_template_kwargs={"enable_thinking": False}
            )
        except ValueError as error:  # longer than the model's context, say: this request's own fault
            self.refused.append((request, Failure("RequestRefused", str(error).strip().split("\n")[0])))
        else:
            self.open[name.rsplit("-", 1)[0]] = request  # its outputs come under the name without the random end

    def finished(self) -> Iterable[tuple[Request, Answer | Failure]]:
        refused, self.refused = self.refused, []
        if not self.open:
            return refused
        ended = [out for out in self.llm.llm_engine.step() if out.finished]
        return itertools.chain(refused, [(self.open.pop(out.request_id), _answer(out.outputs[0])) for out in ended])


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
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
