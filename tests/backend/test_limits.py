"""Ops that a provider claims and fails in the run: found without a device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model
from dioe.types import DeviceInfo
from dioe_onnxruntime.limits import refusals
from dioe_onnxruntime.providers import CPU, PLUGINS
from dioe_onnxruntime.sessions import Placed, _name
from tests.backend.cases import load, model, small_network

WEBGPU = PLUGINS["webgpu"]
HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
LACKING = Placed(WEBGPU, WEBGPU.native, DeviceInfo("gpu:0", "gpu"), float16=False)
WITH = replace(LACKING, float16=True)
CASTS = "g (float[2] x) => (float[2] y) { h = Cast<to = 10>(x) s = Add(h, h) y = Cast<to = 1>(s) }"


def test_ops_of_float16() -> None:
    made = model(CASTS)
    found = refusals(made, LACKING)
    assert found == {
        op: f"{kind} of float16: gpu:0 computes none"
        for op, kind in (("h", "Cast"), ("s", "Add"), ("y", "Cast"))
    }
    assert not refusals(made, WITH)
    assert not refusals(made, replace(LACKING, provider=CPU, float16=True))


def test_what_only_hands_float16_on_is_taken() -> None:
    made = model(
        "g (float16[2,3] x, float[2] v) => (float16[6] y, int64[2] n, float[2] w) {"
        " i = Identity(x) m = Constant<value_ints = [-1]>() y = Reshape(i, m) n = Shape(x)"
        " w = Neg(v) }"
    )
    assert not refusals(made, LACKING)


@pytest.mark.parametrize("source", ["input", "initializer", "constant"])
def test_wherever_float16_comes_from(source: str) -> None:
    info = helper.make_tensor_value_info
    half = numpy_helper.from_array(np.array([0.5, 1.5], np.float16), "h")
    nodes = [helper.make_node("Cast", ["h"], ["y"], name="up", to=FLOAT)]
    inputs, weights = [info("x", FLOAT, [2])], []
    if source == "input":
        inputs.append(info("h", HALF, [2]))
    elif source == "initializer":
        weights.append(half)
    else:
        nodes.insert(0, helper.make_node("Constant", [], ["h"], name="c", value=half))
    nodes.append(helper.make_node("Neg", ["x"], ["z"], name="other"))
    made = load(nodes, inputs, [info("y", FLOAT, [2]), info("z", FLOAT, [2])], weights)
    assert set(refusals(made, LACKING)) == {"up"}


def test_branches_count_for_their_op() -> None:
    made = model(
        "g (bool c, float[2] a) => (float[2] y, float[2] z) { y = If (c) <"
        " then_branch = p () => (float[2] t) { h = Cast<to = 10>(a) t = Cast<to = 1>(h) },"
        " else_branch = q () => (float[2] e) { e = Abs(a) }> z = Neg(a) }"
    )
    assert set(refusals(made, LACKING)) == {"y"}


def resize(antialias: int | None = None) -> Model:
    node = helper.make_node(
        "Resize", ["x", "", "s"], ["y"], mode="linear", name="r", antialias=antialias
    )
    info = helper.make_tensor_value_info
    scales = numpy_helper.from_array(np.array([1, 1, 0.5, 0.5], np.float32), "s")
    return load(
        [node], [info("x", FLOAT, [1, 1, 8, 8])], [info("y", FLOAT, [1, 1, 4, 4])], [scales]
    )


def test_attributes_that_fail() -> None:
    for placed in (LACKING, WITH):
        assert refusals(resize(antialias=1), placed) == {
            "r": "WebGpuExecutionProvider computes no Resize with antialias"
        }
        assert not refusals(resize(antialias=0), placed)
        assert not refusals(resize(), placed)
    assert not refusals(resize(antialias=1), replace(WITH, provider=CPU))


def test_other_models_are_not_asked_for_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", None)
    assert not refusals(small_network(), LACKING)


def test_nodes_of_branches_have_names_of_their_own() -> None:
    made = model(
        "g (bool c, float[2] a) => (float[2] y) { y = If (c) <"
        " then_branch = p () => (float[2] t) { n = Neg(a) t = Abs(n) },"
        " else_branch = q () => (float[2] e) { e = Abs(a) }> }"
    )
    (node,) = onnx.load_from_string(made.to_bytes()).graph.node
    _name(node, "<0>")
    names = [node.name, *(n.name for a in node.attribute for n in a.g.node)]
    assert len(set(names)) == len(names) == 4
    assert all(name.startswith("<0>") for name in names)
