"""The build configuration of MagicMind for a model, a precision and options: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dioe.types import Feeds, InputError, Precision, TensorSpec, UnsupportedError
from dioe_cambricon.options import PRECISION_MODES

PLACE = "cambricon.magicmind"

ARCHS = {"MLU370": "mtp_372"}
"""Architectures by the beginning of the card's name. Others aren't set: MagicMind then builds for
all that it knows."""

OPEN = -1
"""An open dimension, as ``Dims`` has it."""


def build_config(
    precision: Precision,
    options: Mapping[str, Any],
    inputs: Sequence[TensorSpec],
    *,
    card: str = "",
) -> dict[str, Any]:
    """What ``BuilderConfig.parse_from_string`` gets as JSON; ``card`` is the card's name.

    Raises InputError for a range of dimensions that doesn't fit the inputs.
    """
    mode: dict[str, Any] = {"precision_mode": PRECISION_MODES[precision]}
    if precision is Precision.INT8:
        mode["weight_quant_granularity"] = options.get("weight_quant_granularity", "per_axis")
        mode["activation_quant_algo"] = options.get("activation_quant_algo", "symmetric")
    fused = options.get("kernel_fusion", options.get("optimize", True))
    mutable = not all(spec.static for spec in inputs)
    config: dict[str, Any] = {
        "precision_config": mode,
        # Cards compute no 64-bit integers; and folding scales has to be the same in calibration.
        "opt_config": {"type64to32_conversion": True, "conv_scale_fold": True},
        "debug_config": {"fusion_enable": fused},
        "graph_shape_mutable": mutable,
    }
    archs = options.get("archs") or [a for name, a in ARCHS.items() if card.startswith(name)]
    if archs:
        config["archs"] = list(archs)
    if "computation_preference" in options:
        config["computation_preference"] = options["computation_preference"]
    if "dim_range" in options:
        config["dim_range"] = _dim_range(options["dim_range"], inputs, mutable=mutable)
    return config


def _dim_range(
    ranges: Mapping[str, Any], inputs: Sequence[TensorSpec], *, mutable: bool
) -> dict[str, Any]:
    """By the inputs' places, as MagicMind wants them, all inputs named."""
    known = {spec.name: spec for spec in inputs}
    for name, bounds in ranges.items():
        spec = known.get(name)
        if spec is None or spec.shape is None or len(spec.shape) != len(bounds["min"]):
            raise InputError(
                f"option 'dim_range': {name!r} is no input of {len(bounds['min'])} dimensions",
                place=PLACE,
                fix=f"inputs: {', '.join(map(repr, known))}",
            )
    missing = sorted(spec.name for spec in inputs if not spec.static and spec.name not in ranges)
    if missing or not mutable:
        raise InputError(
            f"option 'dim_range': {missing[0]!r} isn't in it"
            if missing
            else "option 'dim_range' for a model without open dimensions",
            place=PLACE,
            fix="name every input that has open dimensions, or leave the option out",
        )
    found = {}
    for place, spec in enumerate(inputs):
        dims = list(spec.shape or ())
        bounds = ranges.get(spec.name, {"min": dims, "max": dims})
        found[str(place)] = {"min": list(bounds["min"]), "max": list(bounds["max"])}
    return found


def input_dims(
    inputs: Sequence[TensorSpec], calibration: Sequence[Feeds] | None
) -> dict[str, list[int]]:
    """The dimensions that the network's inputs get before it is calibrated and built: those of the
    model, the open ones of the calibration's samples where there are some.

    Raises UnsupportedError for an input of unknown rank.
    """
    found: dict[str, list[int]] = {}
    for spec in inputs:
        if spec.shape is None:
            raise UnsupportedError(
                "its rank isn't known", place=f"{PLACE}: input {spec.name!r}", fix="give it a shape"
            )
        if calibration:
            found[spec.name] = list(_shape(calibration[0][spec.name]))
        else:
            found[spec.name] = [d if isinstance(d, int) else OPEN for d in spec.shape]
    return found


def check_calibration(inputs: Sequence[TensorSpec], calibration: Sequence[Feeds]) -> None:
    """Raise InputError unless every feed has every input, all of one shape."""
    if not calibration:
        raise InputError("there are no feeds", place="calibration", fix="give one or more")
    for place, feed in enumerate(calibration):
        for spec in inputs:
            if spec.name not in feed:
                raise InputError(f"feed {place} has no input {spec.name!r}", place="calibration")
            first, shape = _shape(calibration[0][spec.name]), _shape(feed[spec.name])
            if shape != first:
                raise InputError(
                    f"feed {place} has shape {list(shape)} for {spec.name!r}, the first "
                    f"{list(first)}",
                    place="calibration",
                    fix="MagicMind calibrates on one shape: give feeds of equal shapes",
                )


def _shape(value: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = value.shape
    return shape
