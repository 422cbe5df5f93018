"""Probability that a candidate is a transition: logistic regression on the measures of `evidence.py`.

The numbers are in cut_judge.json, which `python -m tools.fit_cuts` makes.
"""

import json
from functools import lru_cache
from math import exp
from pathlib import Path

FITTED = Path(__file__).with_name("cut_judge.json")


def probability(kind: str, evidence: dict[str, float]) -> float:
    """0-1 of a candidate of a kind: "cut", or "span" for a gradual transition."""
    numbers = fitted()[kind]
    odds = numbers["bias"] + sum(weight * evidence[name] for name, weight in numbers["weights"].items())
    return 1 / (1 + exp(-min(max(odds, -50.0), 50.0)))


@lru_cache(maxsize=1)
def fitted() -> dict:
    """{kind: {"bias": number, "weights": {measure: number}}}."""
    return json.loads(FITTED.read_text())
