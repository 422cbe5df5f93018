"""Loudness of audio, and its share of silence and clipping."""

import warnings

import numpy as np

FLOOR = -70.0  # LUFS: the absolute gate of BS.1770; what is below it has no loudness
BLOCK = 0.4  # seconds, of the same
SILENCE = 10 ** (-60 / 20)  # of full scale, RMS; noise of quiet rooms and of 8-bit audio is above
PIECE = 0.05  # seconds that are silent or not
# Of full scale. AAC lowers what was cut off there: of music cut off 6 dB above it, 22 % of the samples are at full scale before encoding,
# 0.01 % after it, and 2.3 % above this; of the same music uncut none is.
FULL_SCALE = 0.95


def loudness(samples: np.ndarray, rate: int) -> float:
    """Integrated loudness in LUFS, ITU-R BS.1770-4, FLOOR where nothing is above it. samples: float32 (channels, n), full scale 1."""
    import pyloudnorm

    seconds = samples.shape[1] / rate
    if seconds < 0.1:
        return FLOOR
    meter = pyloudnorm.Meter(rate, block_size=min(BLOCK, seconds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means over no block
        found = float(meter.integrated_loudness(np.ascontiguousarray(samples.T, np.float64)))
    return max(FLOOR, found) if np.isfinite(found) else FLOOR


def silent_share(samples: np.ndarray, rate: int) -> float:
    """Share of the time in which all channels are below -60 dBFS (RMS over 50 ms), 0–1; 1 of no samples."""
    if not samples.size:
        return 1.0
    size = max(1, round(PIECE * rate))
    padded = np.pad(samples, ((0, 0), (0, -samples.shape[1] % size)), mode="edge")
    rms = np.sqrt(np.square(padded.reshape(len(samples), -1, size), dtype=np.float64).mean(2)).max(0)
    return float((rms < SILENCE).mean())


def clipping_share(samples: np.ndarray) -> float:
    """Share of samples at full scale, as encoders leave it, of the channel with most of them, 0–1."""
    return float((np.abs(samples) >= FULL_SCALE).mean(1).max()) if samples.size else 0.0
