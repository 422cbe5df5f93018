"""Print the funnel of a dataset from its files, even while a stage is running: sources, shots, clips, scores, kept, captioned,
and why the other clips were dropped.

    python -m tools.summary --dataset_folder datasets/panda_70m
    python -m tools.summary --dataset_folder s3://bucket/panda_70m --json
"""

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict

from utils.cli import run, script_parser
from utils.errors import UsageError, named
from utils.report.funnel import FunnelStep, funnel
from utils.storage import exists

SHOWN_MESSAGES = 10


def lines(steps: list[FunnelStep]) -> Iterator[tuple[str, str, str]]:
    """Of each line of the table: what, how many, how long."""
    shown = 0
    clips = next((step.count for step in steps if step.name == "clips"), 0)
    for step in steps:
        yield step.name, f"{step.count:,}", _hours(step.seconds)
        for reason, count, seconds in step.dropped:
            yield f"  dropped: {reason}" if step.name == "kept" else f"  {reason}", f"{count:,}", _hours(seconds)
        left = clips - step.count - sum(failure.count for failure in step.failures)
        if step.name.endswith(".jsonl") and left > 0:
            yield "  no row yet, or dropped before", f"{left:,}", ""
        for failure in step.failures:
            yield f"  failed: {failure.error}", f"{failure.count:,}", ""
            for path, message in failure.examples[: SHOWN_MESSAGES - shown]:
                shown += 1
                yield f"    {named(path, message)}", "", ""


def _hours(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 3600:,.2f} h" if seconds >= 360 else f"{seconds:,.1f} s"


def summarize(folder: str) -> str:
    """The summary as text. Raises: `UsageError` where there is no such folder, or no dataset in it."""
    steps = funnel(folder)
    table = list(lines(steps))
    short = [cells for cells in table if cells[1]]  # messages may be as long as they are
    widths = [max(len(cells[i]) for cells in short) for i in range(3)]
    text = [f"{name:<{widths[0]}}  {count:>{widths[1]}}  {hours:>{widths[2]}}".rstrip() for name, count, hours in table]
    exported = f"{folder}/train_panda_70m.json"
    end = f"training set: {shlex.quote(exported)}" if exists(exported) else "no training set yet: stage 3 writes it"
    return "\n".join([*text, end])


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--dataset_folder", default="datasets/panda_70m", help="dataset root (a folder or URL)")
    parser.add_argument("--json", action="store_true", help="print the steps as one JSON object")
    args = parser.parse_args()
    if not exists(args.dataset_folder):
        raise UsageError(f"--dataset_folder {args.dataset_folder}: no such folder")
    if args.json:
        print(
            json.dumps(
                {"dataset_folder": args.dataset_folder, "steps": [asdict(step) for step in funnel(args.dataset_folder)]}
            )
        )
    else:
        print(summarize(args.dataset_folder))


if __name__ == "__main__":
    run(main)
