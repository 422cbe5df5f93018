"""Sampled frames by decord (`--video_reader decord`), which brings its own FFmpeg 4: the same frames as PyAV, or an
error message.

decord seeks exactly only by the index of MP4 and Matroska and to the keyframes of closed GOPs, has no AV1, rotates frames
itself (but does not mirror them), and counts frames that an edit list hides. PyAV reads the header and the packets' times first, so that a video is
refused, not sampled at other frames.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np

from utils.errors import UsageError, VideoError, install
from utils.storage import is_url, open_remote
from utils.video.geometry import display_transform
from utils.video.opening import decode, open_video
from utils.video.timing import packet_times, seconds_between

INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # FFmpeg's names of the containers that decord seeks in exactly
ANY_FAULT = 1e-9  # share of frames that decord may replace by their neighbours: none
TOLERANCE = 0.002  # seconds by which decord's times, stored as float32, may differ


def decord_frames(
    path: str, choose: Callable[[int], Sequence[int]]
) -> tuple[list[int], list[float], list[av.VideoFrame]]:
    """As `utils.video.sampling.sample_frames`; the frames are rgb24.

    Raises: `VideoError`, also where decord would give other frames than PyAV. `UsageError` where decord is missing.
    """
    with open_video(path) as (container, stream):
        codec = stream.codec_context.name
        times = packet_times(container, stream)
        if container.format.name not in INDEXED or times is None:
            raise _cannot(
                path, f"of a container ({container.format.name}) in which decord does not seek to the exact frame"
            )
        if _has_open_gops(container, stream):
            raise _cannot(path, "it has open GOPs, after which decord decodes wrong frames")
        shown = times[0]
        indices = sorted({int(i) for i in choose(len(shown))})
        seconds = [seconds_between(shown[0], shown[i], stream) for i in indices]
    with open_video(path) as (container, stream):
        first = next(decode(container, stream))
    if display_transform(first) != (0, False):
        raise _cannot(path, "rotated or mirrored by its container")
    frames, found = _read(path, codec, indices, len(shown))
    if np.abs(found - seconds).max() > TOLERANCE:
        raise _cannot(path, "decord's frame times differ from those of the packets")
    if frames.shape[1:3] != (first.height, first.width):
        height, width = frames.shape[1:3]
        raise _cannot(path, f"decord gives frames of {width}x{height} pixels, not {first.width}x{first.height}")
    return indices, seconds, [av.VideoFrame.from_ndarray(frame, "rgb24") for frame in frames]


def _read(path: str, codec: str, indices: list[int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, H, W, 3), RGB, of the frames `indices` out of `count`, and their times in seconds after the first."""
    try:
        import decord
    except (ImportError, OSError) as error:  # OSError: its library was built for another system
        raise UsageError(
            f"decord cannot be loaded ({error}): {install('decord')}, or use --video_reader pyav"
        ) from None

    decord.logging.set_level(decord.logging.QUIET)
    try:
        # Of an object decord holds all bytes in memory.
        source = open_remote(path, by_ranges=False) if is_url(path) else str(Path(path).absolute())
        reader = decord.VideoReader(source, num_threads=1, fault_tol=ANY_FAULT)
        if len(reader) != count:
            raise _cannot(path, f"decord counts {len(reader)} frames where {count} are shown")
        starts = reader.get_frame_timestamp([0, *indices])[:, 0]
        return reader.get_batch(indices).asnumpy(), starts[1:] - starts[0]
    except (RuntimeError, AssertionError, decord.DECORDError, decord.DECORDLimitReachedError) as error:
        raise _cannot(path, f"decord fails on its {codec} video ({_last_words(error)})") from None


def _has_open_gops(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether a frame that is shown before a keyframe is stored after it. decord, which seeks to that keyframe, then
    counts such a frame as the first, or decodes it without the frames that it is predicted from.
    """
    keyframe = None
    for packet in container.demux(stream):
        if packet.is_keyframe:
            keyframe = packet.pts
        elif keyframe is not None and packet.pts is not None and packet.pts < keyframe:
            return True
    return False


def _cannot(path: str, reason: str) -> VideoError:
    return VideoError(f"{path!r} cannot be read by decord: {reason}; --video_reader pyav reads it")


def _last_words(error: Exception) -> str:
    """What decord says in the first line of its error, without the time and the line of its source."""
    line = str(error).strip().split("\n")[0]
    return re.sub(r"\[[^]]*\]|/\S+\.cc:\d+: |Check failed: .*?\) ", "", line).strip()[:100]
