"""The sample video of `quickstart.sh`: camera moves over real photographs, one shot for each thing a filter can say.

The photographs come with scikit-image's wheel, so nothing is downloaded. `SHOTS` is the script of the film, `get_truth`
says which frames each shot has, and the audio is a sine of another pitch in each, so that its sync can be measured.

    python -m tools.sample_video sample.mp4
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from PIL import Image

from utils.ending import run
from utils.errors import UsageError, install
from utils.rows import atomic_write
from utils.video.opening import writing

SAMPLE_RATE = 48000  # Hz
LOUDNESS = 0.05  # amplitude of the sine, 1.0 is full scale
OVERSAMPLING = 1.5  # pixels of the photo for one of the frame; at 1 a moving photo pulses between sharp and soft
PAGE = "Whoever is shown subtitles, credits and logos will draw letters where nobody asked for any. "

FILES = {"stereo_motorcycle": "motorcycle_left", "immunohistochemistry": "ihc"}  # photos whose files have other names

View = tuple[float, float, float]  # left, top and width of what the camera sees, each as a part of the photo's width


@dataclass(frozen=True)
class Shot:
    """One shot: a camera that moves over a photo from one view to another at constant speed."""

    name: str
    photo: str  # of skimage.data, by its name there
    seconds: float
    movement: str  # in words
    start: View
    end: View
    outcome: str  # "kept", "split", or why it is dropped: "too short", "poor quality", "text", "still", "too fast"
    alter: Callable[[np.ndarray, float], np.ndarray] | None = None  # (photo, width of its widest view in pixels)
    shake: float = 0.0  # largest distance from the path, in widths of the view
    dissolve_seconds: float = 0.0  # so long the shot before still shows, fading


class Truth(NamedTuple):
    """What a shot detector should find, in frames, ranges as `[start, stop)`."""

    spans: list[tuple[int, int]]  # of each shot; one that dissolves in starts with the first mixed frame
    dissolves: list[tuple[int, int]]  # the mixed frames


def blur_and_darken(photo: np.ndarray, view_width: float) -> np.ndarray:
    """The photo out of focus (Gaussian, sigma 1 % of the view's width in pixels) and with an eighth of the light."""
    return cv2.GaussianBlur(photo, (0, 0), 0.01 * view_width) // 8


def cover_with_text(photo: np.ndarray, view_width: float) -> np.ndarray:
    """The photo with a page of text over all of it, 12 lines in the height of a 16:9 view."""
    photo, colour = photo.copy(), (255, 225, 120)
    line_height = view_width * 9 / 16 / 12
    scale = line_height / 40  # OpenCV's capitals are about 22 pixels high at scale 1
    for i in range(int(photo.shape[0] / line_height)):
        line = (PAGE[37 * i % len(PAGE) :] + PAGE * 2)[:100]
        place = round(line_height), round((i + 1) * line_height)
        cv2.putText(photo, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, max(1, round(2 * scale)), cv2.LINE_AA)
    return photo


# Pans by 0.18 photo widths under a view of 0.78 in 4 s are 5.6 % of the frame's width a second. The film is as short as
# shots of 3 to 10 s allow, as most of the quick start's time goes with its length.
SHOTS = (
    Shot("garage", "stereo_motorcycle", 4, "pan right", (0, 0.1, 0.78), (0.176, 0.1, 0.78), "kept"),
    Shot("cameraman", "camera", 2, "pan right", (0, 0.1, 0.85), (0.1, 0.1, 0.85), "too short"),
    Shot("coffee", "coffee", 4, "zoom in", (0, 0.05, 1), (0.14, 0.11, 0.76), "kept"),
    Shot(
        "slide",
        "immunohistochemistry",
        5,
        "pan left",
        (0.2, 0.28, 0.78),
        (0.017, 0.2, 0.78),
        "kept",
        dissolve_seconds=1,
    ),
    Shot("credits", "hubble_deep_field", 3.5, "pan right", (0, 0.1, 0.87), (0.09, 0.1, 0.87), "text", cover_with_text),
    Shot("portrait", "astronaut", 3.5, "none", (0, 0, 1), (0, 0, 1), "still"),
    Shot("rocket", "rocket", 11, "pan left", (0.25, 0.2, 0.68), (0, 0.2, 0.68), "split"),
    Shot("night", "chelsea", 3.5, "pan right", (0, 0.1, 0.8), (0.14, 0.1, 0.8), "poor quality", blur_and_darken),
    Shot("ride", "stereo_motorcycle", 3.5, "shaking", (0.15, 0.13, 0.7), (0.15, 0.13, 0.7), "too fast", shake=0.15),
)


def get_truth(shots: Sequence[Shot] = SHOTS, fps: Fraction = Fraction(24)) -> Truth:
    """Which frames each shot has and which are mixed, at `fps` frames a second."""
    ends = [round(seconds * fps) for seconds in itertools.accumulate(Fraction(shot.seconds) for shot in shots)]
    spans = list(itertools.pairwise([0, *ends]))
    mixed = [(start, start + round(s.dissolve_seconds * fps)) for s, (start, _) in zip(shots, spans, strict=True)]
    return Truth(spans, [(start, stop) for start, stop in mixed if stop > start])


def load_photo(shot: Shot, width: int) -> np.ndarray:
    """The shot's photo for a video `width` pixels wide: uint8 (H, W, 3), RGB, resized, sharpened and altered."""
    spec = find_spec("skimage")  # looked up, not imported: it takes a second, and scipy
    if not spec or not spec.origin:
        raise UsageError(
            f"scikit-image, whose photographs the sample shows, is not installed: {install('--no-deps scikit-image')}"
        )
    (file,) = Path(spec.origin).parent.glob(f"data/{FILES.get(shot.photo, shot.photo)}.*")
    photo = np.array(Image.open(file).convert("RGB"))
    view_width = OVERSAMPLING * width
    scale = view_width / (photo.shape[1] * max(shot.start[2], shot.end[2]))
    interpolation = cv2.INTER_LANCZOS4 if scale > 1 else cv2.INTER_AREA
    photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=interpolation)
    photo = cv2.addWeighted(photo, 1.5, cv2.GaussianBlur(photo, (0, 0), 0.7 * max(1, scale)), -0.5, 0)
    return shot.alter(photo, view_width) if shot.alter else photo


