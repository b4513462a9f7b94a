"""Per-op times of a whole model on one target, through the backend's own counters."""

from __future__ import annotations

import time

from dioe.types import Context, Feeds, OpTime, Precisions, StageModel


def profile_executable(
    context: Context,
    model: StageModel,
    precisions: Precisions,
    feeds: Feeds,
    *,
    seconds: float = 2.0,
    min_runs: int = 5,
) -> tuple[OpTime, ...]:
    """Times of each executed op, slowest first, over the runs made in ``seconds``.

    The backend's counters cost time themselves: use the times as shares, not as the latency.
    """
    executable = context.compile(model, precisions, {"profile": True})
    try:
        request = executable.request()
        request.bind(feeds)
        end = time.perf_counter() + seconds
        runs = 0
        while runs < min_runs or time.perf_counter() < end:
            request.run().wait()
            runs += 1
        return tuple(sorted(executable.profile(), key=lambda op: -op.mean_ms))
    finally:
        executable.close()
