"""Exports of clips with and without audio: kept, dropped, required, or as two sets; in the model's own form, where its trainer looks for it."""

import json
import re
import shlex
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from conftest import read_samples, write_numbered
from test_export import samples_of

from utils.cutting.audio import read_audio
from utils.export.models import MODELS, Sound
from utils.export.trainers import PAIRS, audio_of
from utils.rows import read_rows, write_rows

FAST = ("--x264_preset", "ultrafast", "--n_jobs", "1")


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Three clips of 3 s with a tone, two without audio, and their list."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "clips").mkdir()
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * 48_000) / 48_000)).astype(np.float32)
    names = {"loud0.mp4": tone, "loud1.mp4": tone, "loud2.mp4": tone, "still0.mp4": None, "still1.mp4": None}
    for name, sound in names.items():
        write_numbered(folder / "clips" / name, 72, sound=sound)
    write_rows(folder / "list.jsonl", [{"video_path": name, "summary_caption": f"a clip, {name}"} for name in names])
    return folder


@pytest.fixture
def exported(listed, run_script, tmp_path):
    def run(*flags, code: int = 0):
        place = (
            "--video_folder",
            listed / "clips",
            "--video_metadata_path",
            listed / "list.jsonl",
            "--export_folder",
            "out",
        )
        return run_script("export_dataset.py", *place, *FAST, *flags, code=code)

    return run


def heard(folder) -> dict[str, bool]:
    """Whether each exported clip has audio."""
    found = {}
    for path in sorted((folder / "videos").rglob("*.mp4")):
        with av.open(str(path)) as container:
            found[path.stem] = bool(container.streams.audio)
    return found


LOUD, STILL = {f"loud{i}": True for i in range(3)}, {f"still{i}": False for i in range(2)}


@pytest.mark.parametrize(
    ("choice", "wanted"), [("keep", LOUD | STILL), ("drop", dict.fromkeys(LOUD | STILL, False)), ("require", LOUD)]
)
def test_audio_is_kept_dropped_or_required(choice, wanted, exported, tmp_path):
    exported("--format", "ltx2", "--model", "ltx2", "--media", "encode", "--audio", choice)
    assert heard(tmp_path / "out") == wanted
    reasons = {row["video_path"]: row["reason"] for row in read_rows(tmp_path / "out" / "export.plan.jsonl")}
    assert {name for name, reason in reasons.items() if reason == "no audio"} == (
        {"still0.mp4", "still1.mp4"} if choice == "require" else set()
    )


def test_two_sets(exported, tmp_path):
    for _ in range(2):  # a second run goes on with both
        said = exported("--format", "ltx2", "--model", "ltx2", "--audio", "split").stdout
        assert "with_audio:" in said and "without_audio:" in said
        assert (
            "5 rows in = 3 written + 0 errors + 2 filtered" in said
            and "5 rows in = 2 written + 0 errors + 3 filtered" in said
        )
        assert heard(tmp_path / "out" / "with_audio") == LOUD and heard(tmp_path / "out" / "without_audio") == STILL
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["with_audio", "without_audio"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--format", "musubi", "--audio", "drop"), "--audio drop: --media link leaves the files as they are"),
        (("--format", "easyanimate", "--audio", "require"), "uses no audio; "),
        (("--format", "musubi", "--audio", "loud"), "invalid choice"),
        (("--format", "musubi", "--model", "wan2.1", "--audio", "require"), "musubi for wan2.1 uses no audio"),
        (("--format", "diffsynth", "--model", "wan2.2-s2v", "--audio", "drop"), "on clips with audio alone"),
        (("--format", "videox_fun", "--model", "minimax-h3", "--audio", "split"), "on clips with audio alone"),
    ],
)
def test_what_cannot_be_ends_before_any_work(flags, said, exported, tmp_path):
    assert said in exported(*flags, code=2).stderr and not (tmp_path / "out").exists()


# what a model hears


