"""Whatever a person did before, the next run of the three stages ends with exactly the training set that a clean run of today's sources
and settings gives.

    bash run_tests.sh tests/test_histories.py                               eighteen histories, always the same, and the known ones below
    bash run_tests.sh --all -k many_histories                                  five hundred
    bash run_tests.sh tests/test_histories.py --histories 200 --histories_seed 7   others; a table of what happened at the end

A history is a list of things that people do: each is a rule of `Histories`. `stage_runner.py` makes a stage cheap, `histories.py`
says what a training set is. Histories that once ended wrong are tests of their own, further below.
"""

import base64
import functools
import gzip
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import hypothesis
import numpy as np
import pytest
from histories import BROKEN, COMPUTED, FREE, Dataset, Settings, differences, make_pool, rows_of, write_rows
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from stage_runner import Ran, Stages

pytestmark = pytest.mark.slow
GATE, LONG = 18, 500  # histories
AT_ONCE = 6  # histories that Hypothesis draws together
STEPS = 9  # of a history, at most, before its last full run
NAMES = ("A.mp4", "sub/A.mp4", "b c.mp4", "A.mov")  # of sources; A.mp4 and A.mov change the names of each other's clips
CLIPS = ("A-Scene-001.mp4", "A-Scene-002.mp4", "b c-Scene-001.mp4", "sub/A-Scene-001.mp4", "Always-Scene-001.mp4")
WHOLE = ("slow", "other", "fast", "cut", "long", "text", "still", "flat", "twin")  # contents of sources
DUE = re.compile(r"^(\w+): .*done before, ([\d,]+) due", re.M)


@pytest.fixture(scope="module")
def stages():
    running = Stages()
    yield running
    running.close()


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    return make_pool(tmp_path_factory.mktemp("pool"))


# Histories drawn at random.


