"""A card opened for MagicMind: the worker's context, asked in the vendor's terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dioe.host_backend import check_array, check_options, host_array, tensor_specs
from dioe.registry.worker import Deadlines, WorkerContext, WorkerProcess
from dioe.registry.worker.records import spec_data
from dioe.types import (
    Array,
    Executable,
    Feeds,
    Precision,
    Precisions,
    StageModel,
    TensorSpec,
    UnsupportedError,
)
from dioe_cambricon.build import PLACE, build_config, check_calibration, input_dims
from dioe_cambricon.options import ALGORITHMS, OPTIONS, PRECISION_MODES
from dioe_cambricon.support import MAGICMIND, unholdable

CALIBRATE = "give compile real feeds as calibration, or take fp16 or fp32, which need none"


class MagicMindContext(WorkerContext):
    """See ``WorkerContext``; ``card`` is the card's name, by which an architecture is chosen."""

    def __init__(
        self, process: WorkerProcess, number: int, device: str, deadlines: Deadlines, card: str
    ) -> None:
        super().__init__(process, number, device, deadlines)
        self._card = card

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """See ``dioe.types.Context``. int8 needs ``calibration``: one feed or several, real ones.

        Raises InputError for options and feeds, UnsupportedError for precisions and models that
        MagicMind doesn't take, with its own words.
        """
        check_options(PLACE, OPTIONS, options)
        precision = precisions.default
        if precisions.used != (precision,) or precision not in PRECISION_MODES:
            raise UnsupportedError(
                f"a model is computed in one of {', '.join(PRECISION_MODES)}, not in "
                f"{'+'.join(precisions.used)}",
                place=PLACE,
            )
        for op, reason in unholdable(model, MAGICMIND).items():
            raise UnsupportedError(reason, place=f"{PLACE}: op {op!r}")
        inputs, outputs = tensor_specs(model)
        feeds = _calibration(precision, inputs, calibration)
        settings = {
            "config": build_config(precision, options, inputs, card=self._card),
            "dims": input_dims(inputs, feeds),
            "algorithm": ALGORITHMS[options.get("calibration_algorithm", "linear")],
            "inputs": [spec_data(spec) for spec in inputs],
            "outputs": [spec_data(spec) for spec in outputs],
        }
        return super().compile(model, precisions, settings, feeds)


def _calibration(
    precision: Precision, inputs: Sequence[TensorSpec], feeds: Sequence[Feeds] | None
) -> list[dict[str, Array]] | None:
    """The feeds to calibrate on as arrays; None for a precision that needs none."""
    if precision is not Precision.INT8:
        return None
    if not feeds:
        raise UnsupportedError("int8 needs calibration data", place=PLACE, fix=CALIBRATE)
    check_calibration(inputs, feeds)
    found: list[dict[str, Array]] = []
    for feed in feeds:
        arrays = {spec.name: host_array(feed[spec.name], spec) for spec in inputs}
        for spec in inputs:
            check_array(arrays[spec.name], spec)
        found.append(arrays)
    return found
