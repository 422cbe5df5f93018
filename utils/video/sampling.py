"""Which frames of a clip are looked at."""

from collections.abc import Callable, Collection, Iterator, Sequence

import av
import numpy as np

from utils.errors import VideoError
from utils.video.opening import decode, open_video
from utils.video.timing import packet_times


def choose_frames(method: str, count: int, num_frames: int, keyframes: Sequence[int] = (0,)) -> list[int]:
    """Indices, rising and each once, of `count` frames out of `num_frames`.

    uniform: `linspace(0, num_frames, count, endpoint=False)`, rounded down (EasyAnimate's: [0, 59, 119, 179] of 239);
    mid: the one in the middle; first and last: the frame at that end; keyframe: `keyframes`, or `count` spread over
    them where there are more.
    """
    if method == "uniform":
        return sorted({int(i) for i in np.linspace(0, num_frames, count, endpoint=False)})
    if method == "keyframe":
        found = [i for i in keyframes if i < num_frames] or [0]
        return [found[i] for i in choose_frames("uniform", count, len(found))]
    return [{"mid": num_frames // 2, "first": 0, "last": num_frames - 1}[method]]


def sample_frames(
    path: str, choose: Callable[[int], Sequence[int]]
) -> tuple[list[int], list[float], list[av.VideoFrame]]:
    """The frames with the indices `choose(number of frames)`: their indices (rising, each once), times in seconds, and
    the frames.

    Seeks where a keyframe lies between two wanted frames, decodes on where none does, and leaves out what no other frame
    needs. Where packets and frames disagree (no PTS, damaged index), the video is decoded from its start and counted.

    Raises: `VideoError`.
    """
    with open_video(path) as (container, stream):
        times = packet_times(container, stream)
        if times is not None:
            shown, keyframes = times
            indices = sorted({int(i) for i in choose(len(shown))})
            frames = _frames_at(container, stream, shown[indices], keyframes)
            if frames is not None:
                return indices, [float((int(shown[i]) - int(shown[0])) * stream.time_base) for i in indices], frames
    with open_video(path) as (container, stream):
        count = sum(1 for _ in decode(container, stream))
    indices = sorted({int(i) for i in choose(count)})
    frames, seconds, first = [], [], None
    with open_video(path) as (container, stream):
        for i, frame in enumerate(decode(container, stream)):
            first = frame.pts if first is None else first
            if i in indices:
                frames.append(frame)
                seconds.append(float((frame.pts - first) * stream.time_base))
            if len(frames) == len(indices):
                return indices, seconds, frames
    raise VideoError(f"{path!r}: only {len(frames)} of the {len(indices)} wanted frames can be decoded")


def _frames_at(container, stream, wanted: np.ndarray, keyframes: np.ndarray) -> list[av.VideoFrame] | None:
    """The frames whose PTS are `wanted` (rising), or None when one of them does not come."""
    frames: list[av.VideoFrame] = []
    position, decoded = None, iter(())
    for pts in wanted:
        before = keyframes[keyframes <= pts]
        if position is None or (len(before) and before[-1] > position):
            if len(before):
                container.seek(int(before[-1]), stream=stream, backward=True)
            decoded = decode_needed(container, stream, set(wanted.tolist()))
        frame = next((f for f in decoded if f.pts is not None and f.pts >= pts), None)
        if frame is None or frame.pts != pts:
            return None
        position = frame.pts
        frames.append(frame)
    return frames


def decode_needed(
    container: av.container.InputContainer, stream: av.VideoStream, wanted: Collection[int]
) -> Iterator[av.VideoFrame]:
    """The frames whose PTS are `wanted`, and those that others are predicted from; packets must tell their times.

    The rest, most B frames, stays undecoded: the same pictures for a third less (H.264 by x264's own settings).
    """
    for packet in container.demux(stream):
        stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from packet.decode()


def keyframe_indices(path: str) -> list[int]:
    """Indices of the frames that the codec stored whole, without decoding where packets tell their times.

    Raises: `VideoError`.
    """
    with open_video(path) as (container, stream):
        times = packet_times(container, stream)
        if times is None:
            return [i for i, frame in enumerate(decode(container, stream)) if frame.key_frame]
        shown, keyframes = times
        return np.searchsorted(shown, keyframes).tolist()
