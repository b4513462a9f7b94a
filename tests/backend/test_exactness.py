"""What OpenVINO computes in other dtypes than the model says is refused; other backends do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dioe.graph import Model
from dioe.types import Backend, Precision, UnsupportedError
from dioe_openvino.exactness import Exactness
from tests.backend.cases import model
from tests.backend.conftest import Compile

REFUSED = {
    "g (double[4] x) => (double[4] y) { y = Add(x, x) }": ["y"],
    "g (double[4] x) => (bool[4] y) { y = Greater(x, x) }": ["y"],
    "g (double[4] x) => (float[4] y) { t = Neg(x) y = Cast<to = 1>(t) }": ["t"],
    "g (double[4] x) => (int32[4] y) { y = Cast<to = 6>(x) }": ["y"],
    "g (double[2,2] x) => (double[2,2] y) { y = Transpose(x) }": ["y"],
    "g (uint8[4] x) => (uint8[4] y) { y = Add(x, x) }": ["y"],
    "g (int8[4] x) => (float[4] y) { t = Sub(x, x) y = Cast<to = 1>(t) }": ["t"],
    "g (int64[4] x) => (int64[4] y) { y = Add(x, x) }": ["y"],
    "g (uint64[4] x) => (uint64[4] y) { t = Mul(x, x) y = Identity(t) }": ["t"],
    "g (uint32[4] x) => (int64[4] y) { y = Cast<to = 7>(x) }": ["y"],
    "g (int32[4] x) => (int32[1] y) { y = ReduceSum(x) }": ["y"],
    "g (bool c, int64[4] x) => (int64[4] y) { y = If (c) <"
    " then_branch = p () => (int64[4] t) { t = Add(x, x) },"
    " else_branch = q () => (int64[4] e) { e = Identity(x) }> }": ["y"],
}
ACCEPTED = [
    "g (float[4] x) => (double[4] y) { t = Cast<to = 11>(x) y = Identity(t) }",
    "g (double[4] x) => (float[2,2] y) { s = Constant<value_ints = [2, 2]>()"
    " t = Reshape(x, s) y = Cast<to = 1>(t) }",
    "g (int64[4] x) => (int64[8] y) { y = Concat<axis = 0>(x, x) }",
    "g (float[N,3] x) => (float[M] y) { s = Shape(x) n = ReduceProd(s) y = Reshape(x, n) }",
    "g (float[6,3] x, int64[2] i) => (float[2,3] y) { one = Constant<value_int = 1>()"
    " j = Add(i, one) y = Gather(x, j) }",
    "g (float[6,3] x) => (int64[6] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }",
    "g (uint8[4] x) => (uint8[4] y) { y = Max(x, x) }",
    "g (int16[4] x) => (int16[4] y) { y = Add(x, x) }",
    "g (int32[4] x) => (int32[4] y) { y = Add(x, x) }",
    "g (float[4] x, float s, uint8 z) => (float[4] y) {"
    " q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
]


def reasons(made: Model) -> dict[str, str]:
    exactness = Exactness(made)
    return exactness.by_outputs() | exactness.by_op()


@pytest.mark.parametrize(("text", "ops"), REFUSED.items())
def test_ops_that_would_be_wrong_are_refused(
    openvino: Backend, text: str, ops: Sequence[str]
) -> None:
    made = model(text)
    support = openvino.query(made, "cpu", Precision.FP32)
    assert set(support.refused) == set(ops)
    assert all("OpenVINO" in reason for reason in support.refused.values())
    assert support.supported == set(made.op_ids) - set(ops)


@pytest.mark.parametrize("text", ACCEPTED)
def test_inner_integers_and_moved_data_are_accepted(openvino: Backend, text: str) -> None:
    made = model(text)
    assert not reasons(made)
    assert openvino.query(made, "cpu", Precision.FP32).whole


def test_what_is_wrong_everywhere_does_not_compile(openvino: Backend, compile_on: Compile) -> None:
    made = model("g (double[4] x) => (double[4] y) { y = Exp(x) }")
    with pytest.raises(UnsupportedError, match="float64"):
        compile_on(openvino, made)


@pytest.mark.parametrize(
    ("text", "x"),
    [
        ("g (int64[2] x) => (int64[2] y) { y = Add(x, x) }", np.array([2**40, -(2**41)])),
        ("g (uint8[2] x) => (uint8[2] y) { y = Add(x, x) }", np.array([200, 100], np.uint8)),
        ("g (double[2] x) => (double[2] y) { y = Add(x, x) }", np.array([1 + 1e-12, 1e300])),
        ("g (int32[2] x) => (int32[2] y) { y = Relu(x) }", np.array([2**30 + 1, -5], np.int32)),
    ],
)
def test_who_accepts_computes_it_as_written(
    backend: Backend, compile_on: Compile, text: str, x: Any
) -> None:
    made = model(text)
    if not backend.query(made, "cpu", Precision.FP32).whole:
        assert backend.name == "openvino"
        return
    request: Any = compile_on(backend, made).request()
    expected = np.maximum(x, 0) if "Relu" in text else x + x
    np.testing.assert_array_equal(request.call({"x": x}, ["y"])[0], expected)


def test_dtypes_of_untyped_values() -> None:
    made = model(
        "g (float[4] x, bool c) => (int64[N] y) {"
        " d = Cast<to = 11>(x) k = Constant<value_int = 3>() s = Shape(d) t = Add(s, k)"
        " f = ConstantOfShape(t) w = Where(c, x, x) y = Concat<axis = 0>(s, t) }"
    )
    assert set(reasons(made)) == {"t"}
