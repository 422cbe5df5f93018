"""Labelled synthetic films: photographs in motion, joined by transitions and disturbed by everything else.

The photographs are those in scikit-image's wheel. All randomness comes from the seeds written here.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
from skimage import data

WIDTH, HEIGHT = 256, 144
PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "camera", "coins", "brick", "hubble_deep_field",
          "immunohistochemistry", "moon", "retina", "page")  # fmt: skip


GRAIN = np.random.default_rng(0).standard_normal((HEIGHT, WIDTH, 3), np.float32)


@dataclass
class Film:
    """`frames`: uint8 (T, 144, 256, 3), BGR; `cuts`: first frames of new shots; `spans`: gradual, [start, end)."""

    kind: str
    frames: np.ndarray
    fps: float
    cuts: list[int] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    seconds: np.ndarray | None = None

    def __post_init__(self):
        if self.seconds is None:
            self.seconds = np.arange(len(self.frames)) / self.fps


@cache
def photo(name: str) -> np.ndarray:
    """BGR uint8, at least 320 pixels high so that a frame can travel in it."""
    picture = getattr(data, name)()
    picture = np.dstack([picture] * 3) if picture.ndim == 2 else picture[..., 2::-1]
    scale = max(1.0, 320 / min(picture.shape[:2]))
    if min(picture.shape[:2]) > 700:
        picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(cv2.resize(picture, None, fx=scale, fy=scale) if scale > 1 else picture)


@dataclass(frozen=True)
class Motion:
    """What a camera does in a shot, and how the shot is taken."""

    pan: tuple[float, float] = (0.0, 0.0)  # pixels a frame
    zoom: float = 1.0  # growth a frame
    shake: float = 0.0  # standard deviation, pixels
    blur: int = 0  # views that the open shutter of a pan averages
    noise: float = 1.0  # standard deviation, levels


def shot(name: str, count: int, motion: Motion = Motion(), start=(0.5, 0.5), size: float = 1.0, seed=0) -> np.ndarray:
    """`count` frames of a photograph, from the point `start` of it (0-1); `size`: photograph pixels per frame pixel."""
    picture, rng = photo(name), np.random.default_rng(seed)
    height, width = picture.shape[:2]
    centre = np.array([start[0] * width, start[1] * height])
    views_a_frame = max(1, motion.blur)
    frames = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    for t in range(count):
        scale = size / motion.zoom**t
        jitter = rng.normal(0, motion.shake, 2) if motion.shake else np.zeros(2)
        views = []
        for step in range(views_a_frame):
            middle = centre + (np.array(motion.pan) * (t + step / views_a_frame) + jitter) * scale
            corner = middle - scale * np.array([WIDTH, HEIGHT]) / 2
            matrix = np.float32([[scale, 0, corner[0]], [0, scale, corner[1]]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            views.append(cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT))
        frame = views[0] if len(views) == 1 else np.mean(views, axis=0)
        # One field of noise, shifted: drawing it anew would take most of the time.
        frames[t] = np.clip(frame + np.roll(GRAIN, rng.integers(GRAIN.size)) * np.float32(motion.noise), 0, 255)
    return frames


def whip_pan(name: str, distance: float, seed: int) -> np.ndarray:
    """60 frames: still, `distance` pixels within 14 frames, speeding up and braking, with an open shutter; still."""
    at = distance * (1 - np.cos(np.pi * np.clip((np.arange(61) - 23) / 14, 0, 1))) / 2
    width = photo(name).shape[1]
    frames = []
    for t in range(60):
        speed = at[t + 1] - at[t]
        motion = Motion((speed, 0), blur=1 + int(speed) // 4)
        frames.append(shot(name, 1, motion, start=(0.3 + at[t] / width, 0.5), seed=seed + t))
    return np.concatenate(frames)


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Frames between `a` and `b`; `share` of `b`: broadcast to (T, H, W, 1)."""
    return np.round(a * (1 - share) + b * share).astype(np.uint8)


