"""Captions of several lengths in one answer, measured facts in prompts, where a caption contradicts them, and the clip's sound."""

import base64
import io
import json
import wave

import numpy as np
import pytest
from conftest import numbered_frame, write_video
from test_openai_engine import FRAMES, Server, refuse, write_clips
from test_openai_engine import name as clip_name

import caption_summary
import caption_video_frame
from utils.captioning.attributes import describe
from utils.captioning.measured_facts import contradiction, with_facts
from utils.rows import read_rows

PAN = {"camera_motion": "pan left", "camera_pan": -30.0, "duration": 4.25}
SAID = {"short": "A dog runs.", "long": "A brown dog runs across a lawn.\nIt stops.", "tags": "dog, lawn, daylight"}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "")
    one = Server()
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture
def flags(server, tmp_path):
    write_clips(tmp_path / "clips", 3)
    rows = [
        {"video_path": clip_name(0), **PAN},
        {"video_path": clip_name(1), "duration": 3.0},
        {"video_path": clip_name(2)},
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        "--video_folder", "clips", "--video_metadata_path", "train.jsonl", "--captioner", "openai", "--base_url", server.url, "--n_jobs", 1,
        "--image_caption_model_name", "tiny", "--caption_unit", "clip", "--frame_sample_method", "uniform", "--num_sampled_frames", 2,
        "--skip_sight_check",
    ]  # fmt: skip


def test_one_answer_gives_three_captions_and_each_is_finished(server, flags, tmp_path, run_main):
    for clip in range(3):
        server.says[FRAMES * clip] = json.dumps(SAID | {"short": f"Dog {clip} runs."})
    run_main(caption_video_frame, *flags, "--styles", "short,long,tags")
    assert len(server.requests) == 3 and server.requests[0]["max_tokens"] == 512
    assert server.requests[0]["response_format"]["json_schema"]["schema"]["required"] == ["short", "long", "tags"]
    prompts = [
        body["messages"][0]["content"][-1]["text"]
        for body in sorted(server.requests, key=lambda body: -len(str(body["messages"][0]["content"][-1])))
    ]
    assert "The clip lasts 4.2 seconds." in prompts[0] and "measured as: fast pan left." in prompts[0]
    assert "The clip lasts 3.0 seconds." in prompts[1] and "measured" not in prompts[1] and "lasts" not in prompts[2]
    run_main(
        caption_summary,
        "--video_metadata_path",
        "frame_caption.jsonl",
        "--summarizer",
        "none",
        "--trigger_word",
        "sks",
        "--append_attributes",
    )
    first, second, _ = read_rows(tmp_path / "summary_caption.jsonl")
    assert (
        first["caption_short"] == "sks Dog 0 runs. Camera motion: fast pan left."
        and first["caption_tags"] == "sks dog, lawn, daylight"
    )
    assert second["caption_long"] == second["summary_caption"] == "sks A brown dog runs across a lawn. It stops."


def test_an_answer_that_lacks_one_is_asked_for_again_and_each_is_checked(server, flags, tmp_path, run_main):
    server.says |= {
        0: json.dumps({"short": "A dog runs."}), FRAMES: json.dumps({"short": "I'm sorry, I can't.", "tags": "dog"}),
        2 * FRAMES: '```json\n{"short": "A dog runs.", "tags": "dog"}\n```',
    }  # fmt: skip
    run_main(caption_video_frame, *flags, "--styles", "short,tags")
    errors = {row["video_path"]: row["message"] for row in read_rows(tmp_path / "frame_caption.errors.jsonl")}
    assert "with a text for tags" in errors[clip_name(0)] and "short: the answer is a refusal" in errors[clip_name(1)]
    (row,) = read_rows(tmp_path / "frame_caption.jsonl")
    assert (
        row["sampled_frame_caption"] == ["A dog runs."] and row["caption_tags"] == "dog" and "caption_long" not in row
    )
    assert '"long"' not in server.requests[0]["messages"][0]["content"][-1]["text"]


@pytest.mark.parametrize(
    "more",
    [["--styles", "short,medium"], ["--styles", "short,short"], ["--styles", "short", "--caption_unit", "frame"]],
)
def test_styles_that_are_none_are_wrong_usage(flags, ended, more):
    code, said = ended("caption_video_frame.py", *flags, *more)
    assert code == 2 and "--styles" in said


def test_facts_stand_in_a_prompt_as_measured_and_their_line_goes_without_them():
    prompt = 'Say it as {"caption": …}.\nIt lasts {duration} s.\nThe camera: {camera_motion}.\nEnd.'
    assert with_facts(prompt, PAN) == 'Say it as {"caption": …}.\nIt lasts 4.2 s.\nThe camera: fast pan left.\nEnd.'
    assert with_facts(prompt, {}) == 'Say it as {"caption": …}.\nEnd.' and with_facts("{x}", PAN) == "{x}"


