"""Which frames of a clip are sampled, and decoding only those."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import av
import numpy as np

from utils.errors import VideoError
from utils.video.decord_reader import decord_frames
from utils.video.opening import decode, open_video
from utils.video.stills import is_still
from utils.video.timing import packet_times, seconds_between

T = TypeVar("T")


@dataclass(frozen=True)
class FrameSampling:
    """Which frames of a clip are sampled and what reads them; the fields are the flags of `add_sampling_arguments`."""

    frame_sample_method: str = "uniform"
    num_sampled_frames: int = 4
    video_reader: str = "pyav"

    def frames(self, path: str) -> tuple[list[int], list[float], list[av.VideoFrame]]:
        """Indices (rising, each once), times in seconds and the sampled frames of a video, as `sample_frames`.

        Raises: `VideoError`.
        """
        return self.each(path, _as_it_is)

    def each(self, path: str, look: Callable[[av.VideoFrame], T]) -> tuple[list[int], list[float], list[T]]:
        """The same with what `look` makes of each frame in its place, as `look_at_frames`."""
        keyframes = keyframe_indices(path) if self.frame_sample_method == "keyframe" else (0,)
        choose = partial(choose_frames, self.frame_sample_method, self.num_sampled_frames, keyframes=keyframes)
        return look_at_frames(path, choose, look, self.video_reader)

    @property
    def settings(self) -> dict:
        """Its part of a result file's settings; pyav is not named there, as in files made before there was a choice."""
        reader = {} if self.video_reader == "pyav" else {"video_reader": self.video_reader}
        return {"method": self.frame_sample_method, "count": self.num_sampled_frames, **reader}


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
    path: str, choose: Callable[[int], Sequence[int]], reader: str = "pyav"
) -> tuple[list[int], list[float], list[av.VideoFrame]]:
    """The frames with the indices `choose(number of frames)`: their indices (rising, each once), times in seconds, and
    the frames; by `reader`, pyav or decord.

    Raises: `VideoError`.
    """
    return look_at_frames(path, choose, _as_it_is, reader)


def _as_it_is(frame: av.VideoFrame) -> av.VideoFrame:
    return frame


def look_at_frames(
    path: str, choose: Callable[[int], Sequence[int]], look: Callable[[av.VideoFrame], T], reader: str = "pyav"
) -> tuple[list[int], list[float], list[T]]:
    """`sample_frames` with what `look` makes of each frame in its place. One frame is in memory at a time, beside those that
    the decoder keeps: of 8192 x 8192 pixels it takes 100 MB as decoded, 200 MB as RGB.

    PyAV seeks where there is a keyframe between two wanted frames, decodes on where there is none, and skips frames that
    no other one needs. Where packets and frames disagree (no PTS, damaged index), the video is decoded from its start
    and counted.

    Raises: `VideoError`.
    """
    if reader == "decord" and not is_still(path):
        indices, seconds, found = decord_frames(path, choose)
        return indices, seconds, [look(frame) for frame in found]
    with open_video(path) as (container, stream):
        times = packet_times(container, stream)
        if times is not None:
            shown, keyframes = times
            indices = sorted({int(i) for i in choose(len(shown))})
            with suppress(FrameMissing):
                frames = [look(frame) for frame in frames_at(container, stream, shown[indices], keyframes)]
                return indices, [seconds_between(shown[0], shown[i], stream) for i in indices], frames
    with open_video(path) as (container, stream):
        count = sum(1 for _ in decode(container, stream))
    indices = sorted({int(i) for i in choose(count)})
    frames, seconds = [], []
    first: int | None = None
    with open_video(path) as (container, stream):
        for i, frame in enumerate(decode(container, stream)):
            first = frame.pts if i == 0 else first
            if i in indices:
                frames.append(look(frame))
                seconds.append(seconds_between(first, frame.pts, stream))
            if len(frames) == len(indices):
                return indices, seconds, frames
    raise VideoError(f"{path!r}: only {len(frames)} of the {len(indices)} sampled frames can be decoded")


class FrameMissing(Exception):
    """A frame is not where its packet says; only decoding from the start tells which frames there are."""


def frames_at(
    container: av.container.InputContainer, stream: av.VideoStream, wanted: np.ndarray, keyframes: np.ndarray
) -> Iterator[av.VideoFrame]:
    """The frames whose PTS are `wanted` (rising), each as decoding the whole video gives it.

    wanted, keyframes: int64, out of what `packet_times` returned for this container. Seeks where there is a keyframe
    between two of them.

    Raises: `FrameMissing` when one does not come, or comes in another size than the first; `av.FFmpegError`.
    """
    needed = frozenset(wanted.tolist())
    position: int | None = None
    size: tuple[int, int] | None = None
    decoded: Iterator[av.VideoFrame] = iter(())
    for pts, count in zip(wanted.tolist(), np.searchsorted(keyframes, wanted, side="right").tolist(), strict=True):
        if position is None or (count and keyframes[count - 1] > position):
            if count:
                container.seek(int(keyframes[count - 1]), stream=stream, backward=True)
            decoded = decode_needed(container, stream, needed, from_keyframe=bool(count))
        frame = next((f for f in decoded if f.pts is not None and f.pts >= pts), None)
        if frame is None or frame.pts != pts or (frame.width, frame.height) != (size or (frame.width, frame.height)):
            raise FrameMissing
        position, size = pts, (frame.width, frame.height)
        yield frame


def decode_needed(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    wanted: Collection[int],
    from_keyframe: bool = False,
) -> Iterator[av.VideoFrame]:
    """The frames whose PTS are `wanted`, and those that others are predicted from; packets must carry their times.

    The rest, most B frames, stays undecoded: the same frames for a third less time (H.264 by x264's own settings).

    Raises: `FrameMissing` when the first packet shall be a keyframe and is none: a seek in MPEG-TS ends anywhere, and
    some decoders fill what is missing with gray.
    """
    for packet in container.demux(stream):
        if from_keyframe and packet.size and not packet.is_keyframe:
            raise FrameMissing
        from_keyframe = from_keyframe and not packet.size
        stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from packet.decode()


def keyframe_indices(path: str) -> list[int]:
    """Indices of the frames that the codec stored whole, without decoding where packets carry their times.

    Raises: `VideoError`.
    """
    with open_video(path) as (container, stream):
        times = packet_times(container, stream)
        if times is None:
            return [i for i, frame in enumerate(decode(container, stream)) if frame.key_frame]
        shown, keyframes = times
        return np.searchsorted(shown, keyframes).tolist()
