"""Which are the largest: ties, types, both ways of finding the top."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dioe.types import Array
from tests.backend.lowerings import single

RNG = np.random.default_rng(6)
DTYPES = ["float32", "float64", "float16", "bfloat16", "int8", "int32", "int64", "uint8", "uint16"]
DTYPES += ["uint32", "uint64"]


def with_ties(dtype: str, *shape: int) -> Array:
    kind: Any = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    x = RNG.integers(0, 20, shape)
    if "float" in dtype:
        return np.asarray(x - 10, kind)
    info = np.iinfo(dtype)
    return np.asarray(x.astype(dtype) * np.asarray(info.max // 20, dtype), dtype)


def top(x: Array, k: int, axis: int, largest: bool) -> tuple[Array, Array]:
    # exact as Python numbers, in the order of value, then index
    rows = np.moveaxis(x, axis, -1)
    found = np.empty((*rows.shape[:-1], k), np.int64)
    for at in np.ndindex(rows.shape[:-1]):
        values = [v.item() for v in rows[at]]
        order = sorted(range(len(values)), key=lambda i: (-values[i] if largest else values[i], i))
        found[at] = order[:k]
    indices = np.moveaxis(found, -1, axis)
    return np.take_along_axis(x, indices, axis), indices


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("shape", [(3, 40), (4, 600)])
def test_the_first_of_equals(dtype: str, largest: int, shape: tuple[int, ...]) -> None:
    for axis, k in ((1, 7), (0, 2), (-1, shape[1])):
        x = with_ties(dtype, *shape)
        for known in ((), (1,)):
            values, indices = single.run(
                "TopK",
                [x, np.asarray([k])],
                24,
                {"axis": axis, "largest": largest},
                n_outputs=2,
                constants=known,
            )
            want = top(x, k, axis, bool(largest))
            single.agree(values, want[0])
            single.agree(indices, want[1])


@pytest.mark.parametrize("shape", [(3, 40), (4, 600)])
def test_floats_against_onnxruntime(shape: tuple[int, ...]) -> None:
    x = RNG.normal(size=shape).astype(np.float32)
    x[:, 3] = np.inf
    x[:, 5] = -np.inf
    x[:, 7] = -0.0
    for largest in (0, 1):
        attributes = {"largest": largest}
        single.check("TopK", [x, np.asarray([30])], 11, attributes, n_outputs=2)


def test_old_opsets() -> None:
    x = RNG.normal(size=(3, 9)).astype(np.float32)
    single.check("TopK", [x, np.asarray([4])], 10, n_outputs=2)
    values, indices = single.run("TopK", [x], 1, {"k": 4}, n_outputs=2)
    want = top(x, 4, 1, True)
    single.agree(values, want[0])
    single.agree(indices, want[1])


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("last", [0, 1])
def test_indices(op_type: str, axis: int, keep: int, last: int) -> None:
    x = with_ties("float32", 30, 4)
    attributes = {"axis": axis, "keepdims": keep, "select_last_index": last}
    single.check(op_type, [x], 13, attributes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_indices_in_all_types(dtype: str) -> None:
    x = with_ties(dtype, 5, 8)
    single.agree(single.run("ArgMax", [x], 13, {"axis": 1})[0], np.argmax(x, 1, keepdims=True))
    single.agree(single.run("ArgMin", [x], 13, {"axis": 1})[0], np.argmin(x, 1, keepdims=True))
