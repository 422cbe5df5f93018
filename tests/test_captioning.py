"""Captions and summaries with transformers in this process: captions depend on the image and are the same at each run, folders
without a usable model are errors, and bad answers are found.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache, partial

import pytest
import tiny_models
from conftest import ROOT, numbered_frame, write_video

import caption_summary
import caption_video_frame
from caption_summary import Finish
from caption_video_frame import caption_columns, questions
from utils.captioning.answer_checks import CHECKS, checks_for, count_words
from utils.captioning.answer_text import answer_text
from utils.captioning.chat import Answer, Request, Sampling, ask
from utils.captioning.engines.transformers_engine import TransformersEngine, TransformersOptions
from utils.captioning.frames import read_images
from utils.captioning.prompts import STYLES, schema_of
from utils.errors import Failure, UsageError
from utils.rows import read_rows
from utils.video.sampling import FrameSampling

CLIPS = [f"clip {i}.mp4" for i in range(7)]
SENTENCE = re.compile(rf"({'|'.join(tiny_models.FIRST)})( \w+){{6}}( \w+){{0,4}}\.")
SUMMARY = re.compile(r"In this video, (my|some|every|your)( \w+){6,10}\.")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny models gain nothing from more, and lose much beside other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of 7 clips of a second, with keyframes at 0, 8 and 16."""
    folder = tmp_path_factory.mktemp("clips")
    for i, clip in enumerate(CLIPS):
        frames = (numbered_frame(140 * i + j) for j in range(24))
        write_video(folder / clip, frames, keyframes=(0, 8, 16), options={"forced-idr": "1", "sc_threshold": "0"})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """`model(family)`: the folder of its tiny checkpoint, made once."""
    folder = tmp_path_factory.mktemp("models")
    return cache(lambda family: tiny_models.build(family, folder / family))


def engine_of(folder, images=True, **options) -> TransformersEngine:
    return TransformersEngine(folder, TransformersOptions(**options), images=images)


def captions(engine, folder, unit="frame", method="uniform", count=2, which=CLIPS[:2], **sampling) -> list:
    """The texts of each clip, or its `Failure`, in the clips' order."""
    read = partial(
        read_images, video_folder=folder, max_pixels=10**6, as_jpeg=False, frame_sampling=FrameSampling(method, count)
    )
    rows = [{"video_path": clip} for clip in which]
    ask_for = partial(questions, unit=unit, prompt="Describe the picture.", sampling=Sampling(32, **sampling))
    columns = partial(caption_columns, model="tiny", prompt="")
    made = ask(((row, read(row)) for row in rows), engine, ask_for, columns, checks_for(list(CHECKS)))
    by_clip = {row["video_path"]: got for row, got in made}
    return [by_clip[clip]["sampled_frame_caption"] for clip in which]


def tell(engine, texts, sampling, checks=()) -> list[str | Failure]:
    """The answers to `texts`, in their order."""
    rows = [({"video_path": str(i)}, text) for i, text in enumerate(texts)]
    made = ask(
        rows,
        engine,
        lambda row, text: [Request(row["video_path"], 0, [text], sampling)],
        lambda *got: got[2][0].text,
        checks,
    )
    by_key = {row["video_path"]: got for row, got in made}
    return [by_key[str(i)] for i in range(len(texts))]


@pytest.mark.parametrize("family", tiny_models.IMAGE_FAMILIES)
def test_every_family_speaks_of_its_pictures_the_same_at_each_run(model, clips, family):
    engine = engine_of(model(family))
    greedy = captions(engine, clips)
    assert greedy == captions(engine, clips)
    texts = [text for clip in greedy for text in clip]
    assert all(SENTENCE.fullmatch(text) for text in texts) and len(set(texts)) >= 3, texts
    together = captions(engine, clips, "clip", count=3)
    assert [len(clip) for clip in together] == [1, 1] and together[0] != together[1], together
    drawn = captions(engine, clips, temperature=0.8, seed=1)
    assert drawn != captions(engine, clips, temperature=0.8, seed=2)
    # the other clips of a run do not change a caption
    assert captions(engine, clips, which=CLIPS[1:2], temperature=0.8, seed=1) == drawn[1:]


