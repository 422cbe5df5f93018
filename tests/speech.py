"""Speech for tests, by eSpeak NG, whose library comes in the wheel espeakng-loader."""

import ctypes
import functools

import numpy as np

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "She sells sea shells by the sea shore.",
    "Peter Piper picked a peck of pickled peppers.",
)
RETRIEVAL, UTF8 = 1, 1  # espeak_ng/speak_lib.h: AUDIO_OUTPUT_RETRIEVAL, espeakCHARS_UTF8


@functools.cache
def _library() -> tuple[ctypes.CDLL, int]:
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(RETRIEVAL, 0, espeakng_loader.get_data_path().encode(), 0)
    assert rate > 0
    library.espeak_SetVoiceByName(b"en")
    return library, rate


@functools.cache
def speak(text: str, rate: int = 48_000) -> np.ndarray:
    """The text spoken, from the first audible sample to the last, float32 (samples,)."""
    from scipy.signal import resample_poly

    library, spoken_rate = _library()
    pieces = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def take(samples, count, _) -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(take)
    written = text.encode()
    library.espeak_Synth(written, len(written) + 1, 0, 0, 0, UTF8, None, None)
    library.espeak_Synchronize()
    spoken = resample_poly(np.concatenate(pieces) / 32768, rate, spoken_rate).astype(np.float32)
    heard = np.flatnonzero(np.abs(spoken) > 0.02)
    return spoken[heard[0] : heard[-1] + 1]


def talk(pauses: tuple[float, ...], rate: int = 48_000) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """A pause of so many seconds, a sentence, the next pause, the next sentence, …; and the spans of the sentences in seconds."""
    pieces, spans, at = [], [], 0
    for number, pause in enumerate(pauses):
        spoken = (
            speak(SENTENCES[number % len(SENTENCES)], rate) if number < len(pauses) - 1 else np.zeros(0, np.float32)
        )
        begin = at + round(pause * rate)
        pieces += [np.zeros(begin - at, np.float32), spoken]
        at = begin + len(spoken)
        if len(spoken):
            spans.append((begin / rate, at / rate))
    return np.concatenate(pieces), spans
