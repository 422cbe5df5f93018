"""Which frames of a clip are looked at."""

from collections.abc import Sequence

import numpy as np


def choose_frames(method: str, count: int, num_frames: int, keyframes: Sequence[int] = (0,)) -> list[int]:
    """Indices, rising and each once, of `count` frames out of `num_frames`.

    uniform: `linspace(0, num_frames, count, endpoint=False)`, rounded down (EasyAnimate's: [0, 59, 119, 179] of 239);
    mid: the one in the middle; first and last: the frame at that end; keyframe: `keyframes`, or `count` spread over
    them where there are more.
    """
    if method == "uniform":
        return sorted({int(i) for i in np.linspace(0, num_frames, count, endpoint=False)})
    if method == "keyframe":
        found = [i for i in keyframes if i < num_frames] or [0]
        return [found[i] for i in choose_frames("uniform", count, len(found))]
    return [{"mid": num_frames // 2, "first": 0, "last": num_frames - 1}[method]]
