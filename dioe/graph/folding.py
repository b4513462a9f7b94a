"""Evaluating small constant computations, mostly of shapes, that shape inference can't follow.

Works on a skeleton protobuf (see ``tensors.skeleton``) that only serves shape inference: folded ops
become ``Constant`` nodes in it, and an ``If`` whose condition is known gets its taken branch on
both sides. The model itself is never changed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from dioe.types import Array

MAX_ELEMENTS = 4096
"""Larger results are not shape computations and stay unknown."""

RANDOM = frozenset(
    {"Bernoulli", "Multinomial"}
    | {f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")}
)
"""Ops that draw lots: what they give doesn't follow from what they read."""

_UNKNOWN = RANDOM | {"Dropout"}  # random where it trains
_GROWING = frozenset(
    {"ConstantOfShape", "Expand", "Range", "Tile", "Pad", "Resize", "OneHot"}
    | {"Upsample", "CenterCropPad", "AffineGrid", "MelWeightMatrix"}
    | {"BlackmanWindow", "HammingWindow", "HannWindow"}
)

Path = tuple[tuple[str, str], ...]
"""A body: (first output of the op, attribute) from the main graph inwards; () is the main graph."""

_log = logging.getLogger(__name__)


@dataclass
class Folded:
    """What has been found so far, by body: constants by name, and the branch that each If takes."""

    constants: dict[Path, dict[str, Array]] = field(default_factory=dict)
    taken: dict[Path, dict[str, str]] = field(default_factory=dict)


def fold(proto: onnx.ModelProto, inferred: onnx.ModelProto, found: Folded) -> bool:
    """Fold in ``proto`` what ``inferred``, its inferred copy, allows; True if anything changed."""
    opsets = {opset.domain: opset.version for opset in proto.opset_import}
    folder = _Folder(list(proto.opset_import) if opsets else [], found)
    return folder.graph(proto.graph, inferred.graph, {}, ())