HEARING = [(format, model) for format, models in PAIRS.items() for model, pair in models.items() if pair.audio]
SMALL = ("--buckets", "192x128", "128x192")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Two clips of 6 s with noise below 6 kHz, one in mono at 44.1 kHz, one in stereo at 48 kHz; one without audio; and their list."""
    folder = tmp_path_factory.mktemp("noisy")
    (folder / "clips").mkdir()
    for number, (name, rate, layout) in enumerate((("one.mp4", 44_100, "mono"), ("two.mp4", 48_000, "stereo"))):
        raw = np.random.default_rng(number).standard_normal(6 * rate).astype(np.float32)
        smooth = np.convolve(raw, np.hanning(15) / 15, "same").astype(np.float32)
        write_numbered(folder / "clips" / name, 144, 24, sound=smooth, sound_rate=rate, layout=layout)
    write_numbered(folder / "clips/still.mp4", 144, 24)
    names = ["one.mp4", "two.mp4", "still.mp4"]
    write_rows(folder / "list.jsonl", [{"video_path": name, "summary_caption": f"the {name}"} for name in names])
    return folder


def exported_set(run_script, folder, *flags, code: int = 0):
    place = (
        "--video_folder",
        folder / "clips",
        "--video_metadata_path",
        folder / "list.jsonl",
        "--export_folder",
        "out",
    )
    return run_script("export_dataset.py", *place, *FAST, *flags, code=code)


def lag_and_likeness(found: np.ndarray, source: np.ndarray, rate: int) -> tuple[float, float]:
    """How much later in `found` the source sounds, in milliseconds, by the peak of their cross-correlation; and the normalized peak."""
    size = min(len(found), len(source))
    found, source = found[:size] - found[:size].mean(), source[:size] - source[:size].mean()
    spectrum = np.fft.rfft(found, 2 * size) * np.conj(np.fft.rfft(source, 2 * size))
    correlation = np.fft.irfft(spectrum)
    peak = int(np.argmax(correlation))
    lag = peak - 2 * size if peak > size else peak
    return lag * 1000 / rate, float(correlation[peak] / np.sqrt((found**2).sum() * (source**2).sum()))


@pytest.mark.parametrize("format, model", HEARING)
def test_audio_is_in_the_models_form_where_its_trainer_looks_for_it(format, model, run_script, noisy, tmp_path):
    ran = exported_set(run_script, noisy, "--format", format, "--model", model, *SMALL)
    form, how = MODELS[model].sound, audio_of(format, model)
    plan = {row["video_path"]: row for row in read_rows(tmp_path / "out/export.plan.jsonl")}
    silent = PAIRS[format][model].silent
    assert [plan[name]["reason"] for name in ("one.mp4", "two.mp4")] == ["", ""]
    assert plan["still.mp4"]["reason"] == ("" if silent == "beside" else "no audio")
    samples = samples_of((tmp_path / "out").absolute(), format, model, ran)
    assert len(samples) == 3 - (silent != "beside")
    for name in ("one.mp4", "two.mp4"):
        row = plan[name]
        clip = tmp_path / "out" / row["export_file"]
        seconds = Fraction(row["frames"]) / MODELS[model].fps
        with av.open(str(clip)) as container:
            assert bool(container.streams.audio) == (how == "track")
            if how == "track":
                codec = container.streams.audio[0].codec_context
                own = (44_100, 1) if name == "one.mp4" else (48_000, 2)
                assert (codec.sample_rate, codec.layout.nb_channels) == (form or own)
                rate, heard = codec.sample_rate, read_samples(clip, codec.sample_rate)
        if how == "wav":
            wav = tmp_path / "out" / row["beside"]["audio_path"]
            assert wav.parts[-2] == "audio" and wav.stem == clip.stem
            with wave.open(str(wav)) as file:
                assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (*form, 2)
                rate, count = file.getframerate(), file.getnframes()
                pcm = np.frombuffer(file.readframes(count), "<i2").reshape(-1, file.getnchannels())
            heard = pcm.mean(1) / 32768
            assert count == round(seconds * rate)
            assert wav in {path for sample in samples for path in sample.beside}
        lag, likeness = lag_and_likeness(heard, read_samples(noisy / "clips" / name, rate), rate)
        assert abs(lag) <= 1 and likeness > 0.97, (lag, likeness)


def test_one_channel_is_both_of_two_and_two_are_their_mean(noisy):
    """What is read in another form is neither louder nor softer."""
    for name in ("one.mp4", "two.mp4"):
        path, span = str(noisy / "clips" / name), (Fraction(1), Fraction(5))
        own, rate = read_audio(path, *span)
        for channels in (1, 2):
            samples, got = read_audio(path, *span, Sound(rate, channels))
            assert (got, samples.shape) == (rate, (channels, 4 * rate))
            assert np.allclose(samples, own if channels == len(own) else own.mean(0), atol=1e-6)


def test_lists_and_settings_say_where_the_audio_is(run_script, noisy, tmp_path):
    def start_of(*flags) -> str:
        ran = exported_set(run_script, noisy, *flags, "--overwrite")
        return next(line for line in ran.stdout.splitlines() if line.startswith("start: ") and "--dataset" in line)

    start = start_of("--format", "diffsynth", "--model", "ltx2", *SMALL)
    rows = json.loads((tmp_path / "out/metadata.json").read_text())
    assert [row["input_audio"] for row in rows] == [row["video"] for row in rows] and len(rows) == 2
    assert "--data_file_keys video,input_audio --extra_inputs input_audio" in start
    start = start_of("--format", "diffsynth", "--model", "ltx2", *SMALL, "--audio", "drop")
    assert len(json.loads((tmp_path / "out/metadata.json").read_text())) == 3 and "input_audio" not in start
    start = start_of("--format", "diffsynth", "--model", "wan2.2-s2v", *SMALL)
    assert "--data_file_keys video,input_audio --extra_inputs input_audio,input_image" in start
    rows = json.loads((tmp_path / "out/metadata.json").read_text())
    assert [row["input_audio"] for row in rows] == [
        re.sub(r"videos/(.*)\.mp4", r"audio/\1.wav", row["video"]) for row in rows
    ]
    exported_set(run_script, noisy, "--format", "simpletuner", "--model", "ltx2", *SMALL, "--overwrite")
    (video, _) = json.loads((tmp_path / "out/multidatabackend.json").read_text())
    assert video["audio"] == {"auto_split": True, "sample_rate": 16_000, "channels": 2, "allow_zero_audio": True}
    exported_set(run_script, noisy, "--format", "ai_toolkit", "--model", "ltx2", *SMALL, "--overwrite")
    settings = yaml.safe_load((tmp_path / "out/datasets.yaml").read_text())["datasets"]
    assert [one["do_audio"] for one in settings] == [True]


def test_wavs_follow_their_clips(run_script, noisy, tmp_path):
    """They are made for linked clips, too, made anew where one is gone, and gone where their clip is."""
    flags = ("--format", "videox_fun", "--model", "wan2.2-s2v", "--media", "link")
    exported_set(run_script, noisy, *flags)
    wavs = sorted((tmp_path / "out/audio").iterdir())
    assert [path.name for path in wavs] == ["one.wav", "two.wav"]
    with wave.open(str(wavs[0])) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, 6 * 16_000)
    kept = wavs[1].stat().st_mtime_ns
    wavs[0].unlink()
    exported_set(run_script, noisy, *flags)
    assert wavs[0].exists() and wavs[1].stat().st_mtime_ns == kept
    rows = read_rows(noisy / "list.jsonl")
    write_rows(tmp_path / "list.jsonl", rows[1:])
    place = (
        "--video_folder",
        noisy / "clips",
        "--video_metadata_path",
        tmp_path / "list.jsonl",
        "--export_folder",
        "out",
    )
    run_script("export_dataset.py", *place, *FAST, *flags)
    assert [path.name for path in (tmp_path / "out/audio").iterdir()] == ["two.wav"]


def test_a_start_line_of_a_speaking_model_is_words_of_a_shell(run_script, noisy):
    ran = exported_set(
        run_script, noisy, "--format", "videox_fun", "--model", "minimax-h3", *SMALL, "--dry_run", "table"
    )
    assert "leaves out: no audio" in ran.stdout
    ran = exported_set(run_script, noisy, "--format", "videox_fun", "--model", "minimax-h3", *SMALL)
    (start,) = (line for line in ran.stdout.splitlines() if line.startswith("start: "))
    assert "scripts/minimax_h3/train_lora.py" in shlex.split(start)
