"""The hash of a canonical model: what it computes and how its parts are called, nothing else."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
import onnx_ir as ir

from dioe.graph.tensors import MAP_TYPE, Tensor


def canonical_sha256(model: ir.Model) -> str:
    """SHA-256, as hex, of a model's structure, names, attributes, types, opsets and weights.

    Left out: file name and path, how weights are stored, producer, doc strings, metadata, and the
    declared shapes of values, so a shape-bound copy of a model has the hash of the model.
    """
    digest = _Digest()
    digest.add("dioe-model-1")
    digest.add(sorted(model.opset_imports.items()))
    _graph(digest, model.graph)
    for key in sorted(model.functions):
        function = model.functions[key]
        digest.add("function", *key, sorted(function.opset_imports.items()))
        for name in sorted(function.attributes):
            _attribute(digest, function.attributes[name])
        _graph(digest, function.graph)
    return digest.hex()


class _Digest:
    """SHA-256 over length-prefixed parts, so that no two sequences of parts run together."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, *parts: object) -> None:
        for part in parts:
            text = repr(part).encode()
            self._sha.update(struct.pack("<q", len(text)))
            self._sha.update(text)

    def data(self, data: bytes | memoryview) -> None:
        self._sha.update(struct.pack("<q", len(data)))
        self._sha.update(data)

    def hex(self) -> str:
        return self._sha.hexdigest()


def _graph(digest: _Digest, graph: ir.Graph) -> None:
    for value in graph.inputs:
        digest.add("input", value.name, _type(value))
    for name in sorted(graph.initializers):
        tensor = graph.initializers[name].const_value
        digest.add("initializer", name)
        if tensor is not None:
            _tensor(digest, tensor)
    for node in graph:
        digest.add("node", node.name, node.domain, node.op_type, node.overload)
        digest.add([None if value is None else value.name for value in node.inputs])
        digest.add([value.name for value in node.outputs])
        for name in sorted(node.attributes):
            _attribute(digest, node.attributes[name])
    for value in graph.outputs:
        digest.add("output", value.name, _type(value))
    digest.add("end")


def _type(value: ir.Value) -> str:
    # Types of outputs are often left to inference, so only those of inputs tell models apart;
    # str() of an unknown type is the same wherever it is unknown.
    proto = value.meta.get(MAP_TYPE)
    return str(value.type) if proto is None else proto.SerializeToString().hex()


def _attribute(digest: _Digest, attribute: ir.Attr) -> None:
    digest.add("attribute", attribute.name, attribute.type.name, attribute.ref_attr_name)
    kind, value = attribute.type, attribute.value
    if attribute.is_ref() or value is None:
        return
    if kind == ir.AttributeType.GRAPH:
        _graph(digest, value)
    elif kind == ir.AttributeType.GRAPHS:
        for graph in value:
            _graph(digest, graph)
    elif kind == ir.AttributeType.TENSOR:
        _tensor(digest, value)
    elif kind == ir.AttributeType.TENSORS:
        for tensor in value:
            _tensor(digest, tensor)
    elif kind in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS):
        # The bits, because repr of a float depends on whether it was read as float32.
        digest.data(np.atleast_1d(np.asarray(value, dtype="<f4")).tobytes())
    elif kind in (ir.AttributeType.INTS, ir.AttributeType.STRINGS):
        digest.add(list(value))
    else:
        digest.add(value if isinstance(value, int | str | bytes) else str(value))


def _tensor(digest: _Digest, tensor: Tensor) -> None:
    digest.add(tensor.dtype.name, [int(dim) for dim in tensor.shape.numpy()])
    if tensor.dtype == ir.DataType.STRING:
        for text in _strings(tensor):
            digest.data(text)
        return
    if tensor.dtype.bitwidth < 8:
        digest.data(tensor.tobytes())  # packed
        return
    array = np.ascontiguousarray(tensor.numpy())
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    # A view, so that mapped weights are read through and not copied.
    digest.data(array.reshape(-1).view(np.uint8).data)


def _strings(tensor: Any) -> list[bytes]:
    return [
        text if isinstance(text, bytes) else str(text).encode() for text in tensor.string_data()
    ]
