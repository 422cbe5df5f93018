"""The engine that runs a model in this process with transformers: on a CPU, or on the rank's own GPU."""

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar

from utils.captioning.answer_text import markup_tokens
from utils.captioning.chat import Answer, Request, Sampling, messages
from utils.captioning.engine_choice import EngineChoice, dtype_flag, trust_remote_code_flag
from utils.captioning.model_table import hub_id
from utils.cli import at_least, flag
from utils.errors import Failure, UsageError
from utils.models.weights import has_tokenizer
from utils.workers.ranks import Ranks


@dataclass(frozen=True)
class TransformersOptions:
    """runs the model in this process, on the CPU or the rank's GPU; start several ranks with accelerate launch"""

    packages: ClassVar[tuple[str, ...]] = ("transformers",)
    jpeg: ClassVar[bool] = False

    batch_size: int = flag(1, "requests per batch; above 1, batch composition may change the output", at_least(1))
    dtype: str = dtype_flag()
    trust_remote_code: bool = trust_remote_code_flag()

    def check(self, model: str) -> None:
        hub_id(model, "transformers")

    def open(self, choice: EngineChoice, ranks: Ranks) -> "TransformersEngine":
        folder = choice.model_folder("transformers", ranks)
        return TransformersEngine(folder, self, images=choice.images > 0, chat_template=choice.template_text())


class TransformersEngine:
    """A model from a local folder (hub snapshot) that answers requests in batches of `options.batch_size`.

    `images`: whether requests have any. `chat_template`: its text, in place of the model's own.

    Raises: `UsageError` where the folder holds no such model.
    """

    def __init__(
        self, folder: Path, options: TransformersOptions, *, images: bool = False, chat_template: str | None = None
    ):
        import transformers
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

        from utils.models.device import rank_device

        self.folder, self.device, self.batch_size = folder, rank_device(), options.batch_size
        dtype = options.dtype
        if dtype == "auto" and self.device.type == "cpu":
            dtype = "float32"
        load = partial(_load, folder, trust_remote_code=options.trust_remote_code)
        config = load("config.json", transformers.AutoConfig)
        self.sees = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES or (
            "AutoModelForImageTextToText" in getattr(config, "auto_map", {})
        )
        if images and not self.sees:
            raise UsageError(
                f"{folder}: transformers does not treat {config.model_type} as a vision-language model; use one, such as "
                "Qwen2.5-VL-7B, or try the vllm or openai engine if the model ships its own image code"
            )
        self.processor = load(
            "tokenizer or processor", transformers.AutoProcessor if self.sees else transformers.AutoTokenizer
        )
        if getattr(self.processor, "patch_size", 0) is None:  # LLaVA folders of a time before processors had a file
            self.processor.patch_size = config.vision_config.patch_size
            self.processor.vision_feature_select_strategy = config.vision_feature_select_strategy
            self.processor.num_additional_image_tokens = 1
        kind = transformers.AutoModelForImageTextToText if self.sees else transformers.AutoModelForCausalLM
        model, found = load("weights", kind, dtype=dtype, output_loading_info=True)
        # transformers fills in missing tensors with random numbers, and such a model answers without complaint.
        if missing := sorted(found["missing_keys"]):
            raise UsageError(f"{folder}: its weights lack {len(missing)} tensors, such as {missing[0]}")
        self.model = model.to(self.device).eval()
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        # Without its files, transformers makes some tokenizers with an empty vocabulary, and does not complain.
        if not isinstance(self.tokenizer, transformers.PreTrainedTokenizerBase) or not has_tokenizer(folder):
            raise UsageError(f"{folder}: contains no tokenizer (tokenizer.json, tokenizer_config.json)")
        if chat_template:
            self.processor.chat_template = chat_template
        if not (self.processor.chat_template or self.tokenizer.chat_template):
            raise UsageError(
                f"{folder}: no chat template; pass one with --chat_template, or use an instruct or chat model"
            )
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self.ends = set(ends if isinstance(ends, list) else [ends])
        self.control_tokens = markup_tokens([*self.tokenizer.get_added_vocab(), *self.tokenizer.all_special_tokens])
        self.waiting: deque[Request] = deque()

    def room(self) -> bool:
        return len(self.waiting) < self.batch_size

    def submit(self, request: Request) -> None:
        self.waiting.append(request)

    def finished(self) -> Iterable[tuple[Request, Answer | Failure]]:
        """The answers to the next requests with the same sampling, at most `batch_size`."""
        import torch

        batch = [self.waiting.popleft()]
        while self.waiting and len(batch) < self.batch_size and _batch_key(self.waiting[0]) == _batch_key(batch[0]):
            batch.append(self.waiting.popleft())
        with torch.inference_mode():
            inputs = self._inputs(batch)
            likeliest = _Likeliest(batch[0].sampling.alternatives)
            out = self.model.generate(
                **inputs, **self._sampling_options(batch[0].sampling, batch[0].seed(), likeliest),
                max_new_tokens=batch[0].sampling.max_new_tokens, pad_token_id=self.tokenizer.pad_token_id,
                repetition_penalty=1.0,  # a folder's own would apply to greedy decoding too, in this engine alone
            )  # fmt: skip
        new = out[:, inputs["input_ids"].shape[1] :].tolist()
        return [
            (request, self._answer(tokens, likeliest.of(i, self.tokenizer)))
            for i, (request, tokens) in enumerate(zip(batch, new, strict=True))
        ]

    def _inputs(self, batch: list[Request]) -> dict[str, Any]:
        """The batch as tensors on the device.

        Raises: `UsageError` where the chat template is broken or has no place for images.
        """
        from jinja2 import TemplateError

        # A processor passes what its template does not name on to itself, with a warning; a tokenizer takes what it knows.
        own: dict[str, Any] = {"padding": True, "enable_thinking": False}
        if self.sees:
            own = {"processor_kwargs": {"padding": True}}
        chats = [messages(request, _image_part, always_parts=self.sees) for request in batch]
        try:
            inputs = self.processor.apply_chat_template(
                chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **own
            ).to(self.device)
        except (ValueError, TemplateError) as error:
            raise UsageError(f"{self.folder}: its chat template does not fit the request: {_line(error)}") from None
        return {name: t.to(self.model.dtype) if t.is_floating_point() else t for name, t in inputs.items()}

    def _sampling_options(self, sampling: Sampling, seed: int, likeliest: "_Likeliest") -> dict[str, Any]:
        import torch

        chosen: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if sampling.temperature > 0:
            chosen = {"do_sample": True, "temperature": sampling.temperature, "top_p": 1.0, "top_k": 0}
            torch.manual_seed(seed)
        processors = [_json_processor(self, sampling.schema)] if sampling.schema else []
        processors += [likeliest] if sampling.alternatives else []
        return chosen | ({"logits_processor": processors} if processors else {})

    def _answer(self, tokens: list[int], likeliest: list[dict[str, float]]) -> Answer:
        end = next((i for i, token in enumerate(tokens) if token in self.ends), None)
        text = self.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        alternatives = [(self.tokenizer.decode([token]), there) for token, there in zip(tokens[:end], likeliest)]
        return Answer(text, cut=end is None, tokens=len(tokens[:end]), alternatives=alternatives)


