from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from dioe.graph import Model, OpGraph
from dioe.types import InputError
from tests.unit.graph import models


def test_binding_leaves_the_original_and_shares_weights() -> None:
    loaded = Model.load(models.conv_net())
    before = loaded.to_bytes()
    bound = loaded.with_shapes({"x": (2, 3, 8, 6)})
    assert loaded.to_bytes() == before
    assert loaded.inputs[0].shape == ("n", 3, "h", "w")
    assert bound.inputs[0].shape == (2, 3, 8, 6)
    assert bound.outputs[0].shape == (2, 5)
    for name, value in loaded.ir.graph.initializers.items():
        assert bound.ir.graph.initializers[name].const_value is value.const_value


def test_a_symbol_is_bound_everywhere() -> None:
    proto = models.model(
        [helper.make_node("Add", ["a", "b"], ["y"], name="add")],
        {"a": ["n", "k"], "b": ["n", "k"]},
        {"y": ["n", "k"]},
    )
    bound = Model.load(proto).with_shapes({"a": (2, 5)})
    assert [spec.shape for spec in bound.inputs] == [(2, 5), (2, 5)]
    assert bound.outputs[0].shape == (2, 5)


def test_unknown_dimensions_are_no_symbol() -> None:
    proto = models.model(
        [helper.make_node("Identity", ["a"], ["y"], name="id")], {"a": ["?", "?"]}, {"y": None}
    )
    assert Model.load(proto).with_shapes({"a": (2, 5)}).outputs[0].shape == (2, 5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": (1, 2)}, "no input 'z'"),
        ({"a": (1, 2, 3)}, "rank 2, the shape given has 3"),
        ({"a": (1, 5)}, "dimension 1 of input 'a' is 4, not 5"),
        ({"a": (1, 4), "b": (2, 4)}, "'n' is 1 in input 'a' and 2 in 'b'"),
        ({"a": (-1, 4)}, "-1 is no dimension"),
        ({"a": (1.0, 4)}, "1.0 is no dimension"),
        ({"a": (2**63, 4)}, f"{2**63} is no dimension"),
        ({"a": 5}, "5 is no shape of input 'a'"),
        ({"a": "54"}, "'54' is no shape of input 'a'"),
    ],
)
def test_contradictions_are_refused(shapes: Any, message: str) -> None:
    proto = models.model(
        [helper.make_node("Add", ["a", "b"], ["y"], name="add")],
        {"a": ["n", 4], "b": ["n", 4]},
        {"y": None},
    )
    with pytest.raises(InputError, match=message) as caught:
        Model.load(proto).with_shapes(shapes)
    assert caught.value.fix


def test_dimensions_up_to_int64_can_be_bound() -> None:
    bound = Model.load(models.conv_net()).with_shapes({"x": (2**63 - 1, 3, 2**40, 2**40)})
    assert bound.inputs[0].shape == (2**63 - 1, 3, 2**40, 2**40)
    assert OpGraph.build(bound).values["x"].nbytes == 4 * 3 * (2**63 - 1) * 2**80


def test_none_and_symbols_leave_a_dimension_open() -> None:
    loaded = Model.load(models.conv_net())
    assert loaded.with_shapes({"x": (1, None, "h", 6)}).inputs[0].shape == (1, 3, "h", 6)


def test_binding_twice_is_binding_once() -> None:
    shapes = {"x": (2, 3, 8, 6)}
    bound = Model.load(models.conv_net()).with_shapes(shapes)
    assert bound.with_shapes(shapes).to_bytes() == bound.to_bytes()


def test_stale_shapes_are_forgotten() -> None:
    proto = models.conv_net()
    stale = helper.make_tensor_value_info("c1", onnx.TensorProto.FLOAT, [1, 4, 99, 99])
    proto.graph.value_info.append(stale)
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 7
    bound = Model.load(proto).with_shapes({"x": (2, 3, 8, 6)})
    assert bound.outputs[0].shape == (2, 5)
    assert bound.inferred.specs["c1"].shape == (2, 4, 8, 6)


def specs(text: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    bound = Model.load(models.parse(text)).with_shapes(shapes)
    return {name: spec.shape for name, spec in bound.inferred.specs.items()}


def test_computed_shapes_are_followed_where_inference_stops() -> None:
    found = specs(
        """test (float[n,c,h,w] x) => (float[a,b,d] y) <float half = {0.5}> {
          s = Shape (x)
          f = Cast <to = 1> (s)
          g = Mul (f, half)
          i = Cast <to = 7> (g)
          n = ReduceProd <keepdims = 1> (i)
          minus = Constant <value_ints = [-1, 2]> ()
          t = Concat <axis = 0> (minus, n)
          y = Reshape (x, t)
        }""",
        {"x": (2, 4, 6, 8)},
    )
    assert found["y"] == (8, 2, 24)


def test_a_branch_chosen_by_shapes_gives_its_shape() -> None:
    found = specs(
        """test (float[n,k] x) => (float[a,b] y) <int64 one = {1}, int64[1] zero = {0}> {
          s = Shape (x)
          k = Gather <axis = 0> (s, one)
          wide = Greater (k, one)
          y = If (wide) <
            then_branch = yes () => (float[a,b] p) { p = Identity (x) },
            else_branch = no () => (float[a] q) { q = Squeeze (x, zero) }
          >
        }""",
        {"x": (3, 4)},
    )
    assert found["y"] == (3, 4)


def test_bodies_see_outer_constants() -> None:
    bound = Model.load(
        models.parse("""test (float[n,4] x, bool f) => (float[a,b] y) {
          s = Shape (x)
          y = If (f) <
            then_branch = yes () => (float[a,b] p) { p1 = Reshape (x, s)  p = Relu (p1) },
            else_branch = no () => (float[a,b] q) { q = Expand (x, s) }
          >
        }""")
    ).with_shapes({"x": (3, 4)})
    assert bound.inferred.specs["y"].shape == (3, 4)
    assert bound.inferred.bodies["y", "then_branch"].specs["p1"].shape == (3, 4)
    assert bound.outputs[0].shape == (3, 4)


def test_large_weights_are_not_needed() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")]
    tensor = models.weights(0, 100, 90, name="w")
    proto = models.model(nodes, {"x": ["n", 100]}, {"y": None}, [tensor])
    assert Model.load(proto).with_shapes({"x": (7, 100)}).outputs[0].shape == (7, 90)


def test_types_survive_where_shapes_fail() -> None:
    proto = models.parse("""test (float[n,4] x, int64[m] s) => (float[a] y) {
      r = Reshape (x, s)
      t = Transpose (r)
      g = Greater (t, r)
      c = Cast <to = 10> (t)
      y = Cast <to = 1> (c)
    }""")
    found = Model.load(proto).inferred.specs
    assert found["t"].dtype == np.float32
    assert found["g"].dtype == np.bool_
    assert found["c"].dtype == np.float16
