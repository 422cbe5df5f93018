"""The openai engine against a server that answers late, out of order, wrongly or not at all: captions never land on the wrong clip,
passing faults are retried, and lasting ones are error rows with the reason.
"""

import base64
import contextlib
import io
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import ROOT, SCRIPT_VARIABLES, numbered_frame, read_index, write_video
from PIL import Image

import caption_summary
from caption_video_frame import caption_columns, questions
from utils.captioning.answer_checks import CHECKS, checks_for
from utils.captioning.chat import Answer, Request, Sampling, ask
from utils.captioning.engines.openai_engine import OpenAIEngine, OpenAIOptions
from utils.captioning.frames import jpeg, read_images
from utils.captioning.prompts import STYLES, prompt_text, schema_of
from utils.captioning.sight import check_sight
from utils.errors import Failure, RunError, UsageError
from utils.rows import read_rows
from utils.video.sampling import FrameSampling

KEY = "sk-a-key-that-nobody-may-see"
FRAMES = 12  # of a clip; clip n holds the frames numbered from 12 n on
CLIPS = 30


class Server(ThreadingHTTPServer):
    """A chat server that answers with the numbers of the frames in the request, or with `says[first number]`.

    `faults[number]` are what it does instead, one a request, to those that show that frame. `requests` are the bodies that came.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.requests, self.faults, self.says, self.delay, self.keys = [], {}, {}, lambda: 0, set()
        self.models = (200, {"object": "list", "data": []})
        self.connections, self.busy, self.most_at_once = [], set(), 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def die(self):
        """As a process that is killed: nobody listens any more, and what was under way breaks off."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)

    def shown(self) -> list[int]:
        """The first frame of each request, in the order they came."""
        return [next(iter(numbers(body)), -1) for body in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections.append(self.connection)

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply(*self.server.models) if isinstance(self.server.models, tuple) else self.server.models(self)

    def do_POST(self):
        body = self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.add(self.headers["Authorization"])
        self.server.requests.append(body)
        seen = numbers(body)
        faults = self.server.faults.get(seen[0] if seen else -1)
        self.server.busy.add(self)
        self.server.most_at_once = max(self.server.most_at_once, len(self.server.busy))
        time.sleep(self.server.delay())
        self.server.busy.discard(self)
        if faults:
            faults.pop(0)(self)
            return
        self.say(self.server.says.get(seen[0] if seen else -1) or "The picture shows " + " and ".join(map(str, seen)))

    def say(self, text, finish_reason="stop"):
        message = {"role": "assistant", "content": text}
        self.reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]})

    def reply(self, status, body, **headers):
        self.raw(status, json.dumps(body).encode(), **headers)

    def raw(self, status, data, claim=None, **headers):
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": claim or len(data),
            **headers,
        }.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(data)


