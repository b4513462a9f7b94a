"""What lowering the precision of one block does to the outputs, measured in few evaluations.

Blocks are lowered alone, all others as written: what an error adds to others' then shows. The other
way round, one block kept and all others lowered, tells nothing: a kept block moves the roundings of
its neighbours, and the error goes up as often as down (19 of 64 blocks of PP-OCR det).

Roundings are independent, so errors of blocks add up in squares: with each block measured alone the
sum predicted 0.0117 where 0.0119 was measured (PP-OCR det, 36 of 64 blocks in bf16), and 0.040,
0.024 and 0.075 for 0.032, 0.027 and 0.088 with all blocks lowered (det, EfficientNet-lite0, rec).

An evaluation is a compilation and a run, so neighbouring blocks are measured together first, and
the groups that carry most are divided until the budget ends.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from dioe.types import Precision, Precisions

Evaluate = Callable[[Precisions], float]
"""Compiles the model so, runs it, and gives the error of its outputs (``compare``); infinite where
they are broken."""

GROUPS = 8

PARTS = 4
"""A group is divided into so many. To find one block that carries all takes no more evaluations
than with halves, to find several takes fewer."""

NEGLIGIBLE = 1.0
"""Groups stay whole if all blocks like theirs would together use this share of what is allowed.

The mixes found are no slower than with every block alone, in 52 evaluations instead of 72 on PP-OCR
det, 56 instead of 76 on EfficientNet-lite0 and 42 instead of 72 on PP-OCR rec, at 1e-2.
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring blocks, by index, that were lowered together, and the error that it gave."""

    blocks: tuple[int, ...]
    error: float


@dataclass(frozen=True, slots=True)
class Check:
    """A set of blocks whose error was predicted from its parts and measured too."""

    blocks: tuple[int, ...]
    predicted: float
    measured: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The squared error that each block adds when it is lowered.

    ``groups`` is what was measured, in order; within a group the squared error is shared out
    evenly. It is infinite for blocks that weren't measured before the budget ended, and for those
    that break the outputs. ``checks`` tell how far errors add up in squares.
    """

    lowered: Precision
    squared_errors: tuple[float, ...]
    groups: tuple[Group, ...] = ()
    checks: tuple[Check, ...] = field(default=(), compare=False)
    evaluations: int = field(default=0, compare=False)

    def predict(self, blocks: Iterable[int]) -> float:
        """The error with these blocks lowered: the root of the sum of squares."""
        return math.sqrt(math.fsum(self.squared_errors[block] for block in blocks))

    def alone(self, block: int) -> bool:
        """True if the block was measured by itself."""
        return any(group.blocks == (block,) for group in self.groups)


def lower(
    blocks: Sequence[Sequence[str]], chosen: Collection[int], lowered: Precision
) -> Precisions:
    """Precisions with the ops of the chosen blocks in ``lowered`` and all others as written."""
    return Precisions(Precision.FP32, {op: lowered for i in sorted(chosen) for op in blocks[i]})


def sensitivities(
    blocks: Sequence[Sequence[str]],
    lowered: Precision,
    evaluate: Evaluate,
    *,
    budget: Callable[[], bool],
    limit: float = 0.0,
    groups: int = GROUPS,
) -> Sensitivity:
    """Lower ``groups`` groups of neighbouring ``blocks`` (op ids, in topological order), one at a
    time, and divide those that carry most as long as ``budget`` says that there is some left.

    ``limit`` is the error that will be allowed in the end: what is small beside it isn't divided.
    Raises what ``evaluate`` raises.
    """
    search = _Search(blocks, lowered, evaluate, budget)
    enough = NEGLIGIBLE * limit**2 / max(len(blocks), 1)
    for part in _split(tuple(range(len(blocks))), groups):
        search.measure(part)
    while (group := search.largest(enough)) is not None and budget():
        search.divide(group)
    return search.result()


@dataclass(slots=True)
class _Search:
    blocks: Sequence[Sequence[str]]
    lowered: Precision
    evaluate: Evaluate
    budget: Callable[[], bool]
    evaluations: int = 0
    _found: dict[tuple[int, ...], float] = field(default_factory=dict)
    _waiting: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    """A heap of the groups to divide, the largest error first."""
    _checks: list[Check] = field(default_factory=list)

    def measure(self, part: tuple[int, ...]) -> float | None:
        """The error of lowering ``part``, None where the budget has ended."""
        if not self.budget():
            return None
        error = self.evaluate(lower(self.blocks, part, self.lowered))
        error = math.inf if math.isnan(error) else error
        self.evaluations += 1
        self._found[part] = error
        if len(part) > 1:
            heapq.heappush(self._waiting, (-error, part))
        return error

    def largest(self, enough: float) -> tuple[int, ...] | None:
        """The group with the largest error, None if there is none worth dividing."""
        while self._waiting:
            error, part = heapq.heappop(self._waiting)
            if error**2 > enough * len(part):
                return part
        return None

    def divide(self, whole: tuple[int, ...]) -> None:
        """Measure the parts; if the budget ends in between, the whole stands as it is."""
        parts = _split(whole, PARTS)
        errors = [self.measure(part) for part in parts]
        if None in errors:
            for part in parts:
                self._found.pop(part, None)
            return
        predicted = math.sqrt(math.fsum(error**2 for error in errors if error is not None))
        self._checks.append(Check(whole, predicted, self._found.pop(whole)))

    def result(self) -> Sensitivity:
        squared = [math.inf] * len(self.blocks)
        for part, error in self._found.items():
            for block in part:
                squared[block] = error**2 / len(part)
        return Sensitivity(
            self.lowered,
            tuple(squared),
            tuple(Group(part, self._found[part]) for part in sorted(self._found)),
            tuple(self._checks),
            self.evaluations,
        )


def _split(blocks: tuple[int, ...], parts: int) -> list[tuple[int, ...]]:
    """Up to ``parts`` runs of neighbours of about equal length."""
    parts = max(1, min(parts, len(blocks)))
    bounds = [len(blocks) * i // parts for i in range(parts + 1)]
    return [blocks[a:b] for a, b in itertools.pairwise(bounds) if a < b]
