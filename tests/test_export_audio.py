"""Exports of clips with and without audio: kept, dropped, required, or as two sets."""

import av
import numpy as np
import pytest
from conftest import write_numbered

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
        (("--format", "musubi", "--audio", "drop"), "--audio drop: --media link leaves files as they are"),
        (("--format", "easyanimate", "--audio", "require"), "uses no audio; "),
        (("--format", "musubi", "--audio", "loud"), "invalid choice"),
    ],
)
def test_what_cannot_be_ends_before_any_work(flags, said, exported, tmp_path):
    assert said in exported(*flags, code=2).stderr and not (tmp_path / "out").exists()
