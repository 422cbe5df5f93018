"""One English sentence about a clip from measured columns: no model, and nothing that was not measured."""

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

COLOURS = 24  # a frame is reduced to 24 x 24 pixels, enough to name two colours
MOTION_WORDS = ((1, "almost no motion"), (5, "slight motion"), (15, "moderate motion"), (40, "strong motion"))
BRIGHTNESS_WORDS = ((0.06, "nearly black"), (0.2, "dark"), (0.35, "dim"), (0.6, "moderately bright"), (0.85, "bright"))
TEXT_WORDS = ((0.002, None), (0.02, "a little text on screen"), (0.08, "text on screen"))
CAMERA_WORDS = {"static": "A static camera shows", "handheld": "A shaky handheld camera shows"}
SPEEDS = ((6, "slow"), (18, "medium"))  # % of the short side per second, up to which; beyond, "fast"
ADVERBS = {"slow": " slowly", "medium": "", "fast": " quickly"}
PREPOSITIONS = {"pan": "across", "tilt": "across", "roll": "over", "zoom in": "on", "zoom out": "from"}
HUES = ((14, "red"), (40, "orange"), (70, "yellow"), (165, "green"), (195, "cyan"), (260, "blue"), (290, "purple"))


PLACEHOLDER = "made of measurements; do not train on them"  # what captions of `describe` are


def is_placeholder(row: Mapping) -> bool:
    """Whether a row's caption is such a sentence, which holds the place of one that somebody, or a model, would write."""
    return row.get("summary_model", row.get("image_caption_model")) == "attributes"


def describe(columns: Mapping) -> str:
    """A sentence about the columns; missing, None and NaN ones are left out, and without any the sentence is "".

    Used are `camera_motion` (a name from `optical_flow.camera_name`) with the speeds `camera_pan`, `camera_tilt`, `camera_zoom`, `camera_roll`, `motion_score` (% of the short side per second),
    `brightness` (mean luma, 0–1), `main_colours` (a list from `main_colours`), `text_score` (share of the frame, 0–1).

    >>> describe({"camera_motion": "pan left", "motion_score": 12.0, "main_colours": ["green", "brown"]})
    'The camera pans left across a mostly green and brown scene with moderate motion.'
    """
    known = {name: value for name, value in columns.items() if value is not None and value == value}
    traits = [
        _word(known.get("brightness"), BRIGHTNESS_WORDS, "very bright"),
        "mostly " + " and ".join(known["main_colours"]) if known.get("main_colours") else None,
    ]
    contents = [
        _word(known.get("motion_score"), MOTION_WORDS, "very strong motion"),
        _word(known.get("text_score"), TEXT_WORDS, "much text on screen"),
    ]
    look, content = ", ".join(filter(None, traits)), " and ".join(filter(None, contents))
    camera = _camera(known["camera_motion"], camera_speed(known)) if known.get("camera_motion") else None
    if not (look or content or camera):
        return ""
    scene = " ".join(filter(None, [camera, "a", look, "scene", content and f"with {content}"]))
    return scene[0].upper() + scene[1:] + "."


def _word(value: float | None, steps: Sequence[tuple[float, str | None]], beyond: str) -> str | None:
    """The word of the first step above `value`."""
    return None if value is None else next((word for end, word in steps if value < end), beyond)


def camera_speed(columns: Mapping) -> str | None:
    """slow, medium or fast, by the strongest of the camera's moves; None for a camera that makes none, or whose speed was not measured.

    Zoom and roll count by how far they move the average pixel, as in `optical_flow.camera_name`; a camera that goes to and fro by its path.
    """
    per_unit = {
        "camera_pan": 1.0,
        "camera_pan_path": 1.0,
        "camera_tilt_path": 1.0,
        "camera_tilt": 1.0,
        "camera_zoom": 0.5,
        "camera_roll": 50 * math.radians(1),
    }
    strengths = [
        abs(columns[name]) * each for name, each in per_unit.items() if isinstance(columns.get(name), (int, float))
    ]
    if not strengths or columns.get("camera_motion") in (None, "", *CAMERA_WORDS):
        return None
    return _word(max(strengths), SPEEDS, "fast")


def _camera(name: str, speed: str | None) -> str:
    """ "pan left and zoom in", slow, as "the camera slowly pans left and zooms in on"."""
    if name in CAMERA_WORDS:
        return CAMERA_WORDS[name]
    moves = name.split(" and ")
    verbs = " and ".join(move.replace(" ", "s ", 1) for move in moves)
    preposition = PREPOSITIONS.get(moves[-1]) or PREPOSITIONS[moves[-1].split()[0]]
    return f"the camera{ADVERBS[speed or 'medium']} {verbs} {preposition}"


def main_colours(frames: Sequence[np.ndarray], max_colours: int = 2) -> list[str]:
    """Names of the colours that cover 20 % or more of uint8 RGB frames (H, W, 3), the largest first.

    Names: black, gray, white, red, orange, brown, yellow, green, cyan, blue, purple, pink.
    """
    small = [cv2.resize(frame, (COLOURS, COLOURS), interpolation=cv2.INTER_AREA) for frame in frames]
    hsv = cv2.cvtColor(np.concatenate(small).astype(np.float32) / 255, cv2.COLOR_RGB2HSV).reshape(-1, 3)
    names, counts = np.unique([colour_name(*pixel) for pixel in hsv], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [str(names[i]) for i in order[:max_colours] if counts[i] >= 0.2 * len(hsv)]


def colour_name(hue: float, saturation: float, value: float) -> str:
    """hue: degrees [0, 360); saturation and value: 0–1."""
    if value < 0.16:
        return "black"
    if saturation < 0.16 or saturation * value < 0.08:
        return "white" if value > 0.82 else "gray"
    name = next((name for end, name in HUES if hue < end), "pink" if hue < 340 else "red")
    if name in ("red", "pink") and saturation < 0.5 and value > 0.75:
        return "pink"
    dark = (
        value < 0.72
        if name in ("orange", "yellow") and hue < 50
        else name == "red" and value < 0.45 and saturation < 0.8
    )
    return "brown" if dark else name