class _Likeliest:
    """Keeps of each step of `generate` the `count` likeliest tokens, with their probabilities, of each request of the batch."""

    def __init__(self, count: int):
        self.count = count
        self.steps: list[tuple[Any, Any]] = []  # probabilities and tokens, each (batch, count)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.steps.append(scores.float().softmax(-1).topk(min(self.count, scores.shape[-1])))
        return scores

    def of(self, number: int, tokenizer: Any) -> list[dict[str, float]]:
        """Of the batch's request `number`, by the tokens' text: of two with one text, the likelier."""
        return [
            {
                tokenizer.decode([token]): p
                for token, p in reversed([*zip(tokens[number].tolist(), chances[number].tolist())])
            }
            for chances, tokens in self.steps
        ]


def _load(folder: Path, what: str, kind: Any, **options: Any) -> Any:
    """`kind.from_pretrained(folder)`, of a class `kind` of transformers.

    Raises: `UsageError` for files that are missing or broken.
    """
    from safetensors import SafetensorError

    try:
        return kind.from_pretrained(folder, **options)
    except (
        OSError, ValueError, KeyError, AttributeError, ImportError, RuntimeError, EOFError, SafetensorError, UnpicklingError,
    ) as error:  # fmt: skip
        raise UsageError(f"{folder}: transformers cannot load its {what}: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _image_part(image: Any) -> dict:
    from PIL import Image

    return {"type": "image", "image": Image.fromarray(image)}


def _batch_key(request: Request) -> tuple:
    """What the requests of one batch have in common; a sampled answer has its own seed, and so its own batch."""
    s = request.sampling
    seed = request.seed() if s.temperature else None
    return s.max_new_tokens, s.temperature, bool(s.schema), s.alternatives, seed


@lru_cache(maxsize=4)
def _json_grammar(engine: TransformersEngine, schema: str):
    import xgrammar

    config = engine.model.config
    size = getattr(config, "vocab_size", None) or config.get_text_config().vocab_size
    info = xgrammar.TokenizerInfo.from_huggingface(
        engine.tokenizer, vocab_size=size, stop_token_ids=sorted(engine.ends)
    )
    return xgrammar.GrammarCompiler(info).compile_json_schema(schema, any_whitespace=False)


def _json_processor(engine: TransformersEngine, schema: dict):
    from xgrammar.contrib.hf import LogitsProcessor

    return LogitsProcessor(_json_grammar(engine, json.dumps(schema)))  # a new one for each call: it keeps state
