"""Tuning for shapes that came after compiling: a choice for each bucket, a variant for each shape.

The options are what was right when the session was tuned. A bucket is measured once, in a quiet
moment and within a budget of its own; where its neighbours leave no doubt, interpolated costs
choose. Whatever is chosen is compiled for exactly the shapes that came and checked on their inputs.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dioe.graph import Model
from dioe.hardware import Pool
from dioe.host_backend import can_preset, empty
from dioe.precision import Comparison, compare
from dioe.profiling import (
    NOISY_SHARE,
    CpuLoad,
    Round,
    Timing,
    measuring,
    others_share,
    time_calls,
)
from dioe.runtime import NewShape, Runtime, Variant
from dioe.runtime.feeds import check_feeds
from dioe.tuning.buckets import (
    OPEN,
    Bucket,
    Point,
    Ranking,
    Shapes,
    between,
    bucket_of,
    in_words,
    nearest,
    predict,
    rank,
    work_of,
)
from dioe.tuning.clock import Budget
from dioe.tuning.limited import Limited
from dioe.tuning.modelled import is_modelled, modelled_devices
from dioe.tuning.shape_options import check_memory, most_variants, options_of, points_of
from dioe.tuning.targets import error_cause
from dioe.tuning.trial import SLOW_RATIO, reference_outputs, verdict
from dioe.types import Basis, DioeError, Feeds, Plan, TargetReport, Value

log = logging.getLogger(__name__)

MAX_BUCKET_S = 5.0
BUCKET_SHARE = 1 / 4
"""Seconds a bucket may be measured for: this share of the tuning budget, and no more than that.
All buckets together get as much as the tuning budget."""

_TURN_S = 0.03
_ROUNDS = 15
_DROP_RATIO = 1.5
_LOCK_WAIT_S = 60.0
_LOCK_STEP_S = 0.25


class BackgroundTuner:
    """Prepares variants for shapes that a session was not tuned for (``runtime.ShapeTuner``).

    ``plans`` are the session's tuned ones, ``budget_s`` the seconds that measuring all buckets may
    take together; what is ``limited`` for the session is for its variants. For one thread at a
    time.
    """

    def __init__(
        self,
        model: Model,
        plans: Sequence[Plan],
        *,
        pool: Pool,
        runtime: Runtime,
        budget_s: float,
        limited: Limited | None = None,
    ) -> None:
        limited = limited or Limited()
        self._model = model
        self._pool, self._runtime = pool, runtime
        limit = plans[0].max_relative_l2
        self._limit = limit if limit is not None else math.inf
        options = options_of(model, plans, pool, limited)
        self._options = {option.name: option for option in options}
        self._points = list(points_of(plans, options, pool))
        self._choices: dict[Bucket, Ranking] = {}
        self._bucket_s = min(budget_s * BUCKET_SHARE, MAX_BUCKET_S)
        self._left_s = budget_s
        self._most_variants = most_variants(model, pool, limited)

    @property
    def most_variants(self) -> int:
        """See ``dioe.runtime.ShapeTuner``."""
        return self._most_variants

    @property
    def choices(self) -> Mapping[Bucket, Ranking]:
        """What was decided so far: for each bucket its options, the chosen one first."""
        return dict(self._choices)

    def prepare(self, new: NewShape) -> Variant | None:
        """See ``dioe.runtime.ShapeTuner``."""
        shapes = {name: array.shape for name, array in new.feeds.items() if array is not None}
        bucket = bucket_of(self._model.inputs, shapes)
        ranking = self._choices.get(bucket)
        if ranking is None:
            ranking = predict(self._points, shapes, list(self._options))
            if ranking is not None:
                self._choices[bucket] = ranking
        if ranking is not None and ranking.costs[0][0] == OPEN:
            return None
        check_memory(self._pool)
        quiet = new.quiet()
        with _alone(new.pause) as locked:
            if ranking is None and quiet and locked and self._left_s > 0:
                return self._measured(new, bucket, shapes)
            return self._unmeasured(new, shapes, ranking or self._guess(shapes))

    def _guess(self, shapes: Shapes) -> Ranking:
        """What was best at the shapes most like these, while they can't be measured."""
        if not self._points:
            return Ranking(tuple((name, None) for name in self._options), "nothing was measured")
        point = nearest(self._points, shapes)
        return rank(point.costs, f"chosen for {in_words(point.shapes)}, the nearest measured")

    def _measured(self, new: NewShape, bucket: Bucket, shapes: Shapes) -> Variant | None:
        """The best option by measurement; what was learnt is kept for the bucket and beyond."""
        budget = Budget(min(self._bucket_s, self._left_s))
        start = time.perf_counter()
        with contextlib.ExitStack() as undo:
            undo.callback(self._spend, start)
            trial = self._trial(new)
            undo.callback(trial.close)
            costs = nearest(self._points, shapes).costs if self._points else {}
            for name in sorted(self._options, key=lambda name: costs.get(name, math.inf)):
                trial.disturbed |= new.pause()
                if trial.reports and (budget.left_s <= 0 or len(trial.open) >= self._most_variants):
                    break  # the others are left to shapes to come
                trial.consider(name, self._options[name].at(shapes))
            if not trial.open:
                self._choices[bucket] = Ranking(((OPEN, None),), "no option can be used")
                return None
            trial.time(budget)
            ranking = rank(trial.costs, f"chosen for {in_words(shapes)}, of the same bucket")
            self._choices[bucket] = ranking
            if not trial.disturbed:
                self._points.append(Point(shapes, trial.costs))
            best = ranking.costs[0][0]
            log.info("%s: %s of %s", in_words(shapes), best, trial.costs)
            return None if best == OPEN else trial.take(best)

    def _spend(self, start: float) -> None:
        self._left_s -= time.perf_counter() - start

    def _unmeasured(self, new: NewShape, shapes: Shapes, ranking: Ranking) -> Variant | None:
        """The first of the ranking that can be loaded and is right; None if nothing is, or leaving
        the shapes as they are comes before."""
        trial = self._trial(new)
        for name, _ in ranking.costs:
            if name == OPEN:
                break
            new.pause()
            trial.consider(name, self._options[name].at(shapes), timed=False)
            if name in trial.open:
                variant = trial.open[name]
                points = [point for point in self._points if name in point.costs]
                cost_ms = between(points, name, work_of(shapes))
                basis = Basis.PREDICTED if math.isfinite(cost_ms) else Basis.DEFAULT
                error = trial.reports[name].relative_l2
                note = f"prepared in the background: {ranking.source}"
                variant.loaded.plan = _with_cost(variant.plan, cost_ms, basis, error, (note,))
                return variant
        return None

    def _trial(self, new: NewShape) -> _Trial:
        devices = modelled_devices(self._runtime.registry)
        return _Trial(new, self._reference(new), self._limit, devices)

    def _reference(self, new: NewShape) -> Mapping[str, Value]:
        (outputs,) = reference_outputs(new.model, [new.feeds], self._runtime)
        return outputs


