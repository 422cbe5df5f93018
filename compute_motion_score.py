"""Measure how much each clip moves, and what its camera does, from optical flow between frames at 2 fps.

Columns added: motion_score, mean flow magnitude in percent of the frame's short side per second (a clip scores the
same at 480p and 4K, at 24 and 60 fps); activity, in the same unit, the larger of camera_speed and subject_speed (the speed
of the fastest 1 % of the frame relative to the camera), medians over the clip's pairs of frames; camera_pan, camera_tilt, camera_zoom, camera_roll, camera_shake,
camera_jerk, camera_pan_path, camera_tilt_path, camera_known, residual_motion, moving_share, subject_share, static_share, jump, flicker (units: `measure_motion` in
utils/scoring/optical_flow.py); camera_motion, a description of the camera in words; cut_inside, 0–1, the confidence that the clip holds a missed cut
or dissolve (above 0.5: yes); duration in seconds; frame_size.

    python compute_motion_score.py --video_folder datasets/panda_70m/train --saved_path motion_score.jsonl
    python compute_motion_score.py --video_folder datasets/panda_70m/train --video_metadata_path clips.jsonl \\
        --text_score_metadata_path text_score.jsonl --text_score_threshold 0.02 --saved_path motion_score.jsonl

Camera motion is estimated from the background at the edges of the frame; a camera that moves forward counts as a zoom in. If fewer than half of the
pairs give an estimate, frames 1/8 second apart are tried; if these fail too, camera_known is below 0.5 and camera_motion is "static".

cut_inside is the largest change of structure and colours within half a second. If that is inconclusive, TransNetV2's score over all frames is used
instead; for clips not cut by stage 1 (according to their row), the larger of the two (--cut_inside).

Without the network, only the sampled frames and their reference frames are decoded, so damage elsewhere is not noticed here.
Clips of stage 1 contain none, because shot detection excludes damaged frames.

With --motion_estimator farneback --short_side 0 the score is EasyAnimate's: pixels at native size, over frames int(fps
/ 2) apart.
"""

import utils.startup  # isort: skip  # noqa: F401 (first: Ctrl-C while the others are imported)

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from math import floor, inf, isfinite
from typing import Any

import av
import numpy as np

from utils.cli import (
    add_crop_argument,
    add_filter_arguments,
    between,
    filters_of,
    from_flags,
    row_parser,
    run,
)
from utils.cutting.block_matching import picture_replaced
from utils.cutting.detectors import NETWORK
from utils.errors import VideoError
from utils.pipeline.ancestry import setting_of_existing
from utils.pipeline.crops import CropBoxes, measured_in
from utils.pipeline.filters import passing_rows
from utils.pipeline.process import RunOptions, process_rows
from utils.pipeline.row_list import open_rows
from utils.pipeline.score import Column, Score
from utils.scoring.optical_flow import SAMPLING_FPS, SHORT_SIDE, camera_name, farneback_score, measure_motion, prepare
from utils.video.cropping import cropped
from utils.video.geometry import display_size, frame_to_array, resize, short_side_size
from utils.video.opening import decode, open_video, time_base_of
from utils.video.sampling import FrameMissing, frames_at
from utils.video.timing import packet_times, seconds_between
from utils.video_utils import locate

# What a row holds of a clip that video_splitting.py has cut: its detector has seen the whole film.
CUT_BY_STAGE_1 = {"source_path", "source_digest", "start_seconds"}

DOUBT = 0.35  # of the flow's cut_inside: shots of one place differ by as much, and whip pans by more than many cuts
SINCE_0_4 = ("activity", "camera_speed", "subject_speed", "camera_jerk")
CLOSE_FPS, CLOSE_EVERY = 8, 4  # frames a second, and of how many frames a pair is looked at
CLOSE_SECONDS = 4  # of the clip, at most: decoding costs more than the flow