class Histories(RuleBasedStateMachine):
    """What people do to a dataset, in any order. `Always.mp4` stays as it is, so that no stage is without rows."""

    stages: Stages
    pool: Path
    scratch: Path  # a folder for the datasets
    share_of_dear = 60  # one of so many drawings starts real processes
    clean: ClassVar[
        dict[tuple, tuple[list[int], dict]]
    ] = {}  # exit codes and result of a clean run by sources and settings
    told: ClassVar[Counter] = Counter()  # rules used, over all histories
    survived = 0

    def __init__(self) -> None:
        super().__init__()
        self.number = Counter.total(self.told)  # a name that no folder has had
        self.dataset = Dataset(self.stages, self.scratch / f"{self.number}" / "set", self.pool)
        self.sources: dict[str, str] = {}
        self.settings = Settings()
        self.done_with: dict[int, tuple] = {}  # by stage, the settings of its last run that ended with 0
        self.is_settled = False  # nothing has happened since a full run
        self.is_moved = False  # since the last full run

    @initialize(
        first=st.sampled_from(["cut", "other", "twin", "no video"]),
        second=st.sampled_from(["", "long", "text"]),
        runs=st.integers(0, 3),
    )
    def begin(self, first, second, runs):
        """A few sources, and mostly a dataset that is made of them already: one of few, whose clean runs are known."""
        self.put("Always.mp4", "slow")
        self.put("A.mp4", first)
        if second:
            self.put("b c.mp4", second)
        if runs:
            self.told["full run"] += 1
            self.full_run()

    def put(self, name: str, content: str) -> None:
        self.dataset.put(name, content)
        self.sources[name] = content

    def happens(self, what: str) -> None:
        self.told[what] += 1
        self.is_settled = False

    # Sources.

    @rule(name=st.sampled_from(NAMES), content=st.sampled_from([*WHOLE, *BROKEN]))
    def source_added_or_replaced(self, name, content):
        """Another video comes, or takes the place of one under its name: also a broken one, or a whole one in place of a broken one."""
        before = self.sources.get(name)
        if before != content:
            self.happens(
                "source added"
                if before is None
                else "source broken"
                if content in BROKEN
                else "source mended"
                if before in BROKEN
                else "source replaced"
            )
            self.put(name, content)

    @precondition(lambda self: len(self.sources) > 1)
    @rule(draw=st.data())
    def source_deleted(self, draw):
        name = draw.draw(st.sampled_from([name for name in self.sources if name != "Always.mp4"]))
        self.happens("source deleted")
        (self.dataset.raw / name).unlink()
        del self.sources[name]

    @precondition(lambda self: 1 < len(self.sources) < len(NAMES) + 1)
    @rule(draw=st.data())
    def source_renamed(self, draw):
        name = draw.draw(st.sampled_from([name for name in self.sources if name != "Always.mp4"]))
        other = draw.draw(st.sampled_from([name for name in NAMES if name not in self.sources]))
        self.happens("source renamed")
        (self.dataset.raw / other).parent.mkdir(exist_ok=True)
        os.rename(self.dataset.raw / name, self.dataset.raw / other)
        self.sources[other] = self.sources.pop(name)

    # Settings.

    @rule(draw=st.data(), name=st.sampled_from(sorted(FREE)))
    def free_setting(self, draw, name):
        """Thresholds, a condition, a list of one's own, words of captions, the export: they apply at the next run, and nothing is refused."""
        self.happens(name)
        self.settings = replace(self.settings, **{name: draw.draw(st.sampled_from(FREE[name]), name)})

    @rule(draw=st.data(), name=st.sampled_from(sorted(COMPUTED)))
    def computed_setting(self, draw, name):
        """A choice that rows depend on: the run is refused until OVERWRITE=1."""
        self.happens(name)
        self.settings = replace(self.settings, **{name: draw.draw(st.sampled_from(COMPUTED[name]), name)})

    @rule(
        which=st.sampled_from(["exclude", "include"]), clips=st.lists(st.sampled_from(CLIPS), unique=True, max_size=3)
    )
    def marks(self, which, clips):
        """Clips marked in the report, or unmarked."""
        self.happens(which)
        self.settings = replace(self.settings, **{which: tuple(sorted(clips))})

    # Clips, and the folder.

    def a_clip(self, draw) -> Path | None:
        there = sorted(self.dataset.path("train").rglob("*.mp4"))
        return draw.draw(st.sampled_from(there)) if there else None

    @rule(draw=st.data())
    def clip_deleted(self, draw):
        if clip := self.a_clip(draw):
            self.happens("clip deleted")
            clip.unlink()

    @rule(draw=st.data(), content=st.sampled_from(["other", "flat", "no video"]), in_place=st.booleans())
    def clip_overwritten(self, draw, content, in_place):
        """By another video: in place, so that hard links of an export show it too, or by a rename."""
        if clip := self.a_clip(draw):
            self.happens("clip overwritten")
            if not in_place:
                clip.unlink()
            shutil.copyfile(self.pool / f"{content}.mp4", clip)

    @precondition(lambda self: not self.is_moved)
    @rule()
    def folder_moved(self):
        self.happens("folder moved")
        self.is_moved = True
        folder = self.dataset.folder
        self.dataset.folder = folder.with_name(f"{folder.name}'")
        folder.rename(self.dataset.folder)

    # Runs.

    def ran(self, number: int, ran: Ran) -> Ran:
        """Take note of a stage's end. A refusal has a sentence, and a reason."""
        settings = self.settings.computed(number)
        assert "Traceback" not in ran.printed, ran.printed
        assert ran.code in (0, 1, 2, 137, -9), ran
        if ran.code == 2 and "made with other settings" in ran.printed:
            assert self.done_with.get(number) != settings, f"refused for settings that did not change:\n{ran.printed}"
        self.done_with[number] = settings if ran.code == 0 else ("not known",)
        return ran

    @rule(number=st.integers(1, 3), how=st.sampled_from(["", "", "OVERWRITE", "RETRY_ERRORS"]))
    def one_stage(self, number, how):
        """One stage alone, whatever the others have seen. It may refuse: its input is older than its sources, a setting is another."""
        self.happens(f"stage {number}{how and f' {how}=1'}")
        self.ran(number, self.dataset.stage(number, self.settings, new_list=False, **({how: 1} if how else {})))

    @rule(number=st.integers(1, 3), share=st.floats(0, 1), how=st.sampled_from(["", "OVERWRITE"]))
    def killed(self, number, share, how):
        """SIGKILL of the stage and its script at any moment."""
        self.happens(f"stage {number} killed")
        self.ran(
            number,
            self.dataset.stage(number, self.settings, kill_after=0.03 + share * 0.5, **({how: 1} if how else {})),
        )

    @rule(number=st.integers(1, 2), share=st.floats(0, 1), ranks=st.booleans(), chance=st.integers(0, 10**6))
    def real_processes(self, number, share, ranks, chance):
        """The same with worker processes, or two ranks of torchrun, which is dear: one of `share_of_dear` times."""
        if chance % self.share_of_dear != self.share_of_dear // 2:
            return
        self.happens("two ranks" if ranks else "stage with workers killed")
        with_ranks = {"LAUNCHER": "torchrun", "NUM_PROCESSES": 2}
        options = with_ranks if ranks else {"kill_after": 0.5 + 3 * share}
        self.ran(number, self.dataset.stage(number, self.settings, real=True, **options))

    @rule()
    def full_run_between(self):
        self.happens("full run")
        self.full_run()

    @precondition(lambda self: self.is_settled)
    @rule()
    def full_run_again(self):
        """Nothing has happened: nothing is due."""
        self.told["full run again"] += 1
        printed = "".join(ran.printed for ran in self.dataset.run_all(self.settings))
        assert [line for line, due in DUE.findall(printed) if due != "0"] == [], printed

    def full_run(self) -> None:
        """The three stages in order, with OVERWRITE=1 where one refuses settings that changed; the result is that of a clean run."""
        codes, self.is_moved = [], False
        for number in (1, 2, 3):
            ran = self.ran(number, self.dataset.stage(number, self.settings))
            if ran.code == 2 and "made with other settings" in ran.printed:
                ran = self.ran(number, self.dataset.stage(number, self.settings, OVERWRITE=1))
            codes.append(ran.code)
            if ran.code:
                break
        clean_codes, expected = self.clean_run()
        assert codes == clean_codes, ran.printed
        if not any(codes):  # what a stage that fails on a clean folder, too, leaves is no training set
            assert not (said := differences(self.dataset.result(self.settings), expected)), f"\n{said}"
            self.is_settled = True

    def clean_run(self) -> tuple[list[int], dict]:
        key = (tuple(sorted(self.sources.items())), self.settings)
        if key not in self.clean:
            fresh = Dataset(self.stages, self.scratch / "clean" / "set", self.pool)
            for name, content in self.sources.items():
                fresh.put(name, content)
            codes = [ran.code for ran in fresh.run_all(self.settings)]
            self.clean[key] = codes, fresh.result(self.settings)
            shutil.rmtree(self.scratch / "clean")
        return self.clean[key]

    def teardown(self) -> None:
        """Every history ends with a full run."""
        try:
            if sys.exc_info()[0] is None and self.sources:
                self.told["full run"] += 1
                self.full_run()
                type(self).survived += 1
        finally:
            shutil.rmtree(self.scratch / f"{self.number}", ignore_errors=True)


