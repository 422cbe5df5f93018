"""vLLM in this process: the words of the transformers engine, drawn words by their seed, JSON that keeps to its schema, and requests and
folders that it refuses. A start takes a minute on a CPU; where vLLM is not installed these tests are skipped.
"""

import json
import re

import pytest
import tiny_models
from conftest import numbered_frame

from utils.captioning.chat import Answer, Request, Sampling
from utils.captioning.engines.transformers_engine import TransformersEngine
from utils.captioning.engines.vllm_engine import VllmEngine
from utils.errors import Failure, UsageError

pytest.importorskip("vllm", reason="vLLM is not installed (requirements-vllm.txt)")

PICTURES = [numbered_frame(140 * i)[..., None].repeat(3, 2) for i in range(4)]
OPTIONS = {"dtype": "float32", "max_model_len": 1024, "gpu_memory_utilization": 0.2, "enforce_eager": True}
SHORT = {"type": "string", "maxLength": 12}
SCHEMA = {"type": "object", "properties": {"subject": SHORT, "action": SHORT}, "required": ["subject", "action"]}


@pytest.fixture(scope="module", autouse=True)
def small_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        yield


def error_text(engine, contents: list[list], sampling: Sampling) -> list[str | Failure]:
    """What `engine` answers to each of `contents`, in their order."""
    waiting = [Request(str(i), 0, content, sampling) for i, content in enumerate(contents)]
    got = {}
    while len(got) < len(contents):
        while waiting and engine.room():
            engine.submit(waiting.pop())
        got |= {request.key: answer for request, answer in engine.finished()}
    answers = [got[str(i)] for i in range(len(contents))]
    return [answer.text.strip() if isinstance(answer, Answer) else answer for answer in answers]


def test_captions(tmp_path):
    folder = tiny_models.build("qwen2_5_vl", tmp_path)
    bare = TransformersEngine(folder, "--flag", pictures=True)
    engine = VllmEngine(folder, "--flag", pictures=3, options=OPTIONS)
    frames = [[picture, "Describe the picture."] for picture in PICTURES]
    clips = [["0.0 s:", PICTURES[i], "0.5 s:", PICTURES[3 - i], "Describe the clip."] for i in range(4)]
    greedy = error_text(engine, frames + clips, Sampling(32))
    assert greedy == error_text(bare, frames + clips, Sampling(32)) and len(set(greedy)) > 4

    drawn = error_text(engine, frames, Sampling(32, temperature=0.8, seed=1))
    assert drawn == error_text(engine, frames, Sampling(32, temperature=0.8, seed=1)) != greedy[:4]

    # One request's faults are its own: too long, too many pictures.
    short, long, crowd = error_text(engine, [frames[0], ["dog " * 2000], [*PICTURES, "Describe."]], Sampling(32))
    assert short == greedy[0]
    assert (long.error, crowd.error) == ("RequestRefused", "RequestRefused")
    assert "1024" in long.message and "image" in crowd.message


def test_summaries_and_json(tmp_path):
    folder = tiny_models.build("qwen2", tmp_path)
    engine = VllmEngine(folder, "--flag", pictures=0, options=OPTIONS)
    texts = [[f"Sum it up: a {what} in a street."] for what in ("dog", "car", "boat")]
    assert error_text(engine, texts, Sampling(48)) == error_text(
        TransformersEngine(folder, "--flag", pictures=False), texts, Sampling(48)
    )
    for answer in error_text(engine, texts, Sampling(300, schema=SCHEMA)):
        assert json.loads(answer).keys() == {"subject", "action"}, answer


def test_a_template_of_the_users_own(tmp_path):
    folder = tiny_models.build("qwen2", tmp_path)
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}|"
    engine = VllmEngine(folder, "--flag", pictures=0, chat_template=template, options=OPTIONS)
    bare = TransformersEngine(folder, "--flag", pictures=False, chat_template=template)
    assert error_text(engine, [["A dog."]], Sampling(48)) == error_text(bare, [["A dog."]], Sampling(48))


def test_folders_that_hold_no_such_model(tmp_path):
    folder = tiny_models.build("qwen2", tmp_path)
    with pytest.raises(UsageError, match=r"--flag .*: .*picture"):
        VllmEngine(folder, "--flag", pictures=1, options=OPTIONS)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UsageError, match=f"--flag {re.escape(str(folder))}: vLLM cannot run it: .*"):
        VllmEngine(folder, "--flag", pictures=0, options=OPTIONS)
