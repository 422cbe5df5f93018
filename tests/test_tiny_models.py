"""The tiny checkpoints answer: another image gets another sentence, the same image the same one, and every answer ends by itself."""

import numpy as np
import pytest
import tiny_models
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8)
PICTURES = [Image.new("RGB", (320, 180), "red"), Image.new("RGB", (320, 180), "blue"), Image.fromarray(NOISE)]


@pytest.fixture(autouse=True)
def one_thread():
    """More threads only wait for each other on matrices of 64 columns."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def answer(processor, model, content: str | list[dict], **template) -> str:
    """The text after greedy decoding of one request, which must end with the end-of-sequence token."""
    import torch

    asked = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        **template,
    )
    said = model.generate(**asked, do_sample=False, max_new_tokens=64)[0, asked["input_ids"].shape[1] :]
    assert said[-1] == getattr(processor, "tokenizer", processor).eos_token_id, "the answer ran to the limit"
    assert torch.isin(said[-1], torch.tensor(model.generation_config.eos_token_id))
    return processor.decode(said, skip_special_tokens=True)


@pytest.mark.parametrize("family", tiny_models.IMAGE_FAMILIES)
def test_pictures_decide_the_words(tmp_path, family):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    if family == "smolvlm":
        pytest.importorskip("num2words", reason="the SmolVLM processor of transformers asks for it")
    folder = tiny_models.build(family, tmp_path / family)
    assert (folder / "model.safetensors").stat().st_size < 2e6
    processor = AutoProcessor.from_pretrained(folder)
    model, loaded = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not loaded["missing_keys"] and not loaded["unexpected_keys"], loaded

    def describe(*pictures: Image.Image) -> str:
        images = [{"type": "image", "image": picture} for picture in pictures]
        return answer(processor, model, [*images, {"type": "text", "text": "Describe the picture."}])

    texts = [describe(picture) for picture in PICTURES]
    texts += [describe(*PICTURES[:2]), describe(*PICTURES[1::-1])]
    assert len(set(texts)) == 5, texts
    assert describe(PICTURES[0]) == texts[0]
    for text in texts:
        assert text.split()[0] in tiny_models.FIRST and text.endswith(".") and len(text.split()) in (7, 11), text


@pytest.mark.parametrize("family", tiny_models.TEXT_FAMILIES)
def test_prompts_decide_the_words(tmp_path, family):
    from transformers import AutoModelForCausalLM, AutoProcessor

    folder = tiny_models.build(family, tmp_path / family)
    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    texts = [answer(processor, model, f"Frame 1: {said}. 影片") for said in ("A dog runs", "A boat", "A dog runs")]
    assert texts[0] == texts[2] != texts[1]
    for text in texts:
        assert ("<think>" in text) == (family == "qwen3")
        assert text.split("\n")[-1].startswith("In this video,") and text.endswith("."), text
    if family == "qwen3":
        assert answer(processor, model, "A dog", enable_thinking=False).startswith("In this video,")


def test_a_bare_snapshot_answers_with_a_hand(tmp_path):
    from tiny_families import VICUNA
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = tiny_models.build("sharegpt4v", tmp_path / "sharegpt4v-7b-hf")
    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    content = [{"type": "image", "image": PICTURES[0]}, {"type": "text", "text": "Describe the picture."}]
    with pytest.raises(ValueError, match="chat template"):
        answer(processor, model, content)
    processor.chat_template = VICUNA
    with pytest.raises(TypeError, match="NoneType"):
        answer(processor, model, content)
    processor.patch_size, processor.num_additional_image_tokens = model.config.vision_config.patch_size, 1
    processor.vision_feature_select_strategy = model.config.vision_feature_select_strategy
    assert answer(processor, model, content).endswith(".")


@pytest.mark.parametrize("family", ["llava_next", "deepseek_vl"])
def test_text_that_is_no_list_of_parts_vanishes(tmp_path, family):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(tiny_models.build(family, tmp_path / family))
    parts = [{"type": "text", "text": "Describe the picture."}]
    asked = [processor.apply_chat_template([{"role": "user", "content": c}]) for c in (parts, "Describe the picture.")]
    assert "Describe" in asked[0] and "Describe" not in asked[1]