def numbers(body: dict) -> list[int]:
    """The frame numbers in the images of a request, in their order."""
    parts = [
        part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    pictures = [Image.open(io.BytesIO(base64.b64decode(url.partition(";base64,")[2]))) for url in urls]
    return [read_index(np.asarray(picture)) for picture in pictures]


def half(handler):
    handler.raw(200, b'{"choices": [{"mess', claim=5000)
    handler.close_connection = True


def drip(handler):
    """A byte every now and then: no wait for the next is long, and the answer never ends."""
    handler.raw(200, b" ", claim=5000)
    for _ in range(40):
        time.sleep(0.1)
        handler.wfile.write(b" ")


def bomb(packing):
    """1 GB of blanks in 1 MB, which is what its length says."""
    packed = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    data = b"".join([*(packed.compress(b" " * 2**20) for _ in range(2**10)), packed.flush()])
    return lambda handler: handler.raw(200, data, Content_Encoding=packing)


def refuse(status, words, **headers):
    return lambda handler: handler.reply(status, {"error": {"message": words}}, **headers)


LOOP = "A dog runs" + " and the dog barks at a tree" * 9
# What the server does, whether the request is repeated, and the error row if it always does it.
FAULTS = {
    "429": (refuse(429, "slow down", Retry_After="0.2"), True, "ServerError", "the server failed (429): slow down"),
    "500": (refuse(500, "out of memory"), True, "ServerError", "the server failed (500): out of memory"),
    "hang": (lambda handler: time.sleep(2), True, "TimeLimit", "--request_seconds allows more"),
    "half": (half, True, "ServerError", "the connection broke"),
    "drip": (drip, False, "TimeLimit", "--request_seconds allows more"),
    "10 MB": (lambda handler: handler.say("A dog. " * 1_500_000), False, "ServerError", "is larger than 2,097,152 bytes"),
    "bomb": (bomb("gzip"), False, "ServerError", "is larger than 2,097,152 bytes"),
    "zstd": (bomb("zstd"), False, "ServerError", "is compressed with 'zstd', which was not requested"),
    "blanks": (lambda handler: handler.say("A dog" + " " * 64_000 + "runs."), True, "BadAnswer", "the answer repeats itself"),
    "large": (lambda handler: handler.say("A dog. " * 20_000), True, "BadAnswer", "more than 100,000 characters"),
    "no sight": (lambda handler: handler.say("There is no image attached."), True, "BadAnswer", "the answer is a refusal"),
    "400": (refuse(400, "the prompt is too long"), False, "RequestRefused", "(400): the prompt is too long"),
    "no JSON": (lambda handler: handler.raw(200, b"<html>Busy"), False, "ServerError", "cannot be read"),
    "bytes": (lambda handler: handler.raw(200, b'{"choices": "\xff"}'), False, "ServerError", "cannot be read"),
    "cut": (lambda handler: handler.say("A dog runs over the", "length"), True, "BadAnswer", "truncated at --max_new_tokens"),
    "cut in thought": (lambda handler: handler.say("<think> So, a", "length"), True, "BadAnswer", "truncated at --max_new_tokens"),
    "empty": (lambda handler: handler.say(" \n"), True, "BadAnswer", "the answer is empty"),
    "null": (lambda handler: handler.say(None), True, "BadAnswer", "the answer is empty"),
    "refusal": (lambda handler: handler.say("I’m sorry, but I can't help."), True, "BadAnswer", "the answer is a refusal, and the first try was rejected too; it begins"),
    "loop": (lambda handler: handler.say(LOOP), True, "BadAnswer", "the answer repeats itself"),
}  # fmt: skip
NO_ANSWERS = [
    {}, [], None, 5, {"choices": []}, {"choices": None}, {"choices": "text"}, {"choices": [None]}, {"choices": [{}]},
    {"choices": [{"message": None}]}, {"choices": [{"message": "text"}]}, {"choices": [{"message": {"content": ["text"]}}]},
    {"error": {"message": "overloaded"}},
]  # fmt: skip


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    one = Server()
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of 30 clips, each frame with a number that no other frame has."""
    return write_clips(tmp_path_factory.mktemp("clips"), CLIPS)


def write_clips(folder, count: int):
    folder.mkdir(exist_ok=True)
    for clip in range(count):
        write_video(folder / name(clip), (numbered_frame(FRAMES * clip + i) for i in range(FRAMES)))
    return folder


def name(clip: int) -> str:
    return f"clip {clip:02}.mp4"


def engine_of(server: Server, **options) -> OpenAIEngine:
    given = {"base_url": server.url, "max_retries": 2, "request_seconds": 0.5, **options}
    return OpenAIEngine(["tiny"], OpenAIOptions(**given))


def caption(engine, folder, which, unit="frame", count=2, prompt="What is it?", sampling=None) -> dict:
    """Rows (columns or `Failure`) by name, of the clips `which`, as the script makes them without its processes."""
    rows = ({"video_path": name(clip)} for clip in which)
    read = partial(
        read_images, video_folder=folder, max_pixels=10**6, as_jpeg=True, frame_sampling=FrameSampling("uniform", count)
    )
    ask_for = partial(questions, unit=unit, prompt=prompt, sampling=sampling or Sampling(64))
    columns = partial(caption_columns, model="tiny", prompt=prompt)
    stream = ask(((row, read(row)) for row in rows), engine, ask_for, columns, checks_for(list(CHECKS)))
    return {row["video_path"]: made for row, made in stream}


def tell(engine, text="Say it.", sampling=None, checks=(), key="a", pictures=()) -> str | Failure:
    """The answer to one request."""
    question = Request(key, 0, [*pictures, text], sampling or Sampling(64))
    ((_, made),) = ask(
        [({"video_path": key}, None)], engine, lambda *_: [question], lambda row, got, answers: answers[0].text, checks
    )
    return made


def picture(number: int) -> bytes:
    return jpeg(np.repeat(numbered_frame(number)[..., None], 3, 2))


def run(script: str, *flags, **environment) -> subprocess.Popen:
    given = {k: v for k, v in os.environ.items() if k not in SCRIPT_VARIABLES} | environment
    command = [sys.executable, str(ROOT / script), *map(str, flags)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=given)


def captioning(server, folder, saved, *flags, sight_check=False, **environment) -> subprocess.Popen:
    asked = ["--captioner", "openai", "--base_url", server.url, "--image_caption_model_name", "tiny", "--n_jobs", 1]
    asked += [] if sight_check else ["--skip_sight_check"]
    return run(
        "caption_video_frame.py", "--video_folder", folder, "--saved_path", saved, "--frame_sample_method", "first", *asked,
        *flags, **environment,
    )  # fmt: skip


def ended(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in output, output
    assert KEY not in output
    return output


# Whose answer it is


@pytest.mark.parametrize("unit", ["frame", "clip"])
def test_every_caption_is_its_own_clips_whatever_fails_and_whenever_it_comes(server, clips, unit):
    chance = random.Random(unit)
    server.delay = lambda: chance.uniform(0, 0.15)
    passing = ("429", "500", "half", "cut", "empty", "refusal", "loop", "hang")
    lasting = ("400", "no JSON", "500", "cut", "loop")
    for clip, kind in zip(chance.sample(range(CLIPS), 13), (*passing, *lasting)):
        server.faults[FRAMES * clip] = [FAULTS[kind][0]] * (1 if len(server.faults) < len(passing) else 9)
    failing = {name(number // FRAMES) for number, faults in server.faults.items() if len(faults) == 9}
    made = caption(engine_of(server, concurrency=8), clips, range(CLIPS), unit, count=3 if unit == "clip" else 2)
    assert len(made) == CLIPS and {key for key, got in made.items() if isinstance(got, Failure)} == failing
    assert list(made) != sorted(made), "the answers came in order: nothing is proved"
    assert 2 < server.most_at_once <= 8
    for clip in range(CLIPS):
        if name(clip) not in failing:
            got = made[name(clip)]
            shown = [FRAMES * clip + index for index in got["sampled_frame_idx"]]
            together = ["The picture shows " + " and ".join(map(str, shown))]
            assert got["sampled_frame_caption"] == (
                together if unit == "clip" else [f"The picture shows {i}" for i in shown]
            )


def test_a_clip_is_shown_whole_with_its_times_and_prompts_arrive_as_they_are(server, clips):
    prompt = 'Say "what" it\'s:\n\n\t{"a": 1}\\n </script> 影片 🎬'
    caption(engine_of(server), clips, [3], "clip", count=3, prompt=prompt)
    (message,) = server.requests[0]["messages"]
    texts = [part["text"] for part in message["content"] if part["type"] == "text"]
    assert texts == ["0.0 s:", "0.2 s:", "0.3 s:", prompt] and numbers(server.requests[0]) == [36, 40, 44]


# What goes wrong


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_tried_again_or_is_the_rows_error(server, kind):
    fault, again, error, words = FAULTS[kind]
    engine, checks = engine_of(server), checks_for(list(CHECKS))
    server.faults = {1: [fault], 2: [fault] * 9}
    once, always = (tell(engine, pictures=[picture(number)], checks=checks) for number in (1, 2))
    assert once == "The picture shows 1" if again else once.error == error
    assert always.error == error and words in always.message and KEY not in always.message
    asked_again = 2 if error == "BadAnswer" else 3 if again else 1
    assert Counter(server.shown()) == {1: 1 + again, 2: asked_again}
    sent = [(body["temperature"], body["seed"]) for body in server.requests if numbers(body) == [2]]
    if error == "BadAnswer":
        assert [temperature for temperature, _ in sent] == [0, 0.7] and sent[0][1] != sent[1][1]
    else:
        assert len(set(sent)) == 1


@pytest.mark.parametrize("body", NO_ANSWERS, ids=str)
def test_an_answer_without_a_text_is_an_error_row(server, body):
    server.faults[-1] = [lambda handler: handler.reply(200, body)]
    failure = tell(engine_of(server))
    assert failure.error == "ServerError" and "holds no text" in failure.message


@pytest.mark.parametrize(("kind", "words"), [("500", "the server failed"), ("400", "the server refuses the request")])
def test_nineteen_failures_are_rows_and_twenty_on_end_are_the_servers_fault(server, kind, words):
    engine = engine_of(server, max_retries=0, concurrency=1)
    server.faults[-1] = [FAULTS[kind][0]] * 19
    assert all(isinstance(tell(engine), Failure) for _ in range(19))
    assert tell(engine) == "The picture shows"
    server.faults[-1] = [FAULTS[kind][0]] * 20
    with pytest.raises(RunError, match=f"20 requests in a row have failed; the last: {words}"):
        [tell(engine) for _ in range(20)]


def test_half_an_emoji_becomes_one_that_can_be_written(server):
    server.says[-1] = "A dog \ud83d\ude00 runs \ud83d"
    assert tell(engine_of(server)) == "A dog 😀 runs \ufffd"


@pytest.mark.parametrize("thought", ["<think>So, a dog?\n</think>\n\n", "So, a dog?</think>\n", ""])
def test_thoughts_are_no_part_of_the_caption(server, thought):
    server.says[-1] = thought + "A dog.\n"
    assert tell(engine_of(server)) == "A dog."


def test_a_packed_answer_of_any_size_costs_little(server):
    """Neither memory nor time, also where it redirects; one that is packed and small is read."""
    engine = engine_of(server, request_seconds=20)
    whole = json.dumps({"choices": [{"message": {"content": "A dog."}}]}).encode()
    packed = zlib.compress(whole, 9, zlib.MAX_WBITS | 16)
    server.faults[-1] = [
        lambda handler: handler.raw(200, packed, Content_Encoding="gzip"),
        lambda handler: (setattr(handler, "path", ""), FAULTS["bomb"][0](handler)),
    ]
    assert tell(engine) == "A dog."
    began = time.process_time()
    assert tell(engine).error == "ServerError"
    assert time.process_time() - began < 1
    server.models = lambda handler: FAULTS["bomb"][0](handler)
    engine_of(server)  # a list of models that cannot be read is none


@pytest.mark.parametrize(
    "answer",
    [
        "A red circle on a green background.",
        "绿色背景上有一个红色圆形。",
        "<think>Hm.</think>Red disc, green around it.",
    ],
)
def test_a_model_that_names_the_test_image_sees(server, answer):
    server.says[-1] = answer
    check_sight(engine_of(server), True, 64)
    (request,) = server.requests
    (image, _) = request["messages"][0]["content"]
    shown = Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2])))
    red, green = shown.getpixel((168, 168)), shown.getpixel((10, 10))
    assert red[0] > 200 > 60 > red[1] and green[1] > 140 > 60 > green[0]


@pytest.mark.parametrize(
    "answer",
    [
        "A colored circle is centered on green.",
        "A carrot on a vertical green line.",
        "I cannot see the image; is it red or green?",
        "",
        "A red circle.",
    ],
)
def test_a_model_that_guesses_does_not_see(server, answer):
    server.says[-1] = answer or " "
    with pytest.raises(UsageError, match="it cannot see: shown a test image"):
        check_sight(engine_of(server), True, 64)


def test_a_model_that_does_not_see_fails_before_the_first_clip(server, clips, tmp_path):
    server.says[-1] = "A red circle on a white background."
    output = ended(captioning(server, clips, tmp_path / "rows.jsonl", sight_check=True), 2)
    assert (
        "--image_caption_model_name: it cannot see: shown a test image, a red disc on green, it answered 'A red circle on a white"
        in output
    )
    assert len(server.requests) == 1 and not (tmp_path / "rows.jsonl").exists()
    server.says[-1] = "A red disc on green."
    assert "30 captioned + 0 errors" in ended(captioning(server, clips, tmp_path / "rows.jsonl", sight_check=True))
    assert len(server.requests) == 1 + 1 + CLIPS, "not once a run"
    server.faults[-1] = [refuse(400, "this model takes no images")]
    output = ended(captioning(server, clips, tmp_path / "more.jsonl", sight_check=True), 2)
    assert (
        "asking it about a test image failed: the server refuses the request (400): this model takes no images"
        in output
    )


# What is asked


def test_the_same_seed_sends_the_same_seeds_and_another_sends_others(server, clips):
    def seeds(seed: int, concurrency: int) -> dict:
        server.requests.clear()
        caption(engine_of(server, concurrency=concurrency), clips, range(4), sampling=Sampling(64, 0.7, seed))
        assert {(body["temperature"], body["max_tokens"]) for body in server.requests} == {(0.7, 64)}
        return {numbers(body)[0]: body["seed"] for body in server.requests}

    first = seeds(1, 8)
    assert first == seeds(1, 2) and len(set(first.values())) == 8
    assert not set(first.values()) & set(seeds(2, 8).values())


def test_extra_body_adds_changes_and_leaves_out_fields(server):
    extra = {
        "chat_template_kwargs": {"enable_thinking": False},
        "max_tokens": None,
        "max_completion_tokens": 9,
        "seed": 4,
    }
    tell(engine_of(server, extra_body=extra))
    (body,) = server.requests
    assert {key: body[key] for key in body if key not in ("messages", "model")} == {
        "chat_template_kwargs": {"enable_thinking": False}, "max_completion_tokens": 9, "seed": 4, "temperature": 0,
    }  # fmt: skip


def test_too_many_words_are_asked_for_again_with_the_earlier_answer(server):
    long = "In this video, " + " ".join(f"word{i}" for i in range(100))
    server.faults[-1] = [lambda handler: handler.say(long)]
    server.says[-1] = "In this video, a dog runs."
    checks = checks_for(list(CHECKS), max_words=STYLES["summary"].max_words)
    assert tell(engine_of(server), "Sum it up:\n\n1. A dog", checks=checks) == "In this video, a dog runs."
    said = [(message["role"], message["content"]) for message in server.requests[1]["messages"]]
    assert said == [
        ("user", "Sum it up:\n\n1. A dog"),
        ("assistant", long),
        ("user", "That has 103 words. Say it in at most 100 words."),
    ]
    server.says[-1] = long
    assert tell(engine_of(server), checks=checks).message.startswith("the answer has 103 words, and the maximum is 100")


def test_a_summary_that_is_too_long_twice_is_cut_at_a_sentence_or_an_error(server, tmp_path, run_main):
    sentence = "In this video, " + " ".join(f"word{i}" for i in range(57))
    server.says[-1] = f"{sentence}. {sentence.replace('word', 'other')}."
    (tmp_path / "in.jsonl").write_text(json.dumps({"video_path": "a.mp4", "sampled_frame_caption": ["A dog."]}) + "\n")
    flags = [
        "--video_metadata_path",
        "in.jsonl",
        "--summarizer",
        "openai",
        "--base_url",
        server.url,
        "--summary_model_name",
        "tiny",
    ]
    run_main(caption_summary, *flags)
    (row,) = read_rows(tmp_path / "summary_caption.jsonl")
    assert row["summary_caption"] == f"{sentence}." and row["summary_cut_from"] == 120
    with pytest.raises(RunError, match="all 1 rows of summary failed"):
        run_main(caption_summary, *flags, "--over_length", "error", "--saved_path", "strict.jsonl")
    (row,) = read_rows(tmp_path / "strict.errors.jsonl")
    assert "the answer has 120 words, and the maximum is 100" in row["message"]
    # A column that a later row brings with it, in a file whose columns are fixed.
    run_main(caption_summary, *flags, "--saved_path", "rows.csv", "--max_words", 200)
    with open(tmp_path / "in.jsonl", "a") as more:
        more.write(json.dumps({"video_path": "b.mp4", "sampled_frame_caption": ["A cat."]}) + "\n")
    server.says[-1] += f" {sentence.replace('word', 'more')}. {sentence.replace('word', 'last')}."
    run_main(caption_summary, *flags, "--saved_path", "rows.csv", "--max_words", 200)
    rows = read_rows(tmp_path / "rows.csv")
    assert [row.get("summary_cut_from") or None for row in rows] == [None, 240]


def test_a_summary_begun_by_an_earlier_version_goes_on_with_its_prompt_and_checks(server, tmp_path, run_main):
    rows = [{"video_path": f"{name}.mp4", "sampled_frame_caption": ["A dog."]} for name in "ab"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = [
        "--video_metadata_path",
        "in.jsonl",
        "--summarizer",
        "openai",
        "--base_url",
        server.url,
        "--summary_model_name",
        "tiny",
    ]
    server.says[-1] = "In this video, a dog runs."
    former = prompt_text(STYLES["summary"].former)
    run_main(caption_summary, *flags, "--summary_prompt", former, "--answer_checks", "cut", "empty", "refusal", "loop")
    settings = (tmp_path / "summary_caption.settings.json").read_text()
    before = len(server.requests)
    # The last two are no settings since 0.4.
    older = '"max_words": 100, "remove_quotes": false, "append_attributes": false'
    (tmp_path / "summary_caption.settings.json").write_text(settings.replace('"max_words": null', older))
    run_main(caption_summary, *flags)  # resumes, with nothing to do
    assert len(server.requests) == before
    run_main(caption_summary, *flags, "--overwrite")
    asked = server.requests[-1]["messages"][0]["content"]
    assert (
        asked.startswith("A dog.\n\nRewrite this")
        and "talk" in (tmp_path / "summary_caption.settings.json").read_text()
    )


def test_captions_without_a_model_make_room_for_those_of_a_model_and_not_the_reverse(
    server, tmp_path, run_main, capsys
):
    """What the first run with the embedded preset leaves needs no --overwrite; what a model wrote does."""
    (tmp_path / "in.jsonl").write_text('{"video_path": "a.mp4", "sampled_frame_caption": ["A dog."]}\n')
    flags = ("--video_metadata_path", "in.jsonl")
    model = ("--summarizer", "openai", "--base_url", server.url, "--summary_model_name", "tiny")
    server.says[-1] = "A dog runs."
    (tmp_path / "summary_caption.settings.json").write_text('{"summarizer": "attributes"}')
    run_main(caption_summary, *flags, "--summarizer", "none")
    run_main(caption_summary, *flags, *model)
    assert "was made without a model (summarizer none): recomputing it with openai" in capsys.readouterr().out
    (row,) = read_rows(tmp_path / "summary_caption.jsonl")
    assert row["summary_caption"] == "A dog runs."
    asked = len(server.requests)
    run_main(caption_summary, *flags, *model)
    assert len(server.requests) == asked
    with pytest.raises(UsageError, match="was made with other settings"):
        run_main(caption_summary, *flags, "--summarizer", "none")
    assert read_rows(tmp_path / "summary_caption.jsonl") == [row]


def test_json_is_asked_for_by_its_schema_and_checked(server):
    schema = schema_of(STYLES["json"])
    whole = dict.fromkeys(schema["required"], 'A dog\'s "bark"\n')
    server.faults[-1] = [lambda handler: handler.say("Here it is: {}")]
    server.says[-1] = json.dumps(whole, indent=1)
    checks = checks_for(list(CHECKS), schema=schema)
    text = tell(engine_of(server), sampling=Sampling(64, schema=schema), checks=checks)
    assert json.loads(text) == whole and len(server.requests) == 2
    asked = server.requests[0]["response_format"]
    assert asked == {"type": "json_schema", "json_schema": {"name": "caption", "schema": schema, "strict": True}}
    columns = caption_summary.summary_columns({}, [], [Answer(text)], "tiny", True)
    assert json.loads(columns["summary_caption"]) == whole and "\n" not in columns["summary_caption"]


# Before and at the end


def test_a_wrong_key_ends_before_any_work(server, clips, tmp_path):
    server.models = (401, {"error": {"message": f"Incorrect API key: {KEY}"}})
    output = ended(captioning(server, clips, tmp_path / "rows.jsonl"), 2)
    assert "refuses the key in OPENAI_API_KEY: Incorrect API key: ***" in output and not server.requests
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_key_that_only_the_chat_refuses_ends_the_run_without_error_rows(server, clips, tmp_path):
    server.faults = {FRAMES * clip: [refuse(401, f"No credit on {KEY}")] for clip in range(CLIPS)}
    output = ended(captioning(server, clips, tmp_path / "rows.jsonl"), 1)
    assert "stopped: " in output and "refuses the key in OPENAI_API_KEY: No credit on ***" in output
    assert not read_rows(tmp_path / "rows.jsonl") if (tmp_path / "rows.jsonl").exists() else True
    assert not (tmp_path / "rows.errors.jsonl").exists()
    assert server.keys == {f"Bearer {KEY}"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_text()]


PAGE = {"Content_Type": "text/html"}


@pytest.mark.parametrize("data", [b"<html>", b"", b"[]", b"null", b'"\xff"'])
@pytest.mark.parametrize("headers", [{}, PAGE], ids=["json", "page"])
def test_a_server_without_a_list_of_models_may_answer_all_the_same(server, data, headers):
    server.models = lambda handler: handler.raw(200, data, **headers)
    assert tell(engine_of(server)) == "The picture shows"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.mark.parametrize(
    "url", [pytest.param(f"http://127.0.0.1:{free_port()}/v1", id="free port"), "localhost:8000/v1", "http://no such host/v1", "http://127.0.0.1:99999/v1", "http://127.0.0.1:port/v1", "http://[::1/v1", "http://::/v1\n"]
)  # fmt: skip
def test_an_address_where_nobody_answers_is_wrong_usage(server, url):
    with pytest.raises(UsageError, match=f"--base_url {re.escape(url[:9])}"):
        engine_of(server, base_url=url)


@pytest.mark.parametrize("key", ["sk-änderung", "sk-two\nlines"])
def test_a_key_that_no_header_can_carry_is_wrong_usage_and_is_not_shown(server, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as error:
        engine_of(server)
    assert key not in str(error.value) and error.value.__cause__ is None


def test_a_key_file_with_a_line_end_is_a_key(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    tell(engine_of(server))
    assert server.keys == {f"Bearer {KEY}"}


def test_an_unknown_model_and_a_path_without_a_chat_end_the_run(server):
    server.models = (404, {"detail": "Not Found"})
    server.faults[-1] = [refuse(404, "The model `tiny` does not exist")]
    with pytest.raises(RunError, match=r"no model 'tiny', or no chat .*: The model `tiny` does not exist"):
        tell(engine_of(server))


@pytest.mark.parametrize("status", [200, 405, 501])
def test_a_web_server_in_the_place_of_a_chat_ends_the_run(server, status):
    server.faults[-1] = [lambda handler: handler.raw(status, b"<!doctype html><html>Hello</html>", **PAGE)]
    with pytest.raises(RunError, match=r"no chat at this address \(most end in /v1\)"):
        tell(engine_of(server, max_retries=0))


def test_a_proxy_that_is_none_is_a_sentence(server, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:1")
    with pytest.raises(UsageError, match="--base_url"):
        engine_of(server)


# Killed, and gone on with


NASTY = {
    0: 'He said: "</script><b>it\'s</b>" & left \\ a \\n comma, a {brace}',
    1: "A dog 🐕‍🦺 runs,\nthen\r\nstops.\n\n影片中，一只狗。\u2028\x85 end",
    2: " ".join(f"word{i}" for i in range(10_000)),
    3: 'Signs: ["looks", "like", "JSON"]',
    4: "A true story.",
}


def test_captions_of_any_text_reach_the_training_set_whole(server, clips, tmp_path):
    (tmp_path / "list.txt").write_text("missing.mp4\n" + "".join(name(clip) + "\n" for clip in NASTY))
    (tmp_path / "prompt.txt").write_text('\nWhat\'s "it"?\nAnswer:\n', encoding="utf-8")
    server.says = {FRAMES * clip: text for clip, text in NASTY.items()}
    flags = ["--video_metadata_path", tmp_path / "list.txt", "--image_caption_prompt", tmp_path / "prompt.txt"]
    frames, summary = tmp_path / "frames.jsonl", tmp_path / "summary.csv"
    assert "6 rows in = 5 captioned + 1 errors" in ended(captioning(server, clips, frames, *flags))
    assert {body["messages"][0]["content"][-1]["text"] for body in server.requests} == {'What\'s "it"?\nAnswer:'}
    assert [row["sampled_frame_caption"] for row in read_rows(frames)] == [[text] for text in NASTY.values()]
    ended(run("caption_summary.py", "--video_metadata_path", frames, "--saved_path", summary, "--summarizer", "none"))
    trained = tmp_path / "train.json"
    ended(run("export_dataset.py", "--video_metadata_path", summary, "--video_folder", clips, "--saved_path", trained))
    assert json.loads(trained.read_text(encoding="utf-8")) == [
        {"file_path": name(clip), "text": text, "type": "video"} for clip, text in NASTY.items()
    ]


def test_a_summary_sends_what_its_flags_say(server, tmp_path):
    rows = [{"video_path": f"{i}.mp4", "sampled_frame_caption": ["A dog.", 'A\n"cat".']} for i in range(3)]
    (tmp_path / "frames.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = json.dumps(dict.fromkeys(schema_of(STYLES["json"])["required"], "一只狗 🐕"), ensure_ascii=False)
    server.says[-1] = whole.replace(": ", " :\n")
    flags = [
        "--summarizer", "openai", "--base_url", server.url, "--summary_model_name", "tiny", "--rewrite", "json",
        "--summary_prompt", "Sum it up.", "--temperature", 0.7, "--max_new_tokens", 99, "--extra_body", '{"top_p": 0.9}',
    ]  # fmt: skip
    saved = tmp_path / "summary.jsonl"
    ended(run("caption_summary.py", "--video_metadata_path", tmp_path / "frames.jsonl", "--saved_path", saved, *flags))
    assert [row["summary_caption"] for row in read_rows(saved)] == [whole] * 3
    for body in server.requests:
        assert body["messages"] == [{"role": "user", "content": 'Sum it up.\n\n1. A dog.\n2. A\n"cat".'}]
        assert (body["model"], body["temperature"], body["max_tokens"], body["top_p"]) == ("tiny", 0.7, 99, 0.9)
        assert body["response_format"]["json_schema"]["schema"] == schema_of(STYLES["json"])


def rows_when(saved, count: int) -> list[dict]:
    """The rows of a file, once they are `count` or more."""
    for _ in range(600):
        if saved.exists() and len(read_rows(saved)) >= count:
            return read_rows(saved)
        time.sleep(0.05)
    raise AssertionError(f"{saved} never had {count} rows")


@pytest.mark.slow
def test_after_sigkill_only_the_missing_clips_are_asked_again(server, clips, tmp_path):
    few = [name(clip) for clip in range(16)]
    (tmp_path / "list.txt").write_text("".join(clip + "\n" for clip in few))
    flags = [
        "--video_metadata_path",
        tmp_path / "list.txt",
        "--saved_freq",
        1,
        "--concurrency",
        4,
        "--temperature",
        0.7,
    ]
    ended(captioning(server, clips, tmp_path / "whole.jsonl", *flags))
    asked = {numbers(body)[0]: body["seed"] for body in server.requests}
    server.delay = lambda: 0.2
    process = captioning(server, clips, tmp_path / "rows.jsonl", *flags)
    rows_when(tmp_path / "rows.jsonl", 5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = {row["video_path"] for row in read_rows(tmp_path / "rows.jsonl")}
    assert 5 <= len(there) < len(few)
    server.requests.clear()
    server.delay = lambda: 0
    ended(captioning(server, clips, tmp_path / "rows.jsonl", *flags))
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    again = Counter(name(number // FRAMES) for number in server.shown())
    assert again == {clip: 1 for clip in few if clip not in there}
    assert {numbers(body)[0]: body["seed"] for body in server.requests}.items() <= asked.items()


def test_a_server_that_dies_half_way_costs_no_row(server, clips, tmp_path):
    server.delay = lambda: 0.1
    flags = ["--concurrency", 4, "--max_retries", 1]
    process = captioning(server, clips, tmp_path / "rows.jsonl", *flags, "--saved_freq", 1)
    rows_when(tmp_path / "rows.jsonl", 8)
    server.die()
    output = ended(process, 1)
    assert re.search(r"stopped: http://127\S+ no longer answers: .*\nfinished work is saved", output)
    assert not (tmp_path / "rows.errors.jsonl").exists()
    saved = read_rows(tmp_path / "rows.jsonl")
    assert 8 <= len(saved) < CLIPS
    another = Server()
    assert f"{CLIPS} rows in = {CLIPS} captioned + 0 errors" in ended(
        captioning(another, clips, tmp_path / "rows.jsonl", *flags)
    )
    assert len(another.requests) == CLIPS - len(saved)
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [row["sampled_frame_caption"] for row in rows] == [[f"The picture shows {FRAMES * i}"] for i in range(CLIPS)]
    another.die()


def test_an_interrupt_ends_at_once_though_the_server_hangs(server, clips, tmp_path):
    server.delay = itertools.chain([0, 0], itertools.repeat(20)).__next__
    process = captioning(server, clips, tmp_path / "rows.jsonl", "--concurrency", 1)
    for _ in range(400):
        if len(server.requests) >= 3:
            break
        time.sleep(0.05)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert "interrupted; finished work is saved" in ended(process, 130)
    assert time.monotonic() - began < 5 and len(read_rows(tmp_path / "rows.jsonl")) == 2


def test_the_name_that_the_server_lists_is_asked_for(server):
    server.models = (200, {"object": "list", "data": [{"id": "short"}, {"id": "other"}]})
    options = OpenAIOptions(base_url=server.url, max_retries=0)
    assert OpenAIEngine(["owner/long", "short"], options).model == "short"
    assert OpenAIEngine(["owner/long", "unlisted"], options).model == "owner/long"


def test_a_web_page_is_no_chat_but_where_one_has_answered_before(server):
    server.faults = {1: [lambda handler: handler.raw(200, b"<html>Busy", Content_Type="text/html")] * 2}
    with pytest.raises(RunError, match="there is no chat at this address"):
        tell(engine_of(server), pictures=[picture(1)])
    engine = engine_of(server)
    assert tell(engine, pictures=[picture(2)]) == "The picture shows 2"
    failure = tell(engine, pictures=[picture(1)])
    assert failure.error == "ServerError" and "holds no text: <html>" in failure.message
