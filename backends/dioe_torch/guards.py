"""What would end the process in a compiled kernel, turned into an error of one run.

Eager torch raises for an index out of range and for an integer divided by zero. Kernels that
Inductor makes for the CPU end the process there: an exception can't leave a parallel region, and
the processor traps. So indices are clamped and divisors replaced where they are wrong, and the
graph gets one more output that says whether any were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten

_BY_DIMENSION = {
    aten.index_select.default, aten.gather.default, aten.scatter.src, aten.scatter.value,
    aten.scatter.reduce, aten.scatter.value_reduce, aten.scatter_add.default,
    aten.scatter_reduce.two, aten.index_add.default, aten.index_copy.default,
}  # fmt: skip
"""Operators of a tensor, a dimension and indices along it."""

_BY_POSITION = {aten.index.Tensor, aten.index_put.default, aten._unsafe_index.Tensor}
"""Operators of a tensor and a list of indices, one a dimension, which may be negative."""

_DIVIDING = {
    aten.div.Tensor_mode, aten.floor_divide.default, aten.remainder.Tensor, aten.fmod.Tensor,
    aten.remainder.Scalar_Tensor,
}  # fmt: skip


def guard(module: GraphModule) -> bool:
    """Guard a captured graph, in place; True if it has one more output now, which is True after a
    run in which everything was in range."""
    graph = module.graph
    flags: list[Node] = []
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        with graph.inserting_before(node):
            if node.target in _BY_DIMENSION | _BY_POSITION | {aten.embedding.default}:
                flags += _guard_indices(graph, node)
            elif node.target in _DIVIDING:
                flags += _guard_division(graph, node)
    if not flags:
        return False
    output = next(node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(output):
        fine = flags[0]
        for flag in flags[1:]:
            fine = graph.call_function(aten.logical_and.default, (fine, flag))
    output.args = ([*output.args[0], fine],)
    graph.lint()
    module.recompile()
    return True


def _guard_indices(graph: Graph, node: Node) -> Iterator[Node]:
    for place, index, low, high in _indices(node):
        above = graph.call_function(aten.ge.Scalar, (index, low))
        below = graph.call_function(aten.lt.Scalar, (index, high))
        inside = graph.call_function(aten.logical_and.default, (above, below))
        yield graph.call_function(aten.all.default, (inside,))
        clamped = graph.call_function(aten.clamp.default, (index, low, high - 1))
        args: list[Any] = list(node.args)
        if isinstance(place, tuple):
            listed = list(args[place[0]])
            listed[place[1]] = clamped
            args[place[0]] = listed
        else:
            args[place] = clamped
        node.args = tuple(args)


def _indices(node: Node) -> Iterator[tuple[int | tuple[int, int], Node, int, int]]:
    """Index operands that are computed or given: where they stand, and their range."""
    args: tuple[Any, ...] = node.args
    shape = args[0].meta["val"].shape
    if node.target is aten.embedding.default:
        found: list[tuple[int | tuple[int, int], Any, int, int]] = [(1, args[1], 0, shape[0])]
    elif node.target in _BY_DIMENSION:
        size = shape[args[1]] if len(shape) else 1
        found = [(2, args[2], 0, size)]
    else:
        found = [
            ((1, i), index, -shape[i], shape[i])
            for i, index in enumerate(args[1])
            if index is not None and index.meta["val"].dtype != torch.bool
        ]
    for place, index, low, high in found:
        if isinstance(index, Node) and index.op != "get_attr" and index.meta["val"].numel():
            if high <= 0:
                continue  # an index into nothing, whose result torch has checked to be nothing
            yield place, index, low, high


def _guard_division(graph: Graph, node: Node) -> Iterator[Node]:
    value = node.meta["val"]
    divisor = node.args[1]
    if value.dtype.is_floating_point or not isinstance(divisor, Node) or divisor.op == "get_attr":
        return
    zero = graph.call_function(aten.eq.Scalar, (divisor, 0))
    bad = zero
    dividend = node.args[0]
    if value.dtype.is_signed and isinstance(dividend, Node):
        least = torch.iinfo(value.dtype).min
        negated = graph.call_function(aten.eq.Scalar, (divisor, -1))
        lowest = graph.call_function(aten.eq.Scalar, (dividend, least))
        overflow = graph.call_function(aten.logical_and.default, (negated, lowest))
        bad = graph.call_function(aten.logical_or.default, (zero, overflow))
    any_zero = graph.call_function(aten.any.default, (zero,))
    yield graph.call_function(aten.logical_not.default, (any_zero,))
    one = graph.call_function(aten.full_like.default, (divisor, 1))
    safe = graph.call_function(aten.where.self, (bad, one, divisor))
    node.args = (node.args[0], safe, *node.args[2:])
