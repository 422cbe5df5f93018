"""Writing clips that hold exactly the frames of a span of their source, in one pass over it.

`smart` copies every group of pictures (GOP) that lies wholly inside a clip and encodes only the frames at the edges
that lie in a GOP it shares with a neighbour; the copied frames are the source's own bits. It needs a source whose GOPs
can stand alone and stand beside x264's in one track: progressive 8-bit 4:2:0 H.264, upright, with square pixels. Any
other source is encoded whole, as with `libx264`.
"""

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph

from utils.h264 import IDR, PPS, SPS, nal_length_size, nal_units, parameter_set_id, parameter_sets, track_header
from utils.sound import encode_sound, read_sound
from utils.video_utils import VideoError, decode, display_transform, open_video, packets_tell_times

EDGE_SPS_ID = (
    31  # of the encoded parts: sources count from 0, and two parameter sets of one number cannot share a track
)
PROGRESSIVE = 1  # AVFieldOrder AV_FIELD_PROGRESSIVE
PQ, HLG = 16, 18  # colour transfer functions of HDR, ITU-T H.273 table 3


@dataclass(frozen=True)
class Encoding:
    """How clips are written. `encoder` is libx264, h264_nvenc, smart or copy; `crf` is x264's, or NVENC's constant
    quality.
    """

    encoder: str = "smart"
    crf: int = 18
    preset: str = "veryfast"
    audio: bool = True
    threads: int = 1


@dataclass(eq=False)
class Clip:
    """A span [start_pts, stop_pts) of the source, `times` the PTS of its frames, and the file to be."""

    path: Path
    times: np.ndarray
    stop_pts: int
    identity: dict
    copied_frames: int = 0
    audio_error: str | None = None

    @property
    def start_pts(self) -> int:
        return int(self.times[0])


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
    clips = [clip for clip in clips if not is_written(clip)]
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


