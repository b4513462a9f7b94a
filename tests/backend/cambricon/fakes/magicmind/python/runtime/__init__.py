"""What public sources use of ``magicmind.python.runtime``."""

from __future__ import annotations

from typing import Any

from ._build import Builder, BuilderConfig, CalibDataInterface, Calibrator, Network
from ._device import Device, System
from ._enums import Code, DataType, ModelKind, QuantizationAlgorithm
from ._model import Model
from ._values import Dims, Status

__all__ = [
    "Builder",
    "BuilderConfig",
    "CalibDataInterface",
    "Calibrator",
    "Code",
    "DataType",
    "Device",
    "Dims",
    "Model",
    "ModelKind",
    "Network",
    "QuantizationAlgorithm",
    "Status",
    "System",
]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"magicmind.python.runtime has no {name!r} that was seen anywhere")
