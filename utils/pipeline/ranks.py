"""The ranks that torchrun or accelerate launch start. They take chunks of the input from one shared counter, so that they
finish together however uneven the videos, and no rank waits for another while it works.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from utils.pipeline.workers import end_with_starter

# Rows that a rank takes at a time: few, so that ranks finish together; many, so that the counter is not contended.
CHUNK = 16

T = TypeVar("T")


class Ranks:
    """This process among those that `torchrun` or `accelerate launch` started, and the counter they share;
    alone without them.
    """

    def __init__(self):
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.store = None
        if self.world > 1:
            end_with_starter()  # the launcher: lest this rank write on beside the run that comes after
            from torch.distributed import rendezvous

            # torchrun's store is there before its ranks: one that does not answer has died with torchrun.
            minutes = 1 if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else 15
            self.store, _, _ = next(
                rendezvous("env://", rank=self.rank, world_size=self.world, timeout=timedelta(minutes=minutes))
            )

    def share(self, rows: Sequence[T]) -> Iterator[Sequence[T]]:
        """The chunks of `rows` that are this rank's to do, taken one by one while other ranks take others."""
        size = max(1, min(CHUNK, len(rows) // (32 * self.world))) if self.store else max(1, len(rows))
        taken = -1
        while (taken := self._count("taken") if self.store else taken + 1) * size < len(rows):
            yield rows[taken * size : (taken + 1) * size]

    def wait_for_rank_0(self, name: str) -> None:
        """Return on rank 0 at once; on the others when rank 0 has called this."""
        if self.store and self.rank == 0:
            self.store.set(name, "1")
        elif self.store:
            self.store.wait([name], timedelta(days=1))

    def after_rank_0(self, name: str, action: Callable[[], Any]) -> Any:
        """What `action()` gives, called on rank 0 first, and on the others when it has ended there, so that they find what it fetched.

        Where it fails on rank 0, which says why, the other ranks end too, without a word.
        """
        if self.store and self.rank != 0:
            self.store.wait([name], timedelta(days=1))
            if self.store.get(name) == b"failed":
                raise SystemExit(2)
        outcome = "failed"
        try:
            got = action()
            outcome = "done"
            return got
        finally:
            if self.store and self.rank == 0:
                self.store.set(name, outcome)

    def last_to_end(self) -> bool:
        """Whether this rank is the last that calls this; rank 0, which may keep the counter, returns only after all
        have.
        """
        if not self.store:
            return True
        last = self._count("ended") == self.world - 1
        while self.rank == 0 and self.store.add("ended", 0) < self.world:
            time.sleep(0.1)
        return last

    def _count(self, name: str) -> int:
        assert self.store is not None
        return self.store.add(name, 1) - 1
