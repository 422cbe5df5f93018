"""Clips whose camera's path is known, composed of photographs: pans, zooms, drives over a ground, hands, orbits, people who fill the frame.

    python -m benchmarks.composed_cameras --stills FOLDER
    python -m benchmarks.composed_cameras --stills FOLDER --seed 7 --sheets /tmp/sheets

The photographs are the first frames of the videos in FOLDER; without it, pictures that come with scikit-image. A name counts as right where it
holds the words of the truth: "pan" for a camera that follows to and fro, "zoom in" for one that drives forward.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from skimage import data

from benchmarks.measure import table
from utils.scoring.optical_flow import camera_name, measure_motion
from utils.video_utils import get_video_path_list

WIDTH, HEIGHT = 456, 256
SECONDS = 4.5
CLOSE = 1 / 8  # seconds between two frames that are looked at where half a second is too long
EYE, FOCAL, HORIZON = 1.5, 0.9 * HEIGHT, 0.45  # metres above the ground, pixels, share of the height
FRONTS = 6  # metres to the house fronts on both sides
METRE = 60  # pixels of a texture

Path_ = Callable[[float], np.ndarray]  # the frame at a time in seconds, uint8 (HEIGHT, WIDTH)


def tiled(photo: np.ndarray, width: int, height: int) -> np.ndarray:
    """The photograph and its mirror images side by side, so that no edge shows."""
    four = np.vstack([np.hstack([photo, photo[:, ::-1]]), np.hstack([photo[::-1], photo[::-1, ::-1]])])
    return np.tile(four, (height // four.shape[0] + 1, width // four.shape[1] + 1))[:height, :width]


def window(canvas: np.ndarray, x: float, y: float, zoom: float = 1.0) -> np.ndarray:
    """What a camera sees that looks at (x, y) of the canvas."""
    matrix = np.array([[zoom, 0, WIDTH / 2 - zoom * x], [0, zoom, HEIGHT / 2 - zoom * y]])
    return cv2.warpAffine(canvas, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def with_person(frame: np.ndarray, skin: np.ndarray, seconds: float, phase: float, size: float) -> np.ndarray:
    """A figure before the camera that sways, bends and comes nearer; `size` 0.5 covers half of the frame, 0.8 most of it."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    near = 1 + 0.08 * np.sin(1.3 * seconds + 2 * phase)
    middle = WIDTH / 2 + 0.1 * WIDTH * np.sin(1.9 * seconds + phase) + 12 * np.sin(y / 60 + 2.5 * seconds)
    inside = ((x - middle) / (0.62 * WIDTH * size * near)) ** 2 + ((y - HEIGHT * 1.1) / (1.05 * HEIGHT * near)) ** 2 < 1
    at_x = (x - middle) / near + WIDTH * 1.5
    at_y = (y - HEIGHT + 6 * np.sin(3 * seconds + x / 50)) / near + HEIGHT * 1.5
    cloth = cv2.remap(skin, at_x.astype(np.float32), at_y.astype(np.float32), cv2.INTER_LINEAR)
    return np.where(inside, cloth, frame)


def with_oval(frame: np.ndarray, inside: np.ndarray, width: float = 0.16) -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    oval = ((x - WIDTH / 2) / (WIDTH * width)) ** 2 + ((y - HEIGHT * 0.6) / (HEIGHT * 0.42)) ** 2 < 1
    return np.where(oval, inside, frame)


