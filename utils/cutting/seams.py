"""Splitting shots where the codec allows a cut, so that hardly anything is re-encoded.

A video can be cut without touching a frame where all packets before a place are shown before all packets after it: a
*seam*. A clip that begins with a frame that needs none before it, and at a seam (an *entry*), may end at any later
seam, also amid a group of pictures: what is decoded first never depends on what is decoded later.
"""

from bisect import bisect_left, bisect_right
from heapq import heappop, heappush

import numpy as np

TOLERANCE = 1.2e-3  # seconds that a clip may be longer or shorter than asked: twice the rounding of a timecode
MOST_LOST = 0.05  # of the frames that equal parts would keep
# The unit of cost is a frame encoded. What a frame lost costs is raised until no more than `MOST_LOST` of them are; a
# clip with encoded frames is also decoded, and every clip is a file with an audio track of its own.
LOST, DECODED, CLIP = (4, 16, 64, 256), 0.25, 8
NEIGHBOUR = 0.5  # seconds: of entries closer than this one is as good as another to end a clip at


def find_seams(pts: np.ndarray, needs_none: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries and seams, as numbers of frames in the order shown; the end of the video is a seam.

    `pts` of all packets in decoding order, each once; `needs_none`: whether a packet begins decoding anew.
    """
    if len(pts) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    latest_before = np.maximum.accumulate(pts)[:-1]
    earliest_from = np.minimum.accumulate(pts[::-1])[::-1]
    parted = np.concatenate([[True], latest_before < earliest_from[1:]])
    entries = np.flatnonzero(parted & needs_none & (pts == earliest_from))
    return entries, np.append(np.flatnonzero(parted), len(pts))


def split_at_seams(
    borders: np.ndarray,
    entries: np.ndarray,
    seams: np.ndarray,
    min_seconds: float,
    max_seconds: float,
    even: list[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Frame spans [first, stop) of a shot's clips that cost little to write and lose few of the frames that `even`, the
    spans of equal parts, would keep.

    `borders`: seconds at which the shot's frames begin, and at last its end; `entries` and `seams` in its frames.
    """
    count = len(borders) - 1
    shot = _Shot(borders.tolist(), entries.tolist(), seams.tolist(), min_seconds, max_seconds)
    enough = (1 - MOST_LOST) * sum(stop - first for first, stop in even)
    for lost in LOST:
        spans = shot.cheapest(lost)
        if sum(stop - first for first, stop in spans) >= min(enough, count):
            return spans if any(shot.encoded(*span) < span[1] - span[0] for span in spans) else even
    return even


class _Shot:
    """A shot's frames and where they can be parted; see `split_at_seams`."""

    def __init__(self, borders: list[float], entries: list[int], seams: list[int], shortest: float, longest: float):
        self.borders, self.entries, self.seams = borders, entries, seams
        self.shortest, self.longest = shortest - TOLERANCE, longest + TOLERANCE
        self.count = len(borders) - 1
        nearest = np.searchsorted(np.array(borders)[entries], np.arange(borders[0], borders[-1], NEIGHBOUR))
        self.sparse = sorted({entries[i] for i in nearest if i < len(entries)})
        # The last frames from which the rest is still enough for one clip, for two, ...
        most = 1 + int(longest / shortest)
        self.last = [bisect_right(borders, borders[-1] - k * shortest + TOLERANCE) - 1 for k in range(1, most + 1)]

    def seam_before(self, stop: int) -> int:
        """The last seam at or before a frame, 0 where there is none."""
        at = bisect_right(self.seams, stop)
        return self.seams[at - 1] if at else 0

    def encoded(self, first: int, stop: int) -> int:
        """Frames of a clip that must be encoded."""
        at = bisect_left(self.entries, first)
        entry = self.entries[at] if at < len(self.entries) else stop
        return stop - first - max(0, self.seam_before(stop) - entry)

    def ends(self, first: int) -> set[int]:
        """Frames before which a clip from `first` on may end."""
        low = bisect_left(self.borders, self.borders[first] + self.shortest)
        high = bisect_right(self.borders, self.borders[first] + self.longest) - 1
        found = set(self.sparse[bisect_left(self.sparse, low) : bisect_right(self.sparse, high)])
        for stop in [*self.last, self.count, *([] if found else [high])]:
            if low <= stop <= high:
                seam = self.seam_before(stop)
                snaps = seam >= low and self.encoded(first, seam) < seam - first
                found |= {seam if snaps else stop} | ({stop} if stop == self.count else set())
        return found

    def cheapest(self, lost: float) -> list[tuple[int, int]]:
        """The spans of least cost, where a frame lost costs as much as `lost` encoded ones: a shortest path over frames."""
        best = {0: (0.0, 0, False)}  # of a frame: the cost up to it, the frame before, whether a clip is between
        ahead = [0]
        while (first := heappop(ahead)) < self.count:
            at = bisect_right(self.entries, first)
            entry = self.entries[at] if at < len(self.entries) else self.count
            moves = [(entry, lost * (entry - first), False)]
            for stop in self.ends(first):
                encoded, length = self.encoded(first, stop), stop - first
                evenness = (length / self.count) ** 2  # settles what is equal otherwise
                moves.append((stop, encoded + DECODED * length * (encoded > 0) + CLIP + evenness, True))
            for stop, cost, is_clip in moves:
                if stop not in best:
                    heappush(ahead, stop)
                if stop not in best or best[first][0] + cost < best[stop][0]:
                    best[stop] = (best[first][0] + cost, first, is_clip)
        spans, stop = [], self.count
        while stop > 0:
            _, first, is_clip = best[stop]
            spans += [(first, stop)] if is_clip else []
            stop = first
        return spans[::-1]
