"""Measure each clip's audio: loudness, silence, clipping, and whether the clip begins or ends mid-speech.

Columns added: has_audio; loudness, LUFS (ITU-R BS.1770-4), -70 without audio; silent_share, share of the time below -60 dBFS in all
channels; clipping_share, share of the samples at full scale; speech_share, share of the time with speech (Silero VAD); speech_at_start and
speech_at_end, 1 if there is speech within 0.15 s of that edge, so that a word may be cut off; channels and sample_rate (Hz) of the audio track, 0 without one.

    python compute_audio_score.py --video_folder datasets/panda_70m/train --saved_path audio.jsonl
    python compute_audio_score.py --video_metadata_path clips.jsonl --video_folder CLIPS --n_jobs 8
    python filter_videos_by_motion_score.py --video_metadata_path clips.jsonl --filter audio.jsonl loudness -40 none --filter audio.jsonl speech_at_end none 0

The measured span is that of the clip's frames: if the audio ends earlier, the rest counts as silence. More than two channels are mixed down to two
first. The voice activity detector comes with the package silero-vad and runs on the CPU.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

from fractions import Fraction
from functools import partial
from math import gcd

import numpy as np

from utils.cli import from_flags, row_parser, run
from utils.cutting.audio import read_audio
from utils.errors import VideoError
from utils.models.voice import MODEL, RATE, voice_detector, weights
from utils.models.weights import sha256_of
from utils.pipeline.process import RunOptions, process_rows
from utils.pipeline.row_list import open_rows
from utils.pipeline.score import Column, Score
from utils.scoring.audio_levels import FLOOR, clipping_share, loudness, silent_share
from utils.video.opening import audio_track, decode, open_video, time_base_of
from utils.video.timing import frame_rate, last_frame_length, packet_times
from utils.video_utils import locate

SCORE = Score(
    "audio",
    "audio.jsonl",
    {
        "has_audio": Column("whether there is an audio track", 0, 1),
        "loudness": Column("integrated loudness, LUFS; -70 where there is none", FLOOR, passes=(-40, None)),
        "silent_share": Column("share of the time below -60 dBFS", 0, 1, passes=(None, 0.5)),
        "clipping_share": Column("share of the samples at full scale", 0, 1, passes=(None, 0.01)),
        "speech_share": Column("share of the time with speech", 0, 1),
        "speech_at_start": Column("1 where speech is within 0.15 s of the start, else 0", 0, 1),
        "speech_at_end": Column("the same of the end", 0, 1),
        "channels": Column("channels of the audio track, 0 without one", 0),
        "sample_rate": Column("its rate, Hz, 0 without one", 0),
    },
    stills=False,
)
EDGE = 0.15  # seconds
LONGEST = 1800  # seconds, of which the samples take a gigabyte


def audio_columns(samples: np.ndarray, rate: int) -> dict:
    """What is measured of samples, float32 (channels, n), full scale 1, at `rate` Hz."""
    from scipy.signal import resample_poly

    seconds, common = samples.shape[1] / rate, gcd(rate, RATE)
    mono = samples.mean(0)
    if len(mono) and rate != RATE:
        mono = resample_poly(mono, RATE // common, rate // common).astype(np.float32)
    spans = voice_detector().speech(mono) if len(mono) else []
    return {
        "loudness": round(loudness(samples, rate), 2),
        "silent_share": round(silent_share(samples, rate), 4),
        "clipping_share": round(clipping_share(samples), 6),
        "speech_share": round(sum(stop - start for start, stop in spans) / seconds, 4) if seconds else 0,
        "speech_at_start": int(any(start <= EDGE for start, _ in spans)),
        "speech_at_end": int(any(stop >= seconds - EDGE for _, stop in spans)),
    }


def span_of(path: str) -> tuple[Fraction, Fraction]:
    """Seconds of the container in which its first frame begins and its last one ends. Raises: `VideoError`."""
    with open_video(path) as (container, stream):
        known = packet_times(container, stream)
        time_base, declared = time_base_of(stream), stream.average_rate
    if known is None:
        with open_video(path) as (container, stream):
            times = np.array([frame.pts for frame in decode(container, stream)], np.int64)
    else:
        times = known[0]
    rate = frame_rate(times, time_base, declared)
    end = int(times[-1]) + last_frame_length(times, rate, time_base)
    return int(times[0]) * time_base, end * time_base


def read(row: dict, video_folder: str | None) -> dict:
    path = locate(row["video_path"], video_folder)
    with open_video(path) as (container, stream):
        track = audio_track(container, stream)
        codec = track.codec_context if track else None
        channels, rate = (codec.layout.nb_channels, codec.sample_rate) if codec else (0, 0)
    start, stop = span_of(path)
    if stop - start > LONGEST:
        raise VideoError(
            f"{path!r} is {float(stop - start):,.0f} s long; audio is scored up to {LONGEST:,} s: cut it into clips first"
        )
    audio = read_audio(path, start, stop)
    samples, rate_read = (np.zeros((1, 0), np.float32), RATE) if audio is None else audio
    return {
        "has_audio": audio is not None,
        **audio_columns(samples, rate_read),
        "channels": channels,
        "sample_rate": rate,
    }


def main() -> None:
    parser = row_parser(__doc__, SCORE.saved_path)
    args = parser.parse_args()
    voice = {"voice": MODEL, "voice_sha256": sha256_of(weights())[:16]}
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    step = SCORE.step(partial(read, video_folder=args.video_folder), voice)
    process_rows(step, rows, from_flags(RunOptions, args))


if __name__ == "__main__":
    run(main)
