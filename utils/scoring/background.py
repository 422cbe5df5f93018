"""Camera motion between two frames: the motion of the background, from the flow at some points of the frame.

Most of the frame may be a person. So points count more at the edges of the frame, where people seldom are but for their feet, and what is
still there says that the camera is. A camera that drives forward moves near things fast and far ones hardly, which no similarity
follows; but all points that move then move away from one point. Where neither is found, nobody can tell.
"""

import math

import cv2
import numpy as np

EDGE, FEET = (
    0.7,
    (0.5, 0.6),
)  # of half the frame's size: from there to the border is the edge, but for the middle of its lower quarter
INSIDE = 0.2  # weight of a point that is not at the edge
STILL = 0.75  # pixels: a point that moves by less is still
STILL_SHARE = 0.35  # of the points' weight
GROUND, GROUND_STILL = (0.5, 0.2), 0.15  # of half the frame's size: the lower corners; share of their points
FOLLOWED = 0.3  # share of the points' weight that follows the camera; of what moves without a camera, it is below 0.25
AGAINST = 0.3  # of the share that follows: what stands still may be as much
TOLERANCE = (1.0, 0.08)  # pixels, and share of the speed there: lenses, depth
SURE = (2.0, 0.15)  # levels, and share of the contrast around, that flow may leave unexplained at a point
OUTWARD = 0.85  # cosine between a point's motion and the direction away from the point that all come from
ALL_OUTWARD = 0.7  # share of the moving points, over the frame and on each side of it
LEAST = 40  # moving points that tell anything
MOVES = 1.2  # pixels


def similarity(points: np.ndarray, steps: np.ndarray) -> np.ndarray | None:
    """The matrix [[a, -b, dx], [b, a, dy]] that most points follow, by RANSAC with a tolerance of one pixel; None for none.

    points, steps: float32 (n, 2), in pixels, (x, y).
    """
    if len(points) < 6:
        return None
    matrix = cv2.estimateAffinePartial2D(points, points + steps, method=cv2.RANSAC, ransacReprojThreshold=1.0)[0]
    if matrix is None or not 0.5 < math.hypot(*matrix[:, 0]) < 2:  # no camera doubles the size between two frames
        return None
    return np.asarray(matrix)


def at_edge(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Where the background is seen: the frame's edge but for the middle of its lower quarter. u, v: -1 to 1, to the right and down."""
    return ((np.abs(u) > EDGE) | (np.abs(v) > EDGE)) & ~((v > FEET[0]) & (np.abs(u) < FEET[1]))


def background_motion(
    points: np.ndarray, steps: np.ndarray, is_sure: np.ndarray, size: tuple[int, int]
) -> np.ndarray | None:
    """The camera's similarity about the frame's centre, as `similarity` gives it, or None where nobody can tell.

    A drive forward or back is a growth about the centre: the median of how fast the points go away from their common origin.

    points, steps: float32 (n, 2), in pixels from the frame's centre; is_sure: bool (n,), where the flow explains what is seen;
    size: width and height in pixels.
    """
    u, v = (points / np.array(size, np.float32) * 2).T
    edge = at_edge(u, v)
    weights = np.where(edge, 1.0, INSIDE)
    speed = np.hypot(*steps.T)
    still, moves = is_sure & (speed < STILL), is_sure & (speed > MOVES)
    ground = (v > GROUND[1]) & (np.abs(u) > GROUND[0])
    ground_moves = ground.sum() >= LEAST / 2 and still[ground].mean() < GROUND_STILL
    growth = drive(points[moves], steps[moves], size) if ground_moves or not ground.any() else None
    if growth is not None:
        return np.array([[1 + growth, 0, 0], [0, 1 + growth, 0]])
    if weights[still].sum() >= STILL_SHARE * weights.sum():
        if ground_moves:
            return None  # a sky that stands still over a road that runs too fast
        matrix = similarity(points[still], steps[still])  # a slow move is in it
        return np.eye(2, 3) if matrix is None else matrix
    best, share = None, FOLLOWED * weights.sum()
    for chosen in (is_sure, is_sure & edge):
        matrix = similarity(points[chosen], steps[chosen])
        if matrix is None:
            continue
        expected = points @ matrix[:, :2].T + matrix[:, 2] - points
        near = np.hypot(*(steps - expected).T) < TOLERANCE[0] + TOLERANCE[1] * np.hypot(*expected.T)
        against = weights[
            still & ~near
        ].sum()  # a camera that moves leaves nothing still but what is laid over the picture
        if weights[near].sum() > share and against < AGAINST * weights[near].sum():
            best, share = matrix, weights[near].sum()
    return best


def drive(points: np.ndarray, steps: np.ndarray, size: tuple[int, int]) -> float | None:
    """Growth between the frames where all points move away from one point within the frame, or towards it (below 0); else None.

    That point, the focus of expansion, is the least-squares crossing of the lines along which the points move, reweighted.
    """
    if len(points) < LEAST:
        return None
    speed = np.hypot(*steps.T)
    across = np.stack([-steps[:, 1], steps[:, 0]], 1) / speed[:, None]
    weights, focus = np.ones(len(points)), np.zeros(2)
    for _ in range(4):
        normal = (across * weights[:, None]).T
        focus = np.linalg.solve(normal @ across + 1e-6 * len(points) * np.eye(2), normal @ (across * points).sum(1))
        away = points - focus
        distance = np.hypot(*away.T) + 1e-6
        weights = 1 / (1 + (np.abs((across * away).sum(1)) / (0.3 * (distance + 10))) ** 2)
    along = (steps * away).sum(1)
    far = distance > 0.15 * size[1]
    if far.sum() < LEAST or (np.abs(focus) > 0.35 * np.array(size)).any():
        return None
    way = 1 if np.median(along[far]) > 0 else -1
    outward = way * along > OUTWARD * speed * distance
    for side in (far, far & (away[:, 0] < 0), far & (away[:, 0] > 0)):
        if side.sum() < LEAST / 4 or outward[side].mean() < ALL_OUTWARD:
            return None
    return float(np.median((along / distance**2)[far & outward]))
