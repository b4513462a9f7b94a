"""Every node case of onnx whose ops have lowerings, by what the case says has to come out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from dioe.graph import Model
from dioe.types import UnsupportedError
from dioe_torch.lowerings import Unsupported, find, link, to_constant, to_tensor
from dioe_torch.lowerings.core import torch_dtype
from dioe_torch.program import program_of, raw_constant
from tests.backend.lowerings.known import KNOWN


@functools.cache
def cases() -> dict[str, list[Any]]:
    """The cases by the type of their first op."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        found: dict[str, list[Any]] = {}
        for case in load_model_tests(kind="node"):
            assert case.model is not None
            found.setdefault(case.model.graph.node[0].op_type, []).append(case)
    return found


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def lowered(case: Any) -> bool:
    versions = {o.domain: o.version for o in case.model.opset_import}
    try:
        for node in nodes(case.model.graph):
            if node.op_type != "Constant":
                find(node.domain, node.op_type, versions[node.domain])
    except Unsupported:
        return False
    return True


def held(case: Any) -> bool:
    """True if torch has all types of the case's inputs and outputs."""
    try:
        for value in (*case.model.graph.input, *case.model.graph.output):
            kind = value.type
            while not kind.HasField("tensor_type"):
                inner = "optional_type" if kind.HasField("optional_type") else "sequence_type"
                kind = getattr(kind, inner).elem_type
            torch_dtype(kind.tensor_type.elem_type)
    except Unsupported:
        return False
    return True


def value_of(value: Any) -> Any:
    """A test's input as the executor takes it."""
    if value is None:
        return None
    if isinstance(value, list):
        return [value_of(each) for each in value]
    if isinstance(value, TensorProto):
        array = numpy_helper.to_array(value)
        return to_tensor(raw_constant(TensorProto.DataType.Name(value.data_type).lower(), array))
    array = np.asarray(value)
    name = TensorProto.DataType.Name(onnx.helper.np_dtype_to_tensor_dtype(array.dtype)).lower()
    return to_tensor(raw_constant(name, array))


def compare(got: Any, want: Any, case: Any) -> None:
    if want is None:
        assert got is None
    elif isinstance(want, list):
        assert isinstance(got, list)
        assert len(got) == len(want)
        for each, wanted in zip(got, want, strict=True):
            compare(each, wanted, case)
    else:
        wanted = value_of(want)
        assert isinstance(got, torch.Tensor), type(got)
        assert got.dtype == wanted.dtype, f"{got.dtype} instead of {wanted.dtype}"
        assert tuple(got.shape) == tuple(wanted.shape), f"{got.shape} instead of {wanted.shape}"
        if wanted.dtype.is_floating_point or wanted.dtype.is_complex:
            wide = torch.complex128 if wanted.dtype.is_complex else torch.float64
            rtol, atol = case.rtol, case.atol
            halves = wanted.dtype in (torch.float16, torch.bfloat16)
            if halves and "cast" not in case.name:  # whatever has several steps rounds often
                rtol = max(rtol, 2 * torch.finfo(wanted.dtype).eps)
            if "dft" in case.name:  # every library of Fourier transforms rounds its own way
                atol = max(atol, 1e-6)
            np.testing.assert_allclose(
                got.to(wide).numpy(), wanted.to(wide).numpy(), rtol=rtol, atol=atol
            )
        else:
            np.testing.assert_array_equal(to_constant(got).data, to_constant(wanted).data)


def run(case: Any) -> None:
    program = program_of(Model.load(case.model))
    linked = link(program, torch.device("cpu"))
    (inputs, outputs), *_ = case.data_sets
    values = [value_of(value) for value in inputs]
    before = [v.clone() if isinstance(v, torch.Tensor) else v for v in values]
    torch.manual_seed(0)
    with torch.no_grad():
        results = linked.run(values)
    for value, copy in zip(values, before, strict=True):
        if isinstance(value, torch.Tensor):  # bit by bit: NaN is as good as anything
            np.testing.assert_array_equal(
                to_constant(value).data.view(np.uint8) if value.ndim else to_constant(value).data,
                to_constant(copy).data.view(np.uint8) if copy.ndim else to_constant(copy).data,
            )
    assert len(results) == len(outputs)
    for result, output in zip(results, outputs, strict=True):
        compare(result, output, case)


def failures(op_type: str) -> Iterator[str]:
    for case in cases()[op_type]:
        if not lowered(case):
            continue
        try:
            if held(case):
                run(case)
            else:
                with pytest.raises((Unsupported, UnsupportedError)):
                    run(case)
        except Exception as error:  # noqa: BLE001 - all failures of an op are to be seen at once
            text = str(error).strip().splitlines()
            yield f"{case.name}: {type(error).__name__}: {' '.join(text)[:300]}"


@pytest.mark.parametrize("op_type", sorted(cases()))
def test_cases_of(op_type: str) -> None:
    found = list(failures(op_type))
    names = {line.partition(":")[0] for line in found}
    known = {case.name for case in cases()[op_type]} & set(KNOWN)
    unknown = [line for line in found if line.partition(":")[0] not in KNOWN]
    assert not unknown, "\n" + "\n".join(unknown)
    assert names >= known, f"pass by now: {known - names}"
