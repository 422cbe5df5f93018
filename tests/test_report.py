"""The report in a browser: what it shows, and that the commands which it prints keep exactly what it said."""

import base64
import gzip
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPT_VARIABLES, write_numbered
from report_data import HOSTILE, make_dataset

from utils.pipeline.ancestry import CLIP_COLUMNS, made_from
from utils.report.dataset import matches
from utils.report.meanings_zh import MEANINGS_ZH
from utils.report.thumbnails import FRAMES, WIDTH
from utils.rows import read_rows, write_rows

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.slow


def until(page, condition: str) -> None:
    """Wait for a JavaScript condition. (Playwright's own way evaluates it in the page at its second look, which the page forbids.)"""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


@pytest.fixture(scope="module")
def report(scripts):
    """Make a report; what is printed."""

    def run(*arguments: object, code: int = 0) -> str:
        environment = {k: v for k, v in os.environ.items() if k not in SCRIPT_VARIABLES}
        command = [scripts.python, ROOT / "make_report.py", *arguments]
        ran = subprocess.run(
            [str(word) for word in command],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    return run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, report) -> Path:
    """Sixty clips, of which the first and the last are real videos."""
    folder = tmp_path_factory.mktemp("report") / "a set"
    make_dataset(folder, 60)
    for name in (HOSTILE[4], "films/11/clip-000059.mp4"):
        (folder / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        write_numbered(folder / "train" / name, 48)
    said = report(folder)
    assert "60 rows in = 2 made + 58 errors" in said and f"60 clips -> {folder}/report.html" in said
    return folder


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("there is no Chromium: apt-get install chromium, or set CHROMIUM=/path/to/it")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A copy of the page's sources, with their packages, in which it was built."""
    if not shutil.which("npm"):
        pytest.skip("there is no npm, which builds the page")
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT / "report_page", folder / "report_page", ignore=shutil.ignore_patterns("node_modules"))
    (folder / "utils" / "report").mkdir(parents=True)
    build = "npm ci --silent && npm run build --silent"
    ran = subprocess.run(build, shell=True, cwd=folder / "report_page", capture_output=True, text=True, timeout=300)
    if any(word in ran.stderr for word in ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN")):
        pytest.skip("the npm registry cannot be reached")
    assert ran.returncode == 0, ran.stderr
    return folder


class Page:
    """A report that is open in the browser, and what went wrong there."""

    def __init__(self, browser, path: Path, **options):
        self.context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "locale": "en-US", "accept_downloads": True, **options}
        )
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console", lambda message: self.faults.append(message.text) if "Content Security" in message.text else None
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=60_000)

    def command(self, which: str = "filterLine") -> list[str]:
        return shlex.split(self.page.inner_text(f"#{which}"))

    def kept(self) -> int:
        return int(self.page.inner_text(".funnel tr.kept td:nth-child(2)").replace(",", ""))

    def slider(self, name: str, end: str = "lowest"):
        return self.page.get_by_role("slider", name=f"{end} {name}", exact=True)


