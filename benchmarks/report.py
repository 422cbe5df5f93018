"""What a report of many clips costs: making it (without thumbnails), opening it in Chromium, a step of a slider, scrolling.

    python -m benchmarks.report --rows 17 500 100000

Clips and scores are made up, as for `benchmarks.metadata`. "open": from the start of loading until all is drawn. "slider": from the key to
the next picture, the median of 20. "search": of a word that no caption holds, the first time. "slowest frame": while the gallery is scrolled for two seconds.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import measure, table
from benchmarks.metadata import BOUNDS, make

ROOT = Path(__file__).resolve().parents[1]
STEP = """async () => {
    const slider = document.querySelector('.plot input'), times = [];
    for (let i = 0; i < 20; i++) {
        const begun = performance.now();
        slider.value = 20 + i; slider.oninput();
        await new Promise(requestAnimationFrame);
        times.push(performance.now() - begun);
    }
    return times;
}"""
SEARCH = """() => {
    const field = document.querySelector('#search'), begun = performance.now();
    field.value = 'no such word'; field.oninput();
    const took = performance.now() - begun;
    field.value = ''; field.oninput();
    return took;
}"""
SCROLL = """async () => {
    const scroller = document.querySelector('#scroller'), begun = performance.now();
    let last = begun, slowest = 0;
    while (last - begun < 2000) {
        scroller.scrollTop += 700;
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        slowest = Math.max(slowest, now - last);
        last = now;
    }
    return slowest;
}"""


def in_browser(page: Path, chromium: str) -> list[str]:
    """Milliseconds of opening, a slider's step, a search and the slowest frame."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened: Any = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.goto(page.as_uri(), timeout=120_000)
        opened.wait_for_selector("html[data-ready]", timeout=120_000)
        loaded = opened.evaluate("performance.now()")
        figures = [loaded, statistics.median(opened.evaluate(STEP)), opened.evaluate(SEARCH), opened.evaluate(SCROLL)]
        browser.close()
    return [f"{figure:,.0f}" for figure in figures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[17, 500, 100_000], help="clips")
    args = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    lines = []
    for count in args.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make(folder, count)
            for kind in BOUNDS:
                (folder / f"{kind}.settings.json").write_text('{"version": 1}')
            used = measure([sys.executable, str(ROOT / "make_report.py"), str(folder), "--no_thumbnails"])
            page = folder / "report.html"
            seen = in_browser(page, chromium) if chromium else ["no Chromium"] * 4
            lines.append(
                [
                    f"{count:,}",
                    f"{used.cpu_seconds:.1f}",
                    f"{used.largest_mib:,.0f}",
                    f"{page.stat().st_size / 1e6:.1f}",
                    *seen,
                ]
            )
    print(
        table(
            [
                "clips",
                "make, CPU-s",
                "peak, MiB",
                "page, MB",
                "open, ms",
                "slider, ms",
                "search, ms",
                "slowest frame, ms",
            ],
            lines,
        )
    )


if __name__ == "__main__":
    main()
