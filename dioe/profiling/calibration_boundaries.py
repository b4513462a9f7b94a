"""What it costs that one backend hands a value to another on the host, beside both stages alone."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dioe.profiling.calibration import (
    Reading,
    Say,
    Subject,
    bound,
    room,
    rounds_of,
)
from dioe.profiling.calibration_models import Work, forget, sums
from dioe.profiling.calls import waiting_call
from dioe.profiling.rounds import Calls, Timing
from dioe.types import Context, Executable, Precisions

SMALL, LARGE = 4 << 10, 4 << 20
"""Bytes of the values that are handed over."""

_LENGTH = 3
"""Sums in a stage: an odd number, so that its result has the shape of its operands."""

_PARTS = ("staged", "first", "second")


@dataclass(frozen=True, slots=True)
class Handover:
    """A value goes from a stage of one subject to one of another: the two in turn, and each alone.

    Without idle threads that spin, as plans of several stages are run.
    """

    first: Subject
    second: Subject
    nbytes: int

    @property
    def name(self) -> str:
        """Its name in timings."""
        return f"{self.first.name} > {self.second.name}, {self.nbytes} bytes"

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        """Compile both, and hand out the three calls."""
        work = sums(3 * self.nbytes, _LENGTH)
        with (
            self.first.open(False) as a,
            self.second.open(False) as b,
            _compiled(a, work, self.first) as first,
            _compiled(b, work, self.second) as second,
        ):
            before, after = bound(a, first, work.feeds), bound(b, second, work.feeds)
            alone = [
                waiting_call(bound(context, executable, work.feeds))
                for context, executable in ((a, first), (b, second))
            ]
            value = room(a, first.outputs[0])
            before.bind({}, {first.outputs[0].name: value})
            after.bind({"x": value})

            def staged() -> None:
                before.run().wait()
                after.run().wait()

            calls = (staged, *alone)
            yield {f"{self.name} {part}": c for part, c in zip(_PARTS, calls, strict=True)}

    def cost_s(self, timings: Mapping[str, Timing]) -> tuple[float, int, bool] | None:
        """Seconds beyond both stages alone, the rounds, whether all were noisy; None if it wasn't
        timed. Rounds are compared one by one: a change of the machine's speed meets all three."""
        names = [f"{self.name} {part}" for part in _PARTS]
        if any(name not in timings for name in names):
            return None
        rounds = list(zip(*(timings[name].rounds for name in names), strict=True))
        quiet = [each for each in rounds if not any(part.noisy for part in each)]
        extra = [r[0].median_ms - r[1].median_ms - r[2].median_ms for r in quiet or rounds]
        return float(np.median(extra)) / 1e3, len(extra), not quiet


@dataclass(frozen=True, slots=True)
class BoundaryReading:
    """What handing over costs: seconds of a value of hardly any bytes, and for each byte."""

    source: str
    destination: str
    fixed: Reading
    s_per_byte: float


@contextlib.contextmanager
def _compiled(context: Context, work: Work, subject: Subject) -> Iterator[Executable]:
    executable = context.compile(work.model, Precisions(subject.usual), {})
    try:
        yield executable
    finally:
        executable.close()


def measure_boundaries(
    subjects: Sequence[Subject],
    *,
    seconds: float,
    locked: bool = True,
    say: Say = lambda text: None,
) -> tuple[list[BoundaryReading], dict[str, str]]:
    """Costs between every two subjects, both ways, and the reasons of those that failed.

    The subjects have to share the memory that their contexts allocate (the host's).
    """
    pairs = list(itertools.permutations(subjects, 2))
    handovers = {
        (a.name, b.name, nbytes): Handover(a, b, nbytes)
        for nbytes in (SMALL, LARGE)
        for a, b in pairs
    }
    try:
        timings, failures = rounds_of(
            {each.name: each for each in handovers.values()},
            budget_s=seconds, locked=locked, say=say,
        )  # fmt: skip
    finally:
        forget()
    found = []
    for a, b in pairs:
        small = handovers[a.name, b.name, SMALL].cost_s(timings)
        large = handovers[a.name, b.name, LARGE].cost_s(timings)
        if small is None or large is None:
            continue
        slope = max(0.0, (large[0] - max(small[0], 0.0)) / (LARGE - SMALL))
        rounds, noisy = min(small[1], large[1]), small[2] or large[2]
        reading = Reading(max(0.0, small[0]), rounds, noisy)
        found.append(BoundaryReading(a.name, b.name, reading, slope))
    return found, failures
