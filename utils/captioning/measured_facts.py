"""Measured facts about a clip in prompts, and captions that contradict them."""

import re
from collections.abc import Callable, Mapping

from utils.captioning.attributes import camera_speed


def camera_words(row: Mapping) -> str | None:
    """`camera_motion` with its speed, "fast pan left"."""
    camera = row.get("camera_motion")
    if not isinstance(camera, str) or not camera:
        return None
    return " ".join(filter(None, [camera_speed(row), camera]))


def duration_words(row: Mapping) -> str | None:
    seconds = row.get("duration")
    return f"{seconds:.1f}" if isinstance(seconds, (int, float)) and seconds == seconds else None


FACTS: dict[str, Callable[[Mapping], str | None]] = {
    "{camera_motion}": camera_words,
    "{duration}": duration_words,
}


def with_facts(prompt: str, row: Mapping) -> str:
    """The prompt of a row: {camera_motion} and {duration} as measured. A line with one that the row lacks is left out."""
    if not any(fact in prompt for fact in FACTS):
        return prompt
    lines = []
    for line in prompt.split("\n"):
        words = {fact: read(row) for fact, read in FACTS.items() if fact in line}
        if None in words.values():
            continue
        for fact, word in words.items():
            line = line.replace(fact, str(word))
        lines.append(line)
    return "\n".join(lines)


STATIC = re.compile(
    r"\b(?:static|stationary|fixed|locked[- ](?:off|down)|motionless|unmoving) (?:camera|shot|frame|view|viewpoint|angle|position|perspective)\b"
    r"|\bcamera (?:is|remains|stays|holds|seems|appears)(?: (?:completely|mostly|entirely|to be|perfectly))? (?:static|stationary|fixed|still|motionless|unmoving)\b"
    r"|\bcamera (?:does not|doesn['’]t|never) moves?\b|固定镜头|镜头(?:保持)?(?:静止|固定)|静止镜头",
    re.IGNORECASE,
)
# A move as captions say it, and the opposite that was measured. "pans" alone says nothing of a direction.
MOVES = {
    "pan left": r"\bcamera (?:\w+ )?(?:pans?|panning|moves?|swings?|tracks?) (?:\w+ )?(?:to the |towards? the )?left\b|\bpan(?:ning)? (?:shot )?(?:to the )?left\b|镜头向左",
    "pan right": r"\bcamera (?:\w+ )?(?:pans?|panning|moves?|swings?|tracks?) (?:\w+ )?(?:to the |towards? the )?right\b|\bpan(?:ning)? (?:shot )?(?:to the )?right\b|镜头向右",
    "tilt up": r"\bcamera (?:\w+ )?(?:tilts?|tilting) (?:\w+ )?up(?:wards?)?\b|镜头向上",
    "tilt down": r"\bcamera (?:\w+ )?(?:tilts?|tilting) (?:\w+ )?down(?:wards?)?\b|镜头向下",
    "zoom in": r"\bcamera (?:\w+ )?(?:zooms?|zooming|pushes|moves) in\b|\bzoom(?:s|ing)?[- ]in\b|镜头(?:推近|拉近)",
    "zoom out": r"\bcamera (?:\w+ )?(?:zooms?|zooming|pulls|moves) (?:out|back)\b|\bzoom(?:s|ing)?[- ]out\b|镜头拉远",
}
OPPOSITES = {"left": "right", "right": "left", "up": "down", "down": "up", "in": "out", "out": "in"}


def contradiction(caption: str, attributes: Mapping) -> str:
    """What a caption says of the camera that its measured motion contradicts, "says static, measured fast pan left"; "" for none.

    A camera that was measured to move is contradicted by a static one unless it moves slowly; a direction by its opposite alone, and by a
    static camera.
    """
    measured = attributes.get("camera_motion")
    if not isinstance(measured, str) or not measured:
        return ""
    told = f"measured {camera_words(attributes)}"
    moves = measured.split(" and ")
    if measured not in ("static", "handheld") and camera_speed(attributes) != "slow" and STATIC.search(caption):
        return f"says static, {told}"
    for move, pattern in MOVES.items():
        kind, direction = move.split(" ")
        opposite = f"{kind} {OPPOSITES[direction]}"
        is_against = (opposite in moves and move not in moves) or measured == "static"
        if is_against and re.search(pattern, caption, re.IGNORECASE):
            return f"says {move}, {told}"
    return ""
