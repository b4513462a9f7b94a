"""What a stage costs beyond its blocks, learnt from stages that were timed inside plans.

A stage of target t that follows a stage of another target p takes

    scale_t * context + dispatch_t + entry_t * bytes_in + exit_t * bytes_out + handover_(p, t)

where ``context`` is what its blocks cost inside the whole model. All coefficients are at least 0
(scale: within ``SCALE_LIMITS``). They minimise Huber's loss of the errors, which count by the
stage's time, plus the squared distance from a prior in its own deviations (a ridge, or MAP,
estimate): two observations move it a little, many override it. Huber's loss by iteratively
reweighted least squares (P. J. Huber, "Robust Statistics", 1981, ch. 7); bounds by projected Newton
steps (D. P. Bertsekas, "Projected Newton methods for optimization problems with simple
constraints", 1982). Pure; milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from dioe.types import InputError

_Matrix: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

SCALE_LIMITS = (0.7, 1.6)

_NOISE = 0.1
"""Error of a stage, of what it takes and the typical stage of its target takes together: what the
costs can't express (OpenVINO's way out of a layout depends on the shape) more than noise. This and
the deviations below predicted plans of 2 to 4 stages best that had not been among the 1 to 7 plans
fitted, of five models on OpenVINO and ONNX Runtime: mean error 5 %, where narrower noise and wider
deviations gave up to 9 %."""
_HUBER = 1.345  # 95 % efficient for normal errors (Huber 1981)
_ROUNDS = 60
_TOLERANCE = 1e-7
_STEPS = tuple(2.0**-i for i in range(20))


@dataclass(frozen=True, slots=True)
class StageCosts:
    """What stages of one target cost: times their blocks, for each run, and for each byte."""

    scale: float
    dispatch_ms: float
    entry_ms_per_byte: float
    exit_ms_per_byte: float


DEFAULT_COSTS = StageCosts(
    scale=1.0,
    # OpenVINO 10 µs with preset tensors, ONNX Runtime 3 to 5 (docs: measured facts)
    dispatch_ms=0.01,
    # a change of layout reads and writes at 20 GB/s; on the way out, OpenVINO 2026.4.1 takes from
    # 1.5 ms for 10 MB to 12 ms for 13 MB, on two cores of an AMD EPYC
    entry_ms_per_byte=1e-7,
    exit_ms_per_byte=3e-7,
)
"""The prior of a target nothing is known about."""

DEFAULT_HANDOVER_MS = 0.02
"""The prior of a change of target: caches and threads of another runtime."""

_DEVIATIONS = np.array([0.07, 0.03, 1.5e-7, 3e-7])  # of the prior, in the coefficients' units
_HANDOVER_DEVIATION_MS = 0.05


@dataclass(frozen=True, slots=True)
class StageObservation:
    """One stage timed inside a plan of several.

    ``context_ms`` is the sum of what its blocks cost inside the whole model; ``blocks`` has them
    one by one, and may be left empty where no corrections of blocks are wanted. ``previous`` is the
    target of the stage that ran just before it, None for a plan's first.
    """

    target: str
    context_ms: float
    values_in: int
    bytes_in: int
    values_out: int
    bytes_out: int
    previous: str | None
    measured_ms: float
    blocks: Mapping[str, float] = field(default_factory=dict)

    @property
    def change(self) -> tuple[str, str] | None:
        """The pair of targets if the one before was another."""
        if self.previous is None or self.previous == self.target:
            return None
        return self.previous, self.target


@dataclass(frozen=True, slots=True)
class StageFit:
    """Costs by target and of changes of target; of one not seen, the default."""

    costs: Mapping[str, StageCosts] = field(default_factory=dict)
    handover: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def costs_of(self, target: str) -> StageCosts:
        """The costs of a target."""
        return self.costs.get(target, DEFAULT_COSTS)

    def handover_ms(self, previous: str | None, target: str) -> float:
        """What a change of target costs: nothing for the first stage and where there is none."""
        if previous is None or previous == target:
            return 0.0
        return self.handover.get((previous, target), DEFAULT_HANDOVER_MS)

    def overhead_ms(self, stage: StageObservation) -> float:
        """What a stage costs beyond its blocks; its measured time isn't looked at."""
        costs = self.costs_of(stage.target)
        return (
            costs.dispatch_ms
            + costs.entry_ms_per_byte * stage.bytes_in
            + costs.exit_ms_per_byte * stage.bytes_out
            + self.handover_ms(stage.previous, stage.target)
        )

    def predict_ms(self, stage: StageObservation) -> float:
        """What a stage takes; its measured time isn't looked at."""
        return self.costs_of(stage.target).scale * stage.context_ms + self.overhead_ms(stage)


