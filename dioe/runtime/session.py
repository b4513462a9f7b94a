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
from dioe.runtime.background import Background, NewShape, ShapeTuner
from dioe.runtime.bound import BoundRequest
from dioe.runtime.feeds import check_feeds, check_mapping
from dioe.runtime.loading import load, owned
from dioe.runtime.memory import TransferReport
from dioe.runtime.process import Runtime
from dioe.runtime.state import State
from dioe.runtime.variant import Retired, Variant
from dioe.runtime.variants import MAX_SHAPE_VARIANTS, ShapeKey, Variants, unmeasured
from dioe.types import (
    Array,
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

UNTUNED = "not tuned for these shapes"

_CLOSED = "the session is closed"
_COMPILE_AGAIN = "compile the model again"


class Session:
    """Runs one model by its plans. Thread-safe; made by ``dioe.compile``, closed by ``close``.

    Each tuned plan is a *variant* for its input shapes. Other shapes run at once on a safe variant:
    the first plan's targets with the shapes left open. With a ``tuner``, a variant of their own is
    prepared in the background and used as soon as it is there (docs/shapes.md).
    """

    def __init__(
        self,
        model: Model,
        plans: Sequence[Plan],
        *,
        runtime: Runtime | None = None,
        state: Mapping[str, str] | None = None,
        tuner: ShapeTuner | None = None,
    ) -> None:
        self.model = model
        self._runtime = runtime or Runtime.current()
        self._lock = threading.Lock()
        self._closed = False
        self._no_dynamic = False
        self._uses = itertools.count(1)
        self._bound: weakref.WeakSet[BoundRequest] = weakref.WeakSet()
        self._tuner = tuner
        with contextlib.ExitStack() as undo:
            tuned: list[Variant] = []
            for plan in plans:
                variant = self._load(plan)
                undo.callback(variant.close)
                tuned.append(variant)
            most = tuner.most_variants if tuner is not None else MAX_SHAPE_VARIANTS
            self._variants = Variants(model.inputs, tuned, most_prepared=most)
            self._hot = tuned[0]
            self._outputs = tuple(spec.name for spec in model.outputs)
            self._state = State(state, model, self._hot.plan) if state else None
            if self._state is not None:
                self._outputs = tuple(n for n in self._outputs if n not in self._state.outputs)
            undo.pop_all()
        self._background: Background | None = None
        if tuner is not None:
            self._background = Background(
                self._prepare, busy=self._runs_in_flight, eldest=self._variants.eldest
            )

    # --- what it is ------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The plan of the variant that was used last (at first: the first one)."""
        return self._hot.plan

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans of all loaded variants, tuned ones first."""
        return tuple(variant.plan for variant in self._variants)

    @property
    def executables(self) -> tuple[tuple[Stage, Executable], ...]:
        """The compiled stages of the variant that was used last, in order."""
        return self._hot.loaded.stages

    @property
    def transfers(self) -> tuple[TransferReport, ...]:
        """The copies between memories of devices that runs made so far, with bytes and times; of
        the variant that was used last."""
        return self._hot.loaded.transfer_log.reports()

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
        for name, shape, dtype in self._hot.guard or self._variants.tuned[0].guard or ():
            if name not in given:
                given[name] = (
                    np.full(shape, "", dtype) if dtype.hasobject else np.zeros(shape, dtype)
                )
        state = self._state.pairs if self._state is not None else {}
        while True:
            variant, full = self._variant_for(given, offer=False)  # nothing real is in them yet
            with self._lock:  # nobody closes the variant meanwhile
                if self._closed:
                    raise InputError(_CLOSED, fix=_COMPILE_AGAIN)
                if not variant.retired:
                    bound = BoundRequest(variant, full, {} if outputs is None else outputs, state)
                    self._bound.add(bound)
                    return bound

    # --- variants --------------------------------------------------------------------------

    def _variant_for(
        self, feeds: Mapping[str, Any], *, offer: bool = True
    ) -> tuple[Variant, Feeds]:
        """The variant for these feeds, and the feeds as it takes them; makes one if need be.

        Shapes without a variant of their own are offered to the background.
        """
        if self._closed:
            raise InputError(_CLOSED, fix=_COMPILE_AGAIN)
        checked = check_feeds(feeds, self.model.inputs)
        variants = self._variants
        key = variants.key(checked)
        variant = variants.find(key)
        if variant is None:
            with self._lock:
                if self._closed:
                    raise InputError(_CLOSED, fix=_COMPILE_AGAIN)
                variant = variants.find(key) or self._untuned_variant(key, checked)
        if self._background is not None and offer:
            if variants.has(key):
                self._background.note(key)
            else:
                self._background.offer(key, checked)
        variant.last_use = next(self._uses)
        self._hot = variant
        return variant, checked

    def _untuned_variant(self, key: ShapeKey, feeds: Feeds) -> Variant:
        first = self._variants.tuned[0].plan
        if not self._no_dynamic:
            for plan in self._open_plans():
                try:
                    dynamic = self._variants.dynamic = self._load(plan)
                except DioeError as error:
                    log.info("%s takes no open shapes: %s", ", ".join(plan.targets), error)
                else:
                    return dynamic
            self._no_dynamic = True
        fixed = {n: v.shape for n, v in feeds.items() if isinstance(v, np.ndarray | Buffer)}
        variant = self._load(unmeasured(first, fixed, UNTUNED))
        for removed in self._variants.add_untuned(key, variant, spare=self._bound_variants()):
            removed.close()
        return variant

    def _bound_variants(self) -> set[int]:
        """The ``id`` of each variant that somebody has bound."""
        return {id(request.variant) for request in list(self._bound)}

    def _open_plans(self) -> Iterator[Plan]:
        """Plans with open shapes: the first plan's targets, then others that were found right."""
        first = self._variants.tuned[0].plan
        shapes = {spec.name: spec.shape for spec in self.model.inputs if spec.shape is not None}
        yield unmeasured(first, shapes, UNTUNED)
        for report in sorted(first.candidates, key=lambda r: r.p50_ms or math.inf):
            try:
                target = Target.parse(report.target)
            except InputError:  # a plan of several stages
                continue
            alike = target.device == first.stages[0].target.device
            as_written = target.precisions == (Precision.FP32,)
            alone = first.targets == (report.target,)
            if report.state == "ok" and alike and as_written and not alone:
                whole = Stage(
                    "s0",
                    target,
                    self.model.placed_op_ids,
                    tuple(spec.name for spec in self.model.inputs),
                    tuple(spec.name for spec in self.model.outputs),
                    resources=first.stages[0].resources,
                )
                yield unmeasured(replace(first, stages=(whole,), boundaries=()), shapes, UNTUNED)

    def _load(self, plan: Plan, bound: Model | None = None) -> Variant:
        """``plan``, compiled; ``bound`` is the model with the plan's shapes where it is there."""
        numbers = {
            name: tuple(int(d) for d in shape if isinstance(d, int))
            for name, shape in plan.shapes.items()
            if all(isinstance(d, int) for d in shape)
        }
        model = bound or (self.model.with_shapes(numbers) if numbers else self.model)
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

    # --- in the background -----------------------------------------------------------------

    def wait_for_tuning(self, timeout_s: float | None = None) -> bool:
        """Wait until every shape that came has been dealt with in the background.

        False if that takes longer than ``timeout_s`` seconds. For warming up: run each shape once,
        then wait. True at once in a session that tunes nothing in the background.
        """
        return self._background is None or self._background.wait(timeout_s)

    def _prepare(self, key: ShapeKey, feeds: Mapping[str, Array | None]) -> bool:
        """Prepare and publish a variant for these shapes, on the background's thread. True if there
        is one now."""
        background, tuner = self._background, self._tuner
        if background is None or tuner is None:
            return False
        shapes = {name: array.shape for name, array in feeds.items() if array is not None}
        bound = self.model.with_shapes(shapes)
        new = NewShape(
            feeds=feeds,
            model=bound,
            load=lambda plan: self._load(plan, bound),
            safe=self._variants.find(key),
            quiet=background.quiet,
            pause=background.pause,
        )
        variant = tuner.prepare(new)
        if variant is None:
            return False
        with self._lock:
            variant.last_use = next(self._uses)
            removed = [variant]
            if not self._closed:
                spare = self._bound_variants()
                removed = self._variants.publish(key, variant, spare=spare)
        for each in removed:
            each.close()
        return variant not in removed

    def _runs_in_flight(self) -> int:
        with self._lock:  # binding adds to it
            bound = list(self._bound)
        busy = sum(request.busy for request in bound)
        return busy + sum(variant.runs_in_flight for variant in self._variants)

    # ---------------------------------------------------------------------------------------

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
        if self._background is not None:
            self._background.stop()
        variants = list(self._variants)
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
