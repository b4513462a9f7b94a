"""Toys whose ops cost time by a clock of their own: tests of tuning without waiting or noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from dioe.types import (
    Capabilities,
    OpTime,
    Precision,
    Precisions,
    Resources,
    StageModel,
    Support,
    UnsupportedError,
    Value,
)
from tests.toys.backend import ToyBackend, ToyContext, ToyExecutable

_LOOK_S = 1e-6


class Clock:
    """Stands in for ``time.perf_counter``: it goes on as toys work, and a little at each look."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make it the process's."""
        monkeypatch.setattr(time, "perf_counter", self.seconds)
        monkeypatch.setattr(time, "perf_counter_ns", lambda: round(self.seconds() * 1e9))

    def seconds(self) -> float:
        """The time, in seconds."""
        self._now_s += _LOOK_S
        return self._now_s

    def work(self, ms: float) -> None:
        """Let time pass."""
        self._now_s += ms / 1e3


class ModelledClock:
    """The same clock for modelled devices (``dioe_null.Clock``), which let it go on by waiting."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now_ms(self) -> float:
        return self._clock.seconds() * 1e3

    def sleep_until(self, at_ms: float) -> None:
        self._clock.work(max(0.0, at_ms - self.now_ms()))


Ops = tuple[str, ...]
"""Op types of an executable, in the order of its nodes."""


class WorkingBackend(ToyBackend):
    """Each op takes the milliseconds that ``costs`` has for its type, 0.01 if it has none.

    Args:
        costs: Milliseconds by op type, in fp32 and on all threads.
        one_thread: Factors of the costs on one thread, by op type; 1 if left out.
        lowered: Factor of the costs in any lower precision.
        errors: Relative errors of the outputs by op type, for each op of it in lower precision.
        refuses: Op types that it says it can't run, and won't compile.
        mixes: Whether it takes several precisions in one executable.
        profiles: Whether it tells what its ops took.
        compile_ms: What compiling takes.

    ``hook`` is called with "compile" or "run" and the op types, before that is done: it may raise.
    ``wrong`` gives a relative error of the outputs of an executable of these op types.
    ``compiled`` and ``ran`` list the op types of what was compiled and of all runs, ``refused`` of
    what it was asked to compile though it had refused it.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        costs: Mapping[str, float],
        *,
        one_thread: Mapping[str, float] | None = None,
        precisions: Sequence[Precision] = (Precision.FP32,),
        lowered: float = 0.5,
        errors: Mapping[str, float] | None = None,
        refuses: Collection[str] = (),
        mixes: bool = False,
        profiles: bool = True,
        compile_ms: float = 1.0,
    ) -> None:
        super().__init__(name, precisions=precisions)
        self.clock = clock
        self.costs = dict(costs)
        self.one_thread = dict(one_thread or {})
        self.lowered = lowered
        self.errors = dict(errors or {})
        self.refuses = frozenset(refuses)
        self.mixes = mixes
        self.profiles = profiles
        self.compile_ms = compile_ms
        self.hook: Callable[[str, Ops], object] = lambda what, ops: None
        self.wrong: Callable[[Ops], float] = lambda ops: 0.0
        self.compiled: list[Ops] = []
        self.ran: list[Ops] = []
        self.refused: list[Ops] = []

    def forget(self) -> None:
        """Begin the lists anew."""
        self.log.clear()
        self.compiled.clear()
        self.ran.clear()
        self.refused.clear()
        self.received.clear()

    def capabilities(self, device: str) -> Capabilities:
        return Capabilities(computes=self.precisions, mixes_precisions=self.mixes)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        refused = {
            op: f"{self.name} has no {node.op_type}"
            for op, node in zip(model.op_ids, model.ir.graph, strict=True)
            if node.op_type in self.refuses
        }
        return Support(frozenset(model.op_ids) - refused.keys(), refused)

    def open(self, device: str, resources: Resources) -> WorkingContext:
        self.note("open")
        return WorkingContext(self, device, resources)

    def op_ms(self, op_type: str, precision: Precision, resources: Resources) -> float:
        """What one op takes."""
        ms = self.costs.get(op_type, 0.01)
        if resources.threads == 1:
            ms *= self.one_thread.get(op_type, 1.0)
        return ms if precision is Precision.FP32 else ms * self.lowered


class WorkingContext(ToyContext):
    """Takes its time to compile."""

    backend: WorkingBackend

    def make(
        self, model: StageModel, precisions: Precisions, options: Mapping[str, Any]
    ) -> WorkingExecutable:
        backend = self.backend
        ops = tuple(node.op_type for node in model.ir.graph)
        refused = backend.refuses.intersection(ops)
        if refused:
            backend.refused.append(ops)
            raise UnsupportedError(f"{backend.name} has no {min(refused)}", place=backend.name)
        backend.hook("compile", ops)
        backend.clock.work(backend.compile_ms)
        backend.compiled.append(ops)
        made = WorkingExecutable(backend, model, precisions, self.resources)
        made.profiled = backend.profiles and bool(options.get("profile"))
        return made


class WorkingExecutable(ToyExecutable):
    """Counts what its ops took."""

    backend: WorkingBackend
    profiled = False

    def __init__(
        self,
        backend: WorkingBackend,
        model: StageModel,
        precisions: Precisions,
        resources: Resources,
    ) -> None:
        super().__init__(backend, model, precisions)
        op_types = {op: node.op_type for op, node in zip(model.op_ids, model.ir.graph, strict=True)}
        self.ops = tuple(op_types.values())
        self.times = {
            op: backend.op_ms(op_type, precisions.of(op), resources)
            for op, op_type in op_types.items()
        }
        self.error = sum(
            backend.errors.get(op_type, 0.0)
            for op, op_type in op_types.items()
            if precisions.of(op) is not Precision.FP32
        )
        self.runs = 0

    def evaluate(self, names: list[str], inputs: dict[str, Value]) -> list[Value]:
        backend = self.backend
        backend.hook("run", self.ops)
        backend.ran.append(self.ops)
        backend.clock.work(sum(self.times.values()))
        self.runs += 1
        factor = np.float32(1 + self.error + backend.wrong(self.ops))
        return [np.asarray(result) * factor for result in super().evaluate(names, inputs)]

    def profile(self) -> tuple[OpTime, ...]:
        if not self.profiled:
            return ()
        return tuple(
            OpTime(f"toy {op}", kind, (op,), self.runs * ms, self.runs)
            for kind, (op, ms) in zip(self.ops, self.times.items(), strict=True)
        )
