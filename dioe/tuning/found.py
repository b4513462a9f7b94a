"""What a search for mixed plans found, how the history keeps it, and what its plans are called."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dioe.planning import on_threads, plan_from_json
from dioe.tuning.known import Ratio
from dioe.tuning.targets import is_lowered
from dioe.types import Basis, BlockReport, KnownAs, Plan, Stage, TargetReport, Tradeoff


@dataclass(frozen=True, slots=True)
class Mixed:
    """A plan of several stages or precisions, with the report on it, and with how it compared with
    the targets that were timed in the same rounds."""

    plan: Plan
    report: TargetReport
    ratio: Ratio | None = None


@dataclass(frozen=True, slots=True)
class Lowering:
    """Blocks that compute in less precision than the model is written in, those of one plan or
    those that may: so many ``of`` all on a target, and which ones ``stay`` as written, in words.

    ``error`` is with all of them lowered at once; the times are predicted. ``why_not`` tells, in a
    sentence, why there are none.
    """

    target: str
    blocks: int = 0
    of: int = 0
    stay: tuple[str, ...] = ()
    error: float | None = None
    predicted_ms: float | None = None
    written_ms: float | None = None
    why_not: str = ""


def lowering_of(plan: Plan, error: float | None, *, quantised: bool) -> Lowering | None:
    """The blocks of a plan in less precision than its model, ``quantised`` or not, is written in;
    None if there are none."""
    stages = {stage.name: stage for stage in plan.stages}
    lowered, stay = [], []
    for block in plan.blocks:
        stage = stages[block.stage]
        target = replace(stage.target, precisions=(stage.precisions.of(block.ops[0]),))
        if is_lowered(target, quantised=quantised):
            lowered.append(str(target))
        else:
            stay.append(block_name(block.block, block.ops))
    if not lowered:
        return None
    return Lowering(lowered[0], len(lowered), len(plan.blocks), tuple(stay), error)


@dataclass(frozen=True, slots=True)
class Tried:
    """The first report on a plan, what was predicted of it and what it had to beat.

    ``lowering`` is None for a plan of no less precision than the model is written in.
    """

    report: TargetReport
    stages: int = 1
    predicted_ms: float | None = None
    best_ms: float | None = None
    lowering: Lowering | None = None


@dataclass(slots=True)
class Found:
    """What a search found: plans that may win, and what the cost table says of single targets."""

    plans: list[Mixed] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    lowerings: tuple[Lowering, ...] = ()
    """For each target that errs too much as a whole, the blocks that may be lowered there."""
    tradeoffs: tuple[Tradeoff, ...] = ()
    blocks: dict[str, tuple[BlockReport, ...]] = field(default_factory=dict)
    """Reports by block for plans of one stage on a target, by the target's name."""
    known: bool = False
    """Whether it was found before, and is from the history."""
    cut_at_s: float | None = None
    """The tuning budget that ended the search; None where it ended by itself."""
    noisy: bool = False
    """Whether what it rests on was measured while other processes used the cores."""
    unplaced: str = ""
    """Why there is no plan of several parts at all, where one was needed."""

    @property
    def reports(self) -> list[TargetReport]:
        """The reports on all plans that were tried."""
        return [each.report for each in self.tried]

    def retell(self, reports: Sequence[TargetReport]) -> None:
        """Replace the reports on what was tried, in their order."""
        self.tried = [replace(t, report=r) for t, r in zip(self.tried, reports, strict=True)]


def found_to_json(found: Found) -> dict[str, Any]:
    """As JSON values, for the history."""
    return {
        "plans": [
            {
                "plan": m.plan.to_json(),
                "report": asdict(m.report),
                "ratio": None if m.ratio is None else asdict(m.ratio),
            }
            for m in found.plans
        ],
        "tried": [asdict(each) for each in found.tried],
        "lowerings": [asdict(each) for each in found.lowerings],
        "tradeoffs": [asdict(each) for each in found.tradeoffs],
        "cut_at_s": found.cut_at_s,
        "unplaced": found.unplaced,
        "blocks": {name: [asdict(b) for b in blocks] for name, blocks in found.blocks.items()},
    }


