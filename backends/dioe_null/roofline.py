"""What a run costs on a modelled device: a roofline for each op, and what every op costs besides.

An op takes the longer of its arithmetic at the precision's peak and its memory traffic at the
device's bandwidth (S. Williams, A. Waterman, D. Patterson: Roofline, CACM 52(4), 2009), each at the
share that is reached, and a launch; a run takes the sum of its ops and a dispatch. Nothing is fused
and no value stays in a cache, so this is an upper bound of what good software takes. FLOPs and
bytes are those of ``dioe.flops``; an op whose FLOPs nobody knows costs its bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from dioe import flops
from dioe.flops import VALUE_BITS, WEIGHT_BITS
from dioe.types import Precision, Precisions
from dioe_null.descriptors import DeviceModel
from dioe_null.shapes import Inferred, ValueType

_INTEGER_OPS = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
"""Ops on 8 bits, whatever precision the rest computes in."""


@dataclass(frozen=True, slots=True)
class OpCost:
    """One op of a run: what it does, and the time that it takes."""

    flops: int
    nbytes: int
    precision: Precision
    ms: float


@dataclass(frozen=True, slots=True)
class RunCost:
    """One run: its ops in the model's order, and the whole. Sizes in bytes, times in ms.

    ``activation_bytes`` is the most that values between the ops, inputs and outputs included, take
    at once.
    """

    ops: tuple[OpCost, ...]
    total_ms: float
    activation_bytes: int
    values: Mapping[str, ValueType]


class Roofline:
    """Costs of a model's ops on a device, in the precision of each."""

    def __init__(
        self, device: DeviceModel, model: ir.Model, op_ids: Sequence[str], precisions: Precisions
    ) -> None:
        self._device, self._graph = device, model.graph
        self._op_ids, self._precisions = op_ids, precisions
        self._weights = dict(_weights(model.graph))

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights, as the default precision stores them."""
        bits = WEIGHT_BITS.get(self._precisions.default)
        return sum(_stored(kind, bits) for kind in self._weights.values())

    def run(self, inferred: Inferred) -> RunCost:
        """The cost of a run on values of these types."""
        ops = [
            self._op(node, self._precisions.of(op), inferred)
            for op, node in zip(self._op_ids, self._graph, strict=True)
        ]
        return RunCost(
            tuple(ops),
            sum(op.ms for op in ops) + self._device.dispatch_us / 1e3,
            self.activation_bytes(inferred.values),
            inferred.values,
        )

    def _op(self, node: ir.Node, asked: Precision, inferred: Inferred) -> OpCost:
        first = node.outputs[0].name or "" if node.outputs else ""
        if first in inferred.inside:
            body, inner = inferred.inside[first]
            return _sum(asked, (self._op(n, asked, inner) for n in body))
        if not node.domain and node.op_type in flops.VIEWS:
            return OpCost(0, 0, asked, 0.0)
        values = inferred.values
        inputs = [values.get(v.name or "") if v is not None else None for v in node.inputs]
        outputs = [values.get(v.name or "") for v in node.outputs]
        kind = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        work = flops.flops(
            flops.OpShapes(
                kind,
                flops.attributes(node),
                [None if t is None else t.shape for t in inputs],
                [None if t is None else t.shape for t in outputs],
            )
        )
        read = flops.bytes_read(
            node.op_type,
            [
                0 if t is None else _stored(t, self._bits(v, asked))
                for v, t in zip(node.inputs, inputs, strict=True)
            ],
            [0 if t is None else _stored(t, VALUE_BITS.get(asked)) for t in outputs],
        )
        nbytes = (read or 0) + sum(
            _stored(t, VALUE_BITS.get(asked)) for t in outputs if t is not None
        )
        precision = self._arithmetic(node, asked, inputs)
        ms = max(
            (work or 0) / self._device.flops_per_ms(precision), nbytes / self._device.bytes_per_ms
        )
        return OpCost(work or 0, nbytes, precision, ms + self._device.launch_us / 1e3)

    def _bits(self, value: ir.Value | None, precision: Precision) -> int | None:
        weight = value is not None and value.name in self._weights
        return (WEIGHT_BITS if weight else VALUE_BITS).get(precision)

    def _arithmetic(
        self, node: ir.Node, asked: Precision, inputs: Iterable[ValueType | None]
    ) -> Precision:
        """The precision whose peak counts: as written means what the op's inputs are."""
        written = asked
        if node.op_type in _INTEGER_OPS:
            written = Precision.INT8
        elif asked is Precision.FP32:
            first = next((t.element for t in inputs if t is not None), ir.DataType.FLOAT)
            written = _WRITTEN.get(first, asked)
        peaks = self._device.peak_tflops
        if written in peaks:
            return written
        return asked if asked in peaks else min(peaks, key=lambda p: peaks[p])

    def activation_bytes(
        self, values: Mapping[str, ValueType], elsewhere: Collection[str] = ()
    ) -> int:
        """The largest sum of what is alive at once, values freed after their last reader; those
        ``elsewhere``, in buffers of their own, don't count."""
        nodes = list(self._graph)
        last = {v.name: i for i, n in enumerate(nodes) for v in n.inputs if v is not None}
        last |= {v.name: len(nodes) for v in self._graph.outputs}

        def size(name: str | None) -> int:
            out = name in self._weights or name in elsewhere
            known = None if out else values.get(name or "")
            return 0 if known is None else _stored(known, VALUE_BITS.get(self._precisions.default))

        ends: list[list[str | None]] = [[] for _ in range(len(nodes) + 1)]
        for name, index in last.items():
            ends[index].append(name)
        alive = most = sum(size(v.name) for v in self._graph.inputs)
        for node, ending in zip(nodes, ends, strict=False):
            alive += sum(size(v.name) for v in node.outputs if v.name in last)
            most = max(most, alive)
            alive -= sum(map(size, ending))
        return most


_WRITTEN = {
    ir.DataType.FLOAT16: Precision.FP16,
    ir.DataType.BFLOAT16: Precision.BF16,
    ir.DataType.INT8: Precision.INT8,
    ir.DataType.UINT8: Precision.INT8,
}


def _weights(graph: ir.Graph) -> Iterator[tuple[str, ValueType]]:
    """Initializers and what ``Constant`` nodes make, as far as they are tensors."""
    for name, value in graph.initializers.items():
        if value.const_value is not None:
            tensor = value.const_value
            yield name, ValueType(tensor.dtype, tuple(tensor.shape.numpy()))
    for node in graph:
        if node.op_type == "Constant" and not node.domain and "value" in node.attributes:
            tensor = node.attributes["value"].as_tensor()
            yield node.outputs[0].name or "", ValueType(tensor.dtype, tuple(tensor.shape.numpy()))


def _stored(kind: ValueType, bits: int | None) -> int:
    """Bytes of a tensor: floats of 32 bits take ``bits`` where given, all else is as written."""
    if bits is None or kind.element is not ir.DataType.FLOAT:
        return kind.nbytes
    return (kind.elements * bits + 7) // 8


def _sum(precision: Precision, parts: Iterable[OpCost]) -> OpCost:
    parts = list(parts)
    return OpCost(
        sum(p.flops for p in parts),
        sum(p.nbytes for p in parts),
        precision,
        sum(p.ms for p in parts),
    )