@dataclass(slots=True)
class _Trial:
    """Options tried at one set of shapes, those that are right kept open beside each other.

    That is how they will run: next to other variants, so nothing spins, and what one measures here
    isn't disturbed by what else is open.
    """

    new: NewShape
    reference: Mapping[str, Value]
    limit: float
    modelled: frozenset[str] = frozenset()
    open: dict[str, Variant] = field(default_factory=dict)
    reports: dict[str, TargetReport] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    disturbed: bool = False

    def consider(self, name: str, plan: Plan, *, timed: bool = True) -> None:
        """Load and check an option, and time it roughly; what fails has a report and is closed."""
        with contextlib.ExitStack() as undo:
            try:
                variant = self.new.load(plan)
                undo.callback(variant.close)
                found = self._error(variant)
                call = self._call(variant)
                times_ms = (
                    time_calls(call, seconds=_TURN_S, min_calls=2, warm=False) if timed else ()
                )
            except (Exception, SystemExit) as error:
                log.info("%s fails", name, exc_info=not isinstance(error, DioeError))
                self._reject(name, "failed", error_cause(error))
                return
            state, reason = verdict(found, self.limit)
            if state != "ok":
                self._reject(name, state, reason)
                return
            undo.pop_all()
        self.open[name] = variant
        self.reports[name] = TargetReport(name, "ok", relative_l2=found.error)
        if len(times_ms):
            self.costs[name] = cost_ms = float(np.median(times_ms))
            self.reports[name] = replace(self.reports[name], p50_ms=cost_ms, runs=len(times_ms))

    def _error(self, variant: Variant) -> Comparison:
        """The worst error of an option; none for one on a modelled device, which has no outputs."""
        if is_modelled(variant.plan, self.modelled):
            return Comparison(0.0)
        return _error(variant, self.new.feeds, self.reference)

    def _reject(self, name: str, state: str, reason: str) -> None:
        log.info("%s is not used: %s", name, reason)
        self.reports[name] = TargetReport(name, state, reason)
        self.costs[name] = math.inf

    def time(self, budget: Budget) -> None:
        """Time what is open in turns, and the safe variant with it if it takes all shapes.

        Each turn is short, and all have theirs within a fraction of a second: a shared machine
        changes its speed from one second to the next, and nothing here spins in another's turn.
        """
        best_ms = min(self.costs.values())
        calls = {name: self._call(variant) for name, variant in self.open.items()}
        for name in [n for n in calls if self.costs[n] > SLOW_RATIO * best_ms]:
            del calls[name]  # stays open: the others may fail yet
            reason = f"over {SLOW_RATIO:g} times slower than the best"
            self.reports[name] = replace(self.reports[name], state="slow", reason=reason)
        safe = self.new.safe
        if safe is not None and safe.guard is None:
            calls[OPEN] = self._open_call(safe)
        timings = {name: Timing() for name in calls}
        for turn in range(_ROUNDS):
            expected_s = sum(self.costs.get(name, best_ms) for name in calls) / 1e3
            if budget.left_s < len(calls) * _TURN_S + 2 * expected_s:
                break
            self.disturbed |= self.new.pause()
            order = list(calls) if turn % 2 else list(calls)[::-1]
            for name in order:
                if not self._take_turn(name, calls[name], timings[name]):
                    del calls[name]
            best_ms = min((self.costs[name] for name in calls), default=math.inf)
            for name in [n for n in calls if self.costs[n] > _DROP_RATIO * best_ms]:
                del calls[name]

    def _take_turn(self, name: str, call: Callable[[], object], timing: Timing) -> bool:
        """One turn of one option, and its cost so far; False if it fails."""
        load = CpuLoad.now()
        try:
            call()  # where the caches still hold what ran before
            samples_ms = time_calls(call, seconds=_TURN_S, min_calls=1, warm=False)
        except (Exception, SystemExit) as error:
            log.info("%s fails", name, exc_info=not isinstance(error, DioeError))
            if name in self.open:
                self.open.pop(name).close()
                self._reject(name, "failed", error_cause(error))
            else:
                self.costs.pop(name, None)
            return False
        timing.rounds.append(Round(samples_ms, others_share(load, CpuLoad.now()) > NOISY_SHARE))
        self.costs[name] = timing.p50_ms
        if name in self.reports:
            summary = timing.summary()
            summary["noisy"] |= self.disturbed
            self.reports[name] = replace(self.reports[name], **summary)
        return True

    def take(self, name: str) -> Variant:
        """One of the open variants, its plan telling what was measured; the rest is left."""
        variant = self.open.pop(name)
        notes = ["measured in the background"]
        if OPEN in self.costs:
            notes.append(f"with open shapes {self.costs[OPEN]:.3f} ms")
        if self.disturbed:
            notes.append("other runs went on meanwhile: times are noisy")
        plan = _with_cost(
            variant.plan,
            self.costs[name],
            Basis.MEASURED,
            self.reports[name].relative_l2,
            tuple(notes),
        )
        variant.loaded.plan = replace(plan, candidates=tuple(self.reports.values()))
        return variant

    def close(self) -> None:
        """Close what is open."""
        with contextlib.ExitStack() as closing:
            for variant in self.open.values():
                closing.callback(variant.close)
            self.open = {}

    def _call(self, variant: Variant) -> Callable[[], object]:
        names, feeds, run = list(self.reference), dict(self.new.feeds), variant.run
        return lambda: run(feeds, names)

    def _open_call(self, safe: Variant) -> Callable[[], object]:
        names, feeds, inputs = list(self.reference), dict(self.new.feeds), self.new.model.inputs
        # without a guard to compare with, a session checks its inputs in full each time
        return lambda: safe.run(check_feeds(feeds, inputs), names)


