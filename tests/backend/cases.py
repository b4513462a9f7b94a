"""Small models and feeds that the tests of all backends share: those of the conformance suite."""

from __future__ import annotations

from dioe.testing.cases import Case, cases
from dioe.testing.models import (
    floats,
    int8_network,
    load,
    model,
    perceptron,
    relu,
    rng,
    small_network,
)

__all__ = [
    "Case",
    "cases",
    "floats",
    "int8_network",
    "load",
    "model",
    "perceptron",
    "relu",
    "rng",
    "small_network",
]
