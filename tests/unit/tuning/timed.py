"""Toys that take so long for so many rows, and a tuner of shapes to come on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import onnx

from dioe.graph import Model
from dioe.hardware import host_pool, resources_for
from dioe.runtime import NewShape, Runtime, Session, Variant, load
from dioe.tuning.background import BackgroundTuner
from dioe.types import (
    Array,
    BackendError,
    Basis,
    Precision,
    Precisions,
    StageModel,
    TargetReport,
    Value,
)
from tests.toys import models
from tests.toys.backend import ToyBackend, ToyContext, ToyExecutable, registry_of
from tests.toys.plans import plan_for
from tests.toys.values import close, tensor

ROWS = 16
"""The model is tuned for so many, in 1 ms on ``fast``."""


def rows(n: int, *, seed: int = 0) -> Array:
    """Random input of so many rows."""
    return np.random.default_rng(seed).standard_normal((n, 8)).astype(np.float32)


class Timed(ToyBackend):
    """Takes as long as ``cost_ms`` says for a number of rows; ``open_ratio`` times that if it was
    compiled with open shapes. ``wrong_at`` are numbers of rows it gets wrong, ``refused_at`` those
    it can't be compiled for."""

    def __init__(
        self,
        name: str,
        cost_ms: Callable[[int], float],
        *,
        open_ratio: float = 2.0,
        precisions: Sequence[Precision] = (Precision.FP32,),
    ) -> None:
        super().__init__(name, precisions=precisions)
        self.cost_ms, self.open_ratio = cost_ms, open_ratio
        self.wrong_at: set[int] = set()
        self.refused_at: set[int] = set()

    def open(self, device: str, resources: Any) -> TimedContext:
        return TimedContext(self, device, resources)


class TimedContext(ToyContext):
    """Compiles what takes its time."""

    backend: Timed

    def make(
        self, model: StageModel, precisions: Precisions, options: Mapping[str, Any]
    ) -> TimedExecutable:
        made = TimedExecutable(self.backend, model, precisions)
        (x,) = made.inputs
        if x.static and x.shape is not None and x.shape[0] in self.backend.refused_at:
            raise BackendError("not this one")
        return made


class TimedExecutable(ToyExecutable):
    """Takes its time."""

    backend: Timed

    def evaluate(self, names: list[str], inputs: dict[str, Value]) -> list[Value]:
        start = time.perf_counter()
        (result,) = super().evaluate(names, inputs)
        backend, static = self.backend, self.inputs[0].static
        n = np.asarray(result).shape[0]
        if static and n in backend.wrong_at:
            result = np.asarray(result) * np.float32(1.5)
        cost_s = backend.cost_ms(n) * (1.0 if static else backend.open_ratio) / 1e3
        while time.perf_counter() - start < cost_s:
            time.sleep(1e-4)
        return [result]


class Bench:
    """A tuner on toy backends, and what a session would hand it."""

    def __init__(self, *backends: Timed, **settings: Any) -> None:
        self.backends = {backend.name: backend for backend in backends}
        self.runtime = Runtime(registry_of(*backends, installed=("onnxruntime",)))
        self.proto = models.dense()
        self.model = Model.load(self.proto)
        reports = tuple(
            TargetReport(f"cpu/{b.name}/{p}", "ok", p50_ms=b.cost_ms(ROWS))
            for b in backends
            for p in sorted(b.precisions)
        )
        best = min(reports, key=lambda r: r.p50_ms or 0.0)
        plan = plan_for(self.model, best.target, {"x": (ROWS, 8)}, candidates=reports)
        usual = resources_for(host_pool().device("cpu"))
        stages = tuple(replace(stage, resources=usual) for stage in plan.stages)
        self.plan = replace(plan, stages=stages, predicted_ms=best.p50_ms, basis=Basis.MEASURED)
        self.settings = {"budget_s": 2.0} | settings
        self.tuner = self.make_tuner()
        self.safe = self.load_open()
        self.is_quiet = True
        self.paused: list[bool] = []

    def make_tuner(self) -> BackgroundTuner:
        return BackgroundTuner(
            self.model, [self.plan], pool=host_pool(), runtime=self.runtime, **self.settings
        )

    def load_open(self) -> Variant:
        plan = replace(self.plan, shapes={"x": ("N", 8)})
        return Variant(load(plan, self.model, self.runtime, {"s0": self.model}))

    def new(self, n: int) -> NewShape:
        bound = self.model.with_shapes({"x": (n, 8)})
        return NewShape(
            feeds={"x": rows(n)},
            model=bound,
            load=lambda plan: Variant(load(plan, bound, self.runtime, {"s0": bound})),
            safe=self.safe,
            quiet=lambda: self.is_quiet,
            pause=lambda: self.paused.pop() if self.paused else False,
        )

    def prepare(self, n: int) -> Variant | None:
        """Prepare for so many rows; what comes of it gives the right answer."""
        variant = self.tuner.prepare(self.new(n))
        if variant is not None:
            (y,) = variant.run({"x": rows(n)}, ["y"])
            assert isinstance(y, np.ndarray)
            close(y, models.dense_output(self.proto, rows(n)))
            assert variant.guard is not None
            assert variant.plan.shapes == {"x": (n, 8)}
        return variant

    def compiled(self) -> int:
        return sum(backend.count("compile") for backend in self.backends.values())

    def left_open(self) -> int:
        closed = sum(backend.count("close executable") for backend in self.backends.values())
        return self.compiled() - closed - 1  # without the safe one


MakeBench: TypeAlias = Callable[..., Bench]


def two() -> tuple[Timed, Timed]:
    """``fast`` grows with the rows, ``flat`` doesn't: from 32 rows on it is the faster one."""
    return Timed("fast", lambda n: n / 16), Timed("flat", lambda n: 2.0)


def targets(variant: Variant | None) -> tuple[str, ...]:
    assert variant is not None
    return variant.plan.targets


def check_shapes(session: Session, numbers: Sequence[int], proto: onnx.ModelProto) -> None:
    """Assert that the session answers right for so many rows."""
    for n in numbers:
        x = rows(n, seed=n)
        close(tensor(session.run({"x": x})), models.dense_output(proto, x), 1e-4)
