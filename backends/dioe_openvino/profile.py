"""Per-op times out of OpenVINO's counters, mapped back to source ops."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import openvino as ov

from dioe.types import OpTime, StageModel
from dioe_openvino.source import LayerNames

_PRECISIONS = {
    "f32": "fp32",
    "f16": "fp16",
    "bf16": "bf16",
    "i8": "int8",
    "u8": "int8",
    "i4": "int4",
    "u4": "int4",
}


@dataclass(frozen=True, slots=True)
class RuntimeLayer:
    """A layer as it is executed: its precision (empty if of another type), the ops it names."""

    precision: str
    ops: frozenset[str]


def runtime_layers(compiled: ov.CompiledModel, names: LayerNames) -> dict[str, RuntimeLayer]:
    """The executed layers by name, in order of execution; constants are left out.

    Ops that OpenVINO forgot in fusing are in none: see ``cover_all``.
    """
    found = {}
    for layer in compiled.get_runtime_model().get_ordered_ops():
        info = layer.get_rt_info()
        if _text(info, "layerType") == "Const":
            continue
        sources = names.split(_text(info, "originalLayersNames"))
        ops = frozenset[str]().union(*map(names.ops_of, sources))
        precision = _PRECISIONS.get(_text(info, "runtimePrecision"), "")
        found[layer.get_friendly_name()] = RuntimeLayer(precision, ops)
    return found


class Profiler:
    """Counters of one compiled model, read after its first run and when asked."""

    def __init__(self, compiled: ov.CompiledModel, names: LayerNames, model: StageModel) -> None:
        layers = runtime_layers(compiled, names)
        self._precision = {name: layer.precision for name, layer in layers.items()}
        named = {name: set(layer.ops) for name, layer in layers.items()}
        self._ops = cover_all(named, model)
        self._lock = threading.Lock()
        self._runs = 0
        self._first: dict[str, float] = {}
        self._request: ov.InferRequest | None = None

    def after_run(self, request: ov.InferRequest) -> None:
        """Note a run; of the first one, which also allocates and packs, the times."""
        with self._lock:
            self._runs += 1
            self._request = request
            if self._runs == 1:
                self._first = {p.node_name: _milliseconds(p) for p in request.get_profiling_info()}

    def times(self) -> tuple[OpTime, ...]:
        """Times so far, without the first run if there were more.

        OpenVINO gives means over all runs, cut to whole microseconds; with several streams, those
        of the stream that ran last.
        """
        with self._lock:
            if self._request is None:
                return ()
            runs, first = self._runs, self._first
            counters = self._request.get_profiling_info()
        found = []
        for counter in counters:
            name = counter.node_name
            executed = str(counter.status) == "Status.EXECUTED"
            ops = self._ops.get(name, ())
            if not executed and not ops:
                continue
            total = _milliseconds(counter) * runs
            if runs > 1:
                total = max(0.0, total - first.get(name, 0.0))
            found.append(
                OpTime(
                    name=name,
                    op_type=counter.node_type,
                    ops=ops,
                    total_ms=total,
                    count=max(1, runs - 1),
                    precision=self._precision.get(name, ""),
                )
            )
        return tuple(found)

    def close(self) -> None:
        """Let go of the request."""
        with self._lock:
            self._request = None


def _text(info: Any, key: str) -> str:
    return str(info[key].astype(str)) if key in info else ""


def _milliseconds(counter: Any) -> float:
    return float(counter.real_time.total_seconds() * 1000)


def cover_all(named: Mapping[str, Set[str]], model: StageModel) -> dict[str, tuple[str, ...]]:
    """The source ops of each runtime layer, every op in at least one.

    ``named`` holds the source ops that OpenVINO names for each layer, in order of execution. It
    forgets some of what it fuses (a convolution into which a batch norm was folded): such an op
    goes where its consumer went, or else its producer.
    """
    nodes = list(zip(model.op_ids, model.ir.graph, strict=True))
    order = {op: i for i, (op, _) in enumerate(nodes)}
    owner: dict[str, str] = {}
    for layer, ops in named.items():
        for op in ops:
            owner.setdefault(op, layer)
    op_of = {id(node): op for op, node in nodes}
    for op, node in reversed(nodes):
        consumers = [op_of.get(id(c)) for v in node.outputs for c, _ in v.uses()]
        found = next((owner[c] for c in consumers if c in owner), None)
        if op not in owner and found is not None:
            owner[op] = found
    for op, node in nodes:
        producers = [op_of.get(id(v.producer())) for v in node.inputs if v is not None]
        found = next((owner[p] for p in producers if p in owner), None)
        if op not in owner and found is not None:
            owner[op] = found
    covers = {layer: set(ops) for layer, ops in named.items()}
    for op, layer in owner.items():
        covers[layer].add(op)
    return {layer: tuple(sorted(ops, key=order.__getitem__)) for layer, ops in covers.items()}
