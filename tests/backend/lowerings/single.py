"""Single ops through the lowerings, and through ONNX Runtime as what they are held against."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import helper

from dioe.types import Array
from dioe_torch.lowerings import Constant, Linked, Op, Program, link, to_tensor
from dioe_torch.program import raw_constant

CPU = torch.device("cpu")


def name_of(array: Array) -> str:
    """The ONNX name of an array's type, in lower case."""
    number = helper.np_dtype_to_tensor_dtype(array.dtype)
    return str(onnx.TensorProto.DataType.Name(number)).lower()


def constant(array: Array) -> Constant:
    return raw_constant(name_of(array), array)


def tensor(array: Array) -> torch.Tensor:
    return to_tensor(constant(array))


def linked(
    op_type: str,
    arrays: Sequence[Array | None],
    version: int,
    attributes: dict[str, Any] | None = None,
    n_outputs: int = 1,
    constants: Collection[int] = (),
    domain: str = "",
    precision: str = "fp32",
) -> Linked:
    """One op, linked for the CPU; the inputs at ``constants`` belong to the program."""
    names = tuple("" if array is None else f"x{i}" for i, array in enumerate(arrays))
    outputs = tuple(f"y{i}" for i in range(n_outputs))
    op = Op("op", domain, op_type, version, names, outputs, attributes or {}, precision)
    kept = {
        names[i]: constant(array)
        for i, array in enumerate(arrays)
        if i in constants and array is not None
    }
    given = tuple(name for name in names if name and name not in kept)
    return link(Program(given, outputs, (op,), kept), CPU)


def run(
    op_type: str,
    arrays: Sequence[Array | None],
    version: int,
    attributes: dict[str, Any] | None = None,
    n_outputs: int = 1,
    constants: Collection[int] = (),
    domain: str = "",
    precision: str = "fp32",
) -> list[torch.Tensor]:
    """What the lowering gives for these inputs."""
    built = linked(op_type, arrays, version, attributes, n_outputs, constants, domain, precision)
    given = [
        tensor(array) for i, array in enumerate(arrays) if array is not None and i not in constants
    ]
    with torch.no_grad():
        return built.run(given)


def by_onnxruntime(
    op_type: str,
    arrays: Sequence[Array | None],
    version: int,
    attributes: dict[str, Any] | None = None,
    n_outputs: int = 1,
    domain: str = "",
) -> list[Array]:
    """What ONNX Runtime gives, its optimisations off."""
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    kinds = [None if array is None else (array.dtype.str, array.ndim) for array in arrays]
    session = _session(
        op_type,
        tuple(kinds),
        version,
        tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in (attributes or {}).items()),
        n_outputs,
        domain,
    )
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if name}
    return list(session.run(None, feeds))


@functools.lru_cache(maxsize=64)
def _session(
    op_type: str,
    kinds: tuple[tuple[str, int] | None, ...],
    version: int,
    attributes: tuple[tuple[str, Any], ...],
    n_outputs: int,
    domain: str,
) -> Any:
    names = ["" if kind is None else f"x{i}" for i, kind in enumerate(kinds)]
    outputs = [f"y{i}" for i in range(n_outputs)]
    node = helper.make_node(op_type, names, outputs, domain=domain, **dict(attributes))
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(kind[0])), [None] * kind[1]
        )
        for name, kind in zip(names, kinds, strict=True)
        if kind is not None
    ]
    graph = helper.make_graph(
        [node], "one", inputs, [helper.make_empty_tensor_value_info(name) for name in outputs]
    )
    opsets = [helper.make_opsetid("", version if not domain else 20)]
    if domain:
        opsets.append(helper.make_opsetid(domain, version))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def check(
    op_type: str,
    arrays: Sequence[Array | None],
    version: int,
    attributes: dict[str, Any] | None = None,
    n_outputs: int = 1,
    constants: Collection[int] = (),
    domain: str = "",
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """The lowering agrees with ONNX Runtime."""
    got = run(op_type, arrays, version, attributes, n_outputs, constants, domain)
    want = by_onnxruntime(op_type, arrays, version, attributes, n_outputs, domain)
    for result, wanted in zip(got, want, strict=True):
        agree(result, wanted, rtol, atol)


def agree(result: torch.Tensor, wanted: Array, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Same type, same shape; equal integers, floats within the tolerance."""
    expected = tensor(np.asarray(wanted))
    assert result.dtype == expected.dtype
    assert tuple(result.shape) == tuple(expected.shape)
    if expected.dtype.is_floating_point:
        np.testing.assert_allclose(
            result.double().numpy(), expected.double().numpy(), rtol=rtol, atol=atol
        )
    else:
        np.testing.assert_array_equal(result.numpy(), expected.numpy())
