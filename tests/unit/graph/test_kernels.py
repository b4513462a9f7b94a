"""Kernels: what is fused, what takes no time, what moves."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Kernel, Model, OpGraph, find_kernels
from dioe.types import Precision
from tests.unit.graph import models


def kernels_of(proto: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> dict[str, Kernel]:
    graph = OpGraph.build(Model.load(proto), shapes)
    found = find_kernels(graph)
    ops = [op for kernel in found for op in kernel.ops]
    assert len(ops) == len(set(ops)), "an op is in two kernels"
    assert set(ops) <= set(graph.ops)
    return {kernel.main: kernel for kernel in found}


def network(
    *lines: str, weights: dict[str, np.ndarray] | None = None, x: str = "1,16,16,16"
) -> onnx.ModelProto:
    """A model of these lines of ONNX's text form, from float x to float y."""
    text = f"agraph (float[{x}] x) => (float y) {{\n" + "\n".join(lines) + "\n}"
    graph = onnx.parser.parse_graph(text)
    for name, array in (weights or {}).items():
        graph.initializer.append(numpy_helper.from_array(array, name))
    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}{i}"
    del graph.output[0].type.tensor_type.shape.dim[:]
    graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_what_works_element_by_element_is_fused_into_what_makes_its_input() -> None:
    found = kernels_of(models.conv_net(), {"x": (1, 3, 8, 8)})
    assert found["conv1"].ops[:4] == ("conv1", "bn", "shift", "clip")
    assert found["conv1"].fused == len(found["conv1"].ops) - 1
    assert found["conv1"].op_class == "conv.few_channels"
    assert {"residual", "relu"} <= set(found["conv2"].ops)


def test_a_kernel_moves_what_crosses_its_border() -> None:
    found = kernels_of(
        network(
            "a = Conv(x, w)", "b = Relu(a)", "y = Mul(b, b)", weights={"w": weight(4, 16, 1, 1)}
        ),
        {},
    )
    (kernel,) = found.values()
    pixels = 16 * 16
    assert kernel.nbytes == 4 * (16 * pixels + 64 + 4 * pixels)
    assert kernel.float_bytes == kernel.nbytes
    assert kernel.fused_bytes == 4 * 2 * 4 * pixels
    assert kernel.flops == 2 * 4 * 16 * pixels + 2 * 4 * pixels
    assert kernel.op_class == "conv.pointwise"


def test_a_value_that_others_read_too_is_not_fused() -> None:
    found = kernels_of(
        network(
            "a = Conv(x, w)", "b = Relu(a)", "c = MaxPool<kernel_shape=[2,2]>(a)",
            "d = MaxPool<kernel_shape=[2,2]>(b)", "y = Add(c, d)",
            weights={"w": weight(4, 16, 3, 3)},
        ),
        {},
    )  # fmt: skip
    assert [kernel.op_class for kernel in found.values()] == ["conv", "elementwise", "pool", "pool"]
    assert found["MaxPool3"].ops == ("MaxPool3", "Add4")  # the later of the two


def test_an_activation_of_several_ops_is_fused() -> None:
    found = kernels_of(
        network(
            "a = Conv(x, w)", "b = Sigmoid(a)", "y = Mul(a, b)", weights={"w": weight(4, 16, 3, 3)}
        ),
        {},
    )
    assert [kernel.ops for kernel in found.values()] == [("Conv0", "Sigmoid1", "Mul2")]


def test_views_and_constants_take_no_time() -> None:
    found = kernels_of(
        network(
            "s = Constant<value_ints=[1,4096]>()", "w2 = Transpose<perm=[1,0]>(w)",
            "a = Reshape(x, s)", "b = MatMul(a, w2)", "c = Identity(b)", "y = Relu(c)",
            weights={"w": weight(10, 4096)},
        ),
        {},
    )  # fmt: skip
    (kernel,) = found.values()
    assert kernel.ops == ("MatMul3", "Relu5")
    assert kernel.op_class == "matmul.few_rows"
    assert kernel.nbytes == 4 * (4096 + 4096 * 10 + 10)


@pytest.mark.parametrize(
    ("shape", "attributes", "op_class"),
    [
        ((16, 1, 3, 3), "<group=16>", "conv.depthwise"),
        ((8, 4, 3, 3), "<group=4>", "conv.grouped"),
        ((8, 16, 1, 1), "", "conv.pointwise"),
        ((8, 16, 3, 3), "", "conv"),
    ],
)
def test_convolutions_are_told_apart(
    shape: tuple[int, ...], attributes: str, op_class: str
) -> None:
    found = kernels_of(network(f"y = Conv{attributes}(x, w)", weights={"w": weight(*shape)}), {})
    assert [kernel.op_class for kernel in found.values()] == [op_class]


@pytest.mark.parametrize(
    ("x", "attributes", "op_class"),
    [
        ("4,100", "", "matmul.few_rows"),
        ("100,4", "", "matmul"),
        ("100,4", "<transA=1>", "matmul.few_rows"),
        ("4,100", "<transA=1>", "matmul"),
    ],
)
def test_products_of_few_rows_are_told_apart(x: str, attributes: str, op_class: str) -> None:
    depth = int(x.split(",")[0 if attributes else 1])
    found = kernels_of(
        network(f"y = Gemm{attributes}(x, w)", weights={"w": weight(depth, 7)}, x=x), {}
    )
    assert [kernel.op_class for kernel in found.values()] == [op_class]


def test_attention_and_layer_normalisation_are_one_kernel_each() -> None:
    found = kernels_of(models.attention_net(layers=2), {"ids": (1, 6)})
    classes = [kernel.op_class for kernel in found.values()]
    assert classes.count("attention") == 2
    assert "layernorm" in classes


def test_quantised_work_is_in_whole_numbers() -> None:
    whole = np.random.default_rng(1).integers(-9, 9, (4, 16, 3, 3)).astype(np.int8)
    found = kernels_of(
        network(
            "q = QuantizeLinear(x, s, z)", "d = DequantizeLinear(q, s, z)",
            "w = DequantizeLinear(v, s, z)", "y = Conv(d, w)",
            weights={
                "v": whole, "s": np.array(0.1, np.float32), "z": np.array(0, np.int8),
            },
        ),
        {},
    )  # fmt: skip
    conv = found["Conv3"]
    assert conv.written is Precision.INT8
    assert conv.ops == ("Conv3",)
    pixels_in, pixels_out = 16 * 16, 14 * 14
    assert conv.nbytes == 16 * pixels_in + whole.size + 4 * 4 * pixels_out


def test_a_gather_moves_the_rows_that_it_picks() -> None:
    ids = np.array([3, 5], np.int64)
    found = kernels_of(network("y = Gather(x, i)", weights={"i": ids}, x="1000,64"), {})
    (kernel,) = found.values()
    assert kernel.op_class == "movement"
    assert kernel.nbytes < 3 * 2 * 64 * 4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["Relu", "Sigmoid", "Neg", "Conv"]), min_size=1, max_size=12))
def test_a_chain_is_one_kernel_for_each_op_that_works(kinds: list[str]) -> None:
    lines, last = [], "x"
    for i, kind in enumerate(kinds):
        out = "y" if i == len(kinds) - 1 else f"v{i}"
        lines.append(f"{out} = {kind}({last}{', w' if kind == 'Conv' else ''})")
        last = out
    found = kernels_of(network(*lines, weights={"w": weight(16, 16, 1, 1)}), {})
    starts = kinds.count("Conv") + (kinds[0] != "Conv")
    assert len(found) == starts
    assert sum(len(kernel.ops) for kernel in found.values()) == len(kinds)
