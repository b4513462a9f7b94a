"""Options of ``cambricon.magicmind``: what becomes of each in MagicMind's build configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dioe.host_backend import OptionRule, fixed, is_bool, resource_rules
from dioe.types import Effect, Precision, Resolution

PRECISION_MODES: Mapping[Precision, str] = {
    Precision.FP32: "force_float32",
    Precision.FP16: "force_float16",
    Precision.INT8: "qint8_mixed_float16",
}
"""Values of ``precision_config.precision_mode``."""

ALGORITHMS = {"linear": "LINEAR_ALGORITHM", "eqnm": "EQNM_ALGORITHM"}
"""Members of ``QuantizationAlgorithm`` by the names that the vendor's own tools give them."""


def _precision(value: Any) -> Resolution:
    mode = PRECISION_MODES.get(value)
    if mode is None:
        note = f"MagicMind has no {value} of its own" + (
            "; an MLU370 computes none" if value == Precision.BF16 else ""
        )
        return Resolution(Effect.REJECTED, note=note)
    note = "calibrated on sample inputs" if value == Precision.INT8 else ""
    return Resolution(Effect.APPLIED, f"precision_config.precision_mode={mode}", note)


def _optimize(value: Any) -> Resolution:
    if value:
        return Resolution(Effect.APPLIED, "debug_config.fusion_enable")
    note = "fusion is switched off; MagicMind has no switch for its other passes"
    return Resolution(Effect.APPROXIMATED, "debug_config.fusion_enable", note)


def _one_of(key: str, *values: str) -> OptionRule:
    return OptionRule(
        lambda v: isinstance(v, str) and v in values,
        f"one of {', '.join(values)}",
        fixed(Effect.APPLIED, key),
    )


def _profile(value: Any) -> Resolution:
    if value:
        return Resolution(Effect.REJECTED, note="there are no times of single ops")
    return Resolution(Effect.APPLIED, note="none is taken")


def _is_archs(value: object) -> bool:
    return (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(v, str) for v in value)
    )


def _is_dim_range(value: object) -> bool:
    def is_shape(dims: object) -> bool:
        return isinstance(dims, Sequence) and all(
            isinstance(d, int) and not isinstance(d, bool) and d > 0 for d in dims
        )

    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and isinstance(bounds, Mapping)
        and set(bounds) == {"min", "max"}
        and is_shape(bounds["min"])
        and is_shape(bounds["max"])
        and len(bounds["min"]) == len(bounds["max"])
        for name, bounds in value.items()
    )


OPTIONS: Mapping[str, OptionRule] = {
    "optimize": OptionRule(is_bool, "true or false", _optimize),
    "profile": OptionRule(is_bool, "true or false", _profile),
    "kernel_fusion": OptionRule(
        is_bool, "true or false", fixed(Effect.APPLIED, "debug_config.fusion_enable")
    ),
    "tiling_strategy": OptionRule(
        lambda v: isinstance(v, str | bool | int),
        "a name",
        fixed(Effect.IGNORED, note="MagicMind chooses its tiles: it has no public knob for them"),
    ),
    "computation_preference": _one_of("computation_preference", "auto", "fast", "high_precision"),
    "weight_quant_granularity": _one_of(
        "precision_config.weight_quant_granularity", "per_tensor", "per_axis"
    ),
    "activation_quant_algo": _one_of(
        "precision_config.activation_quant_algo", "symmetric", "asymmetric"
    ),
    "calibration_algorithm": _one_of("Calibrator.set_quantization_algorithm", *ALGORITHMS),
    "archs": OptionRule(
        _is_archs, "a list of names such as mtp_372", fixed(Effect.APPLIED, "archs")
    ),
    "dim_range": OptionRule(
        _is_dim_range,
        "for each input a mapping with the shapes 'min' and 'max'",
        fixed(Effect.APPLIED, "dim_range"),
    ),
    **resource_rules(
        precision=_precision,
        threads=fixed(Effect.IGNORED, note="the card computes, not the host's threads"),
        streams=fixed(Effect.APPROXIMATED, note="each request has a queue of its own"),
        spin=fixed(Effect.IGNORED, note="the card computes, not the host's threads"),
        memory_limit_bytes=fixed(Effect.IGNORED, note="MagicMind takes no limit"),
    ),
}
"""Native keys are those of the JSON that ``BuilderConfig.parse_from_string`` takes."""
