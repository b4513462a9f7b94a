"""Networks and latencies that others published for cards, to hold rooflines against.

The networks are built for their shapes alone: weights are inputs, so nothing large is made.
ResNet-50: K. He and others, Deep Residual Learning (arXiv:1512.03385), with the stride in the 3×3
convolutions; VGG-16: K. Simonyan, A. Zisserman (arXiv:1409.1556), configuration D; SqueezeNet 1.0:
F. Iandola and others (arXiv:1602.07360).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, helper


class _Net:
    """A network being built, in fp32, for one batch size."""

    def __init__(self, batch: int, side: int = 224) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._batch = batch
        self._inputs = [_info("x", (batch, 3, side, side))]

    def conv(
        self, x: str, channels: tuple[int, int], kernel: int, *, stride: int = 1, pad: int = 0,
        relu: bool = True,
    ) -> str:  # fmt: skip
        """A convolution (batch normalisation is folded into it), and its activation."""
        y = self._op(
            "Conv", x, self._weight((channels[1], channels[0], kernel, kernel)),
            self._weight((channels[1],)), kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[pad] * 4,
        )  # fmt: skip
        return self.relu(y) if relu else y

    def relu(self, x: str) -> str:
        return self._op("Relu", x)

    def add(self, x: str, y: str) -> str:
        return self._op("Add", x, y)

    def concat(self, x: str, y: str) -> str:
        return self._op("Concat", x, y, axis=1)

    def pool(self, x: str, kernel: int, stride: int, pad: int = 0, *, ceil: bool = False) -> str:
        return self._op(
            "MaxPool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
            ceil_mode=int(ceil),
        )  # fmt: skip

    def mean(self, x: str) -> str:
        return self._op("Flatten", self._op("GlobalAveragePool", x))

    def flat(self, x: str) -> str:
        return self._op("Flatten", x)

    def dense(self, x: str, features: tuple[int, int], *, relu: bool = False) -> str:
        before, after = features
        weight, bias = self._weight((after, before)), self._weight((after,))
        y = self._op("Gemm", x, weight, bias, transB=1)
        return self.relu(y) if relu else y

    def model(self, output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes, "net", self._inputs, [onnx.ValueInfoProto(name=output)]
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _weight(self, shape: tuple[int, ...]) -> str:
        name = f"w{len(self._inputs)}"
        self._inputs.append(_info(name, shape))
        return name


def _info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def resnet50(batch: int) -> onnx.ModelProto:
    """ResNet-50 at 224 x 224: 8.2 GFLOP a picture, a multiply-add counting 2."""
    net = _Net(batch)
    x = net.pool(net.conv("x", (3, 64), 7, stride=2, pad=3), 3, 2, 1)
    width = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        inner, outer = 64 << stage, 256 << stage
        for block in range(depth):
            stride = 2 if block == 0 and stage else 1
            y = net.conv(x, (width, inner), 1)
            y = net.conv(y, (inner, inner), 3, stride=stride, pad=1)
            y = net.conv(y, (inner, outer), 1, relu=False)
            if block == 0:
                x = net.conv(x, (width, outer), 1, stride=stride, relu=False)
            x, width = net.relu(net.add(y, x)), outer
    return net.model(net.dense(net.mean(x), (2048, 1000)))


def vgg16(batch: int) -> onnx.ModelProto:
    """VGG-16 at 224 x 224: 31 GFLOP a picture."""
    net = _Net(batch)
    x, width = "x", 3
    for channels, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            x, width = net.conv(x, (width, channels), 3, pad=1), channels
        x = net.pool(x, 2, 2)
    x = net.dense(net.flat(x), (512 * 7 * 7, 4096), relu=True)
    return net.model(net.dense(net.dense(x, (4096, 4096), relu=True), (4096, 1000)))


def squeezenet(batch: int) -> onnx.ModelProto:
    """SqueezeNet 1.0 at 224 x 224: 1.5 GFLOP a picture."""
    net = _Net(batch)
    x = net.pool(net.conv("x", (3, 96), 7, stride=2), 3, 2, ceil=True)
    width = 96
    for number, narrow in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if number in (3, 7):
            x = net.pool(x, 3, 2, ceil=True)
        y, wide = net.conv(x, (width, narrow), 1), 4 * narrow
        x = net.concat(net.conv(y, (narrow, wide), 1), net.conv(y, (narrow, wide), 3, pad=1))
        width = 2 * wide
    return net.model(net.mean(net.conv(x, (width, 1000), 1)))


@dataclass(frozen=True, slots=True)
class Published:
    """A latency that somebody published. ``batch`` and ``precision`` are None where the page
    doesn't say, ``ms`` is of a whole batch."""

    device: str
    network: str
    build: Callable[[int], onnx.ModelProto]
    ms: float
    batch: int | None
    precision: str | None
    source: str


_PADDLE_LITE = "https://paddlepaddle.org.cn/inference/demo_guides/cambricon_mlu.html"
_PADDLE = (
    "https://paddlepaddle.org.cn/inference/guides/benchmark/benchmark_gpu.html (TensorRT 8.0.3.4)"
)
_README = "a public README for the card"

PUBLISHED = (
    Published("mlu370-s4", "ResNet-50", resnet50, 5.35, None, None, _PADDLE_LITE),
    Published("mlu370-s4", "VGG-16", vgg16, 8.94, None, None, _PADDLE_LITE),
    Published("mlu370-s4", "SqueezeNet", squeezenet, 1.23, None, None, _PADDLE_LITE),
    Published("mlu370-x4", "ResNet-50", resnet50, 32 / 4390 * 1e3, 32, "fp16", _README),
    Published("mlu370-x4", "ResNet-50", resnet50, 64 / 5134 * 1e3, 64, "fp16", _README),
    Published("t4", "ResNet-50", resnet50, 3.5244, 1, "fp32", _PADDLE),
    Published("t4", "ResNet-50", resnet50, 9.3702, 4, "fp32", _PADDLE),
    Published("t4", "ResNet-50", resnet50, 1.3045, 1, "fp16", _PADDLE),
    Published("t4", "ResNet-50", resnet50, 3.1821, 4, "fp16", _PADDLE),
)
"""Latencies and rates (as ms of a batch) as they are told."""
