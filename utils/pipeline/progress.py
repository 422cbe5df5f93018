"""What long work says while it lasts, on stderr: a bar on a terminal, a line a minute in a log, or JSON for machines."""

import json
import sys
import time
from datetime import datetime, timezone
from types import TracebackType

from tqdm import tqdm

LINE_SECONDS, JSON_SECONDS = 60, 5  # between two reports


class Progress:
    """Counts rows as they come; `errors` of them failed. A context manager.

    With `as_json` each report is an object on a line of its own: time, step, rank, event (start, progress, end), done,
    total, errors, rows_per_second, seconds_left.
    """

    def __init__(self, total: int, name: str, rank: int = 0, as_json: bool = False):
        self.total, self.name, self.rank, self.as_json = total, name, rank, as_json
        self.done = self.errors = 0
        self.begun = self.reported = time.monotonic()
        hidden = as_json or not sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=name, unit="row", disable=hidden, dynamic_ncols=True, smoothing=0.05)

    def __enter__(self) -> "Progress":
        if self.as_json:
            self._report("start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        if self.as_json:
            self._report("end")

    def add(self, failed: bool) -> None:
        """Count one row."""
        self.done += 1
        self.errors += failed
        if failed:
            self.bar.set_postfix(errors=self.errors, refresh=False)
        self.bar.update()
        if self.bar.disable and time.monotonic() - self.reported > (JSON_SECONDS if self.as_json else LINE_SECONDS):
            self._report("progress")

    def _report(self, event: str) -> None:
        self.reported = time.monotonic()
        rate = self.done / max(self.reported - self.begun, 1e-3)
        left = max(self.total - self.done, 0) / rate if self.done else None
        if self.as_json:
            report = {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "step": self.name, "rank": self.rank,
                "event": event, "done": self.done, "total": self.total, "errors": self.errors,
                "rows_per_second": round(rate, 3), "seconds_left": None if left is None else round(left, 1),
            }  # fmt: skip
            line = json.dumps(report)
        else:
            rank = f" (rank {self.rank})" if self.rank else ""
            line = f"{self.name}{rank}: {self.done:,} of {self.total:,} rows, {self.errors:,} errors, {rate:,.2f} rows a second, {(left or 0) / 60:,.0f} minutes left"
        print(line, file=sys.stderr, flush=True)