def found_from_json(kept: Mapping[str, Any]) -> Found:
    """What ``found_to_json`` wrote."""
    return Found(
        plans=[
            Mixed(
                plan_from_json(m["plan"], place="history"),
                _report(m["report"]),
                None if m["ratio"] is None else Ratio(**m["ratio"]),
            )
            for m in kept["plans"]
        ],
        tried=[
            Tried(
                **{
                    **each,
                    "report": _report(each["report"]),
                    "lowering": None if each["lowering"] is None else _lowering(each["lowering"]),
                }
            )
            for each in kept["tried"]
        ],
        lowerings=tuple(_lowering(each) for each in kept["lowerings"]),
        tradeoffs=tuple(
            Tradeoff(**{**each, "basis": Basis(each["basis"])}) for each in kept["tradeoffs"]
        ),
        cut_at_s=kept.get("cut_at_s"),
        unplaced=kept.get("unplaced", ""),
        blocks={
            name: tuple(
                BlockReport(**{**b, "ops": tuple(b["ops"]), "basis": Basis(b["basis"])})
                for b in blocks
            )
            for name, blocks in kept["blocks"].items()
        },
    )


def _report(kept: Mapping[str, Any]) -> TargetReport:
    return TargetReport(**{**kept, "known_as": KnownAs(kept.get("known_as", KnownAs.HARDWARE))})


def _lowering(kept: Mapping[str, Any]) -> Lowering:
    return Lowering(**{**kept, "stay": tuple(kept["stay"])})


# --- blocks --------------------------------------------------------------------------------------


def shared_out(
    blocks: Sequence[BlockReport], stages: Sequence[Stage], runs: int
) -> tuple[BlockReport, ...]:
    """The reports, with what stages took shared out among their blocks where no block of a stage
    was measured by itself: those that only one target takes."""
    total_ms: dict[str, float] = {}
    for block in blocks:
        own_ms = block.cost_ms if block.basis is Basis.DEFAULT else None
        before_ms = total_ms.get(block.stage, 0.0)
        total_ms[block.stage] = before_ms + (math.nan if own_ms is None else own_ms)
    took_ms = {s.name: s.predicted_ms or 0.0 for s in stages if total_ms.get(s.name, 0.0) > 0}
    return tuple(
        replace(
            block, cost_ms=took_ms[block.stage] * block.cost_ms / total_ms[block.stage],
            basis=Basis.CORRECTED, runs=runs,
        )
        if block.stage in took_ms and block.cost_ms is not None
        else block
        for block in blocks
    )  # fmt: skip


# --- names ------------------------------------------------------------------------------------


def told_apart(tried: Sequence[Mixed], kept: Sequence[Mixed]) -> list[TargetReport]:
    """The reports on what was tried; of plans that share a name, those that aren't kept say how
    many ops they give to what."""
    count = Counter(each.report.target for each in tried)
    reports = []
    for each in tried:
        report, (first, *others) = each.report, each.plan.stages
        if count[report.target] > 1 and all(report is not m.report for m in kept):
            sizes = [str(len(stage.ops)) for stage in (first, *others)]
            lowered = len(first.ops) - len(first.precisions.exceptions)
            how = f"{'+'.join(sizes)} ops" if others else f"{lowered} of {sizes[0]} ops lowered"
            report = replace(report, target=f"{report.target} ({how})")
        reports.append(report)
    return reports


def plan_name(plan: Plan) -> str:
    """A plan's targets in the order of its stages, with their threads where one isn't enough to
    tell it from a single target."""
    names = [str(stage.target) for stage in plan.stages]
    threads = plan.stages[0].resources.threads
    if len(names) == 1 and len(plan.stages[0].target.precisions) == 1 and threads is not None:
        return on_threads(names[0], threads)
    return " -> ".join(names)


def breaking_names(plan: Plan) -> tuple[str, ...]:
    """What is to be passed over if the plan fails: a single target, else only the plan itself."""
    single = len(plan.stages) == 1 and len(plan.stages[0].target.precisions) == 1
    return plan.targets if single else (plan_name(plan),)


def block_name(block: str, ops: Sequence[str]) -> str:
    """A block's id, and its first op, which says more."""
    return f"{block} ({ops[0]})"


def listed(names: Sequence[str], most: int = 2) -> str:
    """The first blocks of several, in words, and how many more there are."""
    left = len(names) - most
    more = f" and {left} more block{'' if left == 1 else 's'}" if left > 0 else ""
    return " and ".join(names[:most]) + more
