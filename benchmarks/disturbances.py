"""What happens within one shot and looks like a cut to a detector; of composed_films.py, the kinds without a cut.

Each takes uint8 (T, 144, 256, 3), BGR, of one shot, frames of another for what is laid over it, and a random generator.
"""

from collections.abc import Callable

import cv2
import numpy as np

Frames = np.ndarray


def lit(frames: Frames, gain: np.ndarray, gamma: float = 1.0) -> Frames:
    """The frames under a light that is `gain` (T,) times as strong, clipped as a camera does."""
    linear = 255 * (frames / 255) ** gamma * gain[:, None, None, None]
    return np.clip(linear, 0, 255).astype(np.uint8)


def exposure_jumps(frames: Frames, other: Frames, rng) -> Frames:
    """The camera corrects its exposure, at once or over a few frames, while somebody moves or not."""
    gain, length = np.ones(len(frames)), int(rng.integers(1, 5))
    for at in (30, 75, 115):
        gain[at:] *= rng.choice([rng.uniform(0.45, 0.8), rng.uniform(1.25, 2.0)])
    gain = np.clip(gain, 0.3, 2.2)
    gain = np.convolve(np.pad(gain, (length - 1, 0), "edge"), np.ones(length) / length, "valid")
    return lit(frames, gain)


def flicker(frames: Frames, other: Frames, rng) -> Frames:
    """A lamp or shutter that beats with the frame rate; on some frames a band of it is dark."""
    beat, depth = rng.uniform(0.15, 0.5), rng.uniform(0.1, 0.35)
    out = lit(frames, 1 + depth * np.sin(2 * np.pi * beat * np.arange(len(frames))))
    for at in rng.choice(len(frames), 8, replace=False):
        top = int(rng.integers(0, 100))
        out[at, top : top + 40] = (out[at, top : top + 40] * rng.uniform(0.3, 0.7)).astype(np.uint8)
    return out


def gain_hunting(frames: Frames, other: Frames, rng) -> Frames:
    """Automatic gain that overshoots in the dark: brightness swings and so does the noise."""
    times = np.arange(len(frames))
    gain = 0.45 + 0.3 * np.sign(np.sin(times / rng.uniform(3, 12))) * rng.uniform(0.5, 1)
    noise = rng.normal(0, 1, (len(frames), *frames.shape[1:3], 1)) * (12 * gain)[:, None, None, None]
    return np.clip(lit(frames, gain) + noise, 0, 255).astype(np.uint8)


def titles(frames: Frames, other: Frames, rng) -> Frames:
    """Large lines of text that are there at once and gone at once."""
    out = frames.copy()
    for start in (20, 50, 85, 120):
        stop, words = start + int(rng.integers(8, 28)), rng.integers(3, 9, int(rng.integers(1, 5)))
        text = ["".join(rng.choice(list("ABCDEFGHKLMNOPRSTUVWX"), n)) for n in words]
        colour, box = tuple(int(c) for c in rng.integers(0, 256, 3)), rng.random() < 0.4
        scale, left = rng.uniform(0.6, 1.8), int(rng.integers(5, 90))
        for frame in out[start:stop]:
            if box:
                cv2.rectangle(frame, (left - 5, 20), (min(250, left + 170), 30 + 25 * len(text)), (0, 0, 0), -1)
            for row, line in enumerate(text):
                cv2.putText(frame, line, (left, 42 + 28 * row), cv2.FONT_HERSHEY_DUPLEX, scale, colour, 2, cv2.LINE_AA)
    return out


def zoom_steps(frames: Frames, other: Frames, rng) -> Frames:
    """A digital zoom in steps of 3 to 12 %, at once."""
    out, factor, centre = [], 1.0, (256 * rng.uniform(0.35, 0.65), 144 * rng.uniform(0.35, 0.65))
    steps = set(rng.choice(np.arange(15, 140), 7, replace=False).tolist())
    for t, frame in enumerate(frames):
        if t in steps:
            factor = float(np.clip(factor * (1 + rng.choice([-1, 1]) * rng.uniform(0.03, 0.12)), 1.0, 1.5))
        out.append(cv2.warpAffine(frame, cv2.getRotationMatrix2D(centre, 0, factor), (256, 144)))
    return np.stack(out)


def shake(frames: Frames, other: Frames, rng) -> Frames:
    """Jerks of a camera held by hand or mounted on a car: up to a tenth of the frame, for one frame or for good."""
    out, place = [], np.zeros(3)
    for frame in frames:
        jerk = rng.normal(0, [9, 6, 1.5]) if rng.random() < 0.12 else rng.normal(0, [1.2, 1.2, 0.2])
        place = place * 0.6 + jerk
        matrix = cv2.getRotationMatrix2D((128, 72), place[2], 1.15)
        matrix[:, 2] += np.clip(place[:2], -18, 18)
        out.append(cv2.warpAffine(frame, matrix, (256, 144), borderMode=cv2.BORDER_REFLECT))
    return np.stack(out)