def run_histories(
    count: int, seed: int | None, stages, pool, scratch: Path, record_property, share_of_dear: int
) -> None:
    """`seed`: None for the gate's. Equal seeds draw equal histories. The table of the terminal summary is in conftest.py."""

    class Machine(Histories):
        clean: ClassVar[dict] = {}
        told: ClassVar[Counter] = Counter()

    Machine.stages, Machine.pool, Machine.scratch, Machine.share_of_dear = stages, pool, scratch, share_of_dear
    chosen = hypothesis.settings(
        max_examples=min(count, AT_ONCE),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # no shrinking: a history takes seconds, and is short
        print_blob=False,
        report_multiple_bugs=False,
    )
    try:
        # In small portions, each with a seed of its own: of many at once, most are variations of a few.
        for portion in range(-(-count // AT_ONCE)):
            run_state_machine_as_test(hypothesis.seed(1000 * (seed or 0) + portion)(Machine), settings=chosen)
    finally:
        record_property("histories", {"survived": Machine.survived, "rules": dict(Machine.told)})


def test_any_history_ends_with_the_set_of_a_clean_run(stages, pool, tmp_path, record_property, request):
    count, seed = (request.config.getoption(name) for name in ("histories", "histories_seed"))
    run_histories(count or GATE, seed if count else None, stages, pool, tmp_path, record_property, 60)


@pytest.mark.release
def test_many_histories(stages, pool, tmp_path, record_property, request):
    count, seed = (request.config.getoption(name) for name in ("histories", "histories_seed"))
    run_histories(count or LONG, seed, stages, pool, tmp_path, record_property, 15)


# Histories that ended wrong before there was a rule for all of them.


@pytest.fixture
def dataset(stages, pool, tmp_path):
    """A.mp4 and sub/B.mp4, of one clip each, and C.mp4 of two, with their training set; four clips, all of which pass."""
    made = Dataset(stages, tmp_path / "set", pool)
    for name, content in (("A.mp4", "slow"), ("sub/B.mp4", "other"), ("C.mp4", "cut")):
        made.put(name, content)
    succeeds(made)
    assert len(made.result()["train.jsonl"]) == 4
    return made


@pytest.fixture(scope="module")
def clean(stages, pool, tmp_path_factory):
    """The result of a clean run: `clean({"A.mp4": "slow", ...}, settings)`. One that several tests compare with is made once."""

    @functools.cache
    def made(sources: tuple[tuple[str, str], ...], settings: Settings) -> dict:
        fresh = Dataset(stages, tmp_path_factory.mktemp("clean") / "set", pool)
        for name, content in sources:
            fresh.put(name, content)
        succeeds(fresh, settings)
        return fresh.result(settings)

    return lambda sources, settings=Settings(): made(tuple(sources.items()), settings)  # noqa: B008


SOURCES = {"A.mp4": "slow", "sub/B.mp4": "other", "C.mp4": "cut"}


def succeeds(dataset: Dataset, settings: Settings = Settings(), stages=(1, 2, 3), **variables) -> str:  # noqa: B008
    """What the stages print, which all end with exit code 0."""
    printed = ""
    for number in stages:
        ran = dataset.stage(number, settings, **variables)
        printed += ran.printed
        assert ran.code == 0, printed
    return printed


def due(printed: str) -> dict[str, int]:
    """How many rows each script had to do, of those that found rows done before."""
    return {script: int(count.replace(",", "")) for script, count in DUE.findall(printed)}


def paths(file: Path) -> list[str]:
    return [row["video_path"] for row in rows_of(file)]


def assert_same(result: dict, expected: dict) -> None:
    assert not (said := differences(result, expected)), f"\n{said}"


def by_threshold(dataset: Dataset) -> dict:
    return {"QUALITY_THRESHOLD": 2}  # that of sub/B.mp4 is 1.8


def by_mark(dataset: Dataset) -> dict:
    write_rows(dataset.path("marks.jsonl"), [{"video_path": "sub/B-Scene-001.mp4", "mark": "drop"}])
    return {"EXCLUDE": dataset.path("marks.jsonl")}


def by_list(dataset: Dataset) -> dict:
    clips = [json.loads(line) for line in dataset.path("clips.jsonl").read_text().splitlines()]
    write_rows(dataset.path("list.jsonl"), [clip for clip in clips if clip["source_path"] != "sub/B.mp4"])
    return {"VIDEO_METADATA_PATH": dataset.path("list.jsonl")}


@pytest.mark.parametrize("leave_out", [by_threshold, by_mark, by_list])
def test_a_clip_that_is_dropped_leaves_everything_that_follows_and_comes_back_at_no_cost(
    dataset, leave_out: Callable[[Dataset], dict]
):
    musubi = Settings(format="musubi")
    succeeds(dataset, musubi, (3,))
    before = dataset.result(musubi)
    dropped, kept = "sub/B-Scene-001.mp4", ["A-Scene-001.mp4", "C-Scene-001.mp4", "C-Scene-002.mp4"]

    variables = leave_out(dataset)
    succeeds(dataset, musubi, (2,), **variables)
    printed = succeeds(dataset, musubi, (3,))
    assert not any(due(printed).values()), printed
    for name in ("train", "frame_caption", "summary_caption"):
        assert paths(dataset.path(f"{name}.jsonl")) == kept, name
    trained = json.loads(dataset.path("train_panda_70m.json").read_text())
    assert [row["file_path"] for row in trained] == kept
    exported = dataset.result(musubi)["export"]
    assert len([name for name in exported if name.endswith(".mp4")]) == 3 and not [
        n for n in exported if "B-Scene" in n
    ]
    assert "B-Scene" not in str(exported)
    assert dropped in paths(dataset.path("frame_caption.aside.jsonl"))  # not lost

    printed = succeeds(dataset, musubi, (2, 3))
    again = {script: count for script, count in due(printed).items() if script != "media"}  # its link was removed
    assert not any(again.values()) and re.search(r"caption: 4 of 4 done before, 0 due", printed), printed
    assert_same(dataset.result(musubi), before)


def test_a_lower_limit_of_length_applies_where_stage_1_refused_it(stages, pool, tmp_path):
    dataset = Dataset(stages, tmp_path / "set", pool)
    for name, content in {**SOURCES, "D.mp4": "long"}.items():
        dataset.put(name, content)
    succeeds(dataset)
    shorter = Settings(max_seconds=3)
    refused = dataset.stage(1, shorter)
    assert refused.code == 2 and re.search(r"max_seconds.*10.*3", refused.printed), refused.printed
    succeeds(dataset, shorter, (2, 3))
    kept = paths(dataset.path("train.jsonl"))
    assert len(kept) == 4 and not [path for path in kept if path.startswith("D-")]  # 3.5 seconds long
    assert paths(dataset.path("summary_caption.jsonl")) == kept
    trained = json.loads(dataset.path("train_panda_70m.json").read_text())
    assert [row["file_path"] for row in trained] == kept


def test_another_video_folder_is_another_dataset(dataset, clean, tmp_path):
    """With an A.mp4 of its own, in the same dataset folder."""
    (tmp_path / "films").mkdir()
    shutil.copy(dataset.pool / "long.mp4", tmp_path / "films" / "A.mp4")
    succeeds(dataset, stages=(1,), VIDEO_FOLDER=tmp_path / "films")
    succeeds(dataset, stages=(2, 3))
    assert_same(dataset.result(), clean({"A.mp4": "long"}))


@pytest.mark.parametrize("retry", [{}, {"RETRY_ERRORS": 1}], ids=["", "RETRY_ERRORS"])
@pytest.mark.parametrize("contents", [("slow", "long"), ("slow", "truncated"), ("no video", "long")])
def test_a_source_replaced_under_its_name(dataset, clean, contents, retry):
    """By another, by a broken one, and a broken one by a whole one: due again by itself, and it alone."""
    first, second = contents
    if first != "slow":
        dataset.put("A.mp4", first)
        succeeds(dataset)
    dataset.put("A.mp4", second)
    printed = succeeds(dataset, **retry)
    assert due(printed)["cutscene_detect"] == 1 and due(printed).get("text", 0) <= 3, (
        printed
    )  # of up to three clips of it
    assert_same(dataset.result(), clean({**SOURCES, "A.mp4": second}))


def test_a_source_deleted_and_one_renamed(dataset, clean):
    """They leave the set; their clips stay on disk, and the stage says how many, until they are asked to go."""
    (dataset.raw / "sub" / "B.mp4").unlink()
    (dataset.raw / "C.mp4").rename(dataset.raw / "D.mp4")
    printed = succeeds(dataset)
    assert_same(dataset.result(), clean({"A.mp4": "slow", "D.mp4": "cut"}))
    orphans = [dataset.path("train") / name for name in ("sub/B-Scene-001.mp4", "C-Scene-001.mp4", "C-Scene-002.mp4")]
    assert all(path.exists() for path in orphans)
    (said,) = [line for line in printed.splitlines() if "orphan" in line.lower()]
    assert re.search(r"\b3\b", said), said
    succeeds(dataset, REMOVE_ORPHANS=1)
    assert not any(path.exists() for path in orphans)
    assert_same(dataset.result(), clean({"A.mp4": "slow", "D.mp4": "cut"}))


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "by a rename"])
def test_a_clip_overwritten_on_disk_is_cut_again(dataset, clean, in_place):
    clip = dataset.path("train") / "A-Scene-001.mp4"
    if not in_place:
        clip.unlink()
    shutil.copyfile(dataset.pool / "flat.mp4", clip)
    succeeds(dataset)
    assert_same(dataset.result(), clean(SOURCES))


