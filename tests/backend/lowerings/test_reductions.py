"""Reductions and running sums: where axes come from, empty sets, types."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dioe.types import Array
from tests.backend.lowerings import single

RNG = np.random.default_rng(4)
REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


def floats(*shape: int, dtype: str = "float32") -> Array:
    return RNG.uniform(0.2, 2, shape).astype(dtype)


def first_with_input(kind: str) -> int:
    return 13 if kind == "Sum" else 18


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("axes", [None, [0], [-1], [0, -1], [1, 0, 2]])
@pytest.mark.parametrize("keep", [0, 1])
def test_axes(kind: str, axes: list[int] | None, keep: int) -> None:
    x, version = floats(2, 3, 4), first_with_input(kind)
    old: dict[str, Any] = {"keepdims": keep} | ({} if axes is None else {"axes": axes})
    single.check(f"Reduce{kind}", [x], 11, old)
    given = None if axes is None else np.asarray(axes)
    for known in ((), (1,)):
        arrays = [x, given]
        single.check(f"Reduce{kind}", arrays, version, {"keepdims": keep}, constants=known)


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("noop", [0, 1])
@pytest.mark.parametrize("given", [None, np.zeros(0, np.int64)])
def test_no_axes(kind: str, noop: int, given: Array | None) -> None:
    x = floats(2, 3)
    (got,) = single.run(
        f"Reduce{kind}", [x, given], first_with_input(kind), {"noop_with_empty_axes": noop}
    )
    each = {"LogSum": np.log, "SumSquare": np.square}.get(kind, np.asarray)
    if noop:
        single.agree(got, each(x))
    else:
        (want,) = single.run(f"Reduce{kind}", [x], 11)
        single.agree(got, want.numpy())


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_scalars(kind: str) -> None:
    single.check(f"Reduce{kind}", [floats()], 11)


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("keep", [0, 1])
def test_empty_sets(kind: str, keep: int) -> None:
    x, empty = np.zeros((2, 0, 3), np.float32), float("inf")
    nothing = {"LogSum": -empty, "LogSumExp": -empty, "Max": -empty, "Min": empty, "Prod": 1}
    if kind != "Mean":  # not defined
        (got,) = single.run(f"Reduce{kind}", [x], 11, {"axes": [1], "keepdims": keep})
        shape = (2, 1, 3) if keep else (2, 3)
        single.agree(got, np.full(shape, nothing.get(kind, 0), np.float32))
    (got,) = single.run(f"Reduce{kind}", [x], 11, {"axes": [0], "keepdims": keep})
    assert tuple(got.shape) == ((1, 0, 3) if keep else (0, 3))


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "uint32", "uint64", "bool"])
def test_extremes_of_nothing(dtype: str) -> None:
    x = np.zeros((0, 2), dtype)
    low, high = (False, True) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    for kind, nothing in (("Max", low), ("Min", high)):
        (got,) = single.run(f"Reduce{kind}", [x], 11, {"axes": [0], "keepdims": 0})
        single.agree(got, np.full(2, nothing, dtype))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_integers(dtype: str) -> None:
    info = np.iinfo(dtype)
    x = RNG.integers(info.min, info.max, (3, 4), dtype, endpoint=True)
    want = {"Max": np.max(x, 1), "Min": np.min(x, 1)}
    want |= {"Sum": np.sum(x, 1, dtype), "Prod": np.prod(x, 1, dtype)}
    want |= {"SumSquare": np.sum(x * x, 1, dtype)}
    for kind, value in want.items():
        (got,) = single.run(f"Reduce{kind}", [x], 11, {"axes": [1], "keepdims": 0})
        single.agree(got, value)
    x = RNG.integers(3, 9, (3, 4)).astype(dtype)
    x[0] = [1, 1, 1, 2]
    exact = {"Mean": x.mean(1), "L1": x.sum(1), "L2": np.sqrt((x * x).sum(1))}
    exact |= {"LogSum": np.log(x.sum(1)), "LogSumExp": np.log(np.exp(x).sum(1))}
    for kind, value in exact.items():
        (got,) = single.run(f"Reduce{kind}", [x], 11, {"axes": [1], "keepdims": 0})
        single.agree(got, value.astype(dtype))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves_have_room_in_between(dtype: Any) -> None:
    x = np.full((2, 1000), 30, dtype)
    for kind, want in (("L2", np.sqrt(9e5)), ("LogSum", np.log(3e4)), ("Mean", 30)):
        (got,) = single.run(f"Reduce{kind}", [x], 11, {"axes": [1], "keepdims": 0})
        single.agree(got, np.full(2, want).astype(dtype), rtol=1e-2)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["float32", "int32", "float64"])
def test_running_sums(axis: int, exclusive: int, reverse: int, dtype: str) -> None:
    x = (floats(3, 4) * 9).astype(dtype)
    attributes = {"exclusive": exclusive, "reverse": reverse}
    for known in ((), (1,)):
        single.check("CumSum", [x, np.asarray(axis)], 14, attributes, constants=known)


@pytest.mark.parametrize("dtype", ["uint32", "uint64", "int64", "float16"])
def test_running_products(dtype: str) -> None:
    x = RNG.integers(1, 4, (2, 5)).astype(dtype)
    (got,) = single.run("CumProd", [x, np.asarray(1)], 26)
    single.agree(got, np.cumprod(x, 1, dtype=dtype))
    (got,) = single.run("CumSum", [x, np.asarray(1)], 14, {"exclusive": 1})
    want = np.pad(np.cumsum(x, 1, dtype=dtype)[:, :-1], ((0, 0), (1, 0)))
    single.agree(got, want)


def test_running_sums_of_nothing() -> None:
    x = np.zeros((2, 0), np.float32)
    assert tuple(single.run("CumSum", [x, np.asarray(1)], 14, {"exclusive": 1})[0].shape) == (2, 0)
