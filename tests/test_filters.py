"""Filters by DuckDB drop what ten lines of plain Python drop, and a condition can do nothing but compare columns."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from utils.cli import Filter
from utils.errors import UsageError
from utils.pipeline.ancestry import CLIP_COLUMNS
from utils.pipeline.condition import connection, parse_condition, passing
from utils.pipeline.filters import FilterResult
from utils.pipeline.row_list import open_rows
from utils.rows import digest, dumps, write_rows

INF = float("inf")
ORDER = ("video_path", "duration", "source_path", "start_seconds", "score", "y", "x", "row")


def plain(clips: list[dict], scores: list[dict], low: float, high: float, shortest: float) -> tuple[list, list]:
    """The rule, row by row: the rows kept, and (reason, value) of the others."""
    kept, dropped, by_path = [], [], {row["video_path"]: row for row in scores}
    first: dict[str, dict] = {}
    for row in clips:
        path = os.path.normpath(row["video_path"])
        first.setdefault(path, {**row, "video_path": path})
    for clip in first.values():
        score = by_path.get(clip["video_path"], {})
        if score.get("made_from") not in (None, digest(clip, CLIP_COLUMNS)):
            score = {}
        row = {**{k: v for k, v in score.items() if k != "made_from"}, **clip}
        value = score.get("score")
        value = sum(value) / len(value) if isinstance(value, list) else value
        checks = (("duration", row.get("duration"), shortest, INF), ("score", value, low, high))
        for column, v, at_least, at_most in checks:
            if v is None or not at_least <= v <= at_most:
                bound = f"below {at_least:g}" if v is not None and v < at_least else f"above {at_most:g}"
                reason = f"no {column}" if v is None else f"{column} {bound}"
                dropped.append({"video_path": clip["video_path"], "reason": reason, "value": v})
                break
        else:
            kept.append(row)
    return kept, dropped


def alike(line: str) -> dict:
    """A row without what may be spelled in another way: NaN, which is nothing's equal, and means."""
    row = json.loads(line, parse_constant=str)
    value = row.get("value")
    return {**row, "value": round(value, 9)} if isinstance(value, float) else row


NUMBERS = st.one_of(
    st.integers(-3, 12), st.floats(-3, 12), st.sampled_from([float("nan"), 1e-5, 0.1, 5, 5.0, -0.0, 1e14, 1e-320])
)
BOUNDS = NUMBERS.filter(lambda number: number == number)
PATHS = st.sampled_from(["a.mp4", "sub/b ü影.mp4", 'it\'s "c".mp4', "./a.mp4", "d\n.mp4", "é.mp4", "f.mp4"])
TIMES = st.one_of(st.integers(0, 9), st.floats(0, 1e6), st.sampled_from([0.00001, 1e-7, 12.5]))
ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=3).filter(lambda s: s.isprintable()),
    st.lists(NUMBERS, max_size=3),
    NUMBERS,
)


def rows(required: dict, optional: dict, size: int) -> st.SearchStrategy:
    return st.lists(st.fixed_dictionaries({"video_path": PATHS, **required}, optional=optional), max_size=size)


CLIPS = rows(
    {"duration": TIMES},
    {"source_path": st.sampled_from(["s.mp4", "t é.mp4"]), "start_seconds": TIMES, "x": ANY},
    8,
)
SCORES = rows(
    {"score": st.one_of(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=4))},
    {"y": ANY, "x": ANY, "row": NUMBERS},
    8,
)