def test_a_clip_replaced_in_a_folder_of_ones_own(dataset, tmp_path):
    """Without stage 1, so without rows that say what the clips are."""
    own = tmp_path / "own"
    own.mkdir()
    for name in ("slow", "other", "cut"):
        shutil.copy(dataset.pool / f"{name}.mp4", own)
    fresh, used = (Dataset(dataset.stages, tmp_path / name, dataset.pool) for name in ("fresh", "used"))
    succeeds(used, stages=(2, 3), VIDEO_FOLDER=own)
    shutil.copyfile(dataset.pool / "text.mp4", own / "slow.mp4")
    (own / "other.mp4").unlink()
    shutil.copyfile(dataset.pool / "long.mp4", own / "other.mp4")
    printed = succeeds(used, stages=(2, 3), VIDEO_FOLDER=own)
    assert due(printed)["text"] == 2, printed
    succeeds(fresh, stages=(2, 3), VIDEO_FOLDER=own)
    assert_same(used.result(), fresh.result())
    assert paths(used.path("train.jsonl")) == ["cut.mp4", "other.mp4"]


def test_stage_3_after_a_recut_names_stage_2(dataset, clean):
    recut = Settings(max_seconds=1.6)
    succeeds(dataset, recut, (1,), OVERWRITE=1)
    stale = dataset.stage(3, recut)
    assert stale.code == 2 and "stage_2_filter_data.sh" in stale.printed, stale.printed
    succeeds(dataset, recut, (2, 3))
    assert_same(dataset.result(recut), clean(SOURCES, recut))


