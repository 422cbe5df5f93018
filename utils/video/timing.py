"""When frames are shown: PTS from packets, frame rates, the length of the last frame."""

from fractions import Fraction
from typing import Any

import av
import numpy as np

from utils.video.geometry import display_size
from utils.video.opening import JUMP_BACK, decode, open_video, packets_tell_times, packets_without_data, time_base_of


def packet_times(
    container: av.container.InputContainer, stream: av.VideoStream
) -> tuple[np.ndarray, np.ndarray] | None:
    """PTS of all frames shown and of the keyframes among them (int64, rising), without decoding; None where packets do
    not tell.

    Reads the whole file once (0.002 CPU-seconds per second of video), of a remote mp4 its index, and rewinds it. Packets that an edit list discards
    are not shown, nor are VP8's and VP9's hidden frames, which others are predicted from.
    """
    shown: list[int] = []
    keyframes: list[int] = []
    clock = Clock(stream)
    if not packets_tell_times(container):
        return None
    with packets_without_data(container, stream) as packets:
        for packet in packets:
            if packet.size == 0 or packet.is_discard or is_hidden(packet, stream.codec_context.name):
                continue
            if packet.pts is None or clock.begins_anew(packet):
                shown.clear()
                break
            shown.append(packet.pts)
            if packet.is_keyframe:
                keyframes.append(packet.pts)
    container.seek(0 if stream.start_time is None else stream.start_time, stream=stream, backward=True)
    return (np.unique(np.array(shown, np.int64)), np.unique(np.array(keyframes, np.int64))) if shown else None


class Clock:
    """Follows the packets of a stream and says where their times begin anew, as in joined transport streams."""

    def __init__(self, stream: av.VideoStream | av.AudioStream):
        assert stream.time_base is not None  # FFmpeg sets it for every stream that it reads
        self.jump, self.last = JUMP_BACK / stream.time_base, 0
        self.started = False

    def begins_anew(self, packet: av.Packet) -> bool:
        if packet.dts is None:
            return False
        jumped = self.started and packet.dts < self.last - self.jump
        self.started, self.last = True, packet.dts
        return jumped


def seconds_between(first: int | None, pts: int | None, stream: av.VideoStream) -> float:
    """Seconds from the PTS `first` to `pts`, both of frames that `decode` gave, which all have one."""
    assert first is not None and pts is not None and stream.time_base is not None
    return float((int(pts) - int(first)) * stream.time_base)


def is_hidden(packet: av.Packet, codec: str) -> bool:
    """Whether a packet holds nothing but a frame that VP8 (RFC 6386, 9.1) or VP9 (bitstream specification, 6.2) never shows.

    Some files give such a packet a PTS of its own. A VP9 superframe, marked by its last byte, ends with a shown frame.
    """
    data = memoryview(packet)
    if codec.endswith("vp8"):
        return not data[0] >> 4 & 1
    if not codec.endswith("vp9") or data[-1] & 0xE0 == 0xC0:
        return False
    bits = data[0] << 1 if data[0] >> 4 & 3 == 3 else data[0]  # profile 3 has a reserved bit first
    shown_before, shown = bits >> 3 & 1, bits >> 1 & 1
    return not shown_before and not shown


def frame_rate(times: np.ndarray, time_base: Fraction, declared: Fraction | None) -> Fraction:
    """Frames a second over all of `times` (PTS, rising): the declared rate where it is within 0.5 % of the measured
    one.
    """
    if len(times) < 2:
        return Fraction(declared or 25)
    measured = (len(times) - 1) / ((int(times[-1]) - int(times[0])) * time_base)
    if declared and abs(declared / measured - 1) < Fraction(1, 200):
        return Fraction(declared)
    return measured.limit_denominator(1001)


def last_frame_length(times: np.ndarray, rate: Fraction, time_base: Fraction) -> int:
    """How long the last frame is shown, in PTS units: as long as the one before it, or one over the frame rate."""
    return int(times[-1] - times[-2]) if len(times) > 1 else max(1, round(1 / (rate * time_base)))


RATE_CLASSES = ((20, "low"), (27, "film"), (40, "video"), (float("inf"), "high"))  # frames a second, up to which
VARIABLE = 1.5  # times as long as its shorter frames lasts one, and the rate varies


def still_facts(path: str) -> dict[str, Any]:
    """What an image is, in place of `encoding_facts`: `media_type`, image; `frame_size` as shown, pixels; `bits_per_pixel`. Raises: `VideoError`."""
    with open_video(path) as (container, stream):
        size = sum(packet.size for packet in container.demux(stream))
    with open_video(path) as (container, stream):
        frame = next(decode(container, stream))
        return {
            "media_type": "image",
            "frame_size": list(display_size(frame, stream)),
            "bits_per_pixel": round(8 * size / (frame.width * frame.height), 5),
        }


def encoding_facts(path: str) -> dict[str, float | str]:
    """How a video is encoded, from its packets: `bits_per_pixel` of the video track over all frames, `frame_rate` in frames a second, and
    `frame_rate_class`: low, film, video, high, or variable.

    Raises: `VideoError`.
    """
    with open_video(path) as (container, stream):
        times = packet_times(container, stream)
    with open_video(path) as (container, stream), packets_without_data(container, stream) as packets:
        sizes = [packet.size for packet in packets if packet.size and not packet.is_discard]
        pixels = stream.codec_context.width * stream.codec_context.height
        shown = np.arange(0) if times is None else times[0]
        rate = frame_rate(shown, time_base_of(stream), stream.average_rate)
    lengths = np.diff(shown)
    varies = len(lengths) > 1 and lengths.max() > VARIABLE * np.percentile(lengths, 25)
    return {
        "bits_per_pixel": round(8 * sum(sizes) / (pixels * max(1, len(shown) or len(sizes))), 5),
        "frame_rate": round(float(rate), 3),
        "frame_rate_class": "variable" if varies else next(name for bound, name in RATE_CLASSES if rate < bound),
    }
