"""Which colour an op gets: by the plan, by the cheapest target, or by who supports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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

    def of(self, ops: Iterable[str]) -> int | None:
        """The group that all the ops share, None if they differ."""
        found = {self.group_of[op] for op in ops}
        return found.pop() if len(found) == 1 else None


def letters(index: int) -> str:
    """A short name for a group beside its colour: A … Z, then AA, AB …"""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def group_ops(inspection: Inspection) -> Grouping:
    """Group by the plan's targets where there is a plan, else by the cheapest target where costs
    are known, else by the set of targets that support an op. Larger groups come first."""
    targets = [target.target for target in inspection.targets if target.supported_ops]
    refused = frozenset(op.id for op in inspection.ops if not op.refused.keys().isdisjoint(targets))
    if inspection.plan is not None:
        basis, name_of = "target by the plan", {op.id: op.placed_on for op in inspection.ops}
    elif any(op.costs_ms for op in inspection.ops):
        basis = "cheapest target by measured time"
        name_of = {op.id: _cheapest(op) for op in inspection.ops}
    else:
        basis = "supported by"
        name_of = {op.id: _supporters(op, targets) for op in inspection.ops}
    sizes = Counter(name for name in name_of.values() if name is not None)
    labels = tuple(name for name, _ in sizes.most_common())
    index = {name: i for i, name in enumerate(labels)}
    groups = {op: None if name is None else index[name] for op, name in name_of.items()}
    return Grouping(basis, labels, groups, refused)


def _cheapest(op: OpFacts) -> str | None:
    times = {target: ms for target, ms in op.costs_ms.items() if target not in op.refused}
    return min(times, key=lambda target: times[target]) if times else None


def _supporters(op: OpFacts, targets: Sequence[str]) -> str | None:
    able = [target for target in targets if target not in op.refused]
    if not able:
        return None
    if len(able) < len(targets):
        return f"only {', '.join(able)}"
    return f"all of {', '.join(able)}" if len(able) > 1 else able[0]