def lost_frames(frames: Frames, other: Frames, rng) -> Frames:
    """A recording that stalls: frames repeated up to six times, then up to three skipped."""
    order, t = [], 0
    while len(order) < len(frames) and t < len(frames):
        stalled = rng.random() < 0.12
        order += [t] * (int(rng.integers(2, 7)) if stalled else 1)
        t += int(rng.integers(2, 5)) if stalled else 1
    return frames[order[: len(frames)]]


def held_drawings(frames: Frames, other: Frames, rng) -> Frames:
    """Limited animation: a still background, figures drawn anew every few frames, elsewhere; a camera that slides."""
    background = cv2.bilateralFilter(frames[0], 9, 60, 9) // 40 * 40 + 20
    hold, out = int(rng.integers(2, 7)), []
    slide = rng.uniform(0, 0.8) if rng.random() < 0.4 else 0.0
    size, phase = rng.uniform(0.35, 0.95), rng.uniform(0, 6)
    figure = cv2.resize(other[0], None, fx=size, fy=size, interpolation=cv2.INTER_AREA) // 48 * 48 + 24
    h, w = figure.shape[:2]
    mask = np.zeros((h, w), np.uint8)
    cv2.ellipse(mask, (w // 2, h // 2), (w // 3, h // 2), 0, 0, 360, 255, -1)
    angles = rng.uniform(-25, 25, 6)
    for t in range(len(frames)):
        pose = t // hold
        frame = np.roll(background, -round(slide * t), axis=1).copy()
        turn = cv2.getRotationMatrix2D((w / 2, h / 2), angles[pose % 6], 1.0)
        drawn, cut = (cv2.warpAffine(x, turn, (w, h)) for x in (figure, mask))
        left = round((256 - w) * (0.5 + 0.45 * np.sin(phase + pose * 0.9)))
        top = round((144 - h) * (0.5 + 0.4 * np.cos(phase + pose * 1.7)))
        place = frame[top : top + h, left : left + w]
        place[cut > 127] = drawn[cut > 127]
        out.append(frame)
    return np.stack(out)


def whip_within(frames: Frames, other: Frames, rng) -> Frames:
    """The camera swings to another part of the same scene, smeared by its speed, and stays there."""
    wide = cv2.resize(frames[0], (512, 288))
    corners = [(0, 0), (256, 0), (256, 144), (0, 144)]
    order = rng.permutation(4)
    length, out = int(rng.integers(5, 13)), []
    for t, frame in enumerate(frames):
        part, since = min(3, t // 40), t % 40
        wide = cv2.resize(frame, (512, 288)) if t % 2 == 0 else wide
        here, before = np.array(corners[order[part]]), np.array(corners[order[max(0, part - 1)]])
        share = min(1.0, (since + 1) / (length + 1))
        x, y = np.round(before + (here - before) * (1 - np.cos(np.pi * share)) / 2).astype(int)
        view = wide[y : y + 144, x : x + 256]
        smear = int(np.abs(here - before).max() / length * np.sin(np.pi * share)) if share < 1 else 0
        out.append(cv2.blur(view, (smear, 1)) if smear > 1 else view)
    return np.stack(out)


def screen_in_scene(frames: Frames, other: Frames, rng) -> Frames:
    """A television or a phone in the scene, on which the programme is cut."""
    out, size = frames.copy(), rng.uniform(0.35, 0.6)
    w, h = round(256 * size), round(144 * size)
    left, top = int(rng.integers(0, 256 - w)), int(rng.integers(0, 144 - h))
    for start in range(0, len(frames), 30):
        shown = other[int(rng.integers(0, len(other)))]
        shown = np.rot90(shown, 2) if rng.random() < 0.5 else 255 - shown if rng.random() < 0.3 else shown
        out[start : start + 30, top : top + h, left : left + w] = cv2.resize(shown, (w, h))
    return out


DISTURBANCES: dict[str, Callable[[Frames, Frames, np.random.Generator], Frames]] = {
    "exposure jumps": exposure_jumps,
    "flicker": flicker,
    "gain hunting": gain_hunting,
    "titles at once": titles,
    "zoom in steps": zoom_steps,
    "shaken camera": shake,
    "lost frames": lost_frames,
    "held drawings": held_drawings,
    "whip pan in a shot": whip_within,
    "screen in the scene": screen_in_scene,
}
