"""``dioe.compile`` for pipelines: each model is tuned on what it gets, the whole is timed and
verified."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import Any

from dioe.hardware import Pool, pool_from
from dioe.planning import AnyPlan
from dioe.precision import Comparison, compare, error_limit, untold
from dioe.profiling import Calls, History, Timing, measuring, paired_ratio
from dioe.runtime import Clock, Flow, Pipeline, PipelineSession, Runtime, Session, in_node
from dioe.tuning.clock import Budget
from dioe.tuning.compile import Job, Settings, loaded_plan
from dioe.tuning.modelled import modelled_devices
from dioe.tuning.pins import parse_pins
from dioe.tuning.pipeline_plans import (
    ALONE,
    BESIDE,
    COMPILE_ANEW,
    Plans,
    check_pipeline_plan,
    devices_of,
    modelled_costs,
    pins_by_node,
    pipeline_plan,
    tasks_before,
    unchecked_nodes,
    ways,
)
from dioe.tuning.pipeline_reference import ReferenceRun, reference_run
from dioe.tuning.plan_cache import PlanCache
from dioe.tuning.samples import Samples, samples_digest, untold_note
from dioe.tuning.targets import error_cause
from dioe.tuning.trial import TargetFailed, time_surviving
from dioe.tuning.tune import Progress
from dioe.types import (
    ABI_VERSION,
    BackendError,
    Basis,
    DioeError,
    FidelityError,
    InputError,
    PipelinePlan,
    Plan,
    PlanMismatch,
    TargetReport,
)

log = logging.getLogger(__name__)

_WHOLE_SHARE = 0.2
"""Of the budget, for timing the whole pipeline after its models are tuned."""

_EVEN_SHARE = 0.3
"""Of the models' budget, shared out evenly; the rest by what each takes in the reference run."""

_UNMEASURED = "nothing was measured (no tuning budget)"


