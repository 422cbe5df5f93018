"""compute_vlm_score.py against a scripted server over the real protocol and tiny models: each answer in its own column of its own clip."""

import base64
import io
import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import tiny_models
from conftest import ROOT, numbered_frame, write_video
from PIL import Image
from test_openai_engine import FRAMES, Server, numbers, refuse

import compute_vlm_score
import filter_videos_by_motion_score
from benchmarks.questions import auroc, best_bound, truth_of
from utils.captioning.chat import Answer
from utils.captioning.question_sets import (
    SETS,
    Question,
    check_alone,
    check_together,
    read_questions,
    value_alone,
    values_together,
    yes_probability,
)  # fmt: skip
from utils.errors import UsageError
from utils.rows import read_rows

CLIPS = [f"clip {i:02}.mp4" for i in range(8)]
QUESTIONS = [
    {"column": "logo", "question": "Is there a logo?", "passes": [None, 0.5]},
    {"column": "people", "question": "Are there people?"},
    {"column": "camera", "question": "How does the camera move?", "choices": ["static", "pan", "pan left"]},
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for i, clip in enumerate(CLIPS):
        write_video(folder / clip, (numbered_frame(FRAMES * i + j) for j in range(FRAMES)))
    return folder


def truth(clip: int) -> dict:
    """What the scripted server knows of a clip: the probability that it says yes, and a choice."""
    return {"logo": clip / 10, "people": 1 - clip / 10, "camera": ["static", "pan", "pan left"][clip % 3]}


class Seeing(Server):
    """A server that answers the questions about the clip whose frames it is shown; `gives`: what of log-probabilities."""

    def __init__(self, gives="logprobs"):
        super().__init__()
        self.gives = gives


def logprobs(tokens: list[tuple[str, dict[str, float]]]) -> dict:
    return {
        "content": [
            {"token": token, "logprob": 0.0, "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in there.items()]}
            for token, there in tokens
        ]
    }  # fmt: skip


def answer(handler) -> None:
    """One question in the prompt, or all of them as JSON, as the clip's truth says."""
    body, gives = handler.body, handler.server.gives
    prompt = body["messages"][0]["content"][-1]["text"]
    if not numbers(body) or numbers(body)[0] < 0:
        return handler.say("A red disc on green.")
    known = truth(numbers(body)[0] // FRAMES)
    if gives == "refuses" and "logprobs" in body:
        return refuse(400, "logprobs is not supported by this model")(handler)
    tokens: list[tuple[str, dict]] = []

    def word(column):
        p = known[column]
        if isinstance(p, str):
            return tokens.append((p, {p: 1.0})) or p
        said = "yes" if p > 0.5 else "no"
        near = {" Yes": p * 0.9, "yes": p * 0.1, "no": 1 - p}
        tokens.append((said, {t: q for t, q in near.items() if q > 0}))
        return said

    if "JSON object" in prompt:
        schema = body["response_format"]["json_schema"]["schema"]["properties"]
        assert list(schema) == list(known)
        tokens.append(('{"', {'{"': 1.0}))
        for i, column in enumerate(schema):
            tokens.append((f'{"," if i else ""}"{column}": "'.removeprefix('"' if not i else ""), {"x": 1.0}))
            word(column)
            tokens.append(('"', {'"': 1.0}))
        tokens.append(("}", {"}": 1.0}))
    else:
        (column,) = [q["column"] for q in QUESTIONS if q["question"] in prompt]
        word(column)
        tokens.append((".", {".": 1.0}))
    text = "".join(token for token, _ in tokens)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if gives == "logprobs" and body.get("logprobs"):
        choice["logprobs"] = logprobs(tokens)
    return handler.reply(200, {"choices": [choice]})


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "")
    one = Seeing()
    one.faults = Always(answer)
    yield one
    one.shutdown()
    one.server_close()


class Always(dict):
    """What the server does to every request, but for those of `faults`."""

    def __init__(self, does):
        super().__init__()
        self.does = does

    def get(self, number, default=None):
        return [super().get(number) or self.does]


def unsure(question: str, times: int):
    """Answers "Maybe." to a question so many times."""
    left = [times]

    def does(handler):
        if question in handler.body["messages"][0]["content"][-1]["text"] and left[0]:
            left[0] -= 1
            return handler.say("Maybe.")
        return answer(handler)

    return does


@pytest.fixture
def flags(server, clips, tmp_path):
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
    return [
        "--video_folder", clips, "--questions", tmp_path / "q.jsonl", "--captioner", "openai", "--base_url", server.url,
        "--image_caption_model_name", "tiny", "--n_jobs", 1, "--num_sampled_frames", 2,
    ]  # fmt: skip


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize("gives", ["logprobs", "nothing", "refuses"])
def test_each_answer_is_in_its_column_of_its_clip(server, flags, tmp_path, run_main, together, gives):
    server.gives = gives
    run_main(compute_vlm_score, *flags, *(["--together"] if together else []), "--saved_path", "rows.jsonl")
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [row["video_path"] for row in rows] == CLIPS
    for i, row in enumerate(rows):
        known = truth(i)
        if gives != "logprobs":
            known = {name: value if isinstance(value, str) else float(value > 0.5) for name, value in known.items()}
        assert {name: row[name] for name in known} == pytest.approx(known, abs=1e-4)
        assert row["sample_frame_idx"] == [0, 6]
    asked = [body for body in server.requests if numbers(body)[0] >= 0]
    if gives != "refuses":
        assert len(asked) == len(CLIPS) * (1 if together else len(QUESTIONS))
    assert len(server.requests) - len(asked) == 1, "the test image is shown once a run"


def test_a_killed_run_asks_for_the_missing_clips_alone(server, flags, clips, tmp_path):
    command = [
        sys.executable,
        ROOT / "compute_vlm_score.py",
        *flags,
        "--together",
        "--saved_freq",
        1,
        "--concurrency",
        1,
        "--saved_path",
    ]
    command = [str(word) for word in command]
    saved = tmp_path / "rows.jsonl"
    server.delay = lambda: 0.2
    process = subprocess.Popen([*command, str(saved)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for _ in range(600):
        if saved.exists() and len(read_rows(saved)) >= 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = {row["video_path"] for row in read_rows(saved)}
    assert 3 <= len(there) < len(CLIPS)
    server.requests.clear()
    server.delay = lambda: 0
    done = subprocess.run([*command, str(saved)], capture_output=True, text=True)
    assert "8 rows in = 8 asked about + 0 errors + 0 filtered" in done.stdout, done.stderr
    again = Counter(CLIPS[numbers(body)[0] // FRAMES] for body in server.requests if numbers(body)[0] >= 0)
    assert again == {clip: 1 for clip in CLIPS if clip not in there}
    assert [row["logo"] for row in read_rows(saved)] == [pytest.approx(i / 10) for i in range(8)]


def test_only_clips_that_passed_are_asked_about_and_the_answers_filter(server, flags, tmp_path, run_main):
    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"video_path": c, "text_score": i / 100}) + "\n" for i, c in enumerate(CLIPS))
    )
    run_main(
        compute_vlm_score, *flags, "--filter", "text.jsonl", "text_score", "none", "0.065", "--saved_path", "rows.jsonl"
    )
    assert [row["video_path"] for row in read_rows(tmp_path / "rows.jsonl")] == CLIPS[:7]
    (tmp_path / "clips.jsonl").write_text(
        "".join(json.dumps({"video_path": clip, "duration": 4.0}) + "\n" for clip in CLIPS)
    )
    run_main(
        filter_videos_by_motion_score, "--video_metadata_path", "clips.jsonl", "--saved_path", "train.jsonl", "--min_short_side", 0,
        "--filter", "rows.jsonl", "logo", "none", "0.5", "--where", "camera like 'pan%' and people > 0.6",
    )  # fmt: skip
    assert [row["video_path"] for row in read_rows(tmp_path / "train.jsonl")] == [CLIPS[1], CLIPS[2]]


def test_a_caption_is_held_against_its_clip_and_anew_when_it_changes(server, flags, tmp_path, run_main):
    def fits(handler):
        prompt = handler.body["messages"][0]["content"][-1]["text"]
        handler.say("Yes." if f'"clip {numbers(handler.body)[0] // FRAMES}' in prompt else "No.")

    def listed(*captions):
        rows = [{"video_path": clip, "summary_caption": caption} for clip, caption in zip(CLIPS, captions)]
        (tmp_path / "summary_caption.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run_main(compute_vlm_score, *flags, "--video_metadata_path", "summary_caption.jsonl", "--skip_sight_check")
        return [row["caption_match"] for row in read_rows(tmp_path / "vlm_score.jsonl")]

    server.faults, flags[3] = Always(fits), "caption_match"
    assert listed("clip 0 runs.", "clip 5 runs.") == [1, 0]
    server.requests.clear()
    assert listed("clip 0 runs.", "clip 1 runs.") == [1, 1] and len(server.requests) == 1
    (tmp_path / "summary_caption.jsonl").write_text(json.dumps({"video_path": CLIPS[0]}) + "\n")
    with pytest.raises(UsageError, match=r"summary_caption is None, not the text that \{caption\} stands for"):
        run_main(compute_vlm_score, *flags, "--video_metadata_path", "summary_caption.jsonl")


def test_a_wrong_answer_is_asked_for_once_more_and_then_an_error_row(server, flags, tmp_path, run_main):
    server.faults |= {FRAMES: unsure("logo", 2), 2 * FRAMES: unsure("people", 1)}
    run_main(compute_vlm_score, *flags, "--saved_path", "rows.jsonl", "--concurrency", 1)
    assert [row["video_path"] for row in read_rows(tmp_path / "rows.jsonl")] == [c for c in CLIPS if c != CLIPS[1]]
    (error,) = read_rows(tmp_path / "rows.errors.jsonl")
    assert error["error"] == "BadAnswer" and "is not yes or no" in error["message"]


def test_the_model_is_shown_what_is_inside_the_crop(server, flags, tmp_path, run_main):
    boxes = [{"video_path": clip, "crop_box": [0, 0, 96, 108] if i else None} for i, clip in enumerate(CLIPS)]
    (tmp_path / "crop.jsonl").write_text("".join(json.dumps(row) + "\n" for row in boxes))
    server.faults = Always(lambda handler: handler.say("no"))
    (tmp_path / "q.txt").write_text("Is there a logo?\n\nedge: Is there an edge?\n")
    flags[3] = "q.txt"
    run_main(compute_vlm_score, *flags, "--crop_boxes", "crop.jsonl", "--skip_sight_check")
    rows = read_rows(tmp_path / "vlm_score.jsonl")
    assert [row.get("measured_in") for row in rows] == [None] + [[0, 0, 96, 108]] * 7
    assert {(row["is_there_a_logo"], row["edge"]) for row in rows} == {(0.0, 0.0)}
    sizes = Counter()
    for body in server.requests:
        url = next(p["image_url"]["url"] for p in body["messages"][0]["content"] if p["type"] == "image_url")
        sizes[Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size] += 1
    assert sizes == {(192, 108): 2, (96, 108): 14}


def test_a_tiny_model_gives_probabilities_in_this_process(clips, tmp_path, run_main, monkeypatch):
    """Its random words are neither yes nor no but for guided decoding, whose probabilities are its own."""
    import torch

    torch.set_num_threads(1)
    model = tiny_models.build("qwen2_5_vl", tmp_path / "model")
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
    run_main(
        compute_vlm_score, "--video_folder", clips, "--questions", "q.jsonl", "--together", "--image_caption_model_name", model,
        "--n_jobs", 1, "--num_sampled_frames", 2, "--skip_sight_check", "--batch_size", 2,
    )  # fmt: skip
    rows = read_rows(tmp_path / "vlm_score.jsonl")
    assert len(rows) == len(CLIPS)
    assert all(0 <= row["logo"] <= 1 and row["camera"] in ("static", "pan", "pan left") for row in rows)
    assert any(0 < row["logo"] < 1 for row in rows), "no probability"


def test_stage_2_asks_after_the_cheap_filters_and_filters_by_the_answers(tmp_path):
    """The commands that the stage prints; the bounds are read by a real Python."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *question_bounds*) exec {sys.executable} "$@" ;; esac\n')
    python.chmod(0o755)
    (tmp_path / "my own.txt").write_text("Is it?")
    (tmp_path / "train.jsonl").write_text('{"video_path": "a.mp4"}\n')
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
    environment = {
        "PATH": "/usr/bin:/bin", "PYTHON": str(python), "GPUS": "0", "DATASET_FOLDER": str(tmp_path), "VIDEO_FOLDER": str(tmp_path), "REPORT": "0",
        "VLM_QUESTIONS": f"unsafe {tmp_path}/mine.jsonl", "DEDUP": "1", "CROP": "1", "BASE_URL": "http://127.0.0.1:1/v1", "IMAGE_CAPTION_MODEL": "tiny",
        "VLM_TOGETHER": "1",
    }  # fmt: skip
    ran = subprocess.run(["sh", str(ROOT / "stage_2_filter_data.sh")], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    commands = [line for line in ran.stdout.splitlines() if line.startswith("+ ")]
    scripts = [command.split()[2].rpartition("/")[2] for command in commands]
    assert scripts[-6:] == [
        "compute_motion_score.py",
        *["compute_vlm_score.py"] * 2,
        "compute_duplicates.py",
        "filter_videos_by_motion_score.py",
        "crop_clips.py",
    ]
    first, second = (command for command in commands if "compute_vlm_score" in command)
    assert (
        f"--saved_path={tmp_path}/vlm_unsafe.jsonl --questions=unsafe --captioner=openai --image_caption_model_name=tiny --together"
        in first
    )
    assert f"--crop_boxes={tmp_path}/crop_box.jsonl" in first and "--base_url=http://127.0.0.1:1/v1" in first
    assert f"--filter {tmp_path}/motion_score.jsonl cut_inside none 0.5" in first
    assert f"--filter {tmp_path}/vlm_unsafe.jsonl gore none 0.5" in second
    for column, bounds in {"logo": "none 0.5", "people": "none none"}.items():
        assert f"--filter {tmp_path}/vlm_mine.jsonl {column} {bounds}" in commands[-2]
    assert "vlm_mine.jsonl camera" not in commands[-2], "words are no numbers"


def test_the_sets_that_come_with_it():
    names = Counter(one.column for path in SETS.glob("*.jsonl") for one in read_questions(path.stem))
    assert {path.stem for path in SETS.glob("*.jsonl")} == {"overlays", "defects", "content", "unsafe", "caption_match"}
    assert max(names.values()) == 1, "two sets have a column of one name"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("q.jsonl", "", "contains no questions"),
        ("q.jsonl", "no JSON", "line 1: 'no JSON' is no JSON object"),
        ("q.jsonl", '\n{"column": "A b", "question": "Is it?"}', "line 2: column is 'A b', not a name"),
        ("q.jsonl", '{"column": "a", "question": 5}', "line 1: question is 5, not a text"),
        ("q.jsonl", '{"column": "a", "question": "?", "choice": []}', "line 1: there is no 'choice'"),
        ("q.jsonl", '{"column": "a", "question": "?", "choices": ["one"]}', "not a list of two words or more"),
        ("q.jsonl", '{"column": "a", "question": "?", "passes": [1]}', "not [minimum, maximum]"),
        ("q.jsonl", '{"column": "made_from", "question": "?"}', "the column made_from exists already"),
        ("q.txt", "Is it?\nIs it?", "line 2: the column is_it exists already"),
        ("q.txt", "???", "has no word for a column"),
    ],
)
def test_a_file_that_is_wrong_is_a_sentence(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as error:
        read_questions(str(tmp_path / name))
    assert str(error.value).startswith(str(tmp_path / name)) and told in str(error.value)


def test_a_set_that_is_none_is_a_sentence():
    with pytest.raises(
        UsageError,
        match=r"overlay: no such file, and no set in .* \(caption_match, content, defects, overlays, unsafe\)",
    ):
        read_questions("overlay")


def test_labels_are_held_against_a_column():
    values, truths = np.array([0.1, 0.4, 0.35, 0.8, 0.4]), np.array([False, False, True, True, True])
    assert auroc(values, truths) == pytest.approx(4.5 / 6)  # of six pairs four are right and one is even
    assert best_bound(values, truths) == pytest.approx((0.225, 0.75, 1.0))
    assert truth_of({"reasons": ["dark", "logo"]}, "logo", ["reasons", "logo"]) is True
    assert truth_of({"reasons": []}, "logo", ["reasons", "logo"]) is False and truth_of({}, "logo", None) is None
    assert truth_of({"logo": 1}, "logo", None) is True and truth_of({"logo": "some"}, "logo", None) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("Yes.", 1), ("**No**, there is none.", 0), ("yes", 1), ("是的，有字幕。", 1), ("没有", 0), ("Maybe", None), ("Nothing", None), ("yesterday", None)],
)  # fmt: skip
def test_what_an_answer_says(text, value):
    assert Question("logo", "Is there a logo?").value(text) == value


def test_choices_are_read_whole():
    one = Question("camera", "How?", ("pan", "pan left", "static"))
    assert [one.value(text) for text in ("Pan left.", "pan", '"static"', "panorama", "The camera pans")] == [
        "pan left",
        "pan",
        "static",
        None,
        None,
    ]
    assert check_alone(Answer("zoom"), one) and not check_alone(Answer("pan"), one)


def test_the_probability_is_that_of_the_token_that_answers():
    thought = [("<think>", {}), ("no", {"no": 1.0}), ("</think>", {})]
    said = [("Yes", {"Yes": 0.6, "No": 0.2, " yes": 0.1}), (".", {".": 1.0})]
    answer = Answer("Yes.", alternatives=[*thought, *said])
    assert value_alone(answer, Question("logo", "?")) == pytest.approx(0.7 / 0.9, abs=1e-4)
    unsure = Answer("Yes.", alternatives=[("Yes", {"Yes": 0.1, "A": 0.9})])
    assert value_alone(unsure, Question("logo", "?")) == 1.0
    assert yes_probability(Answer("yes"), 0) is None


def test_an_object_is_read_whatever_is_around_it():
    both = [Question("logo", "?"), Question("camera", "?", ("pan", "tilt"))]
    fenced = Answer('```json\n{"logo": true, "camera": "Tilt"}\n```')
    assert not check_together(fenced, both) and values_together(fenced, both) == {"logo": 1.0, "camera": "tilt"}
    for text in ('{"logo": "yes"}', '{"logo": "maybe", "camera": "pan"}', "[]", "yes", ""):
        assert check_together(Answer(text), both)
