from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from onnx import helper, numpy_helper

from dioe.graph import Model, OpGraph
from dioe.types import InputError
from tests.unit.graph import models


@pytest.fixture(scope="module")
def graph() -> OpGraph:
    return OpGraph.build(Model.load(models.conv_net()), {"x": (2, 3, 8, 6)})


def test_ops_have_shapes_flops_and_bytes(graph: OpGraph) -> None:
    conv = graph.ops["conv1"]
    assert graph.values["c1"].shape == (2, 4, 8, 6)
    assert graph.values["c1"].nbytes == 2 * 4 * 8 * 6 * 4
    assert conv.flops == 2 * 384 * 27
    assert conv.parameters == 4 * 3 * 3 * 3
    assert conv.parameter_bytes == 432
    assert conv.bytes_read == 2 * 3 * 8 * 6 * 4 + 432
    assert conv.bytes_written == 1536


def test_order_and_edges_are_topological(graph: OpGraph) -> None:
    assert list(graph.digraph) == list(graph.ops) == list(graph.ids)
    assert nx.is_directed_acyclic_graph(graph.digraph)
    assert graph.digraph.edges["bn", "shift"]["values"] == ("n1",)
    assert graph.digraph.nodes["bn"]["op"] is graph.ops["bn"]
    for index, targets in enumerate(graph.successors):
        assert all(index < target for target in targets)
        assert all(index in graph.predecessors[target] for target in targets)


def test_who_makes_and_reads_a_value(graph: OpGraph) -> None:
    assert graph.producers["d1"] == "scale"
    assert graph.consumers["d1"] == ("conv2", "residual")
    assert graph.outputs == {"y"}
    assert "w1" in graph.constants


def test_shapes_may_be_given_wrong() -> None:
    with pytest.raises(InputError):
        OpGraph.build(Model.load(models.conv_net()), {"x": (2, 4, 8, 6)})


def test_without_shapes_costs_are_unknown() -> None:
    graph = OpGraph.build(Model.load(models.conv_net()))
    assert graph.ops["conv1"].flops is None
    assert graph.ops["conv1"].bytes_read is None
    assert graph.ops["conv1"].parameters == 108
    assert graph.values["y"].dtype == np.float32


def test_constant_nodes_are_parameters_not_ops() -> None:
    proto = models.parse("""test (float[2] x) => (float[2] y, float[2] k) {
      c = Constant <value_floats = [1.0, 2.0]> ()
      k = Constant <value_floats = [3.0, 4.0]> ()
      y = Add (x, c)
    }""")
    loaded = Model.load(proto)
    graph = OpGraph.build(loaded)
    assert loaded.op_ids == ("c", "k", "y")
    assert list(graph.ops) == ["k", "y"], "a constant that is an output is made by an op"
    assert graph.ops["y"].parameters == 2
    np.testing.assert_array_equal(graph.constants["c"].numpy(), [1.0, 2.0])


def test_captured_values_are_read() -> None:
    graph = OpGraph.build(Model.load(models.control_net()))
    branch, loop = graph.ops["branch"], graph.ops["loop"]
    assert branch.inputs == ("flag",)
    assert set(branch.captured) == {"a", "b", "w"}
    assert loop.captured == ("b",)
    assert set(graph.digraph.predecessors("branch")) == {"first", "second"}
    assert branch.parameters == 16
    assert loop.bytes_read == 8 + 1 + 32 + 32


def test_gather_reads_what_it_picks() -> None:
    nodes = [helper.make_node("Gather", ["w", "i"], ["y"], name="g")]
    index = numpy_helper.from_array(np.array([1, 3], np.int64), "i")
    proto = models.model(nodes, {"w": [100, 8]}, {"y": [2, 8]}, [index])
    graph = OpGraph.build(Model.load(proto))
    assert graph.ops["g"].bytes_read == 2 * 8 * 4 + 16
