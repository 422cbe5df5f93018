"""Writing clips that hold exactly the frames of a span of their source, in one pass over it.

`smart` copies every group of pictures (GOP) that lies wholly inside a clip and encodes only the frames at the edges
that lie in a GOP it shares with a neighbour; the copied frames are the source's own bits. It needs a source whose GOPs
can stand alone and stand beside x264's in one track: progressive 8-bit 4:2:0 H.264, upright, with square pixels. Any
other source is encoded whole, as with `libx264`.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from utils.cutting.clip_track import Clip, Encoding, Track
from utils.cutting.h264 import IDR, PPS, SPS, nal_length_size, nal_units, parameter_set_id, parameter_sets
from utils.errors import VideoError
from utils.video.geometry import display_transform
from utils.video.opening import decode, open_video, packets_tell_times

PROGRESSIVE = 1  # AVFieldOrder AV_FIELD_PROGRESSIVE


@dataclass(frozen=True)
class SourceIndex:
    """What the packets tell without decoding.

    `times`: PTS of all frames shown, rising. `entries`: PTS of the frames at which a GOP begins that needs no other.
    `plain`: whether every packet is one frame shown. `free_id`: the highest number that no parameter set of the source
    has, for those of encoded edges; None where all 32 are taken.
    """

    times: np.ndarray
    entries: np.ndarray
    plain: bool
    free_id: int | None


def index_source(path: str) -> SourceIndex | None:
    """Read the packets of a video once; None where they do not give their times."""
    times, entries, plain, used = [], [], True, set()
    with open_video(path) as (container, stream):
        if not packets_tell_times(container):
            return None
        is_h264 = stream.codec_context.codec.canonical_name == "h264"
        extradata = stream.codec_context.extradata
        length_size = nal_length_size(extradata)
        if is_h264 and extradata:
            used |= {parameter_set_id(*unit) for unit in parameter_sets(extradata)}
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if packet.pts is None:
                return None
            if packet.is_discard:
                plain = False
                continue
            times.append(packet.pts)
            if is_h264 and packet.is_keyframe:
                units = list(nal_units(bytes(packet), length_size))
                used |= {parameter_set_id(kind, unit) for kind, unit in units if kind in (SPS, PPS)}
                if any(kind == IDR for kind, _ in units):
                    entries.append(packet.pts)
    unique = np.unique(np.array(times, np.int64))
    free_id = max(set(range(32)) - used, default=None)
    plain = plain and len(unique) == len(times)
    return SourceIndex(unique, np.array(sorted(entries), np.int64), plain, free_id) if times else None


def decoded_times(path: str) -> np.ndarray:
    """PTS of all frames, by decoding them: for files whose packets do not tell."""
    with open_video(path) as (container, stream):
        return np.array([frame.pts for frame in decode(container, stream)], np.int64)


def can_copy(stream: av.VideoStream, first: av.VideoFrame) -> bool:
    """Whether GOPs of this source may stand in one track beside x264's (see the head of this file)."""
    context = stream.codec_context
    aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio or 1
    return (
        context.codec.canonical_name == "h264"
        and getattr(context, "field_order", PROGRESSIVE) == PROGRESSIVE  # PyAV 17 leaves it to the frame to tell
        and first.format.name == "yuv420p"
        and not first.interlaced_frame
        and display_transform(first) == (0, False)
        and aspect == 1
        and context.width % 2 == context.height % 2 == 0
    )


def write_clips(path: str, clips: list[Clip], index: SourceIndex | None, encoding: Encoding) -> None:
    """Write all clips of a source, in order. Each appears under its name when it is whole and has been found to hold
    its frames.

    Raises: `VideoError`; clips written before it stay.
    """
    clips = [clip for clip in clips if encoding.anew or not is_written(clip)]
    if not clips:
        return
    if encoding.encoder == "copy":
        for clip in clips:
            copy_clip(path, clip, encoding)
        return
    by_gop = index is not None and index.plain and len(index.entries) > 0
    with open_video(path) as (container, stream):
        first = next(decode(container, stream))
        copying = encoding.encoder == "smart" and by_gop and index.free_id is not None and can_copy(stream, first)
    misread = []
    with open_video(path) as (container, stream):
        if by_gop:
            pieces = _pieces_by_gop(container, stream, clips, index, copying)
        else:
            pieces = _frames_in(clips, decode(container, stream))
        for clip, group in itertools.groupby(pieces, key=lambda pair: pair[0]):
            track = Track(path, stream, clip, encoding, edge_id=index.free_id if copying else None)
            try:
                for _, piece in group:
                    track.add(piece)
                if not track.finish():
                    misread.append(clip)
            finally:
                track.discard()
    if misread:  # the copied and the encoded parts do not decode as one: encode them whole
        write_clips(path, misread, index, replace(encoding, encoder="libx264"))