def filtered(
    folder: Path, clips: list[dict], scores: list[dict], low=-INF, high=INF, shortest=0.0, where=None
) -> tuple[list[str], list[str]]:
    for name, table in (("clips", clips), ("score", scores)):
        (folder / f"{name}.jsonl").write_text("".join(dumps(row) + "\n" for row in table), encoding="utf-8")
    filters = [Filter("", "duration", shortest, INF), Filter(str(folder / "score.jsonl"), "score", low, high)]
    result = FilterResult(open_rows(None, str(folder / "clips.jsonl")), filters, where)
    return [line.decode() for line in result.kept_lines()], [line.decode() for line in result.dropped_lines()]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    CLIPS,
    SCORES,
    st.lists(st.sampled_from(["same", "other", None]), min_size=8, max_size=8),
    BOUNDS,
    BOUNDS,
    TIMES,
    st.booleans(),
    st.permutations(ORDER),
)
def test_duckdb_and_plain_python_agree(clips, scores, stamps, low, high, shortest, in_order, order):
    """`in_order`: all rows have their columns in the same order; else every other row has them in another one."""
    orders = (order, order if in_order else order[::-1])
    clips, scores = (
        [{c: row[c] for c in orders[i % 2] if c in row} for i, row in enumerate(table)] for table in (clips, scores)
    )
    scores = [{**row, "video_path": os.path.normpath(row["video_path"])} for row in scores]
    by_path = {os.path.normpath(row["video_path"]): row for row in reversed(clips)}
    for score, stamp in zip(scores, stamps, strict=False):
        if stamp:  # of this clip, or of another of its name
            found = digest(by_path.get(score["video_path"], {}), CLIP_COLUMNS)
            score["made_from"] = (found if stamp == "same" else None) or "0badc0de"
    kept, dropped = plain(clips, scores, low, high, shortest)
    with tempfile.TemporaryDirectory() as folder:
        lines = filtered(Path(folder), clips, scores, low, high, shortest)
    assert [alike(line) for line in lines[0]] == [alike(dumps(row)) for row in kept]
    assert [alike(line) for line in lines[1]] == [alike(dumps(row)) for row in dropped]


CLIPS_OF_THREE = [
    {"video_path": "a.mp4", "duration": 4, "camera_motion": "pan left", "frame_size": [1920, 1080], "codec": "h264"},
    {"video_path": "b.mp4", "duration": 5.5, "camera_motion": "static", "frame_size": [640, 360], "codec": "av1"},
    {"video_path": "c.mp4", "duration": 6, "camera_motion": "pan right", "has_audio": True},
]
SCORES_OF_THREE = [
    {"video_path": "a.mp4", "score": [4, 8]},
    {"video_path": "b.mp4", "score": 7},
    {"video_path": "c.mp4", "score": float("nan")},
]


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("score > 5 and camera_motion like 'pan%'", "a"),
        ("score = 6", "a"),
        ("duration between 5 and 6", "b"),
        ("not score > 6.5", "a"),
        ("frame_size[1] >= 1000 or codec in ('av1')", "ab"),
        ("pixels < 500000", "b"),
        ("codec is not null and lower(video_path) = 'b.mp4'", "b"),
        ("has_audio", ""),
        ("1 = 1 -- all", "ab"),
        ("CODEC = 'av1' /* twice */", "b"),
        ("abs(duration - 4.25) < 1 and regexp_matches(codec, '26[45]')", "a"),
    ],
)
def test_conditions(condition, kept, tmp_path):
    there, dropped = filtered(tmp_path, CLIPS_OF_THREE, SCORES_OF_THREE, where=condition)
    assert [json.loads(line)["video_path"][0] for line in there] == list(kept)
    reasons = {row["video_path"][0]: (row["reason"], row["value"]) for row in map(json.loads, dropped)}
    assert reasons["c"][0] == "score above inf" and set(reasons) == set("abc") - set(kept)
    assert all(reasons[name] == ("where", condition) for name in set("ab") - set(kept))


COLUMNS = ["video_path", "score", "codec"]
HOSTILE = [
    "exists (select 1 from read_text('/etc/hostname'))", "score > (select 5)", "read_text('/etc/hostname') = 'x'",
    "(from read_csv('/etc/hostname')) is not null", "score in (select 1)", "getenv('HOME') = 'x'", "glob('*') = 'x'",
    "1 = 1; copy facts to 'stolen.csv'", "1 = 1); drop table facts; --", "1) from read_text('/etc/hostname') --", "1) union select (1",
    "1) where (1", "current_setting('temp_directory') = 'x'", "set_config('x', 'y')", "query('select 1')", "query_table('facts')",
    "pragma version", "install httpfs", "load httpfs", "set memory_limit = '1GB'", "nextval('x') = 1", "score = $1",
    "row_number() over () = 1", "sum(score) > 1", "list_transform([1], x -> x)", "columns(*) > 1", "*", "", " ", "score >",
    "nothing > 1", "file.path = 'x'", "codec = 'x", "error('x')", "parse_path('x')[1] = 'x'", "which_secret('s3://x', 's3') is null",
    "repeat('x', 1000000000) = codec", "read_blob('/etc/hostname') is null", "unnest([1]) = 1", "\0", "codec = '\udcff'",
    "'/etc/hostname' in (from glob('/etc/*'))", "facts.idx in (select idx from facts)", "today() > score", "random() > 0.5",
]  # fmt: skip


