"""Labelled synthetic films: photographs in motion, joined by transitions and disturbed by everything else.

    python -m benchmarks.synthetic_cuts                      # a table: kind x found, missed and false, ours beside PySceneDetect's
    python -m benchmarks.synthetic_cuts --only dissolve      # the kinds whose name holds the word
    python -m benchmarks.synthetic_cuts --save films/        # the films as H.264 with their labels.json, for other detectors

The photographs are those in scikit-image's wheel. Nothing is random but for the seeds written here.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.common import Timecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector
from skimage import data

from utils.cutting.transition_detector import TransitionDetector

WIDTH, HEIGHT = 256, 144
PHOTOS = (
    "astronaut",
    "coffee",
    "chelsea",
    "rocket",
    "camera",
    "coins",
    "brick",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "retina",
    "page",
)


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
    picture = (
        picture
        if min(picture.shape[:2]) <= 700
        else cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    )
    return np.ascontiguousarray(cv2.resize(picture, None, fx=scale, fy=scale) if scale > 1 else picture)


def shot(
    name: str,
    count: int,
    start=(0.5, 0.5),
    pan=(0.0, 0.0),
    zoom=1.0,
    shake=0.0,
    blur=0,
    noise=1.0,
    seed=0,
    size: float = 1.0,
) -> np.ndarray:
    """`count` frames of a photograph. `pan`: pixels a frame; `zoom`: growth a frame; `shake`: deviation in pixels;
    `blur`: views that a pan's open shutter averages; `noise`: deviation in levels; `size`: photo pixels a frame pixel.
    """
    picture, rng = photo(name), np.random.default_rng(seed)
    height, width = picture.shape[:2]
    centre = np.array([start[0] * width, start[1] * height])
    frames = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    for t in range(count):
        scale = size / zoom**t
        jitter = rng.normal(0, shake, 2) if shake else np.zeros(2)
        views = []
        for step in range(max(1, blur)):
            middle = centre + (np.array(pan) * (t + step / max(1, blur)) + jitter) * scale
            corner = middle - scale * np.array([WIDTH, HEIGHT]) / 2
            matrix = np.float32([[scale, 0, corner[0]], [0, scale, corner[1]]])
            views.append(
                cv2.warpAffine(
                    picture,
                    matrix,
                    (WIDTH, HEIGHT),
                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_REFLECT,
                )
            )
        frame = views[0] if len(views) == 1 else np.mean(views, axis=0)
        grain = np.roll(GRAIN, rng.integers(GRAIN.size)) * np.float32(
            noise
        )  # one field of noise, shifted: drawing it anew takes most of the time
        frames[t] = np.clip(frame + grain, 0, 255)
    return frames


def whip_pan(name: str, distance: float, seed: int) -> np.ndarray:
    """60 frames: still, `distance` pixels within 14 frames, speeding up and braking, with an open shutter; still."""
    at = distance * (1 - np.cos(np.pi * np.clip((np.arange(61) - 23) / 14, 0, 1))) / 2
    width = photo(name).shape[1]
    frames = []
    for t in range(60):
        speed = at[t + 1] - at[t]
        frames.append(
            shot(name, 1, start=(0.3 + at[t] / width, 0.5), pan=(speed, 0), blur=1 + int(speed) // 4, seed=seed + t)
        )
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
        x = (
            np.linspace(0, 1, WIDTH)[None, None, :, None]
            if way != "down"
            else np.linspace(0, 1, HEIGHT)[None, :, None, None]
        )
        between = mix(
            a[before:], b[:length], np.clip((step * 1.2 - 0.1 - x) / (0.15 if way == "soft" else 1e-3) + 0.5, 0, 1)
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
MOTIONS = (  # what a shot does while it is joined to another
    {"noise": 0.5},
    {"pan": (1.5, 0.3)},
    {"zoom": 1.006, "shake": 0.5},
    {"pan": (-4, 1), "shake": 1.0},
)


def transitions() -> Iterator[Film]:
    for n, (a, b) in enumerate(PAIRS):
        fps, one, two = RATES[n % 4], MOTIONS[n % 4], MOTIONS[(n // 4 + 1) % 4]
        shots = [shot(a, 110, seed=n, **one), shot(b, 110, start=(0.4, 0.6), seed=n + 99, **two)]
        yield join("hard cut", fps, shots[0][:50], shots[1][:50], 0)
        dark = [np.round(s[:50] * 0.12).astype(np.uint8) for s in shots]
        yield join("hard cut, dark", fps, *dark, 0)
        yield join(
            "hard cut, H.264 crf 40", fps, *np.split(compressed(np.concatenate([s[:50] for s in shots]), fps, 40), 2), 0
        )
        other_half = shot(a, 50, start=(0.15, 0.2), size=0.7, seed=n, **two)
        yield join("hard cut within one photograph", fps, shot(a, 50, start=(0.75, 0.75), seed=n, **one), other_half, 0)
        fast = {"pan": (25, 4), "blur": 6}
        yield join("hard cut into a fast pan", fps, shots[0][:50], shot(b, 50, seed=n, **fast), 0)
        film = join("hard cut, variable rate", fps, shots[0][:50], shots[1][:50], 0)
        film.seconds = np.cumsum(np.random.default_rng(n).choice([0.5, 1, 1, 1, 2.5], len(film.frames))) / fps
        yield film
        for length in (4, 8, 15, 30, 60):
            for name, motion in (("still", {"noise": 0.5}), ("slow", None), ("fast", MOTIONS[3])):
                if motion is None:
                    pair = shots
                else:
                    pair = [shot(a, 110, seed=n, **motion), shot(b, 110, start=(0.4, 0.6), seed=n + 99, **motion)]
                yield join(
                    f"dissolve, {name}, {'4-8' if length < 10 else '15-60'} frames",
                    fps,
                    *(p[: 40 + length] if p is pair[1] else p[-40 - length :] for p in pair),
                    length,
                )
            for tone in ("black", "white"):
                yield join(
                    f"fade through {tone}, {'4-8' if length < 10 else '15-60'} frames",
                    fps,
                    shots[0][-40 - length :],
                    shots[1][: 40 + length],
                    length,
                    tone,
                )
            if 8 <= length <= 30:
                yield join(
                    "wipe",
                    fps,
                    shots[0][-40 - length :],
                    shots[1][: 40 + length],
                    length,
                    ("left", "down", "soft")[n % 3],
                )
        film = join("dissolve, H.264 crf 40", fps, shots[0][-55:], shots[1][:55], 15)
        film.frames = compressed(film.frames, fps, 40)
        yield film


def disturbances() -> Iterator[Film]:
    """One-shot films: every cut found in them is false."""
    for n, name in enumerate(PHOTOS):
        fps, rng = RATES[n % 4], np.random.default_rng(n)
        for speed in (1, 3, 8, 16, 30, 50):
            yield Film(
                f"pan of {speed} pixels a frame",
                shot(name, 60, pan=(speed, speed / 8), blur=min(8, speed // 3), seed=n),
                fps,
            )
        still = shot(name, 60, pan=(0.5, 0.1), shake=0.3, seed=n)
        yield Film("whip pan", whip_pan(name, 450, n), fps)
        yield Film("zoom, 3 % a frame", shot(name, 40, zoom=1.03, size=1.5, seed=n), fps)
        yield Film("shake of 6 pixels", shot(name, 60, shake=6, seed=n), fps)
        yield Film("noise of 20 levels", shot(name, 60, pan=(1, 0), noise=20, seed=n), fps)
        yield Film("H.264 crf 45", compressed(shot(name, 60, pan=(2, 0.5), seed=n), fps, 45), fps)
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
        for start, film in ((0, other), (30, PHOTOS[(n + 7) % len(PHOTOS)])):
            screen[start : start + 30, 30:102, 60:188] = np.stack(
                [cv2.resize(f, (128, 72)) for f in shot(film, 30, seed=n)]
            )
        yield Film("screen in the picture", screen, fps)
        thing = still.copy()
        sprite = cv2.resize(shot(other, 1)[0], (100, 110))
        for t in range(20, 32):
            x = (t - 20) * 30 - 100
            left, right = max(0, x), min(WIDTH, x + 100)
            if right > left:
                thing[t, 20:130, left:right] = sprite[:, left - x : right - x]
        yield Film("fast object", thing, fps)
        held = shot(name, 20, pan=(6, 1), seed=n).repeat(3, axis=0)
        yield Film("each frame shown three times", held, fps)
        tail = still * np.clip((58 - np.arange(60)) / 30, 0, 1)[:, None, None, None]
        yield Film("fade-out at the end", tail.astype(np.uint8), fps)
        film = Film("variable rate, hand-held", shot(name, 60, pan=(2, 0), shake=2, seed=n), fps)
        film.seconds = np.cumsum(rng.choice([0.5, 1, 1, 1, 3], 60)) / fps
        yield film


def ours(film: Film) -> list[int]:
    return run(TransitionDetector(), film)


def adaptive(film: Film) -> list[int]:
    return run(
        AdaptiveDetector(adaptive_threshold=3.5, window_width=3, min_scene_len=max(1, round(0.6 * film.fps))), film
    )


def content(film: Film) -> list[int]:
    return run(ContentDetector(threshold=27.0), film)


def run(detector, film: Film) -> list[int]:
    """First frames of new shots. PySceneDetect's are asked with plain frame numbers, ours with the film's own times."""
    cuts, base = [], Fraction(1, 90000)
    plain = not isinstance(detector, TransitionDetector)
    times = [
        FrameTimecode(t if plain else Timecode(round(s / base), base), fps=float(film.fps))
        for t, s in enumerate(film.seconds)
    ]
    number = {time.pts: t for t, time in enumerate(times)}
    for time, frame in zip(times, film.frames, strict=True):
        cuts += detector.process_frame(time, frame)
    return sorted({number[cut.pts] for cut in cuts + detector.post_process(times[-1])})


def judge(film: Film, cuts: list[int]) -> tuple[int, int, int]:
    """Found, missed, false: a cut within 1 frame, a gradual transition by a cut in its span or 3 frames beside it."""
    found = sum(any(abs(cut - c) <= 1 for cut in cuts) for c in film.cuts)
    found += sum(any(start - 3 <= cut <= end + 3 for cut in cuts) for start, end in film.spans)
    false = [
        c
        for c in cuts
        if not any(abs(c - t) <= 1 for t in film.cuts) and not any(a - 3 <= c <= b + 3 for a, b in film.spans)
    ]
    return found, len(film.cuts) + len(film.spans) - found, len(false)


def films(only: str = "") -> Iterator[Film]:
    for source in (transitions, disturbances):
        yield from (film for film in source() if only in film.kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    parser.add_argument("--save", type=Path, help="write the films there instead of judging")
    args = parser.parse_args()
    if args.save:
        save(args.save, args.only)
        return
    detectors: dict[str, Callable[[Film], list[int]]] = {"ours": ours, "adaptive 3.5": adaptive, "content 27": content}
    table: dict[str, dict[str, np.ndarray]] = defaultdict(lambda: {name: np.zeros(3, int) for name in detectors})
    counts: dict[str, int] = defaultdict(int)
    for film in films(args.only):
        counts[film.kind] += 1
        for name, detector in detectors.items():
            table[film.kind][name] += judge(film, detector(film))
    print(f"| kind | films | {' | '.join(f'{name}: found, missed, false' for name in detectors)} |")
    print("|" + "---|" * (2 + len(detectors)))
    for kind, row in table.items():
        print(f"| {kind} | {counts[kind]} | {' | '.join(', '.join(map(str, row[name])) for name in detectors)} |")
    totals = [", ".join(map(str, sum(row[name] for row in table.values()))) for name in detectors]
    print(f"| all | {sum(counts.values())} | {' | '.join(totals)} |")


def save(folder: Path, only: str) -> None:
    """Films at a constant rate, H.264 crf 18, and labels.json in the form of hand-made labels."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = {}
    for n, film in enumerate(films(only)):
        path = folder / f"{n:04}.mp4"
        with av.open(str(path), "w") as container:
            write_h264(container, film.frames, film.fps, 18)
        gradual = [{"type": film.kind, "start": start, "end": end} for start, end in film.spans]
        labels[path.name] = {"kind": film.kind, "cuts": film.cuts, "gradual": gradual}
    (folder / "labels.json").write_text(json.dumps(labels, indent=1))


if __name__ == "__main__":
    main()
