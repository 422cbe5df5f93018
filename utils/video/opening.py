"""Reading video: which files there are, how one is opened safely, and its frames with their times.

Time is PTS, counted from the first frame shown: a frame's time is `(pts - first_pts) * time_base` seconds, whatever the
container says of its start, so variable frame rates, edit lists and transport streams need no special case. A video is
hostile until read: only files and objects that are asked for by name, only the demuxers that hold video, a limit on
pixels.
"""

import errno
import logging
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import cast

import av

from utils.errors import OutputError, VideoError
from utils.storage import RemoteFile, StorageError, is_url, open_remote
from utils.video.damage import LOGGED, Damage
from utils.video.geometry import pixel_aspect
from utils.video.stills import is_still, opening_of

# Demuxers that hold video in one file. Playlists (hls, dash, concat, image2) are left out: they open other files and
# addresses.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,asf,ogg,h264,hevc,m4v,ivf,obu,mxf,nut,rm,dv,yuv4mpegpipe"
BY_RANGES = (".mp4", ".m4v", ".mov", ".3gp", ".3g2")  # endings of containers with an index of every frame
# Codecs in mp4 whose packets FFmpeg passes on as the index has them, without a look at their data.
INDEX_TELLS = {"h264", "hevc", "av1", "mpeg4"}
STILLS = {"mjpeg", "png", "bmp", "gif", "webp", "tiff"}  # codecs of covers; Matroska does not count their frames
MAX_PIXELS = 8192 * 8192  # of one frame: twice 8K; a header may claim more and take all memory
# A frame shown this much before the one before it begins a new part: joined transport streams each count from their own
# start. What goes back less is jitter. In seconds.
JUMP_BACK = Fraction(1, 2)
MAX_ASPECT = 32  # long side over short, as shown: what scales to a short side would make a long one of any length


# What the system says of an output that cannot be written, whatever the video.
OUTPUT_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EIO, errno.EFBIG,
}  # fmt: skip

# FFmpeg's messages go into error rows (`error_text`), not to the terminal.
av.logging.set_level(av.logging.ERROR)
logging.getLogger("libav").addHandler(logging.NullHandler())
logging.getLogger("libav").propagate = False


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Around what makes, writes, renames or removes `path`.

    Raises: `OutputError` where the system does not let it.
    """
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        if error.errno not in OUTPUT_ERRORS:
            raise
        raise OutputError(f"{os.fspath(path)}: cannot be written: {error.strerror}") from None


@contextmanager
def open_video(path: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its video (`video_track`), decoding in one thread.

    One thread a process, many processes: automatic threads cost 40 % more CPU for the same frames.

    Raises: `VideoError` for anything that is not a readable video, here and while the block reads frames. What
    the block writes belongs in `writing`, lest its failure be taken for the video's.
    """
    try:
        with _open_container(path) as container:
            stream = video_track(container)
            if stream is None:
                raise VideoError(f"{path!r} contains no video that can be decoded here")
            width, height = stream.codec_context.width, stream.codec_context.height
            if is_still(path) and width * height == 0:
                raise VideoError(f"{path!r} contains no image that can be decoded; is it complete, and not animated?")
            if width * height == 0 or width * height > MAX_PIXELS:
                raise VideoError(f"{path!r}: a frame of {width}x{height} pixels is outside 1 to {MAX_PIXELS} pixels")
            aspect = width * pixel_aspect(stream) / height
            if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
                raise VideoError(
                    f"{path!r}: a frame of {width}x{height} pixels, with a display aspect ratio of {float(aspect):.3g}, is too narrow or too wide; "
                    f"up to {MAX_ASPECT}:1 is supported"
                )
            stream.codec_context.thread_count = 1
            yield container, stream
            if container.file is not None and container.file.file.failed:  # FFmpeg may have taken it for the end
                raise container.file.file.failed
    except StorageError as error:
        raise VideoError(f"{path!r} cannot be read: {error.strerror}") from None
    except av.FFmpegError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"no space left on the device for the output of {path!r}") from None
        text = error_text(error)
        if "not on whitelist" in text:  # DEMUXERS, which FFmpeg then lists
            raise VideoError(
                f"{path!r} has a format that is refused because it can refer to other files; convert it to mp4 or mkv"
            ) from None
        raise VideoError(f"{path!r} cannot be read: {text}; is it complete, and a video?") from None
    except OSError as error:
        if error.errno == errno.ENOENT and "\ufffd" in path:
            raise VideoError(
                f"the name of {path!r} is not valid UTF-8, so no list can hold it; rename the file"
            ) from None
        raise VideoError(f"{path!r} cannot be opened: {error.strerror}") from None