class Track:
    """One clip on its way: the packets of its video in decoding order, copied or encoded, until `finish` writes the
    file.
    """

    def __init__(self, source: str, stream: av.VideoStream, clip: Clip, encoding: Encoding, edge_id: int | None):
        """`edge_id`: the number for parameter sets of encoded parts that stand beside copied ones; None to encode all."""
        self.source, self.stream, self.clip, self.encoding = source, stream, clip, encoding
        self.edge_id = edge_id
        self.copying = edge_id is not None or encoding.encoder == "copy"
        self.packets: list[av.Packet] = []
        self.encoder: av.VideoCodecContext | None = None
        self.graph: Graph | None = None
        self.parameter_sets: list[tuple[int, bytes]] = []  # of the encoded edges beside copied GOPs
        self.temporary = clip.path.with_name(f".{clip.path.name}.tmp")
        self.temporary.parent.mkdir(parents=True, exist_ok=True)
        target = "file:" + os.path.abspath(self.temporary)
        self.out = av.open(target, "w", format="mp4", options={"movflags": "faststart"})
        # An opaque template keeps any codec's header; ours is written anew where edges are encoded.
        self.video = self.out.add_stream_from_template(stream, opaque=edge_id is None) if self.copying else None

    def add(self, piece: av.VideoFrame | av.Packet) -> None:
        if isinstance(piece, av.Packet):
            self._end_encoder()
            self.packets.append(piece)
            self.clip.copied_frames += 1
        else:
            if self.graph is None:
                self.graph = upright_graph(self.stream, piece)
            self.graph.push(piece)
            self._encode_filtered()

    def finish(self) -> bool:
        """Check that the frames are those of the span, write the file, rename it.

        False, and no file, where copied and encoded parts turn out not to decode as one.

        Raises: `VideoError` when a frame is missing or another one is there.
        """
        self._end_encoder()
        clip, times = self.clip, np.array(sorted(packet.pts for packet in self.packets), np.int64)
        if self.encoding.encoder == "copy":
            clip.times = times
        elif not np.array_equal(times, clip.times):
            raise VideoError(
                f"{self.source!r}: {clip.path.name} got {len(times)} frames where its span has {len(clip.times)}; "
                "the file may be damaged"
            )
        # Decoding times: those of presentation in order, as much earlier as the reordering asks. One rule for copied
        # and encoded parts.
        delay = max(int(time) - packet.pts for time, packet in zip(times, self.packets))
        lengths = np.diff(times, append=max(clip.stop_pts, int(times[-1]) + 1)).tolist()
        length_of = dict(zip(times.tolist(), lengths))
        for time, packet in zip(times.tolist(), self.packets):
            packet.dts, packet.duration = time - delay - int(times[0]), length_of[packet.pts]
            packet.pts -= int(times[0])
            packet.time_base, packet.stream = self.stream.time_base, self.video
        if self.edge_id is not None:
            extradata = self.stream.codec_context.extradata
            sets = (parameter_sets(extradata) if clip.copied_frames else []) + self.parameter_sets
            self.video.codec_context.extradata = track_header(sets, nal_length_size(extradata))
        sound = self._sound_packets(times[0] * self.stream.time_base, clip.stop_pts * self.stream.time_base)
        self.out.metadata["comment"] = json.dumps(
            {
                "identity": clip.identity,
                "copied_frames": clip.copied_frames,
                "audio_error": clip.audio_error,
                "times": times.tolist() if self.encoding.encoder == "copy" else None,
            }
        )
        for packet in sorted([*self.packets, *sound], key=lambda packet: packet.dts * packet.time_base):
            self.out.mux(packet)
        self.out.close()
        if (
            0 < clip.copied_frames < len(times)
            and self.edge_id is not None
            and not decodes_to(self.temporary, len(times))
        ):
            clip.copied_frames = 0
            return False
        os.replace(self.temporary, clip.path)
        return True

    def discard(self) -> None:
        """Leave nothing of a clip that is not whole."""
        self.out.close()
        self.temporary.unlink(missing_ok=True)

    def _encode_filtered(self) -> None:
        while True:
            try:
                frame = self.graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            if self.encoder is None:
                self.encoder = self._open_encoder(frame)
            frame.pts = round(frame.pts * frame.time_base / self.stream.time_base)  # bwdif counts in half steps
            frame.time_base = self.stream.time_base
            frame.pict_type = 0  # the encoder's choice; the source's would force its keyframes
            self._add_encoded(self.encoder.encode(frame))

    def _end_encoder(self) -> None:
        if self.graph is not None:
            self.graph.vpush(None)
            self._encode_filtered()
            self.graph = None
        if self.encoder is not None:
            self._add_encoded(self.encoder.encode(None))
            self.encoder = None

    def _add_encoded(self, packets: list[av.Packet]) -> None:
        """Encoded packets, beside copied ones brought to the source's form: its length prefixes, its parameter sets
        apart.
        """
        for packet in packets:
            if self.edge_id is None:
                self.packets.append(packet)
                continue
            length_size = nal_length_size(self.stream.codec_context.extradata)
            units = []
            for kind, unit in nal_units(bytes(packet), 0):
                if kind in (SPS, PPS):
                    if (kind, unit) not in self.parameter_sets:
                        self.parameter_sets.append((kind, unit))
                else:
                    units.append((len(unit).to_bytes(length_size, "big") if length_size else b"\0\0\0\1") + unit)
            plain = av.Packet(b"".join(units))
            plain.pts, plain.is_keyframe = packet.pts, packet.is_keyframe
            self.packets.append(plain)

    def _open_encoder(self, frame: av.VideoFrame) -> av.VideoCodecContext:
        rate = self.stream.average_rate or Fraction(25)
        name = "h264_nvenc" if self.encoding.encoder == "h264_nvenc" else "libx264"
        if self.edge_id is not None:
            context = av.CodecContext.create(name, "w")
            context.framerate = rate
        else:
            self.video = self.out.add_stream(name, rate=rate)
            context = self.video.codec_context
        context.width, context.height, context.pix_fmt = frame.width, frame.height, "yuv420p"
        context.time_base = self.stream.time_base
        for colour in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(context, colour, int(getattr(frame, colour)))
        if name == "libx264":
            context.thread_count = self.encoding.threads
            context.options = {"crf": str(self.encoding.crf), "preset": self.encoding.preset}
            if self.edge_id is not None:
                context.options |= {"x264-params": f"sps-id={self.edge_id}"}
        else:
            context.options = {"cq": str(self.encoding.crf), "rc": "vbr", "preset": "p4"}
        return context

    def _sound_packets(self, start: Fraction, stop: Fraction) -> list[av.Packet]:
        if not self.encoding.audio:
            return []
        try:
            sound = read_sound(self.source, start, stop)
        except VideoError as error:  # a broken audio track is no reason to lose the pictures
            self.clip.audio_error = str(error)
            return []
        return [] if sound is None else encode_sound(self.out, *sound)


def upright_graph(stream: av.VideoStream, first: av.VideoFrame) -> Graph:
    """Filters that bring frames to what every loader shows right: progressive, upright, square pixels, SDR BT.709 if
    HDR, even sides, yuv420p.
    """
    chain = []
    if first.interlaced_frame:
        chain.append(("bwdif", "mode=send_frame:deint=interlaced"))
    if first.color_trc in (PQ, HLG):  # libswscale maps tones since FFmpeg 8
        chain.append(("scale", "out_color_matrix=bt709:out_primaries=bt709:out_transfer=bt709:intent=perceptual"))
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1
    if aspect != 1:
        chain += [("scale", f"{round(first.width * aspect / 2) * 2}:ih"), ("setsar", "1")]
    turns, mirrored = display_transform(first)
    chain += [[], [("transpose", "cclock")], [("hflip", ""), ("vflip", "")], [("transpose", "clock")]][turns]
    if mirrored:
        chain.append(("hflip", ""))
    chain += [("crop", "floor(iw/2)*2:floor(ih/2)*2:0:0:exact=1"), ("format", "yuv420p")]
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(template=stream), *(graph.add(*step) for step in chain), graph.add("buffersink")
    ).configure()
    return graph


def decodes_to(path: Path, count: int) -> bool:
    """Whether a file gives `count` frames, none of them damaged."""
    try:
        with open_video(str(path)) as (container, stream):
            damaged = [frame.is_corrupt for frame in decode(container, stream)]
    except VideoError:
        return False
    return len(damaged) == count and not any(damaged)


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