def join(kind: str, fps: float, a: np.ndarray, b: np.ndarray, length: int, way: str = "dissolve") -> Film:
    """`a`, then `length` frames of a transition, then `b`; both go on moving under it."""
    before = len(a) - length
    step = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
    if way == "dissolve":
        between = mix(a[before:], b[:length], step)
    elif way in ("left", "down", "soft"):
        line = np.linspace(0, 1, HEIGHT)[:, None, None] if way == "down" else np.linspace(0, 1, WIDTH)[:, None]
        between = mix(
            a[before:], b[:length], np.clip((step * 1.2 - 0.1 - line) / (0.15 if way == "soft" else 1e-3) + 0.5, 0, 1)
        )
    else:
        tone = {"black": 0.0, "white": 255.0}[way]
        out, into = np.clip(1 - 2.2 * step, 0, 1), np.clip(2.2 * step - 1.2, 0, 1)
        between = np.round(tone + (a[before:] - tone) * out + (b[:length] - tone) * into).astype(np.uint8)
    frames = np.concatenate([a[:before], between, b[length:]])
    return Film(kind, frames, fps, [] if length else [before], [(before, before + length)] if length else [])


def compressed(frames: np.ndarray, fps: float, crf: int) -> np.ndarray:
    """The frames after H.264 at that quality (18 good, 40 bad) and back."""
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        write_h264(container, frames, fps, crf)
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)])


def write_h264(container: av.container.OutputContainer, frames: np.ndarray, fps: float, crf: int) -> None:
    stream = container.add_stream(
        "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": str(crf), "preset": "veryfast"}
    )
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    for frame in frames:
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
    container.mux(stream.encode())


PAIRS = [(a, b) for i, a in enumerate(PHOTOS) for b in (PHOTOS[(i + 1) % len(PHOTOS)], PHOTOS[(i + 5) % len(PHOTOS)])]
RATES = (12, 24, 30, 60)
STILL, SLOW, FAST = Motion(noise=0.5), Motion((1.5, 0.3)), Motion((-4, 1), shake=1.0)
MOTIONS = (STILL, SLOW, Motion(zoom=1.006, shake=0.5), FAST)  # what a shot does while it is joined to another


