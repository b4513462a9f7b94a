"""Amounts as people read them."""

from __future__ import annotations

import numpy as np
import pytest

from dioe.types import TensorSpec
from dioe_inspect.inspection import Amount
from dioe_inspect.units import amount, bound, count, flop, milliseconds, size, tensor


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (1234, "1.23 k"), (10**9, "1 G"), (10**19, "10000 P")],
)
def test_count(value: int, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1012 << 20, "1012 MiB")]
)
def test_size(value: int, text: str) -> None:
    assert size(value) == text


def test_amount() -> None:
    assert amount(Amount(2000, 0)) == "2 k"
    assert amount(Amount(2000, 3)) == "≥ 2 k"
    assert amount(Amount(0, 3)) == "?"
    assert amount(Amount(2048, 1), in_bytes=True) == "≥ 2 KiB"
    assert (flop(Amount(5, 0)), flop(Amount(5000, 0))) == ("5 FLOP", "5 kFLOP")


@pytest.mark.parametrize(
    ("value", "text"), [(0.00512, "0.0051 ms"), (0.094, "0.094 ms"), (12.34, "12.3 ms")]
)
def test_milliseconds(value: float, text: str) -> None:
    assert milliseconds(value) == text


def test_tensor() -> None:
    assert tensor(TensorSpec("x", np.dtype("f4"), (1, "n", None))) == "float32[1, n, ?]"
    assert tensor(TensorSpec("x", np.dtype(object), None)) == "string[…]"


def test_bound() -> None:
    declared = TensorSpec("x", np.dtype(np.float32), (None, 3, "h"))
    here = TensorSpec("x", np.dtype(np.float32), (1, 3, 9))
    assert bound(declared, here) == "float32[?, 3, h], here [1, 3, 9]"
    assert bound(here, here) == "float32[1, 3, 9]"
