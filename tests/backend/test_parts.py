"""Parts of a model measured through real backends: activations, blocks alone, blocks in context."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dioe.graph import Model, OpGraph, find_blocks, stage_io
from dioe.profiling import (
    BlockTiming,
    capture,
    distinct_blocks,
    in_context,
    profile_blocks,
    profile_executable,
)
from dioe.types import Backend, Feeds, Precisions, Resources
from tests.backend.conftest import BACKENDS
from tests.toys.models import parse, weights, with_weights

RNG = np.random.default_rng(11)
ONE_THREAD = Resources(threads=1, spin=False)


def decided() -> onnx.ModelProto:
    """A branch whose bodies read from outside, picked by data; whole numbers; a product."""
    model = parse("""
        g (float[4, 16] x, int64[3] pick) => (float[4, 3] y, float[4, 16] z) {
            a = MatMul(x, w)
            h = Tanh(a)
            s = ReduceMax <keepdims: int = 0> (h)
            two = Constant <value: tensor = float {2.0}> ()
            over = Greater(s, two)
            z = If (over) <
                then_branch = t () => (float[4, 16] p) { p = Exp(h) },
                else_branch = e () => (float[4, 16] q) { q = Neg(h) }
            >
            next = Add(pick, pick)
            y = Gather <axis: int = 1> (h, next)
        }
    """)
    return with_weights(model, w=weights(16, 16, seed=3))


def convolutions(count: int = 4) -> onnx.ModelProto:
    """Equal blocks of convolution, batch norm and relu one after the other."""
    nodes, tensors, value = [], [], "x"
    for i in range(count):
        tensors.append(numpy_helper.from_array(weights(16, 16, 3, 3, seed=i) / 3, f"w{i}"))
        for name in ("scale", "bias", "mean", "var"):
            numbers = RNG.uniform(0.5, 1.5, 16).astype(np.float32)
            tensors.append(numpy_helper.from_array(numbers, f"{name}{i}"))
        norm = [f"{name}{i}" for name in ("scale", "bias", "mean", "var")]
        nodes += [
            helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1] * 4),
            helper.make_node("BatchNormalization", [f"c{i}", *norm], [f"n{i}"], f"norm{i}"),
            helper.make_node("Relu", [f"n{i}"], [f"r{i}"], f"relu{i}"),
        ]
        value = f"r{i}"
    info = helper.make_tensor_value_info
    shape = [1, 16, 24, 24]
    element = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "g", [info("x", element, shape)], [info(value, element, shape)], tensors
    )
    opset = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return model


@pytest.mark.parametrize(
    "chosen", [BACKENDS["onnxruntime"], BACKENDS["reference"]], ids=lambda b: b.name
)
def test_activations_are_the_models_own(chosen: Backend) -> None:
    graph = OpGraph.build(Model.load(decided()))
    x = RNG.standard_normal((4, 16)).astype(np.float32)
    feeds: Feeds = {"x": x, "pick": np.array([1, 0, 7])}
    h = np.tanh(x @ weights(16, 16, seed=3))
    values = [value for op in graph.ops.values() for value in op.outputs]
    with (
        contextlib.closing(chosen.open("cpu", ONE_THREAD)) as context,
        capture(graph, values, feeds, context) as found,
    ):
        assert set(found) == set(values)
        np.testing.assert_allclose(found["h"], h, atol=1e-5)
        np.testing.assert_allclose(found["z"], -h, atol=1e-5)
        assert found["next"].tolist() == [2, 0, 14]
        assert found["next"].dtype == np.int64
        assert found["over"].dtype == np.bool_


def test_every_distinct_block_is_timed(backend: Backend, onnxruntime: Backend) -> None:
    graph = OpGraph.build(Model.load(convolutions()))
    blocks = find_blocks(graph)
    distinct = distinct_blocks(blocks)
    assert len(distinct) < len(blocks)
    feeds: Feeds = {"x": RNG.standard_normal((1, 16, 24, 24)).astype(np.float32)}
    values = [value for block in blocks for value in stage_io(graph, block.ops)[0]]
    with (
        contextlib.closing(onnxruntime.open("cpu", ONE_THREAD)) as reference,
        capture(graph, values, feeds, reference) as activations,
        contextlib.closing(backend.open("cpu", ONE_THREAD)) as context,
    ):
        found = profile_blocks(
            graph,
            blocks,
            {"target": (context, Precisions())},
            activations,
            budget=lambda: 60.0,
            known=lambda key: None,
            keep=lambda key, timing: None,
            each_s=0.3,
        )
    assert set(found) == {(d.structure_hash, "target") for d in distinct}
    for timing in found.values():
        assert isinstance(timing, BlockTiming)
        assert timing.p50_ms > 0.001
        assert timing.runs >= 1


@pytest.mark.parametrize(
    "chosen", [BACKENDS["onnxruntime"], BACKENDS["openvino"]], ids=lambda b: b.name
)
def test_every_block_has_its_share_of_the_whole(chosen: Backend) -> None:
    graph = OpGraph.build(Model.load(convolutions()))
    blocks = {block.id: block.ops for block in find_blocks(graph)}
    feeds: Feeds = {"x": RNG.standard_normal((1, 16, 24, 24)).astype(np.float32)}
    with contextlib.closing(chosen.open("cpu", ONE_THREAD)) as context:
        times = profile_executable(context, graph.model, Precisions(), feeds, seconds=0.2)
    work = {op: float(info.flops or 0) for op, info in graph.ops.items()}
    found = in_context(times, blocks, 8.0, work)
    assert sum(found.values()) == pytest.approx(8.0)
    assert all(ms > 0.5 for ms in found.values())  # equal blocks, so about 2 each


def test_a_batch_norm_that_became_a_convolution_has_its_time(onnxruntime: Backend) -> None:
    """ONNX Runtime names it after its value with ``_bn_nchwc``."""
    model = parse("""
        g (float[1, 16, 24, 24] x) => (float[1, 16, 24, 24] y) {
            a = Conv <pads: ints = [1, 1, 1, 1]> (x, w)
            r = Relu(a)
            n = BatchNormalization(r, s, b, m, v)
            k = Relu(n)
            y = Conv <pads: ints = [1, 1, 1, 1]> (k, w)
        }
    """)
    numbers = {name: RNG.uniform(0.5, 1.5, 16).astype(np.float32) for name in "sbmv"}
    made = Model.load(with_weights(model, w=weights(16, 16, 3, 3), **numbers))
    feeds: Feeds = {"x": RNG.standard_normal((1, 16, 24, 24)).astype(np.float32)}
    with contextlib.closing(onnxruntime.open("cpu", ONE_THREAD)) as context:
        times = profile_executable(context, made, Precisions(), feeds, seconds=0.05)
    assert {op for time in times for op in time.ops} == set(made.op_ids)
    assert all(time.ops for time in times if not time.op_type.startswith("Reorder"))
