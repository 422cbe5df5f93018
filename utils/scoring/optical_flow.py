"""Motion of a clip, in percent of the frame's short side per second, from dense optical flow between frames at 2 fps.

One flow field a pair answers all questions: how much moves, what the camera does, what moves against the camera. The
flow is DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) on gray frames with a 256-pixel
short side. Alone it loses motions above some 15 % of the short side between two frames: a pan of 40 % of the width per
second reads as a third. So a second run starts from the frame's global shift, which phase correlation finds.
"""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from utils.scoring.background import SURE, at_edge, background_motion, similarity

SHORT_SIDE = 256  # pixels
SAMPLING_FPS = 2
LARGE_SHIFT = 16  # pixels between two frames; below, DIS needs no start
TEXTURE = 4  # gray levels between darkest and brightest of 5 x 5 pixels; below, there is nothing that flow could follow
MIN_TEXTURE = 0.05  # share of pixels; below, nobody can tell what the camera does
GRID = 8  # pixels between the points that the camera's motion is fitted to
MOVING = 1.5  # %/s: from here on a pixel moves; above what codecs stir up on still footage
STILL = 0.5  # %/s: below this mean a pair of frames is still
FASTEST = 0.01  # of the pixels: a subject that covers more of the frame counts as if it covered this much
NAMED = 1.2  # %/s: a camera motion that moves the frame by less goes unnamed
SLOW, STEADY = 0.6, 0.5  # %/s, and share of the jerk, from which on a slow motion is named: a push-in of half a minute
JERKS, WAVERS = (
    7.0,
    1.75,
)  # %/s of jerk, and path over what the jerk alone would give, up to which a camera is in a hand: chance has 1
PREVAILS = 0.9  # of the path: a camera that goes so far one way is no camera held in a hand, whatever its speed does
TO_AND_FRO = 3.0  # %/s: a camera that comes back is named for the ways that it goes this fast
KNOWN = (
    0.5  # share of the pairs that must tell what the camera does; else closer pairs are looked at, or it goes unnamed
)
SHAKES, JERKY = 4.0, 1.4  # the rule until 0.4: %/s of shake, and jerk over shake, from which on a camera is in a hand
Pairs = Iterable[
    tuple[np.ndarray, np.ndarray, float]
]  # of frames as `prepare` returns them, with the seconds between them