@pytest.mark.parametrize("condition", HOSTILE)
def test_a_condition_compares_columns_and_does_nothing_else(condition):
    with pytest.raises(UsageError, match=r"^--where ") as refused:
        parse_condition(condition, COLUMNS)
    said = str(refused.value)
    assert said.endswith("; the columns are video_path, score, codec") and "\n" not in said


@pytest.mark.parametrize(
    "condition", ["codec > 5 and duration", "codec::DOUBLE > 5", "video_path + 1 > 2", "attach 'x.db'"]
)
def test_types_that_do_not_fit_are_a_sentence(condition, tmp_path):
    with pytest.raises(UsageError, match=r"^--where .*; the columns are video_path, score, duration"):
        filtered(tmp_path, CLIPS_OF_THREE, SCORES_OF_THREE, where=condition)


def test_the_connection_of_a_condition_is_locked(tmp_path):
    """Even what the parser would let through reads no file and changes no setting."""
    for condition in (
        "exists (select 1 from read_text('/etc/hostname'))", f"exists (select 1 from '{tmp_path}/x.csv')", "getenv('HOME') = 'x'",
        "exists (from read_csv('/etc/hostname'))", "1); SET enable_external_access = true; --", "1); INSTALL httpfs; --",
        "1); LOAD httpfs; --", "1); SET memory_limit = '9GB'; --", f"1); COPY facts TO '{tmp_path}/x.csv'; --", f"1); ATTACH '{tmp_path}/y.db'; --",
    ):  # fmt: skip
        with connection() as db, pytest.raises(UsageError, match=r"^--where "):
            db.execute("CREATE TABLE facts AS SELECT 1 AS number")
            passing(db, condition, ["number"], "number")
    assert not list(tmp_path.iterdir())


def test_the_script_takes_a_condition(run_script, tmp_path):
    write_rows(tmp_path / "clips.jsonl", CLIPS_OF_THREE)
    flags = ["--video_metadata_path", "clips.jsonl", "--where"]
    printed = run_script("filter_videos_by_motion_score.py", *flags, "camera_motion like 'pan%'").stdout
    assert (
        "where     3       1 33.3%" in printed
        and "kept 2 of 3" in printed
        and "2 kept + 0 errors + 1 filtered" in printed
    )
    error = run_script("filter_videos_by_motion_score.py", *flags, "nothing > 1", code=2).stderr
    assert "no column 'nothing'; the columns are video_path, duration, camera_motion" in error


def test_columns_may_have_the_names_of_tables(tmp_path):
    clips = [{"video_path": f"{i}.mp4", "duration": 4, "row": i, "idx": -i, "codec": "y"} for i in range(3)]
    scores = [{"video_path": f"{i}.mp4", "score": i} for i in range(3)]
    for condition in ("row = 1", "codec = 'y' and idx = -1 and row = 1"):
        kept, dropped = filtered(tmp_path, clips, scores, where=condition)
        assert [json.loads(line)["video_path"] for line in kept] == ["1.mp4"] and len(dropped) == 2, condition


def test_what_a_killed_process_left_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "from utils.pipeline.condition import connection\nimport os, signal\n"
        "with connection() as db: os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)})
    left = list(tmp_path.iterdir())
    with connection():
        now = list(tmp_path.iterdir())
        with connection():
            assert now[0] in tmp_path.iterdir()  # of a process that runs
    assert len(left) == 1 and len(now) == 1 and now != left and not list(tmp_path.iterdir())