def test_stage_2_after_shots_alone_were_found_anew_names_stage_1(dataset):
    flags = ("--video_folder", dataset.raw, "--saved_path", dataset.path("scenes.jsonl"), "--detector", "transitions")
    dataset.put("A.mp4", "long")
    ran = dataset.stages.run("cutscene_detect.py", *flags)
    assert ran.code == 0 and due(ran.printed) == {"cutscene_detect": 1}, ran.printed
    stale = dataset.stage(2)
    assert stale.code == 2 and "stage_1_video_cut.sh" in stale.printed, stale.printed


def test_the_report_shows_no_old_caption_on_a_new_clip(dataset):
    dataset.put("A.mp4", "long")  # also one clip
    for number in (1, 2):
        succeeds(dataset, stages=(number,), REPORT=1)
        shown = captions_of_page(dataset.path("report.html"))
        assert shown["A-Scene-001.mp4"] == "", f"after stage {number}: {shown}"
    succeeds(dataset, stages=(3,), REPORT=1)
    shown = captions_of_page(dataset.path("report.html"))
    assert {path for path, caption in shown.items() if caption} == set(paths(dataset.path("train.jsonl")))


def captions_of_page(page: Path) -> dict[str, str]:
    """The caption that a report shows of each clip; "" where it shows none."""
    text = page.read_text(encoding="utf-8")
    (report,) = re.findall(r'<script type="application/json" id="report">(.*?)</script>', text)
    (shown,) = json.loads(report)["datasets"]

    def column(name: str) -> list[str]:
        """A block of texts: where each begins, and the last ends, then all of them."""
        (number,) = [found["block"] for found in shown["columns"] if found["name"] == name] or [None]
        if number is None:
            return [""] * shown["count"]
        (block,) = re.findall(rf'<script type="text/plain" id="block-{number}">(.*?)</script>', text)
        packed = gzip.decompress(base64.b64decode(block))
        ends = np.frombuffer(packed, "<u4", shown["count"] + 1)
        texts = packed[4 * len(ends) :]
        return [texts[start:stop].decode() for start, stop in zip(ends, ends[1:])]

    return dict(zip(column("video_path"), column("caption")))