class PipelineJob:
    """One compilation of a pipeline; takes what ``Job`` takes."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        hardware: str | PathLike[str] | Pool | None,
        settings: Settings,
        sample_inputs: Samples,
        state: Mapping[str, str] | None = None,
        runtime: Runtime | None = None,
        history: History | None = None,
        progress: Progress = lambda text: None,
    ) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.flow = Flow(pipeline, state)
        self.runtime = runtime or Runtime.current()
        self.progress = progress
        self._samples = sample_inputs
        self._history = history or History(None)
        pool = None if hardware is None else pool_from(hardware)
        pool_pins = parse_pins(dict(pool.pins)) if pool is not None else ()
        self._pins = pins_by_node(pipeline, (*parse_pins(settings.pins), *pool_pins))
        self._pool = None if pool is None else replace(pool, pins=())
        self._modelled = modelled_devices(self.runtime.registry)

    # --- models ------------------------------------------------------------------------------

    def job(
        self,
        node: str,
        *,
        budget_s: float | None = None,
        precision: str | None = None,
        beside: frozenset[str] = frozenset(),
    ) -> Job:
        """The compilation of one model of the pipeline, with its own pins; ``beside`` are devices
        that other models use."""
        settings = replace(
            self.settings,
            pins=(),  # those of the node are given as they were written
            tuning_budget_s=self.settings.tuning_budget_s if budget_s is None else budget_s,
            precision=precision or self.settings.precision,
        )
        job = Job(
            self.pipeline.models[node], hardware=self._pool, settings=settings, sample_inputs=None,
            state=self.flow.state.get(node), runtime=self.runtime, history=self._history,
            progress=lambda text: self.progress(f"{node}: {text}"),
        )  # fmt: skip
        job.pins = self._pins[node]
        if beside:
            job.limited = replace(job.limited, beside=beside)
        return job

    @cached_property
    def _jobs(self) -> dict[str, Job]:
        return {node: self.job(node) for node in self.pipeline.models}

    def _tuned(self, run: ReferenceRun, budget: Budget, precision: str) -> Plans:
        """The best plans of each model alone, on the inputs that it gets; the least work first, so
        that what one leaves of its share is the others'."""
        total = sum(run.clock.get(node, 0.0) for node in self.pipeline.models) or 1.0
        count = max(1, len(self.pipeline.models))
        weight = {
            node: _EVEN_SHARE / count + (1 - _EVEN_SHARE) * run.clock.get(node, 0.0) / total
            for node in self.pipeline.models
        }
        plans: dict[str, Any] = {}
        for node in sorted(weight, key=weight.__getitem__):
            share = weight[node] / sum(w for n, w in weight.items() if n not in plans)
            left_s = max(0.0, budget.left_s)
            job = self.job(
                node, budget_s=left_s * share if budget.seconds > 0 else 0.0, precision=precision,
                beside=devices_of(plans),
            )  # fmt: skip
            if run.groups[node]:
                job.groups = run.groups[node]
            with in_node(node), job.start(None, tune_shapes=False) as session:
                plans[node] = session.plans
        return {node: plans[node] for node in self.pipeline.models}

    # --- the whole ---------------------------------------------------------------------------

    def start(self, cache: PlanCache, *, tune_shapes: bool = True) -> PipelineSession:
        """Tune, choose, load and verify.

        Raises FidelityError if the pipeline's outputs don't follow the reference; what ``compile``
        of a model raises, with the node's name; what callables raise.
        """
        budget = Budget(self.settings.tuning_budget_s)
        self.progress("reference")
        run = reference_run(self.flow, self._samples, self.runtime)
        key = self._cache_key(run) if budget.seconds > 0 else ""
        known = cache.get_pipeline(key) if key else None
        if known is not None:
            try:
                found = self.session(self.checked_plan(known), tune_shapes=tune_shapes)
            except DioeError as error:
                log.warning("the plan kept of the pipeline is made anew: %s", error)
            else:
                log.info("plan of the pipeline found in the cache")
                return found
        precisions = ["fp32"] if self.settings.precision == "auto" else []
        precision = self.settings.precision
        if precisions and untold(run.outputs):
            precision = precisions.pop()
        while True:
            plan = self._chosen(run, budget, precision)
            session = self.session(plan, tune_shapes=tune_shapes and budget.seconds > 0)
            try:
                if budget.seconds > 0:
                    session.plan = self._verified(session, plan, run)
            except FidelityError as error:
                session.close()
                if not precisions:
                    raise
                log.info("tuned again as written: %s", error)
                precision = precisions.pop()
                budget = Budget(max(budget.left_s, _WHOLE_SHARE * budget.seconds))
            except BaseException:
                session.close()
                raise
            else:
                if key:
                    cache.put(key, session.plan)
                return session

    def _chosen(self, run: ReferenceRun, budget: Budget, precision: str) -> PipelinePlan:
        models_budget = Budget(max(0.0, budget.left_s) * (1 - _WHOLE_SHARE))
        plans = self._tuned(run, models_budget, precision)
        limit = error_limit(
            self.settings.precision,
            quantised=any(model.quantised for model in self.pipeline.models.values()),
            max_relative_l2=self.settings.max_relative_l2,
        )
        settings: dict[str, Any] = {
            "policy": self.settings.policy,
            "precision": self.settings.precision,
            "max_relative_l2": limit,
        }
        if budget.seconds <= 0:
            return pipeline_plan(self.pipeline, plans, notes=(_UNMEASURED,), **settings)
        contenders = {
            name: _Way(name, self, each, run.samples[0]) for name, each in ways(plans).items()
        }
        timings, reasons = self._timed(contenders, budget)
        name = _fastest(timings)
        reports = [TargetReport(n, "failed", reason) for n, reason in reasons.items()]
        reports += [TargetReport(n, "ok", **timing.summary()) for n, timing in timings.items()]
        return modelled_costs(
            pipeline_plan(
                self.pipeline,
                contenders[name].plans,
                contenders[name].clocks,
                predicted_ms=timings[name].p50_ms,
                basis=Basis.MEASURED,
                candidates=tuple(sorted(reports, key=lambda r: r.target != name)),
                **settings,
            ),
            self._modelled,
        )

    def _timed(
        self, contenders: Mapping[str, _Way], budget: Budget
    ) -> tuple[dict[str, Timing], dict[str, str]]:
        with measuring(timeout_s=max(60.0, 2 * budget.seconds)) as locked:
            timings, reasons = time_surviving(
                contenders, budget_s=max(0.0, budget.left_s), locked=locked, progress=self.progress
            )
        if not timings:
            why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            raise BackendError(f"the whole pipeline can't be run: {why}")
        return timings, reasons

    def _verified(
        self, session: PipelineSession, plan: PipelinePlan, run: ReferenceRun
    ) -> PipelinePlan:
        """The plan with the error of the pipeline's outputs; raises FidelityError above the limit.
        Nothing that comes from a modelled device is looked at."""
        plans = {name: node.plans for name, node in plan.models.items()}
        unchecked = unchecked_nodes(self.pipeline, plans, self._modelled)
        worst, compared = Comparison(0.0), False
        for sample, expected in zip(run.samples, run.outputs, strict=True):
            session.reset_state()
            wanted = {n: v for n, v in expected.items() if n.partition(".")[0] not in unchecked}
            worst = worst.worse(compare(session.run(sample), wanted))
            compared = compared or bool(wanted)
        session.reset_state()
        limit = plan.max_relative_l2 or 0.0
        if worst.error > limit:
            raise FidelityError(
                f"output {worst.output!r} of the pipeline: "
                f"{worst.reason or f'error {worst.error:.3g} is above the limit {limit:g}'}",
                fix=self._advice(worst),
            )
        notes = plan.notes
        told_nothing = untold(run.outputs)
        if told_nothing:
            compared = compared and len(told_nothing) < len(run.outputs[0])
            notes = (*notes, untold_note(told_nothing))
        if unchecked:
            notes = (*notes, f"outputs that come from modelled devices mean nothing and weren't "
                             f"compared: those of {', '.join(sorted(unchecked))}")  # fmt: skip
        reports = tuple(
            replace(report, relative_l2=worst.error) if i == 0 and compared else report
            for i, report in enumerate(plan.candidates)
        )
        return replace(
            plan, relative_l2=worst.error if compared else None, notes=notes, candidates=reports
        )

    def _advice(self, worst: Comparison) -> str:
        """What to do about outputs that don't follow the reference: no limit helps where they have
        another shape or type."""
        tasks = tasks_before(self.pipeline, worst.output.partition(".")[0])
        larger = "" if worst.reason else "allow a larger max_relative_l2"
        same = (
            f"have the callables that lead to it ({', '.join(tasks)}) give the same each time for "
            "the same inputs, or check nothing: tuning_budget_s=0"
        )
        other = "keep models to other targets by pins or devices="
        return "; or ".join(filter(None, (larger, same if tasks else other)))

    # --- plans made before ---------------------------------------------------------------------

    def checked_plan(self, plan: AnyPlan | str | PathLike[str]) -> PipelinePlan:
        """A plan made before; raises PlanMismatch, with the node's name, if it isn't for these
        models, callables, edges and this hardware."""
        loaded = loaded_plan(plan)
        if not isinstance(loaded, PipelinePlan):
            raise PlanMismatch(
                "the plan of a model, not of a pipeline",
                place="plan",
                fix=COMPILE_ANEW,
            )
        check_pipeline_plan(loaded, self.pipeline)
        for name, node in loaded.models.items():
            with in_node(name):
                for each in node.plans:
                    self._check_node(name, each)
        self._check_power(loaded)
        return loaded

    def _check_power(self, plan: PipelinePlan) -> None:
        """Raise PlanMismatch unless the devices of all models may be used together."""
        used = devices_of({name: node.plans for name, node in plan.models.items()})
        for job in self._jobs.values():
            problem = job.limited.over_power(used)
            if problem:
                cause = f"it breaks the limits: {problem}"
                raise PlanMismatch(cause, place="plan", fix=COMPILE_ANEW)

    def _check_node(self, name: str, plan: Plan) -> None:
        try:
            self._jobs[name].checked_plan(plan)
        except PlanMismatch as error:
            error.fix = COMPILE_ANEW  # a model's plan is made otherwise
            raise

    def session(self, plan: PipelinePlan, *, tune_shapes: bool = False) -> PipelineSession:
        """A session with these plans loaded."""
        sessions: dict[str, Session] = {}
        plans = {name: node.plans for name, node in plan.models.items()}
        for name, job in self._jobs.items():
            others = devices_of({n: each for n, each in plans.items() if n != name})
            job.limited = replace(job.limited, beside=others)
        with contextlib.ExitStack() as undo:
            for name, node in plan.models.items():
                with in_node(name):
                    loaded = self._jobs[name].session(node.plans, tune_shapes=tune_shapes)
                undo.callback(loaded.close)
                sessions[name] = loaded
            undo.pop_all()
        return PipelineSession(self.flow, plan, sessions)

    def _cache_key(self, run: ReferenceRun) -> str:
        pipeline, jobs = self.pipeline, self._jobs
        told = {
            "models": {name: model.sha256 for name, model in pipeline.models.items()},
            "tasks": list(pipeline.tasks),
            "edges": [asdict(edge) for edge in pipeline.edges],
            "calls": pipeline.calls,
            "outputs": pipeline.asked,
            "state": self.flow.state,
            "pins": self._pins,
            "settings": self.settings.to_data(),
            "limits": [job.limited.key(d.id for d in job.pool.devices) for job in jobs.values()],
            "hardware": sorted({job.hardware for job in jobs.values()}),
            "versions": [job.versions for job in jobs.values()][:1],
            "abi": ABI_VERSION,
            "fed": {
                name: [(group.real, samples_digest(group.feeds)) for group in groups]
                for name, groups in run.groups.items()
            },
            "gave": samples_digest(run.outputs),
        }
        text = json.dumps(told, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to run the whole, timed through ``PipelineSession``; ``clocks`` has what each node
    took in every run."""

    name: str
    job: PipelineJob
    plans: Plans
    feeds: Mapping[str, Any]
    clocks: list[Clock] = field(default_factory=list)

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        """Load a session for the time of a round. Raises TargetFailed for what a backend raises."""
        try:
            with self.job.session(pipeline_plan(self.job.pipeline, self.plans)) as session:

                def call() -> None:
                    clock: Clock = {}
                    session.run_timed(self.feeds, clock)
                    self.clocks.append(clock)

                yield {self.name: call}
        except DioeError as error:
            if isinstance(error, InputError):  # the caller's, not a backend's
                raise
            raise TargetFailed(self.name, error_cause(error)) from error


def _fastest(timings: Mapping[str, Timing]) -> str:
    """As each was tuned alone only where that is faster: threads that spin disturb others."""
    if BESIDE not in timings:
        return ALONE
    if ALONE not in timings or paired_ratio(timings[BESIDE], timings[ALONE]) <= 1.0:
        return BESIDE
    return ALONE
