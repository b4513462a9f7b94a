"""What only the OpenVINO backend does."""

from __future__ import annotations

import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dioe.types import (
    Array,
    Backend,
    BackendError,
    Effect,
    InputError,
    ModelError,
    OutOfMemory,
    Precision,
    Precisions,
    Resources,
    TensorSpec,
    UnsupportedError,
)
from dioe_openvino.blob import Head, read_blob, write_blob
from dioe_openvino.errors import compile_error, named_nodes, run_error
from dioe_openvino.profile import cover_all
from dioe_openvino.weights import has_integer_weights
from tests.backend.cases import floats, int8_network, model, relu, small_network
from tests.backend.conftest import Compile

BF16 = Precisions(Precision.BF16)


@pytest.fixture
def with_bf16(openvino: Backend) -> Backend:
    if Precision.BF16 not in openvino.capabilities("cpu").computes:
        pytest.skip("this CPU has no bf16 arithmetic")
    return openvino


def outputs(backend: Backend, compile_on: Compile, precisions: Precisions) -> Array:
    request: Any = compile_on(backend, small_network(), precisions).request()
    found: Array = request.call({"x": floats(1, 3, 16, 16)}, ["y"])[0]
    return found


def relative(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_bf16_differs_and_exceptions_bring_it_closer(
    with_bf16: Backend, compile_on: Compile
) -> None:
    exact = outputs(with_bf16, compile_on, Precisions())
    low = relative(outputs(with_bf16, compile_on, BF16), exact)
    kept = dict.fromkeys(("conv", "conv1", "pool", "flatten"), Precision.FP32)
    mixed = relative(outputs(with_bf16, compile_on, Precisions(Precision.BF16, kept)), exact)
    assert 1e-5 < mixed < low < 0.05


@pytest.mark.parametrize("default", [Precision.BF16, Precision.FP32])
def test_exceptions_are_seen_in_the_profile(
    with_bf16: Backend, compile_on: Compile, default: Precision
) -> None:
    other = Precision.FP32 if default is Precision.BF16 else Precision.BF16
    # An op that is fused with others stays in fp32 if one of them has to.
    exceptions = dict.fromkeys(("conv", "bn", "relu"), other)
    executable = compile_on(
        with_bf16, small_network(), Precisions(default, exceptions), {"profile": True}
    )
    request = executable.request()
    request.bind({"x": floats(1, 3, 16, 16)})
    request.run()
    precision = {op: time.precision for time in executable.profile() for op in time.ops}
    assert precision["conv"] == other
    assert precision["conv1"] == default
    assert set(precision) == set(small_network().op_ids)


def test_int8_quantises_activations_only_where_asked(
    openvino: Backend, compile_on: Compile
) -> None:
    made, x = int8_network(), floats(8, 64)
    assert has_integer_weights(made.ir)
    assert openvino.query(made, "cpu", Precision.INT8).whole
    found = {}
    for precision in (Precision.FP32, Precision.INT8):
        request: Any = compile_on(openvino, made, Precisions(precision)).request()
        (found[precision],) = request.call({"x": x}, ["y"])
    weights = made.ir.graph.initializers["w"].const_value
    assert weights is not None
    expected = x @ (weights.numpy().astype(np.float32) * np.float32(0.01))
    assert relative(found[Precision.FP32], expected) < 1e-5
    assert relative(found[Precision.INT8], expected) < 0.05


def test_int8_is_refused_without_integer_weights(openvino: Backend) -> None:
    made = small_network()
    assert not has_integer_weights(made.ir)
    support = openvino.query(made, "cpu", Precision.INT8)
    assert set(support.refused) == set(made.op_ids)
    assert all("integer weights" in reason for reason in support.refused.values())


def test_mixes_that_cannot_be(openvino: Backend, compile_on: Compile) -> None:
    mix = Precisions(Precision.INT8, {"conv": Precision.FP32})
    with pytest.raises(UnsupportedError, match="int8"):
        compile_on(openvino, small_network(), mix)
    with pytest.raises(UnsupportedError, match="optimisations"):
        compile_on(openvino, small_network(), options={"optimize": False})


def test_optimisations_cannot_be_switched_off(openvino: Backend) -> None:
    answers = openvino.resolve({"optimize": False, "kernel_fusion": False, "streams": 2})
    assert answers["optimize"].effect is Effect.REJECTED
    assert answers["kernel_fusion"].effect is Effect.IGNORED
    assert answers["streams"].effect is Effect.APPLIED


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_serialized_executables_compute_the_same(
    with_bf16: Backend, compile_on: Compile, precision: Precision
) -> None:
    feeds = {"x": floats(1, 3, 16, 16)}
    executable = compile_on(with_bf16, small_network(), Precisions(precision))
    request: Any = executable.request()
    blob = executable.serialize()
    assert blob is not None
    context = with_bf16.open("cpu", Resources(threads=1))
    loaded = context.deserialize(blob)
    assert (loaded.inputs, loaded.outputs) == (executable.inputs, executable.outputs)
    again: Any = loaded.request()
    np.testing.assert_array_equal(again.call(feeds, ["y"])[0], request.call(feeds, ["y"])[0])
    for wrong in (b"", b"nonsense" * 10, blob[:100], blob[:-100]):
        with pytest.raises(BackendError):
            context.deserialize(wrong)
    context.close()


def test_blob_heads_keep_specs() -> None:
    head = Head(
        (TensorSpec("a", np.dtype(ml_dtypes.bfloat16), (1, "N", None)),),
        (TensorSpec("b", np.dtype(object), None), TensorSpec("c", np.dtype(bool), ())),
        Precision.BF16,
    )
    assert read_blob(write_blob(head, b"rest")) == (head, b"rest")


def test_long_chains_are_tried_in_little_time(openvino: Backend) -> None:
    # Compiled as usual, this takes over 3 s.
    count = 700
    chain = " ".join(f"v{i + 1} = {('Neg', 'Relu')[i % 2]}(v{i})" for i in range(count))
    made = model(f"g (float[2,4] v0) => (float[2,4] v{count}) {{ {chain} }}")
    start = time.process_time()
    assert openvino.query(made, "cpu", Precision.FP32).whole
    assert time.process_time() - start < 1.5


def test_cores_switch_pinning_off(openvino: Backend, compile_on: Compile) -> None:
    request: Any = compile_on(openvino, relu(), resources=Resources(cores=(0,))).request()
    x = floats(2, 4)
    np.testing.assert_array_equal(request.call({"x": x}, ["y"])[0], np.maximum(x, 0))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("bad_alloc", OutOfMemory),
        ("ParameterMismatch: Failed to set tensor", InputError),
        ("Exception from src/a.cpp:1: whatever", BackendError),
    ],
)
def test_run_errors(text: str, kind: type[Exception]) -> None:
    error = run_error(RuntimeError(text))
    assert type(error) is kind
    assert "src/" not in str(error)


