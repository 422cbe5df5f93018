"""Sentences from measured columns, word for word."""

import cv2
import numpy as np
import pytest
from skimage import data

from utils.captioning.attributes import describe, main_colours


@pytest.mark.parametrize(
    "columns, sentence",
    [
        ({}, ""),
        ({"aesthetic_score": 5.0}, ""),
        ({"camera_motion": "static"}, "A static camera shows a scene."),
        ({"camera_motion": "pan left"}, "The camera pans left across a scene."),
        ({"camera_motion": "tilt up and zoom in"}, "The camera tilts up and zooms in on a scene."),
        ({"camera_motion": "roll clockwise"}, "The camera rolls clockwise over a scene."),
        ({"camera_motion": "pan left", "camera_pan": -3.0}, "The camera slowly pans left across a scene."),
        ({"camera_motion": "pan left", "camera_pan": -10.0}, "The camera pans left across a scene."),
        (
            {"camera_motion": "zoom in", "camera_zoom": 50.0, "camera_pan": 1.0},
            "The camera quickly zooms in on a scene.",
        ),
        ({"camera_motion": "static", "camera_pan": 0.4}, "A static camera shows a scene."),
        ({"motion_score": 0.2}, "A scene with almost no motion."),
        ({"brightness": 0.5}, "A moderately bright scene."),
        ({"text_score": 0.0}, ""),
        ({"brightness": 0.1, "text_score": 0.0}, "A dark scene."),
        ({"camera_motion": "handheld", "main_colours": []}, "A shaky handheld camera shows a scene."),
        (
            {"camera_motion": "static", "motion_score": 20.0, "brightness": 0.7, "main_colours": ["white"]},
            "A static camera shows a bright, mostly white scene with strong motion.",
        ),
        (
            {
                "camera_motion": "pan right",
                "motion_score": 3.0,
                "brightness": 0.3,
                "main_colours": ["green", "brown"],
                "text_score": 0.05,
            },
            "The camera pans right across a dim, mostly green and brown scene with slight motion and text on screen.",
        ),
        (
            {"camera_motion": None, "motion_score": float("nan"), "text_score": 0.01},
            "A scene with a little text on screen.",
        ),
    ],
)
def test_sentence(columns, sentence):
    assert describe(columns) == sentence


@pytest.mark.parametrize(
    "rgb, name",
    [
        ((5, 5, 5), "black"),
        ((128, 128, 128), "gray"),
        ((245, 245, 245), "white"),
        ((200, 30, 30), "red"),
        ((240, 140, 20), "orange"),
        ((110, 70, 40), "brown"),
        ((240, 220, 40), "yellow"),
        ((40, 130, 50), "green"),
        ((40, 90, 200), "blue"),
        ((60, 200, 210), "cyan"),
        ((120, 50, 170), "purple"),
        ((250, 150, 190), "pink"),
    ],
)
def test_plain_colours_have_their_names(rgb, name):
    assert main_colours([np.full((90, 160, 3), rgb, np.uint8)]) == [name]


def test_photographs():
    assert main_colours([data.rocket()])[0] in ("blue", "black", "gray")
    assert "brown" in main_colours([data.coffee()])
    halves = np.zeros((100, 100, 3), np.uint8)
    halves[:60] = (40, 90, 200)
    halves[60:] = (40, 130, 50)
    assert main_colours([halves, cv2.flip(halves, 0)]) == ["blue", "green"]
