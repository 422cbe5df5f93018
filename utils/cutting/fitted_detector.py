"""Hard cuts, dissolves, wipes and fades: candidates come from measures between frames and from TransNetV2's
scores of all frames; a small fitted model (`cut_judge.py`) decides which of them are transitions.

    detector = FittedDetector(lambda: TransNetV2(fast=True))  # used like TransitionDetector

Fades need no model: they are those of `TransitionDetector`. docs/cuts.md tells where the numbers come from.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scenedetect import FrameTimecode

from utils.cutting.cut_judge import probability
from utils.cutting.evidence import FLASH_SECONDS, cut_evidence, span_evidence
from utils.cutting.frame_ring import NO_PIXELS, RING, Frame, Span, overlap
from utils.cutting.network_input import HEIGHT, WIDTH
from utils.cutting.score_stream import ScoreStream
from utils.cutting.transition_detector import FLAT, MIN_CHANGE, PEAK, RING_SECONDS, Transition, TransitionDetector

if TYPE_CHECKING:
    from utils.cutting.transnetv2 import TransNetV2

STREAM = 200  # frames of the network's windows: twice what it was trained on, whose scores are the same but for 0.03
BEHIND, AHEAD = 24, 13  # frames before and after the one that is looked at which its evidence may need

REPEATED = 0.3  # levels: a smaller change is that of a frame repeated
SEEN, LASTING = 0.1, 3  # the network's score of a candidate, and how many frames in a row make a gradual one
CERTAIN = {"cut": 0.37, "span": 0.5}  # probability from which it is one
MARKED = 0.1  # in either column: the frame belongs to the transition beside it
TOGETHER = 2  # frames: cuts this near are one
SHORT = 3  # frames: no gradual transition
RUSH, LONGEST_RUSH = 0.35, 9  # share of a cut's change, and frames to each side, of a zoom or whip pan into it
RUSHED = 1e9  # score of a span around a cut: the cut is certain


class FittedDetector(TransitionDetector):
    """`network` gives the network; it is called with the first frame. Cuts are returned up to some seconds late."""

    def __init__(self, network: Callable[[], "TransNetV2"]) -> None:
        super().__init__()
        self.network = network
        self._stream: ScoreStream | None = None
        self._scored = 0  # frames whose scores are known
        self._next = 0  # index of the frame that is looked at next
        self._last_probability = 1.0  # of the last hard cut
        self._run: list[Frame] = []  # frames that the network marks, up to now

    @property
    def event_buffer_length(self) -> int:
        return 2 * RING + 2 * STREAM

    def process_frame(self, timecode: FrameTimecode, frame_img: np.ndarray) -> list[FrameTimecode]:
        frame = self._scale_down(timecode, frame_img)
        frame.live = self._live()
        self._stream = self._stream or ScoreStream(self.network(), STREAM)
        small = cv2.resize(frame_img, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)[..., ::-1]
        self._take(self._stream.add(small))
        while self._next < self._scored - AHEAD and frame.seconds - self.frame(self._next).seconds > 2 * FLASH_SECONDS:
            self._look(self.frame(self._next))
        return self._settle(self._ring.count - RING)

    def post_process(self, timecode: FrameTimecode) -> list[FrameTimecode]:
        if not self._frames or self._stream is None:
            return []
        self._take(self._stream.end())
        last = self._frames[-1]
        while self._next <= last.index:
            self._look(self.frame(self._next))
        if self._fade:
            self._end_fade(self._fade, replace(last, index=last.index + 1, time=last.time + 1), film_ends=True)
        for scale in list(self._best):
            self._look_at(self._best.pop(scale))
        self._end_run()
        return self._settle(float("inf"))

    def frame(self, index: int) -> Frame:
        """The frame of that index, or the nearest that is kept."""
        return self._frames[min(max(index - self._frames[0].index, 0), len(self._frames) - 1)]

    def _take(self, scores: np.ndarray) -> None:
        for score in scores:
            self.frame(self._scored).scores = score
            self._scored += 1

    def _look(self, frame: Frame) -> None:
        """Takes one frame more into account; those before and after it are there, and their scores."""
        self._judge_cut(frame)
        self._follow_fade(frame)
        frame.number = self._ring.count
        if not self._ring.count or frame.seconds - self._ring.frames[-1].seconds > RING_SECONDS:
            self._ring.add(frame)
            self._find_gradual()
        self._follow_network(frame)
        self._next += 1
        if (behind := frame.index - BEHIND - AHEAD) >= self._frames[0].index:
            self.frame(behind).image = NO_PIXELS
        while self._frames[0].index < frame.index - BEHIND and self._frames[0].number < self._ring.count - RING:
            self._frames.pop(0)

    # Hard cuts

    def _judge_cut(self, new: Frame) -> None:
        """Judges a frame that stands out from its neighbours, or before which the network sees a cut."""
        at = new.index
        near = [frame.change for i in (-2, -1, 1, 2) if (frame := self.frame(at + i)) is not new]
        seen = [float(self.frame(at + i).scores[0]) for i in range(-3, 2)]
        stands_out = new.change >= MIN_CHANGE and new.change >= PEAK * max(near, default=0.0)
        if at == 0 or not (stands_out or (new.change >= REPEATED and SEEN <= seen[2] == max(seen))):
            return
        if min(self.frame(at - 1).contrast, new.contrast) < FLAT:
            return  # black on one side is left to the fades, even where it comes at once
        evidence = cut_evidence(self.frame, new, self._frames[-1].index)
        if evidence is None:
            return
        sure = self._probability("cut", new, evidence)
        if sure < CERTAIN["cut"]:
            return
        if self._cuts and at - self._cuts[-1].index <= TOGETHER:
            if sure <= self._last_probability:
                return
            self._cuts.pop()
        self._cuts.append(new)
        start, end = self._rush(new)
        if end.index - start.index > SHORT:
            self._spans.append(Span(RUSHED, "gradual", start, end, [new]))
        self._last_cut, self._last_probability = at, sure

    def _rush(self, cut: Frame) -> tuple[Frame, Frame]:
        """The frames around a cut that change nearly as much as it does, of a zoom or whip pan from one shot into the next;
        the cut alone where that goes on for long, for then it is how the shot moves.
        """
        at, enough = cut.index, RUSH * cut.change
        first = next((i for i in range(at, at - LONGEST_RUSH, -1) if self.frame(i - 1).change < enough), at)
        stop = next((i for i in range(at + 1, at + LONGEST_RUSH) if self.frame(i).change < enough), at + 1)
        return self.frame(first), self.frame(stop)

    def _probability(self, kind: str, where: Frame | Span, evidence: dict[str, float]) -> float:
        return probability(kind, evidence)

    # Gradual transitions

    def _follow_network(self, frame: Frame) -> None:
        """Judges each run of frames that the network marks."""
        if frame.scores.max() >= SEEN:
            self._run.append(frame)
        elif self._run and frame.index > self._run[-1].index + TOGETHER:
            self._end_run()

    def _end_run(self) -> None:
        run, self._run = self._run, []
        if run and run[-1].index - run[0].index + 1 >= LASTING:
            self._look_at(Span(0.0, "gradual", run[0], self.frame(run[-1].index + 1)))

    def _look_at(self, span: Span) -> None:
        """Keeps a span whose ends show different shots, from the first to the last frame of the transition."""
        a, b = span.start, span.end
        if min(a.contrast, b.contrast) < FLAT or a.number < self._ring.frames[0].number or b.number >= self._ring.count:
            return
        if a.number == b.number or not (self._ring.is_mixture(a, b) or self._is_wipe(a, b)):
            return
        evidence = span_evidence(self.frame, self._ring, span)
        if evidence is None or self._probability("span", span, evidence) < CERTAIN["span"]:
            return
        middle = self.frame((a.index + b.index) // 2)
        start, half, end = (a, middle, b) if span.kind == "gradual" else self._ring.trimmed(a, b)
        self._spans.append(Span(span.score, span.kind, *self._widened(start, end), [half]))

    def _widened(self, start: Frame, end: Frame) -> tuple[Frame, Frame]:
        """A span, and the frames beside it that the network marks as in a transition."""
        first, stop = start.index, end.index
        while first > self._frames[0].index and self.frame(first - 1).scores.max() >= MARKED:
            first -= 1
        while stop < self._next and self.frame(stop).scores.max() >= MARKED:
            stop += 1
        return self.frame(first), self.frame(stop)

    # What is certain

    def _settle(self, until: float) -> list[FrameTimecode]:
        """Returns the cuts before the ring's frame `until` (a number): all that could overlap them is known."""
        if not self._cuts and not self._spans:
            return []
        waiting = [span for span in self._spans if span.end.number >= until]
        kept: list[Span] = []
        for span in sorted((s for s in self._spans if s.end.number < until), key=lambda s: -s.score):
            inside = [cut for cut in self._cuts if span.start.index <= cut.index <= span.end.index]
            if span.kind == "fade":
                inside = [cut for cut in inside if span.start.index < cut.index < span.end.index]
            elif any(overlap(span, other) and other.score >= span.score for other in kept + waiting):
                continue
            elif len(inside) > 1 or (inside and span.end.index - span.start.index <= SHORT):
                continue  # hard cuts explain it better
            elif inside:  # the middle of a zoom or whip pan from one shot into the next
                span.cuts = inside
            self._cuts = [cut for cut in self._cuts if not any(cut is i for i in inside)]
            kept.append(span)
        self._spans = [w for w in waiting if w.kind == "fade" or not any(overlap(w, span) for span in kept)]
        kept.sort(key=lambda span: span.start.index)
        self.transitions += [Transition(span.kind, span.start.time, span.end.time) for span in kept]
        until = min([until, *(span.start.number for span in self._spans)])
        certain = [cut for cut in self._cuts if cut.number < until] + [cut for span in kept for cut in span.cuts]
        self._cuts = [cut for cut in self._cuts if cut.number >= until]
        return [cut.time for cut in sorted(certain, key=lambda cut: cut.index)]
