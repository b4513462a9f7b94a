"""Host arrays as tensors and back, without copies."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

from dioe.types import Array

_NUMPY = (
    "float32", "float64", "float16", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64", "complex64", "complex128",
)  # fmt: skip
_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
_RAW: dict[int, tuple[np.dtype[Any], torch.dtype]] = {
    1: (np.dtype(np.uint8), torch.uint8),
    2: (np.dtype(np.int16), torch.int16),
}

_TO_TORCH: dict[np.dtype[Any], torch.dtype] = {
    **{np.dtype(name): getattr(torch, name) for name in _NUMPY},
    **{np.dtype(getattr(ml_dtypes, name)): getattr(torch, name) for name in _ML_DTYPES},
}
_TO_NUMPY = {value: key for key, value in _TO_TORCH.items()}
_FOREIGN = frozenset(np.dtype(getattr(ml_dtypes, name)) for name in _ML_DTYPES)
_FOREIGN_TORCH = frozenset(_TO_TORCH[dtype] for dtype in _FOREIGN)


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype | None:
    """The torch dtype of a numpy one, None where torch has no such tensors."""
    return _TO_TORCH.get(dtype)


class _Alias:
    """The same memory, said to be writable: torch warns of tensors on memory that isn't. Nothing
    here writes into a tensor that it was given."""

    def __init__(self, array: Array) -> None:
        described = dict(array.__array_interface__)
        described["data"] = (described["data"][0], False)
        self.__array_interface__ = described
        self.array = array


def as_tensor(array: Array) -> torch.Tensor:
    """A tensor over the memory of a C-contiguous array of a dtype that torch has."""
    dtype = array.dtype
    if dtype in _FOREIGN:
        raw, _ = _RAW[dtype.itemsize]
        return as_tensor(array.view(raw)).view(_TO_TORCH[dtype])
    if not array.flags.writeable:
        array = np.asarray(_Alias(array))
    return torch.from_numpy(array)


def as_array(tensor: torch.Tensor) -> Array:
    """An array over the memory of a tensor on the host; of a copy where it isn't contiguous."""
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    if tensor.dtype in _FOREIGN_TORCH:
        _, raw = _RAW[tensor.element_size()]
        found: Array = tensor.view(raw).numpy().view(_TO_NUMPY[tensor.dtype])
        return found
    return np.asarray(tensor.numpy())
