"""Timecodes, shots in seconds, and which of their frames become clips: arithmetic only, no files."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

ROUNDING = 6e-4  # seconds: half of a timecode's last digit, and a little for frames that begin exactly there


@dataclass(frozen=True)
class ClipLimits:
    """How clips are chosen from shots: the seconds kept out on both sides of a transition, the shortest and longest
    clip in seconds, how longer shots are split: `keyframe`, `even` or `greedy` (see `split_shot`, `split_at_seams`), and whether rather in
    pauses of speech (`split_in_pauses`).
    """

    transition_margin: float = 0.1
    min_seconds: float = 3
    max_seconds: float = 10
    long_shots: str = "keyframe"
    prefer_pauses: bool = False

    @property
    def settings(self) -> dict:
        """What a result depends on; without `prefer_pauses` where it is off, as files have it that are older than the choice."""
        return {name: value for name, value in asdict(self).items() if name != "prefer_pauses" or value}


def timecode(seconds: float) -> str:
    """`HH:MM:SS.mmm`, to the nearest millisecond."""
    milliseconds = round(seconds * 1000)
    minutes, hours = milliseconds // 60_000 % 60, milliseconds // 3_600_000
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000 % 60:02}.{milliseconds % 1000:03}"


def parse_timecode(text: str) -> float:
    """Seconds of "HH:MM:SS.mmm" (also "MM:SS" or plain seconds). Raises: `ValueError`."""
    seconds = 0.0
    for part in str(text).split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def shots_of(row: dict) -> list[tuple[float, float]]:
    """The shots [start, stop) of a row of cutscene_detect.py, in seconds. Raises: `KeyError`, `TypeError`, `ValueError` where there are none."""
    return [(parse_timecode(start), parse_timecode(stop)) for start, stop in row["timecode_list"]]


def unusable_of(row: dict) -> list[tuple[float, float]]:
    """Its transitions and damaged frames, spans that belong to no clip, in seconds. Raises: as `shots_of`."""
    spans = [*(transition[1:] for transition in row.get("transitions", [])), *row.get("damaged", [])]
    return [(parse_timecode(start), parse_timecode(stop)) for start, stop in spans]


def shot_borders(cuts: Iterable[float], frame_seconds: np.ndarray, end: float) -> list[float]:
    """Seconds at which shots begin, each the start of a frame, followed by `end`, where the last one stops.

    A detector may place a cut between two frames: the first frame from there on begins the shot.
    """
    first_frames = np.searchsorted(frame_seconds, np.array(sorted(cuts)) - ROUNDING)
    starts = sorted({0, *(int(i) for i in first_frames if i < len(frame_seconds))})
    return [*(float(frame_seconds[i]) for i in starts), end]


def long_enough(start: float, stop: float, min_seconds: float) -> bool:
    return stop - start >= min_seconds - 2 * ROUNDING


def clean_spans(row: dict, margin_seconds: float) -> list[tuple[float, float]]:
    """The shots of a row without its transitions and damaged frames, and a margin on both sides of each."""
    spans = shots_of(row)
    for start, stop in unusable_of(row):
        low, high = start - margin_seconds, stop + margin_seconds
        pieces = [piece for a, b in spans for piece in ([(a, b)] if b <= low or high <= a else [(a, low), (high, b)])]
        spans = [(a, b) for a, b in pieces if b > a]
    return spans


def usable_spans(row: dict, limits: ClipLimits) -> list[tuple[float, float]]:
    """The clean spans that are long enough for a clip."""
    spans = clean_spans(row, limits.transition_margin)
    return [(start, stop) for start, stop in spans if long_enough(start, stop, limits.min_seconds)]


def split_shot(borders: np.ndarray, min_seconds: float, max_seconds: float, long_shots: str) -> list[tuple[int, int]]:
    """Frame spans [first, stop) of a shot's clips. `borders`: seconds at which its frames begin, then its end.

    A shot of at most `max_seconds` is one clip. A longer one is split by `even` into the fewest equal parts (to a
    frame) that are short enough, by `greedy` into pieces of `max_seconds` and a rest that is dropped when it is shorter
    than `min_seconds`. Where equal parts would be shorter than `min_seconds`, greedy is used: some of such a shot must
    be lost.
    """
    if borders[-1] - borders[0] <= max_seconds + 2 * ROUNDING:
        return [(0, len(borders) - 1)]
    even = _even_parts(borders, min_seconds, max_seconds) if long_shots != "greedy" else []
    return even or _greedy_parts(borders, min_seconds, max_seconds)


def _even_parts(borders: np.ndarray, min_seconds: float, max_seconds: float) -> list[tuple[int, int]]:
    """The fewest equal parts within the limits; [] where there are none."""
    last, length, longest = len(borders) - 1, borders[-1] - borders[0], max_seconds + 2 * ROUNDING
    parts = int(np.ceil(length / longest))
    while parts <= length / min_seconds:
        wanted = np.linspace(borders[0], borders[-1], parts + 1)
        after = np.searchsorted(borders, wanted)
        before, after = np.maximum(after - 1, 0), np.minimum(after, last)
        at = np.where(np.abs(borders[before] - wanted) < np.abs(borders[after] - wanted), before, after)
        seconds = np.diff(borders[at])
        if seconds.max() <= longest and seconds.min() >= min_seconds - 2 * ROUNDING:
            return [(int(a), int(b)) for a, b in zip(at, at[1:])]
        parts += 1
    return []


def _greedy_parts(borders: np.ndarray, min_seconds: float, max_seconds: float) -> list[tuple[int, int]]:
    """Pieces of `max_seconds`, one after the other, and the rest if it is long enough."""
    last, longest = len(borders) - 1, max_seconds + 2 * ROUNDING
    spans, first = [], 0
    while first < last:
        stop = max(first + 1, int(np.searchsorted(borders, borders[first] + longest, side="right")) - 1)
        short_enough = borders[stop] - borders[first] <= longest  # not where one frame is shown for longer
        if short_enough and long_enough(borders[first], borders[stop], min_seconds):
            spans.append((first, stop))
        first = stop
    return spans
