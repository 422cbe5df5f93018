"""A dataset that version 0.1.0 made resumes: every script finds its rows done and leaves the files as they are.

`made_by_0_1_0/` is what its nine scripts wrote about two small videos and a file that is no video, with default flags.
"""

import shutil
from pathlib import Path

import pytest
from test_contract import CLOSING, stage_flags

MADE = Path(__file__).with_name("made_by_0_1_0")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("older") / "dataset"
    shutil.copytree(MADE, folder)
    settings = folder / "clips.settings.json"  # holds where the clips were
    settings.write_text(settings.read_text().replace("FOLDER", "/mounted/elsewhere"))
    return folder


@pytest.mark.parametrize("name", list(stage_flags(Path())))
def test_every_script_finds_its_rows_done(dataset, run_script, name):
    flags = stage_flags(dataset)[name]
    saved = Path(flags[flags.index("--saved_path") + 1])
    before = saved.read_text(encoding="utf-8")
    printed = run_script(name, *flags).stdout
    assert name in ("filter_videos_by_motion_score.py", "export_dataset.py") or ", 0 due" in printed, printed
    assert CLOSING.search(printed), printed
    assert saved.read_text(encoding="utf-8") == before
