"""Small ONNX models whose outputs numpy can tell."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

from dioe.types import Array


def parse(text: str, opset: int = 17) -> onnx.ModelProto:
    """A model from the body of one in ONNX's text form."""
    model: onnx.ModelProto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}'
    )
    return model


def weights(*shape: int, seed: int = 0) -> Array:
    """Random float32 weights, scaled to keep a product of matrices around 1."""
    fan_in = shape[0] if shape else 1
    values = np.random.default_rng(seed).standard_normal(shape) / np.sqrt(fan_in)
    return np.asarray(values, dtype=np.float32)


def with_weights(model: onnx.ModelProto, **tensors: Array) -> onnx.ModelProto:
    """``model`` with initializers of these names."""
    for name, array in tensors.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def relu(shape: str = "1, 4") -> onnx.ModelProto:
    """``y = relu(x)``."""
    return parse(f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Relu(x) }}")


def dense(rows: str = "N", width: int = 8, *, seed: int = 0) -> onnx.ModelProto:
    """Two layers, ``y = relu(x @ w1 + b1) @ w2``, over a batch that is a symbol by default."""
    model = parse(f"""
        g (float[{rows}, {width}] x) => (float[{rows}, {width}] y) {{
            a = MatMul(x, w1)
            b = Add(a, b1)
            c = Relu(b)
            y = MatMul(c, w2)
        }}
    """)
    return with_weights(
        model,
        w1=weights(width, width, seed=seed),
        b1=weights(width, seed=seed + 1),
        w2=weights(width, width, seed=seed + 2),
    )


def dense_output(model: onnx.ModelProto, x: Array) -> Array:
    """What ``dense`` gives for ``x``."""
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    hidden: Array = np.maximum(x @ tensors["w1"] + tensors["b1"], 0)
    result: Array = hidden @ tensors["w2"]
    return result


def two_kinds(matmuls: int = 2, gemms: int = 2, width: int = 8) -> onnx.ModelProto:
    """``x`` of 4 rows through ``MatMul`` layers ``m0``, ``m1``, ..., then ``Gemm`` layers ``g0``,
    ...: a chain of blocks of two kinds, each block of one op, that different backends are good at.
    """
    kinds = ["MatMul"] * matmuls + ["Gemm"] * gemms
    names = [f"m{i}" for i in range(matmuls)] + [f"g{i}" for i in range(gemms)]
    tensors = {f"w_{name}": weights(width, width, seed=i) for i, name in enumerate(names)}
    values = ["x", *(f"{name}_out" for name in names[:-1]), "y"]
    nodes = [
        helper.make_node(kind, [value, f"w_{name}"], [result], name=name)
        for kind, name, value, result in zip(kinds, names, values, values[1:], strict=False)
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "two_kinds",
        [info("x", onnx.TensorProto.FLOAT, [4, width])],
        [info("y", onnx.TensorProto.FLOAT, [4, width])],
    )
    opsets = [helper.make_opsetid("", 17)]
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return with_weights(made, **tensors)


def recurrent(steps: int = 3, width: int = 8) -> onnx.ModelProto:
    """``x`` of so many steps through an ``RNN``, then all its states through a ``Gemm``."""
    model = parse(f"""
        g (float[{steps}, 1, {width}] x) => (float[{steps}, {width}] y)
        <int64[2] flat = {{{steps}, {width}}}> {{
            h = RNN <hidden_size: int = {width}> (x, w, r)
            f = Reshape(h, flat)
            y = Gemm(f, v)
        }}
    """)
    return with_weights(
        model,
        w=weights(1, width, width, seed=1),
        r=weights(1, width, width, seed=2),
        v=weights(width, width, seed=3),
    )


def recurrent_output(model: onnx.ModelProto, x: Array) -> Array:
    """What ``recurrent`` gives for ``x``."""
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    state = np.zeros(x.shape[2], np.float32)
    states = []
    for step in x[:, 0]:
        state = np.tanh(step @ tensors["w"][0].T + state @ tensors["r"][0].T)
        states.append(state)
    result: Array = np.stack(states) @ tensors["v"]
    return result


def accumulator(shape: str = "1, 3") -> onnx.ModelProto:
    """``y = x + s`` and the new state ``s2 = s + x``: a running sum."""
    return parse(f"""
        g (float[{shape}] x, float[{shape}] s) => (float[{shape}] y, float[{shape}] s2) {{
            y = Add(x, s)
            s2 = Add(s, x)
        }}
    """)


def branches() -> onnx.ModelProto:
    """Two outputs of one trunk: ``h = tanh(x @ w)``, ``y = exp(h)``, ``z = h * x``."""
    model = parse("""
        g (float[N, 6] x) => (float[N, 6] y, float[N, 6] z) {
            a = MatMul(x, w)
            h = Tanh(a)
            y = Exp(h)
            z = Mul(h, x)
        }
    """)
    return with_weights(model, w=weights(6, 6, seed=7))


def chain(ops: list[str], width: int = 5) -> onnx.ModelProto:
    """One op after the other on ``float[1, width]``; binary ones read the chain's input again."""
    binary = {"Add", "Sub", "Mul", "Max"}
    nodes = []
    value = "x"
    for i, op in enumerate(ops):
        result = "y" if i == len(ops) - 1 else f"v{i}"
        inputs = [value, "x"] if op in binary else [value]
        nodes.append(helper.make_node(op, inputs, [result], name=f"n{i}"))
        value = result
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "chain",
        [info("x", onnx.TensorProto.FLOAT, [1, width])],
        [info("y", onnx.TensorProto.FLOAT, [1, width])],
    )
    opsets = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model
