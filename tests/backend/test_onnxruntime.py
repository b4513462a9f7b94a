"""What only the ONNX Runtime backend does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dioe.types import (
    Backend,
    BackendError,
    Effect,
    InputError,
    ModelError,
    OutOfMemory,
    Resources,
    UnsupportedError,
)
from dioe_onnxruntime.coverage import covered_ops, token
from dioe_onnxruntime.errors import compile_error, run_error
from tests.backend.cases import floats, model, small_network
from tests.backend.conftest import Compile


def test_without_optimisations_every_op_has_its_own_kernel(
    onnxruntime: Backend, compile_on: Compile
) -> None:
    made = small_network()
    for options in ({"optimize": False}, {"kernel_fusion": False}, {"kernel_fusion": "disabled"}):
        executable = compile_on(onnxruntime, made, options=options | {"profile": True})
        request = executable.request()
        request.bind({"x": floats(1, 3, 16, 16)})
        request.run()
        assert sorted(t.ops for t in executable.profile()) == sorted((op,) for op in made.op_ids)


def test_fusion_option(onnxruntime: Backend) -> None:
    answer = onnxruntime.resolve({"kernel_fusion": "extended", "spin": False})
    assert answer["kernel_fusion"].effect is Effect.APPLIED
    assert answer["kernel_fusion"].native_key == "graph_optimization_level"
    assert answer["spin"].native_key == "session.intra_op.allow_spinning"
    rejected = onnxruntime.resolve({"kernel_fusion": "somewhat"})["kernel_fusion"]
    assert rejected.effect is Effect.REJECTED


def test_cores_and_threads(onnxruntime: Backend, compile_on: Compile) -> None:
    for resources in (Resources(cores=(0,)), Resources(cores=(0,), threads=2, spin=False)):
        request: Any = compile_on(onnxruntime, small_network(), resources=resources).request()
        (found,) = request.call({"x": floats(1, 3, 16, 16)}, ["y"])
        assert abs(found.sum() - 1) < 1e-5


def test_a_branch_that_bound_shapes_make_invalid(onnxruntime: Backend, compile_on: Compile) -> None:
    # With x of 4 columns the else branch can't be, and ONNX Runtime's optimisers refuse it.
    made = model(
        "g (float[1,4] x) => (float[1,M] y) {"
        " s = Shape(x) i = Constant<value_int = 1>() n = Gather(s, i)"
        " four = Constant<value_int = 4>() c = Equal(n, four)"
        " y = If (c) <"
        " then_branch = p () => (float[1,M] t) { t = Neg(x) },"
        " else_branch = q () => (float[1,M] e) {"
        "  w = Constant<value = float[3,2] {1., 2., 3., 4., 5., 6.}>() e = MatMul(x, w) }> }"
    )
    request: Any = compile_on(onnxruntime, made).request()
    x = floats(1, 4)
    np.testing.assert_array_equal(request.call({"x": x}, ["y"])[0], -x)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("std::bad_alloc", OutOfMemory),
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions", InputError),
        ("[ONNXRuntimeError] : 1 : FAIL : something else", BackendError),
    ],
)
def test_run_errors(text: str, kind: type[Exception]) -> None:
    assert type(run_error(RuntimeError(text), "here")) is kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("NOT_IMPLEMENTED : Could not find an implementation for Foo(1)", UnsupportedError),
        ("INVALID_GRAPH : This is an invalid model", ModelError),
        (
            "INVALID_GRAPH : In Node Error Unrecognized attribute: left_window_size",
            UnsupportedError,
        ),
        ("FAIL : Exception during initialization: layout_ == 0 was false", UnsupportedError),
        ("FAIL : Type Error: Type parameter (T) of Optype (Add) bound to", UnsupportedError),
        ("FAIL : Exception during initialization: bad allocation", OutOfMemory),
        ("bad allocation", OutOfMemory),
        ("FAIL : something else", BackendError),
    ],
)
def test_compile_errors(text: str, kind: type[Exception]) -> None:
    assert type(compile_error(RuntimeError(text), "here")) is kind


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model("
            "onnx::ModelProto&&, const onnxruntime::ModelOptions&) Unsupported model IR version",
            "Unsupported model IR version",
        ),
        (
            "void onnxruntime::utils::Check(const std::map<char, int>&, bool) ONNX Runtime only",
            "ONNX Runtime only",
        ),
        ("onnxruntime::RNN<T>::RNN(const X&) [with T = float] layout_ == 0", "layout_ == 0"),
        ("onnxruntime::N::Locale::Locale(const S&)::<lambda()> No (such) name", "No (such) name"),
        ("virtual onnxruntime::Status onnxruntime::C::Compute(onnxruntime::K*) const no", "no"),
        ("the kernel onnxruntime::Foo is missing", "the kernel onnxruntime::Foo is missing"),
    ],
)
def test_errors_say_what_is_wrong_without_the_function_that_found_it(text: str, said: str) -> None:
    assert run_error(RuntimeError(f"[ONNXRuntimeError] : {text}"), "here").cause == said


def node(name: str, op_type: str, inputs: str, outputs: str) -> Any:
    return SimpleNamespace(name=name, op_type=op_type, input=inputs.split(), output=outputs.split())


def test_coverage_follows_names_of_values() -> None:
    source = [
        node(token(0), "Conv", "x w", "c"),
        node(token(1), "Relu", "c", "r"),
        node(token(2), "MatMul", "r m", "d"),
        node(token(3), "Add", "d b", "a"),
        node(token(4), "Identity", "a", "y"),
    ]
    optimised = [
        node("c_nchwc", "Conv", "x reorder", "reorder_1"),
        node("ReorderOutput", "ReorderOutput", "reorder_1", "r"),
        node("fused", "Gemm", "r m b", "y"),
    ]
    covered = covered_ops(source, optimised)
    assert covered == {"c_nchwc": (0, 1), "ReorderOutput": (), "fused": (2, 3, 4)}


def test_coverage_of_renamed_values_uses_tokens() -> None:
    source = [node(token(0), "Relu", "x", "r"), node(token(1), "Neg", "r", "y")]
    optimised = [
        node(f"{token(0)}/moved", "Relu", "x", "elsewhere"),
        node("last", "Neg", "elsewhere", "y"),
    ]
    assert covered_ops(source, optimised) == {f"{token(0)}/moved": (0,), "last": (1,)}
