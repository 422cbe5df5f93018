"""One clip on its way to its file: encoding, brought upright; muxing copied and encoded packets into one track."""

import json
import os
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.filter import Graph

from utils.cutting.audio import ReadAudio, encode_audio, read_audio
from utils.cutting.h264 import PPS, SPS, nal_length_size, nal_units, parameter_sets, track_header
from utils.cutting.unfinished import claim, unfinished
from utils.errors import VideoError
from utils.storage import put
from utils.video.geometry import display_transform
from utils.video.opening import decode, open_video, time_base_of, writing
from utils.working_copies import url_of

PQ, HLG = 16, 18  # colour transfer functions of HDR, ITU-T H.273 table 3


@dataclass(frozen=True)
class Encoding:
    """How clips are written. `encoder` is libx264, h264_nvenc, smart or copy; `crf` is x264's, or NVENC's constant
    quality; `overwrite`: also write clips that exist.
    """

    encoder: str = "smart"
    crf: int = 18
    preset: str = "veryfast"
    audio: bool = True
    threads: int = 1
    overwrite: bool = False


@dataclass(eq=False)
class Clip:
    """A span [start_pts, stop_pts) of the source, `times` the PTS of its frames, and the file to be, or the working copy of
    the object to be; `may_exist`: whether there is one already.
    """

    path: Path
    times: np.ndarray
    stop_pts: int
    identity: dict
    copied_frames: int = 0
    audio_error: str | None = None
    may_exist: bool = True

    @property
    def start_pts(self) -> int:
        return int(self.times[0])


def pts_of(piece: av.VideoFrame | av.Packet) -> int:
    """The PTS of a frame or packet that is known to have one."""
    assert piece.pts is not None
    return piece.pts


class Track:
    """One clip on its way: the packets of its video in decoding order, copied or encoded, until `finish` writes the
    file.
    """

    def __init__(
        self,
        source: str,
        stream: av.VideoStream,
        clip: Clip,
        encoding: Encoding,
        edge_id: int | None,
        sound: ReadAudio | None = None,
    ):
        """`edge_id`: the number for parameter sets of encoded parts that stand beside copied ones; None to encode all.
        `sound`: gives the samples of a span; None for those at the same times of the source.
        """
        self.sound = sound or partial(read_audio, source)
        self.source, self.stream, self.clip, self.encoding = source, stream, clip, encoding
        assert stream.time_base is not None  # a stream that is demuxed has one
        self.time_base = stream.time_base
        self.edge_id = edge_id
        self.copying = edge_id is not None or encoding.encoder == "copy"
        self.packets: list[av.Packet] = []
        self.encoder: av.VideoCodecContext | None = None
        self.graph: Graph | None = None
        self.parameter_sets: list[tuple[int, bytes]] = []  # of the encoded edges beside copied GOPs
        self.temporary = unfinished(clip.path)
        target = "file:" + os.path.abspath(self.temporary)
        with writing(clip.path):
            self.temporary.parent.mkdir(parents=True, exist_ok=True)
            self.claimed = claim(self.temporary)
            self.out = av.open(target, "w", format="mp4", options={"movflags": "faststart"})
        # An opaque template keeps any codec's header; ours is rewritten where edges are encoded.
        try:
            self.video = self.out.add_stream_from_template(stream, opaque=edge_id is None) if self.copying else None
        except ValueError:
            self.discard()
            raise

    def add(self, piece: av.VideoFrame | av.Packet) -> None:
        if isinstance(piece, av.Packet):
            self._end_encoder()
            self.packets.append(piece)
            self.clip.copied_frames += 1
        else:
            if self.graph is None:
                self.graph = upright_graph(self.stream, piece)
            self.graph.push(piece)
            self._encode_filtered(self.graph)

    def finish(self) -> bool:
        """Check that the frames are those of the span, write the file, rename it, upload it where it has a URL.

        False, and no file, where copied and encoded parts turn out not to decode as one.

        Raises: `VideoError` when a frame is missing or another one is there.
        """
        self._end_encoder()
        clip, times = self.clip, np.array(sorted(pts_of(packet) for packet in self.packets), np.int64)
        if self.encoding.encoder == "copy":
            clip.times = times
        elif not np.array_equal(times, clip.times):
            raise VideoError(
                f"{self.source!r}: of the {len(clip.times)} frames of {clip.path.name}, "
                f"{len(np.intersect1d(times, clip.times))} could be read; the source may be damaged there, or has changed "
                "since its shots were detected: play it, or detect its shots again"
            )
        # Decoding times: those of presentation in order, as much earlier as the reordering asks. One rule for copied
        # and encoded parts.
        delay = max(int(time) - pts_of(packet) for time, packet in zip(times, self.packets))
        lengths = np.diff(times, append=max(clip.stop_pts, int(times[-1]) + 1)).tolist()
        length_of = dict(zip(times.tolist(), lengths))
        for time, packet in zip(times.tolist(), self.packets):
            packet.dts, packet.duration = time - delay - int(times[0]), length_of[pts_of(packet)]
            packet.pts = pts_of(packet) - int(times[0])
            packet.time_base, packet.stream = self.time_base, self.video
        if self.edge_id is not None and self.video is not None:
            extradata = self.stream.codec_context.extradata or b""
            sets = (parameter_sets(extradata) if clip.copied_frames else []) + self.parameter_sets
            self.video.codec_context.extradata = track_header(sets, nal_length_size(extradata))
        audio = self._audio_packets(times[0] * self.time_base, clip.stop_pts * self.time_base)
        self.out.metadata["comment"] = json.dumps(
            {
                "identity": clip.identity,
                "copied_frames": clip.copied_frames,
                "audio_error": clip.audio_error,
                "times": times.tolist() if self.encoding.encoder == "copy" else None,
            }
        )
        with writing(clip.path):
            for packet in sorted([*self.packets, *audio], key=lambda packet: (packet.dts or 0) * packet.time_base):
                self.out.mux(packet)
            self.out.close()
        if (
            0 < clip.copied_frames < len(times)
            and self.edge_id is not None
            and not decodes_to(self.temporary, (times - times[0]) * float(self.time_base))
        ):
            clip.copied_frames = 0
            return False
        with writing(clip.path):
            os.replace(self.temporary, clip.path)
            if url := url_of(clip.path):
                put(clip.path, url)
        return True

    def discard(self) -> None:
        """Leave nothing of a clip that is not whole."""
        try:
            with writing(self.clip.path):
                self.out.close()
                self.temporary.unlink(missing_ok=True)
        finally:
            os.close(self.claimed)

    def _encode_filtered(self, graph: Graph) -> None:
        while True:
            try:
                frame = graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            if self.encoder is None:
                self.encoder = self._open_encoder(frame)
            assert frame.time_base is not None  # filters set one
            frame.pts = round(pts_of(frame) * frame.time_base / self.time_base)  # bwdif counts in half steps
            frame.time_base = self.time_base
            frame.pict_type = 0  # the encoder's choice; the source's would force its keyframes
            self._add_encoded(self.encoder.encode(frame))

    def _end_encoder(self) -> None:
        if self.graph is not None:
            self.graph.vpush(None)
            self._encode_filtered(self.graph)
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
        name: Literal["h264_nvenc", "libx264"] = "h264_nvenc" if self.encoding.encoder == "h264_nvenc" else "libx264"
        if self.edge_id is not None:
            context = av.CodecContext.create(name, "w")
            context.framerate = rate
        else:
            self.video = self.out.add_stream(name, rate=rate)
            context = self.video.codec_context
        context.width, context.height, context.pix_fmt = frame.width, frame.height, "yuv420p"
        context.time_base = self.time_base
        for colour in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(context, colour, int(getattr(frame, colour)))
        if name == "libx264":
            context.thread_count = self.encoding.threads
            # x264's AVX-512 code for macroblock trees gives other bits from run to run; what it does on any CPU does not.
            parameters = "cpu-independent=1" + ("" if self.edge_id is None else f":sps-id={self.edge_id}")
            context.options = {"crf": str(self.encoding.crf), "preset": self.encoding.preset, "x264-params": parameters}
        else:
            context.options = {"cq": str(self.encoding.crf), "rc": "vbr", "preset": "p4"}
        return context

    def _audio_packets(self, start: Fraction, stop: Fraction) -> list[av.Packet]:
        if not self.encoding.audio:
            return []
        try:
            audio = self.sound(start, stop)
        except VideoError as error:  # a broken audio track is no reason to lose the frames
            self.clip.audio_error = str(error)
            return []
        return [] if audio is None else encode_audio(self.out, *audio)


