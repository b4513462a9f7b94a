"""A session: loaded variants of plans for one model, and the requests running on them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from dioe.graph import Model
from dioe.runtime.bound import BoundRequest
from dioe.runtime.feeds import check_feeds, check_mapping
from dioe.runtime.loading import load, owned
from dioe.runtime.process import Runtime
from dioe.runtime.state import State
from dioe.runtime.variant import Retired, Variant
from dioe.types import (
    Basis,
    Buffer,
    DioeError,
    Executable,
    Feeds,
    InputError,
    Plan,
    PlanMismatch,
    Precision,
    Stage,
    Target,
    Value,
)

log = logging.getLogger(__name__)

MAX_UNTUNED_VARIANTS = 16
"""Variants kept for shapes nobody tuned, where a model can't be compiled with open shapes."""

_CLOSED = "the session is closed"
_COMPILE_AGAIN = "compile the model again"


class Session:
    """Runs one model by its plans. Thread-safe; made by ``dioe.compile``, closed by ``close``.

    Each tuned plan is a *variant* for its input shapes. Other shapes run at once on a safe variant:
    the first plan's targets with the shapes left open.
    """

    def __init__(
        self,
        model: Model,
        plans: Sequence[Plan],
        *,
        runtime: Runtime | None = None,
        state: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self._runtime = runtime or Runtime.current()
        self._lock = threading.Lock()
        self._closed = False
        self._untuned: list[Variant] = []
        self._dynamic: Variant | None = None
        self._no_dynamic = False
        self._uses = itertools.count(1)
        self._bound: weakref.WeakSet[BoundRequest] = weakref.WeakSet()
        with contextlib.ExitStack() as undo:
            self._variants: list[Variant] = []
            for plan in plans:
                variant = self._load(plan)
                undo.callback(variant.close)
                self._variants.append(variant)
            self._hot = self._variants[0]
            self._outputs = tuple(spec.name for spec in model.outputs)
            self._state = State(state, model, self._hot.plan) if state else None
            if self._state is not None:
                self._outputs = tuple(n for n in self._outputs if n not in self._state.outputs)
            undo.pop_all()

    # --- what it is ------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The plan of the variant that was used last (at first: the first one)."""
        return self._hot.plan

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans of all loaded variants, tuned ones first."""
        dynamic = [self._dynamic] if self._dynamic is not None else []
        return tuple(v.plan for v in [*self._variants, *dynamic, *self._untuned])

    @property
    def executables(self) -> tuple[tuple[Stage, Executable], ...]:
        """The compiled stages of the variant that was used last, in order."""
        return self._hot.loaded.stages

    # --- running ---------------------------------------------------------------------------

    def run(
        self, feeds: Mapping[str, Any], output_names: Sequence[str] | None = None
    ) -> dict[str, Value]:
        """Run the model once; from any thread.

        ``feeds`` maps each input to an array of its dtype and shape. Gives the named outputs (all
        but declared state by default) as fresh arrays that are the caller's to keep: strings as
        arrays of ``object``, ONNX sequences as lists, empty optionals as None. Raises InputError
        for wrong feeds, and what the backend raises.
        """
        if self._state is not None:
            return self._run_with_state(self._state, feeds, output_names)
        names = self._outputs if output_names is None else self._checked_names(output_names)
        variant = self._hot
        if not variant.accepts(feeds):
            variant, feeds = self._variant_for(feeds)
        while True:
            try:
                return dict(zip(names, variant.run(feeds, names), strict=True))
            except Retired:  # closed between choice and run
                variant, feeds = self._variant_for(feeds)

    def _run_with_state(
        self, state: State, feeds: Mapping[str, Any], output_names: Sequence[str] | None
    ) -> dict[str, Value]:
        names = self._outputs if output_names is None else self._checked_names(output_names)
        wanted = list(dict.fromkeys([*names, *state.outputs]))
        check_mapping(feeds, self.model.inputs)
        with state.lock:
            full: Feeds = state.feeds(feeds)
            variant = self._hot
            if not variant.accepts(full):
                variant, full = self._variant_for(full)
            while True:
                try:
                    outputs = dict(zip(wanted, variant.run(full, wanted), strict=True))
                    break
                except Retired:  # closed between choice and run
                    variant, full = self._variant_for(full)
            state.keep(outputs)
        # what is kept for the next run must not change with what the caller does to it
        return {n: owned(outputs[n]) if n in state.pairs else outputs[n] for n in names}

    def reset_state(self) -> None:
        """Set declared state back to zeros (of the session; bound requests have their own)."""
        if self._state is None:
            raise InputError(
                "this session has no declared state", fix='dioe.compile(..., state={"out": "in"})'
            )
        with self._state.lock:
            self._state.reset()

    def bind(self, inputs: Feeds | None = None, outputs: Feeds | None = None) -> BoundRequest:
        """A single-threaded request with preset buffers: write its inputs, ``run``, read outputs.

        Arrays given are used in place, so they have to be C-contiguous; those not given are
        allocated where the shape is known. Declared state is the request's own. Raises InputError.
        """
        inputs = {} if inputs is None else inputs
        check_mapping(inputs, self.model.inputs)
        given = dict(inputs)
        for name, shape, dtype in self._hot.guard or self._variants[0].guard or ():
            if name not in given:
                given[name] = (
                    np.full(shape, "", dtype) if dtype.hasobject else np.zeros(shape, dtype)
                )
        state = self._state.pairs if self._state is not None else {}
        while True:
            variant, full = self._variant_for(given)
            with self._lock:  # nobody closes the variant meanwhile
                if self._closed:
                    raise InputError(_CLOSED, fix=_COMPILE_AGAIN)
                if not variant.retired:
                    bound = BoundRequest(variant, full, {} if outputs is None else outputs, state)
                    self._bound.add(bound)
                    return bound

    # --- variants --------------------------------------------------------------------------

    def _variant_for(self, feeds: Mapping[str, Any]) -> tuple[Variant, Feeds]:
        """The variant for these feeds, and the feeds as it takes them; makes one if need be."""
        if self._closed:
            raise InputError(_CLOSED, fix=_COMPILE_AGAIN)
        checked = check_feeds(feeds, self.model.inputs)
        variant = self._loaded_for(checked)
        if variant is None:
            with self._lock:
                if self._closed:
                    raise InputError(_CLOSED, fix=_COMPILE_AGAIN)
                variant = self._loaded_for(checked) or self._untuned_variant(checked)
        variant.last_use = next(self._uses)
        self._hot = variant
        return variant, checked

    def _loaded_for(self, feeds: Feeds) -> Variant | None:
        for variant in (*self._variants, *self._untuned):
            if variant.fits(feeds):
                return variant
        first = self._variants[0]
        return first if first.guard is None else self._dynamic

    def _untuned_variant(self, feeds: Feeds) -> Variant:
        if not self._no_dynamic:
            for plan in self._open_plans():
                try:
                    self._dynamic = self._load(plan)
                except DioeError as error:
                    log.info("%s takes no open shapes: %s", ", ".join(plan.targets), error)
                else:
                    return self._dynamic
            self._no_dynamic = True
        fixed = {n: v.shape for n, v in feeds.items() if isinstance(v, np.ndarray | Buffer)}
        variant = self._load(_untuned(self._variants[0].plan, fixed))
        self._untuned.append(variant)
        if len(self._untuned) > MAX_UNTUNED_VARIANTS:
            self._evict(spare=variant)
        return variant

    def _open_plans(self) -> Iterator[Plan]:
        """Plans with open shapes: the first plan's targets, then others that were found right."""
        first = self._variants[0].plan
        shapes = {spec.name: spec.shape for spec in self.model.inputs if spec.shape is not None}
        yield _untuned(first, shapes)
        for report in sorted(first.candidates, key=lambda r: r.p50_ms or math.inf):
            target = Target.parse(report.target)
            alike = target.device == first.stages[0].target.device
            as_written = target.precisions == (Precision.FP32,)
            if report.state == "ok" and alike and as_written and report.target not in first.targets:
                whole = Stage(
                    "s0",
                    target,
                    self.model.placed_op_ids,
                    tuple(spec.name for spec in self.model.inputs),
                    tuple(spec.name for spec in self.model.outputs),
                    resources=first.stages[0].resources,
                )
                yield _untuned(replace(first, stages=(whole,), boundaries=()), shapes)

    def _evict(self, spare: Variant) -> None:
        """Close the untuned variant that was not chosen for longest and that nobody has bound."""
        bound = {id(request.variant) for request in list(self._bound)}
        idle = [v for v in self._untuned if id(v) not in bound and v is not spare]
        if idle:
            oldest = min(idle, key=lambda v: v.last_use)
            self._untuned.remove(oldest)
            oldest.close()

    def _load(self, plan: Plan) -> Variant:
        numbers = {
            name: tuple(int(d) for d in shape if isinstance(d, int))
            for name, shape in plan.shapes.items()
            if all(isinstance(d, int) for d in shape)
        }
        model = self.model.with_shapes(numbers) if numbers else self.model
        if len(plan.stages) == 1:
            models: dict[str, Model] = {plan.stages[0].name: model}
        else:
            from dioe.graph import OpGraph, rebuild  # single-stage sessions need neither

            built = rebuild(OpGraph.build(self.model, numbers or None), plan)
            models = dict(built.models)
            by_name = {stage.name: stage for stage in plan.stages}
            plan = replace(plan, stages=tuple(by_name[name] for name in built.order))
            for stage in plan.stages:
                _check_edges(stage, models[stage.name])
        return Variant(load(plan, model, self._runtime, models))

    def _checked_names(self, names: Sequence[str]) -> tuple[str, ...]:
        known = [spec.name for spec in self.model.outputs]
        wanted = () if isinstance(names, str) or not isinstance(names, Iterable) else tuple(names)
        if not wanted:
            raise InputError(
                f"output_names is {names!r}",
                fix=f"give a list of some of {', '.join(known)}, or None for all",
            )
        for name in wanted:
            if name not in known:
                raise InputError(
                    f"the model has no output {name!r}", fix=f"its outputs: {', '.join(known)}"
                )
        return wanted

    # --- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Wait for runs in flight, then free everything. Running a closed session is an error."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            dynamic = [self._dynamic] if self._dynamic is not None else []
            variants = [*self._variants, *dynamic, *self._untuned]
        for bound in list(self._bound):
            bound.close()
        with contextlib.ExitStack() as closing:  # all, even if one fails to
            for variant in variants:
                closing.callback(variant.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _check_edges(stage: Stage, model: Model) -> None:
    """Raise PlanMismatch if a stage names other inputs or outputs than its ops have."""
    reads, gives = ({spec.name for spec in specs} for specs in (model.inputs, model.outputs))
    if set(stage.inputs) != reads or not gives.issuperset(stage.outputs):
        raise PlanMismatch(
            f"stage {stage.name!r} reads {sorted(reads)} and gives {sorted(gives)}, the plan says "
            f"{sorted(stage.inputs)} and {sorted(stage.outputs)}",
            place="plan",
            fix="make a plan for this model",
        )


def _untuned(plan: Plan, shapes: Mapping[str, tuple[Any, ...]]) -> Plan:
    """The same stages for other shapes: nothing measured, and no spinning next to the tuned one."""
    stages = tuple(
        replace(
            stage,
            resources=replace(stage.resources, spin=False),
            predicted_ms=None,
            basis=Basis.DEFAULT,
        )
        for stage in plan.stages
    )
    return replace(
        plan,
        stages=stages,
        shapes=dict(shapes),
        predicted_ms=None,
        relative_l2=None,
        basis=Basis.DEFAULT,
        candidates=(),
        notes=("not tuned for these shapes",),
    )