@pytest.mark.parametrize("estimator", ["dis", "farneback"])
def test_rows_whose_settings_are_lost_are_not_added_to(dataset, clean, estimator):
    dataset.path("motion_score.settings.json").unlink()
    before = dataset.path("motion_score.jsonl").read_bytes()
    refused = dataset.stage(2, MOTION_ESTIMATOR=estimator)
    assert refused.code == 2 and "motion_score" in refused.printed, refused.printed
    assert dataset.path("motion_score.jsonl").read_bytes() == before
    succeeds(dataset, stages=(2,), OVERWRITE=1)
    succeeds(dataset, stages=(3,))
    assert_same(dataset.result(), clean(SOURCES))


def test_scores_made_with_the_wrong_folder(dataset, tmp_path):
    """All rows failed, as there was no such file: with the right folder they are due again by themselves."""
    (tmp_path / "wrong").mkdir()
    listed = ("--video_metadata_path", dataset.path("clips.jsonl"), "--n_jobs", 1)
    scores = tmp_path / "text_score.jsonl"

    def text(folder: Path) -> Ran:
        return dataset.stages.run("compute_text_score.py", "--video_folder", folder, *listed, "--saved_path", scores)

    def filtered() -> Ran:
        flags = (
            "--filter",
            scores,
            "text_score",
            "none",
            0.02,
            "--saved_path",
            tmp_path / "train.jsonl",
            "--min_seconds",
            1,
        )
        return dataset.stages.run("filter_videos_by_motion_score.py", *listed[:2], *flags)

    wrong = text(tmp_path / "wrong")
    assert wrong.code == 1 and "4 errors" in wrong.printed, wrong.printed
    missing = filtered()
    assert re.search(r"text_score\S* .*(missing|has no|no row|without)|(missing|no) text_score", missing.printed), (
        missing.printed
    )
    assert paths(tmp_path / "train.jsonl") == []
    right = text(dataset.path("train"))
    assert right.code == 0 and "4 scored + 0 errors" in right.printed, right.printed
    assert not scores.with_suffix(".errors.jsonl").exists() or paths(scores.with_suffix(".errors.jsonl")) == []
    assert filtered().code == 0 and len(paths(tmp_path / "train.jsonl")) == 4


