"""The families of tests/tiny_models.py: what writes the checkpoint of each. It imports torch and transformers, which takes seconds."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import CAPTION, END, SUMMARY, THOUGHT
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

HIDDEN, HEAD_DIM = 64, 32  # 32: the smallest head that vLLM's attention kernels on CPU take
SLOT_DIMS = 24  # the first dimensions of the hidden state hold which slot of the sentence comes next
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # pixels from -1 to 1
VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


# One function a family: tokenizer and template, configuration, processor.


def _llava_next(folder: Path) -> None:
    """LLaVA-1.6 with Vicuna: the whole image and tiles of it."""
    tokenizer = _sentencepiece("<image>", pad_token="<unk>", image_token="<image>")
    pinpoints = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
    config = transformers.LlavaNextConfig(
        text_config=_language("llama", tokenizer),
        vision_config={"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14, **VISION},
        image_token_index=tokenizer.image_token_id,
        image_grid_pinpoints=pinpoints,
        image_seq_length=16,
    )
    pictures = transformers.LlavaNextImageProcessor(**_clip_sizes(56), image_grid_pinpoints=pinpoints)
    processor = transformers.LlavaNextProcessor(
        pictures,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA,
    )
    _save(folder, transformers.LlavaNextForConditionalGeneration(config), processor, CAPTION)


def _llava(folder: Path) -> None:
    """LLaVA-1.5, whose shape ShareGPT4V-7B has: one square from the middle of the image."""
    tokenizer = _sentencepiece("<image>", "<pad>", pad_token="<pad>", image_token="<image>")
    config = transformers.LlavaConfig(
        text_config=_language("llama", tokenizer),
        vision_config={"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14, **VISION},
        image_token_index=tokenizer.image_token_id,
        image_seq_length=16,
    )
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(**_clip_sizes(56)),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA,
    )
    _save(folder, transformers.LlavaForConditionalGeneration(config), processor, CAPTION)


def _sharegpt4v(folder: Path) -> None:
    """ShareGPT4V-7B as its conversion to LlavaForConditionalGeneration is on the hub, older than these files.

    Without chat_template.jinja a request has no prompt (theirs is `VICUNA`), and without processor_config.json the processor does not
    know its patches: set `patch_size` and `vision_feature_select_strategy` as in the model's configuration and
    `num_additional_image_tokens` to 1.
    """
    _llava(folder)
    (folder / "chat_template.jinja").unlink()
    (folder / "processor_config.json").unlink()
    for name in ("preprocessor_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text()) | {"processor_class": "LlavaProcessor"}
        settings.pop("image_token", None)
        (folder / name).write_text(json.dumps(settings, indent=2))


def _deepseek_vl(folder: Path) -> None:
    """DeepSeek-VL 1.3B: SigLIP over the image padded to a square."""
    tokenizer = _deepseek_tokenizer()
    config = transformers.DeepseekVLConfig(
        text_config=_language("llama", tokenizer),
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": 64,
            "patch_size": 16,
            "vision_use_head": False,
            **VISION,
        },
        image_token_id=tokenizer.image_token_id,
        tie_word_embeddings=False,
    )
    pictures = transformers.DeepseekVLImageProcessor(size={"height": 64, "width": 64}, **HALF)
    processor = transformers.DeepseekVLProcessor(pictures, tokenizer, num_image_tokens=16, chat_template=DEEPSEEK)
    _save(folder, transformers.DeepseekVLForConditionalGeneration(config), processor, CAPTION)


def _deepseek_vl_hybrid(folder: Path) -> None:
    """DeepSeek-VL 7B: SigLIP, and SAM over a larger image, side by side."""
    tokenizer = _deepseek_tokenizer()
    config = transformers.DeepseekVLHybridConfig(
        text_config=_language("llama", tokenizer),
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": 64,
            "patch_size": 16,
            "vision_use_head": False,
            **VISION,
        },
        high_res_vision_config={
            "model_type": "sam_vision_model",
            "hidden_size": 32,
            "output_channels": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 128,
            "window_size": 4,
            "global_attn_indexes": [0, 1],
            "num_pos_feats": 16,
            "mlp_dim": 64,
        },
        image_token_id=tokenizer.image_token_id,
        tie_word_embeddings=False,
    )
    pictures = transformers.DeepseekVLHybridImageProcessor(
        size={"height": 64, "width": 64}, high_res_size={"height": 128, "width": 128}, **HALF
    )
    processor = transformers.DeepseekVLHybridProcessor(pictures, tokenizer, num_image_tokens=16, chat_template=DEEPSEEK)
    _save(folder, transformers.DeepseekVLHybridForConditionalGeneration(config), processor, CAPTION)


def _qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL: images in their own shape, 28 x 28 pixels per token."""
    tokenizer = _qwen_tokenizer()
    ids = _qwen_vision_ids(tokenizer)
    rope = {"rope_type": "default", "type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e6}
    config = transformers.Qwen2_5_VLConfig(
        text_config=_language("qwen2_5_vl_text", tokenizer, num_key_value_heads=1, rope_parameters=rope),
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": HIDDEN,
            "fullatt_block_indexes": [1],
        },
        **ids,
    )
    size = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(size=size),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(size=size),
        chat_template=_chatml("You are a helpful assistant.", QWEN_IMAGE),
    )
    # as on the hub: greedy decoding must be asked for
    settings = {"do_sample": True, "temperature": 1e-6, "repetition_penalty": 1.05}
    _save(folder, transformers.Qwen2_5_VLForConditionalGeneration(config), processor, CAPTION, settings)


