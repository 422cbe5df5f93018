"""Next steps after the stages: the report to open, failed rows to retry, the command that exports for a trainer. Each line can be pasted into a
shell in any folder.

    python -m tools.next_steps --dataset_folder datasets/panda_70m --videos ~/films
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from tools.stage_settings import repeated
from utils.captioning.attributes import PLACEHOLDER
from utils.cli import run, script_parser
from utils.report.funnel import funnel
from utils.startup import PROJECT
from utils.storage import exists, is_url

SHOWN_FILES = 3
EXAMPLE = {"FORMAT": "musubi", "MODEL": "wan2.1"}


def command(script: str, settings: dict[str, str], arguments: list[str] | None = None) -> str:
    """A line for a shell: settings, then a script of the project and its arguments."""
    shell = "bash" if script == "quickstart.sh" else "sh"
    assigned = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    return " ".join([*assigned, shell, shlex.quote(f"{PROJECT}/{script}"), *map(shlex.quote, arguments or [])])


def steps(folder: str, videos: str | None) -> Iterator[str]:
    """The lines. `folder`: the dataset; `videos`: what quickstart.sh was given. Raises: `UsageError` where there is no dataset."""
    settings = {"DATASET_FOLDER": folder, **({"PRESET": preset} if (preset := os.environ.get("PRESET")) else {})}
    of_all, of_captions = repeated("123", os.environ), repeated("3", os.environ)
    example = {} if {"FORMAT", "MODEL"} & of_captions.keys() else EXAMPLE
    made = funnel(folder)
    if exists(f"{folder}/report.html"):
        page = f"{folder}/report.html"
        yield f"open the report to review clips, adjust thresholds, mark clips and edit captions:\n  {page if is_url(page) else Path(page).as_uri()}"
    failures = [failure for step in made for failure in step.failures]
    if failures:
        names = list(dict.fromkeys(path for failure in failures for path, _ in failure.examples))
        more = sum(failure.count for failure in failures) - len(names)
        listed = ", ".join(map(shlex.quote, names[:SHOWN_FILES]))
        rest = max(0, len(names) - SHOWN_FILES) + max(0, more)
        again = command("quickstart.sh", {**settings, **of_all, "RETRY_ERRORS": "1"}, [videos] if videos else None)
        yield f"retry failed files, {listed}{f' and {rest:,} more' if rest else ''}:\n  {again}"
    captioned = next((step for step in made if step.name == "captioned" and step.count), None)
    if captioned:
        yield f"export the set for your trainer; docs/export.md lists FORMAT and MODEL:\n  {command('stage_3_video_caption.sh', {**settings, **example, **of_captions})}"
    if captioned and captioned.dropped:
        count = captioned.dropped[0][1]
        yield f"before you train, caption the clips: {count:,} captions are placeholders, {PLACEHOLDER} (docs/captions.md)"


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--dataset_folder", default="datasets/panda_70m", help="dataset root (a folder or URL)")
    parser.add_argument("--videos", help="folder of videos passed to quickstart.sh")
    args = parser.parse_args()
    folder, videos = (
        path if is_url(path) else path and os.path.abspath(path) for path in (args.dataset_folder, args.videos)
    )
    for number, step in enumerate(steps(str(folder), videos), 1):
        print(f"{number}. {step}")


if __name__ == "__main__":
    run(main)