def test_two_sources_whose_clips_would_share_a_name_are_a_sentence(dataset, tmp_path):
    folder = tmp_path / "films" / "inner"
    folder.mkdir(parents=True)
    for path, content in ((folder / "A.mp4", "slow"), (folder.parent / "A.mp4", "other")):
        shutil.copy(dataset.pool / f"{content}.mp4", path)
    scenes = tmp_path / "scenes.jsonl"
    write_rows(tmp_path / "list.jsonl", [{"video_path": "A.mp4"}, {"video_path": "../A.mp4"}])
    found = dataset.stages.run("cutscene_detect.py", "--video_folder", folder, "--video_metadata_path", tmp_path / "list.jsonl",
                               "--saved_path", scenes, "--detector", "transitions")  # fmt: skip
    cut = dataset.stages.run("video_splitting.py", "--video_folder", folder, "--video_metadata_path", scenes,
                             "--output_folder", tmp_path / "clips", "--saved_path", tmp_path / "clips.jsonl")  # fmt: skip
    said = found if found.code else cut  # whichever sees it first
    assert said.code == 2 and "A.mp4" in said.printed and "Traceback" not in said.printed, found.printed + cut.printed


@pytest.mark.parametrize(
    ("setting", "stage"), [({"detector": "content"}, 1), ({"max_seconds": 1.6}, 1), ({"cut_inside": "flow"}, 2),
                           ({"frame_sample_method": "uniform"}, 3)], ids=str
)  # fmt: skip
def test_a_changed_setting_of_computed_rows_is_refused_until_it_is_to_be_computed_anew(dataset, clean, setting, stage):
    settings = Settings(**setting)
    succeeds(dataset, settings, range(1, stage))
    refused = dataset.stage(stage, settings)
    assert refused.code == 2 and "made with other settings" in refused.printed, refused.printed
    succeeds(dataset, settings, (stage,), OVERWRITE=1)
    succeeds(dataset, settings, range(stage + 1, 4))
    assert_same(dataset.result(settings), clean(SOURCES, settings))


def test_words_around_captions_apply_at_once(dataset, clean):
    settings = Settings(trigger_word="sks", caption_suffix="Filmed in daylight.", format="musubi")
    printed = succeeds(dataset, settings, (3,))
    assert not any(due(printed).values()), printed
    assert_same(dataset.result(settings), clean(SOURCES, settings))
    texts = [row["text"] for row in json.loads(dataset.path("train_panda_70m.json").read_text())]
    assert all(text.startswith("sks ") and text.endswith(" Filmed in daylight.") for text in texts), texts
    printed = succeeds(dataset, stages=(3,))
    assert not any(due(printed).values()), printed
    assert_same(dataset.result(), clean(SOURCES))


def test_two_ranks_give_what_one_process_does(dataset, clean):
    """With a source replaced and one gone: real processes, of torchrun."""
    dataset.put("A.mp4", "long")
    (dataset.raw / "sub" / "B.mp4").unlink()
    ranks = {"LAUNCHER": "torchrun", "NUM_PROCESSES": 2}
    ran = dataset.stage(1, real=True, **ranks)
    assert ran.code == 0, ran.printed
    succeeds(dataset, stages=(2, 3))
    assert_same(dataset.result(), clean({"A.mp4": "long", "C.mp4": "cut"}))
    assert not [path for path in dataset.folder.rglob("*") if ".part-" in path.name]
