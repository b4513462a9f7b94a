"""From a program to something that runs: every op bound to its computation, its operands to slots.

Precisions: an op that is to compute in bf16 or fp16 gets its float32 operands in that type, and
what it gives stays in it until an op that computes as written, or the end, wants float32 again.
Devices: values that only describe shapes stay on the host, everything else goes to the device.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Iterator, Sequence

import torch

from .core import (
    LOWERED,
    Body,
    Constant,
    Lowering,
    Node,
    Op,
    Prepared,
    Program,
    Unsupported,
    find,
    torch_dtype,
)
from .slots import HOST, Loaded, Slots

_MADE_ON_HOST = frozenset(["Shape", "Size", "SequenceLength", "OptionalHasElement"])

_MADE_ANYWHERE = frozenset(
    ["If", "Loop", "Scan", "SequenceMap", "SequenceAt", "SequenceInsert", "OptionalGetElement"]
)
"""Ops whose results are where a sub-graph, or whoever filled a sequence, left them."""


class OpFailed(Exception):
    """An op raised while it ran; ``op`` is its id, ``__cause__`` what it raised."""

    def __init__(self, op: Op, error: BaseException) -> None:
        super().__init__(f"{op.id or op.type} ({op.type}): {type(error).__name__}: {error}")
        self.op, self.error = op, error


class Step:
    """One op, ready to run on slots: which it reads, which it writes, which nobody reads later."""

    __slots__ = ("fn", "frees", "ins", "op", "outs", "prepare", "single")

    def __init__(
        self,
        op: Op,
        fn: Callable[..., Any],
        ins: tuple[int, ...],
        outs: tuple[tuple[int, int], ...],
        prepare: Callable[[list[Any]], list[Any]] | None,
    ) -> None:
        self.op, self.fn, self.ins, self.prepare = op, fn, ins, prepare
        self.outs = outs
        self.single = outs[0][1] if len(op.outputs) == 1 and len(outs) == 1 else -1
        self.frees: tuple[int, ...] = ()


class Linked:
    """A program on a device. ``run`` may be called from several threads; it keeps no state."""

    def __init__(
        self,
        program: Program,
        device: torch.device,
        steps: list[Step],
        slots: Slots,
        nested_constants: list[torch.Tensor],
    ) -> None:
        self.program, self.device = program, device
        self.steps = tuple(steps)
        self._template = slots.values
        self._nested_constants = nested_constants
        self._in = tuple(slots.of(name) for name in program.inputs + program.captures)
        self._outputs = tuple(slots.operand(name, False) for name in program.outputs)
        self._casts = tuple(_casts(program, slots.reduced))

    @property
    def constants(self) -> list[torch.Tensor]:
        """The tensors of the program's constants, where they are and as its ops take them; those
        of its sub-graphs too."""
        values = [v if isinstance(v, (tuple, list)) else (v,) for v in self._template]
        own = [v for group in values for v in group if isinstance(v, torch.Tensor)]
        return own + self._nested_constants

    def is_constant(self, name: str) -> bool:
        """True if a value is a constant of the program."""
        return name in self.program.constants

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs for these inputs, in the program's order: tensors (on the device, or on the
        host where they only describe shapes), lists, None. An output may be an input or a constant
        itself. Raises OpFailed."""
        slots = self._template[:]
        for slot, value in zip(self._in, inputs):
            slots[slot] = value
        step = None
        try:
            for step in self.steps:
                args = [slots[i] for i in step.ins]
                if step.prepare is not None:
                    args = step.prepare(args)
                result = step.fn(*args)
                if step.single >= 0:
                    slots[step.single] = result
                else:
                    for index, slot in step.outs:
                        slots[slot] = result[index]
                for slot in step.frees:
                    slots[slot] = None
        except OpFailed:
            raise
        except Exception as error:
            if step is None:
                raise
            raise OpFailed(step.op, error) from error
        return self._finish(slots)

    def observed(
        self, inputs: Sequence[Any], observe: Callable[[int, list[Any], Any, float], None]
    ) -> list[Any]:
        """As ``run``; ``observe(step, inputs, result, seconds)`` is told of every step."""
        slots = self._template[:]
        for slot, value in zip(self._in, inputs):
            slots[slot] = value
        for number, step in enumerate(self.steps):
            args = [slots[i] for i in step.ins]
            start = time.perf_counter()
            try:
                prepared = args if step.prepare is None else step.prepare(args)
                result = step.fn(*prepared)
            except OpFailed:
                raise
            except Exception as error:
                raise OpFailed(step.op, error) from error
            observe(number, args, result, time.perf_counter() - start)
            for index, slot in step.outs:
                slots[slot] = result if step.single >= 0 else result[index]
            for slot in step.frees:
                slots[slot] = None
        return self._finish(slots)

    def _finish(self, slots: list[Any]) -> list[Any]:
        results = [slots[i] for i in self._outputs]
        for i, dtype in self._casts:
            value = results[i]
            if isinstance(value, torch.Tensor) and value.dtype != dtype:
                results[i] = value.to(dtype)
        return results