@pytest.mark.parametrize("family", ["llava_next", "qwen3_vl"])
def test_requests_of_one_batch_keep_their_answers(model, clips, family):
    alone, together = (captions(engine_of(model(family), batch_size=size), clips, which=CLIPS[:3]) for size in (1, 4))
    assert alone == together


@pytest.mark.parametrize("family", tiny_models.TEXT_FAMILIES)
def test_every_family_sums_up(model, family):
    engine = engine_of(model(family), images=False)
    sampling = Sampling(48)
    texts = [f'Sum it up:\n\n1. A {what} in a street.\n2. "Two" of them.' for what in ("dog", "car", "boat")]
    said = tell(engine, texts, sampling)
    assert all(SUMMARY.fullmatch(text) for text in said) and len(set(said)) >= 2, said
    # Too long: asked again within the conversation, which each family's template must take.
    (failure,) = tell(engine, texts[:1], sampling, checks_for([], max_words=3, shorten=False))
    assert re.match(r"the answer has \d+ words, and the maximum is 3", failure.message)


def test_json_keeps_to_its_schema_whatever_the_model_says(model):
    schema = schema_of(STYLES["json"])
    # A random network does not end a string of its own accord, and so the schema does.
    short = {**schema, "properties": {name: {"type": "string", "maxLength": 12} for name in schema["properties"]}}
    for family in ("llama", "qwen3"):
        engine = engine_of(model(family), images=False)
        for temperature in (0.0, 1.5):
            sampling = Sampling(400, temperature, schema=short)
            for text in tell(engine, ["A dog.", "A boat."], sampling, checks_for(list(CHECKS), schema=schema)):
                assert list(json.loads(text)) == schema["required"]
        (cut,) = tell(engine, ["A dog."], Sampling(24, schema=schema), checks_for(["cut"]))
        assert cut.message.startswith("the answer was truncated") and 'it begins \'{"subject": "' in cut.message


# Folders that are no model


def weights(change):
    """A fault of the folder: `change(tensors, name)` of one of its tensors."""

    def of(folder):
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        change(tensors, next(name for name in tensors if name.endswith(LAYER)))
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return of


def without(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


LAYER = "layers.1.mlp.down_proj.weight"
BROKEN = {
    "without tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "cannot load its tokenizer"),
    "without weights": (without("model.safetensors"), "cannot load its weights: Error no file named model.safetensors"),
    "without config": (without("config.json"), "cannot load its config.json: Unrecognized model"),
    "without processor": (without("processor_config.json", "preprocessor_config.json"), "cannot load its tokenizer or processor"),
    "without template": (without("chat_template.jinja"), "no chat template"),
    "text for weights": (lambda folder: (folder / "model.safetensors").write_text("none"), "cannot load its weights"),
    "half the weights": (lambda folder: os.truncate(folder / "model.safetensors", 9999), "cannot load its weights"),
    "a tensor too few": (weights(lambda tensors, name: tensors.pop(name)), LAYER),
    "a tensor too small": (weights(lambda tensors, name: tensors.update({name: tensors[name][1:].clone()})), "cannot load its weights"),
    "text for config": (lambda folder: (folder / "config.json").write_text("none"), "cannot load its config.json"),
    "of tomorrow": (lambda folder: (folder / "config.json").write_text('{"model_type": "gpt9"}'), "has model type `gpt9`"),
    "empty": (lambda folder: [file.unlink() for file in folder.iterdir()], "cannot load its config.json"),
}  # fmt: skip


def usage_error(run_main, *flags) -> str:
    with pytest.raises(UsageError) as error:
        run_main(caption_video_frame, "--captioner", "transformers", "--skip_sight_check", *flags)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_folder_that_is_no_model_is_wrong_usage(model, clips, tmp_path, run_main, fault):
    folder = shutil.copytree(model("llava_next"), tmp_path / "model")
    change, reason = BROKEN[fault]
    change(folder)
    said = usage_error(run_main, "--video_folder", clips, "--image_caption_model_name", folder)
    assert said.startswith(f"--image_caption_model_name: {folder}: ") and reason in said
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize("names", [("tokenizer.json", "tokenizer_config.json"), ("tokenizer.json",)])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "internvl"])
def test_a_tokenizer_that_transformers_makes_up_is_none(model, clips, tmp_path, run_main, family, names):
    folder = shutil.copytree(model(family), tmp_path / "model")
    without(*names)(folder)
    said = usage_error(run_main, "--video_folder", clips, "--image_caption_model_name", folder)
    assert said.startswith(f"--image_caption_model_name: {folder}: ") and "token" in said


