"""The engine that runs a model in this process by transformers: on a CPU, or on the rank's own GPU."""

import json
from collections import deque
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path
from pickle import UnpicklingError

import torch
import transformers
from jinja2 import TemplateError
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from utils.captioning.chat import Answer, Request, messages
from utils.errors import Failure, UsageError
from utils.models.device import rank_device
from utils.models.weights import has_tokenizer

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class TransformersEngine:
    """A model of a local folder (hub snapshot) that answers `batch_size` requests at a time.

    `pictures` says whether it will be shown any. `dtype`: a name of `DTYPES`, or `auto`: the weights' own on a GPU,
    float32 on a CPU. `chat_template`: in the place of the model's own.

    Raises: `UsageError` with a sentence where the folder holds no such model.
    """

    def __init__(
        self,
        folder: Path,
        flag: str,
        *,
        pictures: bool,
        batch_size: int = 1,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        chat_template: str | None = None,
    ):
        self.name, self.device, self.batch_size = f"{flag} {folder}", rank_device(), batch_size
        dtype = DTYPES.get(dtype) or ("auto" if self.device.type == "cuda" else torch.float32)
        trust, load = {"trust_remote_code": trust_remote_code}, partial(_load, folder, flag)
        config = load("config.json", AutoConfig, **trust)
        self.sees = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES or (
            "AutoModelForImageTextToText" in getattr(config, "auto_map", {})
        )
        if pictures and not self.sees:
            raise UsageError(
                f"{flag} {folder}: {config.model_type} is no model that transformers shows pictures to; if it sees by code of its own, "
                "--captioner vllm or openai may run it; else take one that sees, such as Qwen2.5-VL-7B"
            )
        self.processor = load("tokenizer or processor", AutoProcessor if self.sees else AutoTokenizer, **trust)
        # LLaVA's folders from before processors had a file of their own.
        if getattr(self.processor, "patch_size", 0) is None:
            self.processor.patch_size = config.vision_config.patch_size
            self.processor.vision_feature_select_strategy = config.vision_feature_select_strategy
            self.processor.num_additional_image_tokens = 1
        kind = AutoModelForImageTextToText if self.sees else AutoModelForCausalLM
        model, found = load("weights", kind, dtype=dtype, output_loading_info=True, **trust)
        # transformers fills what is missing with random numbers, and such a model answers without complaint.
        if missing := sorted(found["missing_keys"]):
            raise UsageError(f"{flag} {folder}: its weights lack {len(missing)} tensors, such as {missing[0]}")
        self.model = model.to(self.device).eval()
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        # Where its files are missing, transformers makes some tokenizers without a vocabulary, and does not complain.
        if not isinstance(self.tokenizer, transformers.PreTrainedTokenizerBase) or not has_tokenizer(folder):
            raise UsageError(f"{flag} {folder}: holds no tokenizer (tokenizer.json, tokenizer_config.json)")
        if chat_template:
            self.processor.chat_template = chat_template
        if not (self.processor.chat_template or self.tokenizer.chat_template):
            raise UsageError(
                f"{flag} {folder}: it has no chat template; give its format with --chat_template, or take a model that answers (instruct, chat)"
            )
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self.ends = set(ends if isinstance(ends, list) else [ends])
        self.waiting: deque[Request] = deque()

    def room(self) -> bool:
        return len(self.waiting) < self.batch_size

    def submit(self, request: Request) -> None:
        self.waiting.append(request)

    @torch.inference_mode()
    def finished(self) -> Iterable[tuple[Request, Answer | Failure]]:
        """The answers to the next requests of one sampling, at most `batch_size`."""
        batch = [self.waiting.popleft()]
        while self.waiting and len(batch) < self.batch_size and _like(self.waiting[0]) == _like(batch[0]):
            batch.append(self.waiting.popleft())
        sampling = batch[0].sampling
        # A processor passes on to itself what its template does not name, and says so; a tokenizer takes what is its own.
        own = {"processor_kwargs": {"padding": True}} if self.sees else {"padding": True, "enable_thinking": False}
        chats = [messages(request, _picture, parts_always=self.sees) for request in batch]
        try:
            inputs = self.processor.apply_chat_template(
                chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **own
            ).to(self.device)
        except (ValueError, TemplateError) as error:  # a template that is none, or has no place for pictures
            told = " ".join(str(error).split())[:300]
            raise UsageError(f"{self.name}: its chat template does not take the question: {told}") from None
        inputs = {name: t.to(self.model.dtype) if t.is_floating_point() else t for name, t in inputs.items()}
        drawn = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if sampling.temperature > 0:
            drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": 1.0, "top_k": 0}
            torch.manual_seed(batch[0].seed())
        if sampling.schema:
            drawn["logits_processor"] = [_json_processor(self, sampling.schema)]
        out = self.model.generate(
            **inputs, **drawn, max_new_tokens=sampling.max_new_tokens, pad_token_id=self.tokenizer.pad_token_id,
            repetition_penalty=1.0,  # where the folder sets one, it would hold for greedy words too, in this engine alone
        )  # fmt: skip
        new = out[:, inputs["input_ids"].shape[1] :].tolist()
        return [(request, self._answer(tokens)) for request, tokens in zip(batch, new, strict=True)]

    def _answer(self, tokens: list[int]) -> Answer:
        end = next((i for i, token in enumerate(tokens) if token in self.ends), None)
        text = self.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        return Answer(text, cut=end is None, tokens=len(tokens[:end]))


def _load(folder: Path, flag: str, what: str, kind: type, **options):
    """What `kind`, a class of transformers, makes of `folder`.

    Raises: `UsageError` for files that are missing or are none.
    """
    try:
        return kind.from_pretrained(folder, **options)
    except (
        OSError, ValueError, KeyError, AttributeError, ImportError, RuntimeError, EOFError, SafetensorError, UnpicklingError,
    ) as error:  # fmt: skip
        told = " ".join(str(error).split())[:300]
        raise UsageError(f"{flag} {folder}: transformers cannot load its {what}: {told}") from None


def _picture(picture) -> dict:
    return {"type": "image", "image": Image.fromarray(picture)}


def _like(request: Request) -> tuple:
    """What the requests of one batch have in common; a drawn answer has a seed of its own, and so a batch."""
    s = request.sampling
    return s.max_new_tokens, s.temperature, bool(s.schema), request.seed() if s.temperature else None


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

    return LogitsProcessor(_json_grammar(engine, json.dumps(schema)))  # one a call: it keeps the state of the texts
