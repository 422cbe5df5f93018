"""How each clip is used: by the trainer as it is, and by the export. Pure functions of measured columns."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from utils.export.models import Size, Target, nearest_bucket

FPS_MODES = ("nearest", "previous", "keep")
SAME_RATE = Fraction(1, 200)  # as `video.timing.frame_rate` takes a measured rate for the declared one


@dataclass(frozen=True)
class Measured:
    """A clip as it is stored: `times`, seconds of its frames from the first one on, float64 (N,); `last`, how long the last frame is
    shown; `size`, (width, height) of its upright frames in stored pixels, which are `pixel_aspect` times as wide as high; `begin`, when the
    container shows the first one, seconds; `is_still`: an image, of one frame.
    """

    times: np.ndarray
    last: float
    size: Size
    pixel_aspect: Fraction
    fps: Fraction
    has_audio: bool
    begin: Fraction = Fraction(0)
    is_still: bool = False

    @property
    def seconds(self) -> float:
        return float(self.times[-1]) + self.last

    @property
    def span(self) -> tuple[Fraction, Fraction]:
        """When the container shows it, seconds."""
        return self.begin, self.begin + Fraction(self.seconds)


@dataclass(frozen=True)
class Cut:
    """What `encode` makes of a clip: `box` [x, y, width, height] of the upright frame, scaled to `size`; the frames with the
    numbers `frames`, rising, a repeated one shown twice, at `fps`, None for their own times.
    """

    box: tuple[int, int, int, int]
    size: Size
    frames: list[int]
    fps: Fraction | None


def frames_at(times: np.ndarray, last: float, fps: Fraction, mode: str) -> list[int]:
    """The numbers of the frames that are shown at 0, 1/fps, 2/fps … seconds, rising; times as of `Measured`.

    nearest: the frame whose time is nearest, the earlier of two; previous: the one that a player shows then.
    """
    count = max(1, int(np.floor((float(times[-1]) + last) * float(fps) + 1e-6)))
    ticks = np.arange(count) / float(fps)
    if mode == "previous":
        found = np.searchsorted(times, ticks + 1e-6, side="right") - 1
    else:
        middles = (times[1:] + times[:-1]) / 2
        found = np.searchsorted(middles, ticks - 1e-6, side="left")
    return found.tolist()


def plan_cut(clip: Measured, target: Target, crop_box: list[int] | None, fps_mode: str) -> tuple[Cut | None, str]:
    """How a clip is cut and encoded for `target`, or None and why it cannot be."""
    if clip.is_still:
        box, size = fitted(clip, target, crop_box)
        return (Cut(box, size, [0], None), "") if min(size) >= target.multiple else (None, _too_small(clip, target))
    if len(clip.times) < 2:
        return None, "too short: one frame, an image"
    fps = None if target.fps is None or fps_mode == "keep" else target.fps
    frames = list(range(len(clip.times))) if fps is None else frames_at(clip.times, clip.last, fps, fps_mode)
    count = target.frames_of(len(frames))
    if not count:
        rate = float(fps or clip.fps)
        return None, f"too short: {len(frames)} frames at {rate:g} fps, and the model takes {target.rule}"
    box, size = fitted(clip, target, crop_box)
    if min(size) < target.multiple:
        return None, _too_small(clip, target)
    extra = [frames[-1]] * target.extra_frames  # where the clip has no more, the last one again
    return Cut(box, size, (frames + extra)[: count + target.extra_frames], fps), ""


def _too_small(clip: Measured, target: Target) -> str:
    return f"too small: {clip.size[0]}x{clip.size[1]} holds no frame whose sides are multiples of {target.multiple}"


def fitted(clip: Measured, target: Target, crop_box: list[int] | None) -> tuple[tuple[int, int, int, int], Size]:
    """The part of the frame that is used, in stored pixels, and the size that it gets: the middle of the crop box with the aspect
    ratio of a bucket; without buckets all of it, at most `max_pixels`, and cut to multiples.
    """
    x, y, width, height = crop_box or (0, 0, *clip.size)
    aspect = float(clip.pixel_aspect)
    shown = width * aspect, float(height)  # in square pixels
    multiple = target.multiple
    if target.buckets:
        size = nearest_bucket(shown, target.buckets)
    else:
        scale = min(1.0, (target.max_pixels / (shown[0] * shown[1])) ** 0.5) if target.max_pixels else 1.0
        size = int(shown[0] * scale + 1e-6) // multiple * multiple, int(shown[1] * scale + 1e-6) // multiple * multiple
        if min(size) < multiple or (scale == 1 and aspect == 1):  # nothing is scaled: the middle is cut out
            return _middle(x, y, width, height, size), size
    scale = max(size[0] / shown[0], size[1] / shown[1])
    return _middle(x, y, width, height, (round(size[0] / scale / aspect), round(size[1] / scale))), size


def _middle(x: int, y: int, width: int, height: int, size: Size) -> tuple[int, int, int, int]:
    """The middle of a box, as far as it goes, in whole pixels of the chroma, which is stored at half the size."""
    inner = [side if whole <= side else side // 2 * 2 for side, whole in zip(size, (width, height), strict=True)]
    inner = [min(whole, side) for whole, side in zip((width, height), inner, strict=True)]
    return x + (width - inner[0]) // 4 * 2, y + (height - inner[1]) // 4 * 2, inner[0], inner[1]


@dataclass(frozen=True)
class TrainerRules:
    """How a trainer treats clips whose rate or aspect ratio does not match the model. `rate`: "native" (plays frames as they come, so that motion
    gets another speed), "model" (changes the rate), "declared" (drops frames, and never repeats one, where the clip's rate is in its settings, as an
    export writes it), "squeeze" (spreads the wanted number of frames over the whole clip). `crops`: to the aspect ratio of the nearest bucket;
    else it squeezes the frame into it.
    """

    rate: str = "native"
    crops: bool = True


def as_it_is(clip: Measured, target: Target, trainer_rules: TrainerRules) -> dict[str, Any]:
    """What a trainer would do with the clip untouched, whatever lengths an export makes (`counts`), if the model has a rule of its own: `as_is_frames`, how many frames it trains on; `as_is_speed`, how fast
    motion is in them, 1 for right; `as_is_lost`, the share of the frame that is cut off; `as_is`, a sentence.
    """
    target = replace(target, counts=()) if target.step else target
    there, speed = len(clip.times), 1.0
    fps = target.fps or clip.fps
    differs = abs(clip.fps / fps - 1) > SAME_RATE
    said = []
    if clip.is_still:
        frames = there
    elif trainer_rules.rate == "squeeze":
        wanted = max(target.counts, default=target.max_frames or there)
        frames = wanted if there > 1 else 0
        speed = float(Fraction(there) / clip.fps / (Fraction(wanted) / fps))
        if there != wanted:
            said.append(
                f"{there} frames squeezed into {wanted}" if there > wanted else f"{there} frames stretched to {wanted}"
            )
    elif differs and (trainer_rules.rate == "model" or (trainer_rules.rate == "declared" and clip.fps > fps)):
        retimed = int(there * fps / clip.fps)
        said.append(f"retimed from {float(clip.fps):g} to {float(fps):g} fps: {retimed} of {there} frames")
        frames = target.frames_of(retimed)
        there = retimed
    else:
        frames = target.frames_of(there)
        speed = float(fps / clip.fps)
    if not frames:
        said.append(f"skipped or refused: {there} frames, and the model takes {target.rule}")
    elif frames < there and trainer_rules.rate != "squeeze":
        said.append(f"{frames} of {there} frames used")
    if frames and abs(speed - 1) > 0.01:
        said.append(f"motion at {speed:.2f} of its speed")
    shown = clip.size[0] * float(clip.pixel_aspect), float(clip.size[1])
    size = nearest_bucket(shown, target.buckets) if target.buckets else (round(shown[0]), clip.size[1])
    ratio = size[0] / size[1] / (shown[0] / shown[1])
    lost = round(1 - min(ratio, 1 / ratio), 3)
    if lost > 0.01:
        said.append(f"{lost:.0%} of the frame cut off" if trainer_rules.crops else f"the frame squeezed by {lost:.0%}")
    return {
        "as_is": "; ".join(said) or "used as it is",
        "as_is_frames": frames,
        "as_is_speed": round(speed, 3),
        "as_is_lost": lost if trainer_rules.crops else 0.0,
    }


def cut_columns(clip: Measured, cut: Cut) -> dict[str, Any]:
    """What the plan says of a cut: sizes in pixels, `upscale` of the side that grows most, seconds of the clip that are used, and how many of
    its frames are left out between the first and the last one or shown twice.
    """
    first, last = cut.frames[0], cut.frames[-1]
    stop = float(clip.times[last + 1]) if last + 1 < len(clip.times) else clip.seconds
    used = len(set(cut.frames))
    return {
        "box": list(cut.box),
        "width": cut.size[0],
        "height": cut.size[1],
        "frames": len(cut.frames),
        "fps": round(float(cut.fps or clip.fps), 3),
        "upscale": round(max(cut.size[0] / (cut.box[2] * float(clip.pixel_aspect)), cut.size[1] / cut.box[3]), 3),
        "used_seconds": round(stop - float(clip.times[first]), 3),
        "skipped_frames": last - first + 1 - used,
        "repeated_frames": len(cut.frames) - used,
    }
