"""Trying one plan: load, run, compare with the reference, time each of its stages."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.graph import Model, OpGraph, rebuild
from dioe.precision import Comparison, compare
from dioe.profiling import Calls
from dioe.runtime import Runtime, Session, is_host
from dioe.runtime.loading import LoadedPlan, load
from dioe.runtime.request import PlanRequest
from dioe.tuning.clock import Stopwatch
from dioe.tuning.found import plan_name
from dioe.tuning.modelled import UNCHECKED, is_modelled, modelled_devices
from dioe.tuning.targets import error_cause
from dioe.tuning.trial import TargetFailed, verdict
from dioe.tuning.wholes import QUARTILE
from dioe.types import DioeError, Feeds, KnownAs, Plan, TargetReport, Value

log = logging.getLogger(__name__)

_TRY_S = 0.25
_WARMUP_RUNS = 3
_LEAST_RUNS = 5


@dataclass(frozen=True, slots=True)
class PlanContender:
    """A plan as users run it, through ``Session.run``, under a name."""

    name: str
    plan: Plan
    model: Model
    feeds: Feeds
    runtime: Runtime
    watch: Stopwatch

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        """Load a session for the time of a round. Raises TargetFailed for whatever fails."""
        try:
            with contextlib.ExitStack() as opened:
                with self.watch.part("compile_s"):
                    session = opened.enter_context(
                        Session(self.model, [self.plan], runtime=self.runtime)
                    )
                run, feeds = session.run, self.feeds
                yield {self.name: lambda: run(feeds)}
        except (Exception, SystemExit) as error:
            raise TargetFailed(self.name, error_cause(error)) from error


def try_plan(
    plan: Plan,
    model: Model,
    samples: Sequence[Feeds],
    reference: Sequence[Mapping[str, Value]],
    runtime: Runtime,
    *,
    limit: float,
    speed: Callable[[], float],
    watch: Stopwatch,
    left_s: float = math.inf,
) -> tuple[TargetReport, list[float]]:
    """A first report on a plan of ``model`` (shapes bound), and the ms that each stage takes.

    ``speed`` is called before and after the runs that are timed: the times of stages on the host
    are divided by how many times as long the host takes then. A plan so slow that it would take
    more than ``left_s`` seconds, comparing its outputs included, runs less often, but once. Outputs
    of a plan with a stage on a modelled device aren't compared with the reference. Never raises for
    what a backend does: the plan has failed, and no stage has a time.
    """
    name = plan_name(plan)
    unchecked = is_modelled(plan, modelled_devices(runtime.registry))
    end = time.perf_counter() + left_s
    try:
        with _loaded(plan, model, runtime, watch) as loaded:
            request = loaded.request()
            with watch.part("verify_s"):
                found = None if unchecked else _verify(request, samples, reference)
            request.bind(samples[0], {})
            before = speed()
            runs = _timed_runs(request, end)
            on_host = [is_host(stage.target.device) for stage in plan.stages]
            runs[:, on_host] /= (before + speed()) / 2
    except (Exception, SystemExit) as error:
        if not isinstance(error, DioeError):
            log.info("plan %s failed", name, exc_info=True)
        return TargetReport(name, "failed", error_cause(error)), []
    state, reason = ("ok", UNCHECKED) if found is None else verdict(found, limit)
    p50_ms = float(np.percentile(runs.sum(axis=1), QUARTILE))
    report = TargetReport(
        name, state, reason, p50_ms=p50_ms, runs=len(runs),
        relative_l2=found.error if found is not None and math.isfinite(found.error) else None,
        known_as=KnownAs.HARDWARE if found is not None else KnownAs.MODELLED,
    )  # fmt: skip
    return report, [float(ms) for ms in np.percentile(runs, QUARTILE, axis=0)]


@contextlib.contextmanager
def _loaded(plan: Plan, model: Model, runtime: Runtime, watch: Stopwatch) -> Iterator[LoadedPlan]:
    with watch.part("compile_s"):
        models = rebuild(OpGraph.build(model), plan).models
        loaded = load(plan, model, runtime, models)
    try:
        yield loaded
    finally:
        loaded.close()


def _verify(
    request: PlanRequest, samples: Sequence[Feeds], reference: Sequence[Mapping[str, Value]]
) -> Comparison:
    worst = Comparison(0.0)
    for feeds, expected in zip(samples, reference, strict=True):
        outputs = dict(zip(expected, request.call(feeds, list(expected)), strict=True))
        worst = worst.worse(compare(outputs, expected))
    return worst


def _timed_runs(request: PlanRequest, last: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Milliseconds by run and stage, warmed up, for some time; where a run takes long, one run at
    least and no more than the clock allows before ``last``."""
    clock = time.perf_counter
    runs: list[list[float]] = []
    warm = 0
    start = clock()
    while warm < _WARMUP_RUNS:
        runs = [request.run_timed()]
        warm += 1
        if clock() + (clock() - start) / warm > last:
            return np.asarray(runs, dtype=np.float64)
    each_s = (clock() - start) / warm
    runs = []
    end = clock() + _TRY_S
    while not runs or ((len(runs) < _LEAST_RUNS or clock() < end) and clock() + each_s <= last):
        runs.append(request.run_timed())
    return np.asarray(runs, dtype=np.float64)
