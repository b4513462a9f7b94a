"""``dioe bench``: what each target takes, what the chosen plan takes, and what was gained.

Everything that is published is timed anew after the choice: the plan through ``Session.run``, each
target through its fastest native call, in the same rounds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from dioe.graph import Model, Source
from dioe.hardware import Pool, machine
from dioe.hardware.limits import LimitsLike
from dioe.planning import best_single
from dioe.precision import Comparison, compare
from dioe.profiling import (
    Calls,
    History,
    Timing,
    measuring,
    paired_ratio,
    preset_outputs,
    waiting_call,
)
from dioe.runtime import Runtime
from dioe.tuning.clock import check_seconds
from dioe.tuning.compile import Job, Settings, cache_folder
from dioe.tuning.modelled import is_modelled, modelled_devices
from dioe.tuning.pins import Pins
from dioe.tuning.reports import chosen_name, known_as, plan_report, retimed, with_failures
from dioe.tuning.samples import Samples
from dioe.tuning.stage_times import StageTimes
from dioe.tuning.trial import TargetContender, reference_outputs, time_surviving
from dioe.tuning.tune import Progress, Tuning
from dioe.types import Feeds, Plan, TargetReport

PLAN = "plan"
ROUNDS = 25


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What ``dioe bench --json`` prints (docs/cli.md); times in ms, in seconds where the name says
    ``_s``.

    ``mixed`` are the plans over several targets, precisions or threads that were tried: the chosen
    one with what it took at last, the others with the tuning's figures.
    ``speedup_over_best_single`` compares neighbouring rounds (``paired_ratio``), so it may differ
    a little from the ratio of the two medians.
    """

    model: Mapping[str, Any]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    targets: tuple[TargetReport, ...]
    mixed: tuple[TargetReport, ...]
    plan: Mapping[str, Any]
    best_single: Mapping[str, Any]
    speedup_over_best_single: float
    timings: Mapping[str, float]
    notes: tuple[str, ...]
    chosen: Plan

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "model": dict(self.model),
            "machine": dict(self.machine),
            "settings": dict(self.settings),
            "targets": [asdict(t) for t in self.targets],
            "mixed": [asdict(t) for t in self.mixed],
            "plan": dict(self.plan),
            "best_single": dict(self.best_single),
            "speedup_over_best_single": self.speedup_over_best_single,
            "timings": dict(self.timings),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class SessionContender:
    """The chosen plan as users run it: through ``Session.run``."""

    job: Job
    plan: Plan
    feeds: Feeds
    stages: StageTimes
    locked: bool

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        """Load a session for the time of a round.

        A plan of one stage is timed beside its own target: the same executable through its fastest
        native call. So what the session adds is seen, and not where the memory happened to lie.
        The stages of a longer one are timed when the round is over, which leaves it as it was.
        """
        with self.job.session([self.plan]) as session:
            run, feeds = session.run, self.feeds
            calls: dict[str, Callable[[], object]] = {PLAN: lambda: run(feeds)}
            if len(session.executables) == 1:
                ((stage, executable),) = session.executables
                request = executable.request()
                request.bind(feeds, preset_outputs(executable))
                calls[str(stage.target)] = waiting_call(request)
            yield calls
            if len(session.executables) > 1 and not self.stages.done:
                self.stages.take(session, feeds, locked=self.locked)