@pytest.mark.parametrize(
    ("caption", "row", "wrong"),
    [
        ("A static shot of a dog.", PAN, "says static, measured fast pan left"),
        ("A dog runs. The camera remains completely still.", PAN, "says static, measured fast pan left"),
        ("The camera slowly pans to the right.", PAN, "says pan right, measured fast pan left"),
        ("镜头固定，一只狗在跑。", PAN, "says static, measured fast pan left"),
        ("The camera zooms in on a dog.", {"camera_motion": "static"}, "says zoom in, measured static"),
        ("The camera pans left as a dog runs to the right.", PAN, ""),
        ("A static shot of a dog.", {"camera_motion": "pan left", "camera_pan": -3.0}, ""),
        ("A static shot of a dog.", {"camera_motion": "handheld"}, ""),
        ("A static camera shows a dog.", {"camera_motion": "static"}, ""),
        ("A man with a camera is still at work.", {}, ""),
        ("A dog with a static coat turns right.", PAN, ""),
        ("The camera tilts up and zooms in.", {"camera_motion": "tilt up and zoom in", "camera_tilt": 20, "camera_zoom": 30}, ""),
    ],
)  # fmt: skip
def test_what_a_caption_says_of_the_camera_is_held_against_what_was_measured(caption, row, wrong):
    assert contradiction(caption, row) == wrong


def test_captions_of_what_was_measured_contradict_nothing():
    for move, speed in {
        "pan left": -30.0,
        "pan right": 5.0,
        "zoom in and pan left": -9.0,
        "static": 0.0,
        "roll clockwise": 0.0,
    }.items():
        row = {"camera_motion": move, "camera_pan": speed, "motion_score": 9.0}
        assert contradiction(describe(row), row) == ""


def test_a_contradiction_is_a_column_of_the_summary(tmp_path, run_main):
    rows = [
        {"video_path": "a.mp4", "sampled_frame_caption": ["A static shot."], "attributes": PAN},
        {"video_path": "b.mp4", "sampled_frame_caption": ["A fast pan."], "attributes": PAN},
    ]
    (tmp_path / "frames.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_main(caption_summary, "--video_metadata_path", "frames.jsonl", "--summarizer", "none")
    first, second = read_rows(tmp_path / "summary_caption.jsonl")
    assert (
        first["camera_contradiction"] == "says static, measured fast pan left" and "camera_contradiction" not in second
    )


# Sound


def test_the_sound_of_a_clip_is_sent_and_asked_about(server, flags, tmp_path, run_main):
    time = np.arange(24_000) / 48_000
    sound = (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    frames = (numbered_frame(i) for i in range(FRAMES))
    write_video(tmp_path / "clips" / clip_name(0), frames, sound=sound)
    run_main(caption_video_frame, *flags, "--with_audio")
    assert len(read_rows(tmp_path / "frame_caption.jsonl")) == 3
    check, *asked = server.requests
    assert [part["type"] for part in check["messages"][0]["content"]] == ["input_audio", "text"]
    (loud,) = [body for body in asked if any(part["type"] == "input_audio" for part in body["messages"][0]["content"])]
    parts = loud["messages"][0]["content"]
    assert [part["type"] for part in parts[-3:]] == [
        "input_audio",
        "text",
        "text",
    ] and "say also what is heard" in parts[-2]["text"]
    with wave.open(io.BytesIO(base64.b64decode(parts[-3]["input_audio"]["data"]))) as heard:
        assert (heard.getframerate(), heard.getnchannels(), heard.getsampwidth()) == (16_000, 1, 2)
        samples = np.frombuffer(heard.readframes(8000), np.int16)
    peak = np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / len(samples)
    assert len(samples) >= 7000 and abs(peak - 1000) < 10


def test_a_server_that_takes_no_sound_ends_the_run(server, flags, ended):
    server.faults[-1] = [refuse(400, "audio input is not supported")]
    code, said = ended("caption_video_frame.py", *flags, "--with_audio")
    assert code == 2 and "--with_audio: the model takes no audio" in said and "audio input is not supported" in said


@pytest.mark.parametrize(
    "more", [["--captioner", "transformers"], ["--captioner", "attributes"], ["--caption_unit", "frame"]]
)
def test_an_engine_that_takes_no_sound_says_so(flags, ended, more):
    flags = flags[: flags.index("--base_url")] + flags[flags.index("--base_url") + 2 :]
    code, said = ended("caption_video_frame.py", *flags, *more, "--with_audio")
    assert code == 2 and "--with_audio needs --caption_unit clip and --captioner openai" in said
