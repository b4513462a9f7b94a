from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from dioe.flops import OpShapes, flops
from dioe.graph import Model, OpGraph
from tests.unit.graph import models

Shape = tuple[int, ...] | None


def count(op_type: str, inputs: list[Shape], outputs: list[Shape], **attributes: Any) -> int | None:
    return flops(OpShapes(op_type, attributes, inputs, outputs))


@pytest.mark.parametrize(
    ("op", "inputs", "output", "attributes", "expected"),
    [
        # 2 x outputs x (channels / groups x kernel), and a bias addition each
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3)], (1, 4, 8, 8), {}, 2 * 256 * 27),
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3), (4,)], (1, 4, 8, 8), {}, 2 * 256 * 27 + 256),
        ("Conv", [(1, 4, 8, 8), (4, 1, 3, 3)], (1, 4, 8, 8), {"group": 4}, 2 * 256 * 9),
        ("QLinearConv", [(1, 3, 8, 8), (), (), (4, 3, 1, 1)], (1, 4, 8, 8), {}, 2 * 256 * 3),
        # every input element goes to 5 x 2 x 2 outputs
        ("ConvTranspose", [(1, 3, 4, 4), (3, 5, 2, 2)], (1, 5, 8, 8), {}, 2 * 48 * 20),
        ("MatMul", [(2, 3, 4), (4, 5)], (2, 3, 5), {}, 2 * 2 * 3 * 4 * 5),
        ("MatMul", [(4,), (4, 5)], (5,), {}, 2 * 4 * 5),
        ("Gemm", [(3, 4), (4, 5), (5,)], (3, 5), {}, 2 * 3 * 4 * 5 + 15),
        ("Gemm", [(4, 3), (4, 5)], (3, 5), {"transA": 1}, 2 * 3 * 4 * 5),
        ("Einsum", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), {"equation": "bij,bjk->bik"}, 240),
        # 7 steps x batch 2 x (4 gates x 3 hidden x (2 (5 + 3) + 2 biases) + 9 x 3)
        ("LSTM", [(7, 2, 5), (1, 12, 5), (1, 12, 3), (1, 24)], (7, 1, 2, 3), {}, 14 * (216 + 27)),
        ("GRU", [(7, 2, 5), (1, 9, 5), (1, 9, 3)], (7, 1, 2, 3), {}, 14 * (2 * 9 * 8 + 24)),
        ("MaxPool", [(1, 2, 8, 8)], (1, 2, 4, 4), {"kernel_shape": (2, 2)}, 32 * 4),
        ("GlobalAveragePool", [(1, 2, 8, 8)], (1, 2, 1, 1), {}, 128 + 2),
        ("ReduceMean", [(2, 10)], (2, 1), {}, 22),
        ("Softmax", [(2, 10)], (2, 10), {}, 100),
        ("LayerNormalization", [(2, 10), (10,)], (2, 10), {}, 180),
        ("BatchNormalization", [(1, 2, 3, 3)], (1, 2, 3, 3), {}, 36),
        ("Relu", [(3, 4)], (3, 4), {}, 12),
        ("Sigmoid", [(3, 4)], (3, 4), {}, 48),
        ("Add", [(3, 4), (4,)], (3, 4), {}, 12),
        ("Sum", [(3,), (3,), (3,)], (3,), {}, 6),
        ("Mean", [(3,), (3,), (3,)], (3,), {}, 9),
        ("Resize", [(1, 2, 4, 4)], (1, 2, 8, 8), {"mode": "nearest"}, 0),
        ("Resize", [(1, 2, 4, 4)], (1, 2, 8, 8), {"mode": "linear"}, 128 * 3 * 3),
        ("Attention", [(1, 2, 3, 8), (1, 2, 5, 8), (1, 2, 5, 4)], (1, 2, 3, 4), {}, 30 * (24 + 6)),
        ("Reshape", [(3, 4), (2,)], (12,), {}, 0),
        ("Cast", [(3, 4)], (3, 4), {}, 0),
        ("com.microsoft::Gelu", [(3, 4)], (3, 4), {}, 60),
    ],
)
def test_flops_by_hand(
    op: str, inputs: list[Shape], output: Shape, attributes: dict[str, Any], expected: int
) -> None:
    assert count(op, inputs, [output], **attributes) == expected


def test_what_is_not_known_is_none() -> None:
    assert count("Conv", [None, (4, 3, 3, 3)], [None]) is None
    assert count("NoSuchOp", [(1,)], [(1,)]) is None
    assert count("ai.onnx.ml::Relu", [(1,)], [(1,)]) is None
    assert count("LSTM", [(2, 5), (1, 12, 5), (1, 12, 3)], [None]) is None


def test_a_body_counts_as_often_as_it_runs() -> None:
    graph = OpGraph.build(Model.load(models.control_net()))
    add, matmul, tanh, identity = 8, 2 * 2 * 4 * 4, 8, 0
    assert graph.ops["branch"].flops == add + matmul  # the dearer branch: the flag isn't known
    assert graph.ops["loop"].flops == 3 * (identity + add + tanh)


def test_a_scan_runs_once_for_each_slice() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "v"], ["t"], name="inner"),
            helper.make_node("Identity", ["t"], ["o"]),
        ],
        "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "sv"],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "to"],
    )
    nodes = [helper.make_node("Scan", ["a", "x"], ["b", "y"], "scan", body=body, num_scan_inputs=1)]
    proto = models.model(nodes, {"a": [4], "x": [6, 4]}, {"b": None, "y": None})
    assert OpGraph.build(Model.load(proto)).ops["scan"].flops == 6 * 4


def test_a_function_costs_what_its_body_costs() -> None:
    from onnx.parser import parse_model

    proto = parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        test (float[n,4] x) => (float[n,4] y)
        <float[4,4] w = {1,2,3,4, 1,2,3,4, 1,2,3,4, 1,2,3,4}>
        { [call] y = mine.layer (x, w) }
        <domain: "mine", opset_import: ["" : 17]>
        layer (a, w) => (b) { m = MatMul (a, w)  b = Relu (m) }
    """)
    graph = OpGraph.build(Model.load(proto), {"x": (3, 4)})
    assert graph.ops["call"].flops == 2 * 3 * 4 * 4 + 12