def drive(
    ground: np.ndarray, sky: np.ndarray, fronts: np.ndarray | None, metres: float, right: float = 0
) -> np.ndarray:
    """What a camera sees that has driven so far over a ground, between house fronts or none, under a sky that stays."""
    centre = np.array([[1, 0, WIDTH / 2], [0, 1, HEIGHT * HORIZON], [0, 0, 1]])
    floor = centre @ [[FOCAL, 0, -FOCAL * right], [0, 0, FOCAL * EYE], [0, 1, -(metres % 80)]]
    floor = floor @ [[1 / METRE, 0, -30], [0, 1 / METRE, 0], [0, 0, 1]]
    seen = cv2.warpPerspective(ground, floor, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
    haze = np.clip((np.arange(HEIGHT)[:, None] - HEIGHT * HORIZON) / 18, 0, 1)
    out = seen * haze + sky * (1 - haze)
    for side in (-FRONTS, FRONTS) if fronts is not None else ():
        wall = centre @ [[0, 0, FOCAL * (side - right)], [0, FOCAL, 0], [1, 0, -(metres % 80)]]
        wall = wall @ [[1 / METRE, 0, 0], [0, 1 / METRE, -10.5], [0, 0, 1]]
        there = cv2.warpPerspective(np.full_like(fronts, 255), wall, (WIDTH, HEIGHT)) > 128
        there &= (np.arange(WIDTH) - WIDTH / 2) * side > 0
        out = np.where(there, cv2.warpPerspective(fronts, wall, (WIDTH, HEIGHT)), out)
    return out.astype(np.uint8)


def with_panel(frame: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """What a game lays over its picture: the car at the bottom, a display in a corner."""
    height, width, out = int(HEIGHT * 0.28), int(WIDTH * 0.14) * 2, frame.copy()
    out[-height - 8 : -8, (WIDTH - width) // 2 : (WIDTH + width) // 2] = cv2.resize(picture, (width, height))
    out[8:40, 8:90] = cv2.resize(picture[::-1], (82, 32))
    return out


def hand(draw: np.random.Generator) -> Callable[[float], np.ndarray]:
    """Where a hand holds the camera, (x, y) with a deviation of 1, as a sum of swings of 0.2 to 2.5 Hz."""
    hertz, phase, angle = draw.uniform(0.2, 2.5, 12), draw.uniform(0, 6.3, 12), draw.uniform(0, 6.3, 12)
    along = np.stack([np.cos(angle), np.sin(angle)], 1) / np.sqrt(12) * 2
    return lambda seconds: np.sin(2 * np.pi * hertz * seconds + phase) @ along


def paths(photos: list[np.ndarray], seed: int) -> Iterator[tuple[str, str, Path_]]:
    """(what its name must hold, kind, path), each kind once for each photograph. photos: gray uint8, any size."""
    draw = np.random.default_rng(seed)
    photos = [cv2.resize(p, (round(p.shape[1] * 512 / p.shape[0]), 512), interpolation=cv2.INTER_AREA) for p in photos]
    for i, photo in enumerate(photos):
        other, third = photos[(i + 1) % len(photos)], photos[(i + 2) % len(photos)]
        wall, skin = tiled(photo, 3000, 3000), tiled(other, 3 * WIDTH, 3 * HEIGHT)
        ground, fronts = tiled(other, METRE * 60, METRE * 200), tiled(third, METRE * 200, METRE * 12)
        sky, still, held, phase = window(wall, 400, 700, 0.8), window(wall, 500, 700), hand(draw), draw.uniform(0, 6)
        way = draw.choice([-1, 1])
        side = "pan right" if way > 0 else "pan left"

        def pan(speed, t, wall=wall, held=None):  # pixels a second; a short side has 256
            x, y = 9 * held(t) if held else (0, 0)
            return window(wall, 1500 + speed * t + x, 1500 + y)

        for speed in (16, 80):
            yield side, f"pan of {speed} px/s", lambda t, s=speed, f=pan, w=way: f(w * s, t)
        yield side, "pan in a hand", lambda t, f=pan, w=way, h=held: f(w * 50, t, held=h)
        yield "tilt up", "tilt up", lambda t, c=wall: window(c, 1500, 1500 - 36 * t)
        yield "tilt down", "tilt down", lambda t, c=wall: window(c, 1500, 1500 + 36 * t)
        for name, rate in (("zoom in", 0.1), ("zoom out", -0.1), ("zoom in", 0.015), ("zoom out", -0.015)):
            yield (
                name,
                f"{name} of {abs(rate):.1%}/s",
                lambda t, r=rate, c=wall: window(c, 800, 800, 1.3 * np.exp(r * t)),
            )
        yield "handheld", "handheld", lambda t, c=wall, h=held: window(c, *(1500 + 11 * h(t)))
        yield "pan", "follows to and fro", lambda t, c=wall: window(c, 1500 + 120 * np.sin(1.4 * t), 1500)
        yield "static", "still", lambda t, f=still: f
        for size in (0.5, 0.8):
            yield (
                "static",
                f"person of {size:.0%}, still",
                lambda t, f=still, s=skin, p=phase, n=size: with_person(f, s, t, p, n),
            )
        yield (
            side,
            "person of 50%, pan",
            lambda t, f=pan, w=way, s=skin, p=phase: with_person(f(w * 40, t), s, t, p, 0.5),
        )
        for speed in (4, 10, 20):
            yield "zoom in", f"road, {speed} m/s", lambda t, g=ground, s=sky, v=speed: drive(g, s, None, v * t)
            yield "zoom in", f"street, {speed} m/s", lambda t, g=ground, s=sky, f=fronts, v=speed: drive(g, s, f, v * t)
            yield (
                "zoom in",
                f"racing game, {speed} m/s",
                lambda t, g=ground, s=sky, f=fronts, v=speed, o=photo: with_panel(
                    drive(g, s, f, v * t, 0.4 * np.sin(2 * t)), o
                ),
            )
        yield "zoom out", "street, 4 m/s back", lambda t, g=ground, s=sky, f=fronts: drive(g, s, f, 60 - 4 * t)
        yield (
            side,
            "orbit",
            lambda t, c=wall, w=way, s=skin: with_oval(
                window(c, 1500 + w * (60 * t + 15 * np.sin(t)), 1500 + 20 * np.sin(t)), window(s, 600 - 8 * w * t, 400)
            ),
        )


def sampled(path: Path_, draw: np.random.Generator) -> tuple[list[np.ndarray], list[float], Callable]:
    """Frames at 2 fps with some noise, their times, and the pairs of frames close in time, a pair a second."""

    def frame(t: float) -> np.ndarray:
        return np.clip(path(t) + draw.normal(0, 1.5, (HEIGHT, WIDTH)), 0, 255).astype(np.uint8)

    times = list(np.arange(0, SECONDS, 0.5))
    close = [(t, t + CLOSE) for t in np.arange(0, SECONDS - CLOSE, 0.5)]
    return [frame(t) for t in times], times, lambda: ((frame(a), frame(b), b - a) for a, b in close)


def photographs(folder: Path | None) -> list[np.ndarray]:
    """First frames of the videos in a folder, or pictures of scikit-image, gray uint8."""
    if folder is None:
        pictures = [data.astronaut(), data.coffee(), data.chelsea(), data.stereo_motorcycle()[0]]
        return [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    found = []
    for name in get_video_path_list(str(folder)):
        with av.open(str(folder / name)) as container:
            found.append(next(container.decode(video=0)).to_ndarray(format="gray"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stills", type=Path, help="folder of videos whose first frames are the photographs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=int, default=8, help="photographs, at most")
    parser.add_argument("--sheets", type=Path, help="folder for a picture of each kind")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    draw, names = np.random.default_rng(args.seed), defaultdict(list)
    for truth, kind, path in paths(photographs(args.stills)[: args.photos], args.seed):
        frames, times, close = sampled(path, draw)
        names[kind, truth.split()[0] if "pan" in truth else truth].append(
            (truth, camera_name(measure_motion(frames, times, close)))
        )
        if args.sheets:
            args.sheets.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(args.sheets / f"{kind.replace('/', ' per ')}.png"), np.hstack(frames[::3]))
    rows = []
    for (kind, truth), found in names.items():
        wrong = [name for truth, name in found if truth not in name]
        rows.append([kind, truth, f"{len(found) - len(wrong)} of {len(found)}", ", ".join(sorted(set(wrong)))])
    print(table(["camera", "truth", "right", "wrong names"], rows))


if __name__ == "__main__":
    main()
