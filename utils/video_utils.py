"""Reading video: which files there are, how one is opened safely, and its frames with their times.

Time is PTS, counted from the first frame shown: a frame's time is `(pts - first_pts) * time_base` seconds, whatever the
container says of its start, so variable frame rates, edit lists and transport streams need no special case. A video is
hostile until read: only local files, only the demuxers that hold video, a limit on pixels.
"""

import errno
import logging
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import av
import cv2
import numpy as np

from utils.arguments import UsageError
from utils.rows import read_rows

VIDEO_EXTENSIONS = {
    ".mp4", ".webm", ".mkv", ".avi", ".flv", ".mov", ".ts", ".m2ts", ".mts", ".m4v", ".mpg", ".mpeg", ".wmv", ".asf", ".3gp", ".3g2", ".ogv",
}  # fmt: skip
# Demuxers that hold pictures in one file. Playlists (hls, dash, concat, image2) are left out: they open other files and
# addresses.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,asf,ogg,h264,hevc,m4v,ivf,obu,mxf,nut,rm,dv,yuv4mpegpipe"
MAX_PIXELS = 8192 * 8192  # of one frame: twice 8K; a header may claim more and take all memory
MAX_ASPECT = 32  # long side over short, as shown: what scales to a short side would make a long one of any length


# FFmpeg's words go into error rows (`said`), not onto the terminal.
av.logging.set_level(av.logging.ERROR)
logging.getLogger("libav").addHandler(logging.NullHandler())
logging.getLogger("libav").propagate = False


class VideoError(Exception):
    """What a video did wrong, in one sentence that names the file, what was found and what to try."""


def natural_key(text: str) -> list:
    """Sort key that puts `clip2` before `clip10`."""
    return [(1, int(part), part) if part.isdigit() else (0, 0, part) for part in re.split(r"([0-9]+)", text)]


def get_video_path_list(
    video_folder: str | None = None, video_metadata_path: str | None = None, video_path_column: str = "video_path"
) -> list[str]:
    """Paths of all videos, relative to `video_folder` with `/` between parts, in natural order.

    The source is a folder (searched in all its depth), one file, or a list: txt (a path a line), csv or jsonl
    (`video_path_column`). A list keeps its own order. Each path comes once.

    Raises: `UsageError` with a sentence for a missing file or column, or when neither source is given.
    """
    if video_metadata_path:
        if str(video_metadata_path).lower().endswith(".txt"):
            if not os.path.isfile(video_metadata_path):
                raise UsageError(f"{video_metadata_path}: no such file")
            with open(video_metadata_path, encoding="utf-8-sig", errors="surrogateescape") as lines:
                found = [line.rstrip("\r\n") for line in lines if line.strip()]
        else:
            found = [row[video_path_column] for row in read_rows(video_metadata_path, required=(video_path_column,))]
        return list(dict.fromkeys(relative_to_folder(path, video_folder) for path in found))
    if not video_folder:
        raise UsageError("give --video_folder or --video_metadata_path; neither is set")
    if os.path.isfile(video_folder):
        return [os.path.basename(video_folder)]
    if not os.path.isdir(video_folder):
        raise UsageError(f"{video_folder}: no such folder")
    found = []
    for folder, subfolders, names in os.walk(video_folder, followlinks=False):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [os.path.join(folder, name) for name in names if is_video_name(name)]
    return sorted((os.path.relpath(path, video_folder).replace(os.sep, "/") for path in found), key=natural_key)


def is_video_name(name: str) -> bool:
    """Whether a file's ending is a video's, in any case; hidden files (temporary ones, `._` files of macOS) are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def relative_to_folder(path: str, video_folder: str | None) -> str:
    """The key of a video: `path` relative to `video_folder` where it lies in it, else as given; `/` between parts.

    A relative path in a list means: in `video_folder`; where only the path as given leads to a file in the folder
    (`videos/a.mp4` beside `--video_folder videos`), that is meant.
    """
    if video_folder:
        root = os.path.abspath(video_folder)
        absolute = os.path.abspath(path)
        inside = absolute.startswith(root + os.sep)
        if os.path.isabs(path) or (inside and not os.path.lexists(os.path.join(root, path))):
            path = os.path.relpath(absolute, root) if inside else path
    return os.path.normpath(path).replace(os.sep, "/")


def locate(video_path: str, video_folder: str | None) -> str:
    """The file of a row's `video_path`. A `video_folder` that is itself a file is that file."""
    if video_folder and os.path.isfile(video_folder):
        video_folder = os.path.dirname(video_folder)
    return os.path.join(video_folder or "", video_path)


