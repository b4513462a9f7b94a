"""Candidates whose device may not use enough memory for the whole model, told before a try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dioe.graph import Model, OpGraph
from dioe.planning import over_memory
from dioe.tuning.targets import Candidate
from dioe.tuning.trial import OUT_OF_MEMORY
from dioe.types import Precisions, Stage


def judged_by_memory(candidates: Sequence[Candidate], model: Model) -> list[Candidate]:
    """The candidates, ``roomless`` where the whole model (shapes bound) needs more memory than
    their resources allow: parts of it may fit."""
    if all(c.resources.memory_limit_bytes is None for c in candidates):
        return list(candidates)
    graph = OpGraph.build(model)
    found = []
    for candidate in candidates:
        precisions = Precisions(candidate.target.precisions[0])
        whole = Stage(
            "s0", candidate.target, model.placed_op_ids, (), (), precisions, candidate.resources
        )
        over = over_memory(graph, [whole])
        found.append(replace(candidate, roomless=OUT_OF_MEMORY + over) if over else candidate)
    return found
