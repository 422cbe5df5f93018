"""The media of an export: measuring a clip, and placing it as a link, a copy or an encode."""

import os
import shutil
import wave
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph

from utils.cutting.audio import encode_audio, read_audio
from utils.cutting.clip_track import decodes_to, graph_of, pts_of, to_progressive_sdr, to_upright
from utils.errors import VideoError
from utils.export.plan import Cut, Measured
from utils.storage import filesystem, is_url
from utils.video.geometry import display_transform, frame_to_array, pixel_aspect
from utils.video.opening import audio_track, decode, open_video, time_base_of, writing
from utils.video.stills import is_still
from utils.video.timing import frame_rate, last_frame_length, packet_times

X264_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
OWN_TIME_BASE = Fraction(1, 90_000)  # of clips whose frames keep their times


def measure(path: str) -> Measured:
    """A clip's frame times, size and rate, from its packets and its first frame; a still's is 1 frame a second, and lasts no time. Raises: `VideoError`."""
    if is_still(path):
        with open_video(path) as (container, stream):
            frame, aspect = next(decode(container, stream)), pixel_aspect(stream)
        turned = display_transform(frame)[0] % 2
        size = (frame.height, frame.width) if turned else (frame.width, frame.height)
        return Measured(np.zeros(1), 0.0, size, 1 / aspect if turned else aspect, Fraction(1), False, is_still=True)
    with open_video(path) as (container, stream):
        found = packet_times(container, stream)
        times = found[0] if found else None
        has_audio = audio_track(container, stream) is not None
    with open_video(path) as (container, stream):  # anew: after a seek, some edit lists give nothing
        first = next(decode(container, stream))
    if times is None:
        with open_video(path) as (container, stream):
            times = np.array([pts_of(frame) for frame in decode(container, stream)], np.int64)
    base, aspect = time_base_of(stream), pixel_aspect(stream)
    rate = frame_rate(times, base, stream.average_rate)
    turned = display_transform(first)[0] % 2
    size = (first.height, first.width) if turned else (first.width, first.height)
    last = float(last_frame_length(times, rate, base) * base)
    begin = int(times[0]) * base
    return Measured(
        (times - times[0]) * float(base), last, size, 1 / aspect if turned else aspect, rate, has_audio, begin
    )


def place(path: str, target: Path, how: str) -> None:
    """Put a file at `target`: `link`, a hard link, or where there can be none (another disk) a symbolic one; or `copy`."""
    temporary = target.with_name(f".{target.name}.tmp")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        if is_url(path):
            filesystem(path).get(path, str(temporary))
        elif how == "copy":
            shutil.copyfile(path, temporary)
        else:
            source = os.path.realpath(path)
            try:
                os.link(source, temporary)
            except OSError:
                os.symlink(source, temporary)
        os.replace(temporary, target)


def encode(
    path: str, target: Path, cut: Cut, crf: int, preset: str, audio: bool, form: tuple[int, int] | None = None
) -> tuple[Fraction, Fraction]:
    """Write the frames of `cut` as H.264, and the audio of their span where `audio` says so, in a `form` of `read_audio`; one encode, and the file appears
    when it has been decoded again and has exactly these frames at these times. Returns the span, in seconds of the container. Of a still: a PNG image.

    Raises: `VideoError`, `OutputError`.
    """
    if is_still(path):
        _write_still(path, target, cut)
        return Fraction(0), Fraction(0)
    temporary = target.with_name(f".{target.name}.tmp")
    rate = cut.fps
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # a link of this name would be written through
        out = av.open("file:" + os.path.abspath(temporary), "w", format="mp4", options={"movflags": "faststart"})
    try:
        packets: list[av.Packet] = []
        encoder: av.VideoStream | None = None
        seconds: list[float] = []
        with open_video(path) as (container, stream):
            base, own_rate = time_base_of(stream), stream.average_rate or Fraction(25)
            start: int | None = None
            stop: int | None = None
            shown = 0
            for number, pts, frame in _cut_frames(container, stream, cut):
                start = pts if start is None else start
                if number is None:
                    stop = pts  # the time of the frame after the last one
                    break
                if encoder is None:
                    encoder = _encoder(
                        out, frame, rate or own_rate, OWN_TIME_BASE if rate is None else 1 / rate, crf, preset
                    )
                for _ in range(cut.frames.count(number)):
                    frame.pts = round((pts - start) * base / OWN_TIME_BASE) if rate is None else shown
                    frame.time_base = OWN_TIME_BASE if rate is None else 1 / rate
                    frame.pict_type = 0
                    seconds.append(float(frame.pts * frame.time_base))
                    shown += 1
                    packets += encoder.encode(frame)
        if encoder is None or shown != len(cut.frames):
            raise VideoError(
                f"{path!r}: {shown} of the {len(cut.frames)} frames could be read; has it changed since it was measured?"
            )
        packets += encoder.encode(None)
        assert start is not None
        begin = start * base
        end = (
            begin + Fraction(shown) / rate
            if rate
            else (stop * base if stop is not None else begin + Fraction(seconds[-1]) + 1 / own_rate)
        )
        sound = read_audio(path, begin, end, form) if audio else None
        packets += encode_audio(out, *sound) if sound else []
        with writing(target):
            for packet in sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base):
                out.mux(packet)
            out.close()
        if not decodes_to(temporary, np.array(seconds)):
            raise VideoError(f"{path!r}: the encoded clip does not decode to the same frames; please report")
        with writing(target):
            os.replace(temporary, target)
        return begin, end
    finally:
        with writing(target):
            out.close()
            temporary.unlink(missing_ok=True)


