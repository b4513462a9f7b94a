from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from benchmarks.zoo.base import Feed
from benchmarks.zoo.pair import half, joined_feed, side_by_side
from dioe.graph import Model, OpGraph, find_blocks
from dioe.types import Array, ModelError

RNG = np.random.default_rng(29)

FIRST = """
<ir_version: 8, opset_import: ["" : 17]>
first (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}>
{ h = MatMul (x, w)  y = Relu (h) }
"""
SECOND = """
<ir_version: 7, opset_import: ["" : 17]>
second (float[N, 2] x) => (float[N, 2] y, float[N, 2] z) <float[2, 2] w = {1, -1, 2, 3}>
{ y = MatMul (x, w)  z = Tanh (y) }
"""


def parts() -> dict[str, onnx.ModelProto]:
    return {"a_": onnx.parser.parse_model(FIRST), "b_": onnx.parser.parse_model(SECOND)}


def outputs_of(model: onnx.ModelProto, feed: Feed) -> dict[str, Array]:
    names = [output.name for output in model.graph.output]
    found = ReferenceEvaluator(model).run(names, feed)
    return dict(zip(names, map(np.asarray, found), strict=True))


def feed_of(rows: int, columns: int) -> Feed:
    return {"x": RNG.normal(size=(rows, columns)).astype(np.float32)}


def test_models_side_by_side_answer_as_they_do_alone() -> None:
    models = parts()
    joined = side_by_side(models)
    onnx.checker.check_model(joined, full_check=True)
    assert [value.name for value in joined.graph.input] == ["a_x", "b_x"]
    assert [value.name for value in joined.graph.output] == ["a_y", "b_y", "b_z"]
    feeds = {"a_": feed_of(2, 4), "b_": feed_of(5, 2)}  # each N is its own
    together = outputs_of(joined, joined_feed(feeds))
    for prefix, model in models.items():
        for name, array in outputs_of(model, feeds[prefix]).items():
            np.testing.assert_array_equal(together[prefix + name], array)


def test_same_symbol_in_two_models_is_two_sizes() -> None:
    joined = side_by_side(parts())
    symbols = [value.type.tensor_type.shape.dim[0].dim_param for value in joined.graph.input]
    assert symbols == ["a_N", "b_N"]


def test_blocks_of_one_half_come_before_those_of_the_other() -> None:
    graph = OpGraph.build(Model.load(side_by_side(parts())))
    owners = [{op[:2] for op in block.ops} for block in find_blocks(graph)]
    assert owners == [{"a_"}, {"b_"}]


def test_half_runs_on_its_own_feed_and_gives_its_own_outputs() -> None:
    models = parts()
    joined = side_by_side(models)
    own, other = feed_of(3, 2), feed_of(2, 4)

    def run(feed: Feed) -> Mapping[str, Array]:
        return outputs_of(joined, feed)

    found = half(run, "b_", {"a_": other})(own)
    assert list(found) == ["y", "z"]
    for name, array in outputs_of(models["b_"], own).items():
        np.testing.assert_array_equal(found[name], array)


def test_different_opsets_and_no_models_are_refused() -> None:
    models = parts()
    models["b_"].opset_import[0].version = 16
    with pytest.raises(ModelError, match="same opsets"):
        side_by_side(models)
    with pytest.raises(ModelError):
        side_by_side({})