def test_duckdb_is_imported_only_where_it_is_needed(tmp_path):
    write_rows(tmp_path / "clips.jsonl", CLIPS_OF_THREE)
    script = (
        "import runpy, sys; sys.argv = ['x', '--video_metadata_path', 'clips.jsonl', '--video_folder', '.', '--n_jobs', '1']\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"try: runpy.run_path({str(ROOT / 'compute_motion_score.py')!r}, run_name='__main__')\n"
        "except SystemExit: pass\nprint('duckdb' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout.endswith("False\n"), ran.stdout + ran.stderr


def test_a_path_spelled_in_another_way_finds_its_score(run_script, tmp_path):
    write_rows(tmp_path / "list.jsonl", [{"video_path": path, "duration": 5} for path in ("./a.mp4", "b.mp4")])
    write_rows(tmp_path / "s.jsonl", [{"video_path": path, "x": 1} for path in ("a.mp4", "b.mp4")])
    ran = run_script(
        "filter_videos_by_motion_score.py", "--video_metadata_path", "list.jsonl", "--filter", "s.jsonl", "x", "0", "2"
    )
    assert "kept 2 of 2" in ran.stdout


def test_of_columns_that_are_joined_the_first_that_the_file_has_counts(tmp_path):
    clips = [{"video_path": f"{i}.mp4", "duration": 4} for i in range(3)]
    for scores, kept in (
        ([{"video_path": f"{i}.mp4", "new": i, "old": 2 - i} for i in range(3)], "12"),
        ([{"video_path": f"{i}.mp4", "old": 2 - i} for i in range(3)], "01"),
    ):
        write_rows(tmp_path / "clips.jsonl", clips)
        write_rows(tmp_path / "score.jsonl", scores)
        filters = [Filter(str(tmp_path / "score.jsonl"), "new|old", 1)]
        result = FilterResult(open_rows(None, str(tmp_path / "clips.jsonl")), filters)
        assert [clips[i]["video_path"][0] for i in result.passing] == list(kept)


def test_the_short_side_is_of_the_frame(run_script, tmp_path):
    sizes = {"wide": [640, 200], "tall": [300, 640], "small": [128, 128]}
    write_rows(
        tmp_path / "c.jsonl", [{"video_path": f"{n}.mp4", "duration": 4, "frame_size": s} for n, s in sizes.items()]
    )
    ran = run_script("filter_videos_by_motion_score.py", "--video_metadata_path", "c.jsonl", "--min_short_side", 200)
    assert "short_side" in ran.stdout and "kept 2 of 3" in ran.stdout
    flags = ("--video_metadata_path", "c.jsonl", "--saved_path", "where.jsonl", "--dropped_path", "d.jsonl")
    assert (
        "kept 2 of 3" in run_script("filter_videos_by_motion_score.py", *flags, "--where", '"short_side" >= 200').stdout
    )
    assert (tmp_path / "where.jsonl").read_text() == (tmp_path / "train.jsonl").read_text()
    assert json.loads((tmp_path / "dropped.jsonl").read_text()) == {
        "video_path": "small.mp4", "reason": "short_side below 200", "value": 128,
    }  # fmt: skip


def test_a_clip_that_is_kept_whatever_the_filters_say_needs_no_score(run_script, tmp_path):
    write_rows(tmp_path / "c.jsonl", [{"video_path": f"{i}.mp4", "duration": 4} for i in range(2)])
    write_rows(tmp_path / "score.jsonl", [])
    write_rows(tmp_path / "marks.jsonl", [{"video_path": "1.mp4", "mark": "star"}])
    flags = (
        "--video_metadata_path",
        "c.jsonl",
        "--filter",
        "score.jsonl",
        "score",
        1,
        "none",
        "--include",
        "marks.jsonl",
    )
    assert "kept 1 of 2" in run_script("filter_videos_by_motion_score.py", *flags).stdout
    assert json.loads((tmp_path / "train.jsonl").read_text()) == {"video_path": "1.mp4", "duration": 4}


def test_clips_that_all_fail_before_motion_need_no_duration(run_script, tmp_path):
    """Of a folder of clips motion alone knows how long they are; where none of them reaches it, what dropped them is the result."""
    write_rows(tmp_path / "list.jsonl", [{"video_path": f"{i}.mp4"} for i in range(2)])
    write_rows(tmp_path / "quality.jsonl", [{"video_path": f"{i}.mp4", "quality": i} for i in range(2)])
    write_rows(tmp_path / "motion.jsonl", [])
    quality = ("--filter", "quality.jsonl", "quality", 5, "none")
    motion = ("--filter", "motion.jsonl", "motion_score", 2, "none")
    ran = run_script("filter_videos_by_motion_score.py", "--video_metadata_path", "list.jsonl", *quality, *motion)
    assert "kept 0 of 2" in ran.stdout and "is missing" not in ran.stdout
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert reasons == ["quality below 5"] * 2
    ran = run_script("filter_videos_by_motion_score.py", "--video_metadata_path", "list.jsonl", *motion)
    assert "motion_score is missing: motion.jsonl has no row for any of the 2 clips; run " in ran.stdout
    assert (
        f"compute_motion_score.py --video_metadata_path {tmp_path}/list.jsonl --saved_path {tmp_path}/motion.jsonl"
        in ran.stdout
    )