def fit(observations: Sequence[StageObservation], prior: StageFit | None = None) -> StageFit:
    """The costs that explain the observations best, given what was thought before.

    ``prior`` should not rest on the same observations. Targets and changes that were not observed
    keep it. The order of the observations doesn't matter. Raises InputError for a time that is no
    positive number, or negative sizes.
    """
    before = prior or StageFit()
    costs, handover = dict(before.costs), dict(before.handover)
    by_target: dict[str, list[StageObservation]] = {}
    for observation in observations:
        _check(observation)
        by_target.setdefault(observation.target, []).append(observation)
    for target, seen in by_target.items():
        changes = sorted({seen_.change for seen_ in seen if seen_.change is not None})
        start, deviations = _prior(before, target, changes)
        found = _robust(_design(seen, changes), _measured(seen), start, deviations)
        costs[target] = StageCosts(*map(float, found[:4]))
        handover.update(zip(changes, map(float, found[4:]), strict=True))
    return StageFit(costs, handover)


def _check(stage: StageObservation) -> None:
    sizes = (stage.context_ms, stage.bytes_in, stage.bytes_out)
    if not (0 < stage.measured_ms < math.inf and all(0 <= size < math.inf for size in sizes)):
        raise InputError(f"a stage can't have taken this: {stage}")


def _prior(
    before: StageFit, target: str, changes: Sequence[tuple[str, str]]
) -> tuple[_Matrix, _Matrix]:
    """Expected coefficients of one target and their deviations: costs, then changes."""
    known = before.costs_of(target)
    costs = [known.scale, known.dispatch_ms, known.entry_ms_per_byte, known.exit_ms_per_byte]
    pairs = [before.handover_ms(*change) for change in changes]
    # What is known to be large is known less exactly.
    deviations = np.maximum(_DEVIATIONS, 0.5 * np.array([0.0, *costs[1:]]))
    of_pairs = np.maximum(_HANDOVER_DEVIATION_MS, 0.5 * np.array(pairs))
    return np.array([*costs, *pairs]), np.concatenate([deviations, of_pairs])


def _design(seen: Sequence[StageObservation], changes: Sequence[tuple[str, str]]) -> _Matrix:
    rows = [
        [s.context_ms, 1.0, s.bytes_in, s.bytes_out, *(float(s.change == c) for c in changes)]
        for s in seen
    ]
    return np.array(rows, dtype=np.float64)


def _measured(seen: Sequence[StageObservation]) -> _Matrix:
    return np.array([s.measured_ms for s in seen], dtype=np.float64)


def _robust(design: _Matrix, measured: _Matrix, start: _Matrix, deviations: _Matrix) -> _Matrix:
    """Coefficients of least Huber loss plus ridge, in their bounds."""
    # Rows in units of their noise, columns in those of the prior: all of the order of 1.
    noise = _NOISE * (measured + np.median(measured))
    rows = design * deviations / noise[:, None]
    wanted = measured / noise
    origin = start / deviations
    low, high = np.zeros_like(start), np.full_like(start, np.inf)
    low[0], high[0] = (limit / deviations[0] for limit in SCALE_LIMITS)
    found: _Matrix = np.clip(origin, low, high)
    identity = np.eye(len(start))
    for _ in range(_ROUNDS):
        error = np.abs(wanted - rows @ found)
        weights = _HUBER / np.maximum(error, _HUBER)
        weighted = rows * weights[:, None]
        better = _box_minimum(
            weighted.T @ rows + identity, weighted.T @ wanted + origin, found, low, high
        )
        moved = float(np.abs(better - found).max())
        found = better
        if moved < _TOLERANCE * (1 + float(np.abs(found).max())):
            break
    return found * deviations