def _casts(program: Program, reduced: dict[str, torch.dtype]) -> Iterator[tuple[int, torch.dtype]]:
    """The outputs whose dtype is known, and it: what was computed in less comes back to it, and an
    output that is declared otherwise than its op gives is what it is declared to be."""
    declared = program.output_dtypes or ("",) * len(program.outputs)
    for i, (name, dtype) in enumerate(zip(program.outputs, declared)):
        if dtype:
            yield i, torch_dtype(dtype)
        elif name in reduced:
            yield i, torch.float32


def check(op: Op, constants: dict[str, Constant]) -> None:
    """Raise Unsupported, with the reason, if an op can't be linked."""
    _build(op, constants, Loaded(HOST))


def link(program: Program, device: torch.device) -> Linked:
    """Bind every op of a program; raises Unsupported for one that can't be lowered."""
    return _link(program, Loaded(torch.device(device)), nested=False)


def _link(program: Program, loaded: Loaded, nested: bool) -> Linked:
    device = loaded.device
    slots = Slots(program, loaded)
    steps: list[Step] = []
    nested_constants: list[torch.Tensor] = []
    unknown: set[str] = set(program.inputs + program.captures) if nested else set()
    for op in program.ops:
        lowering, compute, prepared, bodies = _build(op, program.constants, loaded)
        nested_constants += [tensor for body in bodies for tensor in body.constants]
        captured = _captured(op)
        names = op.inputs + captured
        operands = [
            name
            for i, name in enumerate(names)
            if name and i not in lowering.host and not slots.is_constant(name)
        ]
        on_host = _on_host(op, operands, slots, unknown)
        dtype = LOWERED.get(op.precision) if lowering.lowered else None
        made: dict[int, int] = {}
        for indexes, make in prepared:
            given = [op.inputs[i] if i < len(op.inputs) else "" for i in indexes]
            made.update(dict.fromkeys(indexes, 0))
            made[indexes[0]] = slots.prepared(given, make, on_host is True, dtype)
        ins: list[int] = []
        numbers: list[int] = []
        for i, name in enumerate(names):
            if i in made:
                ins.append(made[i])
            elif i in lowering.host and name:
                if slots.is_constant(name):
                    ins.append(slots.numbers(name))
                else:
                    ins.append(slots.of(name))
                    numbers.append(i)
            else:
                ins.append(slots.operand(name, on_host is True, dtype))
        reduced = {i: slots.reduced[name] for i, name in enumerate(names) if name in slots.reduced}
        moves = device != HOST and (
            on_host is None
            or (on_host is False and any(n in slots.on_host or n in unknown for n in operands))
        )
        floats = [i for i, name in enumerate(names) if name in operands]
        prepare = _prepare(
            tuple(numbers),
            tuple(floats) if dtype is not None else (),
            dtype,
            reduced,
            device if moves else None,
        )
        outs = tuple((i, slots.of(name)) for i, name in enumerate(op.outputs) if name)
        steps.append(Step(op, compute, tuple(ins), outs, prepare))
        for name in op.outputs:
            if op.type in _MADE_ON_HOST or (on_host and op.type not in _MADE_ANYWHERE):
                slots.on_host.add(name)
            elif on_host is None or op.type in _MADE_ANYWHERE:
                unknown.add(name)
            if dtype is not None:
                slots.reduced[name] = dtype
    linked = Linked(program, device, steps, slots, nested_constants)
    _free(linked)
    return linked


