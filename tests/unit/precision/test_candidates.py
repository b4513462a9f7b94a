"""Which precisions are tried, and the limits they are held to."""

from __future__ import annotations

import math

import pytest

from dioe.precision import candidate_precisions, error_limit
from dioe.types import Capabilities, InputError, Precision

FP32, FP16, BF16, INT8, INT4 = Precision


@pytest.mark.parametrize(
    ("precision", "quantised", "limit"),
    [
        ("fp32", False, 1e-4),
        ("fp32", True, 5e-2),
        ("auto", False, 1e-2),
        ("auto", True, 5e-2),
        ("bf16", False, 1e-2),
        ("bf16", True, 5e-2),
    ],
)
def test_the_limit_of_a_mode(precision: str, quantised: bool, limit: float) -> None:
    assert error_limit(precision, quantised=quantised, max_relative_l2=None) == limit
    # the caller's own goes before any
    for own in (1e-9, 0.5, 3.0):
        assert error_limit(precision, quantised=quantised, max_relative_l2=own) == own


@pytest.mark.parametrize("limit", [0, 0.0, -1e-3, math.inf, -math.inf, math.nan])
def test_a_limit_that_is_none(limit: float) -> None:
    with pytest.raises(InputError, match="max_relative_l2 is ") as caught:
        error_limit("auto", quantised=False, max_relative_l2=limit)
    assert "above 0" in caught.value.fix


@pytest.mark.parametrize(
    ("precision", "computes", "quantised", "wanted"),
    [
        ("fp32", {FP32, BF16, FP16, INT8}, False, (FP32,)),
        ("fp32", {FP32, BF16, FP16, INT8}, True, (FP32, INT8)),
        ("fp32", {FP32, BF16}, True, (FP32,)),
        ("fp32", {FP16}, False, ()),
        ("auto", {FP32, BF16, FP16, INT8, INT4}, False, (FP32, FP16, BF16)),
        ("auto", {FP32, BF16, INT8}, True, (FP32, BF16, INT8)),
        ("auto", {FP32}, False, (FP32,)),
        ("auto", set(), False, ()),
        ("bf16", {FP32, BF16}, False, (BF16,)),
        ("bf16", {FP32}, False, ()),
        ("int8", {FP32, INT8}, False, (INT8,)),
    ],
)
def test_candidates(
    precision: str, computes: set[Precision], quantised: bool, wanted: tuple[Precision, ...]
) -> None:
    able = Capabilities(computes=frozenset(computes))
    assert candidate_precisions(precision, able, quantised=quantised) == wanted


def test_an_unknown_precision() -> None:
    with pytest.raises(InputError, match="precision 'fp64' is unknown") as caught:
        candidate_precisions("fp64", Capabilities(), quantised=False)
    assert caught.value.fix == "use one of: auto, fp32, fp16, bf16, int8, int4"
