"""Sequences, which are lists of tensors that nobody changes, and optional values, which are None
where there is none."""

from __future__ import annotations

from typing import Any

import torch

from .core import Compute, Node, lowers


def _together(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors on one device; some may describe shapes, on the host."""
    devices = {x.device for x in tensors}
    if len(devices) < 2:
        return tensors
    device = next(device for device in devices if device.type != "cpu")
    return [x.to(device) for x in tensors]


def _place(position: Any, count: int, default: int) -> int:
    """A position in a sequence, from its front; ``count`` positions there are."""
    if position is None:
        return default
    found = int(position.reshape(()))
    if not -count <= found < count:
        raise IndexError(f"position {found} of {count} in a sequence")
    return found


@lowers("SequenceConstruct", since=11, lowered=False)
def _construct(node: Node) -> Compute:
    return lambda *tensors: list(tensors)


@lowers("SequenceEmpty", since=11, lowered=False)
def _empty(node: Node) -> Compute:
    return list


@lowers("SequenceAt", since=11, host=(1,), lowered=False)
def _at(node: Node) -> Compute:
    return lambda sequence, position: sequence[_place(position, len(sequence), 0)]


@lowers("SequenceInsert", since=11, host=(2,), lowered=False)
def _insert(node: Node) -> Compute:
    def compute(sequence: list[Any], tensor: Any, position: Any = None) -> list[Any]:
        n = len(sequence)
        if position is not None and int(position.reshape(())) == n:
            position = None
        at = _place(position, n, n)
        return [*sequence[:at], tensor, *sequence[at:]]

    return compute


@lowers("SequenceErase", since=11, host=(1,), lowered=False)
def _erase(node: Node) -> Compute:
    def compute(sequence: list[Any], position: Any = None) -> list[Any]:
        at = _place(position, len(sequence), -1) % max(len(sequence), 1)
        return sequence[:at] + sequence[at + 1 :]

    return compute


@lowers("SequenceLength", since=11, lowered=False)
def _length(node: Node) -> Compute:
    return lambda sequence: torch.tensor(len(sequence))


@lowers("SplitToSequence", since=11, host=(1,), lowered=False)
def _split_to_sequence(node: Node) -> Compute:
    axis = int(node.attr("axis", 0))
    flat = not node.flag("keepdims", True)

    def compute(x: torch.Tensor, split: Any = None) -> list[Any]:
        size = x.shape[axis]
        if split is None:
            return list(x.unbind(axis) if flat else x.split_with_sizes([1] * size, axis))
        if split.ndim:
            return list(x.split_with_sizes(split.tolist(), axis))
        part = int(split)
        sizes = [min(part, size - start) for start in range(0, size, part)]
        return list(x.split_with_sizes(sizes, axis))

    return compute


@lowers("ConcatFromSequence", since=11, lowered=False)
def _concat_from_sequence(node: Node) -> Compute:
    axis = int(node.attr("axis"))
    join = torch.stack if node.flag("new_axis") else torch.cat
    return lambda sequence: join(_together(sequence), axis)


@lowers("SequenceMap", since=17, lowered=False)
def _sequence_map(node: Node) -> Compute:
    body, n_given = node.body("body"), node.n_inputs

    def compute(*args: Any) -> Any:
        given, captured = args[:n_given], args[n_given:]
        rows: list[list[Any]] = [[] for _ in range(body.n_outputs)]
        for i in range(len(given[0])):
            results = body([x[i] if isinstance(x, list) else x for x in given], captured)
            for row, value in zip(rows, results):
                row.append(value)
        return rows[0] if node.n_outputs == 1 else rows

    return compute


@lowers("Optional", since=15, lowered=False)
def _optional(node: Node) -> Compute:
    return lambda value=None: value


@lowers("OptionalGetElement", since=15, lowered=False)
def _get_element(node: Node) -> Compute:
    def compute(value: Any) -> Any:
        if value is None:
            raise ValueError("an optional value that isn't there")
        return value

    return compute


@lowers("OptionalHasElement", since=15, lowered=False)
def _has_element(node: Node) -> Compute:
    return lambda value=None: torch.tensor(value is not None)
