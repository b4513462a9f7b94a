"""Host arrays as ONNX Runtime's values, and back."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import OrtValue as NativeOrtValue

from dioe.types import Array, TensorSpec

HOST = ort.OrtDevice.make("cpu", 0)._get_c_device()
"""Where a binding puts outputs for the host."""

_CTYPES_SAFE = frozenset("?bBhHiIlLqQefd")


def numpy_knows(dtype: np.dtype[Any]) -> bool:
    """True unless ``dtype`` is one of ml_dtypes'."""
    return dtype.char in _CTYPES_SAFE and dtype.kind in "biuf"


def ort_value(array: Array) -> Any:
    """An OrtValue over the array's own memory."""
    if numpy_knows(array.dtype):
        return NativeOrtValue.ortvalue_from_numpy(array, HOST)
    from onnx import helper

    element_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, element_type)._ortvalue


def array_of(value: Any, spec: TensorSpec) -> Array:
    """The host array of a native OrtValue on the host."""
    if numpy_knows(spec.dtype):
        array: Array = value.numpy()
        return array
    nbytes = value.tensor_size_in_bytes()
    raw = (ctypes.c_uint8 * nbytes).from_address(value.data_ptr())
    return np.frombuffer(raw, np.uint8).copy().view(spec.dtype).reshape(value.shape())
