from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Block, Model, OpGraph, find_blocks, is_convex, quotient
from tests.unit.graph import models


def blocks_of(proto: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> tuple[Block, ...]:
    graph = OpGraph.build(Model.load(proto), shapes)
    blocks = find_blocks(graph)
    assert sorted(op for block in blocks for op in block.ops) == sorted(graph.ops)
    assert all(is_convex(graph, block.ops) for block in blocks)
    result = quotient(graph, [block.ops for block in blocks])
    assert all(source < target for source, target in result.edges), "not in topological order"
    return blocks


def block_with(blocks: Sequence[Block], op: str) -> Block:
    return next(block for block in blocks if op in block.ops)


def test_a_convolution_takes_what_backends_fuse_into_it() -> None:
    blocks = blocks_of(models.conv_net(), {"x": (1, 3, 8, 8)})
    first = block_with(blocks, "conv1")
    assert first.ops == ("conv1", "bn", "shift", "clip", "gate", "scale")
    assert first.kind == "conv"
    assert {"conv2", "residual", "relu"} <= set(block_with(blocks, "conv2").ops)
    assert block_with(blocks, "gemm").kind == "matmul"
    assert len(blocks) == 3


def test_transformer_parts_are_found_and_layers_repeat() -> None:
    blocks = blocks_of(models.attention_net(layers=3), {"ids": (1, 6)})
    for i in range(3):
        attention = block_with(blocks, f"Softmax_p{i}")
        assert attention.kind == "attention"
        assert {f"MatMul_scores{i}", f"Mul_scaled{i}", f"MatMul_o{i}"} <= set(attention.ops)
        norm = block_with(blocks, f"Sqrt_std{i}")
        assert norm.kind == "layernorm"
        parts = ("ReduceMean_mean", "Sub_d", "Pow_sq", "ReduceMean_var", "Add_ve", "Div_norm")
        assert {f"{part}{i}" for part in (*parts, "Mul_ng", "Add_ln")} <= set(norm.ops)
        up = block_with(blocks, f"MatMul_u{i}")
        assert up.kind == "matmul"
        assert {f"{part}{i}" for part in ("Add_ub", "Erf_ue", "Mul_um", "Mul_gelu")} <= set(up.ops)
    hashes = [
        [
            block_with(blocks, f"{op}{i}").structure_hash
            for op in ("Softmax_p", "Sqrt_std", "MatMul_u")
        ]
        for i in range(3)
    ]
    assert hashes[1] == hashes[2]
    assert len(set(hashes[1])) == 3


def test_the_hash_leaves_out_names_and_weights_and_keeps_the_rest() -> None:
    def hashes(proto: onnx.ModelProto, size: int = 8) -> list[str]:
        blocks = blocks_of(proto, {"x": (1, 3, size, size)})
        return [block.structure_hash for block in blocks]

    plain = hashes(models.conv_net())
    renamed = models.conv_net()
    for node in renamed.graph.node:
        node.name = f"other/{node.name}"
    renamed.graph.initializer[0].CopyFrom(models.weights(99, 4, 3, 3, 3, name="w1"))
    assert hashes(renamed) == plain
    assert not set(hashes(models.conv_net(), 10)) & set(plain[:2]), "shapes count"
    padded = models.conv_net()
    padded.graph.node[0].attribute[0].ints[:] = [0, 0, 0, 0]
    assert hashes(padded)[0] != plain[0], "attributes count"
    swapped = models.conv_net()
    swapped.graph.node[5].input[:] = ["six", "m1"]
    assert hashes(swapped)[0] != plain[0], "wiring counts"


def test_dq_op_q_stay_together() -> None:
    scale = models.scalar(0.1, "s")
    zero = numpy_helper.from_array(np.array(3, np.uint8), "z")
    quantised = [
        numpy_helper.from_array(
            np.random.default_rng(i).integers(0, 9, (4, 4, 3, 3)).astype(np.uint8), f"w{i}"
        )
        for i in range(2)
    ]
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q0"], name="q0")]
    for i, after in enumerate(["q1", "q2"]):
        nodes += [
            helper.make_node("DequantizeLinear", [f"q{i}", "s", "z"], [f"d{i}"], name=f"d{i}"),
            helper.make_node("DequantizeLinear", [f"w{i}", "s", "z"], [f"v{i}"], name=f"v{i}"),
            helper.make_node(
                "Conv", [f"d{i}", f"v{i}"], [f"c{i}"], name=f"c{i}", pads=[1, 1, 1, 1]
            ),
            helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"r{i}"),
            helper.make_node("QuantizeLinear", [f"r{i}", "s", "z"], [after], name=after),
        ]
    nodes.append(helper.make_node("DequantizeLinear", ["q2", "s", "z"], ["y"], name="end"))
    proto = models.model(nodes, {"x": [1, 4, 8, 8]}, {"y": None}, [scale, zero, *quantised])
    blocks = blocks_of(proto, {})
    for i in range(2):
        block = block_with(blocks, f"c{i}")
        assert {f"d{i}", f"v{i}", f"c{i}", f"r{i}", f"q{i + 1}"} <= set(block.ops)
        assert block.kind == "quantized"


def test_weights_made_from_constants_go_with_their_reader() -> None:
    integers = numpy_helper.from_array(
        np.random.default_rng(0).integers(-9, 9, (4, 4)).astype(np.int8), "w"
    )
    nodes = [
        helper.make_node("Cast", ["w"], ["f"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Mul", ["f", "s"], ["d"], name="mul"),
        helper.make_node("MatMul", ["r", "d"], ["y"], name="mm"),
    ]
    proto = models.model(nodes, {"x": [2, 4]}, {"y": [2, 4]}, [integers, models.scalar(0.1, "s")])
    assert {"cast", "mul", "mm"} <= set(block_with(blocks_of(proto, {}), "mm").ops)


def test_shared_constants_make_no_cycle() -> None:
    nodes = [helper.make_node("Neg", ["w"], ["n"], name="neg")]
    for i in range(3):
        source = "x" if i == 0 else f"m{i - 1}"
        nodes.append(helper.make_node("MatMul", [source, "n"], [f"m{i}"], name=f"mm{i}"))
    weight = models.weights(0, 4, 4, name="w")
    assert len(blocks_of(models.model(nodes, {"x": [2, 4]}, {"m2": [2, 4]}, [weight]), {})) == 3


@pytest.mark.parametrize(
    ("op", "kind"), [("Erf", "gelu"), ("Relu", "elementwise"), ("MaxPool", "other")]
)
def test_a_model_without_work_is_one_block(op: str, kind: str) -> None:
    attributes = {"kernel_shape": [2, 2]} if op == "MaxPool" else {}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="t"),
        helper.make_node(op, ["t"], ["y"], name="op", **attributes),  # type: ignore[arg-type]
    ]
    blocks = blocks_of(models.model(nodes, {"x": [4, 4, 2, 2]}, {"y": None}), {})
    assert [block.kind for block in blocks] == [kind]


def test_control_flow_and_custom_ops_start_blocks() -> None:
    assert [b.kind for b in blocks_of(models.control_net(), {})] == ["matmul", "control", "control"]
    proto = models.conv_net()
    proto.graph.node[8].domain = "my.own"
    proto.opset_import.append(helper.make_opsetid("my.own", 1))
    assert block_with(blocks_of(proto, {"x": (1, 3, 8, 8)}), "relu").ops[0] == "relu"
