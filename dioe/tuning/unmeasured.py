"""Costs of blocks that nobody has timed, where a plan has to be made all the same.

They are rooflines on the figures of the setting's device, where it has some, held against the
blocks of the same kind that were measured there; else by the block's work and bytes alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property

from dioe.graph import Block, Kernel, OpGraph, find_kernels
from dioe.planning import Cost
from dioe.profiling import Roofline
from dioe.tuning.beside import Setting
from dioe.types import Basis, UnsupportedError

log = logging.getLogger(__name__)

_MS_PER_FLOP = 1e3 / 20e9
_MS_PER_BYTE = 1e3 / 5e9
"""One core's."""


def default_ms(graph: OpGraph, block: Block) -> float:
    """By a block's work and its bytes, at the rates of no device in particular."""
    ops = [graph.ops[op] for op in block.ops]
    work_ms = sum(op.flops or 0 for op in ops) * _MS_PER_FLOP
    moved = sum((op.bytes_read or 0) + (op.bytes_written or 0) for op in ops)
    return work_ms + moved * _MS_PER_BYTE


class Unmeasured:
    """What blocks of one model take in settings in which they weren't timed."""

    def __init__(self, graph: OpGraph, blocks: Sequence[Block]) -> None:
        self._graph = graph
        self._blocks = {block.id: block for block in blocks}
        self._rooflines: dict[Setting, Mapping[str, float] | None] = {}

    @cached_property
    def _kernels(self) -> tuple[Kernel, ...]:
        return find_kernels(self._graph)

    def cost(self, setting: Setting, block: Block, measured: Mapping[str, Cost]) -> Cost:
        """What a block takes in a setting, of which the costs of some blocks (by id) are
        ``measured``: those of its kind say how far from their rooflines they are, or all of them
        where it is the only one of its kind."""
        found = self._roofline(setting)
        if found is None:
            return Cost(default_ms(self._graph, block), Basis.DEFAULT)
        known = [(self._blocks[name], cost.ms) for name, cost in measured.items()]
        alike = [(b, ms) for b, ms in known if b.kind == block.kind] or known
        predicted_ms = sum(found[b.id] for b, _ in alike)
        factor = sum(ms for _, ms in alike) / predicted_ms if predicted_ms > 0 else 1.0
        return Cost(found[block.id] * factor, Basis.PREDICTED)

    def _roofline(self, setting: Setting) -> Mapping[str, float] | None:
        """Rooflines of all blocks in a setting, in ms by id; None where its device has no
        figures."""
        if setting not in self._rooflines:
            self._rooflines[setting] = self._computed(setting)
        return self._rooflines[setting]

    def _computed(self, setting: Setting) -> Mapping[str, float] | None:
        if setting.device is None:
            return None
        target = setting.target
        try:
            roofline = Roofline(setting.device, target.precisions[0], backend=target.backend)
        except UnsupportedError as error:
            log.debug("no roofline of %s: %s", setting.name, error.cause)
            return None
        return roofline.block_ms(self._kernels, self._blocks.values())
