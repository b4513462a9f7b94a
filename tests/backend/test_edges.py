"""Inputs and outputs that aren't plain edges of the graph, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model
from dioe.types import Array, Backend, BackendError, DioeError, InputError, Precision, Resources
from tests.backend.cases import floats, load, relu
from tests.backend.conftest import Compile

WEIGHTS = floats(1, seed=9)
EDGES = {
    "input": (["Relu x y"], "y x"),
    "input first": (["Relu x y"], "x y"),
    "nothing but inputs": ([], "x"),
    "unread input": (["Relu x y"], "y u"),
    "initializer": (["Add x,w y"], "y w"),
    "identity of an initializer": (["Add x,w y", "Identity w z"], "z y"),
    "identity chain": (["Identity x t", "Identity t y", "Identity y z"], "y z"),
    "identity of an output": (["Relu x y", "Identity y z"], "z y"),
    "twice": (["Relu x y"], "y y"),
}


def edge_model(edge: str, dim: int | str) -> Model:
    def info(name: str) -> onnx.ValueInfoProto:
        shape = [1] if name == "w" or (edge, name) == ("identity of an initializer", "z") else [dim]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes, outputs = EDGES[edge]
    made = []
    for node in nodes:
        op, ins, out = node.split()
        made.append(helper.make_node(op, ins.split(","), [out]))
    inputs = ["x", "u"] if edge == "unread input" else ["x"]
    weights = [numpy_helper.from_array(WEIGHTS, "w")]
    names = outputs.split()
    return load(made, [info(n) for n in inputs], [info(n) for n in names], weights)


def expected(edge: str, feeds: dict[str, Array]) -> dict[str, Array]:
    values = dict(feeds) | {"w": WEIGHTS}
    for node in EDGES[edge][0]:
        op, ins, out = node.split()
        x = values[ins[0]]
        values[out] = {"Relu": np.maximum(x, 0), "Add": x + WEIGHTS, "Identity": x}[op]
    return {name: values[name].copy() for name in EDGES[edge][1].split()}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("size", [3, 20_000, 2_200_000])  # up to above what OpenVINO copies
@pytest.mark.parametrize("dynamic", [False, True])
def test_outputs_are_right_and_feeds_stay(
    backend: Backend, compile_on: Compile, edge: str, size: int, dynamic: bool
) -> None:
    made = edge_model(edge, "N" if dynamic else size)
    assert backend.query(made, "cpu", Precision.FP32).whole
    executable = compile_on(backend, made)
    feeds = {spec.name: floats(size, seed=i) for i, spec in enumerate(executable.inputs)}
    given = {name: value.copy() for name, value in feeds.items()}
    wanted = expected(edge, feeds)
    called: Any = executable.request()
    for names in ([*wanted], [*wanted], [*wanted][:1], [*wanted][-1:]):
        for name, value in zip(names, called.call(feeds, names), strict=True):
            np.testing.assert_array_equal(value, wanted[name])
            value[...] = 77  # the caller's own
    bound = executable.request()
    buffers = {name: np.full_like(value, 9) for name, value in wanted.items()}
    bound.bind(feeds, buffers)
    unbound = executable.request()
    unbound.bind(feeds)
    for _ in range(2):
        bound.run()
        unbound.run()
        assert list(bound.outputs) == list(unbound.outputs) == list(wanted)
        for name, value in wanted.items():
            assert bound.outputs[name] is buffers[name]
            np.testing.assert_array_equal(buffers[name], value)
            np.testing.assert_array_equal(unbound.outputs[name], value)
            buffers[name][...] = 77
    for name, value in given.items():
        np.testing.assert_array_equal(feeds[name], value)


def test_an_output_that_is_an_input_is_checked(backend: Backend, compile_on: Compile) -> None:
    executable = compile_on(backend, edge_model("input", "N"))
    request: Any = executable.request()
    x = floats(4)
    with pytest.raises(InputError, match="x"):
        request.bind({"x": x}, {"x": np.empty(4, np.float64)})
    for wrong in ({"x": x.astype(np.float64)}, {"q": x}, {}):
        with pytest.raises(InputError):
            request.call(wrong, ["x"])
    request.bind({"x": x}, {"x": np.empty(5, np.float32)})
    with pytest.raises(InputError, match="x"):
        request.run()
    executable.close()
    with pytest.raises(BackendError, match="closed"):
        request.run()
    with pytest.raises(BackendError, match="closed"):
        request.call({"x": x}, ["x"])


def test_inputs_that_nothing_reads_are_checked_and_ignored(
    backend: Backend, compile_on: Compile
) -> None:
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("Neg", ["x"], ["y"])],
        [info("unused", TensorProto.INT64, [2]), info("x", TensorProto.FLOAT, [3])],
        [info("y", TensorProto.FLOAT, [3])],
    )
    assert backend.query(made, "cpu", Precision.FP32).whole
    executable = compile_on(backend, made)
    assert [spec.name for spec in executable.inputs] == ["unused", "x"]
    feeds = {"unused": np.array([4, 5]), "x": floats(3)}
    request: Any = executable.request()
    np.testing.assert_array_equal(request.call(feeds, ["y"])[0], -feeds["x"])
    with pytest.raises(InputError, match="unused"):
        request.call({"x": feeds["x"]}, ["y"])
    with pytest.raises(InputError, match="float32"):
        request.call(feeds | {"unused": floats(2)}, ["y"])
    with pytest.raises(InputError, match="float32"):
        request.bind({"unused": floats(2)})
    request.bind({"x": feeds["x"]})
    with pytest.raises(InputError, match="unused"):
        request.run()
    request.bind({"unused": feeds["unused"]})
    request.run()
    np.testing.assert_array_equal(request.outputs["y"], -feeds["x"])


def test_a_wrongly_declared_output_is_refused(backend: Backend, compile_on: Compile) -> None:
    if backend.name == "reference":
        pytest.skip("converts to the dtype declared")
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("Sigmoid", ["x"], ["y"], name="sigmoid")],
        [info("x", TensorProto.FLOAT, [3])],
        [info("y", TensorProto.INT64, [3])],
    )
    support = backend.query(made, "cpu", Precision.FP32)
    assert set(support.refused) == {"sigmoid"}
    with pytest.raises(DioeError, match="y"):
        compile_on(backend, made)


@pytest.mark.parametrize("count", [0, -1, 2**40, True, 1.5, "2"])
@pytest.mark.parametrize("what", ["threads", "streams", "memory_limit_bytes", "cores"])
def test_impossible_resources_are_input_errors(backend: Backend, what: str, count: Any) -> None:
    if (what, count) in {("memory_limit_bytes", 2**40), ("cores", 0)}:
        pytest.skip(f"{what} may be {count}")
    value: Any = (count,) if what == "cores" else count
    with pytest.raises(InputError, match=what):
        backend.open("cpu", replace(Resources(), **{what: value}))


@pytest.mark.parametrize("edge", ["input", "identity chain"])
def test_output_names_may_be_any_sequence(backend: Backend, compile_on: Compile, edge: str) -> None:
    feeds = {"x": floats(3)}
    wanted = expected(edge, feeds)
    request: Any = compile_on(backend, edge_model(edge, 3)).request()
    for names in (tuple(wanted), np.array([*wanted])):
        for name, value in zip(names, request.call(feeds, names), strict=True):
            np.testing.assert_array_equal(value, wanted[name])


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.BFLOAT16, TensorProto.STRING])
def test_everything_of_a_closed_request_is_a_backend_error(
    backend: Backend, compile_on: Compile, bound: bool, element: int
) -> None:
    if backend.name == "openvino" and element == TensorProto.STRING:
        pytest.skip("OpenVINO refuses models with strings")
    info = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["x"], ["y"])
    made = load([node], [info("x", element, [2])], [info("y", element, [2])])
    executable = compile_on(backend, made)
    dtype = executable.inputs[0].dtype
    x = floats(2).astype(dtype) if not dtype.hasobject else np.array(["a", "b"], dtype)
    request: Any = executable.request()
    if bound:
        request.bind({"x": x})
        request.run()
        request.call({"x": x}, ["y"])
    executable.close()
    uses: list[Callable[[], Any]] = [
        lambda: request.bind({"x": x}),
        request.run,
        lambda: request.outputs,
        lambda: request.call({"x": x}, ["y"]),
        lambda: request.call({}, ["y"]),
    ]
    for use in uses:
        with pytest.raises(BackendError, match="closed"):
            use()


def test_control_characters_in_names_stay_out_of_messages(
    backend: Backend, compile_on: Compile
) -> None:
    name = "x\x1b[31m\r\n"
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("Relu", [name], ["y"])],
        [info(name, TensorProto.FLOAT, [3])],
        [info("y", TensorProto.FLOAT, [3])],
    )
    request: Any = compile_on(backend, made).request()
    uses: list[Callable[[], Any]] = [
        lambda: request.bind({name: floats(4)}),
        lambda: request.bind({"q": floats(3)}),
        request.run,
        lambda: request.call({}, ["y"]),
        lambda: request.call({name: floats(4)}, ["y"]),
    ]
    for use in uses:
        with pytest.raises(InputError) as caught:
            use()
        assert not {"\x1b", "\r"} & set(str(caught.value))


def test_an_array_fed_again_and_again_is_read_as_it_is_now(
    backend: Backend, compile_on: Compile
) -> None:
    """Reading in place must not mean reading what was there before."""
    rows = 1 << 16
    request: Any = compile_on(backend, relu(rows)).request()
    first, second = floats(rows, 4, seed=1), floats(rows, 4, seed=2)
    for array in (first, first, first, second, first, second, second, second):
        array[0] += 1
        (result,) = request.call({"x": array}, ["y"])
        np.testing.assert_array_equal(result, np.maximum(array, 0))
    strided = floats(rows, 8, seed=3)[:, ::2]
    for _ in range(3):
        (result,) = request.call({"x": strided}, ["y"])
        np.testing.assert_array_equal(result, np.maximum(strided, 0))
