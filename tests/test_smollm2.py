"""A real language model, SmolLM2-135M-Instruct, sums up descriptions with the product's own prompt: in this process, and through
a server that the script starts.
"""

import json

import pytest

from utils.captioning.answer_checks import checks_for, count_words
from utils.captioning.chat import Answer
from utils.captioning.prompts import DESCRIPTIONS, prompt_text
from utils.errors import UsageError
from utils.rows import read_rows

pytestmark = pytest.mark.release
DESCRIPTIONS_OF = {
    "kitchen.mp4": [
        "The image shows a woman in a green apron standing at a kitchen counter. She is slicing carrots on a wooden board with a large "
        "knife. Behind her there is a white oven and a shelf with glass jars, which adds a homely touch to the scene."
    ],
    "harbour.mp4": [
        "A small fishing boat with a red hull lies at a stone pier. Two men in yellow coats are lifting a net out of the water.",
        "The two men have pulled the net onto the deck of the red boat. Gulls are circling above them, and the sky is overcast.",
    ],
    "street.mp4": [
        "In the image, a yellow tram is crossing a wide street in the rain. People with umbrellas are waiting at the kerb, and the wet "
        "asphalt reflects the lights of the shops.\n\nIn the background, there are old buildings with balconies."
    ],
}


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    from tools.smollm2 import save_smollm2

    try:
        return save_smollm2(tmp_path_factory.mktemp("hub") / "SmolLM2-135M-Instruct")
    except UsageError as error:
        pytest.skip(f"no SmolLM2: {error}")


def test_a_small_model_follows_the_prompt_in_this_process_and_through_a_server(smollm2, tmp_path, run_script):
    source = tmp_path / "frame_caption.jsonl"
    rows = [{"video_path": name, "sampled_frame_caption": texts} for name, texts in DESCRIPTIONS_OF.items()]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {}
    for engine, flags in {
        "transformers": ["--dtype", "float32"],
        "openai": ["--engine_server", "transformers"],
    }.items():
        saved = tmp_path / f"{engine}.jsonl"
        run_script(
            "caption_summary.py", "--video_metadata_path", source, "--summarizer", engine, "--summary_model_name", smollm2,
            "--saved_path", saved, *flags,
        )  # fmt: skip
        made[engine] = {row["video_path"]: row["summary_caption"] for row in read_rows(saved)}
    assert made["openai"] == made["transformers"] and made["openai"].keys() == DESCRIPTIONS_OF.keys()
    checks = checks_for(["talk", "echo", "loop"], prompt_text("summary.txt").replace(DESCRIPTIONS, ""), 100)
    for name, caption in made["transformers"].items():
        assert caption.startswith("In this video,") and not [
            check(Answer(caption)) for check in checks if check(Answer(caption))
        ]
        told = set(" ".join(DESCRIPTIONS_OF[name]).lower().split())
        words = [word for word in caption.lower().split() if len(word) > 3]
        assert count_words(caption) > 8 and sum(word in told for word in words) > len(words) / 2, caption
