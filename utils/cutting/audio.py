"""The audio of a clip: the samples of its span, in sync with its frames, as AAC."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import av
import numpy as np

from utils.errors import VideoError
from utils.video.opening import JUMP_BACK, audio_track, open_video
from utils.video.timing import Clock

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
# Samples of a span [start, stop) in seconds, float32 (channels, n), and their rate; None where there is no audio.
ReadAudio = Callable[[Fraction, Fraction], tuple[np.ndarray, int] | None]
# Decoded audio: the time of its first sample in seconds, None where it follows the one before; float32 (channels, n).
Piece = tuple[Fraction | None, np.ndarray]


@dataclass(frozen=True)
class Joint:
    """Where a file's times begin anew: the time of the first frame from there on, in seconds, as it is `stored`, and as it is
    `shown`, counted on from the frames before.
    """

    stored: Fraction
    shown: Fraction


def read_audio(
    path: str, start: Fraction, stop: Fraction, form: tuple[int, int] | None = None
) -> tuple[np.ndarray, int] | None:
    """Samples of [start, stop), in seconds of the container, float32 (channels, n), and their rate; None where there is
    no audio track. `form`: the rate in Hz and the channels, 1 or 2, that are wanted; None for those of the track.

    Gaps are silence, so that the audio stays in step with the frames. More than two channels are mixed down to stereo, two to their mean, and one is both of
    two.

    Raises: `VideoError`.
    """
    with open_video(path) as (container, video):
        stream = audio_track(container, video)
        if stream is None:
            return None
        channels, rate = form_of(path, stream)
        rate, wanted = form or (rate, channels)
        seek_before(container, stream, start)
        samples = np.zeros((channels, round((stop - start) * rate)), np.float32)
        deque(placed(decoded(container, stream, channels, rate), samples, start, rate), maxlen=0)
        if wanted < channels:
            samples = samples.mean(0, keepdims=True)
        return (samples if wanted == len(samples) else samples.repeat(wanted, 0)), rate


def form_of(path: str, stream: av.AudioStream) -> tuple[int, int]:
    """Channels, 1 or 2, and the rate in Hz in which the stream is read. Raises: `VideoError` where it cannot be."""
    if stream.codec_context is None:
        raise VideoError(f"{path!r}: no decoder for its audio")
    rate = min((r for r in AAC_RATES if r >= stream.codec_context.sample_rate), default=AAC_RATES[-1])
    return min(2, stream.codec_context.layout.nb_channels), rate


def decoded(
    container: av.container.InputContainer, stream: av.AudioStream, channels: int, rate: int
) -> Iterator[Piece]:
    """The stream from where the container stands, in that form."""
    layout, form, last = "stereo" if channels == 2 else "mono", None, None
    resampler = av.AudioResampler("fltp", layout, rate)
    for frame in container.decode(stream):
        now = (frame.format.name, frame.layout.name, frame.sample_rate)  # broadcasts change it midway
        anew = last is not None and frame.time is not None and frame.time < last - JUMP_BACK
        if form != now or anew:
            form, resampler = now, av.AudioResampler("fltp", layout, rate)
        last = frame.time
        for piece in resampler.resample(frame):
            time = None if piece.pts is None or piece.time_base is None else piece.pts * piece.time_base
            yield time, piece.to_ndarray()


def placed(pieces: Iterator[Piece], samples: np.ndarray, start: Fraction, rate: int) -> Iterator[Piece]:
    """Put pieces where they belong in `samples`, whose first is at `start` seconds, until they are past its end; each is passed on."""
    cursor = None
    for time, data in pieces:
        expected = (cursor or 0) if time is None else round((time - start) * rate)
        # Times that jitter (Matroska's are milliseconds) are smoothed, gaps are kept.
        if cursor is None or abs(expected - cursor) > rate // 50:
            cursor = expected
        begin, end = max(cursor, 0), min(cursor + data.shape[1], samples.shape[1])
        if end > begin:
            samples[:, begin:end] = data[:, begin - cursor : end - cursor]
        cursor += data.shape[1]
        yield time, data
        if cursor >= samples.shape[1]:
            return


class JoinedAudio:
    """The audio of a file whose times begin anew, by the clock of its frames as `decode` shows them.

    No time is one place of such a file, so it is not sought in but read once, in order, for spans that follow each other.
    """

    def __init__(self, path: str, joints: Sequence[Joint]):
        self.path, self.joints = path, joints
        self.pieces: Iterator[Piece] | None = None
        self.form = (0, 0)

    def read(self, start: Fraction, stop: Fraction) -> tuple[np.ndarray, int] | None:
        """As `read_audio`, of a span in seconds shown, which begins where the one before ended or later.

        Raises: `VideoError`, also where the audio does not begin anew with the frames.
        """
        if self.pieces is None:
            with open_video(self.path) as (container, video):
                stream = audio_track(container, video)
                if stream is None:
                    return None
                self.form = form_of(self.path, stream)
            check_joints(self.path, self.joints)
            self.pieces = self._in_order()
        channels, rate = self.form
        samples = np.zeros((channels, round((stop - start) * rate)), np.float32)
        last = deque(placed(self.pieces, samples, start, rate), maxlen=1)
        self.pieces = chain(last, self.pieces)  # the next span may begin within it
        return samples, rate

    def _in_order(self) -> Iterator[Piece]:
        """All pieces, at the times shown. What one part has beyond its frames does not sound over those of the next."""
        channels, rate = self.form
        shifts = [Fraction(0), *(joint.shown - joint.stored for joint in self.joints)]
        borders = [None, *(joint.shown for joint in self.joints), None]
        with ExitStack() as opened:
            container, video = opened.enter_context(open_video(self.path))
            stream = audio_track(container, video)
            assert stream is not None  # `read` has seen it
            part, last = 0, None
            for time, data in decoded(container, stream, channels, rate):
                if time is None:
                    continue
                if last is not None and time < last - JUMP_BACK:
                    part = min(part + 1, len(shifts) - 1)
                last = time
                shown, low, high = time + shifts[part], borders[part], borders[part + 1]
                skipped = 0 if low is None else max(0, round((low - shown) * rate))
                kept = data.shape[1] if high is None else max(0, round((high - shown) * rate))
                if skipped < min(kept, data.shape[1]):
                    yield shown + Fraction(skipped, rate), data[:, skipped:kept]


def check_joints(path: str, joints: Sequence[Joint]) -> None:
    """Raises: `VideoError` unless the times of the audio begin anew as often as those of the frames, each time before the frames do
    so again.
    """
    with open_video(path) as (container, stream):
        audio = audio_track(container, stream)
        assert audio is not None  # whoever asks has seen it
        clocks, begun, apart = {stream: Clock(stream), audio: Clock(audio)}, {stream: 0, audio: 0}, 0
        for packet in container.demux(stream, audio):
            begun[packet.stream] += clocks[packet.stream].begins_anew(packet)
            apart = max(apart, abs(begun[stream] - begun[audio]))
        frames_anew, audio_anew = begun[stream], begun[audio]
    if apart > 1 or not len(joints) == frames_anew == audio_anew:
        raise VideoError(
            f"{path!r}: its video timestamps restart {len(joints)} times, its audio timestamps {audio_anew} times, so "
            "that audio and frames cannot be aligned; join its parts with ffmpeg's concat demuxer instead"
        )


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