def _frames_in(clips: list[Clip], frames: Iterator[av.VideoFrame]) -> Iterator[tuple[Clip, av.VideoFrame]]:
    """Each frame that lies in a clip, with its clip; ends after the last clip."""
    k = 0
    for frame in frames:
        while k < len(clips) and frame.pts >= clips[k].stop_pts:
            k += 1
        if k == len(clips):
            return
        if frame.pts >= clips[k].start_pts:
            yield clips[k], frame


def _pieces_by_gop(
    container, stream, clips: list[Clip], index: SourceIndex, copying: bool
) -> Iterator[tuple[Clip, av.VideoFrame | av.Packet]]:
    """Frames and packets of the clips in order: packets of GOPs that lie inside one clip (where `copying`), else
    frames; the rest is not decoded.
    """
    decoder = stream.codec_context
    entries = [*map(int, index.entries), 2**63]
    k, stop, waiting = (
        0,
        None,
        [],
    )  # the next entry; where the GOP now read stops; the clips it holds frames of, None while its packets are copied

    def leave() -> Iterator[tuple[Clip, av.VideoFrame]]:
        yield from _frames_in(waiting, decoder.decode(None))
        decoder.flush_buffers()

    if entries[0] > index.times[0]:  # pictures before the first entry: decode them, as a player does
        stop, waiting = entries[0], [clip for clip in clips if clip.start_pts < entries[0]]
    inside = None
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if packet.pts == entries[k]:
            if waiting:
                yield from leave()
            start, stop, k = entries[k], entries[k + 1], k + 1
            touched = [clip for clip in clips if clip.start_pts < stop and clip.stop_pts > start]
            inside = (
                touched[0]
                if copying and touched and touched[0].start_pts <= start and stop <= _end_of(touched[0], index)
                else None
            )
            waiting = [] if inside else touched
            if start >= clips[-1].stop_pts:
                return
        if inside:
            yield inside, packet
        elif waiting:
            for frame in decoder.decode(packet):
                yield from _frames_in(waiting, iter([frame]))
                if frame.pts >= waiting[-1].times[-1]:
                    waiting = []
                    decoder.flush_buffers()
                    break
    if waiting:
        yield from leave()


def _end_of(clip: Clip, index: SourceIndex) -> int:
    """Where a clip stops, as far as copying goes: a clip that ends with the last frame may take all that follows."""
    return 2**63 if clip.times[-1] == index.times[-1] else clip.stop_pts


def copy_clip(path: str, clip: Clip, encoding: Encoding) -> None:
    """Copy packets from the last keyframe at or before the start: fast, any codec that mp4 holds, but not exact.

    Sets `clip.times` to what it got.
    """
    with open_video(path) as (container, stream):
        container.seek(clip.start_pts, stream=stream, backward=True)
        try:
            track = Track(path, stream, clip, encoding, edge_id=None)
        except ValueError as error:  # what the mp4 muxer says of a codec that it cannot hold
            raise VideoError(f"{path!r}: {error}; --encoder copy cannot put it into mp4, use another") from None
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.pts is None or packet.is_discard:
                    continue
                if not track.packets and not packet.is_keyframe:
                    continue
                if packet.dts is not None and packet.dts >= clip.stop_pts:
                    break
                track.add(packet)
            if not track.packets:
                raise VideoError(f"{path!r}: no keyframe at or before {clip.path.name}; use another --encoder")
            track.finish()
        finally:
            track.discard()


def read_identity(path: Path) -> dict:
    """What a clip says of itself in its comment; {} where it is not ours or not whole."""
    if not path.is_file():
        return {}
    try:
        with open_video(str(path)) as (container, _):
            written = json.loads(container.metadata.get("comment", "{}"))
    except (VideoError, ValueError):
        return {}
    return written if isinstance(written, dict) and isinstance(written.get("identity"), dict) else {}


def is_written(clip: Clip) -> bool:
    """Whether a run that was killed before it could say so has written this very clip; what it got is then taken over."""
    written = read_identity(clip.path)
    if written.get("identity") != clip.identity:
        return False
    clip.copied_frames, clip.audio_error = written["copied_frames"], written["audio_error"]
    if written["times"]:
        clip.times = np.array(written["times"], np.int64)
    return True
