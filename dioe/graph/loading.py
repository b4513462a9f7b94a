"""Reading ONNX models: every way in ends in an ``onnx_ir`` model that has been checked.

Errors are ModelErrors that name the file (or ``model`` where there is none) and what to do.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from dioe.graph.checking import check_proto
from dioe.graph.guard import reading, shown, words
from dioe.graph.tensors import MAP_TYPE, Tensor, has_map, replace_tensors, skeleton
from dioe.types import Array, ModelError

Readable = str | os.PathLike[str] | bytes | bytearray | memoryview | onnx.ModelProto | ir.Model
"""What a model can be read from."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as read: ``pristine`` if the file at ``path`` says exactly the same."""

    model: ir.Model
    path: Path | None
    pristine: bool


def read(source: Readable) -> Loaded:
    """Read and check a model from a path, bytes, protobuf or ``onnx_ir`` model.

    Node names become op ids (see ``op_ids``), dimensions of -1, 0 and "?" become unknown, nodes are
    put in topological order. External weights are mapped, not read. Raises ModelError.
    """
    if isinstance(source, ir.Model):
        place = shown(source.graph.name or "model")
        with reading(place):
            return _from_ir(source, place)
    if isinstance(source, onnx.ModelProto):
        with reading("model"):
            return _from_proto(source, None, "model")
    if isinstance(source, bytes | bytearray | memoryview):
        with reading("model"):
            return _from_proto(_parse(bytes(source), "model"), None, "model")
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):  # which Path takes for the folder it is in
            raise ModelError("its path is empty", place="model", fix="name an .onnx file")
        path = Path(source)
        data, place = _bytes_of(path), shown(str(path))
        with reading(place):
            return _from_proto(_parse(data, place), path, place)
    raise ModelError(
        f"can't load a model from {type(source).__name__}",
        fix="give a path, bytes, an onnx.ModelProto or an onnx_ir.Model",
    )


def _bytes_of(path: Path) -> bytes:
    place = shown(str(path))
    try:
        mode = path.stat().st_mode  # a device or a pipe may have no end, or keep us waiting
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ModelError("is no regular file", place=place, fix="name an .onnx file")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelError("no such file", place=place, fix="check the path") from None
    except IsADirectoryError:
        raise ModelError(
            "is a directory, not a model", place=place, fix="name the .onnx file in it"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"can't be read: {words(error)}", place=place, fix="check the path and its permissions"
        ) from error
    return data


def _parse(data: bytes, place: str) -> onnx.ModelProto:
    if not data:
        raise ModelError("is empty", place=place, fix="export or download the model again")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        # An ONNX file begins with field 1, the IR version, as a small varint.
        if len(data) > 1 and data[0] == 0x08 and data[1] < 0x20:
            raise ModelError(
                "is cut short or damaged (its protobuf can't be decoded)",
                place=place,
                fix="export or download the model again",
            ) from error
        raise ModelError(
            "is not an ONNX model (not a protobuf)", place=place, fix="give an .onnx file"
        ) from error
    if not proto.HasField("graph") or not proto.ir_version:
        raise ModelError(
            "is not an ONNX model (it has no graph)", place=place, fix="give an .onnx file"
        )
    return proto


def _from_proto(proto: onnx.ModelProto, path: Path | None, place: str) -> Loaded:
    in_order = check_proto(proto, place)
    ids = op_ids([(node.name, list(node.output)) for node in proto.graph.node])
    bare, map_types = _without_map_types(proto)
    model = ir.from_proto(bare)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name in map_types:
            value.meta[MAP_TYPE] = map_types[value.name]
    _map_external(model, None if path is None else path.parent, place)
    named = [node.name for node in proto.graph.node] == list(ids)
    return _finish(model, ids, path, pristine=in_order and named, in_order=in_order, place=place)


def _from_ir(source: ir.Model, place: str) -> Loaded:
    try:
        in_order = check_proto(skeleton(source), place)
        model = source.clone()
    except (RuntimeError, ValueError) as error:  # onnx_ir can't copy what isn't in order
        raise ModelError(
            f"the onnx_ir model can't be copied: {words(error)}",
            place=place,
            fix="call graph.sort() on it, or check that every value it reads is made somewhere",
        ) from error
    _map_external(model, Path(), place)
    ids = op_ids([(node.name, [v.name or "" for v in node.outputs]) for node in model.graph])
    return _finish(model, ids, None, pristine=False, in_order=in_order, place=place)


def _finish(
    model: ir.Model,
    ids: tuple[str, ...],
    path: Path | None,
    *,
    pristine: bool,
    in_order: bool,
    place: str,
) -> Loaded:
    for node, name in zip(model.graph, ids, strict=True):
        node.name = name
    if "ai.onnx" in model.opset_imports:
        model.opset_imports.setdefault("", model.opset_imports.pop("ai.onnx"))
    if _forget_false_dims(model):
        pristine = False
    if not in_order:
        try:
            model.graph.sort()
        except ValueError as error:
            raise ModelError(
                "the graph has a cycle", place=place, fix="export the model again"
            ) from error
    return Loaded(model, path, pristine)


