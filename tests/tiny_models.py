"""Tiny checkpoints of the model families that caption and summarise, on disk in the layout of a hub snapshot.

`build(family, folder)` writes config.json, generation_config.json, model.safetensors, the tokenizer, the processor and the
chat template of one family (`IMAGE_FAMILIES`, `BARE_FAMILIES`, `TEXT_FAMILIES`): its configuration classes, special tokens and
prompt format, with random weights of 2 layers and a tokenizer trained on the spot. What loads the real model loads these:

    folder = tiny_models.build("llava_next", tmp_path / "llava-v1.6-vicuna-7b-hf")
    AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)

Plain random weights give the same output for every image, in broken bytes, and never stop. So a small grammar is written into
the embedding and output weights: each word leads to the next slot of a sentence, the random network, and so the image and the
prompt, chooses the word in a slot, and the end-of-sequence token follows the full stop. A caption has 7 or 11 words ("A red dog
chases behind its tower."; 9 or 13 tokens), a summary the same after "In this video,". It works as a digest of the request: the
same request gives the same words, another one others. In float32, as saved, batches and vLLM give the output of single requests;
in bfloat16 a word may differ.
"""

from pathlib import Path

IMAGE_FAMILIES = (
    "llava_next",
    "llava",
    "deepseek_vl",
    "deepseek_vl_hybrid",
    "qwen2_5_vl",
    "qwen3_vl",
    "internvl",
    "smolvlm",
)
BARE_FAMILIES = ("sharegpt4v",)  # need a hand before they answer
TEXT_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")

END = "END"  # stands in a grammar for the end-of-sequence token
FIRST = ("A", "The", "One", "Some", "Every", "Another", "That", "Our")
OPENING = (("In",), (" this",), (" video",), (",",))  # how the default prompt asks a summary to begin
CLAUSE = (
    (" red", " small", " young", " wooden", " bright", " old", " striped", " quiet"),
    (" dog", " woman", " car", " boat", " child", " bird", " horse", " robot"),
    (" chases", " holds", " paints", " passes", " watches", " lifts", " follows", " circles"),
    (" behind", " near", " under", " above", " beside", " inside", " across", " around"),
    (" the", " a", " that", " another", " its", " one", " their", " each"),
    (" tower", " river", " kitchen", " street", " forest", " bridge", " market", " beach"),
    (".", " while", " as", " and"),  # the full stop leads to the end, the others go on
    (" rain", " snow", " smoke", " light", " music", " dust", " water", " wind"),
    (" falls", " drifts", " grows", " fades", " spreads", " rises", " turns", " returns"),
    (" slowly", " suddenly", " softly", " twice", " again", " outside", " everywhere", " nearby"),
    (".",),
    (END,),
)
CAPTION = (FIRST, *CLAUSE)
SUMMARY = (*OPENING, (" my", " some", " every", " your"), *CLAUSE)
THOUGHT = (("<think>",), ("Okay",), (" so",), ("</think>",), ("\n\n",))  # Qwen3, unless told not to think


def build(family: str, folder: str | Path, seed: int = 0) -> Path:
    """Writes the checkpoint of `family` into `folder`, which is made, and returns it; another `seed` gives other captions."""
    import torch  # here, as these imports take seconds, which a test that builds no model must not pay
    from tiny_families import FAMILIES

    folder = Path(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        FAMILIES[family](folder)
    return folder
