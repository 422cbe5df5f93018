"""Whether a model can see: it is shown a test image of known content before the first clip of a run.

A text model behind a server, or a server that drops images, answers without complaint and makes up a caption for every clip.
"""

import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.captioning.answer_text import answer_text
from utils.captioning.chat import Engine, Request, Sampling
from utils.captioning.engine_choice import EngineChoice
from utils.captioning.frames import jpeg
from utils.captioning.refusals import refuses
from utils.cli import flag
from utils.errors import Failure, UsageError

QUESTION = "What shape is in the middle of this image, of which colour, and which colour is around it? Answer in one short sentence."
# The two colours as models name them. Who sees nothing may guess one, a red circle say; both is what is asked of an answer.
RED = re.compile(
    r"\b(?:red|reddish|crimson|scarlet|rote?[rsnm]?|rouge|roj[oa]|vermelh[oa]|ross[oa])\b|\bкрасн|[红紅赤빨붉]|レッド",
    re.IGNORECASE,
)
GREEN = re.compile(
    r"\b(?:green|greenish|lime|grüne?[rsnm]?|verte?|verde)\b|\bзел[ёе]н|[绿綠緑]|グリーン|초록|녹색", re.IGNORECASE
)


def red_disc(size: int = 336) -> np.ndarray:
    """A red disc on green: uint8 (size, size, 3), RGB."""
    y, x = np.ogrid[:size, :size]
    inside = (x - size / 2) ** 2 + (y - size / 2) ** 2 < (size / 4) ** 2
    return np.where(inside[..., None], (220, 20, 20), (20, 160, 40)).astype(np.uint8)


@dataclass(frozen=True)
class SightCheck:
    """a picture of known content is shown to the model before the first clip"""

    skip_sight_check: bool = flag(False, "do not; a model that cannot see then makes up what it says")

    def __call__(self, engine: Engine, choice: EngineChoice) -> None:
        """Raises: `UsageError` for a model that does not see."""
        if not self.skip_sight_check:
            check_sight(engine, choice.options.jpeg, choice.answers.max_new_tokens)


def check_sight(engine: Engine, as_jpeg: bool, max_new_tokens: int) -> None:
    """One request. `as_jpeg`: how the engine takes images; `max_new_tokens`: those of a caption, which a model that reasons may need.

    Raises: `UsageError` where the answer does not name what the picture shows, or none comes.
    """
    image: Any = jpeg(red_disc()) if as_jpeg else red_disc()
    engine.submit(Request("", 0, [image, QUESTION], Sampling(max_new_tokens)))
    while not (done := list(engine.finished())):
        time.sleep(0.005)
    ((_, answer),) = done
    if isinstance(answer, Failure):
        raise UsageError(f"asking it about a test image failed: {answer.message}")
    said = answer_text(answer.text)
    if refuses(said) or not (RED.search(said) and GREEN.search(said)):
        raise UsageError(
            f"it cannot see: shown a test image, a red disc on green, it answered {said[:120]!r}; use a vision-language model, and a server "
            "that passes images on to it, or skip this check with --skip_sight_check"
        )
