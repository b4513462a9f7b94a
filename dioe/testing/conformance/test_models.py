"""Small networks, types and values beside tensors, edges of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model
from dioe.testing.cases import Case, cases
from dioe.testing.judging import LIMITS, assert_outputs, assert_same, host
from dioe.testing.models import floats, load, small_network
from dioe.testing.subject import Subject, call, not_covered, run
from dioe.types import Array, Executable, Precision, Precisions, UnsupportedError

pytestmark = pytest.mark.correctness


def find(name: str) -> Case:
    """The case of that name."""
    return next(case for case in cases() if case.name == name)


def test_case(subject: Subject, precision: Precision, case: str) -> None:
    """What has to come out, again and again, by ``bind`` and ``run``."""
    if precision not in LIMITS:
        raise not_covered(f"no limit is stated for {precision}")
    chosen = find(case)
    feeds = [chosen.feeds] if precision is Precision.INT8 else None
    executable = subject.compile(chosen.model, precision, calibration=feeds)
    assert {spec.name for spec in executable.inputs} == set(chosen.feeds)
    assert [spec.name for spec in executable.outputs] == list(chosen.expected)
    request = executable.request()
    for _ in range(3):
        found = run(request, chosen.feeds)
        assert_outputs(found, chosen.expected, chosen.limit(precision))


def test_call(subject: Subject, case: str) -> None:
    """``call`` gives any of the outputs in any order, and they are the caller's own."""
    chosen = find(case)
    request = subject.request(chosen.model)
    most = chosen.limit(Precision.FP32)
    names = list(chosen.expected)[::-1]
    found = []
    for _ in range(3):
        found.append(call(request, chosen.feeds, names))
        for name, value in zip(names, found[-1], strict=True):
            assert_same(value, chosen.expected[name], most, name)
        for value in found[-1]:
            if _numbers(value):
                value[...] = 77  # must reach neither later results nor the feed
    for value in (value for results in found for value in results):
        assert not _numbers(value) or (value == 77).all()


def _numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.char in "fdlq" and value.ndim > 0


def test_lower_precision_keeps_exceptions(
    subject: Subject, lower: Precision | Literal["none"]
) -> None:
    """A backend that mixes precisions takes exceptions by op, others refuse them."""
    if lower == "none":
        raise not_covered("no precision below fp32 is computed")
    network = small_network()
    subject.take(network, lower)
    precisions = Precisions(lower, {"conv": Precision.FP32})
    if not subject.capabilities.mixes_precisions or Precision.FP32 not in (
        subject.capabilities.computes
    ):
        with pytest.raises(UnsupportedError):
            subject.open().compile(network, precisions, {})
        return
    case = find("convolutions")
    request = subject.open().compile(network, precisions, {}).request()
    assert_outputs(run(request, case.feeds), case.expected, LIMITS[lower])


WEIGHTS = floats(1, seed=9)
EDGES: Mapping[str, tuple[list[str], str]] = {
    "input": (["Relu x y"], "y x"),
    "input-first": (["Relu x y"], "x y"),
    "nothing-but-inputs": ([], "x"),
    "unread-input": (["Relu x y"], "y u"),
    "initializer": (["Add x,w y"], "y w"),
    "identity-of-an-initializer": (["Add x,w y", "Identity w z"], "z y"),
    "identity-chain": (["Identity x t", "Identity t y", "Identity y z"], "y z"),
    "identity-of-an-output": (["Relu x y", "Identity y z"], "z y"),
    "twice": (["Relu x y"], "y y"),
}
"""Nodes as ``op inputs output``, and the outputs of the graph."""


def edge_model(edge: str, dim: int | str) -> Model:
    """A graph some of whose outputs are no plain results of ops."""

    def info(name: str) -> onnx.ValueInfoProto:
        short = name == "w" or (edge, name) == ("identity-of-an-initializer", "z")
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1 if short else dim])

    nodes, outputs = EDGES[edge]
    made = []
    for node in nodes:
        op, ins, out = node.split()
        made.append(helper.make_node(op, ins.split(","), [out]))
    inputs = ["x", "u"] if edge == "unread-input" else ["x"]
    weights = [numpy_helper.from_array(WEIGHTS, "w")]
    return load(made, [info(n) for n in inputs], [info(n) for n in outputs.split()], weights)


def edge_values(edge: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What comes out of an ``edge_model``."""
    values = dict(feeds) | {"w": WEIGHTS}
    for node in EDGES[edge][0]:
        op, ins, out = node.split()
        x = values[ins.split(",")[0]]
        values[out] = {"Relu": np.maximum(x, 0), "Add": x + WEIGHTS, "Identity": x}[op]
    return {name: values[name].copy() for name in EDGES[edge][1].split()}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(
    ("dim", "size"),  # runtimes copy some sizes and not others
    [(3, 3), (20_000, 20_000), (2_200_000, 2_200_000), ("N", 20_000)],
    ids=["small", "middle", "large", "dynamic"],
)
def test_outputs_that_are_inputs_or_weights(
    subject: Subject, edge: str, dim: int | str, size: int
) -> None:
    """Right values, whatever way they are asked for; the feeds stay as they were."""
    executable = subject.compile(edge_model(edge, dim))
    feeds = {spec.name: floats(size, seed=i) for i, spec in enumerate(executable.inputs)}
    given = {name: value.copy() for name, value in feeds.items()}
    wanted = edge_values(edge, feeds)
    _check_calls(executable, feeds, wanted)
    bound, unbound = executable.request(), executable.request()
    buffers = {name: np.full_like(value, 9) for name, value in wanted.items()}
    bound.bind(feeds, buffers)
    unbound.bind(feeds)
    for _ in range(2):
        bound.run().wait()
        unbound.run().wait()
        assert list(bound.outputs) == list(unbound.outputs) == list(wanted)
        for name, value in wanted.items():
            assert bound.outputs[name] is buffers[name]
            np.testing.assert_array_equal(buffers[name], value)
            np.testing.assert_array_equal(host(unbound.outputs[name]), value)
            buffers[name][...] = 77
    for name, value in given.items():
        np.testing.assert_array_equal(feeds[name], value)


def _check_calls(
    executable: Executable, feeds: Mapping[str, Array], wanted: Mapping[str, Array]
) -> None:
    request = executable.request()
    if not hasattr(request, "call"):
        return
    orders: list[Callable[[list[str]], list[str]]] = [
        lambda names: names,
        lambda names: names,
        lambda names: names[:1],
        lambda names: names[-1:],
    ]
    for order in orders:
        names = order(list(wanted))
        for name, value in zip(names, call(request, feeds, names), strict=True):
            np.testing.assert_array_equal(value, wanted[name])
            value[...] = 77  # the caller's own


def test_a_wrongly_declared_output(subject: Subject) -> None:
    """An output of another dtype than its op gives is refused, or converted to what is declared."""
    info = helper.make_tensor_value_info
    made = load(
        [helper.make_node("Sigmoid", ["x"], ["y"], name="sigmoid")],
        [info("x", TensorProto.FLOAT, [3])],
        [info("y", TensorProto.INT64, [3])],
    )
    found = run(subject.request(made), {"x": floats(3)})["y"]
    np.testing.assert_array_equal(found, np.zeros(3, np.int64), strict=True)
