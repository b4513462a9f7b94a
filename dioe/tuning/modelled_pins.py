"""Pins on devices that aren't here: blocks with a pinned op run on its target only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dioe.hardware import Pool
from dioe.planning import TargetCosts
from dioe.runtime import near
from dioe.tuning.modelled_work import ANY_BACKEND, ModelPart, Work
from dioe.tuning.pins import Pin, Pins, parse_pins
from dioe.tuning.targets import matches
from dioe.types import InputError, Target, UnsupportedError


@dataclass(frozen=True)
class PinnedBlocks:
    """The pin of each block that has one, by block id."""

    pins: Mapping[str, Pin]

    @classmethod
    def of(cls, work: Work, pool: Pool, given: Pins) -> PinnedBlocks:
        """Pins as they hold for ``work``: those given, then those of the pool; the first that
        matches an op of a block counts. Raises InputError for a pin of no op."""
        pins = (*parse_pins(given), *parse_pins(dict(pool.pins)))
        found: dict[str, Pin] = {}
        used: set[Pin] = set()
        for part in work.models:
            for block, node in zip(part.blocks, part.nodes, strict=True):
                taken = [pin for pin in pins if _takes(pin, part, block.ops)]
                used.update(taken)
                if taken:
                    found[node.id] = taken[0]
        for pin in pins:
            if pin not in used:
                names = [op for part in work.models for op in part.graph.ops]
                raise InputError(f"pin {pin} matches no op", fix=near(pin.pattern, names[:20]))
        return cls(found)

    def keep(
        self, targets: Sequence[TargetCosts], *, strict: bool = False
    ) -> tuple[list[TargetCosts], list[str]]:
        """The targets without the blocks that are pinned elsewhere, and what to say: a pin that no
        target can keep is left out, or with ``strict`` an UnsupportedError."""
        notes = []
        kept = {}
        for pin in dict.fromkeys(self.pins.values()):
            able = [t for t in targets if _is_on(t.target, pin.target)]
            blocks = {block for block, its in self.pins.items() if its == pin}
            lost = blocks - {block for t in able for block in t.blocks}
            if lost and strict:
                raise UnsupportedError(
                    f"pin {pin} can't be kept: no such target of the pool can be used",
                    fix="take another target, or leave --strict out",
                )
            if lost:
                notes.append(f"pin {pin} isn't kept: no such target of the pool can be used")
            else:
                notes.append(f"pinned: {pin}")
                kept.update(dict.fromkeys(blocks, pin))
        found = []
        for costs in targets:
            blocks_here = {
                block: cost
                for block, cost in costs.blocks.items()
                if block not in kept or _is_on(costs.target, kept[block].target)
            }
            found.append(replace(costs, blocks=blocks_here))
        return [costs for costs in found if costs.blocks], notes


def _is_on(target: Target, pinned: str) -> bool:
    """Whether a target is the one that a pin means. Figures of a device alone stand for any backend
    there."""
    device, backend, precision = (*pinned.split("/", 2), "", "")[:3]
    if target.backend == ANY_BACKEND and backend:
        return target.device == device and precision in ("", *target.precisions)
    return matches(str(target), pinned)


def _takes(pin: Pin, part: ModelPart, ops: Sequence[str]) -> bool:
    """Whether a pin is of one of a model's ops; of a pipeline's it begins with the node's name, or
    is that alone."""
    pattern = pin.pattern
    if part.name:
        node, dot, pattern = pattern.partition(".")
        if node != part.name:
            return False
        if not dot:
            return True
    own = Pin(pattern, pin.target)
    return any(own.takes(op, part.graph.ops[op].op_type) for op in ops)
