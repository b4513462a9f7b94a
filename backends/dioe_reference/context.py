"""Evaluators from models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator

from dioe.host_backend import HostContext, check_options, tensor_specs
from dioe.types import (
    DioeError,
    Executable,
    Feeds,
    ModelError,
    Precision,
    Precisions,
    StageModel,
    UnsupportedError,
)
from dioe_reference.backend import OPTIONS, PLACE
from dioe_reference.executable import ReferenceExecutable
from dioe_reference.ops import corrections


class ReferenceContext(HostContext):
    """``onnx.reference`` on the host CPU."""

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """An evaluator for ``model``. Options: ``profile``; ``optimize`` has no effect.

        Raises UnsupportedError for an op that onnx.reference lacks or another precision than fp32.
        """
        self.check_open()
        check_options(PLACE, OPTIONS, options)
        if precisions.used != (Precision.FP32,):
            raise UnsupportedError(
                f"computes as written (fp32), not {'+'.join(precisions.used)}", place=PLACE
            )
        inputs, outputs = tensor_specs(model)
        executable = ReferenceExecutable(
            evaluator(model), inputs, outputs, model.op_ids, profile=bool(options.get("profile"))
        )
        return self.own(executable)

    def deserialize(self, blob: bytes) -> Executable:
        """Always raises UnsupportedError: there is no compiled form."""
        raise UnsupportedError("onnx.reference has no compiled form to load", place=PLACE)


def evaluator(model: StageModel) -> ReferenceEvaluator:
    """An evaluator of ``model``; raises UnsupportedError for an op that it lacks."""
    try:
        proto = onnx.load_from_string(model.to_bytes())
    except ModelError:  # above 2 GiB
        proto = onnx.load(model.to_path())
    return _make(proto)


def try_bytes(model: bytes) -> None:
    """Make and drop an evaluator; raises like ``evaluator``."""
    _make(onnx.load_from_string(model))


def _make(proto: onnx.ModelProto) -> ReferenceEvaluator:
    try:
        return ReferenceEvaluator(proto, new_ops=corrections(proto))
    except DioeError:
        raise
    except Exception as error:  # its lookups raise many kinds
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise UnsupportedError(text, place=PLACE) from error