SCORE = Score(
    "motion",
    "motion_score.jsonl",
    {
        "motion_score": Column("mean length of the flow, % of the short side per second", 0, passes=(None, 25)),
        "activity": Column("the larger of camera_speed and subject_speed, pair by pair", 0, passes=(1.5, None)),
        "camera_speed": Column("how fast the camera's motion moves the frame, % of the short side per second", 0),
        "subject_speed": Column(
            "the fastest hundredth of the frame against the camera, % of the short side per second", 0
        ),
        "camera_pan": Column("camera to the right, % of the short side per second"),
        "camera_tilt": Column("camera up, % of the short side per second"),
        "camera_zoom": Column("growth of the content, % per second"),
        "camera_roll": Column("camera clockwise, degrees per second"),
        "camera_shake": Column(
            "mean change of pan and tilt between pairs of frames, % of the short side per second", 0
        ),
        "camera_jerk": Column("mean change of that change, % of the short side per second", 0),
        "camera_pan_path": Column("mean of pan without its sign, % of the short side per second", 0),
        "camera_tilt_path": Column("mean of tilt without its sign, % of the short side per second", 0),
        "camera_known": Column("pairs of frames that tell what the camera does", 0, 1),
        "residual_motion": Column("mean length of the flow without the camera's, % of the short side per second", 0),
        "moving_share": Column("pixels that move", 0, 1),
        "subject_share": Column("pixels that move against the camera", 0, 1),
        "static_share": Column("pairs of frames without motion", 0, 1),
        "jump": Column("largest difference that no flow explains, % of white", 0, 100),
        "flicker": Column("mean change of brightness between frames, % of white", 0, 100),
        "camera_motion": Column("pan, tilt, zoom and roll in words"),
        "cut_inside": Column("how sure it is that there is a cut or dissolve inside", 0, 1, passes=(None, 0.5)),
        "duration": Column("seconds", 0),
        "frame_size": Column("width and height as shown, pixels, a list", 1),
    },
    stills=False,
)


def motion_columns(
    row: dict,
    video_folder: str | None,
    estimator: str,
    short_side: int,
    sampling_fps: float,
    cut_inside: str = "flow",
    activity: bool = False,
    camera: str = "frame",
) -> dict:
    """The columns of one clip, from the sampled frames and those that they need, or from all where packets do not tell
    which those are or the network sees them. Without `activity`, those that files had before 0.4. `camera`: what tells its motion, the
    "background", or what most of the "frame" does, as in files made before there was a choice."""
    path, box = locate(row["video_path"], video_folder), row.get("crop_box")
    with_network = asks_network(row, cut_inside)
    columns = _all_columns(path, box, with_network, estimator, short_side, sampling_fps, camera == "background")
    if cut_inside == "ask" and not with_network and columns["cut_inside"] >= DOUBT:
        columns["cut_inside"] = cut_by_network(path)
    if not activity and estimator == "dis":
        columns = {name: value for name, value in columns.items() if name not in SINCE_0_4}
        columns["camera_motion"] = camera_name(columns)
    return columns | measured_in(row)


def _all_columns(
    path: str,
    box: list[int] | None,
    with_network: bool,
    estimator: str,
    short_side: int,
    sampling_fps: float,
    background: bool,
) -> dict:
    if with_network:
        return columns_with_network(path, box, short_side, sampling_fps, background)
    measure = farneback_columns if estimator == "farneback" else partial(dis_columns, background=background)
    with suppress(FrameMissing), open_video(path) as (container, stream):
        return measure(path, box, stream, partial(sampled_alone, container, stream), short_side, sampling_fps)
    with open_video(path) as (container, stream):
        return measure(path, box, stream, partial(sampled, decode(container, stream), stream), short_side, sampling_fps)


def asks_network(row: dict, cut_inside: str) -> bool:
    return cut_inside == "network" or (cut_inside in ("auto", "ask") and not row.keys() >= CUT_BY_STAGE_1)


def columns_with_network(
    path: str, box: list[int] | None, short_side: int, sampling_fps: float, background: bool = True
) -> dict:
    """All columns of `SCORE`, of which `cut_inside` is the larger value of the flow's and the network's."""
    from utils.cutting.cut_inside import CutInside
    from utils.cutting.detectors import network

    cut = CutInside(network())
    with open_video(path) as (container, stream):
        frames = cut.watch(decode(container, stream))
        columns = dis_columns(path, box, stream, partial(sampled, frames, stream), short_side, sampling_fps, background)
    return columns | {"cut_inside": max(columns["cut_inside"], round(cut.value(), 4))}


def cut_by_network(path: str) -> float:
    """`cut_inside` by the network alone, which sees all frames."""
    from utils.cutting.cut_inside import CutInside
    from utils.cutting.detectors import network

    cut = CutInside(network())
    with open_video(path) as (container, stream):
        for _ in cut.watch(decode(container, stream)):
            pass
    return round(cut.value(), 4)


