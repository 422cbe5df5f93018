"""Which frames of a clip are looked at."""

import numpy as np


def choose_frames(method: str, count: int, num_frames: int) -> list[int]:
    """Indices, rising and each once, of `count` frames out of `num_frames`.

    uniform: `linspace(0, num_frames, count, endpoint=False)`, rounded down (EasyAnimate's: [0, 59, 119, 179] of 239);
    mid: the one in the middle; first and last: the frame at that end.
    """
    if method == "uniform":
        return sorted({int(i) for i in np.linspace(0, num_frames, count, endpoint=False)})
    return [{"mid": num_frames // 2, "first": 0, "last": num_frames - 1}[method]]