def get_view(shot: Shot, seconds: float) -> View:
    """What the camera sees so many seconds into the shot. A zoom changes the width by the same factor every second."""
    (left, top, width), (end_left, end_top, end_width) = shot.start, shot.end
    progress = seconds / shot.seconds
    if width != end_width:
        zoom = (end_width / width) ** progress
        progress = width * (zoom - 1) / (end_width - width)
    view = np.array([left, top, width]) + progress * np.array([end_left - left, end_top - top, end_width - width])
    # Near 3 Hz, frames half a second apart lie on opposite sides; two frequencies in each direction never look like a
    # swing. The camera starts and ends at rest, so that the cuts beside a shaken shot stand out.
    sway = np.sin(2 * np.pi * np.array([2.7, 3.4, 3.1, 2.3]) * seconds) * shot.shake * view[2] / 2
    sway *= min(1, seconds / 0.6, abs(shot.seconds - seconds) / 0.6)
    return view[0] + sway[0] + sway[1], view[1] + (sway[2] + sway[3]) / 2, view[2]


def render(shot: Shot, width: int, height: int, fps: Fraction) -> Iterator[np.ndarray]:
    """The frames of a shot, uint8 (height, width, 3), RGB, without end: the camera moves on past `shot.seconds`."""
    photo = load_photo(shot, width)
    for number in itertools.count():
        left, top, view_width = (photo.shape[1] * part for part in get_view(shot, float(number / fps)))
        step = view_width / width  # pixels of the photo for one of the frame, whose centre is half a step in
        matrix = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        yield cv2.warpAffine(photo, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)


def render_all(shots: Sequence[Shot], width: int, height: int, fps: Fraction) -> Iterator[np.ndarray]:
    """The frames of the whole film, uint8 (height, width, 3), RGB."""
    before: Iterator[np.ndarray] = iter(())
    for shot, (start, stop) in zip(shots, get_truth(shots, fps).spans, strict=True):
        frames = render(shot, width, height, fps)
        num_mixed = round(shot.dissolve_seconds * fps)
        for i, frame in enumerate(itertools.islice(frames, stop - start)):
            weight = (i + 1) / (num_mixed + 1)
            yield frame if i >= num_mixed else cv2.addWeighted(frame, weight, next(before), 1 - weight, 0)
        before = frames


def get_pitch(index: int) -> float:
    """The pitch of the sound in shot number `index`, in Hz."""
    return 220.0 + 55.0 * index


def make_sound(shots: Sequence[Shot], fps: Fraction) -> np.ndarray:
    """The sound of the film, float32 (1, samples): a soft sine whose pitch changes with the first frame of a shot."""
    spans = get_truth(shots, fps).spans
    lengths = [round(stop / fps * SAMPLE_RATE) - round(start / fps * SAMPLE_RATE) for start, stop in spans]
    pitches = np.repeat([get_pitch(i) for i in range(len(shots))], lengths)
    return (LOUDNESS * np.sin(2 * np.pi * np.cumsum(pitches) / SAMPLE_RATE)).astype(np.float32)[None]


def make_sample_video(
    path: str | Path, width: int = 640, height: int = 360, fps: Fraction = Fraction(24), shots: Sequence[Shot] = SHOTS
) -> Truth:
    """Write the film to `path` (MP4, H.264, AAC) and return what is in it. The file appears when it is whole."""
    # For the same bytes every time: x264's output depends on the number of threads, and at some widths (320) its
    # macroblock tree differed from run to run.
    x264 = {"preset": "superfast", "crf": "20", "threads": "4", "mbtree": "0"}
    with (
        writing(path),
        atomic_write(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        video = container.add_stream("libx264", rate=fps, options=x264)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.colorspace, video.codec_context.color_range = Colorspace.ITU709, ColorRange.MPEG
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        sound, heard = make_sound(shots, fps), 0
        scaler = VideoReformatter()  # one for all frames: making it costs more than converting a frame
        for number, pixels in enumerate(render_all(shots, width, height, fps)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = scaler.reformat(frame, format="yuv420p", dst_colorspace=Colorspace.ITU709, threads=1)
            frame.pts, frame.time_base = number, 1 / fps
            container.mux(video.encode(frame))
            until = round((number + 1) / fps * SAMPLE_RATE)
            samples = av.AudioFrame.from_ndarray(sound[:, heard:until], format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = SAMPLE_RATE, heard, Fraction(1, SAMPLE_RATE)
            container.mux(audio.encode(samples))
            heard = until
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return get_truth(shots, fps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", metavar="OUT.mp4", help="the video to write, 640x360")
    path = parser.parse_args().path
    print(f"sample: {len(SHOTS)} shots, {make_sample_video(path).spans[-1][1]:,} frames -> {path}")


if __name__ == "__main__":
    run(main)
