"""Placing within limits on what a plan may use together: devices, and numbers of stages."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dioe.planning.allowed import Allowed
from dioe.planning.chain import place
from dioe.planning.problem import Problem
from dioe.planning.segments import Penalties
from dioe.planning.simulator import Placement
from dioe.types import UnsupportedError


def place_within(
    problem: Problem,
    *,
    allowed: Allowed,
    most: int = 8,
    penalty: Penalties | None = None,
) -> list[Placement]:
    """``place``, with no more than is ``allowed``.

    Best first, penalties included, none twice. Raises UnsupportedError as ``place`` does, if there
    is nothing on any set.
    """
    max_stages = allowed.max_stages
    if allowed.together is None:
        return place(problem, most=most, max_stages=max_stages, penalty=penalty)
    found: dict[Placement, float] = {}
    failure: UnsupportedError | None = None
    for devices in allowed.together:
        priced = {**(penalty or {}), **_kept_out(problem, devices)}
        try:
            placements = place(problem, most=most, max_stages=max_stages, penalty=priced)
        except UnsupportedError as error:
            failure = failure or error
            continue
        for placement in placements:
            found.setdefault(placement, _cost_ms(placement, priced))
    if not found:
        raise failure or UnsupportedError(
            "no device may be used", place="planning", fix="allow more power"
        )
    return sorted(found, key=found.__getitem__)


def _kept_out(problem: Problem, devices: frozenset[str]) -> Mapping[tuple[str, int], float]:
    """Penalties that leave only these devices."""
    return {
        (block.id, i): math.inf
        for i, costs in enumerate(problem.targets)
        if costs.target.device not in devices
        for block in problem.blocks
    }


def _cost_ms(placement: Placement, penalty: Penalties) -> float:
    priced = sum(penalty.get(key, 0.0) for key in placement.targets.items())
    return (placement.predicted_ms or 0.0) + priced
