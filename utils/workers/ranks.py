"""The ranks that torchrun or accelerate launch start, on one machine or several. They take chunks of the input from one
shared counter, so that they finish together however uneven the videos, and no rank waits for another while it works.
"""

import hashlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from utils.errors import RunError
from utils.workers.processes import end_with_starter

# Rows that a rank takes at a time: few, so that ranks finish together; many, so that the counter is not contended.
CHUNK = 16
SILENT_SECONDS = float(os.environ.get("RANK_SILENT_SECONDS", "60"))  # without a sign of life: a machine is dead
BEAT_SECONDS = min(5, SILENT_SECONDS / 4)  # between two signs of life of a rank
JOIN_SECONDS = 600  # for a machine that has not started its ranks yet
GO_ON = "finished work is saved, and the same command on every machine resumes"

T = TypeVar("T")


class Ranks:
    """This process among those that `torchrun` or `accelerate launch` started, and the counter they share;
    alone without them.

    The counter is a torch store on the machine of rank 0. A rank ends with exit code 1 where the store has not answered
    for SILENT_SECONDS, and rank 0 where another rank has given no sign of life for so long.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.store: Any = None
        self._alone: Counter[str] = Counter()  # the counts of a process without a store
        if self.world > 1:
            end_with_starter()  # the launcher: lest this rank write on beside the run that comes after
            from torch.distributed import rendezvous

            # torchrun's store is there before its ranks: one that does not answer has died with torchrun.
            minutes = 1 if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else 15
            self.store, _, _ = next(
                rendezvous("env://", rank=self.rank, world_size=self.world, timeout=timedelta(minutes=minutes))
            )
            self._answered, self._left = time.monotonic(), False
            for watch in (self._beat, self._watch_store):
                threading.Thread(target=watch, daemon=True).start()

    def share(self, rows: Sequence[T]) -> Iterator[Sequence[T]]:
        """The chunks of `rows` that are this rank's to do, taken one by one while other ranks take others."""
        size = max(1, min(CHUNK, len(rows) // (32 * self.world)) if self.world > 1 else len(rows))
        while (start := size * self._count("taken")) < len(rows):
            yield rows[start : start + size]

    def agree_on(self, keys: Iterable[str]) -> None:
        """Return on rank 0 at once; on the others when rank 0 has called this with the same keys in the same order.

        Raises: `RunError` where they are others: chunks are taken by number, so rows would be lost and done twice.
        """
        if not self.store:
            return
        sha = hashlib.sha256()
        for key in keys:
            sha.update(key.encode(errors="surrogatepass") + b"\0")
        if self.rank == 0:
            self.store.set("input", sha.hexdigest())
        elif self._value_of("input") != sha.hexdigest().encode():
            raise RunError(
                f"rank {self.rank} on this machine sees a different input than rank 0: is the dataset folder the same on "
                "all machines, and is nobody writing to it? Wait a minute (network file systems cache), then start again"
            )

    def after_rank_0(self, name: str, action: Callable[[], Any]) -> Any:
        """What `action()` gives, called on rank 0 first, and on the others when it has ended there, so that they find what it fetched.

        If it fails on rank 0, which reports the error, the other ranks exit silently.
        """
        if self.store and self.rank != 0 and self._value_of(name) == b"failed":
            raise SystemExit(2)
        outcome = "failed"
        try:
            got = action()
            outcome = "done"
            return got
        finally:
            if self.store and self.rank == 0:
                self.store.set(name, outcome)

    def all_ended(self) -> bool:
        """True on rank 0, when every rank has called this: the time to merge, which `release` ends. False on the others, when
        rank 0 has merged, so that a script that follows finds the same file on every machine.

        Raises: `RunError` where a rank died, or its machine.
        """
        self._count("ended")
        if not self.store:
            return True
        if self.rank == 0:
            self._wait_for_all("ended")
            return True
        self._value_of("released")
        self._left = True
        self._count("left")
        return False

    def release(self) -> None:
        """On rank 0: let the others end, and end last, because the store may be this process's."""
        if self.store and self.rank == 0:
            self._count("left")
            self.store.set("released", "1")
            self._wait_for_all("left")
            self._left = True

    def _wait_for_all(self, name: str) -> None:
        seen: dict[int, tuple[int, float]] = {}  # beats of each rank, and when their number last changed
        while self.store.add(name, 0) < self.world:
            now = time.monotonic()
            for rank in range(1, self.world):
                if self.store.check([f"{name} {rank}"]):
                    seen.pop(rank, None)
                    continue
                beats = self.store.add(f"beats {rank}", 0)
                if rank not in seen or seen[rank][0] != beats:
                    seen[rank] = beats, now
                if now - seen[rank][1] > (SILENT_SECONDS if beats else JOIN_SECONDS):
                    state = "has died, or its machine" if beats else "was never started"
                    raise RunError(f"rank {rank} of {self.world} {state}: no sign of life; its rows are not done")
            time.sleep(0.1 if self.world < 64 else 2)

    def _value_of(self, name: str) -> bytes:
        """What rank 0 sets `name` to, once it has. Polled, because a wait inside the store heeds no signal."""
        while not self.store.check([name]):
            time.sleep(0.1)
        return self.store.get(name)

    def _count(self, name: str) -> int:
        """How often all ranks together have called this before."""
        if not self.store:
            self._alone[name] += 1
            return self._alone[name] - 1
        if name != "taken":
            self.store.set(f"{name} {self.rank}", "1")
        return self.store.add(name, 1) - 1

    def _beat(self) -> None:
        """In a thread: sign after sign of life, over a connection of its own."""
        try:
            store = self.store.clone()
            while not self._left:
                store.add(f"beats {self.rank}", 1)
                self._answered = time.monotonic()
                time.sleep(BEAT_SECONDS)
        except RuntimeError:  # DistError: the connection is gone
            self._answered = float("-inf")

    def _watch_store(self) -> None:
        """In a thread: end this process where the store is gone, since a call to it may never return."""
        while not self._left:
            if time.monotonic() - self._answered > SILENT_SECONDS:
                time.sleep(1)  # a launcher that ends this rank too needs no second message
                if not self._left:
                    at = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
                    print(
                        f"stopped: rank {self.rank}: the counter at {at} is gone: rank 0 has ended and reported why, or its "
                        f"machine died; {GO_ON}",
                        file=sys.stderr,
                        flush=True,
                    )
                    os._exit(1)
            time.sleep(0.5)
