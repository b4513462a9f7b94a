"""Per-op times of a model on every target, by the backends' own counters."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dioe.graph import OpGraph
from dioe.profiling import measuring, profile_executable
from dioe.profiling import op_costs as booked_costs
from dioe.tuning.clock import check_seconds
from dioe.tuning.compile import Job
from dioe.tuning.targets import Candidate, error_cause
from dioe.types import DioeError, KnownAs, OpTime, Precisions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TargetProfile:
    """One target's executed ops, slowest first, or the reason why there are none.

    Their times are measured, or computed from a descriptor where the target is ``known_as``
    modelled.
    """

    target: str
    ops: tuple[OpTime, ...] = ()
    reason: str = ""
    known_as: KnownAs = KnownAs.HARDWARE

    @property
    def total_ms(self) -> float:
        """Sum of the ops' mean times. The counters cost time too: it isn't the latency."""
        return sum(op.mean_ms for op in self.ops)


def profile_targets(
    job: Job, candidates: Sequence[Candidate], *, seconds: float
) -> list[TargetProfile]:
    """Profile the job's first group of shapes on each candidate for ``seconds``.

    Never raises for what a backend does. Source ops are those that plans place: constants take no
    time, and a person looks for what reads them.
    """
    check_seconds("seconds", seconds)
    group = job.groups[0]
    bound = job.bound_model(group)
    placed = set(job.model.placed_op_ids)
    profiles = []
    with measuring():
        for candidate in candidates:
            target = str(candidate.target)
            if candidate.refusal:
                profiles.append(TargetProfile(target, reason=candidate.refusal))
                continue
            job.progress(target)
            precisions = Precisions(candidate.target.precisions[0])
            try:
                with job.runtime.context(candidate.target, candidate.resources) as context:
                    times = profile_executable(
                        context, bound, precisions, group.feeds[0], seconds=seconds
                    )
            except (Exception, SystemExit) as error:
                if not isinstance(error, DioeError):
                    log.info("target %s can't be profiled", target, exc_info=True)
                profiles.append(TargetProfile(target, reason=error_cause(error)))
                continue
            ops = tuple(replace(t, ops=tuple(o for o in t.ops if o in placed)) for t in times)
            profiles.append(TargetProfile(target, ops, known_as=candidate.known_as))
    return profiles


def op_costs(profiles: Sequence[TargetProfile], graph: OpGraph) -> dict[str, Mapping[str, float]]:
    """Milliseconds by target and source op, booked as ``dioe.profiling.op_costs`` does by FLOPs."""
    work = {op: float(info.flops or 0) for op, info in graph.ops.items()}
    costs = {profile.target: booked_costs(profile.ops, work) for profile in profiles}
    return {target: booked for target, booked in costs.items() if booked}