def test_compile_errors() -> None:
    text = "While validating ONNX node '<Node(Conv): /a/Conv>': rank"
    assert isinstance(compile_error(RuntimeError(text)), UnsupportedError)
    assert isinstance(compile_error(RuntimeError("Unable to read the model")), ModelError)
    assert named_nodes(text) == ["/a/Conv"]


def test_results_that_are_let_go_of_are_copied_no_more(
    openvino: Backend, compile_on: Compile
) -> None:
    made = model("g (float[128,128] x) => (float[128,128] y) { y = Abs(x) }")
    request: Any = compile_on(openvino, made).request()
    x = floats(128, 128)

    def copied() -> bool:
        (y,) = request.call({"x": x}, ["y"])
        return y.base is None  # what is handed out is a view of the buffer

    assert [copied() for _ in range(12)] == [True] * 5 + [False] * 7
    (kept,) = request.call({"x": x}, ["y"])
    assert [copied() for _ in range(24)] == [True] * 17 + [False] * 7
    np.testing.assert_array_equal(kept, np.abs(x))


def test_a_result_that_is_kept_each_time_is_copied(openvino: Backend, compile_on: Compile) -> None:
    made = model("g (float[128,128] x) => (float[128,128] y) { y = Abs(x) }")
    request: Any = compile_on(openvino, made).request()
    last = None
    for seed in range(20):
        x = floats(128, 128, seed=seed)
        (last,) = request.call({"x": x}, ["y"])  # the one before goes only now
        assert last.base is None


def test_ops_that_openvino_forgets_go_with_their_neighbours() -> None:
    made = small_network()
    named = {"layer": {"bn", "relu"}, "reorder": set(), "pool": {"pool"}, "end": {"softmax"}}
    covers = cover_all(named, made)
    assert covers["layer"] == ("conv", "bn", "relu")
    assert covers["reorder"] == ()
    assert covers["pool"] == ("conv1", "pool")
    assert {op for ops in covers.values() for op in ops} == set(made.op_ids)
