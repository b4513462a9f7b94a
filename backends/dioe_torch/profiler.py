"""Times of single ops."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from dioe.types import OpTime
from dioe_torch.lowerings import Linked


class Profiler:
    """Times of single ops: each is waited for, so a run takes longer than without."""

    def __init__(self, linked: Linked) -> None:
        self._linked = linked
        self._lock = threading.Lock()
        self._seconds = [0.0] * len(linked.steps)
        self._first = list(self._seconds)
        self._runs = 0

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """As ``Linked.run``."""
        seconds = [0.0] * len(self._seconds)

        def observe(step: int, args: list[Any], result: Any, took_s: float) -> None:
            seconds[step] = took_s

        results = self._linked.observed(inputs, observe)
        with self._lock:
            if not self._runs:
                self._first = seconds
            self._runs += 1
            self._seconds = [a + b for a, b in zip(self._seconds, seconds, strict=True)]
        return results

    def times(self) -> tuple[OpTime, ...]:
        """See ``Executable.profile``."""
        with self._lock:
            if not self._runs:
                return ()
            alone = self._runs == 1
            return tuple(
                OpTime(
                    name=step.op.id or step.op.type,
                    op_type=step.op.type,
                    ops=(step.op.id,) if step.op.id else (),
                    total_ms=1e3 * (total - (0.0 if alone else first)),
                    count=1 if alone else self._runs - 1,
                    precision=step.op.precision,
                )
                for step, total, first in zip(
                    self._linked.steps, self._seconds, self._first, strict=True
                )
            )
