"""Ops of which OpenVINO leaves out an attribute or an input, without saying so, by op type.

Seen with OpenVINO 2026.4.1, case by case against ``onnx.reference`` and ONNX Runtime; what it gets
wrong by dtype is in ``exactness``, and what nobody can tell before the run in docs/openvino.md.
Where a rule needs a shape or a value that isn't known, it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dioe.types import Array

Rule = Callable[[ir.Node, int], str]


def deviation(node: ir.Node, opset: int) -> str:
    """Why OpenVINO's result for ``node`` would be wrong; empty where it is right, or not known to
    be wrong. ``opset`` is the version of ONNX's own domain."""
    rule = None if node.domain else _RULES.get(node.op_type)
    return "" if rule is None else rule(node, opset)


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attributes.get(name)
    return default if attribute is None else list(attribute.as_ints())


def _text(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _constant(value: ir.Value) -> Array | None:
    """What is in an initializer or a Constant; None for what is computed or fed."""
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _sizes(value: ir.Value | None) -> list[int | None]:
    """The dimensions that are known, None for each that isn't; nothing for an unknown rank."""
    if value is None or value.shape is None:
        return []
    return [dim if isinstance(dim, int) else None for dim in value.shape]


def _recurrent(node: ir.Node, _opset: int) -> str:
    op = repr(node.op_type)
    if _int(node, "layout", 0):
        return f"OpenVINO takes time for the first axis of {op}, 'layout' has no effect"
    if _int(node, "input_forget", 0):
        return f"'input_forget' of {op} has no effect in OpenVINO"
    peephole = _input(node, 7)
    if peephole is not None:
        weights = _constant(peephole)
        if weights is None or np.any(weights):
            return f"the peepholes (input P) of {op} have no effect in OpenVINO"
    functions = node.attributes.get("activations")
    if functions is not None and _text(node, "direction", "forward") == "bidirectional":
        names = [name.lower() for name in functions.as_strings()]
        half = len(names) // 2
        if names[:half] != names[half:]:
            return f"OpenVINO uses the same activations in both directions of {op}"
    return ""


def _resize(node: ir.Node, _opset: int) -> str:
    mode = _text(node, "mode", "nearest")
    if _text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return "'keep_aspect_ratio_policy' of 'Resize' has no effect in OpenVINO"
    if mode == "cubic" and _int(node, "exclude_outside", 0):
        return "'exclude_outside' of 'Resize' has no effect in OpenVINO"
    if mode != "nearest" and _int(node, "antialias", 0) and not _only_grows(node):
        return "'antialias' of 'Resize' has no effect in OpenVINO, and this may shrink"
    return ""


def _only_grows(node: ir.Node) -> bool:
    """Whether a Resize is known to make no axis smaller."""
    scales = _input(node, 2)
    if scales is not None:
        factors = _constant(scales)
        if factors is None or factors.size:  # scales of no elements mean that sizes are given
            return factors is not None and bool(np.all(factors >= 1))
    wanted, given = _input(node, 3), _sizes(_input(node, 0))
    sizes = None if wanted is None else _constant(wanted)
    if sizes is None:
        return False
    axes = _ints(node, "axes", list(range(len(given))))
    if len(axes) != len(sizes):
        return False
    known = [given[axis] for axis in axes]
    return all(a is not None and a <= b for a, b in zip(known, sizes, strict=True))


@dataclass(frozen=True, slots=True)
class _Window:
    """A pooling window along one axis; ``size`` is the input's, None if it isn't known."""

    size: int | None
    kernel: int
    stride: int
    before: int
    after: int

    @property
    def outputs(self) -> int:
        """Rounded up. Only for a known size."""
        assert self.size is not None
        return -(-(self.size + self.before + self.after - self.kernel) // self.stride) + 1

    @property
    def last_is_outside(self) -> bool:
        """Whether the last window may begin behind the input: ONNX then leaves it out."""
        if self.stride + self.after <= self.kernel:
            return False
        if self.size is None:
            return True
        return (self.outputs - 1) * self.stride >= self.size + self.before

    @property
    def hangs_over(self) -> bool:
        """Whether the last window may reach beyond the padding."""
        if self.size is None:
            return self.stride > 1
        last = (self.outputs - 1 - self.last_is_outside) * self.stride
        return last + self.kernel > self.size + self.before + self.after


def _windows(node: ir.Node) -> list[_Window]:
    """The windows of a pooling op that rounds up, one an axis; none where it doesn't."""
    if not _int(node, "ceil_mode", 0) or _text(node, "auto_pad", "NOTSET") != "NOTSET":
        return []
    kernel = _ints(node, "kernel_shape", [])
    count = len(kernel)
    strides, dilations = (_ints(node, name, [1] * count) for name in ("strides", "dilations"))
    pads = _ints(node, "pads", [0] * 2 * count)
    sizes = _sizes(_input(node, 0))[2:] or [None] * count
    return [
        _Window(sizes[i], (kernel[i] - 1) * dilations[i] + 1, strides[i], pads[i], pads[i + count])
        for i in range(count)
    ]


def _max_pool(node: ir.Node, _opset: int) -> str:
    if any(window.last_is_outside for window in _windows(node)):
        return (
            "OpenVINO keeps windows of 'MaxPool' that begin behind the input, which ceil_mode drops"
        )
    return ""


def _average_pool(node: ir.Node, _opset: int) -> str:
    windows = _windows(node) if _int(node, "count_include_pad", 0) else []
    if any(w.before or w.after for w in windows) and any(w.hangs_over for w in windows):
        return "OpenVINO divides by another count where 'AveragePool' has ceil_mode and pads count"
    return ""


def _attention(node: ir.Node, _opset: int) -> str:
    if any(_int(node, name, -1) >= 0 for name in ("left_window_size", "right_window_size")):
        return "the window of 'Attention' has no effect in OpenVINO"
    if _int(node, "is_causal", 0) and _input(node, 4) is not None:
        # Where the counts aren't known it is taken: who gives past keys gives a new one a query.
        queries, keys = (_sizes(_input(node, i))[-2:-1] for i in (0, 1))
        if queries and keys and None not in (*queries, *keys) and queries != keys:
            return "OpenVINO counts causal 'Attention' from its last key, not from the past's end"
    return ""


def _dft(node: ir.Node, opset: int) -> str:
    if _int(node, "onesided", 0):
        return "OpenVINO gives a onesided 'DFT' another rank"
    if opset < 20:
        return ""
    given, rank = _input(node, 2), len(_sizes(_input(node, 0)))
    axis = np.array(-2) if given is None else _constant(given)
    if axis is None or (axis.item() != 1 and (not rank or axis.item() + rank != 1)):
        return "OpenVINO takes axis 1 for 'DFT' since opset 20, whatever its input says"
    return ""


def _roi_align(node: ir.Node, _opset: int) -> str:
    if _text(node, "mode", "avg") == "max":
        return "OpenVINO interpolates in 'RoiAlign' before it takes the maximum, ONNX after"
    return ""


def _space_to_depth(node: ir.Node, _opset: int) -> str:
    mode = _text(node, "mode", "DCR")
    return "" if mode == "DCR" else f"OpenVINO does 'SpaceToDepth' as DCR, not as {mode}"


def _tile(node: ir.Node, _opset: int) -> str:
    return (
        "OpenVINO writes nothing where 'Tile' repeats by data" if _is_data(node.inputs[1]) else ""
    )


def _is_data(value: ir.Value | None) -> bool:
    """Whether a value depends on what is in the inputs, and not on their shapes alone."""
    waiting, seen = [value], set[int]()
    while waiting:
        value = waiting.pop()
        if value is None or value.const_value is not None or id(value) in seen:
            continue
        seen.add(id(value))
        node = value.producer()
        if node is None:
            return True
        if node.op_type not in ("Shape", "Size"):
            waiting.extend(node.inputs)
    return False


_RULES: Mapping[str, Rule] = {
    "Attention": _attention,
    "AveragePool": _average_pool,
    "DFT": _dft,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "MaxPool": _max_pool,
    "Resize": _resize,
    "RNN": _recurrent,
    "RoiAlign": _roi_align,
    "SpaceToDepth": _space_to_depth,
    "Tile": _tile,
}