@contextmanager
def open_video(path: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its first real video stream, decoding in one thread.

    One thread a process, many processes: automatic threads cost 40 % more CPU for the same frames.

    Raises: `VideoError` for anything that is not a readable local video, here and while the block reads frames.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise VideoError(f"{path!r} is not a regular file")
        options = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
        # "file:" keeps a name such as "concat:a|b" or "http:x.mp4" a name.
        with av.open("file:" + os.path.abspath(path), options=options, metadata_errors="replace") as container:
            streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
            if not streams or streams[0].codec_context is None:
                raise VideoError(f"{path!r} holds no video that can be decoded here")
            stream = streams[0]
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height == 0 or width * height > MAX_PIXELS:
                raise VideoError(f"{path!r}: a picture of {width}x{height} pixels is outside 1 to {MAX_PIXELS} pixels")
            aspect = width * pixel_aspect(stream) / height
            if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
                raise VideoError(
                    f"{path!r}: a picture of {width}x{height} pixels, shown {float(aspect):.3g} times as wide as high, is too narrow; "
                    f"up to {MAX_ASPECT}:1 is read"
                )
            stream.codec_context.thread_count = 1
            yield container, stream
    except av.FFmpegError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(f"no space left on the device for what is made of {path!r}") from None
        raise VideoError(f"{path!r} cannot be read: {said(error)}; is it whole, and a video?") from None
    except OSError as error:
        raise VideoError(f"{path!r} cannot be opened: {error.strerror}") from None


def decode(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Every frame of the stream in the order shown, each with a PTS above the one before.

    A missing or repeated PTS (AVI, broken transport streams) becomes the one before plus a frame's length, so that
    times always rise.

    Raises: `VideoError` when a frame cannot be decoded, when the picture changes size midway, or when there is no
    frame.
    """
    name = container.name.removeprefix("file:")
    step = max(1, round(1 / ((stream.average_rate or Fraction(25)) * stream.time_base)))
    count, last, size = 0, None, None
    frames = container.decode(stream) if packets_tell_times(container) else _decode_by_dts(container, stream)
    while True:
        try:
            frame = next(frames, None)
        except av.FFmpegError as error:
            raise VideoError(
                f"{name!r} cannot be decoded past frame {count}: {said(error)}; it may be damaged"
            ) from None
        if frame is None:
            break
        if frame.pts is None or (last is not None and frame.pts <= last):
            frame.pts = 0 if last is None else last + step
        if size not in (None, (frame.width, frame.height)):
            raise VideoError(
                f"{name!r}: the picture changes from {size[0]}x{size[1]} to {frame.width}x{frame.height} at frame {count}; "
                "bring it to one size first"
            )
        count, last, size = count + 1, frame.pts, (frame.width, frame.height)
        yield frame
    if not count:
        raise VideoError(f"{name!r} holds no frame that can be decoded")


def packets_tell_times(container: av.container.InputContainer) -> bool:
    """Whether packets carry the times at which their frames are shown. AVI holds none, and FFmpeg guesses wrong ones
    where frames are reordered."""
    return container.format.name != "avi"


def _decode_by_dts(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Frames whose PTS are the packets' decoding times: the n-th frame shown takes the place of the n-th packet."""
    places: deque[int | None] = deque()
    for packet in container.demux(stream):
        if packet.size:
            places.append(packet.dts)
        for frame in packet.decode():
            frame.pts = places.popleft() if places else None
            yield frame


def said(error: av.FFmpegError) -> str:
    """What FFmpeg said: the error's own text and the last line that it logged."""
    return error.strerror + (f" ({error.log[2].strip()})" if error.log else "")


def packet_times(
    container: av.container.InputContainer, stream: av.VideoStream
) -> tuple[np.ndarray, np.ndarray] | None:
    """PTS of all frames shown and of the keyframes among them (int64, rising), without decoding; None where packets do
    not tell.

    Reads the whole file once (0.002 CPU-seconds per second of video) and rewinds it. Packets that an edit list discards
    are not shown, nor are VP8's and VP9's hidden frames, which others are predicted from.
    """
    shown, keyframes = [], []
    if not packets_tell_times(container):
        return None
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard or is_hidden(packet, stream.codec_context.name):
            continue
        if packet.pts is None:
            shown.clear()
            break
        shown.append(packet.pts)
        if packet.is_keyframe:
            keyframes.append(packet.pts)
    container.seek(0 if stream.start_time is None else stream.start_time, stream=stream, backward=True)
    return (np.unique(np.array(shown, np.int64)), np.unique(np.array(keyframes, np.int64))) if shown else None


def is_hidden(packet: av.Packet, codec: str) -> bool:
    """Whether a packet holds nothing but a frame that VP8 (RFC 6386, 9.1) or VP9 (bitstream specification, 6.2) never shows.

    Some files give such a packet a PTS of its own. A VP9 superframe, whose last byte says so, ends with a shown frame.
    """
    data = memoryview(packet)
    if codec.endswith("vp8"):
        return not data[0] >> 4 & 1
    if not codec.endswith("vp9") or data[-1] & 0xE0 == 0xC0:
        return False
    bits = data[0] << 1 if data[0] >> 4 & 3 == 3 else data[0]  # profile 3 has a reserved bit first
    shown_before, shown = bits >> 3 & 1, bits >> 1 & 1
    return not shown_before and not shown


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


def display_transform(frame: av.VideoFrame) -> tuple[int, bool]:
    """How a decoded frame must be turned to stand upright: (quarter turns counter-clockwise, then mirrored left to
    right).

    From the display matrix of the container (ISO/IEC 14496-12, 8.2.2), rows [a b], [c d] in 16.16 fixed point, which
    maps a decoded point (x, y) to the shown one (a*x + c*y, b*x + d*y), y downwards.
    """
    matrix = next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return 0, False
    a, b, _, c, d = np.sign(np.frombuffer(matrix, np.int32)[:5])
    mirrored = a * d - b * c < 0
    if mirrored:  # take the mirroring (x -> -x) out of the matrix; a pure rotation stays
        a, c = -a, -c
    return {(1, 0): 0, (0, -1): 1, (-1, 0): 2, (0, 1): 3}.get((int(a), int(b)), 0), bool(mirrored)


def frame_to_array(
    frame: av.VideoFrame, pixel_format: str, stored_size: tuple[int, int] | None = None, interpolation: str = "AREA"
) -> np.ndarray:
    """A frame as uint8 (H, W, 3) `rgb24`/`bgr24` or (H, W) `gray`, upright; `stored_size` (width, height) before the
    turn scales it.
    """
    width, height = stored_size or (frame.width, frame.height)
    small = frame.reformat(width, height, pixel_format, interpolation=interpolation, threads=1)
    array = small.to_ndarray()
    turns, mirrored = display_transform(frame)
    if turns:
        array = np.rot90(array, turns)
    if mirrored:
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def pixel_aspect(stream: av.VideoStream) -> Fraction:
    """Width of a pixel over its height."""
    return stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)


def display_size(frame: av.VideoFrame, stream: av.VideoStream) -> tuple[int, int]:
    """Width and height of a frame as a player shows it, in pixels: square ones, upright."""
    size = (round(frame.width * pixel_aspect(stream)), frame.height)
    return size[::-1] if display_transform(frame)[0] % 2 else size


def short_side_size(frame: av.VideoFrame, stream: av.VideoStream, short_side: int) -> tuple[int, int]:
    """Stored (width, height) to scale a frame to so that, shown upright with square pixels, its short side is
    `short_side` pixels.
    """
    width, height = display_size(frame, stream)
    scale = short_side / min(width, height)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    return size[::-1] if display_transform(frame)[0] % 2 else size


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


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image at another size, averaging over areas when it shrinks."""
    shrinks = width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
