"""What buffers in a device's own memory share, and what is checked before there is one."""

from __future__ import annotations

import math

from dioe.types import Array, BackendError, Buffer, InputError, OutOfMemory, TensorSpec


class OutOfReach:
    """Part of a Buffer: a contiguous tensor in memory that the host can't address."""

    __slots__ = ()

    @property
    def strides(self) -> tuple[int, ...] | None:
        """None: contiguous."""
        return None

    def numpy(self) -> Array:
        """Always raises BackendError: the host can't address it."""
        raise BackendError(
            "the host can't address this memory",
            place=str(getattr(self, "device", "")),
            fix="copy it to a host buffer with Context.copy",
        )


def nbytes_of(buffer: Buffer | TensorSpec) -> int:
    """Bytes of a contiguous tensor whose shape is all numbers."""
    shape = buffer_shape(buffer) if isinstance(buffer, TensorSpec) else buffer.shape
    return math.prod(shape) * buffer.dtype.itemsize


def buffer_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of a buffer to be allocated; raises InputError if it isn't all numbers."""
    if not spec.static or spec.shape is None:
        raise InputError(f"shape {spec.shape} is not all numbers", place=f"buffer {spec.name!r}")
    return tuple(d for d in spec.shape if isinstance(d, int))


def check_room(nbytes: int, used: int, limit: int | None, place: str) -> None:
    """Raise OutOfMemory if so many bytes more than are in use pass a limit."""
    if limit is not None and used + nbytes > limit:
        raise OutOfMemory(
            f"{nbytes} bytes more than the {used} in use pass the limit of {limit}", place=place
        )


def check_alike(src: Buffer, dst: Buffer) -> None:
    """Raise InputError unless one buffer can be copied to the other."""
    if src.dtype != dst.dtype or src.shape != dst.shape:
        raise InputError(f"can't copy {src.dtype}{list(src.shape)} to {dst.dtype}{list(dst.shape)}")
