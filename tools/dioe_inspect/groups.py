"""Which colour an op gets: by the plan, by the cheapest target, or by who supports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dioe_inspect.inspection import Inspection, OpFacts


@dataclass(frozen=True, slots=True)
class Grouping:
    """Ops grouped for the eye. ``group_of`` gives an index into ``labels``, or None for an op that
    belongs nowhere; ``basis`` says what the groups are. ``refused`` are the ops that stand in the
    way of a target which takes others: what refuses every op isn't the op's fault."""

    basis: str
    labels: tuple[str, ...]
    group_of: Mapping[str, int | None]
    refused: frozenset[str] = frozenset()
    supporters: tuple[frozenset[str], ...] = ()  # by group, where groups are sets of targets

    def of(self, ops: Iterable[str]) -> int | None:
        """The group of ops together: the one they share, or that of the targets that support them
        all; None where there is none."""
        found = {self.group_of[op] for op in ops}
        if len(found) == 1:
            return found.pop()
        groups = [group for group in found if group is not None]
        if not self.supporters or len(groups) < len(found):
            return None
        able = frozenset.intersection(*(self.supporters[group] for group in groups))
        return self.supporters.index(able) if able in self.supporters else None


def letters(index: int) -> str:
    """A short name for a group beside its colour: A … Z, then AA, AB …"""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def group_ops(inspection: Inspection) -> Grouping:
    """Group by the plan's stages and targets where there is a plan, else by the target that is
    cheapest for an op's block where costs are known, else by the targets that support it. Larger
    groups first."""
    targets = [target.target for target in inspection.targets if target.supported_ops]
    refused = frozenset(op.id for op in inspection.ops if not op.refused.keys().isdisjoint(targets))
    if inspection.plan is not None:
        if len(inspection.plan.stages) == 1:
            placed = {op.id: op.placed_on for op in inspection.ops}
            return _grouping("target by the plan", placed, refused)
        staged = {op.id: op.stage and f"{op.stage} on {op.placed_on}" for op in inspection.ops}
        return _grouping("stage and target by the plan", staged, refused)
    if any(op.costs_ms for op in inspection.ops):
        return _grouping(
            "cheapest target of a block, by measured times", _cheapest(inspection), refused
        )
    able = {op.id: tuple(t for t in targets if t not in op.refused) for op in inspection.ops}
    names = {ids: _supporters(ids, len(targets)) for ids in able.values()}
    grouping = _grouping("supported by", {op: names[ids] for op, ids in able.items()}, refused)
    sets = {name: frozenset(ids) for ids, name in names.items() if name is not None}
    return replace(grouping, supporters=tuple(sets[label] for label in grouping.labels))


def _grouping(basis: str, name_of: Mapping[str, str | None], refused: frozenset[str]) -> Grouping:
    sizes = Counter(name for name in name_of.values() if name is not None)
    labels = tuple(name for name, _ in sizes.most_common())
    index = {name: i for i, name in enumerate(labels)}
    groups = {op: None if name is None else index[name] for op, name in name_of.items()}
    return Grouping(basis, labels, groups, refused)


def _cheapest(inspection: Inspection) -> dict[str, str | None]:
    """For each op the target that takes its whole block in the least time. Times of single ops say
    less: what one backend fuses into a neighbour has none of its own."""
    blocks: dict[str, list[OpFacts]] = {}
    for op in inspection.ops:
        blocks.setdefault(op.block, []).append(op)
    cheapest: dict[str, str | None] = {}
    for ops in blocks.values():
        able = {
            target: sum(op.costs_ms.get(target, 0.0) for op in ops)
            for target in {target: None for op in ops for target in op.costs_ms}
            if not any(target in op.refused for op in ops)
        }
        best = min(able, key=lambda target: able[target]) if able else None
        cheapest |= dict.fromkeys((op.id for op in ops), best)
    return cheapest


def _supporters(able: Sequence[str], targets: int) -> str | None:
    if not able:
        return None
    if len(able) < targets:
        return f"only {', '.join(able)}"
    return f"all of {', '.join(able)}" if len(able) > 1 else able[0]