@pytest.fixture
def opened(browser, dataset):
    pages = []

    def open_page(path: Path = dataset / "report.html", **options) -> Page:
        pages.append(Page(browser, path, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        assert page.faults == [] and {url.partition(":")[0] for url in page.requests} <= {"file", "data", "blob"}
        assert not page.page.evaluate("window.hacked")
        page.context.close()


@pytest.fixture
def run_filter(run_script) -> Callable[[Page, Path], list[str]]:
    """The clips that the printed command keeps."""

    def kept(page: Page, tmp_path: Path) -> list[str]:
        words = page.command()
        assert words[:2] == [sys.executable, str(ROOT / "filter_videos_by_motion_score.py")]
        words[words.index("--saved_path") + 1] = str(tmp_path / "kept.jsonl")
        run_script(*words[1:])
        return [row["video_path"] for row in read_rows(tmp_path / "kept.jsonl")]

    return kept


def test_a_threshold_by_keyboard_alone_and_its_command(opened, tmp_path, run_filter):
    page = opened()
    before = page.kept()
    assert len(run_filter(page, tmp_path)) == before
    page.slider("motion_score").focus()
    for key in ("PageUp", "PageUp", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.page.keyboard.press(key)
    assert page.kept() < before and len(run_filter(page, tmp_path)) == page.kept()
    page.slider("motion_score", "highest").focus()
    page.page.keyboard.press("End")  # no bound
    words = page.command()
    at = words.index("motion_score")
    assert words[at + 2] == "none" and float(words[at + 1]) > 1.5
    assert len(run_filter(page, tmp_path)) == page.kept()
    page.slider("duration").focus()
    page.page.keyboard.press("Home")
    assert "--min_seconds=-inf" in page.command() and len(run_filter(page, tmp_path)) == page.kept()


def test_a_threshold_by_mouse_and_an_exact_number(opened, tmp_path, run_filter):
    page = opened()
    box = page.slider("technical_score").bounding_box()
    thumb = page.page.evaluate(
        "e => (Number(e.value) + 1) / (Number(e.max) + 1)", page.slider("technical_score").element_handle()
    )
    x, y = box["x"] + 7 + thumb * (box["width"] - 14), box["y"] + box["height"] / 2
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    page.page.mouse.move(x + 40, y, steps=5)
    page.page.mouse.up()
    moved = float(page.command()[page.command().index("technical_score") + 1])
    assert moved > 4 and len(run_filter(page, tmp_path)) == page.kept()
    field = page.page.get_by_role("spinbutton", name="lowest technical_score")
    field.fill("5.0312")
    field.press("Enter")
    assert page.command()[page.command().index("technical_score") + 1] == "5.0312"
    assert len(run_filter(page, tmp_path)) == page.kept()


def test_facets_other_columns_and_a_clips_own_become_a_condition(opened, tmp_path, run_filter):
    page = opened()
    page.page.get_by_text("static", exact=False).first.click()
    page.page.get_by_label("Another score…").select_option(label="bytes (clips.jsonl)")
    page.slider("bytes").focus()
    for _ in range(3):
        page.page.keyboard.press("PageUp")
    words = page.command()
    assert (
        "\"camera_motion\" IN ('static')" in words[words.index("--where") + 1]
        and '"bytes" >= ' in words[words.index("--where") + 1]
    )
    assert 0 < page.kept() == len(run_filter(page, tmp_path))
    stage = page.command("stageLine")
    assert stage[-2:] == ["sh", str(ROOT / "stage_2_filter_data.sh")] and any(
        word.startswith("WHERE=") and "bytes" in word for word in stage
    )


@pytest.mark.parametrize("column, value", [("has_audio", "true"), ("main_colour", None)])
def test_a_facet_of_any_file(opened, tmp_path, column, value, run_filter):
    """True or false of the list, and what was seen in the thumbnails, whose file no filter names."""
    page = opened()
    facet = page.page.locator(".facet", has=page.page.get_by_text(column, exact=True))
    if not facet.evaluate("facet => facet.open"):
        facet.locator("summary").click()
    box = facet.locator("label", has_text=value).first if value else facet.locator("label").last
    box.click()
    words = page.command()
    assert f'"{column}" IN (' in words[words.index("--where") + 1]
    assert ("--columns_from" in words) == (column == "main_colour")
    assert len(run_filter(page, tmp_path)) == page.kept() < 60


def test_what_train_jsonl_was_made_with_is_where_the_page_begins(
    opened, dataset, tmp_path, run_script, report, run_filter
):
    folder = tmp_path / "set"
    shutil.copytree(dataset, folder)
    flags = (
        "--filter",
        folder / "motion_score.jsonl",
        "motion_score",
        5,
        "none",
        "--min_seconds",
        2,
        "--where",
        "camera_motion <> 'static' and bytes > 2e5",
    )
    run_script(
        "filter_videos_by_motion_score.py",
        "--video_metadata_path",
        folder / "clips.jsonl",
        "--saved_path",
        folder / "train.jsonl",
        *flags,
    )
    kept = [row["video_path"] for row in read_rows(folder / "train.jsonl")]
    report(folder)
    page = opened(folder / "report.html")
    assert page.kept() == len(kept) and run_filter(page, tmp_path) == kept
    page.page.get_by_label("only clips for which").uncheck()
    assert len(run_filter(page, tmp_path)) == page.kept() > len(kept)
    page.slider("duration").press("PageUp")
    page.page.get_by_label("only clips for which").check()
    assert len(run_filter(page, tmp_path)) == page.kept()


def test_marks_are_kept_saved_and_taken_by_the_filter(opened, tmp_path, dataset, run_filter):
    page = opened()
    page.page.locator("#scroller").focus()
    for key in ("j", "x", "j", "s", "j", "3", "j", "x", "u"):
        page.page.keyboard.press(key)
    assert "2 to drop, 1 starred" in page.page.inner_text("#marks") and "watermark 1" in page.page.inner_text("#marks")
    page.page.get_by_label("Keep starred clips").check()
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Save marks.jsonl").click()
    marks = dataset / "marks.jsonl"
    download.value.save_as(marks)
    assert read_rows(marks) == [
        {"video_path": HOSTILE[0], "mark": "drop"}, {"video_path": HOSTILE[1], "mark": "star"},
        {"video_path": HOSTILE[2], "mark": "drop", "reason": "watermark"},
    ]  # fmt: skip
    words = page.command()
    assert [words[words.index(flag) + 1] for flag in ("--exclude", "--include")] == [str(marks)] * 2
    assert "save them there" in page.page.inner_text("#commands") and str(marks) in page.page.inner_text("#commands")
    kept = run_filter(page, tmp_path)
    assert len(kept) == page.kept() and HOSTILE[1] in kept and not {HOSTILE[0], HOSTILE[2]} & set(kept)
    page.page.reload()
    page.page.wait_for_selector("html[data-ready]")
    assert "2 to drop, 1 starred" in page.page.inner_text("#marks")
    page.page.get_by_role("button", name="Forget marks").click()
    page.page.set_input_files("#marks-file", str(marks))
    until(page.page, "document.querySelector('#marks').innerText.includes('2 to drop')")
    marks.unlink()


def test_marks_that_were_given_are_in_the_page_its_counts_and_its_command(
    opened, dataset, tmp_path, run_script, report, run_filter
):
    """Until a mark is another one, the command names the files that were given; then it names those that the page saves."""
    folder = tmp_path / "set"
    shutil.copytree(dataset, folder)
    write_rows(
        tmp_path / "bad.jsonl",
        [{"video_path": HOSTILE[0], "mark": "drop", "reason": "text"}, {"video_path": HOSTILE[1], "mark": "star"}],
    )
    write_rows(tmp_path / "good.jsonl", [{"video_path": HOSTILE[3]}, {"video_path": "gone.mp4"}])
    flags = (
        "--filter",
        folder / "motion_score.jsonl",
        "motion_score",
        5,
        "none",
        "--exclude",
        tmp_path / "bad.jsonl",
        "--include",
        tmp_path / "good.jsonl",
    )
    listed = ("--video_metadata_path", folder / "clips.jsonl", "--saved_path", folder / "train.jsonl")
    run_script("filter_videos_by_motion_score.py", *listed, *flags)
    kept = [row["video_path"] for row in read_rows(folder / "train.jsonl")]
    report(folder)
    page = opened(folder / "report.html")
    assert "1 to drop, 1 starred" in page.page.inner_text("#marks") and "text 1" in page.page.inner_text("#marks")
    words = page.command()
    given = [words[words.index(flag) + 1] for flag in ("--exclude", "--include")]
    assert given == [str(tmp_path / "bad.jsonl"), str(tmp_path / "good.jsonl")]
    assert page.kept() == len(kept) and run_filter(page, tmp_path) == kept
    page.page.locator("#scroller").focus()
    for key in ("j", "x", "x", "j", "x"):  # the first loses its reason, then its mark; the second gets one
        page.page.keyboard.press(key)
    words, marks = page.command(), folder / "marks.jsonl"
    assert [words[words.index(flag) + 1] for flag in ("--exclude", "--include")] == [str(marks)] * 2
    page.page.reload()
    page.page.wait_for_selector("html[data-ready]")
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Save marks.jsonl").click()
    download.value.save_as(marks)
    assert read_rows(marks) == [{"video_path": HOSTILE[1], "mark": "drop"}, {"video_path": HOSTILE[3], "mark": "star"}]
    assert len(run_filter(page, tmp_path)) == page.kept()


def in_a_shell(command: str, folder: Path) -> str:
    """What a command prints that is pasted into a plain shell, in another folder, with an environment that knows nothing of ours."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder.parent), "LANG": "C.UTF-8"}
    ran = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_commands_run_as_pasted_into_a_shell_in_another_folder(opened, tmp_path, report):
    folder = tmp_path / "my holiday's set"
    make_dataset(folder, 12)
    for row in read_rows(folder / "clips.jsonl")[:10:9]:
        (folder / "train" / row["video_path"]).parent.mkdir(parents=True, exist_ok=True)
        write_numbered(folder / "train" / row["video_path"], 48)
    report(os.path.relpath(folder))
    page = opened(folder / "report.html")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    commands = {name: page.page.inner_text(f"#{name}") for name in ("filterLine", "refreshLine", "stageLine")}
    assert f"= {page.kept()} kept" in in_a_shell(commands["filterLine"], elsewhere)
    assert len(read_rows(folder / "train.jsonl")) == page.kept()
    (folder / "report.html").unlink()
    assert "12 clips ->" in in_a_shell(commands["refreshLine"], elsewhere) and (folder / "report.html").exists()
    for made_up in (*folder.glob("technical_score.*"), *folder.glob("motion_score.*")):
        made_up.unlink()
    scores = ("QUALITY_THRESHOLD", "TEXT_SCORE_THRESHOLD", "HIGH_MOTION_SCORE_THRESHOLD", "ACTIVITY_THRESHOLD")
    no_bounds = " ".join(f"{name}=none" for name in scores)
    stage = commands["stageLine"].replace(" sh ", f" PRESET=embedded CROP=0 CUT_INSIDE=flow {no_bounds} sh ")
    assert f"-> {folder}/report.html" in in_a_shell(stage, elsewhere)
    assert not [*elsewhere.iterdir()]


def test_a_folder_of_clips_without_a_list(opened, tmp_path, report, run_script, run_filter):
    """What stage 2 does with VIDEO_FOLDER alone; an older list of stage 1 in the dataset is not theirs."""
    clips, folder = tmp_path / "my clips", tmp_path / "set"
    for name in ("a.mp4", "sub/b.mp4"):
        (clips / name).parent.mkdir(parents=True, exist_ok=True)
        write_numbered(clips / name, 96)
    make_dataset(folder, 3)
    for made_up in folder.glob("*_score.*"):
        made_up.unlink()
    scored = (
        "--video_folder",
        clips,
        "--saved_path",
        folder / "motion_score.jsonl",
        "--n_jobs",
        1,
        "--cut_inside",
        "flow",
    )
    run_script("compute_motion_score.py", *scored)
    bounds = ("--filter", folder / "motion_score.jsonl", "motion_score", 0, "none")
    run_script(
        "filter_videos_by_motion_score.py", "--video_folder", clips, "--saved_path", folder / "train.jsonl", *bounds
    )
    assert "2 clips ->" in report(folder, "--video_folder", clips)
    page = opened(folder / "report.html")
    words = page.command()
    assert words[words.index("--video_folder") + 1] == str(clips) and "--video_metadata_path" not in words
    assert run_filter(page, tmp_path) == ["a.mp4", "sub/b.mp4"] and page.kept() == 2
    page.slider("duration").focus()
    page.page.keyboard.press("End")
    field = page.page.get_by_role("spinbutton", name="lowest duration")
    field.fill("4.5")
    field.press("Enter")
    assert run_filter(page, tmp_path) == [] and page.kept() == 0
    assert f"VIDEO_FOLDER={clips}" in page.command("stageLine")


def test_captions_are_edited_in_the_page_and_taken_by_stage_3(opened, tmp_path, report, run_script):
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [{"video_path": f"{name}-Scene-00{i}.mp4"} for i, name in enumerate("abc", 1)]
    write_rows(folder / "clips.jsonl", rows)
    attributes = {"motion_score": 12.0, "camera_motion": "static"}
    frames = [
        row | {"image_caption_model": "attributes", "sampled_frame_caption": ["A scene."], "attributes": attributes}
        for row in rows
    ]
    write_rows(folder / "frame_caption.jsonl", frames)
    write_rows(folder / "earlier.jsonl", [{"video_path": rows[2]["video_path"], "caption": "A horse by the sea."}])
    summary = (
        "caption_summary.py",
        "--video_metadata_path",
        folder / "frame_caption.jsonl",
        "--saved_path",
        folder / "summary_caption.jsonl",
    )
    run_script(*summary, "--trigger_word", "sks", "--captions_from", folder / "earlier.jsonl")
    report(folder, "--no_thumbnails")
    page = opened(folder / "report.html")
    assert "placeholders, made of measurements; do not train on them" in page.page.inner_text(".funnel .note")
    cards = page.page.locator("#canvas .clip")
    assert [card.locator(".why").inner_text()[:11] for card in cards.all()] == ["placeholder"] * 2 + ["sks A horse"]
    cards.first.click()
    caption = page.page.get_by_label("Edit the caption")
    assert caption.input_value() == "A static camera shows a scene with moderate motion."  # without the trigger word
    caption.fill("A dog\nruns x s j.")
    page.page.keyboard.press("Escape")
    until(page.page, "document.querySelector('#canvas .why').innerText === 'A dog runs x s j.'")
    assert "1 edited" in page.page.inner_text("#captions") and str(folder / "captions.jsonl") in page.page.inner_text(
        "#captions"
    )
    page.page.reload()
    page.page.wait_for_selector("html[data-ready]")
    page.page.fill("#search", "a dog")
    assert page.page.inner_text("#shown") == "1 clips"
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Save captions.jsonl").click()
    download.value.save_as(folder / "captions.jsonl")
    assert read_rows(folder / "captions.jsonl") == [
        {"video_path": rows[0]["video_path"], "caption": "A dog runs x s j."},
        {
            "video_path": rows[2]["video_path"],
            "caption": "A horse by the sea.",
        },  # given before: it would be made again without it
    ]
    words = page.command("captionsLine")
    assert f"CAPTIONS_FROM={folder}/captions.jsonl" in words and words[-1] == str(ROOT / "stage_3_video_caption.sh")
    run_script(*summary, "--trigger_word", "sks", "--captions_from", folder / "captions.jsonl")
    captions = [row["summary_caption"] for row in read_rows(folder / "summary_caption.jsonl")]
    assert captions == [
        "sks A dog runs x s j.",
        "sks A static camera shows a scene with moderate motion.",
        "sks A horse by the sea.",
    ]
    report(folder, "--no_thumbnails")
    page = opened(folder / "report.html")
    assert (
        "0 edited" in page.page.inner_text("#captions") and page.page.inner_text(".funnel .note td:nth-child(2)") == "1"
    )


def test_search_sort_nearest_and_a_clip_in_full(opened):
    page = opened()
    page.page.fill("#search", "CLIP NUMBER 59")
    assert page.page.inner_text("#shown") == "1 clips"
    page.page.locator("#canvas .clip").click()
    dialog = page.page.locator("#clip")
    until(page.page, "document.querySelector('#clip video')?.videoWidth > 0")  # the clip itself plays
    assert "film 11.mp4" in dialog.inner_text() and dialog.locator(".neighbours .clip").count() == 5
    page.page.keyboard.press("Escape")
    page.page.fill("#search", "")
    page.page.select_option("#sort", "technical_score.jsonl:technical_score")
    first = page.page.locator("#canvas .clip").first
    first.click()
    highest = max(
        row["technical_score"]
        for row in read_rows(
            Path(page.page.url.removeprefix("file://").replace("%20", " ")).parent / "technical_score.jsonl"
        )
        if row["made_from"] != "older"
    )
    assert str(highest) in dialog.inner_text()
    page.page.keyboard.press("Escape")
    page.page.get_by_role("group", name="motion_score", exact=True).get_by_role("button", name="Nearest").click()
    assert "Nearest to the thresholds of motion_score, −∞ … 25" in page.page.inner_text("#shown")
    shown = [card.locator(".why").inner_text() for card in page.page.locator("#canvas .clip").all()[:8]]
    values = [float(text.removeprefix("motion_score ")) for text in shown]
    assert [value <= 25 for value in values] == [True, False] * 4  # by turns, each with the score that is chosen
    assert page.page.evaluate(
        "[...document.querySelectorAll('#canvas img')].every(e => getComputedStyle(e).opacity === '1')"
    )


@pytest.mark.parametrize("width", [1280, 1024, 390])
def test_cards_fill_the_width_and_show_the_end_of_a_name(opened, tmp_path, report, width):
    rows = [{"video_path": f"a very long name of a film on a holiday-Scene-{i:03}.mp4"} for i in range(1, 30)]
    write_rows(tmp_path / "clips.jsonl", rows)
    (tmp_path / "x_score.settings.json").write_text("{}")
    write_rows(tmp_path / "x_score.jsonl", [row | {"shelf": str(i % 2 + 24)} for i, row in enumerate(rows)])
    report(tmp_path, "--no_thumbnails")
    page = opened(tmp_path / "report.html", viewport={"width": width, "height": 900})
    left = page.page.evaluate(
        """() => document.querySelector('#scroller').getBoundingClientRect().left + document.querySelector('#scroller').clientWidth
        - Math.max(...[...document.querySelectorAll('#canvas .clip')].map(e => e.getBoundingClientRect().right))"""
    )
    assert 0 <= left <= 16
    end = page.page.locator("#canvas .clip .name span").nth(1)
    card, seen = page.page.locator("#canvas .clip").first.bounding_box(), end.bounding_box()
    assert end.inner_text() == "-Scene-001.mp4" and seen["x"] + seen["width"] <= card["x"] + card["width"]
    assert "24\n15 clips" in page.page.locator(".facet", has_text="shelf").inner_text()


def test_hostile_names_are_text(opened):
    page = opened()
    for name in ("<script>", "javascript:", "onerror"):
        page.page.fill("#search", name)
        page.page.locator("#canvas .clip").first.click()
        assert page.page.locator("#clip h2").inner_text() in HOSTILE
        page.page.keyboard.press("Escape")
    page.page.fill("#search", "lat")
    page.page.locator("#canvas .clip").first.click()
    assert page.page.locator("#clip video").get_attribute("src") == "train/lat%C3%A91.mp4"
    page.page.keyboard.press("Escape")


@pytest.mark.parametrize(
    "locale, scheme, width",
    [("en-US", "light", 1280), ("zh-CN", "dark", 390), ("en-US", "dark", 390), ("zh-CN", "light", 1920)],
)
def test_languages_themes_and_widths(opened, locale, scheme, width):
    page = opened(viewport={"width": width, "height": 844}, locale=locale, color_scheme=scheme)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    assert ("阈值" in page.page.inner_text("main")) == (locale == "zh-CN")
    page.page.click("#language")
    assert ("阈值" in page.page.inner_text("main")) == (locale != "zh-CN")
    page.page.locator("#canvas .clip").first.click()
    assert page.page.evaluate("document.querySelector('#clip').getBoundingClientRect().right") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened, built, scheme):
    axe = built / "report_page" / "node_modules" / "axe-core" / "axe.min.js"
    page = opened(color_scheme=scheme)
    for open_first in ("", "#canvas .clip"):
        if open_first:
            page.page.locator(open_first).first.click()
        found = run_axe(page, axe)
        serious = [
            (one["id"], [(node["target"], node["failureSummary"]) for node in one["nodes"]][:3])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []


def run_axe(page: Page, axe: Path) -> list[dict]:
    """What axe finds; DevTools runs it, whom the page's policy does not bind."""
    session = page.context.new_cdp_session(page.page)
    session.send("Runtime.evaluate", {"expression": axe.read_text()})
    ran = session.send(
        "Runtime.evaluate",
        {"expression": "axe.run().then(found => JSON.stringify(found.violations))", "awaitPromise": True},
    )
    return json.loads(ran["result"]["value"])


def test_two_runs_side_by_side(opened, dataset, tmp_path, report):
    other = tmp_path / "b"
    shutil.copytree(dataset, other)
    (other / "train.settings.json").write_text(json.dumps({"filters": [
        {"file": "clips.jsonl", "column": "duration", "low": 3, "high": 10}, {"file": "motion_score.jsonl", "column": "motion_score", "low": 15, "high": None},
    ]}))  # fmt: skip
    report(dataset, other, "--saved_path", tmp_path / "two.html")
    page = opened(tmp_path / "two.html")
    assert page.page.locator(".funnel").count() == 2
    counts = [int(text.split()[0]) for text in (shown(page, which) for which in ("kept", "onlyHere", "both"))]
    assert counts[0] == counts[1] + counts[2] and min(counts) > 0
    page.page.get_by_role("button", name="B: b").click()
    assert int(shown(page, "both").split()[0]) == counts[2]


def shown(page: Page, which: str) -> str:
    page.page.click(f"[data-which={which}]")
    return page.page.inner_text("#shown")


def test_matches_are_by_source_and_time():
    def clip(path, source, start, end):
        return {"video_path": path, "source_path": source, "start_seconds": start, "end_seconds": end}

    ours = [clip("1", "a", 0, 5), clip("2", "a", 5, 10), clip("3", "b", 0, 5), {"video_path": "x"}]
    theirs = [clip("2", "a", 0, 6), clip("9", "a", 6, 7), {"video_path": "x"}]
    assert matches(ours, theirs) == [0, -1, -1, 2]


def test_many_clips_have_their_thumbnails_in_a_folder(opened, tmp_path, report):
    make_dataset(tmp_path, 501)
    (tmp_path / "train" / "films" / "2").mkdir(parents=True)
    write_numbered(tmp_path / "train" / "films" / "2" / "clip-000010.mp4", 24)
    report(tmp_path)
    page = opened(tmp_path / "report.html")
    page.page.fill("#search", "clip-000010")
    until(page.page, "document.querySelector('#canvas img')?.naturalWidth === 480")
    (image,) = (tmp_path / "report_files").rglob("*.webp")
    assert page.page.locator("#canvas img").get_attribute("src") == str(image.relative_to(tmp_path))
    image.unlink()
    assert "501 rows in = 1 made" in report(tmp_path, "--retry_errors") and image.exists()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("gone",), "gone: no such folder"),
        (("a", "b", "c"), "3 folders given"),
        (("a", "b", "--video_folder", "c"), "work with one dataset"),
    ],
)
def test_wrong_arguments_are_sentences(arguments, sentence, report):
    assert sentence in report(*arguments, code=2)