def video_tracks(container: av.container.InputContainer) -> list[av.VideoStream]:
    """The tracks that are video, without attached pictures (covers, thumbnails)."""
    pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & pictures]


def video_track(container: av.container.InputContainer) -> av.VideoStream | None:
    """The track that a player shows, of those that can be decoded: the default one, the first where there are several, else the largest. A still
    (STILLS, one frame as far as the container tells) comes last: not every cover is marked as one.
    """

    def rank(stream: av.VideoStream) -> tuple[bool, bool, int]:
        is_still = stream.codec_context.codec.canonical_name in STILLS and stream.frames <= 1
        is_default = bool(stream.disposition & av.stream.Disposition.default)
        return not is_still, is_default, 0 if is_default else stream.codec_context.width * stream.codec_context.height

    return max((s for s in video_tracks(container) if s.codec_context is not None), key=rank, default=None)


def audio_track(container: av.container.InputContainer, video: av.VideoStream) -> av.AudioStream | None:
    """The first audio track of a video track's program (MPEG-TS), of the file where it has no programs; None where there is none.

    PyAV does not list programs, but FFmpeg looks for the best track of a kind in the program of another track: tracks are of one program
    where these are the same. Where a program has none of the kind it takes one of another program, whose own best ones differ.
    """

    def best(track: av.stream.Stream) -> tuple[int | None, ...]:
        found = (container.streams.best(kind, related=track) for kind in ("video", "audio"))
        return tuple(one.index if one else None for one in found)

    of_program = best(video)
    return next((track for track in container.streams.audio if best(track) == of_program), None)


def _open_container(path: str) -> av.container.InputContainer:
    """Raises: `OSError`, `av.FFmpegError`, `VideoError`."""
    if is_url(path):
        if is_still(path):
            file = open_remote(path, by_ranges=False)
            head = file.read(4)
            file.seek(0)
            return av.open(file, "r", **opening_of(path, head, "none"), io_open=_refuse)
        file = open_remote(path, by_ranges=path.lower().endswith(BY_RANGES))
        return _open_object(file if has_whole_index(file) else open_remote(path, by_ranges=False))
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise VideoError(f"{path!r} is not a regular file")
    if is_still(path):
        with open(path, "rb") as file_here:
            head = file_here.read(4)
        return av.open("file:" + os.path.abspath(path), **opening_of(path, head, "file"))
    options = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
    # "file:" keeps a name such as "concat:a|b" or "http:x.mp4" a name.
    return av.open("file:" + os.path.abspath(path), options=options, metadata_errors="replace")


def _open_object(file: RemoteFile, **more: str) -> av.container.InputContainer:
    """A container that reads nothing but `file`: no protocol is allowed to it, not even that of local files. `more`:
    further options of its demuxer.
    """
    options = {"protocol_whitelist": "none", "format_whitelist": DEMUXERS, **more}
    return av.open(file, "r", options=options, metadata_errors="replace", io_open=_refuse)


def _refuse(url: str, *_: object) -> None:
    raise VideoError(f"it tries to open another file, {url!r}, which is refused")


@contextmanager
def packets_without_data(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[Iterator[av.Packet]]:
    """The packets of a stream for their times and sizes. Of a remote mp4 they come from its index, and their data is
    not fetched; of any other video they are those of the container itself, which is read to its end.
    """
    file = container.file.file if container.file is not None else None
    if file is None or stream.codec_context.codec.canonical_name not in INDEX_TELLS or not has_whole_index(file):
        yield container.demux(stream)
        return
    blank = file.again()
    # The index is read when the container is open. Parsers would take flags and times from the data.
    with _open_object(blank, fflags="+noparse+nofillin") as twin:
        blank.blank = True
        yield twin.demux(twin.streams[stream.index])


def has_whole_index(file: RemoteFile) -> bool:
    """Whether a file is an mp4 whose one index (`moov`) names all frames: the boxes of ISO/IEC 14496-12, 4.2."""
    reader, at, found = file.again(), 0, b""
    while at + 8 <= file.size:
        reader.seek(at)
        head = reader.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:16], "big") if size == 1 else size or file.size - at
        if size < 8 or kind in (b"moof", b"sidx", b"styp") or (at == 0 and kind != b"ftyp"):
            return False
        if kind == b"moov":
            reader.seek(at)
            found = reader.read(size)
        at += size
    return bool(found) and b"mvex" not in found