def _qwen3_vl(folder: Path) -> None:
    """Qwen3-VL: 32 x 32 pixels a token, and features of every vision layer into the first text layers."""
    tokenizer = _qwen_tokenizer()
    rope = {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True, "rope_theta": 5e6}
    config = transformers.Qwen3VLConfig(
        text_config=_language("qwen3_vl_text", tokenizer, num_key_value_heads=1, rope_parameters=rope),
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": HIDDEN,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        **_qwen_vision_ids(tokenizer),
    )
    size = {"shortest_edge": 64 * 64, "longest_edge": 128 * 128}
    processor = transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(size=size, patch_size=16, **HALF),
        tokenizer,
        transformers.Qwen3VLVideoProcessor(size=size, patch_size=16, **HALF),
        chat_template=_chatml(image=QWEN_IMAGE),
    )
    settings = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8}
    _save(folder, transformers.Qwen3VLForConditionalGeneration(config), processor, CAPTION, settings)


def _internvl(folder: Path) -> None:
    """InternVL3 in its `-hf` form: up to 4 tiles and the whole image, then Qwen2."""
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _qwen_tokenizer(*names.values(), eos_token="<|im_end|>", **names)
    config = transformers.InternVLConfig(
        text_config=_language("qwen2", tokenizer, num_key_value_heads=1),
        vision_config={"image_size": 56, "patch_size": 14, "layer_scale_init_value": 1.0, **VISION},
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    size = {"height": 56, "width": 56}
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=4),
        tokenizer,
        transformers.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=_chatml(image="<IMG_CONTEXT>\\n"),
    )
    _save(folder, transformers.InternVLForConditionalGeneration(config), processor, CAPTION)


def _smolvlm(folder: Path) -> None:
    """SmolVLM2: tiles and the whole image, 4 patches per token."""
    names = {
        "fake_image_token": "<fake_token_around_image>",
        "image_token": "<image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = _smol_tokenizer(*names.values(), *tiles, eos_token="<end_of_utterance>", **names)
    config = transformers.SmolVLMConfig(
        text_config=_language("llama", tokenizer),
        vision_config={"image_size": 64, "patch_size": 16, **VISION},
        image_token_id=tokenizer.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    sizes = {"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 64}}
    processor = transformers.SmolVLMProcessor(
        transformers.SmolVLMImageProcessor(**sizes, **HALF),
        tokenizer,
        transformers.SmolVLMVideoProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 64}, **HALF),
        image_seq_len=4,
        chat_template=SMOLVLM,
    )
    _save(folder, transformers.SmolVLMForConditionalGeneration(config), processor, CAPTION)


def _llama(folder: Path) -> None:
    """Llama as SmolLM2 has it: ChatML, a GPT-2 tokenizer."""
    tokenizer = _smol_tokenizer(eos_token="<|im_end|>")
    tokenizer.chat_template = _chatml("You are a helpful AI assistant.")
    config = transformers.LlamaConfig(**_language("llama", tokenizer))
    _save(folder, transformers.LlamaForCausalLM(config), tokenizer, SUMMARY)


def _mistral(folder: Path) -> None:
    """Mistral-7B-Instruct-v0.2: "[INST] … [/INST]", and no system message: its template refuses one."""
    tokenizer = _sentencepiece(pad_token=None)
    tokenizer.chat_template = MISTRAL
    config = transformers.MistralConfig(**_language("mistral", tokenizer, num_key_value_heads=1))
    _save(folder, transformers.MistralForCausalLM(config), tokenizer, SUMMARY)


def _qwen2(folder: Path) -> None:
    """Qwen2.5-Instruct: ChatML with a system message of its own; sampling is the default."""
    tokenizer = _qwen_tokenizer(eos_token="<|im_end|>")
    tokenizer.chat_template = _chatml("You are Qwen. You are a helpful assistant.")
    config = transformers.Qwen2Config(**_language("qwen2", tokenizer, num_key_value_heads=1))
    settings = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}
    _save(folder, transformers.Qwen2ForCausalLM(config), tokenizer, SUMMARY, settings)


