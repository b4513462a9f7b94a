"""What stages, and targets with their threads, are called in plans and in what explains them."""

from __future__ import annotations

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