def bench(
    model: Source,
    *,
    hardware: str | PathLike[str] | Pool | None = None,
    devices: Sequence[str] | str = "auto",
    policy: str = "latency",
    precision: str = "fp32",
    max_relative_l2: float | None = None,
    sample_inputs: Samples = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    tuning_budget_s: float = 30.0,
    pins: Pins = (),
    strict: bool = False,
    limits: LimitsLike = None,
    time_s: float = 10.0,
    state: Mapping[str, str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    runtime: Runtime | None = None,
    progress: Progress = lambda text: None,
) -> BenchResult:
    """Tune ``model`` on its first sample's shapes, then time the plan and every fidel target anew.

    ``time_s`` are the seconds of that final timing, outside the tuning budget; the other arguments
    and the errors are those of ``dioe.compile``. Costs measured before are taken from the history
    in ``cache_dir``; the plan cache is not used.
    """
    check_seconds("time_s", time_s)
    settings = Settings(
        devices, policy, precision, max_relative_l2, tuning_budget_s, pins, strict, limits
    )
    job = Job(
        model, hardware=hardware, settings=settings, sample_inputs=sample_inputs, shapes=shapes,
        state=state, runtime=runtime, history=History(cache_folder(cache_dir)), progress=progress,
    )  # fmt: skip
    del job.groups[1:]
    group = job.groups[0]
    tuning = job.tunings()[0]
    bound = job.bound_model(group)
    if not tuning.reference:
        with job.watch.part("verify_s"):
            tuning.reference = reference_outputs(bound, group.feeds, job.runtime)
    found = None
    if not is_modelled(tuning.plan, modelled_devices(job.runtime.registry)):
        with job.watch.part("verify_s"), job.session([tuning.plan]) as session:
            found = _plan_error(session.run, group.feeds, tuning.reference)
    stages = StageTimes()
    with job.watch.part("bench_s"):
        timings, failures = _time_anew(job, tuning, bound, group.feeds[0], time_s, stages)
    reports = with_failures(tuning.reports, failures)
    targets = tuple(retimed(r, timings.get(r.target)) for r in reports)
    return _result(job, tuning, targets, timings, stages, found)


def _plan_error(
    run: Callable[..., dict[str, Any]],
    samples: Sequence[Feeds],
    reference: Sequence[Mapping[str, Any]],
) -> Comparison:
    worst = Comparison(0.0)
    for feeds, expected in zip(samples, reference, strict=True):
        worst = worst.worse(compare(run(feeds, list(expected)), expected))
    return worst


def _time_anew(
    job: Job, tuning: Tuning, bound: Model, feeds: Feeds, time_s: float, stages: StageTimes
) -> tuple[dict[str, Timing], dict[str, str]]:
    by_name = {str(c.target): c for c in tuning.candidates}
    contenders: dict[str, Any] = {
        r.target: TargetContender(by_name[r.target], bound, feeds, job.runtime, job.watch)
        for r in tuning.reports
        if r.state == "ok" and (len(tuning.plan.stages) > 1 or r.target not in tuning.plan.targets)
    }
    with measuring() as locked:
        contenders[PLAN] = SessionContender(job, tuning.plan, feeds, stages, locked)
        return time_surviving(
            contenders, budget_s=time_s, rounds=ROUNDS, drop_ratio=1.3, always=[PLAN],
            locked=locked, progress=lambda name: job.progress(f"final timing: {name}"),
        )  # fmt: skip


def _result(
    job: Job,
    tuning: Tuning,
    targets: tuple[TargetReport, ...],
    timings: Mapping[str, Timing],
    stages: StageTimes,
    found: Comparison | None,
) -> BenchResult:
    plan, timing = tuning.plan, timings[PLAN]
    best = best_single(targets)
    best_ms = best.p50_ms if best is not None and best.p50_ms is not None else timing.p50_ms
    ratio = timing.p50_ms / best_ms
    if best is not None and best.target in timings:
        ratio = paired_ratio(timing, timings[best.target])
    seconds = dict.fromkeys(("profile_s", "plan_s", "compile_s", "verify_s", "bench_s"), 0.0)
    for source in (tuning.seconds, job.watch.seconds):
        for name, value in source.items():
            seconds[name] = seconds.get(name, 0.0) + value
    return BenchResult(
        model={
            "path": str(job.model.path) if job.model.path else None,
            "sha256": job.model.sha256,
            "ops": len(job.model.placed_op_ids),
        },
        machine=machine(job.pool),
        settings={
            **job.settings.to_data(),
            "inputs": "given" if job.groups[0].real else "made up",
            "shapes": {name: list(shape) for name, shape in job.groups[0].shapes.items()},
            "versions": job.versions,
        },
        targets=targets,
        mixed=_mixed(plan, targets, timing),
        plan={
            **timing.summary(),
            **plan_report(plan, timing, stages),
            "relative_l2": found.error if found and found.error != float("inf") else None,
        },
        best_single={
            "target": best.target if best else None,
            "p50_ms": best_ms,
            "known_as": str(best.known_as if best else known_as(plan)),
        },
        speedup_over_best_single=1 / ratio,
        timings=seconds,
        notes=(*plan.notes, *(() if not timing.noisy else (NOISY,))),
        chosen=plan,
    )


def _mixed(plan: Plan, targets: Sequence[TargetReport], timing: Timing) -> tuple[TargetReport, ...]:
    """The plans that were tried besides single targets, the chosen one as it was timed at last."""
    singles, chosen = {report.target for report in targets}, chosen_name(plan)
    return tuple(
        retimed(report, timing if report.target == chosen else None)
        for report in plan.candidates
        if report.target not in singles
    )


NOISY = "other processes used more than 5 % of the cores in every round: times are noisy"
