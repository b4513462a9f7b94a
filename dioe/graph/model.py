"""The model as DIOE holds it: ``onnx_ir`` inside, checked, hashed, with its shapes bound."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import onnx
import onnx_ir as ir

from dioe.graph import loading, shapes
from dioe.graph.guard import reading, shown
from dioe.graph.hashing import canonical_sha256
from dioe.graph.tensors import constant, graphs, serialize, spec, tensors
from dioe.types import Dim, ModelError, TensorSpec

_PROTOBUF_LIMIT = 2**31 - 1  # bytes in one serialised protobuf message
_INLINE_LIMIT = 2**30  # files with more weights than this get them beside themselves


class Model:
    """An ONNX model, or the part of one that makes a stage (a ``types.StageModel``).

    ``ir`` is the model; treat it as read-only, other models share its weights. Names of its
    top-level nodes are the op ids: the name the file gives if unique, else the first output.
    ``Constant`` nodes are ops here and have ids like all others, so that ids match what backends
    see; an OpGraph lists them as parameters of their consumers instead.
    ``path`` is the file it was read from, if any.
    """

    def __init__(
        self,
        model: ir.Model,
        *,
        path: Path | None = None,
        pristine: bool = False,
        inferred: shapes.Scope | None = None,
    ) -> None:
        """Wrap a model whose nodes carry their op ids; ``load`` is the way in for all others.

        ``pristine`` says that the file at ``path`` holds exactly this model, ``inferred`` is what
        shape inference found for it, if that ran already.
        """
        self.ir = model
        self.path = path
        self._pristine = pristine and path is not None
        self._lock = threading.Lock()
        self._file: Path | None = None
        self._inferred = inferred

    @classmethod
    def load(cls, source: Source) -> Model:
        """Read and check a model; a Model is returned as it is.

        External data is mapped, not read, and has to lie inside the model's folder. Raises
        ModelError that names the file and the op at fault.
        """
        if isinstance(source, Model):
            return source
        loaded = loading.read(source)
        return cls(loaded.model, path=loaded.path, pristine=loaded.pristine)

    @property
    def place(self) -> str:
        """The name of the model in messages: its path, or its graph's name."""
        return shown(str(self.path) if self.path is not None else self.ir.graph.name or "model")

    @cached_property
    def sha256(self) -> str:
        """Hash of the canonical model: structure, names, attributes, types, opsets and weights.

        Not of the path, the way weights are stored, doc strings or metadata, and not of declared
        shapes: a shape-bound copy has the same hash, so a cache has to key by shapes as well.
        """
        with reading(self.place):
            return canonical_sha256(self.ir)

    @cached_property
    def op_ids(self) -> tuple[str, ...]:
        """Ids of the top-level ops in node order, which is topological."""
        return tuple(node.name or "" for node in self.ir.graph)

    @cached_property
    def placed_op_ids(self) -> tuple[str, ...]:
        """Ids of the ops that plans place: ``Constant`` nodes only where one is a model output."""
        return tuple(node.name or "" for node in self.ir.graph if is_placed(node))

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Specs of the inputs a caller has to give; initializers are not among them."""
        with reading(self.place):
            return shapes.input_specs(self.ir)

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Specs of the outputs; dtype ``object`` and shape None where the model says nothing."""
        with reading(self.place):
            return tuple(spec(value) for value in self.ir.graph.outputs)

    @property
    def inferred(self) -> shapes.Scope:
        """What shape inference finds out about every value; kept after the first time."""
        if self._inferred is None:
            with reading(self.place):
                self._inferred = shapes.infer(self.ir)
        return self._inferred

    @cached_property
    def op_types(self) -> Mapping[str, int]:
        """How often each op type occurs, in bodies and functions too; else ``domain::type``."""
        counts = Counter(
            f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            for graph in graphs(self.ir)
            for node in graph
        )
        return dict(counts.most_common())

    @cached_property
    def quantised(self) -> bool:
        """Whether parts are quantised already: Q/DQ or integer ops, or integer weights.

        Integer weights are found where a ``Cast`` (and maybe ``Sub``) leads them to a ``Mul``.
        """
        with reading(self.place):
            return any(map(_is_quantised_type, self.op_types)) or any(
                _dequantised_by_hand(node) for graph in graphs(self.ir) for node in graph
            )

    @cached_property
    def weight_bytes(self) -> int:
        """Size of all tensors in the model, shared ones counted once."""
        with reading(self.place):
            return sum({id(tensor): tensor.nbytes for tensor in tensors(self.ir)}.values())

    def with_shapes(self, bound: Mapping[str, Sequence[Dim]]) -> Model:
        """A copy with the shapes of inputs bound, weights shared; this model stays as it is.

        A symbol bound in one input is bound in all. Shapes of all other values are inferred anew.
        Raises InputError for an unknown input, another rank, or a contradiction.
        """
        dims = shapes.bind_dims(self.inputs, bound)
        with reading(self.place):
            copy, inferred = shapes.bind(self.ir, dims)
        return Model(copy, path=self.path, inferred=inferred)

    def to_proto(self) -> onnx.ModelProto:
        """The protobuf with the weights inside; raises ModelError above 2 GiB."""
        if self.weight_bytes > _PROTOBUF_LIMIT:
            raise self._too_large()
        with reading(self.place):
            return serialize(self.ir)

    def to_bytes(self) -> bytes:
        """One serialised protobuf with the weights inside; raises ModelError above 2 GiB."""
        proto = self.to_proto()
        if proto.ByteSize() > _PROTOBUF_LIMIT:
            raise self._too_large()
        return bytes(proto.SerializeToString())

    def _too_large(self) -> ModelError:
        return ModelError(
            f"has {self.weight_bytes / 2**30:.1f} GiB of weights; a protobuf holds 2",
            place=self.place,
            fix="use to_path(), which puts the weights beside the model",
        )

    def to_path(self) -> Path:
        """An ONNX file of this model that exists as long as this object.

        The original file where that is exactly this model, else a temporary one; with more than
        1 GiB of weights, they lie beside it.
        """
        if self._pristine and self.path is not None:
            return self.path
        with self._lock:
            if self._file is None:
                folder = tempfile.mkdtemp(prefix="dioe-model-")
                weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
                file = Path(folder, "model.onnx")
                self._write(file)
                self._file = file
        return self._file

    def _write(self, file: Path) -> None:
        if self.weight_bytes <= _INLINE_LIMIT:
            file.write_bytes(self.to_bytes())
            return
        # A copy, because saving puts external tensors in place for a while.
        ir.save(self.ir.clone(), os.fspath(file), external_data="weights.data")

    def __repr__(self) -> str:
        return f"Model({self.place!r}, {len(self.op_ids)} ops)"