def decode(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    damage: Damage | None = None,
    joints: list[tuple[int, int]] | None = None,
) -> Iterator[av.VideoFrame]:
    """Every frame of the stream in the order shown, each with a PTS above the one before; `damage` takes note of them.

    A missing or repeated PTS (AVI, broken transport streams) becomes the one before plus a frame's length, so that
    times always rise. Where times begin anew (JUMP_BACK), all that follows is moved by as much; `joints` gets the PTS
    that the first frame of each such part has in the file and the one that it is given.

    Raises: `VideoError` when a frame cannot be decoded, when the frame size changes midway, or when there is no
    frame.
    """
    name = container.name.removeprefix("file:")
    step = max(1, round(1 / ((stream.average_rate or Fraction(25)) * time_base_of(stream))))
    jump = JUMP_BACK / time_base_of(stream)
    count = moved = 0
    last: int | None = None
    size: tuple[int, int] | None = None
    listened = damage if stream.codec_context.codec.name in LOGGED else None
    if packets_tell_times(container) and listened is None:
        frames = container.decode(stream)
    else:
        frames = _decode_packets(container, stream, listened)
    while True:
        try:
            frame = next(frames, None)
        except av.FFmpegError as error:
            raise VideoError(
                f"{name!r} cannot be decoded past frame {count}: {error_text(error)}; it may be damaged"
            ) from None
        if frame is None:
            break
        if damage is not None:
            damage.add(frame)
        if frame.pts is not None:
            if last is not None and frame.pts + moved < last - jump:
                moved = last + step - frame.pts
                if joints is not None:
                    joints.append((frame.pts, last + step))
            frame.pts += moved
        if frame.pts is None or (last is not None and frame.pts <= last):
            frame.pts = 0 if last is None else last + step
        if size is not None and size != (frame.width, frame.height):
            raise VideoError(
                f"{name!r}: the frame size changes from {size[0]}x{size[1]} to {frame.width}x{frame.height} at frame {count}; "
                "convert it to one size first"
            )
        count, last, size = count + 1, frame.pts, (frame.width, frame.height)
        yield frame
    if not count:
        raise VideoError(f"{name!r} contains no frame that can be decoded")


def time_base_of(stream: av.VideoStream) -> Fraction:
    """Seconds of a PTS unit. FFmpeg sets it for every stream that it reads."""
    assert stream.time_base is not None
    return stream.time_base


def packets_tell_times(container: av.container.InputContainer) -> bool:
    """Whether packets carry the times at which their frames are shown. AVI holds none, and FFmpeg guesses wrong ones
    where frames are reordered."""
    return container.format.name != "avi"


def _decode_packets(
    container: av.container.InputContainer, stream: av.VideoStream, damage: Damage | None
) -> Iterator[av.VideoFrame]:
    """The frames, packet by packet. Where packets do not tell the times of frames, their PTS are the packets' decoding
    times: the n-th frame shown takes the place of the n-th packet.
    """
    by_dts, decoder = not packets_tell_times(container), stream.codec_context.codec.name
    places: deque[int | None] = deque()
    for packet in container.demux(stream):
        if by_dts and packet.size:
            places.append(packet.dts)
        for frame in packet.decode() if damage is None else damage.decode(packet, decoder):
            if by_dts:
                frame.pts = places.popleft() if places else None
            yield frame


def error_text(error: av.FFmpegError) -> str:
    """FFmpeg's message: the error's own text and the last line that it logged."""
    log = cast(tuple[int, str, str] | None, error.log)  # level, component, message; PyAV's stub says otherwise
    return str(error.strerror) + (f" ({log[2].strip()})" if log else "")
