"""Options of a provider's backend, and what becomes of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dioe.host_backend import OptionRule, fixed, is_bool, resource_rules
from dioe.types import Effect, Precision, Resolution
from dioe_onnxruntime.providers import Provider

LEVELS = {"disabled": 0, "basic": 1, "extended": 2, "all": 99}
"""Values of the ``kernel_fusion`` option, as GraphOptimizationLevel counts them."""


def _fusion(value: Any) -> Resolution:
    level = value if isinstance(value, str) else ("all" if value else "disabled")
    return Resolution(
        Effect.APPLIED,
        "graph_optimization_level",
        f"{level}: fusion and all other graph optimisations go together",
    )


def rules(provider: Provider) -> dict[str, OptionRule]:
    """The options of one provider's backend."""

    def precision(value: Any) -> Resolution:
        options = provider.precisions.get(value)
        if options is None:
            note = f"{provider.title} has no {value} of its own"
            return Resolution(Effect.REJECTED, note=note)
        note = "as written" if value == Precision.FP32 else ""
        return Resolution(Effect.APPLIED, ", ".join(options), note)

    def profile(value: Any) -> Resolution:
        if value and provider.asynchronous:
            return Resolution(Effect.REJECTED, note=NO_PROFILE)
        return Resolution(Effect.APPLIED, "enable_profiling")

    host = provider.kind == "cpu"
    return {
        "optimize": OptionRule(
            is_bool, "true or false", fixed(Effect.APPLIED, "graph_optimization_level")
        ),
        "profile": OptionRule(is_bool, "true or false", profile),
        "kernel_fusion": OptionRule(
            lambda v: isinstance(v, bool) or v in LEVELS,
            f"true, false or one of {', '.join(LEVELS)}",
            _fusion,
        ),
        "tiling_strategy": OptionRule(
            lambda v: isinstance(v, (str, bool, int)),
            "a name",
            fixed(Effect.IGNORED, note=f"{'MLAS' if host else provider.title} chooses its tiles"),
        ),
        **resource_rules(
            precision=precision,
            threads=fixed(Effect.APPLIED, "intra_op_num_threads"),
            streams=fixed(
                Effect.IGNORED,
                note="requests of one session run side by side anyway"
                if host
                else "a device's queue is one",
            ),
            spin=fixed(Effect.APPLIED, "session.intra_op.allow_spinning"),
            memory_limit_bytes=fixed(
                Effect.IGNORED, note="the CPU arena takes no limit for one session"
            )
            if host
            else fixed(Effect.APPROXIMATED, note="limits buffers that are allocated, not weights"),
        ),
    }


NO_PROFILE = "kernels run after their dispatch, and ONNX Runtime's profile times the dispatch only"


def level(options: Mapping[str, Any]) -> int:
    """The GraphOptimizationLevel that compile options ask for."""
    if options.get("optimize") is False:
        return LEVELS["disabled"]
    fusion = options.get("kernel_fusion", True)
    return LEVELS[fusion] if isinstance(fusion, str) else LEVELS["all" if fusion else "disabled"]
