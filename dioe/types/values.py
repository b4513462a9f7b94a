"""Tensors and other values: what describes them, and the memory they are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Dim: TypeAlias = int | str | None
"""A dimension: a number, a symbol, or None where the model says nothing."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape (symbols allowed) of a model input or output.

    ``dtype`` is numpy's, with ml_dtypes for bf16, fp8 and int4; ``object`` for strings.
    ``kind`` tells sequences, optionals and maps apart, whose elements ``dtype`` describes.
    ``shape`` is None where the rank is unknown.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...] | None
    kind: str = "tensor"  # tensor | sequence | optional | map

    @property
    def static(self) -> bool:
        """True if every dimension is a number."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)


class Event(Protocol):
    """Something that happens on a device; ``wait`` returns when it has, or raises its error."""

    def wait(self, timeout_ms: float | None = None) -> None: ...
    def done(self) -> bool: ...


class _Done:
    """The event of work that was finished before it was handed out."""

    def wait(self, timeout_ms: float | None = None) -> None:
        return None

    def done(self) -> bool:
        return True


DONE: Event = _Done()


@runtime_checkable
class Buffer(Protocol):
    """A tensor in a device's memory. ``strides`` in bytes, None where contiguous.

    ``owner`` keeps the memory alive; ``ready`` happens when the contents are valid. Buffers that
    support DLPack also have ``__dlpack__`` and ``__dlpack_device__``.
    """

    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...] | None: ...
    @property
    def owner(self) -> object: ...
    @property
    def ready(self) -> Event: ...
    def numpy(self) -> Array:
        """A view of host memory; raises BackendError for memory the host can't address."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class HostBuffer:
    """A Buffer in host memory: a numpy array with a device name. Shared without copies."""

    array: Array
    device: str = "cpu"
    ready: Event = DONE

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.array.shape
        return shape

    @property
    def strides(self) -> tuple[int, ...] | None:
        return None if self.array.flags.c_contiguous else self.array.strides

    @property
    def owner(self) -> object:
        return self.array

    def numpy(self) -> Array:
        return self.array

    def __dlpack__(self, *, stream: None = None) -> object:
        return self.array.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


Value: TypeAlias = "Array | Buffer | list[Any] | dict[Any, Any] | None"
"""A tensor (numpy array on the host, of ``object`` for strings; Buffer elsewhere), a sequence, a
map, or None (an empty ONNX optional)."""

Feeds: TypeAlias = "Mapping[str, Value]"