def upright_graph(stream: av.VideoStream, first: av.VideoFrame) -> Graph:
    """Filters that bring frames to what every loader shows right: progressive, upright, square pixels, SDR BT.709 if
    HDR, even sides, yuv420p.
    """
    chain = to_progressive_sdr(first)
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1
    if aspect != 1:
        chain += [("scale", f"{round(first.width * aspect / 2) * 2}:ih"), ("setsar", "1")]
    chain += to_upright(first)
    chain += [("crop", "floor(iw/2)*2:floor(ih/2)*2:0:0:exact=1"), ("format", "yuv420p")]
    return graph_of(stream, chain)


def to_progressive_sdr(first: av.VideoFrame) -> list[tuple[str, str]]:
    """Filters, each with its arguments, that take interlacing and HDR out of the frames of a video whose first one this is."""
    chain = []
    if first.interlaced_frame:
        chain.append(("bwdif", "mode=send_frame:deint=interlaced"))
    if first.color_trc in (PQ, HLG):  # libswscale maps tones since FFmpeg 8
        chain.append(("scale", "out_color_matrix=bt709:out_primaries=bt709:out_transfer=bt709:intent=perceptual"))
    return chain


def to_upright(first: av.VideoFrame) -> list[tuple[str, str]]:
    """Filters that turn frames upright."""
    turns, mirrored = display_transform(first)
    quarter: list[list[tuple[str, str]]] = [
        [],
        [("transpose", "cclock")],
        [("hflip", ""), ("vflip", "")],
        [("transpose", "clock")],
    ]
    return quarter[turns] + ([("hflip", "")] if mirrored else [])


def graph_of(stream: av.VideoStream, chain: list[tuple[str, str]]) -> Graph:
    """The filters as a graph that takes frames of the stream."""
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(template=stream), *(graph.add(*step) for step in chain), graph.add("buffersink")
    ).configure()
    return graph


def decodes_to(path: Path, seconds: np.ndarray) -> bool:
    """Whether a file gives frames at these times from the first one on, none of them damaged."""
    try:
        with open_video(str(path)) as (container, stream):
            frames = [
                (float(pts_of(frame) * time_base_of(stream)), frame.is_corrupt) for frame in decode(container, stream)
            ]
    except VideoError:
        return False
    shown, damaged = np.array(frames).T
    return len(shown) == len(seconds) and np.allclose(shown - shown[0], seconds, atol=1e-3) and not damaged.any()
