"""numpy arrays as OpenVINO tensors over the same memory, and back."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import openvino as ov

from dioe.types import Array, TensorSpec


def is_packed(dtype: np.dtype[Any]) -> bool:
    """True for ml_dtypes' 4-bit types: a byte an element in numpy, half a byte in OpenVINO."""
    return dtype.name in ("int4", "uint4", "float4_e2m1fn")


def tensor_over(array: Array, element_type: ov.Type) -> tuple[ov.Tensor, Array]:
    """A tensor on the memory of a C-contiguous array; 4-bit types are copied.

    A request that gets the tensor keeps only a pointer: keep the array returned for as long.
    """
    dtype = array.dtype
    if is_packed(dtype):
        packed = _pack(array)
        return ov.Tensor(packed, ov.Shape(array.shape), element_type), packed
    plain = array
    if not array.flags.writeable and array.size:
        # OpenVINO never writes to inputs but takes writable arrays only.
        memory = (ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data)
        plain = np.ctypeslib.as_array(memory).view(dtype).reshape(array.shape)
    if dtype.kind in "biuf" and dtype.char in "?bBhHiIlLqQefd":
        # numpy has two types of that name where long and long long are alike; OpenVINO knows one
        return ov.Tensor(plain.view(np.dtype(dtype.name)), shared_memory=True), array
    raw = plain.view(np.uint16 if dtype.itemsize == 2 else np.uint8)
    return ov.Tensor(raw, ov.Shape(array.shape), element_type), array


def array_of(tensor: ov.Tensor, spec: TensorSpec) -> Array:
    """A view of a tensor's memory as the spec's dtype; 4-bit types are copied."""
    dtype = spec.dtype
    data: Array = tensor.data
    if is_packed(dtype):
        return _unpack(data, tuple(tensor.shape), dtype)
    return data if data.dtype == dtype else data.view(dtype)


def _pack(array: Array) -> Array:
    nibbles = array.reshape(-1).view(np.uint8) & 0x0F
    if nibbles.size % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    packed: Array = nibbles[::2] | (nibbles[1::2] << 4)
    return packed


def _unpack(data: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    raw = data.reshape(-1).view(np.uint8)
    nibbles = np.empty(raw.size * 2, np.uint8)
    nibbles[::2], nibbles[1::2] = raw & 0x0F, raw >> 4
    nibbles = nibbles[: int(np.prod(shape, dtype=np.int64))]
    if dtype.name == "int4":  # ml_dtypes keeps the sign in the upper half
        nibbles = nibbles | np.where(nibbles & 8, np.uint8(0xF0), np.uint8(0))
    return nibbles.view(dtype).reshape(shape)
