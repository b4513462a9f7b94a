"""What to tell where nothing runs a model: which limit is in the way, what more budget may find."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dioe.tuning.limited import Limited
from dioe.tuning.targets import Candidate
from dioe.types import OutOfMemory, UnsupportedError


def no_plan(
    error: UnsupportedError,
    candidates: Sequence[Candidate],
    ops: Collection[str],
    limited: Limited,
    unplaced: str = "",
) -> UnsupportedError | OutOfMemory:
    """The error that no target runs all ``ops``, with what may be done about it; OutOfMemory where
    memory limits alone keep out whoever could.

    ``unplaced`` is why no plan of several parts can be made, if that is known.
    """
    able = [c for c in candidates if not c.forbidden and not c.held_back and c.support.whole]
    if able and all(candidate.roomless for candidate in able):
        together = f"; and together: {unplaced}" if unplaced else ""
        return OutOfMemory(error.cause + together, fix=_allow(limited, "or name other devices"))
    if unplaced and (limited.limits.memory_bytes or limited.limits.max_stages is not None):
        return UnsupportedError(
            f"{error.cause}; and together: {unplaced}", fix=_allow(limited, "or other targets")
        )
    parts = [c.support.supported for c in candidates if not c.held_back]
    if frozenset().union(*parts).issuperset(ops):
        return UnsupportedError(
            error.cause,
            fix="together they take every op: a larger tuning budget may find a plan of them",
        )
    if limited.limits.memory_bytes or any(candidate.forbidden for candidate in candidates):
        return UnsupportedError(error.cause, fix=_allow(limited, "or name other devices"))
    return error


def _allow(limited: Limited, other: str) -> str:
    return f"limits are: {'; '.join(limited.limits.phrases())}. Allow more, {other}"
