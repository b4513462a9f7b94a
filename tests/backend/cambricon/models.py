"""Models that the tests of the shim share."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from dioe.graph import Model
from dioe.types import Array

RESNET = """<ir_version: 9, opset_import: ["": 18]>
g (float[1,3,16,16] image) => (float[1,10] scores) {
  stem = Conv <kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]> (image, w0, b0)
  stem_n = BatchNormalization (stem, scale0, bias0, mean0, var0)
  stem_r = Relu (stem_n)
  pooled = MaxPool <kernel_shape = [2,2], strides = [2,2]> (stem_r)
  c1 = Conv <kernel_shape = [3,3], pads = [1,1,1,1]> (pooled, w1, b1)
  r1 = Relu (c1)
  c2 = Conv <kernel_shape = [3,3], pads = [1,1,1,1]> (r1, w2, b2)
  sum = Add (c2, pooled)
  r2 = Relu (sum)
  mean = GlobalAveragePool (r2)
  flat = Flatten (mean)
  scores = Gemm (flat, w3, b3)
}"""

WEIGHTS = {
    "w0": (8, 3, 3, 3), "b0": (8,), "scale0": (8,), "bias0": (8,), "mean0": (8,), "var0": (8,),
    "w1": (8, 8, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (8, 10), "b3": (10,),
}  # fmt: skip


def resnet() -> Model:
    """A residual network of 13 ops with He-scaled random weights."""
    random = np.random.default_rng(5)
    proto = parser.parse_model(RESNET)
    for name, shape in WEIGHTS.items():
        fan_in = int(np.prod(shape[1:])) or 1
        weight = random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        if name == "var0":
            weight = random.uniform(0.5, 1.5, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weight, name))
    return Model.load(proto)


BLOCK = """<ir_version: 9, opset_import: ["": 18]>
g (float[1,6,16] x) => (float[1,6,16] y) {
  q = MatMul (x, wq)
  k = MatMul (x, wk)
  v = MatMul (x, wv)
  kt = Transpose <perm = [0,2,1]> (k)
  scores = MatMul (q, kt)
  quarter = Constant <value = float {0.25}> ()
  scaled = Mul (scores, quarter)
  weights = Softmax <axis = -1> (scaled)
  mixed = MatMul (weights, v)
  first = Add (x, mixed)
  normed = LayerNormalization <axis = -1> (first, gamma, beta)
  h = MatMul (normed, w1)
  a = Relu (h)
  o = MatMul (a, w2)
  y = Add (normed, o)
}"""

BLOCK_WEIGHTS = {
    "wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "gamma": (16,), "beta": (16,),
    "w1": (16, 32), "w2": (32, 16),
}  # fmt: skip


def transformer_block() -> Model:
    """Attention and a feed-forward layer with random weights."""
    random = np.random.default_rng(6)
    proto = parser.parse_model(BLOCK)
    for name, shape in BLOCK_WEIGHTS.items():
        weight = random.normal(0, 0.25, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weight, name))
    return Model.load(proto)


def images(count: int, seed: int = 0) -> list[dict[str, Array]]:
    """Feeds for ``resnet``: smooth random pictures."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(count, 1, 3, 4, 4)).astype(np.float32)
    return [{"image": np.kron(one, np.ones((1, 1, 4, 4), np.float32))} for one in coarse]


def reference(model: Model, feed: dict[str, Array]) -> list[Any]:
    """What the model gives by ``onnx.reference``."""
    found = ReferenceEvaluator(onnx.load_from_string(model.to_bytes())).run(None, feed)
    return list(found)


def relative(found: Array, expected: Array) -> float:
    """The error of the fidelity rule."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
