"""The films' truth is what their frames show, and the detectors are judged by it."""

import numpy as np
import pytest

from benchmarks.composed_cuts import DETECTORS, detect, judge
from benchmarks.composed_films import GRADUAL, HARD, KINDS, NO_CUT, Film, compose, sources
from utils.cutting.detectors import make_detector

NAMES = sources([], "all")


def test_halves_are_apart_and_fixed():
    assert set(sources([], "tune")).isdisjoint(sources([], "judge"))
    assert "astronaut" in sources([], "tune") and "chelsea" in sources([], "judge")


GATE = (
    "cut",
    "dissolve, 10-60 frames",
    "wipe",
    "flash",
)  # a cut, what takes time, and what is no cut: the others before a release


@pytest.mark.parametrize(
    "kind", [kind if kind in GATE else pytest.param(kind, marks=pytest.mark.release) for kind in KINDS]
)
def test_a_film_of_each_kind(kind):
    film = compose(kind, NAMES, 0)
    assert film.frames.shape[1:] == (144, 256, 3) and film.frames.dtype == np.uint8
    assert len(film.seconds) == len(film.frames) and (np.diff(film.seconds) > 0).all()
    assert bool(film.cuts) == (kind in HARD) and bool(film.spans) == (kind in GRADUAL)
    assert not (kind in NO_CUT and (film.cuts or film.spans))


def test_cuts_are_where_the_frames_change():
    film = compose("cut", NAMES, 0)
    change = np.abs(np.diff(film.frames.astype(int), axis=0)).mean((1, 2, 3))
    assert sorted(np.argsort(change)[-len(film.cuts) :] + 1) == film.cuts


def test_the_same_seed_gives_the_same_film():
    assert (compose("wipe", NAMES, 3).frames == compose("wipe", NAMES, 3).frames).all()


def test_judging():
    film = Film("", np.zeros((100, 1, 1, 3), np.uint8), np.arange(100) / 25, [20], [(50, 60)])
    assert judge(film, [21, 55, 80], [(50, 60)]).tolist() == [2, 0, 1, 0]
    assert judge(film, [23, 64], [(50, 55)]).tolist() == [0, 2, 2, 1]


@pytest.mark.parametrize("name", DETECTORS)
def test_each_detector_finds_plain_cuts(name):
    film = compose("cut", NAMES, 0)
    found, missed, false, _ = judge(film, *detect(make_detector(name, None, {}), film))
    assert (found, missed, false) == (len(film.cuts), 0, 0)