def test_the_page_is_what_its_sources_build(built):
    committed = ROOT / "utils" / "report" / "page.html"
    assert (built / "utils" / "report" / "page.html").read_text() == committed.read_text(), (
        "npm run build in report_page/"
    )


def page_of(folder: Path) -> str:
    """The page, whose blocks of text are unpacked."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    blocks = re.findall(r'<script type="text/plain" id="block-\d+">(.*?)</script>', page)
    return page + "".join(gzip.decompress(base64.b64decode(block)).decode(errors="replace") for block in blocks)


@pytest.mark.parametrize("count", [2, 501])  # thumbnails inside the page, and as links
def test_a_page_holds_no_other_file_than_the_thumbnails_that_it_has_made(count, tmp_path, report):
    folder = tmp_path / "set"
    make_dataset(folder, count)
    (tmp_path / "secret").write_text("a key of this machine")
    outside, ours = f"{tmp_path}/secret", "ab/abcdefabcdefabcdefab.webp"
    names = ["../../secret", outside, "../train/a.mp4", 7, None, ["ab"], {"a": 1}, f"{ours}/..", ours]
    for name in ("clips", "technical_score"):  # a column of this name that is not ours
        rows = read_rows(folder / f"{name}.jsonl")
        write_rows(folder / f"{name}.jsonl", [row | {"thumbnail": "../../secret"} for row in rows])
    paths = [row["video_path"] for row in read_rows(folder / "clips.jsonl")]
    (folder / "report_files" / "ab").mkdir(parents=True)
    (folder / "report_files" / ours).symlink_to(outside)
    for name in names if count == 2 else names[::8]:
        rows = [{"video_path": path, "thumbnail": name, "main_colour": ""} for path in paths]
        write_rows(folder / "report_files" / "thumbnails.jsonl", rows)
        report(folder, "--no_thumbnails")
        page = page_of(folder)
        assert base64.b64encode(b"a key of this").decode()[:-4] not in page and "secret" not in page, name
        assert "data:image/webp;base64" not in page and f"report_files/{name}" not in page, name
    rows = [
        {"video_path": clip["video_path"], "thumbnail": "../../secret", "made_from": made_from(clip, CLIP_COLUMNS)}
        for clip in read_rows(folder / "clips.jsonl")
    ]
    write_rows(folder / "report_files" / "thumbnails.jsonl", rows)
    settings = {"file": "thumbnails.jsonl", "width": WIDTH, "frames": FRAMES}
    (folder / "report_files" / "thumbnails.settings.json").write_text(json.dumps(settings))
    assert f"0 made + {count} errors" in report(folder)  # they are no thumbnails, so they are made anew


def test_the_chinese_of_columns_is_of_columns_that_exist():
    scripts = ("audio_score", "crop_box", "duplicates", "motion_score", "text_score", "video_frame_quality")
    declared = {name for script in scripts for name in importlib.import_module(f"compute_{script}").SCORE.columns}
    assert MEANINGS_ZH.keys() - {"pixels", "short_side"} <= declared
    assert {"technical_score", "motion_score", "activity", "crop_share", "cut_inside"} <= MEANINGS_ZH.keys()
