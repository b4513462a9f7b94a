"""What stages, targets with their threads, and times are called in plans and what explains them."""

from __future__ import annotations

from collections.abc import Sequence

from dioe.planning.problem import TargetCosts
from dioe.types import Target


def stage_name(number: int) -> str:
    """The name of a plan's stage by its place in the order."""
    return f"s{number}"


def on_threads(target: Target | str, threads: int | None) -> str:
    """A target that its threads tell from another of the same name.

    Such as ``cpu/openvino/fp32 on 1 thread``; None is the backend's own number.
    """
    number = "default" if threads is None else threads
    return f"{target} on {number} thread{'' if threads == 1 else 's'}"


def target_names(targets: Sequence[TargetCosts]) -> list[str]:
    """Targets by name; with their threads where only the resources tell them apart."""
    names = [str(costs.target) for costs in targets]
    return [
        on_threads(name, costs.resources.threads) if names.count(name) > 1 else name
        for name, costs in zip(names, targets, strict=True)
    ]


def ms_text(ms: float) -> str:
    """A time in ms, or in µs if it is that short."""
    return f"{ms:.3f} ms" if abs(ms) >= 0.001 else f"{ms * 1000:.2g} µs"


def bytes_text(nbytes: float) -> str:
    """A size in B, KiB or MiB."""
    if nbytes < 2**10:
        return f"{nbytes:.4g} B"
    if nbytes < 2**20:
        return f"{nbytes / 2**10:.4g} KiB"
    return f"{nbytes / 2**20:.4g} MiB"