def prepare(frame: np.ndarray, short_side: int = SHORT_SIDE) -> np.ndarray:
    """Gray uint8 (h, w) of a uint8 RGB (H, W, 3) or gray (H, W) frame; `short_side` 0 keeps the size."""
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) if frame.ndim == 3 else frame
    scale = short_side / min(gray.shape)
    if scale in (0, 1):
        return gray
    size = (round(gray.shape[1] * scale), round(gray.shape[0] * scale))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def pair_flow(previous: np.ndarray, following: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Flow in pixels, float32 (2, h, w), dx and dy; the mean difference, 0–255, that it leaves unexplained; and that
    difference, uint8 (h, w).

    previous, following: gray uint8 (h, w), as `prepare` returns them.
    """
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # one that was used before gives other flow
    no_start: Any = None  # which OpenCV's type hints leave out
    flow = _planes(estimator.calc(previous, following, no_start))
    unexplained, left = _difference(previous, following, flow)
    half = (previous.shape[1] // 2, previous.shape[0] // 2)
    small = [cv2.resize(gray, half, interpolation=cv2.INTER_AREA).astype(np.float32) for gray in (previous, following)]
    shift = 2 * np.array(cv2.phaseCorrelate(small[0], small[1], _hanning(half))[0])
    overlap = np.prod(1 - np.abs(shift) / previous.shape[::-1])
    if np.hypot(*shift) > LARGE_SHIFT and overlap > 0.4:
        start = np.empty((*previous.shape, 2), np.float32)
        start[:] = np.round(shift)
        shifted = _planes(estimator.calc(previous, following, start))
        remaining, left_then = _difference(previous, following, shifted)
        if remaining < 0.85 * unexplained:  # real pans gain a quarter and more, chance peaks next to nothing
            return shifted, remaining, left_then
    return flow, unexplained, left


def _planes(flow: Any) -> np.ndarray:
    """(h, w, 2) as (2, h, w), with which everything after is faster."""
    planes = np.empty((2, *flow.shape[:2]), np.float32)
    cv2.mixChannels([flow], list(planes), [0, 0, 1, 1])
    return planes


@lru_cache(4)
def _hanning(size: tuple[int, int]) -> np.ndarray:
    return np.asarray(cv2.createHanningWindow(size, cv2.CV_32F))


def _difference(
    a: np.ndarray, b: np.ndarray, flow: np.ndarray, where: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Absolute difference of `a` and `b` drawn back along `flow`: its mean, 0–255, in the mask `where` and the frame, and its image."""
    h, w = a.shape
    x = flow[0] + np.arange(w, dtype=np.float32)
    y = flow[1] + np.arange(h, dtype=np.float32)[:, None]
    inside = cv2.bitwise_and(cv2.inRange(x, 0, w - 1), cv2.inRange(y, 0, h - 1))
    inside = inside if where is None else inside * where
    left = cv2.absdiff(a, cv2.remap(b, x, y, cv2.INTER_LINEAR))
    return cv2.mean(left, inside)[0] if inside.any() else 255.0, left


def fit_camera(
    previous: np.ndarray, following: np.ndarray, flow: np.ndarray, left: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """The camera's motion: what the background follows (`background_motion`), or, without `left`, most of the textured frame.

    left: the difference that the flow leaves, uint8 (h, w).
    Returns its matrix [[a, -b, dx], [b, a, dy]] about the frame's centre, in pixels; its flow field (2, h, w); the
    measured flow with the flat areas filled in, because there DIS reads noise; and whether it is known. Flat areas take the
    camera's motion, unless they match better when held still.
    """
    h, w = previous.shape
    grid = np.s_[GRID // 2 :: GRID, GRID // 2 :: GRID]
    x, y = (np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2) for n in (w, h))
    y = y[:, None]
    smooth = cv2.GaussianBlur(previous, (0, 0), 1)
    contrast = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))
    textured = contrast >= TEXTURE
    matrix, is_known = np.eye(2, 3), True
    if textured.mean() > MIN_TEXTURE:
        at = textured[grid]
        points = np.stack(np.broadcast_arrays(x[grid[1]], y[grid[0]]), 2)[at]
        steps = np.stack([plane[grid][at] for plane in flow], 1)
        if left is None:
            found = similarity(points, steps)
        else:
            is_sure = cv2.blur(left, (9, 9))[grid][at] < SURE[0] + SURE[1] * contrast[grid][at]
            inside = (np.abs(points + steps) < np.array([w, h]) / 2).all(1)
            found = background_motion(points[inside], steps[inside], is_sure[inside], (w, h))
            is_known = found is not None
        matrix = matrix if found is None else found
    (a, _, dx), (b, _, dy) = matrix
    camera = np.empty_like(flow)
    camera[0] = (a - 1) * x - b * y + dx
    camera[1] = b * x + (a - 1) * y + dy
    flat = cv2.erode((~textured).astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    if flat.any():
        held = cv2.mean(cv2.absdiff(previous, following), flat.view(np.uint8))[0]
        still = held < 0.9 * _difference(previous, following, camera, flat)[0]
        flow = np.where(flat, np.float32(0) if still else camera, flow)
        # A subject before a bare wall: the wall is the camera's witness.
        if still and (flat if left is None else flat[at_edge(x / (w / 2), y / (h / 2))]).mean() > 0.5:
            matrix, camera, is_known = np.eye(2, 3), np.zeros_like(flow), True
    return matrix, camera, flow, is_known


def measure_motion(
    frames: Iterable[np.ndarray],
    times_seconds: Iterable[float],
    close_pairs: Callable[[], Pairs] | None = None,
    background: bool = True,
) -> dict[str, float]:
    """The clip's motion columns: means over the pairs of neighbouring frames, in % of the short side per second (%/s).

    frames: gray uint8 (h, w), as `prepare` returns them; times_seconds: when they are shown, rising; close_pairs: gives pairs of frames
    closer in time, asked for where fewer than half of the others tell what the camera does; background: False for the rule until 0.4,
    by which the camera does what most of the frame does.

    - `motion_score`: mean length of the flow, %/s. A pan of 10 % of the width per second at 16:9 gives 17.8.
    - `camera_pan`: > 0 to the right (the frame's content moves left); `camera_tilt`: > 0 up (the content moves down), %/s.
    - `camera_zoom`: > 0 in, percent of growth per second (logarithm of the scale times 100).
    - `camera_roll`: > 0 clockwise (the content turns counterclockwise), degrees per second.
    - `camera_shake`: mean change of (pan, tilt) from pair to pair, %/s; 0 for steady motion and for a single pair.
    - `camera_jerk`: mean change of that change, %/s: what tells a hand's shake from a path that curves.
    - `camera_pan_path`, `camera_tilt_path`: mean of pan and tilt without their sign, %/s: a camera that follows to and fro comes back.
    - `camera_known`: share of the pairs that tell what the camera does, 0–1; the columns of its motion are means over these.
    - `residual_motion`: mean length of the flow without the camera's, %/s: what the subjects do.
    - `camera_speed`: mean length of the camera's own field; `subject_speed`: speed against the camera that the fastest hundredth of the pixels
      reaches; both %/s, and medians over the pairs, so that what happens for less than half of the clip does not count.
    - `activity`: the larger of the two: something happens, be it the camera or a subject, however small.
    - `moving_share`, `subject_share`: pixels faster than 1.5 %/s in the frame, and against the camera, 0–1.
    - `static_share`: pairs of frames with a mean below 0.5 %/s, 0–1.
    - `jump`: the largest mean difference that no flow explains, 0–100 % of white: high at a cut inside the clip.
    - `flicker`: mean change of the mean brightness from frame to frame, 0–100 % of white.

    Raises: ValueError for fewer than two frames, a time missing or not rising, frames of different sizes.
    """
    pairs, previous, before = [], None, 0.0
    for frame, seconds in zip(frames, times_seconds, strict=True):
        if previous is not None:
            pairs.append(_measure_pair(previous, frame, seconds - before, background))
        previous, before = frame, seconds
    if not pairs:
        raise ValueError("motion needs two or more frames, each with its time")
    columns = {name: float(np.mean([pair[name] for pair in pairs])) for name in pairs[0]}
    columns |= {name: float(np.median([pair[name] for pair in pairs])) for name in ("camera_speed", "subject_speed")}
    columns["activity"] = float(np.median([max(pair["camera_speed"], pair["subject_speed"]) for pair in pairs]))
    columns["jump"] = max(pair["jump"] for pair in pairs)
    path = np.array([[pair[name] for name in CAMERA] for pair in pairs if pair["camera_known"]]).reshape(
        -1, len(CAMERA)
    )
    known = len(path) / len(pairs)
    if not background:
        del columns["camera_known"]
    elif known < KNOWN and close_pairs:
        close = [_measure_camera(*pair) for pair in close_pairs()]
        path = np.array([moved for moved in close if moved is not None]).reshape(-1, len(CAMERA))
        known = columns["camera_known"] = len(path) / max(len(close), 1)
    return columns | _camera_columns(path if known >= KNOWN else np.zeros((1, len(CAMERA))), background)


CAMERA = ("camera_pan", "camera_tilt", "camera_zoom", "camera_roll")


def _camera_columns(path: np.ndarray, background: bool) -> dict[str, float]:
    """path: (n, 4), of each pair what CAMERA names."""
    columns = dict(zip(CAMERA, map(float, path.mean(axis=0)), strict=True))
    velocities = path[:, :2]
    columns["camera_shake"] = float(np.hypot(*np.diff(velocities, axis=0).T).mean()) if len(path) > 1 else 0.0
    columns["camera_jerk"] = float(np.hypot(*np.diff(velocities, 2, axis=0).T).mean()) if len(path) > 2 else 0.0
    if background:
        columns |= zip(
            ("camera_pan_path", "camera_tilt_path"), map(float, np.abs(velocities).mean(axis=0)), strict=True
        )
    return columns


def _measure_camera(previous: np.ndarray, following: np.ndarray, seconds: float) -> list[float] | None:
    """What CAMERA names between two frames; None where nobody can tell."""
    flow, _, left = pair_flow(previous, following)
    matrix, _, _, is_known = fit_camera(previous, following, flow, left)
    return _speeds(matrix, min(previous.shape), seconds) if is_known else None


def _speeds(matrix: np.ndarray, short_side: int, seconds: float) -> list[float]:
    """Pan and tilt in %/s, zoom in %/s of growth, roll in degrees per second."""
    (a, _, dx), (b, _, dy) = matrix
    unit = 100 / short_side / seconds
    return [
        -dx * unit,
        dy * unit,
        100 * math.log(math.hypot(a, b)) / seconds,
        -math.degrees(math.atan2(b, a)) / seconds,
    ]


def _measure_pair(previous: np.ndarray, following: np.ndarray, seconds: float, background: bool) -> dict[str, float]:
    if previous.shape != following.shape:
        raise ValueError(f"the frames of a clip must have one size, got {previous.shape} and {following.shape}")
    if not seconds > 0:
        raise ValueError(f"frame times must rise, got a step of {seconds} s")
    flow, unexplained, left = pair_flow(previous, following)
    matrix, camera, flow, is_known = fit_camera(previous, following, flow, left if background else None)
    unit = 100 / min(previous.shape) / seconds
    speed, own_speed, camera_speed = (cv2.magnitude(*field) * unit for field in (flow, flow - camera, camera))
    fastest = own_speed[::2, ::2].ravel()  # a quarter of the pixels tells as much
    nth = len(fastest) - 1 - round(FASTEST * len(fastest))
    return {
        "motion_score": speed.mean(),
        **dict(zip(CAMERA, _speeds(matrix, min(previous.shape), seconds), strict=True)),
        "camera_known": is_known,
        "camera_speed": camera_speed.mean(),
        "subject_speed": np.partition(fastest, nth)[nth],
        "residual_motion": own_speed.mean(),
        "moving_share": (speed > MOVING).mean(),
        "subject_share": (own_speed > MOVING).mean(),
        "static_share": speed.mean() < STILL,
        "jump": unexplained / 2.55,
        "flicker": abs(cv2.mean(following)[0] - cv2.mean(previous)[0]) / 2.55,
    }


def camera_name(columns: dict[str, float]) -> str:
    """One or two of pan left/right, tilt up/down, zoom in/out, roll clockwise/counterclockwise; "static"; "handheld".

    The stronger comes first ("pan left and zoom in"). Zoom and roll count by how far they move the average pixel, which
    lies half the short side from the centre. A camera that comes back where it was is named by both ways ("pan right and pan left").
    Columns of files begun before 0.4 are named by their rule, also those without a `camera_jerk`.
    """
    strengths = {
        ("pan left", "pan right"): columns["camera_pan"],
        ("tilt down", "tilt up"): columns["camera_tilt"],
        ("zoom out", "zoom in"): 0.5 * columns["camera_zoom"],
        ("roll counterclockwise", "roll clockwise"): 50 * math.radians(columns["camera_roll"]),
    }
    strongest = max(map(abs, strengths.values()))
    if _is_handheld(columns, strongest):
        return "handheld"
    named = {names[bool(v > 0)]: abs(v) for names, v in strengths.items()}
    lowest = NAMED
    if "camera_pan_path" in columns:
        lowest = min(NAMED, max(SLOW, STEADY * columns["camera_jerk"]))
    if "camera_pan_path" in columns and strongest < max(
        lowest, 0.3 * columns["camera_pan_path"], 0.3 * columns["camera_tilt_path"]
    ):
        lowest = TO_AND_FRO
        for way, names in (("pan", ("pan left", "pan right")), ("tilt", ("tilt down", "tilt up"))):
            path, net = columns[f"camera_{way}_path"], columns[f"camera_{way}"]
            named |= {names[0]: (path - net) / 2, names[1]: (path + net) / 2}
    lowest = max(lowest, max(named.values()) / 2)
    return (
        " and ".join(sorted((name for name, v in named.items() if v >= lowest), key=lambda name: -named[name])[:2])
        or "static"
    )


def _is_handheld(columns: dict[str, float], strongest: float) -> bool:
    """Whether the path is no longer than chance makes it, jolts of the size that the jerk shows: for such, the path is `jerk / 2.7`.

    Velocities (pan, tilt) that are drawn anew for each pair, normal with a deviation of s each way, have a mean second difference of
    s * sqrt(6) * sqrt(pi / 2) = 3.07 s and a mean length each way of 0.8 s.
    """
    shake, jerk = columns["camera_shake"], columns.get("camera_jerk")
    if "camera_pan_path" in columns:
        path, net = max((columns[f"camera_{way}_path"], abs(columns[f"camera_{way}"])) for way in ("pan", "tilt"))
        length = math.hypot(columns["camera_pan_path"], columns["camera_tilt_path"])
        return (
            columns["camera_jerk"] > JERKS and length < WAVERS * columns["camera_jerk"] / 2.7 and net < PREVAILS * path
        )
    if jerk is None:
        return shake > max(5 * NAMED, 1.5 * strongest)
    return shake > max(SHAKES, 0.8 * strongest) and jerk > JERKY * shake


def farneback_score(frames: Iterable[np.ndarray]) -> float:
    """Mean flow length in pixels, as EasyAnimate scores motion: Farneback at native size, mean over all pairs.

    frames: gray uint8 (H, W), every `max(1, int(fps / 2))`-th frame from the first on, converted from RGB or BGR as
    `prepare(frame, 0)` does; the codec's own luma changes the third digit.

    Raises: ValueError for fewer than two frames.
    """
    scores, previous = [], None
    no_start: Any = None
    for frame in frames:
        if previous is not None:
            flow = cv2.calcOpticalFlowFarneback(previous, frame, no_start, 0.5, 3, 15, 3, 5, 1.2, 0)
            scores.append(cv2.magnitude(*cv2.split(flow)).mean())
        previous = frame
    if not scores:
        raise ValueError("motion needs two or more frames")
    return float(np.mean(scores))
