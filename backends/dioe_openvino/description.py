"""The description of a compiled model in OpenVINO's XML: layers, their ops, marks on them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Set

from dioe.types import StageModel
from dioe_openvino.profile import cover_all
from dioe_openvino.source import LayerNames

# As OpenVINO's serializer writes it: "dynamic" is any type, "f16" stands for all that are lower.
# It can't be set from Python: a plain value under its key is no such attribute.
_MARK = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}

_NO_WORK = frozenset({"Const", "Parameter", "Result"})
_SNIPPET = "Subgraph"


class Description:
    """The executed layers of an exported model by their id, and the source ops of each.

    ``attention`` are the layers that are snippets with matrix products inside; ``names`` are the
    names that they keep when they are imported.
    """

    def __init__(self, text: bytes, names: LayerNames, model: StageModel) -> None:
        self._text = text
        root = _parse(text)
        layers = {layer.get("id", ""): layer for layer in _layers(root)}
        self.attention = frozenset(
            id_
            for id_, layer in layers.items()
            if layer.get("type") == _SNIPPET
            and any(inner.get("type") == "MatMul" for inner in layer.iter("layer"))
        )
        named = {id_: _named_ops(layer, names) for id_, layer in layers.items()}
        covers = {id_: set(ops) for id_, ops in cover_all(named, model).items()}
        readers: dict[str, list[str]] = {id_: [] for id_ in layers}
        for edge in root.iterfind("edges/edge"):
            source, reader = edge.get("from-layer", ""), edge.get("to-layer", "")
            if source in layers and reader in layers:
                readers[source].append(reader)
        for id_ in reversed(layers):  # written in topological order
            if not covers[id_]:  # made by OpenVINO, such as a transposition: for what reads it
                covers[id_].update(*(covers[reader] for reader in readers[id_]))
        self._covers = covers
        by_name: dict[str, set[str]] = {}
        for id_, layer in layers.items():
            by_name.setdefault(layer.get("name", ""), set()).update(covers[id_])
        self.names = LayerNames(by_name)

    def layers_of(self, ops: Set[str]) -> frozenset[str]:
        """Ids of the layers that do any of the work of these ops."""
        return frozenset(id_ for id_, covered in self._covers.items() if covered & ops)

    def ops_in(self, layers: Iterable[str]) -> frozenset[str]:
        """The ops whose work these layers do."""
        return frozenset[str]().union(*(self._covers[id_] for id_ in layers))

    def marked(self, layers: Set[str]) -> bytes:
        """The description with these layers marked to keep their precision."""
        root = _parse(self._text)
        for layer in _layers(root):
            if layer.get("id") not in layers:
                continue
            # The bodies of loops and branches are compiled as graphs of their own; a snippet is
            # one layer, whatever is inside.
            inside = [layer] if layer.get("type") == _SNIPPET else layer.iter("layer")
            for inner in inside:
                if inner.get("type") not in _NO_WORK:
                    _mark(inner)
        return ET.tostring(root)


def _parse(text: bytes) -> ET.Element:
    return ET.fromstring(text.rstrip(b"\0"))  # OpenVINO pads it


def _layers(root: ET.Element) -> list[ET.Element]:
    return [layer for layer in root.iterfind("layers/layer") if layer.get("type") not in _NO_WORK]


def _named_ops(layer: ET.Element, names: LayerNames) -> set[str]:
    found: set[str] = set()
    for inner in layer.iter("layer"):
        if inner.get("type") in _NO_WORK:
            continue
        for attribute in inner.iterfind("rt_info/attribute"):
            if attribute.get("name") == "fused_names":
                for name in names.split(attribute.get("value", ""), separator=", "):
                    found |= names.ops_of(name)
    return found


def _mark(layer: ET.Element) -> None:
    info = layer.find("rt_info")
    if info is None:
        info = ET.Element("rt_info")
        data = layer.find("data")  # the schema's order: data, rt_info, input
        layer.insert(0 if data is None else 1, info)
    ET.SubElement(info, "attribute", _MARK)
