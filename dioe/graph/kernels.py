"""Kernels: what a backend makes of the ops of a model, as far as anyone knows without asking it.

Every backend that is any good fuses ops that work element by element into what makes their input,
knows attention and layer normalisation, computes what depends on constants once, and does nothing
for ops that only name what is there. So a kernel is a group of ops with one that does the work; it
reads and writes memory at its border only. Which of them a given backend really fuses differs, so
what was fused is told too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from dioe.flops import VIEWS
from dioe.graph.opgraph import OpGraph, OpInfo
from dioe.graph.patterns import (
    ATTENTION,
    CONTROL,
    CONV,
    ELEMENTWISE,
    MATMUL,
    MOVEMENT,
    NORM,
    RECURRENT,
    is_quantized,
    matches,
)
from dioe.types import Precision

_SMALL = 256
"""Bytes of values that only describe others: shapes, indices, axes."""

_FEW_CHANNELS = 8
"""That go into a convolution: the vector units are half empty."""

_FEW_ROWS = 8
"""Of a matrix product that reads its weights for next to nothing."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Ops that run as one. ``main`` is the op that does the work, ``op_class`` says what sort of
    work that is: ``conv``, ``conv.depthwise``, ``matmul.few_rows``, ``elementwise``, ``movement``…

    ``flops`` and ``nbytes`` (read and written) are of one run; ``float_bytes`` of them are those of
    fp32 values, which a lower precision makes fewer. ``fused`` ops were fused into the main one;
    by themselves they would write ``fused_bytes``, all of fp32 values but for few. ``written`` is
    the precision that the model itself has here: int8 for quantised work.
    """

    main: str
    ops: tuple[str, ...]
    op_class: str
    flops: int
    nbytes: int
    float_bytes: int
    fused_bytes: int = 0
    written: Precision = Precision.FP32

    @property
    def fused(self) -> int:
        """How many ops were fused into the main one."""
        return len(self.ops) - 1


def find_kernels(graph: OpGraph) -> tuple[Kernel, ...]:
    """The kernels of a model whose shapes are bound, in a topological order of their first ops.

    Ops of no kernel take no time: views, what depends on constants only, and what only turns whole
    numbers into floats for ops that backends compute in whole numbers.
    """
    return tuple(_Grouping(graph).kernels())


class _Grouping:
    def __init__(self, graph: OpGraph) -> None:
        self._graph = graph
        self._group: dict[str, str] = {}
        """The first op of the group of each op that takes time."""
        self._members: dict[str, list[OpInfo]] = {}
        self._patterns: dict[str, str] = {}
        """Kind of the pattern and its first op, of ops that are in one."""
        for kind, indices in matches(graph):
            ids = [graph.ids[i] for i in indices]
            if not any(op in self._patterns for op in ids):
                self._patterns.update(dict.fromkeys(ids, f"{kind} {ids[0]}"))

    def kernels(self) -> Iterator[Kernel]:
        for info, static in zip(self._graph.ops.values(), self._graph.is_static, strict=True):
            if not (static or self._is_view(info)):
                group = self._home(info)
                self._group[info.id] = group
                self._members.setdefault(group, []).append(info)
        for members in self._members.values():
            yield self._kernel(members)

    def _home(self, info: OpInfo) -> str:
        """The group that an op belongs to: its own, unless it is fused into an earlier one."""
        pattern = self._patterns.get(info.id)
        if pattern is not None:
            return self._group.get(pattern.partition(" ")[2], info.id)
        if not _is_elementwise(info):
            return info.id
        sources = [self._source(name) for name in info.inputs]
        fusable = [self._group[op] for op in sources if op is not None and op in self._group]
        return max(fusable, key=self._graph.index.__getitem__, default=info.id)

    def _source(self, value: str) -> str | None:
        """The op that makes a value, seen through views, if nothing reads that but ops that may be
        fused into it."""
        while value not in self._graph.outputs:
            readers = [self._graph.ops[op] for op in self._graph.consumers.get(value, ())]
            if len(readers) > 1 and not all(map(_is_elementwise, readers)):
                return None
            producer = self._graph.producers.get(value)
            if producer is None or not self._is_view(self._graph.ops[producer]):
                return producer
            value = self._graph.ops[producer].inputs[0]
        return None

    def _is_view(self, info: OpInfo) -> bool:
        """Whether an op does nothing but name what it reads, or dequantise it for others' work."""
        if info.domain or not info.inputs:
            return False
        if info.op_type == "DequantizeLinear":
            readers = [self._graph.ops[op] for op in self._graph.consumers.get(info.outputs[0], ())]
            return bool(readers) and all(r.op_type in _QUANTISABLE for r in readers)
        return info.op_type in VIEWS

    def _stored(self, value: str) -> str:
        """The value in memory that another one is a view of."""
        while (producer := self._graph.producers.get(value)) is not None:
            info = self._graph.ops[producer]
            if not self._is_view(info):
                break
            value = info.inputs[0]
        return value

    def _kernel(self, members: Sequence[OpInfo]) -> Kernel:
        main = max(members, key=lambda info: (_is_heavy(info), info.flops or 0))
        inside = {name for info in members for name in info.outputs}
        read = floats = 0
        seen: set[str] = set()
        for info in members:
            outer = {self._stored(name) for name in info.reads} - inside - seen
            seen |= outer
            size = sum(map(self._bytes, outer))
            # a Gather reads only the rows it picks
            taken = size if info.bytes_read is None else min(size, info.bytes_read)
            read += taken
            if size:
                floats += taken * sum(self._bytes(n) for n in outer if self._is_float(n)) // size
        written = self._written_by(members)
        return Kernel(
            main=main.id,
            ops=tuple(info.id for info in members),
            op_class=self._class(main, read + sum(map(self._bytes, written))),
            flops=sum(info.flops or 0 for info in members),
            nbytes=read + sum(map(self._bytes, written)),
            float_bytes=floats + sum(self._bytes(n) for n in written if self._is_float(n)),
            fused_bytes=sum(info.bytes_written or 0 for info in members if info is not main),
            written=self._precision(main),
        )

    def _written_by(self, members: Sequence[OpInfo]) -> list[str]:
        """The values that leave a group."""
        names = {info.id for info in members}
        return [n for info in members for n in info.outputs if self._leaves(n, names)]

    def _leaves(self, value: str, names: Collection[str]) -> bool:
        """Whether anything but these ops needs a value, or a view of it."""
        if value in self._graph.outputs:
            return True
        readers = [self._graph.ops[op] for op in self._graph.consumers.get(value, ())]
        views = [info for info in readers if self._is_view(info)]
        others = {info.id for info in readers} - {info.id for info in views}
        return not others <= set(names) or any(self._leaves(v.outputs[0], names) for v in views)

    def _bytes(self, value: str) -> int:
        info = self._graph.values.get(value)
        return 0 if info is None else info.nbytes or 0

    def _is_float(self, value: str) -> bool:
        info = self._graph.values.get(value)
        return info is not None and info.dtype == np.float32

    def _precision(self, main: OpInfo) -> Precision:
        """What the model itself computes in."""
        if is_quantized(main.op_type) and (main.op_type in CONV or main.op_type in MATMUL):
            return Precision.INT8
        first = next(iter(main.inputs), "")
        values = self._graph.values
        if main.op_type in _QUANTISABLE and self._stored(first) != first:
            stored = values.get(self._stored(first))
            if stored is not None and stored.dtype in (np.int8, np.uint8):
                return Precision.INT8
        known = values.get(first)
        return Precision.FP32 if known is None else _WRITTEN.get(known.dtype, Precision.FP32)

    def _class(self, main: OpInfo, nbytes: int) -> str:
        pattern = self._patterns.get(main.id)
        if pattern is not None:
            return pattern.partition(" ")[0]
        found = self._class_of(main)
        return "shape" if nbytes <= _SMALL and found in _MAY_BE_SHAPES else found

    def _class_of(self, main: OpInfo) -> str:
        if main.domain:
            return "other"
        if main.op_type in CONV:
            return self._conv(main)
        if main.op_type in MATMUL:
            return self._matmul(main)
        known = (name for name, types in _CLASSES.items() if main.op_type in types)
        prefix = (name for start, name in _BY_NAME.items() if start in main.op_type)
        return next(known, None) or next(prefix, "other")

    def _conv(self, main: OpInfo) -> str:
        if main.op_type == "ConvTranspose":
            return "conv.transposed"
        node = self._graph.nodes[main.id]
        weight = self._shape(node.inputs[3 if main.op_type == "QLinearConv" else 1])
        if weight is None or len(weight) < 3:
            return "conv"
        groups = node.attributes.get("group")
        if groups is not None and groups.as_int() > 1:
            return "conv.depthwise" if weight[1] == 1 else "conv.grouped"
        if weight[1] <= _FEW_CHANNELS:
            return "conv.few_channels"
        return "conv.pointwise" if math.prod(weight[2:]) == 1 else "conv"

    def _matmul(self, main: OpInfo) -> str:
        node = self._graph.nodes[main.id]
        left = self._shape(node.inputs[0])
        if left is None or len(left) < 2:
            return "matmul"
        turned = node.attributes.get("transA")  # Gemm's
        rows = left[-1] if turned is not None and turned.as_int() else math.prod(left[:-1])
        return "matmul.few_rows" if rows <= _FEW_ROWS else "matmul"

    def _shape(self, value: ir.Value | None) -> tuple[int, ...] | None:
        info = self._graph.values.get(value.name or "") if value is not None else None
        if info is None or info.shape is None:
            return None
        shape = tuple(dim for dim in info.shape if isinstance(dim, int))
        return shape if len(shape) == len(info.shape) else None


_QUANTISABLE = CONV | MATMUL
_WRITTEN = {
    np.dtype(np.float16): Precision.FP16,
    np.dtype(ml_dtypes.bfloat16): Precision.BF16,
}
_CLASSES: Mapping[str, frozenset[str]] = {
    "recurrent": RECURRENT,
    "control": CONTROL,
    "layernorm": NORM,
    "attention": ATTENTION,
    "softmax": frozenset({"Softmax", "LogSoftmax", "Hardmax"}),
    "resize": frozenset({"Resize", "Upsample", "GridSample", "RoiAlign", "AffineGrid"}),
    "elementwise": ELEMENTWISE | {"DequantizeLinear", "DynamicQuantizeLinear"},
    "movement": MOVEMENT,
}
_BY_NAME = {"Global": "reduction.global", "Pool": "pool", "Reduce": "reduction", "Arg": "reduction"}
_MAY_BE_SHAPES = frozenset({"movement", "elementwise", "other"})


def _is_elementwise(info: OpInfo) -> bool:
    return not info.domain and info.op_type in ELEMENTWISE


def _is_heavy(info: OpInfo) -> bool:
    return info.op_type not in ELEMENTWISE and info.op_type not in MOVEMENT