def op_ids(nodes: Sequence[tuple[str | None, Sequence[str]]]) -> tuple[str, ...]:
    """Ids of nodes given as (name, outputs): the name if unique, else the first output.

    A name that is another node's first output doesn't count as unique, so that no two nodes get
    the same id. ``Constant`` nodes have ids like all others.
    """
    firsts = [next((name for name in outputs if name), "") for _, outputs in nodes]
    uses = Counter(name for name, _ in nodes if name)
    owner = {first: i for i, first in enumerate(firsts) if first}
    return tuple(
        name if name and uses[name] == 1 and owner.get(name, i) == i else firsts[i] or f"op_{i}"
        for i, (name, _) in enumerate(nodes)
    )


# --- external data ----------------------------------------------------------------------------


def _map_external(model: ir.Model, folder: Path | None, place: str) -> None:
    """Put views of mapped files in place of external tensors; one mapping a file, read-only.

    Files must lie inside ``folder``, links followed; None (no folder) allows none at all.
    """
    files: dict[Path, Array] = {}

    def change(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, ir.ExternalTensor):
            return tensor
        if folder is None:
            raise ModelError(
                f"tensor {tensor.name!r} has external data ({os.fspath(tensor.location)!r}), "
                "which a model without a file can't have",
                place=place,
                fix="load the model from its path",
            )
        base = Path(tensor.base_dir) if tensor.base_dir else folder
        file = _inside(base, os.fspath(tensor.location), tensor.name or "", place)
        if file not in files:
            files[file] = _mapped(file, place)
        return _view(files[file], file, tensor, place)

    replace_tensors(model, change)


def _inside(base: Path, location: str, name: str, place: str) -> Path:
    try:
        root = base.resolve()
        file = (root / location).resolve()
        found = file.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL in it, links in a circle
        raise ModelError(
            f"external data of tensor {name!r} can't be at {location!r}: {words(error)}",
            place=place,
            fix="put the data file beside the model and name it by a relative path",
        ) from error
    if os.path.isabs(location) or not file.is_relative_to(root):
        raise ModelError(
            f"external data of tensor {name!r} leaves the model's folder: {location!r}",
            place=place,
            fix="put the data file beside the model and name it by a relative path",
        )
    if not found:
        raise ModelError(
            f"external data of tensor {name!r} is missing: {location!r}",
            place=place,
            fix=f"put the file into {shown(str(base))}",
        )
    return file


def _mapped(file: Path, place: str) -> Array:
    try:
        empty = file.stat().st_size == 0
        return np.empty(0, np.uint8) if empty else np.memmap(file, np.uint8, "r")
    except OSError as error:
        raise ModelError(
            f"external data in {file.name!r} can't be read: {words(error)}",
            place=place,
            fix="check the file's permissions",
        ) from error


def _view(data: Array, file: Path, tensor: ir.ExternalTensor, place: str) -> Tensor:
    start, size = tensor.offset or 0, tensor.nbytes
    length = size if tensor.length is None else tensor.length
    if start < 0 or length != size or start + size > data.size:
        raise ModelError(
            f"external data of tensor {tensor.name!r} doesn't fit: {length} of {size} bytes at "
            f"{start} in {file.name!r}, which has {data.size}",
            place=place,
            fix="the data file is cut short or another model's: copy or export it again",
        )
    shape, raw = ir.Shape(tensor.shape), data[start : start + size]
    if tensor.dtype.bitwidth < 8:
        return ir.PackedTensor(raw, tensor.dtype, shape=shape, name=tensor.name)
    dtype = tensor.dtype.numpy().newbyteorder("<")
    if start % dtype.itemsize:
        raw = np.array(raw)  # numpy can view unaligned memory, backends may not
    array = np.asarray(raw).view(dtype).reshape(shape.numpy())
    return ir.Tensor(array, tensor.dtype, shape=shape, name=tensor.name)


# --- normalisation ----------------------------------------------------------------------------


def _forget_false_dims(model: ir.Model) -> bool:
    """Turn dimensions that mean "unknown" (below 1, "?", "") into None; True if there were any.

    Exporters write -1, 0 or "?" where they know nothing; taken literally, two "?" would be one
    symbol and have to be equal.
    """
    changed = False
    for graph in (model.graph, *model.graph.subgraphs()):
        values = {id(value): value for value in (*graph.inputs, *graph.outputs)}
        values |= {id(value): value for node in graph for value in node.outputs}
        for value in values.values():
            if value.shape is None or value.is_initializer():
                continue
            new = [None if _is_false(dim) else dim for dim in value.shape]
            if any(a is None and _is_false(b) for a, b in zip(new, value.shape, strict=True)):
                value.shape = ir.Shape(new)
                changed = True
    return changed


def _is_false(dim: int | ir.SymbolicDim) -> bool:
    return dim < 1 if isinstance(dim, int) else dim.value in ("", "?", "-1", "None")


def _without_map_types(
    proto: onnx.ModelProto,
) -> tuple[onnx.ModelProto, dict[str, onnx.TypeProto]]:
    """The proto without map types, which ``onnx_ir`` refuses, and those of inputs and outputs.

    The given proto stays as it is; a copy is made only where there is something to remove.
    """
    if not any(has_map(info.type) for graph in _graphs(proto.graph) for info in _infos(graph)):
        return proto, {}
    found = {
        info.name: onnx.TypeProto.FromString(info.type.SerializeToString())
        for info in (*proto.graph.input, *proto.graph.output)
        if has_map(info.type)
    }
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for graph in _graphs(bare.graph):
        for info in _infos(graph):
            if has_map(info.type):
                info.ClearField("type")
    return bare, found


def _infos(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    yield from graph.output
    yield from graph.value_info


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)
