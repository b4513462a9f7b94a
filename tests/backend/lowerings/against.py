"""One op in a model: what the lowerings make of it against ONNX Runtime or onnx.reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dioe.graph import Model
from dioe.types import Array
from dioe_torch.lowerings import Program, link, to_constant, to_tensor
from dioe_torch.program import program_of, raw_constant

Feed = Array | None


def model_of(
    op_type: str,
    feeds: Sequence[Feed],
    opset: int,
    outputs: Sequence[str] = ("Y",),
    constant: Sequence[int] = (),
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one op; the feeds of indexes ``constant`` are its initializers, ``x0``, ``x1`` …
    its inputs."""
    names = ["" if feed is None else f"x{i}" for i, feed in enumerate(feeds)]
    while names and not names[-1]:
        names.pop()
    given = {i: feed for i, feed in enumerate(feeds) if feed is not None}
    node = helper.make_node(op_type, names, list(outputs), **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(f"x{i}", _type(feed), [None] * feed.ndim)
            for i, feed in given.items()
            if i not in constant
        ],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs if name],
        [numpy_helper.from_array(given[i], f"x{i}") for i in constant if i in given],
    )
    for value in graph.output:
        value.ClearField("type")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _type(feed: Array) -> int:
    return helper.np_dtype_to_tensor_dtype(feed.dtype)


def program(model: onnx.ModelProto) -> Program:
    """The model as a program."""
    return program_of(Model.load(model))


def ours(model: onnx.ModelProto, feeds: Sequence[Feed]) -> list[Array]:
    """What the lowerings give for the feeds that are no constants."""
    inputs = {value.name for value in model.graph.input}
    values = [
        to_tensor(raw_constant(onnx.TensorProto.DataType.Name(_type(feed)).lower(), feed))
        for i, feed in enumerate(feeds)
        if feed is not None and f"x{i}" in inputs
    ]
    with torch.no_grad():
        results = link(program(model), torch.device("cpu")).run(values)
    return [to_constant(result).data for result in results]


def theirs(model: onnx.ModelProto, feeds: Sequence[Feed], reference: bool = False) -> list[Array]:
    """What ONNX Runtime gives without optimisations, or onnx.reference."""
    inputs = {value.name for value in model.graph.input}
    named = {f"x{i}": feed for i, feed in enumerate(feeds) if f"x{i}" in inputs}
    if reference:
        found: Any = ReferenceEvaluator(model).run(None, named)
        return list(found)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _typed(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, named))


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model)


def agree(
    op_type: str,
    *feeds: Feed,
    opset: int = 22,
    outputs: Sequence[str] = ("Y",),
    constant: Sequence[int] = (),
    reference: bool = False,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    **attributes: Any,
) -> list[Array]:
    """Assert that the lowering gives what others do: dtypes, shapes, values. Gives its outputs."""
    model = model_of(op_type, feeds, opset, outputs, constant, **attributes)
    got, want = ours(model, feeds), theirs(model, feeds, reference)
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)
    return got


def randoms(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Random numbers: normal ones, or whole ones over the range of 8-bit types."""
    draw = np.random.default_rng(seed + sum(shape))
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return draw.integers(max(limits.min, -100), min(limits.max, 200), shape).astype(dtype)
    return draw.standard_normal(shape).astype(dtype)
