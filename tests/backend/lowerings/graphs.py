"""Graphs written as text: what the lowerings make of them against ONNX Runtime, onnx.reference or
given results."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from torch.fx.experimental.proxy_tensor import make_fx

from dioe.graph import Model
from dioe_torch.lowerings import Linked, link, to_constant, to_tensor
from dioe_torch.program import program_of, raw_constant

CPU = torch.device("cpu")
OPSET = 22

Feeds = Mapping[str, Any]


def model_of(
    text: str, feeds: Feeds, opset: int = OPSET, constant: Collection[str] = ()
) -> onnx.ModelProto:
    """A model of nodes as onnx.parser reads them; its outputs are called ``y...``. The feeds whose
    names are in ``constant`` are initializers, the others inputs of open shapes."""
    nodes = parser.parse_graph(f"g () => () {{ {text} }}").node
    graph = helper.make_graph(
        list(nodes),
        "g",
        [
            helper.make_tensor_value_info(name, _type(array), [None] * array.ndim)
            for name, array in feeds.items()
            if name not in constant
        ],
        [],
        [numpy_helper.from_array(feeds[name], name) for name in constant],
    )
    made = {name: None for node in nodes for name in node.output if name.startswith("y")}
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 5)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _type(array: Any) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def value(array: Any) -> torch.Tensor:
    """An array as the executor takes it."""
    name = onnx.TensorProto.DataType.Name(_type(array)).lower()
    return to_tensor(raw_constant(name, np.asarray(array)))


def linked(model: onnx.ModelProto) -> Linked:
    """The model on the CPU."""
    return link(program_of(Model.load(model)), CPU)


def ours(model: onnx.ModelProto, feeds: Feeds) -> list[Any]:
    """What the lowerings give; sequences as lists."""
    with torch.no_grad():
        results = linked(model).run([value(feeds[v.name]) for v in model.graph.input])
    return [_array(result) for result in results]


def _array(result: Any) -> Any:
    if isinstance(result, list):
        return [_array(each) for each in result]
    return None if result is None else to_constant(result).data


def theirs(model: onnx.ModelProto, feeds: Feeds, reference: bool = False) -> list[Any]:
    """What ONNX Runtime gives without optimisations, or onnx.reference."""
    named = {v.name: feeds[v.name] for v in model.graph.input}
    if reference:
        found: Any = ReferenceEvaluator(model).run(None, named)
        return list(found)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    typed = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(
        typed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, named))


def agree(
    text: str,
    feeds: Feeds,
    opset: int = OPSET,
    numbers: Collection[str] = (),
    want: Sequence[Any] | None = None,
    reference: bool = False,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> list[Any]:
    """Assert that the lowerings give what others do, or ``want``: types, shapes, values. With
    ``numbers`` twice: those as inputs, and as initializers. Gives what they gave."""
    got: list[Any] = []
    for constant in ((), numbers) if numbers else ((),):
        model = model_of(text, feeds, opset, constant)
        got = ours(model, feeds)
        wanted = theirs(model, feeds, reference) if want is None else want
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            same(one, other, rtol, atol)
    return got


def same(one: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Same type, same shape, equal values."""
    if isinstance(other, list):
        assert isinstance(one, list)
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b, rtol, atol)
        return
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def traced(text: str, feeds: Feeds, opset: int = OPSET, constant: Collection[str] = ()) -> None:
    """Assert that the graph can be traced with fake tensors, for a compiler, and gives the same."""
    model = model_of(text, feeds, opset, constant)
    program = linked(model)
    values = [value(feeds[v.name]) for v in model.graph.input]
    with torch.no_grad():
        graph = make_fx(
            lambda *tensors: program.run(tensors), tracing_mode="fake", _allow_non_fake_inputs=True
        )(*values)
        for result, wanted in zip(graph(*values), program.run(values), strict=True):
            torch.testing.assert_close(result, wanted)
        # what was remembered while it was traced must do for a run
        for result, wanted in zip(program.run(values), graph(*values), strict=True):
            torch.testing.assert_close(result, wanted)


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    """Normal random numbers."""
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(dtype)


def ints(*values: int, dtype: Any = np.int64) -> Any:
    """A vector of whole numbers."""
    return np.array(values, dtype)


def counted(*shape: int, dtype: Any = np.float32) -> Any:
    """Numbers none of which is there twice, shuffled."""
    size = int(np.prod(shape, dtype=int))
    return np.random.default_rng(size).permutation(size).reshape(shape).astype(dtype)
