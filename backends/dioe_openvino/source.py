"""Which source op each layer of a model as OpenVINO read it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Set

import openvino as ov

from dioe.types import StageModel


class LayerNames:
    """Names of layers and the source ops behind them."""

    def __init__(self, ops: Mapping[str, Set[str]]) -> None:
        self._ops = ops

    def ops_of(self, layer: str) -> frozenset[str]:
        """Source ops of a layer name; empty for a name that isn't known."""
        return frozenset(self._ops.get(layer, ()))

    def split(self, names: str, separator: str = ",") -> tuple[str, ...]:
        """The names in a list with separators, some of which may have such of their own."""
        pieces, found, start = names.split(separator), [], 0
        while start < len(pieces):
            for stop in range(len(pieces), start, -1):
                joined = separator.join(pieces[start:stop])
                if joined in self._ops or stop == start + 1:
                    found.append(joined)
                    start = stop
                    break
        return tuple(found)


class OpNames(LayerNames):
    """Layer names of a model as it was read, and the source ops behind them.

    The ONNX front end names the last layer of an op after the node and puts ONNX value names on
    the ports; layers that it makes besides have made-up names and belong to the op they lead to.
    Names that occur twice are made unique, which changes the model.
    """

    def __init__(self, read: ov.Model, model: StageModel) -> None:
        ids = model.op_ids
        producer = {
            value.name: op
            for op, node in zip(ids, model.ir.graph, strict=True)
            for value in node.outputs
            if value.name
        }
        by_name = {n.name: op for op, n in zip(ids, model.ir.graph, strict=True) if n.name == op}
        ops: dict[str, set[str]] = {}
        owners: dict[str, str] = {}
        for layer in reversed(read.get_ordered_ops()):
            if layer.get_type_name() in ("Parameter", "Result"):
                continue
            name = layer.get_friendly_name()
            owner = _owner(layer, producer, by_name, owners)
            if name in ops:
                unique = f"{name}#{len(ops)}"
                layer.set_friendly_name(unique)
                if owner is not None:
                    ops[name].add(owner)
                name = unique
            ops[name] = set() if owner is None else {owner}
            if owner is not None:
                owners[name] = owner
        super().__init__(ops)


def _owner(
    layer: ov.Node, producer: dict[str, str], by_name: dict[str, str], owners: dict[str, str]
) -> str | None:
    for port in layer.outputs():
        for value in sorted(port.get_names()):
            if value in producer:
                return producer[value]
    name = layer.get_friendly_name()
    if name in by_name:
        return by_name[name]
    for port in layer.outputs():
        for target in sorted(t.get_node().get_friendly_name() for t in port.get_target_inputs()):
            if target in owners:
                return owners[target]
    return None