def _box_minimum(
    hessian: _Matrix, gradient_at_0: _Matrix, start: _Matrix, low: _Matrix, high: _Matrix
) -> _Matrix:
    """Where x'Hx/2 - g'x is least within bounds, H positive definite."""

    def value(x: _Matrix) -> float:
        return float(x @ hessian @ x / 2 - gradient_at_0 @ x)

    x = start
    for _ in range(50):
        slope = hessian @ x - gradient_at_0
        held = ((x <= low) & (slope > 0)) | ((x >= high) & (slope < 0))
        free = np.flatnonzero(~held)
        if not free.size:
            break
        step = np.zeros_like(x)
        step[free] = -np.linalg.solve(hessian[np.ix_(free, free)], slope[free])
        now, tried = value(x), x
        for length in _STEPS:
            tried = np.clip(x + length * step, low, high)
            if value(tried) <= now:
                break
        if float(np.abs(tried - x).max()) <= 1e-12 * (1 + float(np.abs(x).max())):
            break
        x = tried
    return x


# --- blocks -----------------------------------------------------------------------------------

_LEAST_SHARE = 1e-9  # of a stage: less is none
_LEAST_MS = 1e-9
_MOST_OVERHEAD = 1e6  # times what the blocks take: nothing is learnt of them any more


def block_corrections(
    observations: Sequence[StageObservation],
    fitted: StageFit,
    *,
    share: float = 0.5,
    limit: float = 2.0,
) -> dict[tuple[str, str], float]:
    """Factors of the blocks' costs, by target and block, that the stages' residuals speak for.

    A stage that takes r times what ``fitted`` says, dispatch and bytes taken off, has each of its
    blocks corrected by r to the power of ``share``: the rest may be noise. Where stages overlap,
    the blocks that they share or don't are told apart, by ridge regression of the logarithms, and
    repeated evidence counts for more. Factors lie between 1/``limit`` and ``limit``; blocks that
    nothing was seen of have none. Raises InputError for a share outside ]0, 1[ or a limit below 1.
    """
    if not (0 < share < 1 and limit >= 1):
        raise InputError(f"a share of {share} and a limit of {limit} make no correction")
    by_target: dict[str, list[StageObservation]] = {}
    for observation in observations:
        _check(observation)
        if observation.context_ms > 0 and sum(observation.blocks.values()) > 0:
            by_target.setdefault(observation.target, []).append(observation)
    factors: dict[tuple[str, str], float] = {}
    for target, seen in by_target.items():
        names = sorted({name for stage in seen for name in stage.blocks})
        column = {name: i for i, name in enumerate(names)}
        shares = np.zeros((len(seen), len(names)))
        for row, stage in enumerate(seen):
            total = sum(stage.blocks.values())
            for name, cost in stage.blocks.items():
                shares[row, column[name]] = cost / total
        residuals = [_log_residual(stage, fitted, limit) for stage in seen]
        logs, noise = (np.array(figures) for figures in zip(*residuals, strict=True))
        # A block varies the less the more of its stages it makes up, so that a lone stage's blocks
        # all get the same factor.
        present = np.maximum((shares > 0).sum(axis=0), 1)
        typical = shares.sum(axis=0) / present
        spread = np.divide(1.0, typical, out=np.zeros_like(typical), where=typical > _LEAST_SHARE)
        kernel = (shares * spread) @ shares.T
        ridge = (1 - share) / share * np.diag(noise)
        found = spread * (shares.T @ np.linalg.solve(kernel + ridge, logs))
        bounded = np.exp(np.clip(found, -math.log(limit), math.log(limit)))
        factors.update(((target, name), float(bounded[i])) for name, i in column.items())
    return factors


def _log_residual(stage: StageObservation, fitted: StageFit, limit: float) -> tuple[float, float]:
    """Logarithm of what the blocks took over what was predicted of them, within the limit.

    And its variance in units of that of a stage that is all blocks: errors of the overhead count
    for more where the blocks are a small part.
    """
    predicted = max(fitted.costs_of(stage.target).scale * stage.context_ms, _LEAST_MS)
    overhead = fitted.overhead_ms(stage)
    ratio = min(max((stage.measured_ms - overhead) / predicted, 1 / limit), limit)
    return math.log(ratio), (1 + min(overhead / predicted, _MOST_OVERHEAD)) ** 2
