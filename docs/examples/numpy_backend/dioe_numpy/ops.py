"""The ops: what each takes, and what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.types import Array

Attributes = Mapping[str, Any]
Compute = Callable[[Sequence[Any], Attributes], Array]

FLOATS = frozenset({"float32", "float64"})
PLAIN = FLOATS | {"int32", "int64", "bool"}


@dataclass(frozen=True, slots=True)
class Op:
    """One op: since which opset it is as computed here, the dtypes of its first input, and the
    attributes it may have."""

    since: int
    dtypes: frozenset[str]
    compute: Compute
    attributes: frozenset[str] = frozenset()


def _sigmoid(inputs: Sequence[Any], _: Attributes) -> Array:
    x = inputs[0]
    small = np.exp(-np.abs(x))  # never overflows
    result: Array = np.where(x >= 0, 1 / (1 + small), small / (1 + small))
    return result


def _softmax(inputs: Sequence[Any], attributes: Attributes) -> Array:
    x, axis = inputs[0], attributes.get("axis", -1)
    powers = np.exp(x - np.max(x, axis=axis, keepdims=True))
    result: Array = powers / powers.sum(axis=axis, keepdims=True)
    return result


def _gemm(inputs: Sequence[Any], attributes: Attributes) -> Array:
    a = inputs[0].T if attributes.get("transA") else inputs[0]
    b = inputs[1].T if attributes.get("transB") else inputs[1]
    product = a @ b * a.dtype.type(attributes.get("alpha", 1.0))
    if len(inputs) > 2 and inputs[2] is not None:
        product = product + inputs[2] * a.dtype.type(attributes.get("beta", 1.0))
    result: Array = product
    return result


def _reshape(inputs: Sequence[Any], attributes: Attributes) -> Array:
    x, wanted = inputs[0], [int(dim) for dim in inputs[1]]
    if not attributes.get("allowzero"):  # a zero stands for the dimension of the input
        wanted = [x.shape[i] if dim == 0 else dim for i, dim in enumerate(wanted)]
    result: Array = x.reshape(wanted)
    return result


OPS: dict[str, Op] = {
    "Abs": Op(6, FLOATS, lambda i, _: np.abs(i[0])),
    "Add": Op(7, FLOATS, lambda i, _: i[0] + i[1]),
    "Concat": Op(4, PLAIN, lambda i, a: np.concatenate(i, axis=a["axis"]), frozenset({"axis"})),
    "Div": Op(7, FLOATS, lambda i, _: i[0] / i[1]),
    "Exp": Op(6, FLOATS, lambda i, _: np.exp(i[0])),
    "Gemm": Op(11, FLOATS, _gemm, frozenset({"alpha", "beta", "transA", "transB"})),
    "Identity": Op(1, PLAIN, lambda i, _: i[0]),
    "MatMul": Op(1, FLOATS, lambda i, _: np.matmul(i[0], i[1])),
    "Mul": Op(7, FLOATS, lambda i, _: i[0] * i[1]),
    "Neg": Op(6, FLOATS, lambda i, _: -i[0]),
    "Relu": Op(6, FLOATS, lambda i, _: np.maximum(i[0], 0)),
    "Reshape": Op(5, PLAIN, _reshape, frozenset({"allowzero"})),
    "Sigmoid": Op(6, FLOATS, _sigmoid),
    "Softmax": Op(13, FLOATS, _softmax, frozenset({"axis"})),  # before 13 it flattens first
    "Sqrt": Op(6, FLOATS, lambda i, _: np.sqrt(i[0])),
    "Sub": Op(7, FLOATS, lambda i, _: i[0] - i[1]),
    "Tanh": Op(6, FLOATS, lambda i, _: np.tanh(i[0])),
    "Transpose": Op(1, PLAIN, lambda i, a: i[0].transpose(a.get("perm")), frozenset({"perm"})),
}
"""All ops of this backend; results have the dtype of the first input."""