def _build(
    op: Op, visible: dict[str, Constant], loaded: Loaded
) -> tuple[Lowering, Callable[..., Any], list[Prepared], list[Body]]:
    lowering = find(op.domain, op.type, op.version)
    bodies = {
        name: _body(op, value, loaded)
        for name, value in op.attributes.items()
        if isinstance(value, Program)
    }
    node = Node(op, loaded.device, [visible.get(name) for name in op.inputs], bodies)
    return lowering, lowering.build(node), node.prepared, list(bodies.values())


def _body(op: Op, program: Program, loaded: Loaded) -> Body:
    linked = _link(program, loaded, nested=True)
    captured = _captured(op)
    picks = [captured.index(name) for name in program.captures]
    sizes = len(program.inputs), len(program.outputs)
    return Body(linked.run, *sizes, picks, linked.constants)


def _captured(op: Op) -> tuple[str, ...]:
    """What the sub-graphs of an op take from outside, each value once."""
    names: dict[str, None] = {}
    for value in op.attributes.values():
        if isinstance(value, Program):
            names.update(dict.fromkeys(value.captures))
    return tuple(names)


def _on_host(op: Op, operands: Sequence[str], slots: Slots, unknown: set[str]) -> bool | None:
    """True if an op computes on the host, False on the device, None if only a run can tell."""
    if not operands or any(name not in slots.on_host and name not in unknown for name in operands):
        return False
    return None if any(name in unknown for name in operands) else True


def _prepare(
    numbers: tuple[int, ...],
    floats: tuple[int, ...],
    dtype: torch.dtype | None,
    reduced: dict[int, torch.dtype],
    device: torch.device | None,
) -> Callable[[list[Any]], list[Any]] | None:
    """What has to be done to operands before each run; None if nothing has."""
    raised = {} if dtype is not None else reduced
    if not numbers and not floats and not raised and device is None:
        return None

    def prepare(args: list[Any]) -> list[Any]:
        for i in numbers:
            if args[i] is not None:
                args[i] = to_numbers(args[i])
        for i in floats:
            value = args[i]
            if isinstance(value, torch.Tensor) and (
                value.dtype == torch.float32 or value.dtype == reduced.get(i)
            ):
                args[i] = value.to(dtype)
        for i, found in raised.items():
            value = args[i]
            if isinstance(value, torch.Tensor) and value.dtype == found:
                args[i] = value.float()
        if device is not None:
            together(args, device)
        return args

    return prepare


def to_numbers(value: torch.Tensor) -> Any:
    """A tensor as a numpy array, brought to the host; bfloat16 as float32."""
    if value.dtype == torch.bfloat16:
        value = value.float()
    return value.detach().cpu().numpy()


def together(args: list[Any], device: torch.device) -> None:
    """Bring tensors to the device, in place, if one of them is there."""
    if any(isinstance(a, torch.Tensor) and a.device.type == device.type for a in args):
        for i, value in enumerate(args):
            if isinstance(value, torch.Tensor) and value.device.type != device.type:
                args[i] = value.to(device)


def _free(linked: Linked) -> None:
    """Tell each step which slots nobody reads after it."""
    kept = set(linked._outputs) | {0}
    made = {slot for step in linked.steps for _, slot in step.outs} | set(linked._in)
    seen: set[int] = set()
    for step in reversed(linked.steps):
        touched = {*step.ins, *(slot for _, slot in step.outs)}
        step.frees = tuple(sorted((touched & made) - seen - kept))
        seen |= touched


__all__ = ["Linked", "OpFailed", "Unsupported", "check", "link", "torch_dtype"]
