"""Computing once what doesn't depend on the values of inputs: constants and, where shapes are
bound, everything that follows from them."""

from __future__ import annotations

import contextlib
from typing import Any, Sequence

import torch

from .core import Constant, Op, Program, find, to_constant
from .link import OpFailed, link
from .slots import HOST

MAX_GROWN_BYTES = 1 << 16
"""A result is kept in place of its op if it is no larger than this, or than what it is made of."""

_SHAPES = frozenset(["Shape", "Size"])

_SHAPED_BY_VALUES = frozenset(["NonZero", "Unique", "Compress", "NonMaxSuppression", "Range"])
"""Ops whose results have another shape for other values of the same shapes."""


def fold(program: Program, zeros: Sequence[Any]) -> Program:
    """The program with everything computed that is the same in all runs.

    ``zeros`` are inputs of the shapes that all runs will have (tensors on the CPU; their values
    don't matter), or empty where shapes may change. Sub-graphs get the constants they take from
    outside as their own, and are folded as far as those go.
    """
    folded = _folded(program, zeros)
    if not any(_has_body(op) for op in folded.ops):
        return folded
    ops = tuple(_with_folded_bodies(op, folded.constants) for op in folded.ops)
    return prune(folded._replace(ops=ops))


def _with_folded_bodies(op: Op, outer: dict[str, Constant]) -> Op:
    attributes = {
        name: _folded_body(value, outer) if isinstance(value, Program) else value
        for name, value in op.attributes.items()
    }
    return op._replace(attributes=attributes)


def _folded_body(body: Program, outer: dict[str, Constant]) -> Program:
    taken = {name: outer[name] for name in body.captures if name in outer}
    body = fold(body._replace(constants={**taken, **body.constants}), [])
    read = set(body.outputs).union(*[_reads(op) for op in body.ops])
    captures = tuple(name for name in body.captures if name in read and name not in taken)
    return body._replace(captures=captures)


def _folded(program: Program, zeros: Sequence[Any]) -> Program:
    last = _last_foldable(program, bool(zeros))
    if last < 0:
        return program
    known = dict(program.constants)
    found: dict[str, Constant] = {}
    if zeros and any(op.type in _SHAPES for op in program.ops[: last + 1]):
        found = _by_running(program, zeros, last)
    else:
        found = _by_constants(program, last)
    known.update(found)
    ops = [op for op in program.ops if not _done(op, found)]
    return prune(program._replace(ops=tuple(ops), constants=known))


def prune(program: Program) -> Program:
    """The program without ops and constants that no output depends on."""
    needed = set(program.outputs)
    ops: list[Op] = []
    for op in reversed(program.ops):
        if any(name in needed for name in op.outputs if name):
            ops.append(op)
            needed.update(_reads(op))
    constants = {name: c for name, c in program.constants.items() if name in needed}
    return program._replace(ops=tuple(reversed(ops)), constants=constants)


def _reads(op: Op) -> set[str]:
    names = {name for name in op.inputs if name}
    for value in op.attributes.values():
        if isinstance(value, Program):
            names.update(value.captures)
    return names


def _done(op: Op, found: dict[str, Constant]) -> bool:
    return all(name in found for name in op.outputs if name)


def _has_body(op: Op) -> bool:
    return any(isinstance(value, Program) for value in op.attributes.values())


def _foldable(op: Op) -> bool:
    return not _has_body(op) and find(op.domain, op.type, op.version).pure


def _last_foldable(program: Program, static: bool) -> int:
    """Index of the last op that follows from constants (and shapes, where they are static)."""
    known = set(program.constants)
    last = -1
    for index, op in enumerate(program.ops):
        if (static and op.type in _SHAPES) or (
            all(name in known for name in op.inputs if name) and _foldable(op)
        ):
            known.update(name for name in op.outputs if name)
            last = index
    return last


def _by_constants(program: Program, last: int) -> dict[str, Constant]:
    """Results of the ops that depend on constants only."""
    known = set(program.constants)
    ops: list[Op] = []
    for op in program.ops[: last + 1]:
        if all(name in known for name in op.inputs if name) and _foldable(op):
            ops.append(op)
            known.update(name for name in op.outputs if name)
    part = prune(_part(program, ops)._replace(inputs=()))
    return _observed(part, [])


def _by_running(program: Program, zeros: Sequence[Any], last: int) -> dict[str, Constant]:
    """Results found by one run on zeros; nothing if that run fails."""
    return _observed(_part(program, list(program.ops[: last + 1])), zeros)


def _part(program: Program, ops: list[Op]) -> Program:
    as_written = tuple(op._replace(precision="fp32") for op in ops)
    made = {name for op in ops for name in op.outputs if name}
    read = {name for op in ops for name in _reads(op)}
    ends = tuple(sorted(made - read)) or tuple(sorted(made))[-1:]
    return program._replace(ops=as_written, outputs=ends, output_dtypes=(), output_shapes=())


def _observed(part: Program, inputs: Sequence[Any]) -> dict[str, Constant]:
    linked = link(part, HOST)
    known = set(part.constants)
    shaped = set(part.inputs) | known
    found: dict[str, Constant] = {}

    def observe(number: int, args: list[Any], result: Any, seconds: float) -> None:
        op = part.ops[number]
        single = linked.steps[number].single >= 0
        results = (result,) if single else tuple(result)
        if _same_shape_always(op, shaped, known):
            shaped.update(n for r, n in zip(results, op.outputs) if isinstance(r, torch.Tensor))
        from_shape = op.type in _SHAPES and op.inputs[0] in shaped
        if not from_shape and not (
            all(name in known for name in op.inputs if name) and _foldable(op)
        ):
            return
        kept = _kept(op, args, results)
        found.update(kept)
        known.update(kept)

    # zeros aren't valid for every model: what was found until then is right
    with torch.no_grad(), contextlib.suppress(OpFailed):
        linked.observed(inputs, observe)
    return found


def _same_shape_always(op: Op, shaped: set[str], known: set[str]) -> bool:
    """True if the shapes of its results follow from the shapes of its operands."""
    if _has_body(op):
        return False
    if op.type in _SHAPED_BY_VALUES:
        return all(name in known for name in op.inputs if name)
    host = find(op.domain, op.type, op.version).host
    return all(name in (known if i in host else shaped) for i, name in enumerate(op.inputs) if name)


def _kept(op: Op, args: list[Any], results: tuple[Any, ...]) -> dict[str, Constant]:
    """The op's results as constants; nothing if they would take more room than what they are
    made of, or are no tensors."""
    if not all(isinstance(r, torch.Tensor) for r, n in zip(results, op.outputs) if n):
        return {}
    size = sum(r.numel() * r.element_size() for r, n in zip(results, op.outputs) if n)
    given = sum(getattr(arg, "nbytes", 0) for arg in args if arg is not None)
    if size > max(MAX_GROWN_BYTES, given):
        return {}
    return {name: to_constant(r) for r, name in zip(results, op.outputs) if name}