def farneback_columns(
    path: str, box: list[int] | None, stream: av.VideoStream, sample: Callable, short_side: int, sampling_fps: float
) -> dict:
    """EasyAnimate's score. It samples by index, and its gray is that of RGB, not the codec's luma: its third digit shows
    it."""
    known: dict[str, Any] = {}
    samples, crop = sample(inf, known, every=max(1, int((stream.average_rate or 25) / 2))), cropped(box)
    grays = (prepare(frame_to_array(crop(frame), "rgb24"), short_side) for frame, _ in samples)
    return {"motion_score": farneback_score(at_least_two(grays, path, known))} | known


def dis_columns(
    path: str,
    box: list[int] | None,
    stream: av.VideoStream,
    sample: Callable,
    short_side: int,
    sampling_fps: float,
    background: bool = True,
) -> dict:
    """All columns of `SCORE`."""
    known: dict[str, Any] = {}
    times: list[float] = []
    crop = cropped(box)
    inside = ((crop(frame), seconds) for frame, seconds in sample(sampling_fps, known))
    grays = small_samples(inside, stream, short_side, times, known)
    closer = partial(close_pairs, path, box, short_side)
    columns = measure_motion(
        at_least_two(grays, path, known), iter(times), closer, background
    )  # a time is there before its frame
    return {name: round(value, 5) for name, value in columns.items()} | {"camera_motion": camera_name(columns)} | known


