"""One source and its clips: from its row of shots to the files and their rows."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from utils.cutting.audio import JoinedAudio, Joint, read_audio
from utils.cutting.clip_names import (
    MAX_NAME_BYTES,
    clip_name,
    remove_other_clips,
    remove_other_objects,
    remove_working_copies,
)
from utils.cutting.clip_track import Clip, Encoding
from utils.cutting.clip_writer import SourceIndex, decoded_times, index_source, stored_at, write_clips
from utils.cutting.pauses import speech_between, split_in_pauses
from utils.cutting.seams import split_at_seams
from utils.cutting.spans import ROUNDING, ClipLimits, split_shot, usable_spans
from utils.errors import VideoError
from utils.pipeline.ancestry import stamp_of
from utils.storage import is_url, read_whole
from utils.video.geometry import display_size
from utils.video.opening import audio_track, decode, open_video, writing
from utils.video.timing import frame_rate, last_frame_length
from utils.video_utils import content_digest, file_size, locate
from utils.working_copies import local_path, remove


@dataclass(frozen=True, eq=False)
class Source:
    """A video to be cut. `times`: the PTS of its frames, rising; `index`: of its packets, None where they do not give
    these times; `average_rate`: as the container declares it; `joints`: where the file's own times begin anew.
    """

    path: str
    times: np.ndarray
    index: SourceIndex | None
    time_base: Fraction
    average_rate: Fraction | None
    joints: Sequence[Joint] = ()

    @cached_property
    def borders(self) -> np.ndarray:
        """PTS at which its frames begin, then the end of the last one."""
        rate = frame_rate(self.times, self.time_base, self.average_rate)
        return np.append(self.times, int(self.times[-1]) + last_frame_length(self.times, rate, self.time_base))

    @cached_property
    def border_seconds(self) -> np.ndarray:
        """The same in seconds from the first frame."""
        return (self.borders - self.borders[0]) * float(self.time_base)


def split_video(
    row: dict, video_folder: str | None, output_folder: str, limits: ClipLimits, encoding: Encoding
) -> list[dict]:
    """Write the clips of one source and return their rows. `row`: of cutscene_detect.py, with a `clip_prefix`.

    Raises: `VideoError`.
    """
    path = locate(row["video_path"], video_folder)
    with read_whole(path):
        return _split(path, row, output_folder, limits, encoding)


def _split(path: str, row: dict, output_folder: str, limits: ClipLimits, encoding: Encoding) -> list[dict]:
    source = read_source(path, row.get("num_frames"))
    at_seams = limits.long_shots == "keyframe" and encoding.encoder == "smart"
    spans = frame_spans(source, row, limits, at_seams)
    if not spans:
        raise VideoError(
            f"{source.path!r}: no whole number of its frames lasts {limits.min_seconds:g} to {limits.max_seconds:g} s"
        )
    digest = content_digest(source.path)
    if digest != row.get("source_digest", digest):
        raise VideoError(f"{source.path!r} is not the file whose shots were detected; detect its shots again")
    made_of = {
        "source": row["video_path"],
        "bytes": file_size(source.path),
        "digest": digest,
        "encoding": [encoding.encoder, encoding.crf, encoding.preset, encoding.audio],
    }
    clips, folder = [], local_path(output_folder)
    for number, (first, stop) in enumerate(spans, 1):
        begin, end = int(source.borders[first]), int(source.borders[stop])
        file = Path(folder, clip_name(row["clip_prefix"], number))
        clips.append(Clip(file, source.times[first:stop], end, {**made_of, "span": [begin, end]}))
    if any(len(os.fsencode(clip.path.name)) > MAX_NAME_BYTES for clip in clips):
        raise VideoError(f"{source.path!r}: its name is too long to add a scene number to; rename it")
    names = {clip.path.name for clip in clips}
    if is_url(output_folder):
        with writing(folder):
            left = remove_other_objects(output_folder, row, keep=names)
        for clip in clips:
            clip.may_exist = clip.path.relative_to(folder).as_posix() in left
    else:
        remove_other_clips(output_folder, row, keep=names)
    try:
        write_clips(source.path, clips, source.index, encoding, source.joints)
        if not is_url(source.path) and not (os.path.exists(source.path) and content_digest(source.path) == digest):
            for clip in clips:
                remove(clip.path)
            raise VideoError(f"{source.path!r} was replaced or removed while it was cut; detect its shots again")
        return [
            {
                "video_path": clip.path.relative_to(folder).as_posix(),
                "source_path": row["video_path"],
                "source_digest": digest,
                **clip_columns(clip, source),
                "clip_count": len(clips),
            }
            for clip in clips
        ]
    finally:
        if is_url(output_folder):
            remove_working_copies(output_folder, row)


def read_source(path: str, num_frames: int | None) -> Source:
    """The frame times of a video, from its packets where they give `num_frames` of them, else by decoding all frames.

    Raises: `VideoError` when the video does not have `num_frames` frames; None for any number.
    """
    index = index_source(path)
    joints: list[Joint] = []
    if index is not None and num_frames in (None, len(index.times)):
        times = index.times
    else:
        index, times = None, decoded_times(path, joints)
        if num_frames not in (None, len(times)):
            raise VideoError(
                f"{path!r} has {len(times)} frames, num_frames is {num_frames}: it has changed; detect its shots again"
            )
    with open_video(path) as (_, stream):
        assert stream.time_base is not None  # a stream that was demuxed has one
        return Source(path, times, index, stream.time_base, stream.average_rate, joints)


def frame_spans(source: Source, row: dict, limits: ClipLimits, at_seams: bool) -> list[tuple[int, int]]:
    """Frame indices [first, stop) of the clips that a row's shots give; `at_seams`: where copying needs least encoding.

    Raises: `VideoError` for a shot outside the video.
    """
    borders, spans = source.border_seconds, []
    read = JoinedAudio(source.path, source.joints).read if source.joints else partial(read_audio, source.path)
    for start, stop in usable_spans(row, limits):
        first, last = (int(i) for i in np.searchsorted(borders, [start - ROUNDING, stop - ROUNDING]))
        if last <= first or stop > borders[-1] + 0.1:
            raise VideoError(
                f"{source.path!r}: the shot {start:g} to {stop:g} s is outside the video of {borders[-1]:g} s; detect its shots again"
            )
        last = min(last, len(source.times))
        shot, index = borders[first : last + 1], source.index
        shortest, longest, entries = limits.min_seconds, limits.max_seconds, np.zeros(0, int)
        parts = split_shot(shot, shortest, longest, limits.long_shots)
        if at_seams and index is not None and index.can_copy:
            entries, seams = (at[(at >= first) & (at <= last)] - first for at in (index.entries, index.seams))
            parts = split_at_seams(shot, entries, seams, shortest, longest, even=parts)
        if limits.prefer_pauses and shot[-1] - shot[0] > longest + 2 * ROUNDING:
            begin, end = (int(source.borders[at]) * source.time_base for at in (first, last))
            with suppress(VideoError):  # its clips' rows will have it
                speech = [(a + shot[0], b + shot[0]) for a, b in speech_between(read, begin, end)]
                parts = split_in_pauses(shot, speech, entries, shortest, longest, parts)
        spans += [(first + a, first + b) for a, b in parts]
    return spans


def clip_columns(clip: Clip, source: Source) -> dict:
    """What the row of a written clip says of its file.

    Raises: `VideoError`; `OutputError` where it is gone, which is no fault of the source.
    """
    place = stored_at(clip.path)
    with writing(place):
        size_in_bytes = file_size(place)
    with open_video(place) as (container, stream):
        size = display_size(next(decode(container, stream)), stream)
        codec, has_audio = stream.codec_context.codec.canonical_name, audio_track(container, stream) is not None
    start, stop = clip.start_pts - int(source.times[0]), clip.stop_pts - int(source.times[0])
    return {
        "start_seconds": float(start * source.time_base),
        "end_seconds": float(stop * source.time_base),
        "num_frames": len(clip.times),
        "frame_rate": str(frame_rate(clip.times, source.time_base, source.average_rate)),
        "frame_size": list(size),
        "duration": float((stop - start) * source.time_base),
        "codec": codec,
        "has_audio": has_audio,
        **({"audio_error": clip.audio_error} if clip.audio_error else {}),
        "copied_frames": clip.copied_frames,
        "bytes": size_in_bytes,
        "stamp": stamp_of(place),
    }
