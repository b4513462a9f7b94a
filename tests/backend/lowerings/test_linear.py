"""Products of matrices, of every type and rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.types import Array
from tests.backend.lowerings.against import agree, model_of, ours, randoms, theirs


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((4,), (4,)), ((4,), (4, 3)), ((2, 4), (4,)), ((2, 1, 2, 4), (3, 4, 5)), ((5, 2, 4), (4,)),
        ((0, 4), (4, 3)), ((2, 0), (0, 3)), ((4,), (2, 4, 3)),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64]
)
def test_matmul(left: tuple[int, ...], right: tuple[int, ...], dtype: Any) -> None:
    # ONNX Runtime doesn't take empty whole numbers everywhere
    agree("MatMul", randoms(*left, dtype=dtype), randoms(*right, dtype=dtype), reference=True)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint64])
@pytest.mark.parametrize("bias", [None, (), (1,), (5,), (1, 5), (3, 1), (3, 5)])
@pytest.mark.parametrize("flips", [{}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1}])
@pytest.mark.parametrize("scales", [{}, {"alpha": 2.0}, {"alpha": 0.5, "beta": -1.5}])
def test_gemm(dtype: Any, bias: Any, flips: dict[str, Any], scales: dict[str, Any]) -> None:
    if dtype == np.uint64 and scales.get("beta", 0) < 0:
        return
    a = randoms(*((4, 3) if "transA" in flips else (3, 4)), dtype=dtype)
    b = randoms(*((5, 4) if "transB" in flips else (4, 5)), dtype=dtype)
    c = None if bias is None else randoms(*bias, dtype=dtype)
    if dtype != np.float32 and scales:
        scales = {key: float(round(value + 0.1)) for key, value in scales.items()}
    agree("Gemm", a, b, c, **flips, **scales, reference=dtype != np.float32)


@pytest.mark.parametrize("opset", [6, 7, 9, 11, 13])
def test_gemm_of_older_opsets(opset: int) -> None:
    broadcast: dict[str, Any] = {"broadcast": 1} if opset < 7 else {}
    operands = randoms(3, 4), randoms(4, 5), randoms(5)
    agree("Gemm", *operands, opset=opset, reference=opset < 7, **broadcast)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk", [(2, 3), (3, 4)]),
        ("i j , j k -> k i", [(2, 3), (3, 4)]),
        ("Ba,aB", [(2, 3), (3, 2)]),
        ("bA", [(2, 3)]),
        ("...ij,...jk", [(5, 2, 3), (1, 3, 4)]),
        ("...ii->...", [(4, 3, 3)]),
        ("bhwc,hkc->bhwk", [(2, 3, 4, 5), (3, 4, 5)]),
        ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 2)]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_einsum(equation: str, shapes: list[tuple[int, ...]], dtype: Any) -> None:
    operands = [randoms(*shape, dtype=dtype) for shape in shapes]
    agree("Einsum", *operands, equation=equation, reference=True)


def test_einsum_wraps_around() -> None:
    big = np.full((2, 2), 2**31 + 5, np.uint32)
    agree("Einsum", big, big, equation="ij,jk->ik", reference=True)


@settings(max_examples=25, deadline=None)
@given(
    signed=st.tuples(st.booleans(), st.booleans()),
    terms=st.sampled_from([1, 7, 300, 700]),
    zeros=st.sampled_from(["none", "one", "each"]),
    constant=st.booleans(),
    rank=st.sampled_from([2, 3]),
)
def test_matmul_integer_is_exact(
    signed: tuple[bool, bool], terms: int, zeros: str, constant: bool, rank: int
) -> None:
    left, right = (np.int8 if each else np.uint8 for each in signed)
    a, b = randoms(*(2,) * (rank - 2), 3, terms, dtype=left), randoms(terms, 4, dtype=right)
    shifts = {
        "none": (None, None),
        "one": (np.array(3, left), np.array(5, right)),
        "each": (randoms(3, 1, dtype=left), randoms(4, dtype=right)),
    }
    first, second = shifts[zeros]
    feeds = (a, b, first, second)
    model = model_of("MatMulInteger", feeds, 10, constant=(1, 3) if constant else ())
    (got,) = ours(model, feeds)
    exact = _less(a, first) @ _less(b, second)
    np.testing.assert_array_equal(got, exact)
    if zeros != "each":  # ONNX Runtime has no zero points of rows
        np.testing.assert_array_equal(got, theirs(model, feeds)[0])


def _less(values: Array, zero: Array | None) -> Array:
    return values.astype(np.int64) - (0 if zero is None else zero.astype(np.int64))


@pytest.mark.parametrize("constant", [(), (3, 5)])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_qlinear_matmul(constant: Any, dtype: Any) -> None:
    one = np.array
    agree(
        "QLinearMatMul", randoms(3, 40, dtype=dtype), one(0.02, np.float32), one(7, dtype),
        randoms(40, 5, dtype=dtype), np.linspace(0.01, 0.02, 5, dtype=np.float32),
        np.arange(5).astype(dtype), one(0.4, np.float32), one(3, dtype),
        constant=constant, opset=10, rtol=0, atol=0,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (0, 2, 2), (5, 1, 1)])
def test_det(shape: tuple[int, ...]) -> None:
    agree("Det", randoms(*shape), reference=True)