def write_wav(path: str, target: Path, start: Fraction, stop: Fraction, form: tuple[int, int] | None) -> None:
    """The audio of a span as 16-bit PCM, in a `form` of `read_audio`. Raises: `VideoError`, `OutputError`."""
    samples, rate = read_audio(path, start, stop, form) or (np.zeros((1, 0), np.float32), 0)
    if not samples.size:
        raise VideoError(f"{path!r}: its audio cannot be read")
    temporary = target.with_name(f".{target.name}.tmp")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with wave.open(str(temporary), "wb") as out:
            out.setparams((len(samples), 2, rate, 0, "NONE", ""))
            out.writeframes((samples.clip(-1, 1) * 32767).round().astype("<i2").T.tobytes())
        os.replace(temporary, target)


def _cut_frames(
    container: av.container.InputContainer, stream: av.VideoStream, cut: Cut
) -> Iterator[tuple[int | None, int, av.VideoFrame]]:
    """The frames of `cut`, cropped and scaled, each with its number and PTS; then the one after them, if there is one, with None."""
    wanted, graph, times = set(cut.frames), None, []
    interlaced, given = False, 0
    numbers: list[int] = []
    for number, frame in enumerate(decode(container, stream)):
        times.append(pts_of(frame))
        if graph is None:
            interlaced = frame.interlaced_frame
            x, y, width, height = cut.box
            chain = [
                *to_progressive_sdr(frame),
                *to_upright(frame),
                ("crop", f"{width}:{height}:{x}:{y}:exact=1"),
                ("scale", f"{cut.size[0]}:{cut.size[1]}:flags=lanczos+accurate_rnd+full_chroma_int"),
                ("setsar", "1"),
                ("format", "yuv420p"),
            ]
            graph = graph_of(stream, chain)
        if number > cut.frames[-1]:
            for done in _pulled(graph, end=True):
                yield numbers[given], times[numbers[given]], done
                given += 1
            yield None, times[number], frame
            return
        if interlaced or number in wanted:  # a deinterlacer looks at neighbours
            numbers.append(number)
            graph.push(frame)
            for done in _pulled(graph):
                if numbers[given] in wanted:
                    yield numbers[given], times[numbers[given]], done
                given += 1
    if graph is not None:
        for done in _pulled(graph, end=True):
            if numbers[given] in wanted:
                yield numbers[given], times[numbers[given]], done
            given += 1


def _pulled(graph: Graph, end: bool = False) -> Iterator[av.VideoFrame]:
    if end:
        graph.vpush(None)
    with suppress(av.BlockingIOError, av.EOFError):
        while True:
            yield graph.vpull()


def _encoder(
    out: av.container.OutputContainer, frame: av.VideoFrame, rate: Fraction, time_base: Fraction, crf: int, preset: str
) -> av.VideoStream:
    stream = out.add_stream("libx264", rate=rate)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt, context.time_base = frame.width, frame.height, "yuv420p", time_base
    context.thread_count = 1
    for colour in ("color_range", "colorspace", "color_primaries", "color_trc"):
        setattr(context, colour, int(getattr(frame, colour)))
    context.options = {"crf": str(crf), "preset": preset, "x264-params": "cpu-independent=1"}
    return stream


def write_first_frame(media: Path, target: Path) -> None:
    """The first frame of a video as PNG. Raises: `VideoError`, `OutputError`."""
    with open_video(str(media)) as (container, stream):
        frame = frame_to_array(next(decode(container, stream)), "bgr24")
    _write_png(frame, target)


def _write_still(path: str, target: Path, cut: Cut) -> None:
    import cv2

    with open_video(path) as (container, stream):
        frame = frame_to_array(next(decode(container, stream)), "bgr24")
    x, y, width, height = cut.box
    inner = frame[y : y + height, x : x + width]
    how = cv2.INTER_AREA if width > cut.size[0] else cv2.INTER_LANCZOS4
    _write_png(inner if (width, height) == cut.size else cv2.resize(inner, cut.size, interpolation=how), target)


def _write_png(frame: np.ndarray, target: Path) -> None:
    """frame: uint8 (H, W, 3), BGR."""
    import cv2

    _, png = cv2.imencode(".png", frame)
    temporary = target.with_name(f".{target.name}.tmp")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.write_bytes(png.tobytes())
        os.replace(temporary, target)
