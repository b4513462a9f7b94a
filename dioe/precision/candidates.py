"""Candidate precisions of a target, and the error limit they are held to."""

from __future__ import annotations

from dioe.types import Capabilities, InputError, Precision

AS_WRITTEN_LIMIT = 1e-4
QUANTISED_LIMIT = 5e-2  # backends fuse Q/DQ groups differently
AUTO_LIMIT = 1e-2


def error_limit(precision: str, *, quantised: bool, max_relative_l2: float | None) -> float:
    """The largest error allowed: the caller's, else the default of the mode (architecture.md)."""
    if max_relative_l2 is not None:
        number = isinstance(max_relative_l2, int | float) and not isinstance(max_relative_l2, bool)
        if not number or not 0 < max_relative_l2 < float("inf"):
            raise InputError(
                f"max_relative_l2 is {max_relative_l2!r}", fix="give a number above 0, such as 0.01"
            )
        return max_relative_l2
    as_written = QUANTISED_LIMIT if quantised else AS_WRITTEN_LIMIT
    return as_written if precision == "fp32" else max(AUTO_LIMIT, as_written)


def candidate_precisions(
    precision: str, capabilities: Capabilities, *, quantised: bool
) -> tuple[Precision, ...]:
    """The precisions worth trying on a target under ``precision`` = ``fp32``, ``auto`` or one name.

    ``fp32`` means as written, so the int8 path of a backend is among them where the model already
    is quantised.
    """
    computes = capabilities.computes
    if precision == "fp32":
        wanted = {Precision.FP32} | ({Precision.INT8} if quantised else set())
    elif precision == "auto":
        wanted = {Precision.FP32, Precision.BF16, Precision.FP16}
        wanted |= {Precision.INT8} if quantised else set()
    else:
        try:
            wanted = {Precision(precision)}
        except ValueError:
            known = ", ".join(["auto", *Precision])
            raise InputError(
                f"precision {precision!r} is unknown", fix=f"use one of: {known}"
            ) from None
    return tuple(p for p in Precision if p in wanted & computes)
