"""Costs of blocks that nobody has timed, where a plan has to be made all the same."""

from __future__ import annotations

from dioe.graph import Block, OpGraph
from dioe.planning import Cost
from dioe.types import Basis

_MS_PER_FLOP = 1e3 / 20e9
_MS_PER_BYTE = 1e3 / 5e9
"""One core's."""


def default_cost(graph: OpGraph, block: Block) -> Cost:
    """By the block's work and its bytes."""
    ops = [graph.ops[op] for op in block.ops]
    work_ms = sum(op.flops or 0 for op in ops) * _MS_PER_FLOP
    moved = sum((op.bytes_read or 0) + (op.bytes_written or 0) for op in ops)
    return Cost(work_ms + moved * _MS_PER_BYTE, Basis.DEFAULT)
