"""What the conformance suite can't know: the refusals of this backend, word by word."""

from __future__ import annotations

import pytest

from dioe.testing.models import model
from dioe.types import Precision
from dioe_numpy.backend import NumpyBackend


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[2] x) => (float[2] y) { y = Erf(x) }", "there is no onnx::Erf"),
        ("g (int64[2] x) => (int64[2] y) { y = Add(x, x) }", "Add of int64"),
        ("g (float[2] x) => (int64[2] y) { y = Exp(x) }", "gives float32, the model says int64"),
    ],
)
def test_reasons(text: str, reason: str) -> None:
    made = model(text)
    (found,) = NumpyBackend().query(made, "cpu", Precision.FP32).refused.values()
    assert reason in found
