"""Where there is speech, by Silero VAD.

Its weights (MIT) come inside the silero-vad wheel; onnxruntime runs the graph that takes a whole sequence of windows at once, so that neither
torch nor the package itself is imported. The network is told nothing of words: it hears voices, also in other languages and in song.
"""

from functools import cache
from pathlib import Path

import numpy as np

from utils.models.weights import from_package

MODEL = "silero_vad_16k_sequence.onnx"
SHA256 = "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"
RATE = 16_000  # Hz, mono
WINDOW, CONTEXT = 512, 64  # samples that a probability is of, and those before them that the network sees as well
# The network hears that speech begins some windows late. Before the beginning it is given what follows it, backwards: so it
# has heard a voice that is there from the first sample, and silence before silence.
LEAD = 16  # windows
BLOCK = 512  # windows a call, 16 s
# The package's own choices: speech begins above the first probability and ends below the second; shorter pauses do not
# end it, shorter speech is none.
BEGINS, ENDS = 0.5, 0.35
SHORTEST_PAUSE, SHORTEST_SPEECH = 0.1, 0.25  # seconds


def weights() -> Path:
    """The network inside the installed package, found without importing it, which would import torch.

    Raises: `UsageError` where it is not there, or is another one.
    """
    return from_package("silero_vad", f"data/{MODEL}", "silero-vad==6.2.3", SHA256)


class VoiceDetector:
    """spans = VoiceDetector().speech(samples)"""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(weights()), options, providers=["CPUExecutionProvider"])

    def probabilities(self, samples: np.ndarray) -> np.ndarray:
        """Of speech in each window of 32 ms, float32 (n,), 0–1. samples: float32 (m,), at `RATE`."""
        if not len(samples):
            return np.zeros(0, np.float32)
        lead = samples[: LEAD * WINDOW][::-1]
        lead = lead[len(lead) % WINDOW :]
        samples = np.concatenate([lead, samples])
        count = -(-len(samples) // WINDOW)
        padded = np.zeros(CONTEXT + count * WINDOW, np.float32)
        padded[CONTEXT : CONTEXT + len(samples)] = samples
        windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + WINDOW)[::WINDOW]
        h = c = np.zeros((1, 1, 128), np.float32)
        found = []
        for first in range(0, count, BLOCK):
            block = np.ascontiguousarray(windows[first : first + BLOCK])
            probabilities, h, c = self.session.run(None, {"input": block, "h": h, "c": c})
            found.append(probabilities)
        return np.concatenate(found)[len(lead) // WINDOW :]

    def speech(self, samples: np.ndarray) -> list[tuple[float, float]]:
        """Spans [start, stop) of speech in seconds, rising. samples: float32 (m,), at `RATE`."""
        return speech_spans(self.probabilities(samples), len(samples) / RATE)


@cache
def voice_detector() -> VoiceDetector:
    """One for each process."""
    return VoiceDetector()


def speech_spans(probabilities: np.ndarray, seconds: float) -> list[tuple[float, float]]:
    """The spans of speech in audio of so many seconds. Speech that reaches an edge may be shorter than SHORTEST_SPEECH: the rest of it
    is on the other side.
    """
    step, spans, start = WINDOW / RATE, [], None
    for number, probability in enumerate(probabilities.tolist()):
        if start is None and probability >= BEGINS:
            start = number
        elif start is not None and probability < ENDS:
            spans.append([start, number])
            start = None
    if start is not None:
        spans.append([start, len(probabilities)])
    joined: list[list[int]] = []
    for span in spans:
        if joined and (span[0] - joined[-1][1]) * step < SHORTEST_PAUSE:
            joined[-1][1] = span[1]
        else:
            joined.append(span)
    at_edge = {i for i, (a, b) in enumerate(joined) if a <= 1 or b >= len(probabilities) - 1}
    kept = [span for i, span in enumerate(joined) if i in at_edge or (span[1] - span[0]) * step >= SHORTEST_SPEECH]
    return [(a * step, min(b * step, seconds)) for a, b in kept]
