"""Films composed of real one-shot footage, whose transitions are known to the frame; benchmarks/composed_cuts.py judges
detectors on them.

Half of the sources, by their names, are for choosing constants ("tune"), the others for judging. A film's frame rate,
its damage (noise, heavy compression, an uneven frame rate) and its footage come from its seed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from zlib import crc32

import av
import cv2
import numpy as np

from benchmarks.disturbances import DISTURBANCES
from tools import sample_video

WIDTH, HEIGHT = 256, 144  # pixels of the films
STORED = 384, 216  # pixels in which footage is kept, so that a closer view is no blur
LONGEST = 200  # frames kept of a source
PHOTOS = (
    "astronaut coffee chelsea rocket camera coins hubble_deep_field immunohistochemistry retina stereo_motorcycle "
    "brick moon page"
)
MOVES = (  # from and to: left, top, width of the view, in photo widths; shake
    ((0.0, 0.1, 0.6), (0.3, 0.1, 0.6), 0.0),
    ((0.1, 0.05, 0.8), (0.3, 0.2, 0.45), 0.01),
    ((0.3, 0.2, 0.6), (0.3, 0.2, 0.6), 0.03),
    ((0.2, 0.1, 0.7), (0.2, 0.1, 0.7), 0.0),
)
RATES = (10, 12, 24, 25, 30, 30, 50, 60)
TEXTS = ("CHAPTER ONE", "The next morning", "BREAKING NEWS", "3 cups of flour", "Subscribe")


@dataclass
class Film:
    """`frames`: uint8 (T, 144, 256, 3), BGR; `cuts`: first frames of new shots; `spans`: gradual, [start, end)."""

    kind: str
    frames: np.ndarray
    seconds: np.ndarray
    cuts: list[int] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)


# Footage


@lru_cache(maxsize=6)
def footage(source: str) -> np.ndarray:
    """uint8 (T, 216, 384, 3), BGR, at most LONGEST frames of a video file, or of a move over a photograph."""
    if not Path(source).is_file():
        start, end, shake = MOVES[crc32(source.encode()) % len(MOVES)]
        shot = sample_video.Shot(source, source, 6, "", start, end, "", shake=shake)
        return np.stack(list(islice(sample_video.render(shot, *STORED, Fraction(30)), 150)))[..., ::-1]
    frames = []
    with av.open(source) as container:
        for frame in islice(container.decode(video=0), LONGEST):
            scale = max(STORED[0] / frame.width, STORED[1] / frame.height)
            size = round(frame.width * scale), round(frame.height * scale)
            image = frame.reformat(*size, format="bgr24", interpolation="AREA").to_ndarray()
            left, top = (size[0] - STORED[0]) // 2, (size[1] - STORED[1]) // 2
            frames.append(image[top : top + STORED[1], left : left + STORED[0]])
    return np.stack(frames)


def sources(folders: list[Path], half: str, skip: Sequence[str] = ("black",)) -> list[str]:
    """Videos of the folders (of one that holds ss_* files, those only) and photographs, of the half asked for."""
    paths = []
    for folder in folders:
        videos = [path for path in sorted(folder.iterdir()) if path.suffix in (".mp4", ".webm", ".mov", ".mkv")]
        paths += [path for path in videos if path.name.startswith("ss_")] or videos
    names = [str(path) for path in paths if not any(word in path.name for word in skip)] + PHOTOS.split()
    halves = {"tune": (1,), "judge": (0,), "all": (0, 1)}[half]
    return [name for name in names if crc32(Path(name).name.encode()) % 2 in halves]


def look(frame: np.ndarray, x: float = 0.5, y: float = 0.5, width: float = 1.0) -> np.ndarray:
    """A view of stored footage, 256 x 144: its centre in shares of the footage, its width in footage widths."""
    step = width * STORED[0] / WIDTH
    corner = np.array([x * STORED[0], y * STORED[1]]) - step * np.array([WIDTH - 1, HEIGHT - 1]) / 2
    matrix = np.array([[step, 0, corner[0]], [0, step, corner[1]]])
    if step > 1.2:
        frame = cv2.blur(frame, (2, 2))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(frame, matrix, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT)


def take(source: str, count: int, rng, step: float = 1.0, start: float | None = None, **view) -> np.ndarray:
    """`count` frames of a source, `step` footage frames apart, to and fro where it is short. `fast` in `view` moves the
    camera by so many pixels a frame, with an open shutter.
    """
    frames, fast = footage(source), view.pop("fast", 0.0)
    start = rng.uniform(0, max(1, len(frames) - count * step)) if start is None else start
    fold = (start + step * np.arange(count)).astype(int) % max(1, 2 * len(frames) - 2)
    shown = frames[np.minimum(fold, 2 * len(frames) - 2 - fold)] if len(frames) > 1 else frames[fold * 0]
    if not fast:
        return np.stack([look(frame, **view) for frame in shown])
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    times = phase + fast / 85 * np.arange(0, count, 0.25)  # a swing over 85 pixels to both sides
    places = 0.5 + 0.2 * np.sin(times)[:, None] * (np.cos(angle), np.sin(angle))
    moving = [[look(frame, *p, width=0.6) for p in places[4 * t : 4 * t + 4]] for t, frame in enumerate(shown)]
    return np.stack([np.mean(views, axis=0).astype(np.uint8) for views in moving])


# Transitions: (frames of the old shot, of the new one, both as long as the transition) -> the frames between


def progress(count: int) -> np.ndarray:
    return (np.arange(1, count + 1) / (count + 1))[:, None, None, None]


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.round(a * (1 - share) + b * share).astype(np.uint8)


def dissolve(a: np.ndarray, b: np.ndarray, rng) -> np.ndarray:
    return mix(a, b, progress(len(a)))


def through(tone: float) -> Callable:
    def fade(a: np.ndarray, b: np.ndarray, rng) -> np.ndarray:
        p = progress(len(a))
        out, into = np.clip(1 - 2.2 * p, 0, 1), np.clip(2.2 * p - 1.2, 0, 1)
        return np.round(tone + (a - tone) * out + (b - tone) * into).astype(np.uint8)

    return fade


def wipe(a: np.ndarray, b: np.ndarray, rng) -> np.ndarray:
    angle, soft = rng.choice([0, 0.5, 1, 1.5, rng.random() * 2]) * np.pi, rng.choice([1e-3, 0.15])
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    along = x * np.cos(angle) + y * np.sin(angle)
    along = (along - along.min()) / (along.max() - along.min())
    return mix(a, b, np.clip((progress(len(a)) * (1 + soft) - soft / 2 - along[None, :, :, None]) / soft + 0.5, 0, 1))


def iris(a: np.ndarray, b: np.ndarray, rng) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1.78 : 1.78 : WIDTH * 1j]
    radius, p = np.hypot(x, y)[None, :, :, None] / 2.05, progress(len(a))
    if rng.random() < 0.5:
        return mix(a, b, np.clip((p - radius) / 0.02 + 0.5, 0, 1))
    return mix(b, a, np.clip((1 - p - radius) / 0.02 + 0.5, 0, 1))


def slide(a: np.ndarray, b: np.ndarray, rng) -> np.ndarray:
    axis, push = int(rng.integers(1, 3)), rng.random() < 0.5
    out, size = a.copy(), a.shape[axis]
    for t in range(len(a)):
        n = round(size * (1 - np.cos(np.pi * (t + 1) / (len(a) + 1))) / 2)
        old, new = (np.moveaxis(x[t], axis - 1, 0) for x in (a, b))
        moved = np.concatenate([old[n:] if push else old[: size - n], new[:n]])
        out[t] = np.moveaxis(moved, 0, axis - 1)
    return out


def zoom(a: np.ndarray, b: np.ndarray, rng) -> np.ndarray:
    out = []
    for t in range(len(a)):
        p = (t + 1) / (len(a) + 1)
        frame, factor = (a[t], 1 + 6 * p**2) if p < 0.5 else (b[t], 1 + 6 * (1 - p) ** 2)
        centre = np.array([WIDTH, HEIGHT]) / 2
        views = []
        for f in factor * np.linspace(1, 1 + 0.3 * (factor - 1) / 1.5, 4):
            matrix = np.column_stack([np.eye(2) * f, centre * (1 - f)])
            views.append(cv2.warpAffine(frame, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT))
        out.append(np.mean(views, axis=0).astype(np.uint8))
    return np.stack(out)


def whip(a: np.ndarray, b: np.ndarray, rng) -> np.ndarray:
    """The camera tears away from the old shot and stops at the new one, smeared by its speed."""
    out, sign = [], rng.choice([-1, 1])
    for t in range(len(a)):
        p = (t + 1) / (len(a) + 1)
        frame, gone = (a[t], p) if p < 0.5 else (b[t], 1 - p)
        smear = max(1, round(WIDTH * 0.6 * gone**1.5))
        out.append(cv2.blur(np.roll(frame, round(sign * WIDTH * gone**2 * (1 if p < 0.5 else -1)), axis=1), (smear, 1)))
    return np.stack(out)


GRADUAL = {  # kind: (the transition, its lengths in frames, pixels that the camera moves in a frame)
    "dissolve, 4-9 frames": (dissolve, (4, 9), 0),
    "dissolve, 10-60 frames": (dissolve, (10, 60), 0),
    "dissolve, fast motion": (dissolve, (6, 30), 5),
    "fade through black": (through(0.0), (8, 60), 0),
    "fade through white": (through(255.0), (8, 40), 0),
    "wipe": (wipe, (6, 40), 0),
    "iris": (iris, (10, 40), 0),
    "slide": (slide, (6, 30), 0),
    "zoom": (zoom, (6, 16), 0),
    "whip blur": (whip, (4, 12), 0),
}
HARD = (
    "cut",
    "cut, dark",
    "cut, two crops of one shot",
    "cut, closer view",
    "cut, flat cards",
    "cuts, 5-15 frames apart",
    "cut, fast motion",
    "jump cut",
    "cut, similar views",
    "cut with a flash",
)
NO_CUT = ("nothing", "fast motion", "picture in picture", "flash", "lower third", "light", "object close by")
KINDS = (*HARD, *GRADUAL, *NO_CUT, *DISTURBANCES)


def card(rng) -> np.ndarray:
    """A flat card of one colour, with a line of text on half of them."""
    frame = np.full((HEIGHT, WIDTH, 3), rng.integers(0, 256, 3), np.uint8)
    if rng.random() < 0.5:
        ink = (255, 255, 255) if frame.mean() < 128 else (0, 0, 0)
        cv2.putText(frame, str(rng.choice(TEXTS)), (30, 80), cv2.FONT_HERSHEY_SIMPLEX, 0.6, ink, 1, cv2.LINE_AA)
    return frame


def hard(kind: str, names: list[str], rng, step: float) -> tuple[np.ndarray, list[int]]:
    """Frames and cuts of a film of four shots, or of twelve short ones."""
    shots, count = [], lambda: int(rng.integers(25, 80))
    one = str(rng.choice(names))
    at = rng.uniform(0, 60)
    for n in range(12 if kind == "cuts, 5-15 frames apart" else 4):
        other, length = str(rng.choice([name for name in names if name != one])), count()
        if kind == "cut, two crops of one shot":
            shots.append(take(one, length, rng, step, at, x=(0.27, 0.73)[n % 2], width=0.53))
        elif kind == "cut, closer view":
            view = {"width": rng.uniform(0.4, 0.65), "x": rng.uniform(0.4, 0.6), "y": rng.uniform(0.4, 0.6)}
            shots.append(take(one, length, rng, step, at, **(view if n % 2 else {})))
        elif kind == "jump cut":
            shots.append(take(one, length, rng, step, at))
            length += int(rng.integers(25, 70))  # frames that were skipped
        elif kind == "cut, similar views":
            view = {"x": (0.4, 0.6)[n % 2], "y": rng.uniform(0.42, 0.58), "width": rng.uniform(0.6, 0.8)}
            shots.append(take(one, length, rng, step, at, **view))
        elif kind == "cut, flat cards" and n % 3:
            shots.append(card(rng)[None].repeat(length // 2, 0))
        elif kind == "cuts, 5-15 frames apart":
            shots.append(take(other, int(rng.integers(5, 16)), rng, step, width=rng.uniform(0.5, 1)))
        else:
            shots.append(take(other, length, rng, step, fast=rng.uniform(6, 16) if kind == "cut, fast motion" else 0.0))
            if kind == "cut with a flash":
                light = np.linspace(rng.uniform(80, 255), 0, int(rng.integers(1, 4)), endpoint=False)
                lit = shots[-1][: len(light)] + light[:, None, None, None]
                shots[-1][: len(light)] = np.clip(lit, 0, 255)
        of_one = (*HARD[2:4], "jump cut", "cut, similar views")
        at, one = at + step * length, one if kind in of_one else other
    dark = rng.uniform(0.08, 0.2) if kind == "cut, dark" else 1.0
    frames = np.concatenate(shots)
    return (frames * dark).astype(np.uint8) if dark < 1 else frames, list(np.cumsum([len(s) for s in shots])[:-1])


def gradual(kind: str, names: list[str], rng, step: float) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Frames and transitions of a film of three shots."""
    way, (low, high), fast = GRADUAL[kind]
    lengths = [int(n) for n in rng.integers(low, high + 1, 2)]
    chosen = rng.choice(names, 3, replace=False)
    before, after = [0, *lengths], [*lengths, 0]
    shots = [
        take(str(name), b + int(rng.integers(30, 70)) + a, rng, step, fast=fast * rng.uniform(0.6, 1.4))
        for name, b, a in zip(chosen, before, after)
    ]
    frames, spans = shots[0], []
    for shot, length in zip(shots[1:], lengths):
        spans.append((len(frames) - length, len(frames)))
        frames = np.concatenate([frames[:-length], way(frames[-length:], shot[:length], rng), shot[length:]])
    return frames, spans


