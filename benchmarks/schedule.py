"""How evenly ranks finish, and what the counter that they share has to bear: a simulation of 1,000 ranks and 10,000,000
clips on the real claiming code, `Ranks.share`, whose counter charges simulated time.

    python -m benchmarks.schedule
    python -m benchmarks.schedule --ranks 10000 --seconds 0.01

A clip takes log-normal time (`--seconds` on average, `--sigma` of the logarithm). An operation of the counter waits in one
queue and takes as long as one of torch's TCPStore does here, measured first, and the way through a network. "idle" is the
share of all ranks' time in which no clip is worked on: "counter" waiting for an operation, "end" waiting for the last rank.
A rank claims when it has finished a chunk; the real one reads ahead, which hides the way to the counter.
"""

import argparse
import heapq
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from benchmarks.measure import table
from utils.workers import ranks as claiming

CHUNKS = (1, 4, 16, 64, 256, 1024)
CLIPS_PER_RANK = (8, 32, 128, 1024)


class SimulatedCounter:
    """A counter of which one operation is done at a time. `now`: when the caller asks; then, when it has its answer."""

    def __init__(self, service_seconds: float, latency_seconds: float):
        self.service, self.latency = service_seconds, latency_seconds
        self.now = self.free_at = 0.0
        self.count = 0

    def add(self, name: str, amount: int) -> int:
        self.free_at = max(self.now + self.latency / 2, self.free_at) + self.service
        self.now = self.free_at + self.latency / 2
        self.count += amount
        return self.count


@dataclass(frozen=True)
class Schedule:
    """What came of a run: seconds from its start to its end, shares of all ranks' time, operations of the counter."""

    seconds: float
    waiting_for_counter: float
    waiting_for_end: float
    operations: int


def simulate(costs: np.ndarray, world: int, counter: SimulatedCounter) -> Schedule:
    """`costs`: float (clips,), seconds that each clip takes."""
    ranks = claiming.Ranks()
    ranks.world, ranks.store = world, counter
    until = np.concatenate([[0.0], np.cumsum(costs)])  # seconds of all clips before each
    working = [(0.0, rank) for rank in range(world)]  # when each is free, in the order of a heap
    shares = [ranks.share(range(len(costs))) for _ in range(world)]
    asked = end = ended = 0.0
    while working:
        free_at, rank = working[0]
        counter.now = free_at
        chunk = next(shares[rank], None)
        asked += counter.now - free_at
        if chunk is None:
            heapq.heappop(working)
            end, ended = max(end, counter.now), ended + counter.now
        else:
            heapq.heapreplace(working, (counter.now + until[chunk.stop] - until[chunk.start], rank))
    total = world * end
    return Schedule(end, asked / total, (total - ended) / total, counter.count)


def store_throughput(clients: int, seconds: float) -> tuple[float, float]:
    """Operations a second of one TCPStore that `clients` processes ask at once, and seconds that one waits when alone."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def asked(count: int) -> int:
        context = multiprocessing.get_context("spawn")
        with context.Pool(count, initializer=_connect, initargs=(store.port,)) as pool:
            return sum(pool.map(_ask, [seconds] * count, chunksize=1))

    alone = asked(1)
    return max(alone, asked(clients)) / seconds, seconds / alone


def _connect(port: int) -> None:
    global client
    from torch.distributed import TCPStore

    client = TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=30))


def _ask(seconds: float) -> int:
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        client.add("taken", 1)
        count += 1
    return count


def chunk_table(costs: np.ndarray, world: int, new_counter: Callable[[], SimulatedCounter]) -> str:
    """Chunk sizes with all clips."""
    rows, before = [], claiming.CHUNK
    for chunk in CHUNKS:
        claiming.CHUNK = chunk
        run = simulate(costs, world, new_counter())
        name = f"{chunk}" + (" (as it is)" if chunk == before else "")
        rows.append([name, f"{run.operations / run.seconds:,.0f}", *_shares(run), f"{run.seconds:,.1f}"])
    claiming.CHUNK = before
    return table(["rows a chunk", "counter operations / s", "idle", "counter", "end", "seconds"], rows)


def small_table(costs: np.ndarray, world: int, new_counter: Callable[[], SimulatedCounter]) -> str:
    """Few clips a rank, for which `share` makes chunks smaller than CHUNK, beside chunks of one row."""
    rows, before = [], claiming.CHUNK
    for clips in CLIPS_PER_RANK:
        if clips * world > len(costs):
            continue
        claiming.CHUNK = 1
        one = simulate(costs[: clips * world], world, new_counter())
        claiming.CHUNK = before
        run = simulate(costs[: clips * world], world, new_counter())
        claims = run.operations - world  # the last of each rank finds nothing
        rows.append([f"{clips}", f"{clips * world / claims:.0f}", *_shares(run), _shares(one)[0]])
    return table(["clips a rank", "rows a chunk", "idle", "counter", "end", "idle by single rows"], rows)


def _shares(run: Schedule) -> list[str]:
    """All that is idle, and its two causes."""
    counter, end = run.waiting_for_counter, run.waiting_for_end
    return [f"{share:.2%}" for share in (counter + end, counter, end)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=0.25, help="that a rank takes for a clip, on average")
    parser.add_argument(
        "--sigma", type=float, default=1.0, help="of the logarithm: 1 has one clip in 100 take 6 x the mean"
    )
    parser.add_argument("--latency_ms", type=float, default=0.2, help="to the store and back")
    parser.add_argument("--clients", type=int, default=4, help="processes that measure the store")
    parser.add_argument("--operations", type=float, help="a second that the store bears (default: measured)")
    args = parser.parse_args()
    operations = args.operations
    if operations is None:
        operations, alone = store_throughput(args.clients, seconds=2.0)
        print(f"TCPStore.add here: {operations:,.0f} operations a second, {1e3 * alone:.3f} ms for one client alone\n")

    def new_counter() -> SimulatedCounter:
        return SimulatedCounter(1 / operations, args.latency_ms / 1e3)

    mean_log = np.log(args.seconds) - args.sigma**2 / 2
    costs = np.random.default_rng(0).lognormal(mean_log, args.sigma, args.clips)
    print(f"{args.clips:,} clips of {args.seconds:g} s on average, {args.ranks:,} ranks:\n")
    print(chunk_table(costs, args.ranks, new_counter))
    print("\nFew clips, chunks as `share` makes them:\n")
    print(small_table(costs, args.ranks, new_counter))
    limit = operations * claiming.CHUNK * args.seconds
    print(f"\nWith {claiming.CHUNK} rows a chunk, one store is the bottleneck from {limit:,.0f} such ranks on.")


if __name__ == "__main__":
    main()
