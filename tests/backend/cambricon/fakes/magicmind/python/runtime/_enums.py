"""Enumerations, with the members that were seen."""

from __future__ import annotations

import enum

from ..._contract import CALIBRATE, PARSER, PROCESS, SAMPLES, SEEN


class DataType(enum.Enum):
    BOOL = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    UINT8 = 6
    UINT16 = 7
    UINT32 = 8
    FLOAT16 = 9
    FLOAT32 = 10
    QINT8 = 11
    QINT16 = 12


class ModelKind(enum.Enum):
    kOnnx = 1  # noqa: N815
    kTensorflow = 2  # noqa: N815
    kPytorch = 3  # noqa: N815
    kCaffe = 4  # noqa: N815


class QuantizationAlgorithm(enum.Enum):
    LINEAR_ALGORITHM = 1
    EQNM_ALGORITHM = 2


class Code(enum.Enum):
    OK = 0  # what an empty Status has; never named in a source
    OUT_OF_RANGE = 1
    FAILED = 2  # stands for all codes that a failure may have


for _kind, _where in (
    (DataType, PROCESS),
    (ModelKind, PARSER),
    (QuantizationAlgorithm, CALIBRATE),
    (Code, SAMPLES),
):
    SEEN[_kind.__name__] = _where
