"""Whether two clips are copies: frames that match in order and in time.

Two moments before a fixed camera show the same background, and hashes of their frames match. What tells them from copies is what moves.
So of each clip a thumbnail is kept eight times a second, and of two clips the change from one thumbnail to a later one is correlated, at
every offset in time. Where nothing moves in either, two clips are copies if their pictures are the same.

The constants were chosen on films of `benchmarks.judged`'s half "choose", and on changed copies of them: see docs/scores.md.
"""

import base64
import zlib

import cv2
import numpy as np

RATE = 8  # thumbnails a second: at four, two clips that are cut an eighth of a second apart no longer agree on fast movement
SIDE = 8  # pixels of their sides: 16 lose crops of 4 %
LONGEST = 64.0  # seconds of a clip that are looked at
LAG = 2  # thumbnails between which change is measured
OVERLAP = 0.6  # of the shorter clip, at least, at any offset
AGREE = 0.6  # of the change, from which on two clips are copies; copies have 0.65 and more, other moments up to 0.47
NOISE = 0.5  # gray levels, RMS, of change that says nothing: slides have up to 0.13, the stillest clip of a scene 0.7
SAME_SCENE = 0.85  # correlation of two mean thumbnails
SAME_STILL = 4.0  # gray levels between mean thumbnails where nothing moves; coding makes 1.1


def thumbnail_times(seconds: float) -> np.ndarray:
    """When thumbnails are taken, seconds."""
    return np.arange(max(1, int(min(seconds, LONGEST) * RATE + 1e-6))) / RATE


def thumbnails_of(frames: np.ndarray) -> np.ndarray:
    """uint8 (T, SIDE * SIDE) of frames without bars, uint8 (T, H, W), gray."""
    small = [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(small).reshape(len(frames), -1)


def packed(thumbnails: np.ndarray) -> str:
    """As text: differences in time, which are small, deflated."""
    return base64.b85encode(zlib.compress(np.diff(thumbnails, axis=0, prepend=np.uint8(0)).tobytes(), 9)).decode()


def unpacked(text: str) -> np.ndarray:
    steps = np.frombuffer(zlib.decompress(base64.b85decode(text)), np.uint8).reshape(-1, SIDE * SIDE)
    return np.cumsum(steps, axis=0, dtype=np.uint8)


def are_copies(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the thumbnails of two clips, uint8 (T, SIDE * SIDE), agree at some offset in time."""
    both: list[np.ndarray] = sorted((one.astype(np.float32), other.astype(np.float32)), key=len)
    shorter, longer = both
    # Between two thumbnails, too: the clips' starts need not be a whole number of them apart.
    return _agree(shorter, longer) or _agree(shorter, (longer[1:] + longer[:-1]) / 2)


def _agree(shorter: np.ndarray, longer: np.ndarray) -> bool:
    """The same of offsets of whole thumbnails: shorter[t] beside longer[t + offset]."""
    lag = min(LAG, len(shorter) - 1, len(longer) - 1)
    if lag < 0:
        return False
    # Without its mean over time: a slow pan changes in the same way from its first piece to the next.
    x, y = (clip[lag:] - clip[: len(clip) - lag] for clip in (shorter, longer))
    x, y = x - x.mean(0), y - y.mean(0)
    size = len(x) + len(y)
    together = np.fft.irfft((np.fft.rfft(x, size, axis=0).conj() * np.fft.rfft(y, size, axis=0)).sum(1), size)
    offsets = np.arange(1 - len(x), len(y))
    begin, end = np.maximum(0, -offsets), np.minimum(len(x), len(y) - offsets)
    is_long = end - begin + lag >= OVERLAP * len(shorter)
    offsets, begin, end = offsets[is_long], begin[is_long], end[is_long]
    of_x, of_y = (_sums((change**2).sum(1)) for change in (x, y))
    alone = of_x[end] - of_x[begin] + of_y[end + offsets] - of_y[begin + offsets]
    noise = NOISE**2 * x.shape[1] * (end - begin)
    agrees = 2 * together[offsets] + noise >= AGREE * (alone + noise)
    # Mean pictures, float (offsets, cells), about their mean.
    of_x, of_y, count = _sums(shorter), _sums(longer), (end - begin + lag)[:, None]
    p = (of_x[end + lag] - of_x[begin]) / count
    q = (of_y[end + lag + offsets] - of_y[begin + offsets]) / count
    p, q = p - p.mean(1, keepdims=True), q - q.mean(1, keepdims=True)
    product, energy = (p * q).sum(1), (p * p).sum(1)
    is_scene = product >= SAME_SCENE * np.sqrt(energy * (q * q).sum(1))
    gain = np.clip(product / np.maximum(energy, 1e-6), 0.5, 2)[:, None]  # of a darker copy
    is_picture = np.abs(q - gain * p).max(1) <= SAME_STILL
    return bool((agrees & np.where(alone < noise, is_picture, is_scene)).any())


def _sums(values: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, 2, … along the first axis."""
    return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0, dtype=np.float64)])
