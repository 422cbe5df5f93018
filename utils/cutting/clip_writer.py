"""Writing clips that hold exactly the frames of a span of their source, in one pass over it.

`smart` copies what of a clip can be copied from an IDR frame on: whole groups of pictures (GOPs), and the head of one
up to a seam (`seams.py`). It encodes only the frames at the edges; the copied frames are the source's own bits. It needs
a source whose GOPs can stand alone and stand beside x264's in one track: progressive 8-bit 4:2:0 H.264, upright, with
square pixels. Any other source is encoded whole, as with `libx264`.
"""

import itertools
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from utils.cutting.audio import JoinedAudio, Joint
from utils.cutting.clip_track import HLG, PQ, Clip, Encoding, Track, pts_of
from utils.cutting.h264 import IDR, PPS, SPS, nal_length_size, nal_units, parameter_set_id, parameter_sets
from utils.cutting.seams import find_seams
from utils.errors import OutputError, VideoError
from utils.storage import is_url
from utils.video.geometry import display_transform
from utils.video.opening import decode, open_video, packets_tell_times, time_base_of
from utils.video.timing import Clock
from utils.working_copies import url_of

END = 2**63 - 1  # a PTS after all
PROGRESSIVE = 1  # AVFieldOrder AV_FIELD_PROGRESSIVE


@dataclass(frozen=True)
class SourceIndex:
    """What the packets tell, and the first frame.

    `times`: PTS of all frames shown, rising. `entries` and `seams`: numbers of frames, see `find_seams`; none where a
    packet is not one frame shown. `free_id`: the highest number that no parameter set of the source has, for those of
    encoded edges. `can_copy`: whether packets may be copied beside encoded ones.
    """

    times: np.ndarray
    entries: np.ndarray
    seams: np.ndarray
    free_id: int
    can_copy: bool


def index_source(path: str) -> SourceIndex | None:
    """Read the packets of a video once; None where they do not give their times, or these begin anew."""
    times: list[int] = []
    begins: list[bool] = []
    sets: dict[tuple[int, int], bytes] = {}
    plain = steady = True
    with open_video(path) as (container, stream):
        if not packets_tell_times(container):
            return None
        is_h264 = stream.codec_context.codec.canonical_name == "h264"
        extradata = stream.codec_context.extradata
        length_size, clock = nal_length_size(extradata), Clock(stream)
        units = parameter_sets(extradata) if is_h264 and extradata else []
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if packet.pts is None or clock.begins_anew(packet):
                return None
            if packet.is_discard:
                plain = False
                continue
            times.append(packet.pts)
            begins.append(False)
            steady &= not packet.has_sidedata("new_extradata")
            if is_h264:
                units += nal_units(bytes(packet), length_size)
            for kind, unit in units:
                begins[-1] |= kind == IDR
                if kind in (SPS, PPS):
                    steady &= sets.setdefault((kind, parameter_set_id(kind, unit)), unit) == unit
            units = []
    if not times:
        return None
    unique = np.unique(np.array(times, np.int64))
    plain = plain and len(unique) == len(times)
    entries, seams = find_seams(np.array(times if plain else [], np.int64), np.array(begins if plain else [], bool))
    free = set(range(32)) - {number for _, number in sets}
    can_copy = bool(steady and free and len(entries))
    if can_copy:
        with open_video(path) as (container, stream):
            can_copy = _stands_beside_x264(stream, next(decode(container, stream)))
    return SourceIndex(unique, entries, seams, max(free, default=0), can_copy)


def decoded_times(path: str, joints: list[Joint] | None = None) -> np.ndarray:
    """PTS of all frames, by decoding them: for files whose packets do not tell. `joints` gets where the file's times begin anew."""
    found: list[tuple[int, int]] = []
    with open_video(path) as (container, stream):
        times = np.array([pts_of(frame) for frame in decode(container, stream, joints=found)], np.int64)
        base = time_base_of(stream)
    if joints is not None:
        joints += [Joint(stored * base, shown * base) for stored, shown in found]
    return times


def _stands_beside_x264(stream: av.VideoStream, first: av.VideoFrame) -> bool:
    """Whether GOPs of this source may stand in one track beside x264's (see the head of this file)."""
    context = stream.codec_context
    aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio or 1
    return (
        context.codec.canonical_name == "h264"
        and getattr(context, "field_order", PROGRESSIVE) == PROGRESSIVE  # PyAV 17 leaves it to the frame to tell
        and first.format.name == "yuv420p"
        and first.color_trc not in (PQ, HLG)
        and not first.interlaced_frame
        and display_transform(first) == (0, False)
        and aspect == 1
        and context.width % 2 == context.height % 2 == 0
    )


