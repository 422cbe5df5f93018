"""The audio of a clip: the samples of its span, in step with its frames, as AAC."""

from fractions import Fraction

import av
import numpy as np

from utils.errors import VideoError
from utils.video.opening import open_video

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz


def read_audio(path: str, start: Fraction, stop: Fraction) -> tuple[np.ndarray, int] | None:
    """Samples of [start, stop), in seconds of the container, float32 (channels, n), and their rate; None where there is
    no audio track.

    Gaps are silence, so that the audio stays in step with the frames. More than two channels are mixed down to stereo.

    Raises: `VideoError`.
    """
    with open_video(path) as (container, _):
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise VideoError(f"{path!r}: no decoder for its audio")
        seek_before(container, stream, start)
        rate = min((r for r in AAC_RATES if r >= stream.codec_context.sample_rate), default=AAC_RATES[-1])
        channels = min(2, stream.codec_context.layout.nb_channels)
        layout = "stereo" if channels == 2 else "mono"
        resampler, form = av.AudioResampler("fltp", layout, rate), None
        samples = np.zeros((channels, round((stop - start) * rate)), np.float32)
        cursor = None
        for frame in container.decode(stream):
            if form != (frame.format.name, frame.layout.name, frame.sample_rate):  # broadcasts change it midway
                form = (frame.format.name, frame.layout.name, frame.sample_rate)
                resampler = av.AudioResampler("fltp", layout, rate)
            for piece in resampler.resample(frame):
                data = piece.to_ndarray()
                if piece.pts is None or piece.time_base is None:
                    expected = cursor or 0
                else:
                    expected = round((piece.pts * piece.time_base - start) * rate)
                # Times that jitter (Matroska's are milliseconds) are smoothed, gaps are kept.
                if cursor is None or abs(expected - cursor) > rate // 50:
                    cursor = expected
                begin, end = max(cursor, 0), min(cursor + data.shape[1], samples.shape[1])
                if end > begin:
                    samples[:, begin:end] = data[:, begin - cursor : end - cursor]
                cursor += data.shape[1]
            if cursor is not None and cursor >= samples.shape[1]:
                break
        return samples, rate


def seek_before(container: av.container.InputContainer, stream: av.AudioStream, start: Fraction) -> None:
    """Go to a second before `start`, or to the beginning where seeking would end up after `start`."""
    assert stream.time_base is not None  # a stream that is demuxed has one
    first_pts = stream.start_time or 0
    target = max(int((start - 1) / stream.time_base), first_pts)
    container.seek(target, stream=stream, backward=True)
    first = next(container.decode(stream), None)
    too_late = first is None or first.pts is None or first.time is None or first.time > start
    container.seek(first_pts if too_late else target, stream=stream, backward=True)


def encode_audio(out: av.container.OutputContainer, samples: np.ndarray, rate: int) -> list[av.Packet]:
    """A new AAC track of `out` and its packets. `samples`: float32 (channels, n)."""
    stream = out.add_stream("aac", rate=rate, layout="stereo" if len(samples) == 2 else "mono")
    stream.options = {"aac_coder": "fast"}  # half the cost of the default at the same bit rate and SNR
    packets = []
    for at in range(0, samples.shape[1], 1024):
        piece = np.ascontiguousarray(samples[:, at : at + 1024])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=stream.codec_context.layout.name)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
        packets += stream.encode(frame)
    return packets + stream.encode(None)
