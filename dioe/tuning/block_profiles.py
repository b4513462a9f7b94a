"""What each distinct block of a model takes on every target that takes it, in context and alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dioe.graph import Block
from dioe.profiling import BlockKey, BlockTiming, distinct_blocks, measuring
from dioe.profiling.blocks import Progress
from dioe.tuning.beside import Setting, settings_beside
from dioe.tuning.clock import Budget, Stopwatch, check_seconds
from dioe.tuning.compile import Job
from dioe.tuning.parts import Parts
from dioe.tuning.targets import Candidate
from dioe.tuning.trial import reference_context
from dioe.types import Basis, KnownAs

_WHOLES_SHARE = 0.3
"""Of the budget, for whole models: what blocks cost in context."""


@dataclass(frozen=True, slots=True)
class BlockCost:
    """What a block takes on one target with so many ``threads`` (None: the backend's own), in ms.

    ``context_ms`` is its share of the time of the whole model, a mean over its repetitions, from
    ``context_runs`` runs; None where the whole wasn't measured on that target. ``alone`` is the
    block as a model of its own; None where that fails, for a ``reason``, or wasn't reached. Both
    are computed from a descriptor where the target is ``known_as`` modelled.
    """

    target: str
    threads: int | None
    context_ms: float | None
    context_runs: int
    alone: BlockTiming | None
    reason: str = ""
    known_as: KnownAs = KnownAs.HARDWARE

    @property
    def cost_ms(self) -> float | None:
        """In context where that is known, else alone."""
        if self.context_ms is not None:
            return self.context_ms
        return None if self.alone is None else self.alone.p50_ms


@dataclass(frozen=True, slots=True)
class BlockProfile:
    """Blocks of one structure: their ids, the op types and ops of the first, costs by target."""

    structure_hash: str
    kind: str
    blocks: tuple[str, ...]
    op_types: tuple[str, ...]
    ops: tuple[str, ...]
    costs: tuple[BlockCost, ...]

    @property
    def times(self) -> int:
        """How often the block occurs."""
        return len(self.blocks)

    @property
    def best(self) -> BlockCost | None:
        """Where it costs least, None where nothing is known. Alone decides between equals: in
        context a block costs nothing where it is fused into its neighbour."""
        known = [cost for cost in self.costs if cost.cost_ms is not None]
        return min(known, key=_order, default=None)


def _order(cost: BlockCost) -> tuple[float, float]:
    own = math.inf if cost.cost_ms is None else cost.cost_ms
    return own, math.inf if cost.alone is None else cost.alone.p50_ms


@dataclass(frozen=True, slots=True)
class BlockProfiles:
    """All distinct blocks, those of the most work first; ``not_reached`` counts the timings alone
    that the budget didn't allow."""

    blocks: tuple[BlockProfile, ...]
    not_reached: int


def block_profiles(
    job: Job,
    candidates: Sequence[Candidate],
    *,
    seconds: float,
    progress: Progress = lambda text, done, total: None,
) -> BlockProfiles:
    """Measure the blocks of the job's first group of shapes on each candidate, within ``seconds``.

    Targets are measured as they run beside others: their idle threads don't spin. What the job's
    history knows isn't measured again, and what is measured is in there at once. Never raises for
    what a backend does.
    """
    check_seconds("seconds", seconds)
    group = job.groups[0]
    settings = settings_beside(candidates, job.pool)
    with measuring() as locked:
        budget = Budget(seconds)
        parts = Parts(
            job.bound_model(group), group.feeds[0], job.runtime, job.known(group), Stopwatch(),
            lambda text: progress(text, 0, 0),
        )  # fmt: skip
        parts.measure_wholes(settings, Budget(_WHOLES_SHARE * seconds), locked=locked)
        progress("inputs of the blocks", 0, 0)
        with reference_context(job.runtime) as reference:
            alone = parts.measure_alone(
                settings, budget, reference, locked=locked, progress=progress
            )
    return _collected(parts, settings, alone)


def _collected(
    parts: Parts, settings: Sequence[Setting], alone: Mapping[BlockKey, BlockTiming | str]
) -> BlockProfiles:
    in_context = _in_context(parts)
    work = {op: info.flops or 0 for op, info in parts.graph.ops.items()}
    profiles = []
    distinct = distinct_blocks(parts.blocks)
    for each in distinct:
        members = [parts.blocks[i] for i in each.members]
        costs = tuple(
            _cost(setting, members, in_context, alone.get((each.structure_hash, setting.name)))
            for setting in settings
        )
        first = members[0]
        profiles.append(
            BlockProfile(
                each.structure_hash, first.kind, tuple(block.id for block in members),
                tuple(parts.graph.ops[op].op_type for op in first.ops), first.ops, costs,
            )
        )  # fmt: skip

    def dearest(profile: BlockProfile) -> tuple[float, float]:
        best = profile.best
        cost_ms = 0.0 if best is None else best.cost_ms or 0.0
        return -profile.times * cost_ms, -profile.times * sum(work[op] for op in profile.ops)

    missing = len(distinct) * len(settings) - len(alone)
    return BlockProfiles(tuple(sorted(profiles, key=dearest)), missing)


def _in_context(parts: Parts) -> dict[tuple[str, str], tuple[float, int]]:
    """Milliseconds inside the whole model, and the runs they rest on, by block and setting."""
    settings = parts.settings
    if not settings:
        return {}
    problem = parts.problem(settings)
    return {
        (block, setting.name): (cost.ms, cost.runs)
        for setting, costs in zip(settings, problem.targets, strict=True)
        for block, cost in costs.blocks.items()
        if cost.basis is Basis.CORRECTED
    }


def _cost(
    setting: Setting,
    members: Sequence[Block],
    in_context: Mapping[tuple[str, str], tuple[float, int]],
    alone: BlockTiming | str | None,
) -> BlockCost:
    keys = [(block.id, setting.name) for block in members]
    inside = [in_context[key] for key in keys if key in in_context]
    return BlockCost(
        target=str(setting.target),
        threads=setting.resources.threads,
        context_ms=float(np.mean([ms for ms, _ in inside])) if inside else None,
        context_runs=max((runs for _, runs in inside), default=0),
        alone=alone if isinstance(alone, BlockTiming) else None,
        reason=alone if isinstance(alone, str) else "",
        known_as=setting.candidate.known_as,
    )
