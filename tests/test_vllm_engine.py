"""vLLM in this process: the same output as the transformers engine, seeded sampling, guided JSON, and refused requests and folders.
A start takes a minute on a CPU; without vLLM these tests are skipped.
"""

import json
import re

import pytest
import tiny_models
from conftest import numbered_frame

from utils.captioning.chat import Answer, Request, Sampling
from utils.captioning.engines.transformers_engine import TransformersEngine, TransformersOptions
from utils.captioning.engines.vllm_engine import VllmEngine, VllmOptions
from utils.errors import Failure, UsageError

pytest.importorskip("vllm", reason="vLLM is not installed (requirements-vllm.txt)")

PICTURES = [numbered_frame(140 * i)[..., None].repeat(3, 2) for i in range(4)]
OPTIONS = VllmOptions(
    dtype="float32", max_model_len=1024, gpu_memory_utilization=0.2, engine_args={"enforce_eager": True}
)
SHORT = {"type": "string", "maxLength": 12}
SCHEMA = {"type": "object", "properties": {"subject": SHORT, "action": SHORT}, "required": ["subject", "action"]}


@pytest.fixture(scope="module", autouse=True)
def small_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        yield


def answers_of(engine, contents: list[list], sampling: Sampling) -> list[str | Failure]:
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
    bare = TransformersEngine(folder, TransformersOptions(), images=True)
    engine = VllmEngine(folder, OPTIONS, images=3)
    frames = [[picture, "Describe the picture."] for picture in PICTURES]
    clips = [["0.0 s:", PICTURES[i], "0.5 s:", PICTURES[3 - i], "Describe the clip."] for i in range(4)]
    greedy = answers_of(engine, frames + clips, Sampling(32))
    assert greedy == answers_of(bare, frames + clips, Sampling(32)) and len(set(greedy)) > 4

    drawn = answers_of(engine, frames, Sampling(32, temperature=0.8, seed=1))
    assert drawn == answers_of(engine, frames, Sampling(32, temperature=0.8, seed=1)) != greedy[:4]

    # A request that is too long or has too many images fails alone.
    short, long, crowd = answers_of(engine, [frames[0], ["dog " * 2000], [*PICTURES, "Describe."]], Sampling(32))
    assert short == greedy[0]
    assert (long.error, crowd.error) == ("RequestRefused", "RequestRefused")
    assert "1024" in long.message and "image" in crowd.message


def test_summaries_and_json(tmp_path):
    folder = tiny_models.build("qwen2", tmp_path)
    engine = VllmEngine(folder, OPTIONS)
    texts = [[f"Sum it up: a {what} in a street."] for what in ("dog", "car", "boat")]
    assert answers_of(engine, texts, Sampling(48)) == answers_of(
        TransformersEngine(folder, TransformersOptions()), texts, Sampling(48)
    )
    for answer in answers_of(engine, texts, Sampling(300, schema=SCHEMA)):
        assert json.loads(answer).keys() == {"subject", "action"}, answer


def test_a_template_of_the_users_own(tmp_path):
    folder = tiny_models.build("qwen2", tmp_path)
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}|"
    engine = VllmEngine(folder, OPTIONS, chat_template=template)
    bare = TransformersEngine(folder, TransformersOptions(), chat_template=template)
    assert answers_of(engine, [["A dog."]], Sampling(48)) == answers_of(bare, [["A dog."]], Sampling(48))


def test_folders_that_hold_no_such_model(tmp_path):
    folder = tiny_models.build("qwen2", tmp_path)
    with pytest.raises(UsageError, match=rf"^{re.escape(str(folder))}: .*images"):
        VllmEngine(folder, OPTIONS, images=1)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UsageError, match=f"^{re.escape(str(folder))}: vLLM cannot run it: .*"):
        VllmEngine(folder, OPTIONS)
