"""The bytes of a serialized executable: a head in JSON, then OpenVINO's own blob."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from dioe.types import BackendError, Precision, TensorSpec
from dioe_openvino.errors import PLACE

MAGIC = b"DIOE-OV2"


@dataclass(frozen=True, slots=True)
class Head:
    """What OpenVINO's blob doesn't keep: specs in the model's terms, the precision, without which
    an imported fp32 model runs in bf16, and whether it is a mix, whose blob is written otherwise.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: Precision = Precision.FP32
    mixed: bool = False


def write_blob(head: Head, compiled: bytes) -> bytes:
    """One string of bytes."""
    fields = {
        "inputs": _dump(head.inputs),
        "outputs": _dump(head.outputs),
        "precision": head.precision,
        "mixed": head.mixed,
    }
    text = json.dumps(fields).encode()
    return b"".join((MAGIC, len(text).to_bytes(8, "little"), text, compiled))


def read_blob(blob: bytes) -> tuple[Head, bytes]:
    """The head and OpenVINO's blob; raises BackendError for bytes of another format."""
    start = len(MAGIC) + 8
    try:
        if not blob.startswith(MAGIC):
            raise ValueError("unknown format")
        stop = start + int.from_bytes(blob[len(MAGIC) : start], "little")
        head = json.loads(blob[start:stop])
        inputs, outputs = _load(head["inputs"]), _load(head["outputs"])
        return Head(inputs, outputs, Precision(head["precision"]), bool(head["mixed"])), blob[stop:]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(f"not a serialized executable: {error}", place=PLACE) from None


def _dump(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
    return [{"name": s.name, "dtype": s.dtype.name, "shape": s.shape} for s in specs]


def _load(specs: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            s["name"],
            np.dtype(getattr(ml_dtypes, s["dtype"], s["dtype"])),
            None if s["shape"] is None else tuple(s["shape"]),
        )
        for s in specs
    )
