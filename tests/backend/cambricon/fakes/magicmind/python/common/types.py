"""dtypes of numpy and of MagicMind."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._contract import SAMPLES, YOLOX, seen
from ..runtime._enums import DataType

_NUMPY = {
    DataType.BOOL: np.bool_,
    DataType.INT8: np.int8,
    DataType.INT16: np.int16,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.UINT8: np.uint8,
    DataType.UINT16: np.uint16,
    DataType.UINT32: np.uint32,
    DataType.FLOAT16: np.float16,
    DataType.FLOAT32: np.float32,
}


@seen(SAMPLES)
def get_datatype_by_numpy(dtype: Any) -> DataType:
    for kind, known in _NUMPY.items():
        if np.dtype(known) == np.dtype(dtype):
            return kind
    raise TypeError(f"no DataType for {dtype}")


@seen(YOLOX)
def get_numpy_dtype_by_datatype(kind: DataType) -> Any:
    return _NUMPY[kind]