def no_cut(kind: str, names: list[str], rng, step: float) -> np.ndarray:
    """150 frames of one shot in which something else happens."""
    one, other = (str(name) for name in rng.choice(names, 2, replace=False))
    frames = take(one, 150, rng, step, fast=rng.uniform(4, 24) if kind == "fast motion" else 0.0)
    if kind in DISTURBANCES:
        return DISTURBANCES[kind](frames, take(other, 60, rng, step), rng)
    if kind == "picture in picture":
        size = rng.uniform(0.25, 0.45)
        inset = [
            cv2.resize(f, None, fx=size, fy=size, interpolation=cv2.INTER_AREA) for f in take(other, 90, rng, step)
        ]
        h, w = inset[0].shape[:2]
        left, top = rng.choice([8, WIDTH - w - 8]), rng.choice([8, HEIGHT - h - 8])
        frames[30:120, top : top + h, left : left + w] = inset
    elif kind == "flash":
        for start in (30, 70, 110):
            length = int(rng.integers(1, 5))
            bright = frames[start : start + length].astype(np.float32)
            frames[start : start + length] = np.clip(bright * rng.uniform(1, 2) + rng.uniform(60, 255), 0, 255)
    elif kind == "lower third":
        ramp = np.clip((np.arange(150) - 30) / rng.choice([1, 6, 15]), 0, 1) * np.clip((110 - np.arange(150)) / 8, 0, 1)
        board = np.full((30, 200, 3), rng.integers(0, 256, 3), np.uint8)
        cv2.putText(board, str(rng.choice(TEXTS)), (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
        frames[:, 104:134, 20:220] = mix(frames[:, 104:134, 20:220], board[None], ramp[:, None, None, None])
    elif kind == "object close by":
        size, thing = rng.uniform(0.5, 1.2, 2), look(footage(other)[0], width=0.5)
        thing = cv2.GaussianBlur(cv2.resize(thing, None, fx=size[0], fy=size[1]), (25, 1), 0)[:HEIGHT]
        h, w = thing.shape[:2]
        for start in (30, 90):
            length = int(rng.integers(3, 12))
            for t in range(length):
                left = round((WIDTH + w) * (t + 1) / (length + 1)) - w
                a, b = max(0, left), min(WIDTH, left + w)
                frames[start + t, HEIGHT - h :, a:b] = thing[:, a - left : b - left]
    elif kind == "light":
        level = np.where(np.arange(150) < 60, 1.0, rng.uniform(0.3, 0.6)) * np.interp(
            np.arange(150), (100, 140), (1, 1.6)
        )
        frames = np.clip(frames * level[:, None, None, None], 0, 255).astype(np.uint8)
    return frames


def compressed(frames: np.ndarray, crf: int) -> np.ndarray:
    """The frames after H.264 at that quality (18 good, 40 bad) and back."""
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)])