def close_pairs(path: str, box: list[int] | None, short_side: int) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Pairs of gray frames 1/8 second apart, one each half of the first four seconds, and the seconds between them."""
    with suppress(FrameMissing), open_video(path) as (container, stream):
        return _close_pairs(sampled_alone(container, stream, CLOSE_FPS, {}), stream, cropped(box), short_side)
    with open_video(path) as (container, stream):
        return _close_pairs(sampled(decode(container, stream), stream, CLOSE_FPS, {}), stream, cropped(box), short_side)


def _close_pairs(
    samples: Iterator[tuple[av.VideoFrame, float]], stream: av.VideoStream, crop: Callable, short_side: int
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    found: list[tuple[np.ndarray, float]] = []
    for number, (whole, seconds) in enumerate(samples):
        if seconds > CLOSE_SECONDS:
            break
        if number % CLOSE_EVERY < 2:
            frame = crop(whole)
            size = short_side_size(frame, stream, short_side) if short_side else None
            found.append((frame_to_array(frame, "gray", size), seconds))
    return [(before, after, later - earlier) for (before, earlier), (after, later) in zip(found[::2], found[1::2])]


def small_samples(
    samples: Iterator[tuple[av.VideoFrame, float]],
    stream: av.VideoStream,
    short_side: int,
    times: list[float],
    known: dict,
) -> Iterator[np.ndarray]:
    """The sampled frames in gray, their times appended to `times`; keeps the largest change between two in `known`."""
    before, known["cut_inside"] = None, 0.0
    for frame, seconds in samples:
        thumb = resize(frame_to_array(frame, "bgr24", short_side_size(frame, stream, 72)), 64, 36)
        if before is not None:
            known["cut_inside"] = max(known["cut_inside"], round(picture_replaced(before, thumb), 4))
        before = thumb
        times.append(seconds)
        yield frame_to_array(frame, "gray", short_side_size(frame, stream, short_side) if short_side else None)


def at_least_two(frames: Iterator, path: str, known: dict) -> Iterator:
    """The same frames. Raises: `VideoError` when they end before the second."""
    count = 0
    for count, frame in enumerate(frames, 1):  # noqa: B007
        yield frame
    if count < 2:
        raise VideoError(
            f"{path!r} is only {known['duration']:.3g} seconds long: motion needs two sampled frames; "
            "use longer clips, or a higher --sampling_fps"
        )


def sampled(
    frames: Iterator[av.VideoFrame], stream: av.VideoStream, fps: float, known: dict, every: int = 1
) -> Iterator[tuple[av.VideoFrame, float]]:
    """The first frame at or after each of 0, 1/fps, 2/fps, ... seconds, and its time, and of these `every` n-th; fills
    `known` with the clip's duration and frame size.
    """
    first, due, seconds, step, count = None, 0, 0.0, 0.0, 0
    for frame in frames:
        if first is None:
            first = frame.pts
            known["frame_size"] = list(display_size(frame, stream))
        previous, seconds = seconds, seconds_between(first, frame.pts, stream)
        step = seconds - previous or step
        if (seconds + 1e-3) * fps >= due:
            if count % every == 0:
                yield frame, seconds
            count += 1
            due = floor((seconds + 1e-3) * fps) + 1 if isfinite(fps) else 0
    known["duration"] = round(seconds + (step or 1 / float(stream.average_rate or 25)), 6)


def sampled_alone(
    container: av.container.InputContainer, stream: av.VideoStream, fps: float, known: dict, every: int = 1
) -> Iterator[tuple[av.VideoFrame, float]]:
    """As `sampled`, from packet times, decoding only the sampled frames and those that they are predicted from.

    Raises: `FrameMissing` where that does not give the frames that `sampled` does.
    """
    times = packet_times(container, stream)
    if times is None:
        raise FrameMissing
    shown, keyframes = times
    base = time_base_of(stream)
    seconds = (shown - shown[0]) * base.numerator / base.denominator  # to the last bit those of `seconds_between`
    passed = np.floor((seconds + 1e-3) * fps) if isfinite(fps) else np.arange(len(shown))
    indices = np.flatnonzero(np.diff(passed, prepend=-1))[::every]
    try:
        for i, frame in zip(indices, frames_at(container, stream, shown[indices], keyframes), strict=True):
            if i == 0:
                known["frame_size"] = list(display_size(frame, stream))
            yield frame, float(seconds[i])
    except av.FFmpegError:
        raise FrameMissing from None
    step = seconds[-1] - seconds[-2] if len(seconds) > 1 else 1 / float(stream.average_rate or 25)
    known["duration"] = round(float(seconds[-1] + step), 6)


def main() -> None:
    parser = row_parser(__doc__, SCORE.saved_path)
    parser.add_argument(
        "--motion_estimator", choices=["dis", "farneback"], default="dis", help="optical flow algorithm"
    )
    parser.add_argument(
        "--short_side",
        type=between(16, 8192, zero=True),
        default=SHORT_SIDE,
        help="short side to which frames are scaled for optical flow, pixels; 0 keeps the size",
    )
    parser.add_argument(
        "--sampling_fps",
        type=between(0.01, 1000, float),
        default=SAMPLING_FPS,
        help="frames per second for optical flow",
    )
    add_crop_argument(parser)
    add_filter_arguments(parser, motion=False)
    parser.add_argument(
        "--cut_inside",
        choices=["ask", "auto", "network", "flow"],
        help="how missed cuts and dissolves are found. flow: on the sampled frames; network: also by TransNetV2 on all frames; auto: "
        "TransNetV2 for clips not cut by stage 1; ask: also where flow is unsure, and there TransNetV2 alone decides "
        "(default: that of the existing --saved_path, else ask)",
    )
    args = parser.parse_args()
    if args.motion_estimator == "farneback":
        if args.cut_inside == "network":
            parser.error("--motion_estimator farneback gives no cut_inside; drop --cut_inside network")
        args.cut_inside = "flow"
    elif args.cut_inside is None:
        args.cut_inside = setting_of_existing(args.saved_path, args.overwrite, "cut_inside", "ask", old="flow")
    filters = filters_of(args)
    rows = open_rows(args.video_folder, args.video_metadata_path, args.video_path_column)
    boxes = CropBoxes.given_to(rows, args.crop_boxes, args.video_folder)
    choices = {"estimator": args.motion_estimator, "short_side": args.short_side, "sampling_fps": args.sampling_fps}
    if args.cut_inside != "flow":  # which files made before there was a choice do not name
        choices["cut_inside"] = args.cut_inside
    if args.motion_estimator == "dis" and setting_of_existing(
        args.saved_path, args.overwrite, "activity", True, old=False
    ):
        choices["activity"] = True
    if (
        args.motion_estimator == "dis"
        and setting_of_existing(args.saved_path, args.overwrite, "camera", "background", old="frame") != "frame"
    ):
        choices["camera"] = "background"
    read = partial(motion_columns, video_folder=args.video_folder, **choices)
    shared_import = NETWORK if any(asks_network(row, args.cut_inside) for row in rows.head(10_000)) else None
    step = SCORE.step(
        read,
        choices,
        passing=passing_rows(rows, filters),
        inputs=[*(f.file for f in filters), *boxes.inputs],
        is_whole=boxes.check_for(args.saved_path),
        shared_import=shared_import,
    )
    process_rows(step, rows, from_flags(RunOptions, args))


if __name__ == "__main__":
    run(main)
