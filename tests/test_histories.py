"""Whatever a person did before, the next run of the three stages ends with exactly the training set that a clean run of today's sources
and settings gives.

    bash run_tests.sh tests/test_histories.py                               thirty histories, always the same, and the known ones below
    bash run_tests.sh -m long -k histories                                  five hundred
    bash run_tests.sh tests/test_histories.py --histories 200 --histories_seed 7   others; a table of what happened at the end

A history is a list of things that people do: each is a rule of `Histories`. `stage_runner.py` makes a stage cheap, `histories.py`
says what a training set is. Histories that once ended wrong are tests of their own, further below.
"""

import base64
import contextlib
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

import hypothesis
import numpy as np
import pytest
from histories import BROKEN, COMPUTED, FREE, Dataset, Settings, differences, make_pool, rows_of, write_rows
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from stage_runner import STAGES, Ran, Stages

pytestmark = pytest.mark.slow
GATE, LONG = 30, 500  # histories
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
    clean: dict[tuple, tuple[list[int], dict]] = {}  # exit codes and result of a clean run by sources and settings
    told: Counter = Counter()  # rules used, over all histories
    survived = 0

    def __init__(self) -> None:
        super().__init__()
        self.number = Counter.total(self.told)  # a name that no folder has had
        self.dataset = Dataset(self.stages, self.scratch / f"{self.number}" / "set", self.pool)
        self.sources: dict[str, str] = {}
        self.settings = Settings()
        self.done_with: dict[int, tuple] = {}  # by stage, the settings of its last run that ended with 0
        self.is_settled = False  # nothing has happened since a full run

    @initialize(
        contents=st.tuples(st.sampled_from(WHOLE), st.sampled_from([*WHOLE, *BROKEN])),
        names=st.permutations(NAMES),
        runs=st.booleans(),
    )
    def begin(self, contents, names, runs):
        """A few sources, and mostly a dataset that is made of them already."""
        self.put("Always.mp4", "slow")
        for name, content in zip(names, contents):
            self.put(name, content)
        if runs:
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

    @rule(draw=st.data(), field=st.sampled_from(FREE))
    def free_setting(self, draw, field):
        """Thresholds, a condition, a list of one's own, words of captions, the export: they apply at the next run, and nothing is refused."""
        self.happens(f"{field.name}")
        self.settings = replace(
            self.settings, **{field.name: draw.draw(st.sampled_from(field.metadata["values"]), field.name)}
        )

    @rule(draw=st.data(), field=st.sampled_from(COMPUTED))
    def computed_setting(self, draw, field):
        """A choice that rows depend on: the run is refused until OVERWRITE=1."""
        self.happens(f"{field.name}")
        self.settings = replace(
            self.settings, **{field.name: draw.draw(st.sampled_from(field.metadata["values"]), field.name)}
        )

    @rule(which=st.sampled_from(["exclude", "include"]), clips=st.lists(st.sampled_from(CLIPS), unique=True, max_size=3))
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

    @rule()
    def folder_moved(self):
        self.happens("folder moved")
        folder = self.dataset.folder
        self.dataset.folder = folder.with_name(f"{folder.name}'")
        folder.rename(self.dataset.folder)

    # Runs.

    def ran(self, number: int, ran: Ran) -> Ran:
        """Take note of a stage's end. A refusal has a sentence, and a reason."""
        settings = self.settings.computed(number)
        assert "Traceback" not in ran.printed, ran.printed
        assert ran.code in (0, 1, 2, 137, -9), ran
        if ran.code == 2 and "overwrite" in ran.printed.lower():
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
            self.dataset.stage(number, self.settings, kill_after=0.05 + share * 0.9, **({how: 1} if how else {})),
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
        codes = []
        for number in (1, 2, 3):
            ran = self.ran(number, self.dataset.stage(number, self.settings))
            if ran.code == 2 and "overwrite" in ran.printed.lower():
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


def run_histories(count: int, seed: int | None, stages, pool, scratch: Path, record_property, share_of_dear: int) -> None:
    """`seed`: None for the gate's, which are always the same. The table of the terminal summary is in conftest.py."""

    class Machine(Histories):
        clean: dict = {}
        told: Counter = Counter()

    Machine.stages, Machine.pool, Machine.scratch, Machine.share_of_dear = stages, pool, scratch, share_of_dear
    chosen = hypothesis.settings(
        max_examples=count,
        stateful_step_count=STEPS,
        derandomize=seed is None,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # no shrinking: a history takes seconds, and is short
        print_blob=False,
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(Machine if seed is None else hypothesis.seed(seed)(Machine), settings=chosen)
    finally:
        record_property("histories", {"survived": Machine.survived, "rules": dict(Machine.told)})


def test_any_history_ends_with_the_set_of_a_clean_run(stages, pool, tmp_path, record_property, request):
    count, seed = (request.config.getoption(name) for name in ("histories", "histories_seed"))
    run_histories(count or GATE, seed if count else None, stages, pool, tmp_path, record_property, 60)


@pytest.mark.long
def test_many_histories(stages, pool, tmp_path, record_property, request):
    count, seed = (request.config.getoption(name) for name in ("histories", "histories_seed"))
    run_histories(count or LONG, seed, stages, pool, tmp_path, record_property, 15)