@dataclass
class _Folder:
    opsets: list[onnx.OperatorSetIdProto]
    found: Folded

    def graph(
        self,
        graph: onnx.GraphProto,
        inferred: onnx.GraphProto,
        outer: Mapping[str, Array],
        path: Path,
    ) -> bool:
        own = self.found.constants.setdefault(path, {})
        known = {**outer, **own}
        for tensor in graph.initializer:
            if tensor.name not in known and tensor.data_location != onnx.TensorProto.EXTERNAL:
                known[tensor.name] = onnx.numpy_helper.to_array(tensor)
        shapes = _static_shapes(inferred)
        changed = False
        nodes: list[onnx.NodeProto] = []
        for node, after in zip(graph.node, inferred.node, strict=True):
            if node.op_type == "Constant" and not node.domain:
                name, value = node.output[0], _constant(node)
                if value is not None:
                    known[name] = own[name] = value
                nodes.append(node)
                continue
            results = self._evaluate(node, known, shapes)
            if results is None:
                changed |= self._bodies(node, after, known, path)
                nodes.append(node)
                continue
            for name, value in results.items():
                known[name] = own[name] = value
                nodes.append(
                    onnx.helper.make_node(
                        "Constant", [], [name], value=onnx.numpy_helper.from_array(value)
                    )
                )
            changed = True
        if changed:
            copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del graph.node[:]
            graph.node.extend(copies)
        return changed

    def _bodies(
        self, node: onnx.NodeProto, after: onnx.NodeProto, known: Mapping[str, Array], path: Path
    ) -> bool:
        changed = False
        first = next((name for name in node.output if name), "")
        if node.op_type == "If" and not node.domain:
            changed = self._take(node, first, known, path)
            if changed:
                return True  # the bodies are inferred anew before they are folded
        for attribute, inferred in zip(node.attribute, after.attribute, strict=True):
            if attribute.type != onnx.AttributeProto.GRAPH:
                continue
            changed |= _hand_in(attribute.g, known)
            if len(attribute.g.node) == len(inferred.g.node):
                inner = (*path, (first, attribute.name))
                changed |= self.graph(attribute.g, inferred.g, _visible(attribute.g, known), inner)
        return changed

    def _take(
        self, node: onnx.NodeProto, first: str, known: Mapping[str, Array], path: Path
    ) -> bool:
        taken = self.found.taken.setdefault(path, {})
        condition = known.get(node.input[0])
        if first in taken or condition is None or condition.size != 1:
            return False
        branches = {attribute.name: attribute for attribute in node.attribute}
        chosen, other = "then_branch", "else_branch"
        if not bool(condition.reshape(-1)[0]):
            chosen, other = other, chosen
        branches[other].g.CopyFrom(branches[chosen].g)
        taken[first] = chosen
        return True

    def _evaluate(
        self,
        node: onnx.NodeProto,
        known: Mapping[str, Array],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> dict[str, Array] | None:
        """Outputs of a node that follow from constants and static shapes; None where they don't."""
        if node.domain not in ("", "ai.onnx") or node.op_type in _UNKNOWN:
            return None
        if any(
            a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
            for a in node.attribute
        ):
            return None
        outputs = [name for name in node.output if name]
        feeds: dict[str, Array] = {}
        if node.op_type in ("Shape", "Size") and node.input[0] in shapes:
            # A stand-in without memory: only its shape is looked at.
            feeds[node.input[0]] = np.broadcast_to(np.float32(0), shapes[node.input[0]])
        elif all(name in known for name in node.input if name):
            feeds = {name: known[name] for name in node.input if name}
        else:
            return None
        if any(value.size > MAX_ELEMENTS for name, value in feeds.items() if name in known):
            return None
        if node.op_type in _GROWING and not all(
            name in shapes and math.prod(shapes[name]) <= MAX_ELEMENTS for name in outputs
        ):
            return None
        results = _run(node, feeds, self.opsets)
        if results is None or any(value.size > MAX_ELEMENTS for value in results.values()):
            return None
        return results


def _run(
    node: onnx.NodeProto, feeds: Mapping[str, Array], opsets: list[onnx.OperatorSetIdProto]
) -> dict[str, Array] | None:
    from onnx.reference import ReferenceEvaluator

    outputs = [name for name in node.output if name]
    function = onnx.helper.make_function("dioe", "fold", list(feeds), outputs, [node], opsets)
    try:
        with np.errstate(all="ignore"):
            values = ReferenceEvaluator(function).run(None, dict(feeds), {})
    except Exception as error:  # noqa: BLE001 - an op the reference can't run just isn't folded
        _log.debug("%s (%s) is not folded: %r", node.name, node.op_type, error)
        return None
    results = {name: np.asarray(value) for name, value in zip(outputs, values, strict=True)}
    if any(value.dtype == object or value.dtype.kind in "US" for value in results.values()):
        return None
    return results


def _constant(node: onnx.NodeProto) -> Array | None:
    for attribute in node.attribute:
        if attribute.name == "value" and attribute.t.data_location != onnx.TensorProto.EXTERNAL:
            return onnx.numpy_helper.to_array(attribute.t)
        if attribute.name in ("value_int", "value_ints"):
            value = onnx.helper.get_attribute_value(attribute)
            return np.asarray(value, dtype=np.int64)
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(onnx.helper.get_attribute_value(attribute), dtype=np.float32)
    return None


def _static_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        tensor = info.type.tensor_type
        if info.type.HasField("tensor_type") and tensor.HasField("shape"):
            dims = tensor.shape.dim
            if all(dim.WhichOneof("value") == "dim_value" for dim in dims):
                shapes[info.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _own_names(graph: onnx.GraphProto) -> set[str]:
    names = {info.name for info in graph.input} | {
        name for node in graph.node for name in node.output
    }
    return names | {tensor.name for tensor in graph.initializer}


def _visible(graph: onnx.GraphProto, known: Mapping[str, Array]) -> dict[str, Array]:
    own = _own_names(graph)
    return {name: value for name, value in known.items() if name not in own}


def _hand_in(graph: onnx.GraphProto, known: Mapping[str, Array]) -> bool:
    """Make the outer constants that a body reads its own, for inference doesn't look outside."""
    used = {name for node in graph.node for name in node.input} - _own_names(graph)
    handed = [name for name in used if name in known and known[name].dtype != object]
    for name in sorted(handed):
        graph.initializer.append(onnx.numpy_helper.from_array(known[name], name))
    return bool(handed)