@pytest.mark.parametrize("template", ["{% nothing %}", "no place for a picture"])
def test_a_template_that_does_not_take_the_question_is_wrong_usage(model, clips, tmp_path, run_main, template):
    (tmp_path / "x.jinja").write_text(template)
    flags = "--image_caption_model_name", model("qwen2_5_vl"), "--chat_template", tmp_path / "x.jinja"
    assert "its chat template does not fit the request" in usage_error(run_main, "--video_folder", clips, *flags)


def test_a_name_that_is_nothing_is_wrong_usage(clips, run_main, monkeypatch):
    flags = ["--video_folder", clips, "--image_caption_model_name"]
    said = usage_error(run_main, *flags, "no-such-model")
    assert said.startswith(
        "--image_caption_model_name: no-such-model is neither a folder, nor a hub id (owner/name), nor "
    )
    assert "one of the known names: llava-v1.6-vicuna-7b" in said
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = usage_error(run_main, *flags, "no/such-model")
    assert said.startswith("--image_caption_model_name: ") and "no/such-model" in said and "HF_ENDPOINT" in said


def test_a_model_that_only_reads_cannot_be_shown_pictures(model, clips, run_main):
    said = usage_error(run_main, "--video_folder", clips, "--image_caption_model_name", model("llama"))
    assert "does not treat llama as a vision-language model" in said


# The scripts


@pytest.fixture
def captioned(model, clips, tmp_path, run_main):
    """The flags of a run on all clips, and the file of its rows."""
    flags = [
        "--video_folder", clips, "--captioner", "transformers", "--image_caption_model_name", model("qwen2_5_vl"), "--n_jobs", 1,
        "--frame_sample_method", "keyframe", "--num_sampled_frames", 2, "--temperature", 0.8, "--skip_sight_check",
    ]  # fmt: skip
    run_main(caption_video_frame, *flags, "--saved_path", "one.jsonl")
    return flags, tmp_path / "one.jsonl"


@pytest.mark.release
def test_ranks_give_the_rows_of_one_process(captioned, tmp_path):
    flags, one = captioned
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command = [*torchrun, ROOT / "caption_video_frame.py", *flags, "--saved_path", tmp_path / "two.jsonl"]
    ranks = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ranks.returncode == 0, ranks.stdout + ranks.stderr
    assert "7 rows in = 7 captioned + 0 errors + 0 filtered -> " in ranks.stdout
    assert (tmp_path / "two.jsonl").read_bytes() == one.read_bytes()


def test_a_summary_follows_the_captions_of_a_run(captioned, model, tmp_path, run_main):
    rows = read_rows(captioned[1])
    assert [row["video_path"] for row in rows] == CLIPS
    assert all(set(row["sampled_frame_idx"]) <= {0, 8, 16} and len(row["sampled_frame_caption"]) == 2 for row in rows)
    for row in rows[1:]:
        row["attributes"] = {"motion_score": 7.25, "camera_motion": "pan right"}
    (tmp_path / "frames.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_main(
        caption_summary, "--video_metadata_path", "frames.jsonl", "--summarizer", "transformers", "--n_jobs", 1,
        "--summary_model_name", model("llama"), "--append_attributes", "--remove_quotes",
    )  # fmt: skip
    texts = [row["summary_caption"] for row in read_rows(tmp_path / "summary_caption.jsonl")]
    assert len(texts) == 7 and SUMMARY.fullmatch(texts[0])
    for text in texts[1:]:
        caption, _, added = text.partition(" Camera motion: ")
        assert SUMMARY.fullmatch(caption) and added == "pan right. Motion score: 7.2."