def _error(variant: Variant, feeds: Feeds, reference: Mapping[str, Value]) -> Comparison:
    """The worst error in both ways a session runs it: fresh outputs, and preset buffers."""
    names = list(reference)
    outputs = dict(zip(names, variant.run(feeds, names), strict=True))
    request = variant.loaded.request()
    specs = variant.loaded.outputs
    request.bind(feeds, {spec.name: empty(spec) for spec in specs if can_preset(spec)})
    request.run()
    return compare(outputs, reference).worse(compare(request.outputs, reference))


def _with_cost(
    plan: Plan, cost_ms: float, basis: Basis, error: float | None, notes: tuple[str, ...]
) -> Plan:
    known_ms = cost_ms if math.isfinite(cost_ms) else None
    stages = plan.stages
    if len(stages) == 1:
        stages = (replace(stages[0], predicted_ms=known_ms, basis=basis),)
    return replace(
        plan, stages=stages, predicted_ms=known_ms, basis=basis, relative_l2=error, notes=notes
    )


@contextlib.contextmanager
def _alone(pause: Callable[[], bool]) -> Iterator[bool]:
    """Hold the machine-wide measuring lock, patiently; False if it can't be had in a minute."""
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        with measuring(timeout_s=_LOCK_STEP_S, warn=False) as locked:
            if locked or time.monotonic() > end:
                yield locked
                return
        pause()