def write_clips(
    path: str, clips: list[Clip], index: SourceIndex | None, encoding: Encoding, joints: Sequence[Joint] = ()
) -> None:
    """Write all clips of a source, in order. Each appears under its name when it is whole and has been found to hold
    its frames. `joints`: where the source's times begin anew.

    Raises: `VideoError`; clips written before it stay.
    """
    clips = [clip for clip in clips if encoding.overwrite or not is_written(clip)]
    if not clips:
        return
    if encoding.encoder == "copy":
        if joints:
            raise VideoError(
                f"{path!r}: its timestamps restart at {float(joints[0].shown):.3f} s, where files were joined; --encoder copy cannot "
                "find its frames, use another encoder"
            )
        for clip in clips:
            copy_clip(path, clip, encoding)
        return
    sound = JoinedAudio(path, joints).read if joints else None
    copying = encoding.encoder == "smart" and index is not None and index.can_copy
    misread = []
    with open_video(path) as (container, stream):
        if index is not None and len(index.entries):
            pieces = _pieces_by_gop(container, stream, _gops(clips, index, copying))
        else:
            pieces = _frames_in(clips, decode(container, stream))
        for clip, group in itertools.groupby(pieces, key=lambda pair: pair[0]):
            track = Track(
                path, stream, clip, encoding, edge_id=index.free_id if index and copying else None, sound=sound
            )
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
    """Each frame that belongs to a clip, with its clip; ends after the last clip."""
    k = 0
    for frame in frames:
        while k < len(clips) and pts_of(frame) >= clips[k].stop_pts:
            k += 1
        if k == len(clips):
            return
        if pts_of(frame) >= clips[k].start_pts:
            yield clips[k], frame


@dataclass
class _Gop:
    """What is done with a GOP that ends before the packet with PTS `stop`: its packets before the PTS `copied` go to the
    clip `head` as they are; its frames from there on are decoded for the clips `decoded`.
    """

    stop: int
    head: Clip | None
    copied: int
    decoded: list[Clip]


def _gops(clips: list[Clip], index: SourceIndex, copying: bool) -> Iterator[_Gop]:
    """The GOPs in order, up to the end of the last clip; what is before the first entry is decoded, as a player does."""
    starts = [*index.times[index.entries].tolist(), END]
    seams = [*index.times[index.seams[:-1]].tolist(), END]
    if index.entries[0] > 0:
        starts.insert(0, int(index.times[0]))
    k = 0
    for start, stop in itertools.pairwise(starts):
        while clips[k].stop_pts <= start:
            k += 1
            if k == len(clips):
                return
        head, copied = None, start
        if copying and clips[k].start_pts <= start and start >= index.times[index.entries[0]]:
            head = clips[k]
            end = END if head.times[-1] == index.times[-1] else head.stop_pts  # the last takes all that follows
            copied = seams[bisect_right(seams, min(stop, end)) - 1]
        after = bisect_left(clips, stop, key=lambda clip: clip.start_pts)
        yield _Gop(stop, head, copied, [clip for clip in clips[k:after] if clip.stop_pts > copied])


def _pieces_by_gop(
    container: InputContainer, stream: av.VideoStream, gops: Iterator[_Gop]
) -> Iterator[tuple[Clip, av.VideoFrame | av.Packet]]:
    """Frames and packets of the clips in order; what no clip needs is not decoded."""
    decoder = stream.codec_context

    def decode_for(gop: _Gop, packet: av.Packet | None) -> Iterator[tuple[Clip, av.VideoFrame]]:
        yield from _frames_in(gop.decoded, (frame for frame in decoder.decode(packet) if pts_of(frame) >= gop.copied))

    def leave(gop: _Gop) -> Iterator[tuple[Clip, av.VideoFrame]]:
        if gop.decoded:
            yield from decode_for(gop, None)
            decoder.flush_buffers()

    gop = next(gops)
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if packet.pts == gop.stop:
            yield from leave(gop)
            following = next(gops, None)
            if following is None:
                return
            gop = following
        if gop.head and pts_of(packet) < gop.copied:
            yield gop.head, packet
        if gop.decoded:
            needed = pts_of(packet) >= max(gop.copied, gop.decoded[0].start_pts)
            decoder.skip_frame = "DEFAULT" if needed else "NONREF"
            for clip, frame in decode_for(gop, packet):
                yield clip, frame
                if pts_of(frame) >= gop.decoded[-1].times[-1]:
                    gop.decoded = []
                    decoder.flush_buffers()
                    break
    yield from leave(gop)


def copy_clip(path: str, clip: Clip, encoding: Encoding) -> None:
    """Copy packets from the last keyframe at or before the start: fast, any codec that mp4 holds, but not exact.

    Sets `clip.times` to what it got.
    """
    with open_video(path) as (container, stream):
        container.seek(clip.start_pts, stream=stream, backward=True)
        try:
            track = Track(path, stream, clip, encoding, edge_id=None)
        except OutputError:
            raise
        except ValueError as error:  # what the mp4 muxer says of a codec that it cannot hold
            raise VideoError(f"{path!r}: {error}; --encoder copy cannot mux it into mp4, use another encoder") from None
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
    """What a clip, here or behind its URL, says of itself in its comment; {} where it is not ours or not whole."""
    place = stored_at(path)
    if not is_url(place) and not path.is_file():
        return {}
    try:
        with open_video(place) as (container, _):
            written = json.loads(container.metadata.get("comment", "{}"))
    except (VideoError, ValueError):
        return {}
    return written if isinstance(written, dict) and isinstance(written.get("identity"), dict) else {}


def stored_at(path: Path) -> str:
    """Where a clip is: the file `path`, or the URL whose working copy that was."""
    return str(path) if path.is_file() else url_of(path) or str(path)


def is_written(clip: Clip) -> bool:
    """Whether a run that was killed before it could say so has written this very clip; what it got is then taken over."""
    written = read_identity(clip.path) if clip.may_exist else {}
    if written.get("identity") != clip.identity:
        return False
    clip.copied_frames, clip.audio_error = written["copied_frames"], written["audio_error"]
    if written["times"]:
        clip.times = np.array(written["times"], np.int64)
    return True
