"""Shot transitions without a trained network: hard cuts, dissolves, wipes and fades, by block matching between frames.

    detector = TransitionDetector()
    cuts = [cut for time, frame in frames for cut in detector.process_frame(time, frame)] + detector.post_process(time)
    detector.transitions  # [Transition("dissolve", start, end), ...], frames [start, end) that belong to no clean shot

It runs in PySceneDetect's SceneManager as well. It asks three questions, each of another stretch of time:

- hard cut: is the frame *not found again* in the next one, displaced or not, while frames just before and after are, by
  no camera move, and for longer than a flash lasts?
- dissolve, wipe: does the film travel on a *straight line* from one frame to another that is not found in the first?
- fade: does the contrast sink to nothing, or rise from it?

docs/cuts.md says how each constant was chosen and what is not found.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detector import SceneDetector

from utils.cutting.block_matching import (
    BLOCK,
    blocks_found,
    camera_moved,
    colours_lost,
    colours_replaced,
    found_share,
    share_in_place,
    unexplained,
)
from utils.cutting.frame_ring import NO_PIXELS, RING, Frame, FrameRing, Span, overlap

FRAME_WIDTH = 256  # pixels: what the detector is made for; 160-320 serve, scaled down by area to average noise away
THUMB_AREA = 64 * 36  # pixels of the frame that is compared: coarse, so that blur and noise hardly count

MIN_CHANGE = 1.5  # levels, mean over the thumb: less is no new shot (slides change by 5, sensor noise is below 0.5)
PEAK = 1.25  # a cut's change against the largest within two frames: motion lasts several frames, a cut one
LOST = 0.4  # share of structure plus share of colours lost at a cut beyond what the motion around it loses
NEARBY = 3  # thumb pixels of the 64: farther, smooth areas (sky, soft light) are found by chance
JUMP = 2.0  # a jump cut's change against the largest within 3 frames and 0.25 s
UNEXPLAINED, SURPRISE = (
    10.0,
    1.7,
)  # levels that no motion explains at a jump cut, and times those of the 3 frames beside it
REARRANGED = 0.32  # of what changes at a jump cut no larger share of the colours is new: the same things are elsewhere,
LITTLE = 0.3  # or no more of the detail than this is where it was
SAME = 0.95  # a frame of which so much is found in place, in whatever light, shows nothing else
IN_PLACE = 0.65  # more detail than this unchanged: something changed within the frame, a screen or a title
STAYED = 0.7  # found share at which a frame counts as the same shot after a flash
FLASH_SECONDS = 0.25  # what is back after this time was never left

RING_SECONDS = 0.024  # films above 40 frames a second are thinned for dissolves
WIPED = 0.15  # share of the halfway frame that is found in the old shot only, and in the new one only
EITHER = 0.7  # this share of the halfway frame is found, almost in place, in one of both
WIPE_SCALE = 6  # frames: shorter, and a fast pan looks the same
HALF_GONE = 0.5  # share of structure that a gradual transition loses from end to end, at least
GONE = 0.9  # the same plus the share of colours lost; motion, light and overlaid titles lose less

FLAT = 1.0  # levels, standard deviation: nothing to see; a small title on black has 5
RISE, RISING = 4, 1.03  # a fade's contrast grows by 3 % in 4 frames: 60 frames of linear fade do so up to the end
SUDDEN = 0.5  # a frame next to black with more than this share of the full contrast was cut, not faded
MIN_DARK_SECONDS = 0.1  # black shorter than this between two fades gives one cut, not two
MIN_SHOT_SECONDS = 0.3  # black at the very start or end of a film for less than this is no shot of its own
# Rows and columns that are always below both, levels and share of the frame's brightest, are bars.
BAR_LEVEL, BAR_SHARE = 24, 0.1


class Transition(NamedTuple):
    """Frames [start, end) that belong to no clean shot; `kind` is fade, dissolve or wipe."""

    kind: str
    start: FrameTimecode
    end: FrameTimecode


@dataclass
class Fade:
    """Black (or white, or any one tone) from `gone` on; the fade to it begins at `start`, after the frame `old`."""

    old: Frame | None
    start: Frame
    gone: Frame
    rising: list[Frame] = field(default_factory=list)  # the frames since the next shot appears


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
    wipe's cut is its middle; a fade gives one where the old shot has gone and one where the next appears, so that black
    is a shot of its own. `transitions` collects the gradual spans, which are to be kept out of clips.
    """

    def __init__(self) -> None:
        super().__init__()
        self.transitions: list[Transition] = []
        self._brightest: np.ndarray | None = None  # per pixel, slowly forgotten: what stayed dark is a bar
        self._frames: list[Frame] = []  # those around the frame that is tested for a hard cut
        self._tested = 0  # index of the last frame tested for a hard cut
        self._last_cut = 0  # index of the last hard cut
        self._cuts: list[Frame] = []  # not yet returned
        self._spans: list[Span] = []  # gradual transitions not yet returned
        self._ring = FrameRing()
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
        if not self._ring.count or frame.seconds - self._ring.frames[-1].seconds > RING_SECONDS:
            self._ring.add(frame)
            self._find_gradual()
        return self._settle(self._ring.count - RING)

    def post_process(self, timecode: FrameTimecode) -> list[FrameTimecode]:
        """Ends the film at frame `timecode`; returns the cuts that are left."""
        if not self._frames:
            return []
        last = self._frames[-1]
        if self._fade:
            self._end_fade(self._fade, replace(last, index=last.index + 1, time=last.time + 1), film_ends=True)
        self._find_hard_cuts(float("inf"))
        for scale in list(self._best):
            self._look_at(self._best.pop(scale))
        return self._settle(float("inf"))

    # One frame

    def _scale_down(self, time: FrameTimecode, image: np.ndarray) -> Frame:
        height, width = image.shape[:2]
        scale = (THUMB_AREA / (height * width)) ** 0.5
        thumb = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(thumb, cv2.COLOR_BGR2GRAY)
        forgotten = np.float32(gray) if self._brightest is None else self._brightest - np.float32(0.2)
        self._brightest = np.maximum(gray, forgotten)
        before = self._frames[-1] if self._frames else None
        change = cv2.norm(thumb, before.thumb, cv2.NORM_L1) / thumb.size if before else 0.0
        frame = Frame(
            before.index + 1 if before else 0, self._ring.count, time, time.seconds, image, thumb, gray, change
        )
        frame.contrast = float(cv2.meanStdDev(gray[self._live()])[1][0, 0])
        self._frames.append(frame)
        return frame

    def _live(self) -> tuple[slice, slice]:
        """The rows and columns of the thumb that are no bars."""
        whole = slice(None), slice(None)
        brightest = self._brightest
        if brightest is None:
            return whole
        level = min(BAR_LEVEL, BAR_SHARE * float(brightest.max()))  # a share, for a dark shot that fades in
        rows, columns = (np.flatnonzero(brightest.max(axis=axis) > level) for axis in (1, 0))
        if not len(rows) or not len(columns):
            return whole
        high, wide = (  # a pixel less where there is a bar: half of it may be the bar's
            slice(lit[0] + (lit[0] > 0), lit[-1] + (lit[-1] == size - 1))
            for lit, size in zip((rows, columns), brightest.shape, strict=True)
        )
        return (high, wide) if min(side.stop - side.start for side in (high, wide)) > BLOCK else whole

    def _found(self, a: Frame, b: Frame) -> tuple[float, float]:
        """Share of the texture of `a` found in `b`, and of `b` in `a`."""
        live = self._live()
        return found_share(a.gray[live], b.gray[live]), found_share(b.gray[live], a.gray[live])

    def _colours_lost(self, a: Frame, b: Frame) -> float:
        live = self._live()
        return colours_lost(a.thumb[live], b.thumb[live])

    # Hard cuts

    def _find_hard_cuts(self, until_seconds: float) -> None:
        """Judges each frame up to `until_seconds` that stands out from its neighbours; keeps what the next may need."""
        frames = self._frames
        while (at := self._tested + 1 - frames[0].index) < len(frames) and frames[at].seconds <= until_seconds:
            self._tested += 1
            around = [frame.change for frame in frames[max(1, at - 2) : at] + frames[at + 1 : at + 3]]
            standing_out = frames[at].change / max([*around, 1e-3])
            if frames[at].change >= MIN_CHANGE and standing_out >= PEAK:
                verdict = self._judge(at)
                if verdict == "cut":
                    self._last_cut = frames[at].index
                self._on_peak(frames[at], verdict, standing_out)
        while len(frames) > 8 and frames[4].index < self._tested and frames[4].seconds < until_seconds - FLASH_SECONDS:
            frames.pop(0).image = NO_PIXELS  # the ring may hold the frame longer, but not its pixels

    def _on_peak(self, frame: Frame, verdict: str, standing_out: float) -> None:
        """Takes the verdict on a frame whose change is `standing_out` times that of the frames beside it."""
        if verdict in ("cut", "jump"):
            self._cuts.append(frame)

    def _judge(self, at: int) -> str:
        """ "cut", or why no shot begins at frame `at`, although it stands out."""
        old, new = self._frames[at - 1], self._frames[at]
        live = self._live()
        if min(old.contrast, new.contrast) < FLAT:
            return "flat"  # black on one side is left to the fades, even where it comes at once
        nearby = max(found_share(a.gray[live], b.gray[live], NEARBY) for a, b in ((old, new), (new, old)))
        lost = 0.0 if nearby > 1 - LOST / 2 else self._lost_beyond_motion(at)
        if lost < LOST and not self._is_jump(at):
            return "same" if nearby > SAME else "flash" if self._is_flash(at) else "motion"
        if self._is_flash(at):
            return "flash"
        if lost < LOST:
            return "jump"
        if share_in_place(old.gray[live], new.gray[live]) >= IN_PLACE:
            return "within"
        return "camera" if camera_moved(old.image, new.image) else "cut"

    def _is_jump(self, at: int) -> bool:
        """Whether time is skipped within one scene: things are elsewhere at once, where no motion takes them."""
        frames, old, new = self._frames, self._frames[at - 1], self._frames[at]
        beside = [i for i in range(at - 3, at + 4) if 1 <= i < len(frames) and i != at]
        around = [f.change for f in frames[1:at] + frames[at + 1 :] if abs(f.seconds - new.seconds) <= FLASH_SECONDS]
        if new.change < JUMP * max([*around, *(frames[i].change for i in beside)], default=0):
            return False
        in_place = share_in_place(old.gray[self._live()], new.gray[self._live()])
        if in_place > LITTLE and colours_replaced(old.image, new.image) > REARRANGED:
            return False  # something appears within the frame
        left = unexplained(old.image, new.image)
        return left >= UNEXPLAINED and all(
            left >= SURPRISE * unexplained(frames[i - 1].image, frames[i].image) for i in beside
        )

    def _is_flash(self, at: int) -> bool:
        """Whether the old shot comes back, or the new one was there just before."""
        frames, old, new = self._frames, self._frames[at - 1], self._frames[at]
        for a, b in [(old, later) for later in frames[at + 1 :]] + [(earlier, new) for earlier in frames[: at - 1]]:
            apart = cv2.norm(a.thumb, b.thumb, cv2.NORM_L1) / a.thumb.size
            if b.seconds - a.seconds <= FLASH_SECONDS and apart <= new.change / 2 and max(self._found(a, b)) > STAYED:
                return True
        return False

    def _lost_beyond_motion(self, at: int) -> float:
        """Structure and colours lost into frame `at`, less what the motion just before or after loses in one frame."""
        old, new = self._frames[at - 1], self._frames[at]
        lost = 1 - max(self._found(old, new)) + self._colours_lost(old, new)
        return lost - max(self._lost_nearby(range(at - 1, at - 4, -1)), self._lost_nearby(range(at + 1, at + 4)))

    def _lost_nearby(self, candidates: range) -> float:
        """Structure and colours lost by motion alone, between the nearest two frames that are not the same one repeated."""
        for i in candidates:
            if 1 <= i < len(self._frames) and self._frames[i].change > 0.5:
                a, b = self._frames[i - 1], self._frames[i]
                return 1 - max(self._found(a, b)) + self._colours_lost(a, b)
        return 0.0

    # Dissolves and wipes

    def _find_gradual(self) -> None:
        """Keeps the best span of each scale; looks at it when no better one can come."""
        for scale, span in self._ring.straight_spans():
            if scale not in self._best or self._best[scale].score < span.score:
                self._best[scale] = span
        for scale, span in list(self._best.items()):
            if self._ring.count - 1 - span.end.number > scale // 4 + scale // 3 + 1:
                self._look_at(self._best.pop(scale))

    def _look_at(self, span: Span) -> None:
        """Keeps a span whose ends show different shots, trimmed to where the mixture begins and ends."""
        a, b = span.start, span.end
        passed = self._ring.is_mixture(a, b) if span.kind == "dissolve" else self._is_wipe(a, b)
        if not passed or min(a.contrast, b.contrast) < FLAT:
            return
        lost = 1 - sum(self._found(a, b)) / 2
        if lost < HALF_GONE or lost + self._colours_lost(a, b) < GONE:
            return
        start, half, end = self._ring.trimmed(a, b)
        self._spans.append(Span(span.score, span.kind, start, end, [half]))

    def _is_wipe(self, a: Frame, b: Frame) -> bool:
        """Whether halfway each block is where it is in either the old shot or the new one."""
        if b.number - a.number < WIPE_SCALE:
            return False
        half, live = self._ring[(a.number + b.number) // 2].gray, self._live()
        (in_old, weights), (in_new, _) = (blocks_found(half[live], frame.gray[live], reach=NEARBY) for frame in (a, b))
        if not len(weights):
            return False
        weights /= weights.sum()
        only_old, only_new = weights[in_old > in_new + 0.3].sum(), weights[in_new > in_old + 0.3].sum()
        return bool(min(only_old, only_new) > WIPED and weights @ np.maximum(in_old, in_new) > EITHER)

    # Fades

    def _follow_fade(self, frame: Frame) -> None:
        if frame.contrast < FLAT:
            self._fade = self._fade or self._begin_fade(frame)
            self._fade.rising = []  # what lit up for less than RISE frames was no shot
        elif self._fade:
            self._fade.rising.append(frame)
            length = fade_length([f.contrast for f in self._fade.rising])
            if length is not None:
                self._end_fade(self._fade, self._fade.rising[length])

    def _begin_fade(self, gone: Frame) -> Fade:
        falling = [frame for frame in reversed(self._ring.frames) if self._last_cut <= frame.index < gone.index]
        length = fade_length([frame.contrast for frame in falling])
        if length is None:  # it sinks from the shot's first frame on; a few frames prove nothing
            length = len(falling) - 1 if len(falling) > RISE else 0
        return Fade(falling[length] if falling else None, falling[length - 1] if falling and length else gone, gone)

    def _end_fade(self, fade: Fade, end: Frame, film_ends: bool = False) -> None:
        """Settles the fade in progress; `end` is the first frame of full contrast, or where the film ends."""
        self._fade = None
        appears = fade.rising[0] if fade.rising else end
        brief = not film_ends and end.seconds - fade.start.seconds < 2 * FLASH_SECONDS
        if fade.old and brief and min(self._found(fade.old, end)) > STAYED:
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
