"""A clip's audio in the format of a captioning model, and whether a model accepts audio."""

import io
import time
import wave

import av
import numpy as np

from utils.captioning.chat import Engine, Request, Sampling, Sound
from utils.errors import Failure, UsageError, VideoError
from utils.video.opening import audio_track, open_video

RATE = 16_000  # Hz, mono: what models that hear resample to
LONGEST = 60  # seconds; clips are shorter
HEARD = "The sound of the clip is given as well: say also what is heard, and who or what makes it."
HEARING = "What do you hear? Answer in one short sentence."


def read_sound(path: str) -> Sound | None:
    """The first audio track, mono at 16 kHz, 16 bits, its first minute; None where there is none.

    Raises: `VideoError`.
    """
    with open_video(path) as (container, video):
        stream = audio_track(container, video)
        if stream is None:
            return None
        if stream.codec_context is None:
            raise VideoError(f"{path!r}: no decoder for its audio")
        resampler, pieces, count = av.AudioResampler("s16", "mono", RATE), [], 0
        for frame in container.decode(stream):
            for piece in resampler.resample(frame):
                pieces.append(piece.to_ndarray()[0])
                count += len(pieces[-1])
            if count >= LONGEST * RATE:
                break
    samples = np.concatenate(pieces)[: LONGEST * RATE] if pieces else np.zeros(0, np.int16)
    return wav(samples) if len(samples) else None


def wav(samples: np.ndarray) -> Sound:
    """samples: int16 (n,), at `RATE`."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return Sound(out.getvalue())


def check_hearing(engine: Engine) -> None:
    """Send a second of a tone.

    Raises: `UsageError` where the model or its server does not take it.
    """
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.int16)
    engine.submit(Request("", 0, [wav(tone), HEARING], Sampling(64)))
    while not (done := list(engine.finished())):
        time.sleep(0.005)
    ((_, answer),) = done
    if isinstance(answer, Failure):
        raise UsageError(f"--with_audio: the model takes no audio, or its server does not pass it on: {answer.message}")
