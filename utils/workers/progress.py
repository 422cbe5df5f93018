"""Progress on stderr: a bar on a terminal, lines in a log, or JSON for machines."""

import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import chain, repeat
from types import TracebackType

from tqdm import tqdm

LINE_SECONDS = (
    1,
    4,
    10,
    15,
    30,
    60,
)  # between two lines; the last goes on: often at first, when one looks whether it works
BAR_SECONDS, JSON_SECONDS = 1, 5  # between two drawings of the bar, two objects
LONGEST_NAME = 40  # letters that are shown of a path


class Progress:
    """Counts the rows that this rank has done; `errors` of them failed. A context manager.

    `total` is of all `world` ranks together, which take rows from each other: nobody knows beforehand how many will be
    this rank's. Reports come by the clock, so that a run that waits for one row does not fall silent, and name the row that has
    been at work the longest.

    With `as_json` each report is an object on a line of its own: time, step, rank, world, event (start, progress, end, or
    failed where the run broke off), done, total, errors, rows_per_second, seconds_left, reading.
    """

    def __init__(self, total: int, name: str, rank: int = 0, world: int = 1, as_json: bool = False):
        self.total, self.name, self.rank, self.world, self.as_json = total, name, rank, world, as_json
        self.done = self.errors = 0
        self.at_work: dict[str, None] = {}  # paths that were given to the workers and have not come back, in that order
        self.started = time.monotonic()
        self.ended = threading.Event()
        hidden = as_json or not sys.stderr.isatty()
        of = f" (rank {rank} of {world})" if world > 1 else ""
        self.bar = tqdm(
            total=-(-total // world), desc=name + of, unit="row", disable=hidden, dynamic_ncols=True, smoothing=0.05
        )

    def __enter__(self) -> "Progress":
        if self.as_json:
            self._report("start")
        threading.Thread(target=self._report_by_the_clock, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.bar.close()
        if self.as_json:
            self._report("failed" if error else "end")

    def reading(self, rows: Iterable[dict]) -> Iterator[dict]:
        """The rows, on their way to the workers."""
        for row in rows:
            self.at_work[row["video_path"]] = None
            yield row

    def add(self, failed: bool, path: str = "") -> None:
        """Count one row."""
        self.done += 1
        self.errors += failed
        self.at_work.pop(path, None)
        self.bar.update()

    def _report_by_the_clock(self) -> None:
        always = JSON_SECONDS if self.as_json else LINE_SECONDS[-1] if self.bar.disable else BAR_SECONDS
        first = LINE_SECONDS if self.bar.disable and not self.as_json else ()
        for seconds in chain(first, repeat(always)):
            if self.ended.wait(seconds):
                return
            if self.bar.disable:
                self._report("progress")
            else:
                facts = [f"{self.errors:,} errors" if self.errors else "", self._reading()]
                self.bar.set_postfix_str(", ".join(filter(None, facts)))

    def _reading(self) -> str:
        path = next(iter(tuple(self.at_work)), "")  # a copy: another thread changes it
        if not path:
            return ""
        shown = path if len(path) <= LONGEST_NAME else f"…{path[-LONGEST_NAME:]}"
        return f"reading {shown if shown.isprintable() else ascii(shown)}"

    def _report(self, event: str) -> None:
        rate = self.done / max(time.monotonic() - self.started, 1e-3)
        left = max(self.total / self.world - self.done, 0) / rate if self.done else None
        if self.as_json:
            report = {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "step": self.name, "rank": self.rank,
                "world": self.world, "event": event, "done": self.done, "total": self.total, "errors": self.errors,
                "rows_per_second": round(rate, 3), "seconds_left": None if left is None else round(left, 1),
                "reading": next(iter(tuple(self.at_work)), None),
            }  # fmt: skip
            line = json.dumps(report)
        else:
            of = f"{self.total:,} rows" + (
                f" of all {self.world} ranks, done by rank {self.rank}" if self.world > 1 else ""
            )
            facts = [f"{self.errors:,} errors", f"{rate:,.2f} rows a second", _left(left), self._reading()]
            line = f"{self.name}: {self.done:,} of {of}, {', '.join(filter(None, facts))}"
        print(line, file=sys.stderr, flush=True)


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    amount = (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:,.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:,.1f} h"
    )
    return f"{amount} left"
