"""What long work says while it lasts, on stderr: a bar on a terminal, a line a minute in a log, or JSON for machines."""

import json
import sys
import threading
import time
from datetime import datetime, timezone
from types import TracebackType

from tqdm import tqdm

LINE_SECONDS, JSON_SECONDS = 60, 5  # between two reports


class Progress:
    """Counts the rows that this rank has done; `errors` of them failed. A context manager.

    `total` is of all `world` ranks together, which take rows from each other: nobody knows beforehand how many will be
    this rank's. What is said comes by the clock, so that a run that waits for one row does not fall silent.

    With `as_json` each report is an object on a line of its own: time, step, rank, world, event (start, progress, end, or
    failed where the run broke off), done, total, errors, rows_per_second, seconds_left.
    """

    def __init__(self, total: int, name: str, rank: int = 0, world: int = 1, as_json: bool = False):
        self.total, self.name, self.rank, self.world, self.as_json = total, name, rank, world, as_json
        self.done = self.errors = 0
        self.begun = time.monotonic()
        self.ended = threading.Event()
        hidden = as_json or not sys.stderr.isatty()
        of = f" (rank {rank} of {world})" if world > 1 else ""
        self.bar = tqdm(
            total=-(-total // world), desc=name + of, unit="row", disable=hidden, dynamic_ncols=True, smoothing=0.05
        )

    def __enter__(self) -> "Progress":
        if self.as_json:
            self._report("start")
        if self.bar.disable:
            threading.Thread(target=self._report_by_the_clock, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.bar.close()
        if self.as_json:
            self._report("failed" if error else "end")

    def add(self, failed: bool) -> None:
        """Count one row."""
        self.done += 1
        self.errors += failed
        if failed:
            self.bar.set_postfix(errors=self.errors, refresh=False)
        self.bar.update()

    def _report_by_the_clock(self) -> None:
        while not self.ended.wait(JSON_SECONDS if self.as_json else LINE_SECONDS):
            self._report("progress")

    def _report(self, event: str) -> None:
        rate = self.done / max(time.monotonic() - self.begun, 1e-3)
        left = max(self.total / self.world - self.done, 0) / rate if self.done else None
        if self.as_json:
            report = {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "step": self.name, "rank": self.rank,
                "world": self.world, "event": event, "done": self.done, "total": self.total, "errors": self.errors,
                "rows_per_second": round(rate, 3), "seconds_left": None if left is None else round(left, 1),
            }  # fmt: skip
            line = json.dumps(report)
        else:
            of = f"{self.total:,} rows" + (
                f" of all {self.world} ranks, done by rank {self.rank}" if self.world > 1 else ""
            )
            rest = "" if left is None else f", {left / 60:,.0f} minutes left"
            line = f"{self.name}: {self.done:,} of {of}, {self.errors:,} errors, {rate:,.2f} rows a second{rest}"
        print(line, file=sys.stderr, flush=True)
