"""Splitting long shots at pauses in speech, so that clips do not begin or end mid-word where this is avoidable."""

from fractions import Fraction
from math import gcd

import numpy as np

from utils.cutting.audio import ReadAudio
from utils.cutting.seams import TOLERANCE
from utils.models.voice import RATE, voice_detector

NEAR = 0.15  # seconds: speech this close to a border is heard at the clip's edge
PIECE = 120  # seconds of audio that are looked at together
GRID = 0.5  # seconds between places that are thought of beside the middles of pauses
# What a border costs: within speech, near it, and where the clip after it cannot be copied from its first frame on. Evenness, at
# most 1 for all clips together, settles the rest.
WITHIN, CLOSE, ENCODED = 1000.0, 100.0, 2.0


def speech_between(read_audio: ReadAudio, start: Fraction, stop: Fraction) -> list[tuple[float, float]]:
    """Spans [a, b) of speech in seconds from `start` on, rising; none where there is no audio. Raises: `VideoError`."""
    from scipy.signal import resample_poly

    spans: list[tuple[float, float]] = []
    for begin in np.arange(0, float(stop - start), PIECE).tolist():
        audio = read_audio(start + Fraction(begin), min(stop, start + Fraction(begin) + PIECE))
        if audio is None:
            return []
        samples, rate = audio
        common = gcd(rate, RATE)
        mono = resample_poly(samples.mean(0), RATE // common, rate // common).astype(np.float32)
        spans += [(begin + a, begin + b) for a, b in voice_detector().speech(mono)]
    return spans


def split_in_pauses(
    borders: np.ndarray,
    speech: list[tuple[float, float]],
    entries: np.ndarray,
    min_seconds: float,
    max_seconds: float,
    parts: list[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Frame spans [first, stop) of a shot's clips, which lose no frame and are parted in pauses where they can be; `parts`, where there is
    no speech, or no such clips within the limits.

    `borders`: seconds at which the shot's frames begin, and at last its end; `speech`: spans in the same seconds; `entries`: frames that a
    copied clip may begin with, `parts`: the spans that the shot is split into otherwise.
    """
    if not speech or borders[-1] - borders[0] <= max_seconds + TOLERANCE:
        return parts
    last = len(borders) - 1
    middles = [(a + b) / 2 for (_, a), (b, _) in zip(speech, speech[1:])]
    wanted = [*middles, *np.arange(borders[0], borders[-1], GRID).tolist()]
    places = {
        *np.searchsorted(borders, wanted).tolist(),
        *entries.tolist(),
        *(at for part in parts for at in part),
        last,
    }
    at = np.array(sorted(place for place in places if 0 <= place <= last))
    cost = border_costs(borders[at], speech) + np.where(np.isin(at, entries), 0, ENCODED)
    cost[-1] = 0
    total, before = np.full(len(at), np.inf), np.zeros(len(at), int)
    total[at == 0] = 0
    seconds = borders[at]
    for i in range(1, len(at)):  # a shortest path over the places
        low = int(np.searchsorted(seconds, seconds[i] - max_seconds - TOLERANCE))
        high = int(np.searchsorted(seconds, seconds[i] - min_seconds + TOLERANCE, side="right"))
        if low < high:
            evenness = ((seconds[i] - seconds[low:high]) / (seconds[-1] - seconds[0])) ** 2
            sums = total[low:high] + evenness
            best = int(sums.argmin())
            total[i], before[i] = sums[best] + cost[i], low + best
    if not np.isfinite(total[-1]):
        return parts
    spans, i = [], len(at) - 1
    while i > 0:
        spans.append((int(at[before[i]]), int(at[i])))
        i = int(before[i])
    return spans[::-1]


def border_costs(seconds: np.ndarray, speech: list[tuple[float, float]]) -> np.ndarray:
    """What it costs to part a shot at each of these times, beside encoding: float (n,)."""
    starts, stops = np.array(speech).T
    after = np.searchsorted(starts, seconds, side="right")  # the first span that begins later
    to_next = np.append(starts, np.inf)[after] - seconds
    from_last = seconds - np.append(-np.inf, stops)[after]  # below 0 within the last one
    near = np.minimum(to_next, from_last)
    return np.where(near < 0, WITHIN, np.where(near < NEAR, CLOSE, 0.0))