def test_what_stands_around_captions():
    words = {"trigger_word": "sks", "caption_prefix": "A film:", "caption_suffix": "End."}
    assert Finish(**words)(" A dog.\n", None) == "sks A film: A dog. End."
    assert Finish(trigger_word="sks")("sks, a dog.", None) == "sks, a dog."
    assert Finish(trigger_word="sks")("sksy dogs", None) == "sks sksy dogs"
    assert Finish()(" A dog. ", None) == " A dog. "
    attributes = {"camera_motion": "pan left", "camera_pan": -30}
    finish = Finish(append_attributes=True, **words)
    assert finish("A dog.", attributes) == "sks A film: A dog. Camera motion: fast pan left. End."


def test_captions_are_finished_anew_from_the_answers():
    """Other words at the next run change the captions, not the answers."""
    row = {"attributes": {"camera_motion": "static"}}
    first = Finish(trigger_word="sks").row({"summary_caption": "A dog."}, row)
    assert first == {"summary_caption": "sks A dog.", "summary_answer": "A dog."}
    second = Finish(append_attributes=True).row(first, row)
    assert second == {"summary_caption": "A dog. Camera motion: static.", "summary_answer": "A dog."}
    assert Finish().row(second, row) == {"summary_caption": "A dog."}


def test_captions_that_a_version_before_0_4_finished_stay_as_they_are():
    before = {"trigger_word": "sks", "remove_quotes": False}
    assert Finish(trigger_word="sks").settings(before) == {"trigger_word": "sks", "remove_quotes": False}
    assert Finish(trigger_word="other", remove_quotes=True).settings(before) == {
        "trigger_word": "other",
        "remove_quotes": False,
    }
    row = {"summary_caption": "sks A film: a dog."}
    assert Finish(trigger_word="sks", caption_prefix="A film:").row(row, {}, is_done=True) == row


def test_quotes_are_removed_and_attributes_added():
    attributes, text = {"motion_score": 3, "camera_motion": "static"}, 'A sign "says" “hi”, it\'s a 「dog」.'
    both = Finish(remove_quotes=True, append_attributes=True)
    assert both(text, attributes) == "A sign says hi, it's a dog. Camera motion: static. Motion score: 3.0."
    assert Finish(append_attributes=True)(text, None) == text


# What an answer must be


