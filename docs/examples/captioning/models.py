"""The models of the captioning example: the shapes of real ones, with random weights.

``encoder`` is a ResNet-50 (He et al., 2016) whose last feature map goes to a transformer, each of
its 49 places a vector of 512. ``decoder`` is a transformer of 6 layers (Vaswani et al., 2017) that
reads the caption so far and the picture, and gives the scores of the next word out of 10,000.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEADS, LAYERS, WORDS, LENGTH, PLACES = 512, 8, 6, 10_000, 20, 49


class Network:
    """Nodes and weights, one after the other."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int) -> str:
        """A random weight, scaled after He."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        values = self._rng.standard_normal(shape, dtype=np.float32) / np.float32(fan_in**0.5)
        return self.constant(values)

    def constant(self, values: np.ndarray) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def model(
        self, inputs: dict[str, tuple[int, list[int]]], output: str, shape: list[int]
    ) -> bytes:
        given = [helper.make_tensor_value_info(n, kind, dims) for n, (kind, dims) in inputs.items()]
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self._nodes, "captioning", given, [result], self._weights)
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def encoder() -> bytes:
    """The picture's model: ``picture`` [1, 3, 224, 224] to ``features`` [1, 49, 512]."""
    net = Network(0)

    def conv(x: str, inputs: int, outputs: int, size: int, stride: int = 1) -> str:
        pads = [size // 2] * 4
        return net.op(
            "Conv", x, net.weight(outputs, inputs, size, size), net.weight(outputs),
            strides=[stride, stride], pads=pads,
        )  # fmt: skip

    x = net.op("Relu", conv("picture", 3, 64, 7, 2))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            y = net.op("Relu", conv(x, channels, inner, 1))
            y = net.op("Relu", conv(y, inner, inner, 3, stride))
            y = conv(y, inner, inner * 4, 1)
            if not block:
                x = conv(x, channels, inner * 4, 1, stride)
            x = net.op("Relu", net.op("Add", x, y))
            channels = inner * 4
    x = net.op("Reshape", x, net.constant(np.array([1, channels, PLACES], np.int64)))
    x = net.op("Transpose", x, perm=[0, 2, 1])
    net.op("MatMul", x, net.weight(channels, WIDTH), name="features")
    pictures = {"picture": (TensorProto.FLOAT, [1, 3, 224, 224])}
    return net.model(pictures, "features", [1, PLACES, WIDTH])


def decoder() -> bytes:
    """One step: ``words`` [1, 20] so far and ``features`` to ``scores`` [1, 10000] of the next."""
    net = Network(1)
    shape = net.constant(np.array([1, -1, HEADS, WIDTH // HEADS], np.int64))
    flat = net.constant(np.array([1, -1, WIDTH], np.int64))
    scale = net.constant(np.float32((WIDTH // HEADS) ** -0.5))

    def heads(x: str, perm: list[int]) -> str:
        x = net.op("MatMul", x, net.weight(WIDTH, WIDTH))
        return net.op("Transpose", net.op("Reshape", x, shape), perm=perm)

    def attention(x: str, seen: str) -> str:
        query, key = heads(x, [0, 2, 1, 3]), heads(seen, [0, 2, 3, 1])
        weights = net.op("Mul", net.op("MatMul", query, key), scale)
        mixed = net.op("MatMul", net.op("Softmax", weights, axis=-1), heads(seen, [0, 2, 1, 3]))
        mixed = net.op("Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), flat)
        return net.op("MatMul", mixed, net.weight(WIDTH, WIDTH))

    def added(x: str, more: str) -> str:
        ones = net.constant(np.ones(WIDTH, np.float32))
        return net.op("LayerNormalization", net.op("Add", x, more), ones, net.weight(WIDTH))

    x = net.op("Gather", net.weight(WORDS, WIDTH), "words")
    for _ in range(LAYERS):
        x = added(x, attention(x, x))
        x = added(x, attention(x, "features"))
        inner = net.op("Relu", net.op("MatMul", x, net.weight(WIDTH, 4 * WIDTH)))
        x = added(x, net.op("MatMul", inner, net.weight(4 * WIDTH, WIDTH)))
    last = net.op("Gather", x, net.constant(np.array(LENGTH - 1, np.int64)), axis=1)
    net.op("MatMul", last, net.weight(WIDTH, WORDS), name="scores")
    given = {
        "words": (TensorProto.INT64, [1, LENGTH]),
        "features": (TensorProto.FLOAT, [1, PLACES, WIDTH]),
    }
    return net.model(given, "scores", [1, WORDS])


if __name__ == "__main__":
    Path("encoder.onnx").write_bytes(encoder())
    Path("decoder.onnx").write_bytes(decoder())
