"""Lowerings are traced with fake tensors, for compilers: no values are looked at on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from dioe.types import Array
from tests.backend.lowerings import single

RNG = np.random.default_rng(11)


def floats(*shape: int) -> Array:
    return RNG.uniform(0.1, 2, shape).astype(np.float32)


def some(dtype: str, *shape: int) -> Array:
    return RNG.integers(1, 100, shape).astype(dtype)


K, AXIS = np.asarray([5]), np.asarray([-1])
SCALE, ZERO = np.asarray(0.1, np.float32), np.asarray(7, np.uint8)

CASES: list[tuple[str, list[Any], dict[str, Any], tuple[int, ...], int]] = [
    ("Div", [some("uint64", 6), some("uint64", 6)], {}, (), 1),
    ("Mod", [some("uint16", 6), some("uint16", 6)], {}, (), 1),
    ("BitShift", [some("uint64", 6), some("uint64", 6)], {"direction": "RIGHT"}, (), 1),
    ("Pow", [floats(3, 4), np.asarray(2.0, np.float32)], {}, (1,), 1),
    ("Clip", [floats(3, 4), np.asarray(0.5, np.float32)], {}, (), 1),
    ("Cast", [floats(3, 4)], {"to": 17}, (), 1),
    ("Hardmax", [floats(3, 4)], {}, (), 1),
    ("PRelu", [floats(2, 3, 4), floats(3, 1)], {}, (), 1),
    ("ReduceLogSumExp", [floats(3, 4), AXIS], {}, (1,), 1),
    ("ReduceSum", [floats(3, 4), AXIS], {}, (1,), 1),
    ("CumSum", [floats(3, 4), np.asarray(1)], {"exclusive": 1, "reverse": 1}, (1,), 1),
    ("TopK", [floats(3, 40), K], {}, (1,), 2),
    ("TopK", [floats(30, 400), K], {}, (1,), 2),
    ("ArgMax", [floats(3, 4)], {"select_last_index": 1}, (), 1),
    ("LayerNormalization", [floats(3, 4), floats(4), floats(4)], {}, (), 3),
    ("RMSNormalization", [floats(3, 4), floats(4)], {}, (), 1),
    ("LRN", [floats(2, 5, 3, 3)], {"size": 3}, (), 1),
    ("QuantizeLinear", [floats(3, 4), SCALE, ZERO], {}, (), 1),
    ("DequantizeLinear", [some("uint8", 3, 4), SCALE, ZERO], {}, (1, 2), 1),
    ("DynamicQuantizeLinear", [floats(3, 4)], {}, (), 3),
    ("Dropout", [floats(3, 4)], {}, (), 2),
    ("SoftmaxCrossEntropyLoss", [floats(3, 4), np.asarray([0, 3, 1])], {}, (), 2),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_traced(case: tuple[str, list[Any], dict[str, Any], tuple[int, ...], int]) -> None:
    op_type, arrays, attributes, constants, n_outputs = case
    linked = single.linked(op_type, arrays, 24, attributes, n_outputs, constants)
    given = [single.tensor(v) for i, v in enumerate(arrays) if i not in constants]
    trace = make_fx(
        lambda *tensors: linked.run(tensors), tracing_mode="fake", _allow_non_fake_inputs=True
    )
    graph = trace(*given)
    for result, wanted in zip(graph(*given), linked.run(given), strict=True):
        if result.dtype.is_floating_point:
            torch.testing.assert_close(result, wanted, equal_nan=True)
        else:
            assert torch.equal(result, wanted)
