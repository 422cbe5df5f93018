"""Shot transitions without a trained network: hard cuts, dissolves, wipes and fades, by asking where each picture went.

    detector = TransitionDetector()
    cuts = [cut for time, frame in frames for cut in detector.process_frame(time, frame)] + detector.post_process(time)
    detector.transitions  # [Transition("dissolve", start, end), ...], frames [start, end) that belong to no clean shot

It runs in PySceneDetect's SceneManager as well. Three questions are asked, each of another neighbourhood in time:

- hard cut: is the picture *not found again* in the next frame, displaced or not, as it was one frame before and after,
  by no camera move, and for longer than a flash lasts?
- dissolve, wipe: does the film travel on a *straight line* from one picture to another that is not found in the first?
- fade: does the contrast sink to nothing, or rise from it?

docs/cuts.md tells how each constant was chosen and what is not found.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detector import SceneDetector

from utils.cutting.block_matching import BLOCK, blocks_found, camera_moved, colours_lost, found_share, share_in_place

FRAME_WIDTH = 256  # pixels: what the detector is made for; 160-320 serve, scaled down by area to average noise away
THUMB_AREA = 64 * 36  # pixels of the picture that is compared: coarse, so that blur and noise hardly count

MIN_CHANGE = 1.5  # levels, mean over the thumb: less is no new picture (slides change by 5, sensor noise is below 0.5)
PEAK = 1.25  # a cut's change against the largest within two frames: motion lasts several frames, a cut one
LOST = 0.4  # share of structure plus share of colours lost at a cut beyond what the motion around it loses
NEARBY = 3  # thumb pixels of the 64: farther, smooth pictures (sky, soft light) are found by chance
IN_PLACE = 0.65  # more detail than this unchanged: something changed within the picture, a screen or a title
STAYED = 0.7  # found share at which a picture counts as the same one after a flash
FLASH_SECONDS = 0.25  # a picture that is back after this time was never left

SCALES = np.array([2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])  # frames from the old shot's last to the new one's first
GUARDS = np.maximum(1, SCALES // 3)  # frames before and after that are looked at too
QUARTERS = np.array([[1], [2], [3]])
RING = 136  # frames kept: the longest scale, its guards, a third of it to wait for the best place, and some
RING_SECONDS = 0.024  # films above 40 frames a second are thinned for dissolves
MIN_DISTANCE = 8.0  # levels, root mean square: the ends of a gradual transition are at least this far apart
OFF_LINE = 0.2  # squared distance from the line over its squared length: 0 a mixture, 0.25 a wipe, 0.75 a third picture
OFF_WIPE = 0.32  # up to here it may be a wipe, if
WIPED = 0.15  # share of the halfway picture that is found in the old picture only, and in the new one only
EITHER = 0.7  # this share of the halfway picture is found, almost in place, in one of both
OUTSIDE = 0.35  # the same for the drift just before and after: a transition ends, a pan goes on
DIP = 0.8  # contrast energy halfway over the mean of both ends: 0.5 for unrelated pictures mixed, 1 in motion
WIPE_SCALE = 6  # frames: shorter, and a fast pan looks the same
HALF_GONE = 0.5  # share of structure that a gradual transition loses from end to end, at least
GONE = 0.9  # the same plus the share of colours lost; motion, light and overlaid titles lose less

FLAT = 1.0  # levels, standard deviation: nothing to see; a small title on black has 5
RISE, RISING = 4, 1.03  # a fade's contrast grows by 3 % in 4 frames: 60 frames of linear fade do so up to the end
SUDDEN = 0.5  # a picture next to black with more than this share of the full contrast was cut, not faded
MIN_DARK_SECONDS = 0.1  # black shorter than this between two fades gives one cut, not two
MIN_SHOT_SECONDS = 0.3  # black at the very start or end of a film for less than this is no shot of its own
# Rows and columns that are always below both, levels and share of the picture's brightest, are bars.
BAR_LEVEL, BAR_SHARE = 24, 0.1


class Transition(NamedTuple):
    """Frames [start, end) that belong to no clean shot; `kind` is fade, dissolve or wipe."""

    kind: str
    start: FrameTimecode
    end: FrameTimecode


@dataclass
class Frame:
    """A frame scaled down. `thumb`: uint8 (h, w, 3), BGR, THUMB_AREA pixels; `change`: mean levels to the last one."""

    index: int  # of all frames
    number: int  # of the ring's frames; of a frame left out there, that of the next
    time: FrameTimecode
    seconds: float
    image: np.ndarray
    thumb: np.ndarray
    gray: np.ndarray
    change: float
    contrast: float = 0.0


@dataclass
class Span:
    """A gradual transition, frames [start, end), and its cuts; of spans that overlap the best stays."""

    score: float
    kind: str
    start: Frame
    end: Frame
    cuts: list[Frame] = field(default_factory=list)


@dataclass
class Fade:
    """Black (or white, or any one tone) from `gone` on; the fade to it begins at `start`, after the picture `old`."""

    old: Frame | None
    start: Frame
    gone: Frame
    rising: list[Frame] = field(default_factory=list)  # the frames since the next picture appears


def overlap(a: Span, b: Span) -> bool:
    return a.start.index < b.end.index and b.start.index < a.end.index


def fade_length(contrasts: list[float]) -> int | None:
    """Frames of a fade seen from black outwards; 0 for a hard cut, None while the contrast still rises at the end."""
    for n in range(len(contrasts) - RISE):
        if contrasts[n + RISE] < RISING * contrasts[n]:
            top = max(contrasts[n : n + RISE])
            length = n + next(i for i in range(RISE) if contrasts[n + i] > 0.98 * top)
            return 0 if contrasts[0] > SUDDEN * contrasts[length] else length
    return None


class TransitionDetector(SceneDetector):
    """Finds hard cuts and gradual transitions in BGR frames about FRAME_WIDTH wide, with bounded memory.

    process_frame() and post_process() return the first frames of new shots, up to some seconds late. A dissolve's or
    wipe's cut is its middle; a fade gives one where the picture has gone and one where the next appears, so that black
    is a shot of its own. `transitions` collects the gradual spans, which are to be kept out of clips.
    """

    def __init__(self):
        super().__init__()
        self.transitions: list[Transition] = []
        self._brightest: np.ndarray | None = None  # per pixel, slowly forgotten: what stayed dark is a bar
        self._frames: list[Frame] = []  # the neighbourhood of the hard cut in question
        self._asked = 0  # index of the last frame of which it was asked whether a shot begins there
        self._cuts: list[Frame] = []  # not yet returned
        self._spans: list[Span] = []  # gradual transitions not yet returned
        self._ring: deque[Frame] = deque(maxlen=RING)
        self._numbered = 0  # frames that ever entered the ring
        self._vectors: np.ndarray | None = None  # (RING, n) float32, at the frame's number modulo RING
        self._norms = np.zeros(RING, np.float32)
        self._distance = np.zeros((RING, RING), np.float32)  # squared, levels per pixel, between the frames of the ring
        self._best: dict[int, Span] = {}  # of each scale, the span that is about to be looked at
        self._fade: Fade | None = None

    @property
    def event_buffer_length(self) -> int:
        return 2 * RING

    def process_frame(self, timecode: FrameTimecode, frame_img: np.ndarray) -> list[FrameTimecode]:
        """Takes the next frame, uint8 (h, w, 3), BGR; returns the cuts that have become certain."""
        frame = self._scale_down(timecode, frame_img)
        self._follow_fade(frame)
        self._find_hard_cuts(frame.seconds - FLASH_SECONDS)
        if not self._ring or frame.seconds - self._ring[-1].seconds > RING_SECONDS:
            self._enter_ring(frame)
            self._find_gradual()
        return self._settle(self._numbered - RING)

    def post_process(self, timecode: FrameTimecode) -> list[FrameTimecode]:
        """Ends the film at frame `timecode`; returns the cuts that are left."""
        if not self._frames:
            return []
        last = self._frames[-1]
        if self._fade:
            self._end_fade(replace(last, index=last.index + 1, time=last.time + 1), film_ends=True)
        self._find_hard_cuts(float("inf"))
        for scale in list(self._best):
            self._look_at(self._best.pop(scale))
        return self._settle(float("inf"))

    # One picture

    def _scale_down(self, time: FrameTimecode, image: np.ndarray) -> Frame:
        height, width = image.shape[:2]
        scale = (THUMB_AREA / (height * width)) ** 0.5
        thumb = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(thumb, cv2.COLOR_BGR2GRAY)
        forgotten = np.float32(gray) if self._brightest is None else self._brightest - np.float32(0.2)
        self._brightest = np.maximum(gray, forgotten)
        before = self._frames[-1] if self._frames else None
        change = cv2.norm(thumb, before.thumb, cv2.NORM_L1) / thumb.size if before else 0.0
        frame = Frame(before.index + 1 if before else 0, self._numbered, time, time.seconds, image, thumb, gray, change)
        frame.contrast = float(cv2.meanStdDev(gray[self._live()])[1][0, 0])
        self._frames.append(frame)
        return frame

    def _live(self) -> tuple[slice, slice]:
        """The picture without its bars."""
        level = min(BAR_LEVEL, BAR_SHARE * float(self._brightest.max()))  # a share, for the dark picture that fades in
        rows, columns = (np.flatnonzero(self._brightest.max(axis=axis) > level) for axis in (1, 0))
        if not len(rows) or not len(columns):
            return slice(None), slice(None)
        cut = [  # a pixel less where there is a bar: half of it may be the bar's
            slice(lit[0] + (lit[0] > 0), lit[-1] + (lit[-1] == size - 1))
            for lit, size in zip((rows, columns), self._brightest.shape, strict=True)
        ]
        return tuple(cut) if min(side.stop - side.start for side in cut) > BLOCK else (slice(None), slice(None))

    def _found(self, a: Frame, b: Frame) -> tuple[float, float]:
        """Share of the texture of `a` found in `b`, and of `b` in `a`."""
        live = self._live()
        return found_share(a.gray[live], b.gray[live]), found_share(b.gray[live], a.gray[live])

    def _colours_lost(self, a: Frame, b: Frame) -> float:
        live = self._live()
        return colours_lost(a.thumb[live], b.thumb[live])

    # Hard cuts

    def _find_hard_cuts(self, until_seconds: float) -> None:
        """Asks of each frame up to `until_seconds` whether a shot begins there; keeps what the next may need."""
        frames = self._frames
        while (at := self._asked + 1 - frames[0].index) < len(frames) and frames[at].seconds <= until_seconds:
            self._asked += 1
            if self._is_hard_cut(at):
                self._cuts.append(frames[at])
        while len(frames) > 8 and frames[4].index < self._asked and frames[4].seconds < until_seconds - FLASH_SECONDS:
            frames.pop(0).image = None  # the ring may hold the frame longer, but not its pixels

    def _is_hard_cut(self, at: int) -> bool:
        frames, old, new = self._frames, self._frames[at - 1], self._frames[at]
        around = [frame.change for frame in frames[max(1, at - 2) : at] + frames[at + 1 : at + 3]]
        if new.change < max(MIN_CHANGE, PEAK * max(around, default=0)):
            return False
        if min(old.contrast, new.contrast) < FLAT:
            return False  # black on one side is a fade's matter, even where it comes at once
        if self._lost_beyond_motion(at) < LOST:
            return False
        for a, b in [(old, later) for later in frames[at + 1 :]] + [(earlier, new) for earlier in frames[: at - 1]]:
            apart = cv2.norm(a.thumb, b.thumb, cv2.NORM_L1) / a.thumb.size
            if b.seconds - a.seconds > FLASH_SECONDS or apart > new.change / 2:
                continue
            if max(self._found(a, b)) > STAYED:
                return False  # the old picture comes back, or the new one was there just before: a flash
        live = self._live()
        in_place = share_in_place(old.gray[live], new.gray[live])
        return in_place < IN_PLACE and not camera_moved(old.image, new.image)

    def _lost_beyond_motion(self, at: int) -> float:
        """Structure and colours lost into frame `at`, less what the motion just before or after loses in one frame."""
        frames, live = self._frames, self._live()
        old, new = frames[at - 1].gray[live], frames[at].gray[live]
        if any(found_share(a, b, NEARBY) > 1 - LOST / 2 for a, b in ((old, new), (new, old))):
            return 0.0  # most of the picture is where it was, in whatever light; asked first, because it costs least
        found = max(self._found(frames[at - 1], frames[at]))
        lost = 1 - found + self._colours_lost(frames[at - 1], frames[at])
        return lost - max(self._lost_nearby(range(at - 1, at - 4, -1)), self._lost_nearby(range(at + 1, at + 4)))

    def _lost_nearby(self, places: range) -> float:
        """Structure and colours lost by motion alone, between the nearest two frames that are not one frame twice."""
        for i in places:
            if 1 <= i < len(self._frames) and self._frames[i].change > 0.5:
                a, b = self._frames[i - 1], self._frames[i]
                return 1 - max(self._found(a, b)) + self._colours_lost(a, b)
        return 0.0

    # Dissolves and wipes

    def _enter_ring(self, frame: Frame) -> None:
        small = cv2.resize(frame.thumb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        if self._vectors is None:
            self._vectors = np.zeros((RING, small.size), np.float32)
        place = self._numbered % RING
        self._vectors[place] = small / np.sqrt(small.size)
        products = self._vectors @ self._vectors[place]
        self._norms[place] = products[place]
        distance = np.maximum(self._norms + products[place] - 2 * products, 0)
        self._distance[place] = self._distance[:, place] = distance
        self._ring.append(frame)
        self._numbered += 1

    def _find_gradual(self) -> None:
        """Looks for spans that end a third of their length ago, on all SCALES at once."""
        newest, oldest = self._numbered - 1, max(0, self._numbered - RING)
        in_ring = newest - oldest >= GUARDS + SCALES
        scales, guards = SCALES[in_ring], GUARDS[in_ring]
        b = newest - guards
        a = b - scales

        def squared(i, j):
            return self._distance[i % RING, j % RING]

        length = squared(a, b) + 1e-6
        outside = np.maximum(squared(np.maximum(a - guards, oldest), a), squared(b, newest)) / length
        far = (length > MIN_DISTANCE**2) & (outside < OUTSIDE)
        if far.any():
            a, b, scales, length = a[far], b[far], scales[far], length[far]
            m = a + (QUARTERS * scales + 2) // 4  # (3, scales): the frames at a quarter, half and three quarters
            along = (squared(a, m) + length - squared(m, b)) / (2 * length)
            off = squared(a, m) / length - along**2
            even = (abs(along[1] - 0.5) < 0.25) & (along[0] < along[1] + 0.05) & (along[1] < along[2] + 0.05)
            score = np.sqrt(length) * (1 - 2 * off[1])
            for n in np.flatnonzero(even & (off.max(axis=0) < OFF_WIPE)):
                kind, scale = "dissolve" if off[:, n].max() < OFF_LINE else "wipe", int(scales[n])
                if scale not in self._best or self._best[scale].score < score[n]:
                    ends = self._numbered_frame(a[n]), self._numbered_frame(b[n])
                    self._best[scale] = Span(float(score[n]), kind, *ends)
        for scale, span in list(self._best.items()):
            if newest - span.end.number > scale // 4 + scale // 3 + 1:
                self._look_at(self._best.pop(scale))

    def _numbered_frame(self, number: int) -> Frame:
        return self._ring[int(number) - self._ring[0].number]

    def _look_at(self, span: Span) -> None:
        """Keeps a span whose ends show different pictures, trimmed to where the mixture begins and ends."""
        a, b = span.start, span.end
        passed = self._is_mixture(a, b) if span.kind == "dissolve" else self._is_wipe(a, b)
        if not passed or min(a.contrast, b.contrast) < FLAT:
            return
        lost = 1 - sum(self._found(a, b)) / 2
        if lost < HALF_GONE or lost + self._colours_lost(a, b) < GONE:
            return
        after = np.arange(b.number, min(b.number + (b.number - a.number) // 3, self._numbered - 1) + 1)
        reached = self._distance[a.number % RING, after % RING]
        b = self._numbered_frame(after[np.argmax(reached > 0.98 * reached.max())])  # the mixture may go on a little
        numbers = np.arange(a.number, b.number + 1) % RING
        to_a, to_b = self._distance[a.number % RING, numbers], self._distance[b.number % RING, numbers]
        along = (to_a + to_a[-1] - to_b) / (2 * to_a[-1])
        middle = int(np.argmax(along >= 0.5))
        first, last = middle - int(np.argmax(along[middle::-1] < 0.25)), middle + int(np.argmax(along[middle:] > 0.75))
        beyond = (last - first) // 2  # the line through the central half meets either picture there
        places = np.clip([first - beyond + 1, (first + last + 1) // 2, last + beyond], 1, b.number - a.number)
        start, half, end = (self._numbered_frame(a.number + n) for n in places)
        self._spans.append(Span(span.score, span.kind, start, end, [half]))

    def _is_mixture(self, a: Frame, b: Frame) -> bool:
        """Whether the contrast sinks halfway, as it does where two pictures lie over each other."""
        places = np.array([a.number, (a.number + b.number) // 2, b.number]) % RING
        pictures = self._vectors[places].reshape(3, -1, 3)
        old, half, new = ((pictures - pictures.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2))
        return half < DIP * (old + new) / 2

    def _is_wipe(self, a: Frame, b: Frame) -> bool:
        """Whether halfway each block is in its place in either the old picture or the new one."""
        if b.number - a.number < WIPE_SCALE:
            return False
        half, live = self._numbered_frame((a.number + b.number) // 2).gray, self._live()
        (in_old, weights), (in_new, _) = (blocks_found(half[live], frame.gray[live], reach=NEARBY) for frame in (a, b))
        if not len(weights):
            return False
        weights /= weights.sum()
        only_old, only_new = weights[in_old > in_new + 0.3].sum(), weights[in_new > in_old + 0.3].sum()
        return min(only_old, only_new) > WIPED and weights @ np.maximum(in_old, in_new) > EITHER

    # Fades

    def _follow_fade(self, frame: Frame) -> None:
        if frame.contrast < FLAT:
            self._fade = self._fade or self._begin_fade(frame)
            self._fade.rising = []  # what shone up for less than RISE frames was no picture
        elif self._fade:
            self._fade.rising.append(frame)
            length = fade_length([f.contrast for f in self._fade.rising])
            if length is not None:
                self._end_fade(self._fade.rising[length])

    def _begin_fade(self, gone: Frame) -> Fade:
        last_cut = self._cuts[-1].index if self._cuts else 0
        falling = [frame for frame in reversed(self._ring) if last_cut <= frame.index < gone.index]
        length = fade_length([frame.contrast for frame in falling])
        if length is None:  # it sinks from the shot's first frame on; a handful of frames says nothing
            length = len(falling) - 1 if len(falling) > RISE else 0
        return Fade(falling[length] if falling else None, falling[length - 1] if falling and length else gone, gone)

    def _end_fade(self, end: Frame, film_ends: bool = False) -> None:
        """Settles the fade in progress; `end` is the first frame of full contrast, or where the film ends."""
        fade, self._fade = self._fade, None
        appears = fade.rising[0] if fade.rising else end
        brief = fade.old and not film_ends and end.seconds - fade.start.seconds < 2 * FLASH_SECONDS
        if brief and min(self._found(fade.old, end)) > STAYED:
            return  # a flash
        dark, cuts = appears.seconds - fade.gone.seconds, []
        if fade.old and dark >= (MIN_SHOT_SECONDS if film_ends and not fade.rising else MIN_DARK_SECONDS):
            cuts.append(fade.gone)
        if fade.rising and (fade.old or dark >= MIN_SHOT_SECONDS):
            cuts.append(appears)
        self._spans.append(Span(float("inf"), "fade", fade.start, end, cuts))

    # What is certain

    def _settle(self, until: float) -> list[FrameTimecode]:
        """Returns the cuts before the ring's frame `until` (a number): all that could overlap them is known."""
        if not self._cuts and not self._spans:
            return []
        waiting = [span for span in self._spans if span.end.number >= until]
        kept: list[Span] = []
        for span in sorted((s for s in self._spans if s.end.number < until), key=lambda s: -s.score):
            if span.kind == "fade":
                self._cuts = [cut for cut in self._cuts if not span.start.index < cut.index < span.end.index]
            elif any(span.start.index <= cut.index <= span.end.index for cut in self._cuts):
                continue  # a hard cut explains it better
            elif any(overlap(span, other) and other.score >= span.score for other in kept + waiting):
                continue
            kept.append(span)
        self._spans = [w for w in waiting if w.kind == "fade" or not any(overlap(w, span) for span in kept)]
        kept.sort(key=lambda span: span.start.index)
        self.transitions += [Transition(span.kind, span.start.time, span.end.time) for span in kept]
        certain = [cut for cut in self._cuts if cut.number < until] + [cut for span in kept for cut in span.cuts]
        self._cuts = [cut for cut in self._cuts if cut.number >= until]
        return [cut.time for cut in sorted(certain, key=lambda cut: cut.index)]
