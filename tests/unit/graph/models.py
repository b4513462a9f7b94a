"""Small models that the tests of the graph package share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def parse(text: str) -> onnx.ModelProto:
    """A model in ONNX's text form, IR version 8 and opset 17 put in front."""
    return onnx.parser.parse_model(f"{HEAD}\n{text}")


def weights(seed: int, *shape: int, name: str = "") -> onnx.TensorProto:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape).astype(np.float32) / np.sqrt(max(shape[-1], 1))
    return numpy_helper.from_array(values.astype(np.float32), name)


def scalar(value: float, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Mapping[str, Sequence[int | str | None] | None],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = 17,
    element: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of float (or ``element``) inputs and float outputs."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, element, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def conv_net() -> onnx.ModelProto:
    """Conv, BatchNormalization and hard-swish written out; pooling; Conv and residual; a head."""
    scalars = {"three": 3.0, "zero": 0.0, "six": 6.0}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "s", "b", "m", "v"], ["n1"], name="bn"),
        helper.make_node("Add", ["n1", "three"], ["a1"], name="shift"),
        helper.make_node("Clip", ["a1", "zero", "six"], ["k1"], name="clip"),
        helper.make_node("Mul", ["n1", "k1"], ["m1"], name="gate"),
        helper.make_node("Div", ["m1", "six"], ["d1"], name="scale"),
        helper.make_node("Conv", ["d1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "d1"], ["r"], name="residual"),
        helper.make_node("Relu", ["r"], ["y1"], name="relu"),
        helper.make_node("GlobalAveragePool", ["y1"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="gemm"),
    ]
    tensors = [
        weights(1, 4, 3, 3, 3, name="w1"),
        weights(2, 4, 4, 3, 3, name="w2"),
        weights(3, 4, 5, name="w3"),
        weights(4, 5, name="b3"),
        *(weights(5 + i, 4, name=name) for i, name in enumerate("sbm")),
        numpy_helper.from_array(np.linspace(0.5, 1.5, 4, dtype=np.float32), "v"),
        *(scalar(value, name) for name, value in scalars.items()),
    ]
    return model(nodes, {"x": ["n", 3, "h", "w"]}, {"y": ["n", 5]}, tensors)


def attention_net(layers: int = 2) -> onnx.ModelProto:
    """Transformer layers with decomposed attention, layer normalisation and GELU, over tokens."""
    width, hidden = 8, 16
    nodes = [helper.make_node("Gather", ["table", "ids"], ["h0"], name="embed")]
    tensors = [
        weights(0, 32, width, name="table"),
        scalar(width**-0.5, "scale"),
        scalar(2.0, "two"),
        scalar(1e-5, "eps"),
        scalar(2**0.5, "root2"),
        scalar(1.0, "one"),
        scalar(0.5, "half"),
    ]
    for i in range(layers):
        h = f"h{i}"
        for j, part in enumerate("qkv"):
            tensors.append(weights(10 * i + j + 1, width, width, name=f"w{part}{i}"))
            nodes.append(_node("MatMul", [h, f"w{part}{i}"], f"{part}{i}"))
        tensors += [
            weights(10 * i + 4, width, name=f"g{i}"),
            weights(10 * i + 5, width, name=f"beta{i}"),
            weights(10 * i + 6, width, hidden, name=f"wu{i}"),
            weights(10 * i + 7, hidden, name=f"bu{i}"),
            weights(10 * i + 8, hidden, width, name=f"wd{i}"),
        ]
        nodes += [
            helper.make_node(
                "Transpose", [f"k{i}"], [f"kt{i}"], name=f"Transpose_kt{i}", perm=[0, 2, 1]
            ),
            _node("MatMul", [f"q{i}", f"kt{i}"], f"scores{i}"),
            _node("Mul", [f"scores{i}", "scale"], f"scaled{i}"),
            helper.make_node("Softmax", [f"scaled{i}"], [f"p{i}"], name=f"Softmax_p{i}", axis=-1),
            _node("MatMul", [f"p{i}", f"v{i}"], f"o{i}"),
            _node("Add", [f"o{i}", h], f"x{i}"),
            _mean(f"x{i}", f"mean{i}"),
            _node("Sub", [f"x{i}", f"mean{i}"], f"d{i}"),
            _node("Pow", [f"d{i}", "two"], f"sq{i}"),
            _mean(f"sq{i}", f"var{i}"),
            _node("Add", [f"var{i}", "eps"], f"ve{i}"),
            _node("Sqrt", [f"ve{i}"], f"std{i}"),
            _node("Div", [f"d{i}", f"std{i}"], f"norm{i}"),
            _node("Mul", [f"norm{i}", f"g{i}"], f"ng{i}"),
            _node("Add", [f"ng{i}", f"beta{i}"], f"ln{i}"),
            _node("MatMul", [f"ln{i}", f"wu{i}"], f"u{i}"),
            _node("Add", [f"u{i}", f"bu{i}"], f"ub{i}"),
            _node("Div", [f"ub{i}", "root2"], f"ur{i}"),
            _node("Erf", [f"ur{i}"], f"ue{i}"),
            _node("Add", [f"ue{i}", "one"], f"u1{i}"),
            _node("Mul", [f"ub{i}", f"u1{i}"], f"um{i}"),
            _node("Mul", [f"um{i}", "half"], f"gelu{i}"),
            _node("MatMul", [f"gelu{i}", f"wd{i}"], f"down{i}"),
            _node("Add", [f"down{i}", f"ln{i}"], f"h{i + 1}"),
        ]
    return model(
        nodes,
        {"ids": ["batch", "tokens"]},
        {f"h{layers}": ["batch", "tokens", width]},
        tensors,
        element=TensorProto.INT64,
    )


def _node(op: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=f"{op}_{output}")


def _mean(source: str, output: str) -> onnx.NodeProto:
    name = f"ReduceMean_{output}"
    return helper.make_node("ReduceMean", [source], [output], name=name, axes=[-1], keepdims=1)


def control_net() -> onnx.ModelProto:
    """An If and a Loop whose bodies read values and weights of the main graph."""
    return parse("""
        test (float[2,4] x, bool flag) => (float[2,4] y)
        <float[4,4] w = {0.5,-1,0.25,1, 1,0.5,-0.5,0, 0.1,0.2,0.3,0.4, -0.3,0.7,0.2,-0.6},
         int64 trips = {3}, bool go = {1}>
        {
          [first] a = Relu (x)
          [second] b = MatMul (x, w)
          [branch] c = If (flag) <
            then_branch = yes () => (float[2,4] t) { t1 = Add (a, b)  t = MatMul (t1, w) },
            else_branch = no () => (float[2,4] e) { e = Mul (a, b) }
          >
          [loop] d = Loop (trips, go, c) <
            body = turn (int64 i, bool on, float[2,4] s) => (bool same, float[2,4] n)
              { same = Identity (on)  n1 = Add (s, b)  n = Tanh (n1) }
          >
          [last] y = Add (d, a)
        }
    """)


def reference(proto: onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs by ``onnx.reference``."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(proto)
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))