GOOD = [
    "A man in a white coat gives instructions to a dog, which sits.",
    "A hand writes a caption under a photo: here is my dog.",
    "A woman reads a description of the house in a magazine.",
    "The user turns the wheel. The wheel turns the screw.",
    "A boy runs. A boy runs.",
    "The text above the door says Answer: 42.",
    "In this video, a red dog runs over the grass of a park.",
    "A small dog lies on the floor, with a caption above it. The caption reads “Monday”.",
    "Sure-footed goats climb the rocks.",
    "A dog runs.",
    "Sorry seems to be written on a sign that a man holds.",
    "I cannot is the title of the book on the table.",
    "A band plays: la la la, la la la.",
    "A man says no, no, no, no and no while the crowd walks by.",
    "红色的狗在跑。",
    "Red, red, red, blue.",
    "视频中，一只狗在草地上奔跑，然后停下来。",
    "A row of houses, " * 2 + "and the sea.",
]
BAD = {
    "empty": ["", "  \n", "...", "“”", "。", "-"],
    "refusal": [
        "I'm sorry, but I can't assist with that.", "I’m very sorry, I cannot.", "Sorry, I can't.", "I cannot describe this image.",
        "I can’t help with it.", "I'm unable to see images.", "Unfortunately, I am no judge.", "As an AI language model, I",
        "**I apologize**, but", "抱歉，我不能", "对不起，", "我无法描述这张图片。", "作为一个人工智能，",
    ],
    "loop": [
        "A dog" + " runs and runs" * 20, "no " * 30, "ha" * 40, "。狗在跑" * 15, "-" * 60, "The sky is blue.\n" * 6,
        "A man. " + "He walks to the door, opens it, looks out and goes back to his chair. " * 5, "!?" + "a b " * 30 + "!!",
        "The dog sits on the grass. It looks up. The dog sits on the grass.", "视频中，狗在草地上。狗在跑。视频中，狗在草地上。",
        "The man walks slowly down the long road to town, and the man walks slowly down the long road to school, and the man walks slowly down the long road to work.",
    ],
    "talk": [
        "I've been instructed to provide an answer in at most 100 words. A dog runs.", "Enjoy a story in 100 words about a dog.",
        "Sure! A dog runs.", "Here is the caption: a dog runs.", "Here's a revised caption of the video.", "Caption: A dog runs.",
        "A dog runs. Let me know if you need anything else.", "A dog runs. I hope this helps!", "The description above says that a dog runs.",
        "The video ends with a description of a single frame.", "Based on the provided descriptions, a dog runs.", "好的，视频中有一只狗。",
        "以下是视频的说明：一只狗。", "根据以上描述，一只狗在跑。", "Descriptions of the frames of one video.", "A dog. (Word count: 2)",
        'The video is titled "In this video."', "Certainly, a dog runs.", "Title: A Dog\n\nA dog runs.",
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_a_good_answer_passes_every_check(text):
    assert not [check(Answer(text)) for check in checks_for(list(CHECKS), max_words=24) if check(Answer(text))]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_a_bad_answer_is_told(name, text):
    assert CHECKS[name](Answer(answer_text(text)))


PROMPT = "Rewrite this as one caption of a video, in one paragraph of at most 80 words. Begin with “In this video,”."


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("A dog runs. Rewrite this as one caption of a video.", PROMPT),
        ("In this video, one paragraph of at most 80 words, a dog runs.", PROMPT),
        ("视频中，不要提到帧图片描述不要评论。", "不要提到“帧”“图片”“描述”，不要评论。"),
    ],
)
def test_an_answer_that_repeats_the_prompt_is_told(text, prompt):
    (check,) = checks_for(["echo"], prompt)
    assert check(Answer(text)) and not check(Answer("In this video, a dog of at most one year runs."))


@pytest.mark.parametrize(
    ("text", "most", "kept"),
    [
        ("A dog runs. It jumps high. It sleeps.", 6, "A dog runs. It jumps high."),
        ('A sign says "Stop." A dog runs on.', 5, 'A sign says "Stop.'),
        ("一只狗在跑。它跳得很高。", 8, "一只狗在跑。"),
        ("dog, red ball, grass, sky", 4, "dog, red ball, grass"),
        ("A dog that runs and runs and runs.", 4, ""),
        ("In this video a long sentence goes on without any end at all, or so it seems to those who read it", 16, "In this video a long sentence goes on without any end at all"),
        ("A. " + "word " * 50, 40, ""),
    ],
)  # fmt: skip
def test_what_is_too_long_is_cut_at_the_end_of_a_sentence(text, most, kept):
    (check,) = checks_for([], max_words=most)
    wrong = check(Answer(text))
    assert (wrong.fallback.text if wrong.fallback else "") == kept
    assert not wrong.fallback or wrong.fallback.shortened_from == count_words(text)
    (strict,) = checks_for([], max_words=most, shorten=False)
    assert strict(Answer(text)).fallback is None


def test_an_answer_that_the_limit_cut_is_told():
    assert CHECKS["cut"](Answer("A dog", cut=True)) and not CHECKS["cut"](Answer("A dog"))
    (check, _) = checks_for(["cut"], max_words=8)
    wrong = check(Answer("A dog runs. It jumps high and", cut=True))
    assert wrong.fallback.text == "A dog runs." and wrong.fallback.shortened_from == 7


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("A dog's well-known tail.", 4), ("视频中，一只狗。", 6), ("狗 dog 狗", 3), ("a\n b\t c", 3)]
)  # fmt: skip
def test_words_are_counted_and_characters_where_there_are_no_spaces(text, count):
    assert count_words(text) == count


@pytest.mark.parametrize("text", ["[]", "{}", '{"subject": 1', "A dog.", '"{}"', '```json\n{"subject": ""}\n```'])
def test_what_is_no_object_with_all_keys_is_no_json_answer(text):
    (check,) = checks_for([], schema=schema_of(STYLES["json"]))
    assert check(Answer(text))