def compose(kind: str, names: list[str], seed: int) -> Film:
    """Film number `seed` of a kind: its frame rate, damage and footage come from the seed."""
    rng = np.random.default_rng([seed, crc32(kind.encode())])
    fps = RATES[seed % len(RATES)]
    step = max(0.5, 25 / fps)
    cuts, spans = [], []
    if kind in HARD:
        frames, cuts = hard(kind, names, rng, step)
    elif kind in GRADUAL:
        frames, spans = gradual(kind, names, rng, step)
    else:
        frames = no_cut(kind, names, rng, step)
    seconds = np.arange(len(frames)) / fps
    damage = ("none", "noise", "codec", "rate")[seed // 2 % 4]
    if damage == "noise":
        frames = np.clip(frames + rng.normal(0, rng.uniform(2, 10), frames.shape), 0, 255).astype(np.uint8)
    elif damage == "codec":
        frames = compressed(frames, int(rng.integers(28, 42)))
    elif damage == "rate":
        seconds = np.cumsum(rng.choice([0.5, 1, 1, 1, 2], len(frames))) / fps
    return Film(kind, frames, seconds, cuts, spans)


def films(names: list[str], count: int, only: str = "") -> Iterator[Film]:
    for seed in range(count):
        yield from (compose(kind, names, seed) for kind in KINDS if only in kind)
