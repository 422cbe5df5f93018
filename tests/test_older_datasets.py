"""Datasets that earlier versions made resume: every script finds its rows done, leaves the files as they are, and the training set is the same.

`made_by_0_X_0/` is what the scripts of that version wrote about two small videos and a file that is no video, with the flags of
`stage_flags`. `made_by_0_X_0/staged/`, from 0.3.0 on, is a dataset folder of the same videos and clips by that version's stages, with the settings
in STAGED. FOLDER stands where the folder's path was.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPT_VARIABLES
from test_contract import CLOSING, stage_flags

from utils.rows import read_rows

VERSIONS = ("0_1_0", "0_2_0", "0_3_0", "0_4_0")
STAGED = {  # settings of stage 2, and the list of musubi's export that is there after another run
    "0_3_0": ({"CROP": "1", "DEDUP": "1"}, "12fps.jsonl"),
    "0_4_0": ({"CROP": "1", "AUDIO": "1", "LOUDNESS_THRESHOLD": "none", "SILENT_SHARE_THRESHOLD": "none", "DEDUP": "1", "MIN_SHORT_SIDE": "0"}, "160x90-12fps.jsonl"),
}  # fmt: skip
WHOLE = ("filter_videos_by_motion_score.py", "export_dataset.py")  # they write their files whole, at each run


def copy_of(version: str, folder: Path) -> Path:
    """The dataset at another place than where it was made, and than where it was when this version was released."""
    shutil.copytree(Path(__file__).with_name(f"made_by_{version}"), folder)
    for path in folder.rglob("*"):
        if path.is_file() and b"FOLDER" in (text := path.read_bytes()):
            path.write_bytes(text.replace(b"FOLDER", b"/mounted/elsewhere"))
    return folder


@pytest.fixture(scope="module", params=VERSIONS)
def dataset(tmp_path_factory, request):
    return copy_of(request.param, tmp_path_factory.mktemp("older") / "dataset")


@pytest.mark.parametrize("name", list(stage_flags(Path())))
def test_every_script_finds_its_rows_done(dataset, run_script, name):
    flags = stage_flags(dataset)[name]
    saved = Path(flags[flags.index("--saved_path") + 1])
    if name == "compute_audio_score.py" and not saved.exists():
        pytest.skip("versions before 0.4 have none")
    before = saved.read_text(encoding="utf-8")
    printed = run_script(name, *flags).stdout
    assert name in WHOLE or ", 0 due" in printed, printed
    assert CLOSING.search(printed), printed
    assert saved.read_text(encoding="utf-8") == before


@pytest.mark.slow
@pytest.mark.parametrize("version", STAGED)
def test_the_stages_find_everything_done_and_end_with_the_same_set(version, tmp_path, scripts):
    made = copy_of(version, tmp_path / "moved")
    settings, listed = STAGED[version]
    staged, clips = made / "staged", str(made / "clips")
    inherited = {name: value for name, value in os.environ.items() if name not in SCRIPT_VARIABLES}
    common = {"DATASET_FOLDER": str(staged), "PYTHON": str(scripts.python), "PRESET": "embedded", "REPORT": "0", "N_JOBS": "1", "QUALITY_THRESHOLD": "2"}  # fmt: skip
    the_set = ("train.jsonl", "dropped.jsonl", "train_panda_70m.json")
    before = {name: (staged / name).read_text(encoding="utf-8") for name in the_set}
    captions = [row["caption"] for row in read_rows(staged / "musubi" / listed, ("video_path",))]
    for stage, variables in (
        ("stage_1_video_cut.sh", {"VIDEO_FOLDER": str(made / "raw"), "OUTPUT_FOLDER": clips}),
        ("stage_2_filter_data.sh", {"VIDEO_FOLDER": clips, "VIDEO_METADATA_PATH": str(staged / "clips.jsonl"), **settings}),
        ("stage_3_video_caption.sh", {"VIDEO_FOLDER": clips, "TRIGGER_WORD": "sks", "FORMAT": "musubi"}),
    ):  # fmt: skip
        ran = subprocess.run(
            ["sh", ROOT / stage], env={**inherited, **common, **variables}, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        due = [line for line in ran.stdout.splitlines() if " done before, " in line and not line.endswith(", 0 due")]
        assert ", 0 due" in ran.stdout and not due, ran.stdout
    assert {name: (staged / name).read_text(encoding="utf-8") for name in the_set} == before
    exported = read_rows(staged / "musubi" / "160x90-12fps.jsonl", ("video_path",))  # a list for each size, since then
    assert [row["caption"] for row in exported] == captions
    assert all(Path(row["video_path"]).is_relative_to(staged) for row in exported)  # where the folder is now
    assert [row["text"] for row in json.loads(before["train_panda_70m.json"])] == captions  # the word, once
