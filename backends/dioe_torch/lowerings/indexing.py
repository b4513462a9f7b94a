"""Parts of tensors picked, or replaced, by position."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch

from .core import Compute, Node, Unsupported, lowers
from .widening import by_bits, in_order


def _never_negative(indices: np.ndarray | None) -> bool:
    return indices is not None and not bool((indices < 0).any())


def _from_front(indices: torch.Tensor, size: int) -> torch.Tensor:
    """Indices of which negative ones count from the back, counted from the front."""
    return torch.where(indices < 0, indices + size, indices)


# --- gathering -----------------------------------------------------------------------------------


@lowers("Gather")
def _gather(node: Node) -> Compute:
    axis = int(node.attr("axis", 0))
    known = node.constant(1)
    positive = _never_negative(known)
    if known is not None and known.ndim == 0:
        position = int(known)
        return lambda x, indices: x.select(axis, position)

    def compute(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        at = axis + x.ndim if axis < 0 else axis
        if not positive:
            if indices.ndim and (x.device.type != "cpu" or x.ndim == 1):
                return x[(slice(None),) * at + (indices.long(),)]  # it knows negative ones
            indices = _from_front(indices, x.shape[at])
        if x.ndim == 2 and at == 0 and indices.ndim:
            return torch.embedding(x, indices)
        if indices.ndim == 1:
            return x.index_select(at, indices)
        picked = x.index_select(at, indices.reshape(-1))
        return picked.reshape(x.shape[:at] + indices.shape + x.shape[at + 1 :])

    return compute


@lowers("GatherElements", since=11)
def _gather_elements(node: Node) -> Compute:
    axis = int(node.attr("axis", 0))
    positive = _never_negative(node.constant(1))

    def compute(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        indices = indices if positive else _from_front(indices, x.shape[axis])
        return x.gather(axis, indices.long())

    return by_bits(compute)


@lowers("GatherND", since=11)
def _gather_nd(node: Node) -> Compute:
    batch_axes = int(node.attr("batch_dims", 0))

    def compute(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        if indices.ndim == 1:  # torch would read indices without axes as numbers
            return compute(x, indices.unsqueeze(0)).squeeze(0)
        return x[_batches(indices, batch_axes) + indices.long().unbind(-1)]

    return compute


def _batches(indices: torch.Tensor, batch_axes: int) -> tuple[torch.Tensor, ...]:
    shape = indices.shape[:-1]
    return tuple(
        torch.arange(shape[i], device=indices.device).reshape(
            [-1 if axis == i else 1 for axis in range(len(shape))]
        )
        for i in range(batch_axes)
    )


@lowers("ArrayFeatureExtractor", domain="ai.onnx.ml")
def _array_feature_extractor(node: Node) -> Compute:
    def compute(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        rows = x.unsqueeze(0) if x.ndim == 1 else x
        return rows.index_select(-1, indices.reshape(-1))

    return compute


@lowers("Compress", since=9)
def _compress(node: Node) -> Compute:
    axis = node.attr("axis", None)
    known = node.constant(1)
    fixed = None if known is None else torch.from_numpy(np.flatnonzero(known))

    def compute(x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        chosen = condition.nonzero().reshape(-1) if fixed is None else fixed.to(x.device)
        if axis is None:
            return x.reshape(-1).index_select(0, chosen)
        return x.index_select(axis, chosen)

    return compute


@lowers("NonZero", since=9, lowered=False)
def _non_zero(node: Node) -> Compute:
    return lambda x: (x if x.dtype == torch.bool else x != 0).nonzero().t()


# --- slices --------------------------------------------------------------------------------------


@lowers("Slice")
def _slice_by_attributes(node: Node) -> Compute:
    starts, ends = node.ints("starts"), node.ints("ends")
    axes = node.ints("axes", tuple(range(len(starts))))
    return lambda x: _sliced(x, starts, ends, axes, (1,) * len(starts))


@lowers("Slice", since=10, host=(1, 2, 3, 4))
def _slice(node: Node) -> Compute:
    given = [node.constant_ints(i) for i in range(1, 5)]
    if all(value is not None or not node.has_input(i + 1) for i, value in enumerate(given)):
        starts, ends, axes, steps = given
        starts, ends = starts or (), ends or ()
        axes = tuple(range(len(starts))) if axes is None else axes
        steps = (1,) * len(starts) if steps is None else steps
        return lambda x, *_: _sliced(x, starts, ends, axes, steps)

    def compute(
        x: torch.Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None
    ) -> torch.Tensor:
        n = starts.size
        return _sliced(
            x,
            starts.tolist(),
            ends.tolist(),
            range(n) if axes is None else axes.tolist(),
            [1] * n if steps is None else steps.tolist(),
        )

    return compute


_flipped = by_bits(lambda x, axis: x.flip(axis))


def _sliced(
    x: torch.Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int],
    steps: Sequence[int],
) -> torch.Tensor:
    for start, end, axis, step in zip(starts, ends, axes, steps):
        size = x.shape[axis]
        first, length = _span(start, end, step, size)
        if step == 1:
            if length != size:
                x = x.narrow(axis, first, length)
        elif length == 0:
            x = x.narrow(axis, 0, 0)
        else:
            last = first + (length - 1) * step
            part = slice(min(first, last), max(first, last) + 1, abs(step))
            x = x[(*(slice(None),) * (axis + x.ndim if axis < 0 else axis), part)]
            x = _flipped(x, axis) if step < 0 else x
    return x


def _span(start: int, end: int, step: int, size: int) -> tuple[int, int]:
    """Where a slice starts, within the axis, and how many elements it has."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        start, end = min(max(start, 0), size), min(max(end, 0), size)
    else:
        start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return start, max(0, -((start - end) // step))


# --- scattering ----------------------------------------------------------------------------------

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _reduction(node: Node) -> str:
    reduction = node.one_of("reduction", "none", ("none", *_REDUCTIONS))
    if reduction not in ("none", "add") and not hasattr(torch.Tensor, "scatter_reduce_"):
        raise Unsupported(f"{node.type} with reduction={reduction} needs torch 1.12")
    return reduction


def _unsigned_too(compute: Compute, reduction: str) -> Compute:
    return in_order(compute) if reduction in ("max", "min") else by_bits(compute)


@lowers("Scatter", since=9)
@lowers("ScatterElements", since=11)
def _scatter_elements(node: Node) -> Compute:
    axis = int(node.attr("axis", 0))
    reduction = _reduction(node)
    positive = _never_negative(node.constant(1))

    def compute(x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        indices = indices if positive else _from_front(indices, x.shape[axis])
        indices = indices.long()
        if reduction == "none":
            return x.scatter(axis, indices, updates)
        if reduction == "add":
            return x.scatter_add(axis, indices, updates)
        return x.scatter_reduce(axis, indices, updates, _REDUCTIONS[reduction])

    return _unsigned_too(compute, reduction)


@lowers("ScatterND", since=11)
def _scatter_nd(node: Node) -> Compute:
    reduction = _reduction(node)

    def compute(x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        if reduction in ("none", "add"):
            return x.index_put(indices.long().unbind(-1), updates, reduction == "add")
        n = indices.shape[-1]
        row = torch.zeros((), dtype=torch.int64, device=x.device)
        for size, column in zip(x.shape[:n], indices.long().unbind(-1)):
            place = _from_front(column, size)
            # joined with the others, one that is out of range would be in another row
            row = row * size + place.masked_fill((place < 0) | (place >= size), x.numel())
        flat = x.flatten(0, n - 1).reshape(-1, x[(0,) * n].numel())
        updates = updates.reshape(-1, flat.shape[1])
        row = row.reshape(-1, 1).expand_as(updates)
        return flat.scatter_reduce(0, row, updates, _REDUCTIONS[reduction]).reshape(x.shape)

    return _unsigned_too(compute, reduction)


@lowers("TensorScatter", since=24)
def _tensor_scatter(node: Node) -> Compute:
    axis = int(node.attr("axis", -2))
    circular = node.one_of("mode", "linear", ("linear", "circular")) == "circular"

    def compute(past: torch.Tensor, update: torch.Tensor, first: Any = None) -> torch.Tensor:
        rank, size = update.ndim, past.shape[axis]
        at = axis + rank if axis < 0 else axis
        position = torch.arange(update.shape[at], device=past.device)
        position = position.reshape([-1 if i == at else 1 for i in range(rank)])
        if first is not None:
            position = position + first.reshape([-1] + [1] * (rank - 1))
        if circular:
            position = position.remainder(size)
        return past.scatter(at, position.expand_as(update), update)

    return by_bits(compute)


# --- masks and orders ----------------------------------------------------------------------------


@lowers("OneHot", since=9, host=(1,), lowered=False)
def _one_hot(node: Node) -> Compute:
    axis = int(node.attr("axis", -1))

    def compute(indices: torch.Tensor, depth: Any, values: torch.Tensor) -> torch.Tensor:
        size = int(depth.reshape(()))
        indices = _from_front(indices.long(), size).unsqueeze(axis)
        at = axis + indices.ndim if axis < 0 else axis
        classes = torch.arange(size, device=indices.device)
        classes = classes.reshape([-1 if i == at else 1 for i in range(indices.ndim)])
        off, on = values.unbind(0)
        return torch.where(indices == classes, on, off)

    return compute


@lowers("Trilu", since=14, host=(1,))
def _trilu(node: Node) -> Compute:
    upper = node.flag("upper", True)

    def compute(x: torch.Tensor, k: Any = None) -> torch.Tensor:
        diagonal = 0 if k is None else int(k.reshape(()))
        return x.triu(diagonal) if upper else x.tril(diagonal)

    return by_bits(compute)


@lowers("ReverseSequence", since=10)
def _reverse_sequence(node: Node) -> Compute:
    batch_axis, time_axis = int(node.attr("batch_axis", 1)), int(node.attr("time_axis", 0))
    if {batch_axis, time_axis} != {0, 1}:
        raise Unsupported(f"ReverseSequence with axes {batch_axis} and {time_axis}")

    def compute(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        time = torch.arange(x.shape[time_axis], device=x.device).unsqueeze(batch_axis)
        batch = torch.arange(x.shape[batch_axis], device=x.device).unsqueeze(time_axis)
        lengths = lengths.unsqueeze(time_axis)
        time = torch.where(time < lengths, lengths - 1 - time, time)
        return x[(time, batch) if time_axis == 0 else (batch, time)]

    return compute


@lowers("Unique", since=11, lowered=False)
def _unique(node: Node) -> Compute:
    axis = node.attr("axis", None)
    in_value_order = node.flag("sorted", True)
    wants_more = node.n_outputs > 1 or not in_value_order

    def compute(x: torch.Tensor) -> Any:
        along = 0 if axis is None else int(axis)
        x = x.reshape(-1) if axis is None else x
        if not wants_more:
            return torch.unique(x, dim=None if axis is None else along)
        values, inverse, counts = torch.unique(
            x,
            return_inverse=True,
            return_counts=True,
            dim=None if axis is None else along,
        )
        _, by_value = torch.sort(inverse, stable=True)
        first = by_value[counts.cumsum(0) - counts]
        if not in_value_order:
            order = first.argsort()
            values, first, counts = values.index_select(along, order), first[order], counts[order]
            inverse = order.argsort()[inverse]
        return (values, first, inverse, counts)[: node.n_outputs] if node.n_outputs > 1 else values

    return compute