Source = loading.Readable | Model
"""What ``Model.load`` takes: a path, bytes, a protobuf, an ``onnx_ir`` model or a Model."""


_QUANTISED_TYPES = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger"}
    | {"MatMulInteger", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits"}
    | {
        "MatMulBnb4",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QMoE",
        "GatherBlockQuantized",
    }
)


def is_placed(node: ir.Node) -> bool:
    """False for ``Constant`` nodes, which are parameters of what reads them, unless output."""
    if node.op_type != "Constant" or node.domain:
        return True
    return any(value.is_graph_output() for value in node.outputs)


def _is_quantised_type(op_type: str) -> bool:
    name = op_type.rpartition("::")[2]
    return name in _QUANTISED_TYPES or name.startswith("QLinear") or name.endswith("Integer")


_WEIGHT_PATH = frozenset(
    {"Sub", "Transpose", "Reshape", "Identity", "Unsqueeze", "Squeeze", "Gather"}
)
_WEIGHT_TYPES = frozenset(
    {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4}
    | {ir.DataType.INT2, ir.DataType.UINT2}
)


def _dequantised_by_hand(node: ir.Node) -> bool:
    """Whether a ``Cast`` of an integer weight (rank 1 or more) leads to a ``Mul`` or ``Div``."""
    if node.op_type != "Cast" or node.domain:
        return False
    source: ir.Value | None = node.inputs[0]
    for _ in range(4):
        tensor = constant(source)
        if tensor is not None:
            break
        producer = source.producer() if source is not None else None
        if producer is None or producer.op_type not in _WEIGHT_PATH:
            return False
        source = producer.inputs[0]
    else:
        return False
    if tensor.dtype not in _WEIGHT_TYPES or tensor.size < 2:
        return False
    return _leads_to_scale(node.outputs[0])


def _leads_to_scale(value: ir.Value) -> bool:
    for user in value.consumers():
        if user.op_type in ("Mul", "Div"):
            return True
        if user.op_type in _WEIGHT_PATH and _leads_to_scale(user.outputs[0]):
            return True
    return False
