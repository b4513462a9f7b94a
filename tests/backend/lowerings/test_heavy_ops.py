"""What holds of every op that does the heavy computing: it can be captured as one graph with its
shapes bound, computes in bf16 and fp16, and leaves its operands alone."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from dioe_torch.lowerings import link, to_tensor
from dioe_torch.program import raw_constant
from tests.backend.lowerings.against import Feed, model_of, program, randoms

Example = tuple[str, list[Feed], tuple[int, ...], dict[str, Any]]

IMAGE, WEIGHT = randoms(2, 4, 9, 8), randoms(6, 4, 3, 3) * np.float32(0.2)
WINDOW: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 1]}
UNEVEN: dict[str, Any] = {**WINDOW, "pads": [1, 0, 0, 1]}


def _recurrent(op: str, gates: int, **attributes: Any) -> Example:
    weights: list[Feed] = [
        randoms(2, gates * 6, 4, seed=1), randoms(2, gates * 6, 6, seed=2) * np.float32(0.4),
        randoms(2, 2 * gates * 6, seed=3),
    ]  # fmt: skip
    attributes = {"hidden_size": 6, "direction": "bidirectional", "opset": 14, **attributes}
    return op, [randoms(5, 3, 4), *weights], (1, 2, 3), attributes


def _with_lengths(example: Example) -> Example:
    op, given, constant, attributes = example
    return op, [*given, np.array([2, 5, 4], np.int32)], constant, attributes


EXAMPLES: dict[str, Example] = {
    "matmul": ("MatMul", [randoms(2, 3, 8), randoms(8, 5)], (1,), {}),
    "gemm": ("Gemm", [randoms(3, 8), randoms(5, 8), randoms(5)], (1, 2), {"transB": 1}),
    "einsum": ("Einsum", [randoms(2, 3), randoms(3, 4)], (), {"equation": "ij,jk"}),
    "conv": ("Conv", [IMAGE, WEIGHT, randoms(6)], (1, 2), {"pads": [1, 1, 1, 1]}),
    "conv uneven": ("Conv", [IMAGE, WEIGHT], (1,), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    "conv same": ("Conv", [IMAGE, WEIGHT], (), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "convtranspose": ("ConvTranspose", [IMAGE, randoms(4, 3, 2, 2)], (1,), {"strides": [2, 2]}),
    "convtranspose shaped": (
        "ConvTranspose", [IMAGE, randoms(4, 3, 3, 3), randoms(3)], (1, 2),
        {"strides": [2, 2], "output_shape": [18, 17]},
    ),
    "deformconv": ("DeformConv", [IMAGE, WEIGHT, randoms(2, 18, 7, 6)], (1,), {}),
    "col2im": ("Col2Im", [randoms(2, 12, 20), np.array([6, 5]), np.array([2, 2])], (1, 2), {}),
    "col2im uneven": (
        "Col2Im", [randoms(2, 12, 24), np.array([6, 5]), np.array([2, 2])], (1, 2),
        {"pads": [1, 0, 0, 0]},
    ),
    "maxpool": ("MaxPool", [IMAGE], (), WINDOW),
    "maxpool uneven": ("MaxPool", [IMAGE], (), UNEVEN),
    "averagepool": ("AveragePool", [IMAGE], (), WINDOW),
    "averagepool uneven": ("AveragePool", [IMAGE], (), UNEVEN),
    "averagepool dilated": ("AveragePool", [IMAGE], (), {**WINDOW, "dilations": [2, 1]}),
    "lppool": ("LpPool", [IMAGE], (), UNEVEN),
    "globalaveragepool": ("GlobalAveragePool", [IMAGE], (), {}),
    "globalmaxpool": ("GlobalMaxPool", [IMAGE], (), {}),
    "globallppool": ("GlobalLpPool", [IMAGE], (), {}),
    "rnn": _recurrent("RNN", 1),
    "gru": _recurrent("GRU", 3, linear_before_reset=1),
    "gru by steps": _recurrent("GRU", 3),
    "lstm": _recurrent("LSTM", 4),
    "lstm of lengths": _with_lengths(_recurrent("LSTM", 4)),
    "gru of lengths by steps": _with_lengths(_recurrent("GRU", 3)),
    "lstm by steps": _recurrent("LSTM", 4, clip=5.0),
    "attention": (
        "Attention", [randoms(2, 6, 4, 8), randoms(2, 2, 4, 8), randoms(2, 2, 4, 8)], (),
        {"is_causal": 1, "opset": 23},
    ),
    "attention masked": (
        "Attention",
        [randoms(2, 2, 4, 8), randoms(2, 2, 5, 8), randoms(2, 2, 5, 8), randoms(4, 5)], (),
        {"softcap": 3.0, "opset": 23},
    ),
    "rotaryembedding": (
        "RotaryEmbedding",
        [randoms(2, 3, 5, 8), randoms(9, 4), randoms(9, 4), np.arange(10).reshape(2, 5) % 9],
        (), {"opset": 23},
    ),
    "dft": ("DFT", [randoms(2, 8, 1), None, np.array(1)], (2,), {"onesided": 1}),
    "stft": ("STFT", [randoms(2, 60, 1), np.array(8), randoms(16)], (1,), {}),
    "matmulinteger": (
        "MatMulInteger", [randoms(3, 400, dtype=np.uint8), randoms(400, 5, dtype=np.uint8)], (1,),
        {},
    ),
    "qlinearconv": (
        "QLinearConv",
        [
            randoms(1, 40, 6, 6, dtype=np.uint8), np.array(0.02, np.float32), np.array(9, np.uint8),
            randoms(8, 40, 3, 3, dtype=np.int8), np.full(8, 0.01, np.float32), np.zeros(8, np.int8),
            np.array(0.3, np.float32), np.array(100, np.uint8),
        ],
        (1, 2, 3, 4, 5, 6, 7), {},
    ),
}  # fmt: skip


def linked(example: Example, precision: str = "fp32") -> tuple[Any, list[torch.Tensor]]:
    op, feeds, constant, attributes = example
    attributes = dict(attributes)
    model = model_of(op, feeds, attributes.pop("opset", 20), ("Y",), constant, **attributes)
    found = program(model)
    ops = tuple(each._replace(precision=precision) for each in found.ops)
    inputs = [
        to_tensor(raw_constant(str(feed.dtype).replace("float32", "float"), feed))
        for i, feed in enumerate(feeds)
        if feed is not None and i not in constant
    ]
    return link(found._replace(ops=ops, output_dtypes=()), torch.device("cpu")), inputs


@pytest.mark.parametrize("name", EXAMPLES)
def test_captured_with_its_shapes(name: str) -> None:
    one, inputs = linked(EXAMPLES[name])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = make_fx(
            lambda *values: one.run(values), tracing_mode="fake", _allow_non_fake_inputs=True
        )(*inputs)
        (wanted,) = one.run(inputs)
        (got,) = graph(*[each + 0 for each in inputs])
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_reduced_precisions(name: str, precision: str) -> None:
    one, inputs = linked(EXAMPLES[name])
    other, _ = linked(EXAMPLES[name], precision)
    copies = [each.clone() for each in inputs]
    with torch.no_grad():
        (wanted,), (got,) = one.run(inputs), other.run(inputs)
    for each, copy in zip(inputs, copies, strict=True):
        torch.testing.assert_close(each, copy, rtol=0, atol=0)
    assert got.dtype == wanted.dtype
    error = (got.double() - wanted.double()).norm() / wanted.double().norm()
    assert error < (0.03 if precision == "bf16" else 0.005)