def _qwen3(folder: Path) -> None:
    """Qwen3: reasons between <think> and </think> unless the template gets `enable_thinking=False`."""
    tokenizer = _qwen_tokenizer(eos_token="<|im_end|>")
    tokenizer.add_tokens(["<think>", "</think>"])  # plain tokens on the hub too: decoding keeps them
    tokenizer.chat_template = _chatml() + NO_THINKING
    config = transformers.Qwen3Config(**_language("qwen3", tokenizer, num_key_value_heads=1))
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}
    _save(folder, transformers.Qwen3ForCausalLM(config), tokenizer, SUMMARY, settings, thought=THOUGHT)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "llava_next": _llava_next,
    "llava": _llava,
    "sharegpt4v": _sharegpt4v,
    "deepseek_vl": _deepseek_vl,
    "deepseek_vl_hybrid": _deepseek_vl_hybrid,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
}


# Chat templates, in the families' formats. As on the hub, those of LLaVA, DeepSeek-VL and SmolVLM read lists of parts only: a plain
# string as content silently vanishes from their prompts. The others take both.

VICUNA = """{%- for message in messages -%}
{%- if message.role != 'system' -%}{{ 'USER: ' if message.role == 'user' else 'ASSISTANT: ' }}{%- endif -%}
{%- for part in message.content if part.type == 'image' -%}{{ '<image>\\n' }}{%- endfor -%}
{%- for part in message.content if part.type == 'text' -%}{{ part.text }}{%- endfor -%}
{{ '</s>' if message.role == 'assistant' else ' ' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""
DEEPSEEK = """{{- 'You are a helpful language and vision assistant.\\n\\n' -}}
{%- for message in messages -%}
{{ message.role | capitalize + ': ' }}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{ '<image_placeholder>' }}{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{{ '<｜end▁of▁sentence｜>' if message.role == 'assistant' else '\\n\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}
"""
SMOLVLM = """{{- '<|im_start|>' -}}
{%- for message in messages -%}
{{ message.role | capitalize + (':' if message.content[0].type == 'image' else ': ') }}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{ '<image>' }}{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{{ '<end_of_utterance>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}
"""
_PARTS = """{%- if message.content is string -%}{{ message.content }}{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{ 'IMAGE' }}{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
"""
MISTRAL = (
    """{{- '<s>' -}}
{%- for message in messages -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif -%}
{{ '[INST] ' if message.role == 'user' else ' ' }}
"""
    + _PARTS
    + """{{ ' [/INST]' if message.role == 'user' else '</s>' }}
{%- endfor -%}
"""
)
CHATML = (
    """{%- if 'SYSTEM' and messages[0].role != 'system' -%}
{{ '<|im_start|>system\\nSYSTEM<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
"""
    + _PARTS
    + """{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
)
NO_THINKING = """{%- if add_generation_prompt and enable_thinking is defined and enable_thinking is false -%}
{{ '<think>\\n\\n</think>\\n\\n' }}
{%- endif -%}
"""
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def _chatml(system: str = "", image: str = "") -> str:
    """ChatML with `system` as the default system message, and `image` in place of an image."""
    return CHATML.replace("SYSTEM", system).replace("IMAGE", image)


# What the families share.


def _language(model_type: str, tokenizer: PreTrainedTokenizerBase, **changes) -> dict:
    """The settings of a text model: `changes` over full attention with two heads."""
    return {
        "model_type": model_type,
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": HIDDEN // HEAD_DIM,
        "num_key_value_heads": HIDDEN // HEAD_DIM,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 8192,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
        **changes,
    }


def _clip_sizes(side: int) -> dict:
    return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


def _words() -> list[str]:
    """Every word of the grammars, and what prompts are made of, each to become one token."""
    grammar = {word for slot in (*CAPTION, *SUMMARY, *THOUGHT) for word in slot if word != END and word[0] != "<"}
    prompts = "Describe the picture in detail . What happens here ? USER ASSISTANT User Assistant assistant user system You are"
    return sorted(grammar) + [f" {word}" for word in prompts.split()] + prompts.split()


def _train(pre_tokenizer: pre_tokenizers.PreTokenizer, alphabet: list[str], special: list[str]) -> tuple[dict, list]:
    """Vocabulary and merges of a BPE tokenizer that has each of `_words()` in one piece; `special` come first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(_words(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def _sentencepiece(*special: str, pad_token: str | None, **names: str) -> PreTrainedTokenizerBase:
    """Llama's: words begin with "▁", unknown characters fall back to bytes."""
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    vocab, merges = _train(pre_tokenizers.Metaspace(), [], ["<unk>", "<s>", "</s>", *bytes_])
    tokenizer = transformers.LlamaTokenizer(vocab, merges, pad_token=pad_token, extra_special_tokens=names)
    tokenizer.add_special_tokens({"extra_special_tokens": [*special]}, replace_extra_special_tokens=False)
    return tokenizer


def _byte_level(kind: type, first: str, *special: str, **names: str) -> PreTrainedTokenizerBase:
    """GPT-2's: bytes, words with the space before them; the token `first` is 0."""
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocab, merges = _train(pieces, sorted(pieces.alphabet()), [first])
    vocabulary = {"vocab": vocab, "merges": merges}
    if kind is transformers.PreTrainedTokenizerFast:
        tokenizer = Tokenizer(models.BPE(vocab, merges))
        tokenizer.pre_tokenizer, tokenizer.decoder = pieces, decoders.ByteLevel()
        vocabulary = {"tokenizer_object": tokenizer}
    roles = {key: names.pop(key) for key in ("bos_token", "eos_token", "pad_token", "unk_token") if key in names}
    tokenizer = kind(**vocabulary, **roles, extra_special_tokens=names)
    tokenizer.add_special_tokens({"extra_special_tokens": [*special]}, replace_extra_special_tokens=False)
    return tokenizer


def _qwen_tokenizer(*special: str, eos_token: str = "<|im_end|>", **names: str) -> PreTrainedTokenizerBase:
    vision = [f"<|vision_{name}|>" for name in ("start", "end", "pad")]
    special = ("<|im_start|>", "<|im_end|>", *vision, "<|image_pad|>", "<|video_pad|>", *special)
    end = "<|endoftext|>"
    return _byte_level(
        transformers.Qwen2Tokenizer, end, *special, eos_token=eos_token, pad_token=end, unk_token=None, **names
    )


def _qwen_vision_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    tokens = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in tokens.items()}


def _smol_tokenizer(*special: str, eos_token: str, **names: str) -> PreTrainedTokenizerBase:
    end = "<|endoftext|>"
    special = ("<|im_start|>", "<|im_end|>", *special)
    tokens = {"bos_token": "<|im_start|>", "eos_token": eos_token, "pad_token": "<|im_end|>", "unk_token": end}
    return _byte_level(transformers.GPT2Tokenizer, end, *special, **tokens, **names)


def _deepseek_tokenizer() -> PreTrainedTokenizerBase:
    begin, end, image = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<image_placeholder>"
    tokens = {"bos_token": begin, "eos_token": end, "pad_token": end}
    return _byte_level(transformers.PreTrainedTokenizerFast, begin, image, **tokens, image_token=image)


def _save(
    folder: Path,
    model: PreTrainedModel,
    processor: transformers.ProcessorMixin | PreTrainedTokenizerBase,
    sentence: tuple,
    settings: dict | None = None,
    thought: tuple = (),
) -> None:
    """The snapshot: weights that say `sentence`, the processor, and the generation `settings`."""
    tokenizer, vision = getattr(processor, "tokenizer", processor), getattr(model.config, "vision_config", None)
    _spread(model)
    _lay_grammar(model, tokenizer, sentence, thought)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **(settings or {}),
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if processor is not tokenizer:
        processor.image_processor.save_pretrained(folder)  # preprocessor_config.json, which most snapshots still have
    if getattr(vision, "model_type", None) in ("clip_vision_model", "siglip_vision_model"):
        name_as_on_the_hub(folder / "model.safetensors")


def name_as_on_the_hub(path: Path) -> None:
    """Puts back the level that CLIP and SigLIP towers lost in transformers 5: it reads both names, vLLM the hub's only."""
    tower = re.compile(r"^(vision_tower|model\.vision_model)\.")
    weights = {tower.sub(r"\1.vision_model.", name): weight for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


@torch.no_grad()
def _spread(model: PreTrainedModel) -> None:
    """Random weights large enough that a small change in the image or the prompt changes the output.

    With the usual standard deviation of 0.02, every image gives the same output. Steep attention (3 for queries and keys) and
    vision (3) over a tamer rest (1.5) tell 15 of 16 frames of a slow pan apart; 1.5 throughout, 3 to 11; 3 throughout drowns
    the grammar.
    """
    decoder = {id(weight) for weight in model.get_decoder().parameters()}
    for name, weight in model.named_parameters():
        text = id(weight) in decoder or name.startswith("lm_head")
        steep = any(part in name for part in ("q_proj", "k_proj", "q_norm", "k_norm")) or not text
        gain = 3 if steep else 1.5
        if "norm" in name:
            weight.fill_(gain if text and steep else 1) if name.endswith("weight") else weight.zero_()
        elif weight.dim() > 1:
            fan_in = 1 if "embed" in name and "patch" not in name else weight[0].numel()
            weight.normal_(std=gain / fan_in**0.5)
        else:
            weight.normal_(std=0.3)


@torch.no_grad()
def _lay_grammar(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentence: tuple, thought: tuple) -> None:
    """Makes `model` answer in sentences: a slot is a tuple of words of which one comes next, and `END` closes the sentence.

    A token's embedding raises the dimension of the slot that follows it, which no layer writes to, and the output weights of a
    word read the dimensions of the slots it may stand in. All other tokens open the sentence, and a line break opens the
    `thought` if there is one.
    """
    slots = [*sentence, *thought]
    embedding, output = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert len(slots) <= SLOT_DIMS, f"{len(slots)} slots, {SLOT_DIMS} dimensions"
    for layer in model.get_decoder().layers:
        layer.self_attn.v_proj.weight[:, :SLOT_DIMS] = 0
        layer.self_attn.o_proj.weight[:SLOT_DIMS] = 0
        layer.mlp.down_proj.weight[:SLOT_DIMS] = 0
    embedding[:, SLOT_DIMS:] *= 0.3 if hasattr(model.config, "vision_config") else 1
    choices = output[:, SLOT_DIMS:].clone()
    output.zero_()

    def leads_to(token: int | slice, slot: int) -> None:
        embedding[token, :SLOT_DIMS] = 0
        embedding[token, slot] = 6

    leads_to(slice(None), 0)
    leads_to(_token("\n", tokenizer), len(sentence) % len(slots))
    for index, words in enumerate(slots):
        for token in (_token(word, tokenizer) for word in words):
            output[token, index] = 30
            output[token, SLOT_DIMS:] = 4 * choices[token]
            leads_to(token, (index + 1) % len(slots))


def _token(word: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """The one token that `word` is, whatever the tokenizer writes for a space or a line break."""
    if word == END:
        return tokenizer.eos_token_id
    vocab = tokenizer.get_vocab()
    spellings = [word, word.replace(" ", "▁"), f"▁{word}", word.replace(" ", "Ġ").replace("\n", "Ċ")]
    return next(vocab[spelling] for spelling in spellings if spelling in vocab)
