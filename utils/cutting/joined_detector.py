"""Both detectors combined: ours processes every frame, TransNetV2 only those where its score can change the decision.

    detector = JoinedDetector(lambda: TransNetV2(fast=True))  # used like TransitionDetector

The two fail in different places. Ours takes fast motion for a dissolve now and then, and misses cuts to a closer view
and dissolves in motion; the network takes flashes and lights for cuts, and misses jump cuts, wipes, changes of slides
and long dissolves. So each answers what it is good at:

- A frame that stands out from its neighbours is judged by `TransitionDetector`; NEEDED says which score of the network
  makes it a cut, by that verdict: a jump cut none, a cut next to none, a flash nearly certainty.
- A dissolve needs a low score, a fade and a wipe none.
- Where the network alone sees a transition, the frame before it must not be found in the one after it, or soon after.

It is asked about the frames around cuts that are not obvious, around frames that stand out and are no cut, and around
spans whose ends show different pictures: 2 to 10 % of the frames of a film of one shot, half of a film of many.
docs/cuts.md tells where the numbers come from.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from scenedetect import FrameTimecode

from utils.cutting.block_matching import found_share
from utils.cutting.network_input import CONTEXT, HEIGHT, WIDTH, WINDOW
from utils.cutting.transition_detector import (
    FLASH_SECONDS,
    FLAT,
    GONE,
    HALF_GONE,
    NEARBY,
    RING,
    STAYED,
    Frame,
    Span,
    TransitionDetector,
)

if TYPE_CHECKING:
    from utils.cutting.transnetv2 import TransNetV2

NEEDED = {  # the score that makes a cut of a frame that stands out, by our verdict on it
    "cut": 0.02,  # the network only vetoes
    "jump": 0.0,  # it does not see jump cuts
    "motion": 0.5,
    "flat": 0.5,
    "camera": 0.7,  # a jerk of the camera or lost frames, or a cut to a closer view
    "within": 0.75,  # a picture in the picture, or a title
    "flash": 0.85,
    "same": 2.0,  # another light: never
}
BOTH = slice(2)  # columns of the network's scores
MARKED = 0.3  # in either column: the frame belongs to the transition beside it
STILL = 20.0  # a cut whose change is so many times that of the frames beside it needs no second opinion
SHARP = 4.0  # the same, from which the network need not see more than the cut
ISOLATED, ISOLATED_CHANGE = 2.0, 4.0  # the same, and levels, from which motion is worth a question
DISSOLVE = 0.1  # a dissolve needs this score in either column
ALONE = 0.2  # a gradual transition that only the network sees needs this score; it lasts where either column has half
SHORT = 3  # frames: what the network marks for less is a hard cut, and needs the score of "motion"
RUSH, LONGEST_RUSH = 0.25, 9  # share of a cut's change, and frames to each side, of a zoom or whip pan into it
UNLIKE = 0.5  # squared distance of two frames over the sum of their contrasts squared: about 1 for unrelated pictures
LONGEST = 200  # frames in a window: twice what the network was trained on, whose scores are the same but for 0.03
BESIDE = 6  # frames beside a question that are scored with it
BRIEF = 12  # frames before and after that are shown with a cut to be confirmed, where other questions take CONTEXT


def stretched(window: np.ndarray) -> np.ndarray:
    """The window's frames with the contrast of ordinary footage, where theirs is less than half of it; the network
    sees little in dark and grey films.
    """
    low, high = np.percentile(window, (2, 98))
    if high - low > 128:
        return window
    return np.clip((window - low) * min(6.0, 230 / max(high - low, 1)) + 10, 0, 255).astype(np.uint8)


class Question(NamedTuple):
    """Frames first to last, by index, and how many before and after the network is to be shown."""

    first: int
    last: int
    context: int


class Peak(NamedTuple):
    """A frame that stands out from its neighbours, and why it is a cut or none: a key of NEEDED."""

    frame: Frame
    verdict: str
    standing_out: float

    def is_obvious(self) -> bool:
        return self.verdict == "cut" and self.standing_out >= STILL


class JoinedDetector(TransitionDetector):
    """TransitionDetector, whose doubts TransNetV2 decides. Cuts are returned as late as there. `network` gives the
    network, and is called once there is something to ask: many films need none.
    """

    def __init__(self, network: Callable[[], "TransNetV2"]):
        super().__init__()
        self.network = network
        self.frames_asked = 0  # frames in all windows that the network has seen
        self._kept: deque[Frame] = deque()  # frames of which the network may still be asked
        self._questions: list[Question] = []
        self._scores: dict[int, np.ndarray] = {}  # of frames that were asked about
        self._peaks: deque[Peak] = deque()  # not yet decided
        self._decided: deque[tuple[Peak, bool]] = deque(maxlen=64)  # and whether they are cuts
        self._next = 0  # index of the first frame of which it is not known whether the network alone sees something
        self._run: list[int] = []  # indices of the frames before it that the network marks

    def _scale_down(self, time: FrameTimecode, image: np.ndarray) -> Frame:
        frame = super()._scale_down(time, image)
        self._kept.append(frame)
        return frame

    # Doubts

    def _on_peak(self, frame: Frame, verdict: str, standing_out: float) -> None:
        peak = Peak(frame, verdict, standing_out)
        self._peaks.append(peak)
        if verdict == "cut" and not peak.is_obvious():
            if standing_out >= SHARP:
                self._ask_about(frame.index - 2, frame.index, BRIEF)
            else:  # perhaps the middle of a zoom or whip pan from one shot into the next, which is to be seen whole
                self._ask_about(frame.index - 2 * BESIDE, frame.index + 2 * BESIDE)
        elif verdict == "camera" or (
            verdict == "motion" and standing_out >= ISOLATED and frame.change >= ISOLATED_CHANGE
        ):
            self._ask_about(frame.index - BESIDE, frame.index + BESIDE)

    def _look_at(self, span: Span) -> None:
        known = len(self._spans)
        super()._look_at(span)
        if len(self._spans) > known:
            span = self._spans[-1]
            self._ask_about(span.start.index - BESIDE, span.end.index + BESIDE)
        elif self._unlike(span) and self._differ(span.start, span.end):
            middle = (span.start.index + span.end.index) // 2
            self._ask_about(middle - BESIDE, middle + BESIDE)

    def _unlike(self, span: Span) -> bool:
        """Whether the ends of a span are as far apart as unrelated pictures are, at least half of it (cheap)."""
        a, b = span.start, span.end
        return min(a.contrast, b.contrast) >= FLAT and self._ring.squared_distance(a, b) > (
            UNLIKE * (a.contrast**2 + b.contrast**2)
        )

    def _differ(self, a: Frame, b: Frame) -> bool:
        """Whether two frames show different pictures, by structure and colours."""
        lost = 1 - sum(self._found(a, b)) / 2
        return lost >= HALF_GONE and lost + self._colours_lost(a, b) >= GONE

    def _nearby(self, a: Frame, b: Frame) -> float:
        """Share of the texture of one frame that is almost in place in the other."""
        live = self._live()
        pair = a.gray[live], b.gray[live]
        return max(found_share(*pair, NEARBY), found_share(*pair[::-1], NEARBY))

    def _ask_about(self, first: int, last: int, context: int = CONTEXT) -> None:
        """Asks about these frames, less what is known; of the oldest it may be too late."""
        first = max(first, self._kept[0].index)
        while first <= last and first in self._scores:
            first += 1
        if first <= last:
            self._questions.append(Question(first, last, context))

    # Answers

    def _settle(self, until: float) -> list[FrameTimecode]:
        """As there, after the network was asked about all that is before the ring's frame `until`."""
        self._ask(until)
        self._decide_peaks(until)
        self._review_spans(until)
        self._follow_network(until)
        while self._kept[0].number < until - RING and self._kept[0].index < self._unsure() - WINDOW:
            self._scores.pop(self._kept.popleft().index, None)
        return super()._settle(until)

    def _unsure(self) -> int:
        """Index of the first frame that a question is about, or of the newest frame."""
        return min((question.first for question in self._questions), default=self._kept[-1].index)

    def _ask(self, until: float) -> None:
        """Asks about what must be known before the ring's frame `until`, and with it about what is near enough."""
        if not self._questions or self._frame(self._unsure()).number >= until:
            return
        oldest, newest = self._kept[0].index, self._kept[-1].index
        fades = [span for span in self._spans if span.kind == "fade"]
        self._questions = [
            q for q in self._questions if not any(f.start.index <= q.first and q.last <= f.end.index for f in fades)
        ]
        while self._questions and self._frame(self._unsure()).number < until:
            first = last = max(self._unsure(), oldest)
            limit, context = min(newest, first + LONGEST - 2 * CONTEXT), 0
            for question in sorted(self._questions):
                if question.first > limit or (context and question.first - last > context + question.context):
                    break  # a window of its own costs less than the frames between
                last, context = min(max(last, question.last), limit), max(context, question.context)
            shown = np.clip(np.arange(first - context, last + context + 1), oldest, newest) - oldest
            window = stretched(np.stack([self._small(int(i)) for i in shown]))
            scores = self.network().window_scores(window)[context:-context]
            self.frames_asked += len(window)
            self._scores.update(zip(range(first, last + 1), scores))
            self._questions = [
                q._replace(first=max(q.first, last + 1)) for q in self._questions if min(q.last, newest) > last
            ]

    def _small(self, place: int) -> np.ndarray:
        """What the network sees of a kept frame: uint8 (27, 48, 3), RGB."""
        return cv2.resize(self._kept[place].thumb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)[..., ::-1]

    def _score(self, first: int, last: int, columns: slice = slice(1)) -> float:
        """The highest score of frames first to last; 0 of frames that were not asked about. By default of cuts."""
        return max(
            (float(self._scores[i][columns].max()) for i in range(first, last + 1) if i in self._scores), default=0.0
        )

    def _review_spans(self, until: float) -> None:
        """Drops dissolves that the network does not see, and wipes after which the old picture is back; widens what is
        left to the frames that the network marks.
        """
        spans, self._spans = self._spans, []
        for span in spans:
            if span.kind in ("dissolve", "wipe") and span.end.number < until:
                score = self._score(span.start.index - 2, span.end.index + 1, BOTH)
                if score < DISSOLVE and (span.kind == "dissolve" or self._comes_back(span.start, span.end.index)):
                    continue
                span.start, span.end = self._widened(span.start, span.end)
            self._spans.append(span)

    def _widened(self, start: Frame, end: Frame) -> tuple[Frame, Frame]:
        """A span, and the frames beside it that the network marks as in a transition (its second score)."""
        first, stop = start.index, end.index
        while self._score(first - 1, first - 1, BOTH) >= MARKED:
            first -= 1
        while self._score(stop, stop, BOTH) >= MARKED:
            stop += 1
        return self._frame(first), self._frame(stop)

    def _comes_back(self, old: Frame, after: int) -> bool:
        """Whether frame `old` is seen again from frame `after` on, before long."""
        for index in range(after, self._kept[-1].index + 1):
            later = self._frame(index)
            if later.seconds - old.seconds > 2 * FLASH_SECONDS:
                return False
            if self._nearby(old, later) > STAYED:
                return True
        return False

    def _decide_peaks(self, until: float) -> None:
        while self._peaks and self._peaks[0].frame.number < until:
            peak = self._peaks.popleft()
            index = peak.frame.index
            is_cut = peak.is_obvious() or self._score(index - 2, index) >= NEEDED[peak.verdict]
            if is_cut:
                self._add_cut(peak.frame)
            self._decided.append((peak, is_cut))

    def _add_cut(self, frame: Frame) -> None:
        """Adds a cut, or the short transition in whose middle it is: a zoom or whip pan from one shot into the next."""
        start, end = self._widened(frame, frame)
        first, stop = self._rush(frame)
        start, end = self._frame(min(start.index, first)), self._frame(max(end.index, stop))
        if end.index - start.index > SHORT:
            self._spans.append(Span(1.0, "gradual", start, end, [frame]))
        else:
            self._cuts.append(frame)

    def _rush(self, frame: Frame) -> tuple[int, int]:
        """Frames [first, stop) around a cut that change nearly as much as it does; none where that goes on for long,
        for then it is how the shot moves.
        """
        index, enough = frame.index, RUSH * frame.change
        first = next((i for i in range(index, index - LONGEST_RUSH, -1) if self._frame(i - 1).change < enough), index)
        stop = next((i for i in range(index + 1, index + LONGEST_RUSH) if self._frame(i).change < enough), index + 1)
        return first, stop

    def _follow_network(self, until: float) -> None:
        """Looks at each run of frames that the network marks, once nothing before `until` can be added to it."""
        newest = self._kept[-1]
        while self._next < newest.index and self._frame(self._next + 2).number < until:
            if self._score(self._next, self._next, BOTH) >= ALONE / 2:
                self._run.append(self._next)
            elif self._run:
                self._find_alone(self._run[0], self._run[-1])
                self._run = []
            self._next += 1

    def _find_alone(self, first: int, last: int) -> None:
        """Adds what the network alone sees in frames first to last, unless the picture stays or comes back."""
        short = last - first + 1 < SHORT
        if self._score(first, last) < (NEEDED["motion"] if short else ALONE):
            return
        for peak, is_cut in self._decided:
            near = first - 2 <= peak.frame.index <= last + 4 if is_cut else first <= peak.frame.index <= last + 2
            if near and (is_cut or short or peak.standing_out > ISOLATED):
                return  # it has been decided
        start, end = self._frame(first), self._frame(last + 1)
        low, high = self._frame(first - 3).seconds, self._frame(last + 4).seconds
        known = [(span.start.seconds, span.end.seconds) for span in self._spans]
        known += [(span.start.seconds, span.end.seconds) for span in self.transitions[-3:]]  # already returned
        if any(begin <= high and low <= stop for begin, stop in known):
            return
        old, new = self._frame(first - 1), self._frame(last + 2)
        if not self._differ(old, new) or self._nearby(old, new) > HALF_GONE:
            return
        if self._comes_back(old, last + 3):
            return
        best = max(range(first, last + 1), key=lambda i: self._scores[i][0])
        if short:
            self._add_cut(self._frame(best + 1))
        else:
            middle = self._frame((first + last + 1) // 2)
            self._spans.append(Span(self._score(best, best), "gradual", start, end, [middle]))

    def _frame(self, index: int) -> Frame:
        return self._kept[min(max(index - self._kept[0].index, 0), len(self._kept) - 1)]