def transitions(photos: int = len(PHOTOS)) -> Iterator[Film]:
    """Two-shot films, two for each of the first `photos` photographs and each kind."""
    for n, (a, b) in enumerate(PAIRS[: 2 * photos]):
        fps, one, two = RATES[n % 4], MOTIONS[n % 4], MOTIONS[(n // 4 + 1) % 4]

        def pair(first: Motion, second: Motion, a=a, b=b, n=n) -> list[np.ndarray]:
            return [shot(a, 110, first, seed=n), shot(b, 110, second, start=(0.4, 0.6), seed=n + 99)]

        shots = pair(one, two)
        heads = [s[:50] for s in shots]
        yield join("hard cut", fps, *heads, 0)
        yield join("hard cut, dark", fps, *(np.round(s * 0.12).astype(np.uint8) for s in heads), 0)
        yield join("hard cut, H.264 crf 40", fps, *np.split(compressed(np.concatenate(heads), fps, 40), 2), 0)
        other_half = shot(a, 50, two, start=(0.15, 0.2), size=0.7, seed=n)
        yield join("hard cut within one photograph", fps, shot(a, 50, one, start=(0.75, 0.75), seed=n), other_half, 0)
        yield join("hard cut into a fast pan", fps, heads[0], shot(b, 50, Motion((25, 4), blur=6), seed=n), 0)
        film = join("hard cut, variable rate", fps, *heads, 0)
        film.seconds = np.cumsum(np.random.default_rng(n).choice([0.5, 1, 1, 1, 2.5], len(film.frames))) / fps
        yield film
        for length in (4, 8, 15, 30, 60):
            range_of_length = f"{'4-8' if length < 10 else '15-60'} frames"
            for name, both in (("still", pair(STILL, STILL)), ("slow", shots), ("fast", pair(FAST, FAST))):
                ends = both[0][-40 - length :], both[1][: 40 + length]
                yield join(f"dissolve, {name}, {range_of_length}", fps, *ends, length)
            ends = shots[0][-40 - length :], shots[1][: 40 + length]
            for tone in ("black", "white"):
                yield join(f"fade through {tone}, {range_of_length}", fps, *ends, length, tone)
            if 8 <= length <= 30:
                yield join("wipe", fps, *ends, length, ("left", "down", "soft")[n % 3])
        film = join("dissolve, H.264 crf 40", fps, shots[0][-55:], shots[1][:55], 15)
        film.frames = compressed(film.frames, fps, 40)
        yield film


def disturbances(photos: int = len(PHOTOS)) -> Iterator[Film]:
    """One-shot films of the first `photos` photographs: every cut found in them is false."""
    for n, name in enumerate(PHOTOS[:photos]):
        fps, rng = RATES[n % 4], np.random.default_rng(n)
        for speed in (1, 3, 8, 16, 30, 50):
            pan = Motion((speed, speed / 8), blur=min(8, speed // 3))
            yield Film(f"pan of {speed} pixels a frame", shot(name, 60, pan, seed=n), fps)
        still = shot(name, 60, Motion((0.5, 0.1), shake=0.3), seed=n)
        yield Film("whip pan", whip_pan(name, 450, n), fps)
        yield Film("zoom, 3 % a frame", shot(name, 40, Motion(zoom=1.03), size=1.5, seed=n), fps)
        yield Film("shake of 6 pixels", shot(name, 60, Motion(shake=6), seed=n), fps)
        yield Film("noise of 20 levels", shot(name, 60, Motion((1, 0), noise=20), seed=n), fps)
        yield Film("H.264 crf 45", compressed(shot(name, 60, Motion((2, 0.5)), seed=n), fps, 45), fps)
        flash = still.astype(np.float32)
        for at, strength in ((20, 0.6), (21, 0.4), (40, 0.95), (41, 0.5), (42, 0.2)):
            flash[at] += (255 - flash[at]) * strength
        yield Film("flash", flash.astype(np.uint8), fps)
        light = still.astype(np.float32)
        light[30:] = np.minimum(light[30:] * 1.8 + 20, 255)
        yield Film("light switched on", light.astype(np.uint8), fps)
        ramp = np.linspace(0.5, 1.3, 60)[:, None, None, None]
        yield Film("exposure drifts", np.minimum(still * ramp, 255).astype(np.uint8), fps)
        third = still.copy()
        third[30:, 110:132, 20:200] = (third[30:, 110:132, 20:200] * 0.2 + (120, 60, 20)).astype(np.uint8)
        third[30:, 116:126, 30:150:6] = 255
        yield Film("lower third", third, fps)
        screen = still.copy()
        other = PHOTOS[(n + 3) % len(PHOTOS)]
        for start, shown in ((0, other), (30, PHOTOS[(n + 7) % len(PHOTOS)])):
            small = [cv2.resize(f, (128, 72)) for f in shot(shown, 30, seed=n)]
            screen[start : start + 30, 30:102, 60:188] = small
        yield Film("screen in the frame", screen, fps)
        thing = still.copy()
        sprite = cv2.resize(shot(other, 1)[0], (100, 110))
        for t in range(20, 32):
            x = (t - 20) * 30 - 100
            left, right = max(0, x), min(WIDTH, x + 100)
            if right > left:
                thing[t, 20:130, left:right] = sprite[:, left - x : right - x]
        yield Film("fast object", thing, fps)
        held = shot(name, 20, Motion((6, 1)), seed=n).repeat(3, axis=0)
        yield Film("each frame shown three times", held, fps)
        tail = still * np.clip((58 - np.arange(60)) / 30, 0, 1)[:, None, None, None]
        yield Film("fade-out at the end", tail.astype(np.uint8), fps)
        film = Film("variable rate, hand-held", shot(name, 60, Motion((2, 0), shake=2), seed=n), fps)
        film.seconds = np.cumsum(rng.choice([0.5, 1, 1, 1, 3], 60)) / fps
        yield film


def films(only: str = "", photos: int = len(PHOTOS)) -> Iterator[Film]:
    """The films whose kind contains `only`, of the first `photos` photographs."""
    for source in (transitions(photos), disturbances(photos)):
        yield from (film for film in source if only in film.kind)


def save(folder: Path, chosen: Iterator[Film]) -> None:
    """Write the films at a constant rate, H.264 crf 18, and their labels.json, in the format of hand-made labels."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = {}
    for n, film in enumerate(chosen):
        path = folder / f"{n:04}.mp4"
        with av.open(str(path), "w") as container:
            write_h264(container, film.frames, film.fps, 18)
        gradual = [{"type": film.kind, "start": start, "end": end} for start, end in film.spans]
        labels[path.name] = {"kind": film.kind, "cuts": film.cuts, "gradual": gradual}
    (folder / "labels.json").write_text(json.dumps(labels, indent=1))
