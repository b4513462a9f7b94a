"""Learning how far classes of ops stay from their rooflines: from models that are measured whole,
and op by op, on the targets of this machine."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from dioe.graph import Kernel, Model, OpGraph, find_kernels
from dioe.hardware import Pool
from dioe.hardware.figures import OpFactor
from dioe.profiling import (
    MeasuredKernels,
    Roofline,
    in_context,
    learn,
    measuring,
    profile_executable,
)
from dioe.tuning.compile import Job
from dioe.tuning.targets import Candidate, error_cause
from dioe.tuning.trial import TargetContender, time_surviving
from dioe.types import DioeError, OpTime, Precisions, Target, UnsupportedError

log = logging.getLogger(__name__)

_PROFILE_SHARE = 0.3
"""Of the time for a target that goes into its per-op clock, the rest into timing the whole."""

_ROUNDS = 4


def measure_kernels(
    job: Job, candidates: Sequence[Candidate], *, seconds: float
) -> dict[Target, MeasuredKernels]:
    """What the kernels of a job's model take in each candidate, ``seconds`` for each: shares of the
    backend's per-op times, scaled to the whole. Candidates that fail are left out, with a
    warning."""
    group = job.groups[0]
    bound = job.bound_model(group)
    graph = OpGraph.build(bound)
    found = find_kernels(graph)
    whole = [c for c in candidates if not c.refusal]
    with measuring() as locked:
        profiled = ((c.target, _profiled(job, bound, c, seconds)) for c in whole)
        times = {target: ops for target, ops in profiled if ops is not None}
        contenders = {
            str(c.target): TargetContender(c, bound, group.feeds[0], job.runtime, job.watch)
            for c in whole
            if c.target in times
        }
        timings, failures = time_surviving(
            contenders, budget_s=(1 - _PROFILE_SHARE) * seconds * len(contenders), rounds=_ROUNDS,
            locked=locked,
        )  # fmt: skip
    for name, reason in failures.items():
        log.warning("%s is left out: %s", name, reason)
    return {
        target: kernel_times(graph, found, times[target], timings[str(target)].p50_ms)
        for target in times
        if str(target) in timings
    }


def kernel_times(
    graph: OpGraph, found: Sequence[Kernel], times: Sequence[OpTime], whole_ms: float
) -> MeasuredKernels:
    """A model's kernels with their shares of what the whole takes, by a backend's per-op times."""
    work = {op: float(info.flops or 0) for op, info in graph.ops.items()}
    groups = {kernel.main: kernel.ops for kernel in found}
    return MeasuredKernels(found, in_context(times, groups, whole_ms, work), whole_ms)


def _profiled(
    job: Job, bound: Model, candidate: Candidate, seconds: float
) -> Sequence[OpTime] | None:
    job.progress(str(candidate.target))
    try:
        with job.runtime.context(candidate.target, candidate.resources) as context:
            return profile_executable(
                context, bound, Precisions(candidate.target.precisions[0]),
                job.groups[0].feeds[0], seconds=_PROFILE_SHARE * seconds,
            )  # fmt: skip
    except (Exception, SystemExit) as error:
        if not isinstance(error, DioeError):
            log.info("target %s can't be profiled", candidate.target, exc_info=True)
        log.warning("%s is left out: %s", candidate.target, error_cause(error))
        return None


def learned_factors(
    pool: Pool, models: Iterable[Mapping[Target, MeasuredKernels]], source: Callable[[Target], str]
) -> dict[str, tuple[OpFactor, ...]]:
    """The factors that these models teach, by device id; ``source`` says where those of a target
    come from. Targets without rooflines teach nothing."""
    by_target: defaultdict[Target, list[MeasuredKernels]] = defaultdict(list)
    for model in models:
        for target, found in model.items():
            by_target[target].append(found)
    devices = {device.id: device for device in pool.devices}
    learned: dict[str, tuple[OpFactor, ...]] = {}
    for target, measured in by_target.items():
        device = devices.get(target.device)
        if device is None or len(target.precisions) > 1:
            continue
        try:
            roofline = Roofline(device, target.precisions[0], backend=target.backend)
        except UnsupportedError as error:
            log.info("nothing is learned on %s: %s", target, error.cause)
            continue
        factors = learn(roofline, measured, source=source(target))
        learned[device.id] = (*learned.get(device.id, ()), *factors)
    return learned


def with_factors(
    pool: Pool, models: Iterable[Mapping[Target, MeasuredKernels]], *, source: str
) -> Pool:
    """The pool with the factors that these models teach, and no others."""
    learned = learned_factors(pool, models, lambda target: source)
    return replace(
        pool,
        devices=tuple(
            replace(d, figures=d.figures.model_copy(update={"op_factors": learned.get(d.id, ())}))
            for d in pool.devices
        ),
    )
