"""Buffers in the memory of a torch device, and copies between it and the host."""

from __future__ import annotations

import weakref
from typing import Any, TypeGuard

import numpy as np
import torch

from dioe.host_backend import (
    OutOfReach,
    buffer_shape,
    check_alike,
    check_room,
    contiguous,
    nbytes_of,
)
from dioe.types import DONE, BackendError, Buffer, Event, InputError, TensorSpec
from dioe_torch.devices import SPEAK_DLPACK
from dioe_torch.errors import run_error
from dioe_torch.queues import Queue
from dioe_torch.tensors import as_array, as_tensor, torch_dtype


class TorchBuffer(OutOfReach):
    """A contiguous tensor in a device's memory."""

    __slots__ = ("__weakref__", "_reads", "device", "dtype", "ready", "tensor")

    def __init__(self, device: str, dtype: np.dtype[Any], tensor: torch.Tensor) -> None:
        self.device, self.dtype, self.tensor = device, dtype, tensor
        self.ready: Event = DONE
        self._reads: dict[Queue, Event] = {}

    def read_by(self, queue: Queue, event: Event) -> None:
        """A queue reads it up to an event: whoever writes on another one waits for that."""
        if event is not DONE:
            self._reads[queue] = event

    def to_write(self, queue: Queue) -> None:
        """Let what is handed to a queue from now on write it: after all that wrote or read it."""
        queue.after(self.ready)
        for reader, event in list(self._reads.items()):
            if reader is not queue:
                queue.after(event)
        self._reads.clear()
        queue.keep(self.tensor)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        return tuple(self.tensor.shape)

    @property
    def owner(self) -> object:
        """What keeps the memory alive."""
        return self.tensor

    @property
    def nbytes(self) -> int:
        """Its size."""
        return nbytes_of(self)

    def __dlpack__(self, *, stream: int | None = None) -> object:
        self.ready.wait()
        return self.tensor.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        if self.tensor.device.type not in SPEAK_DLPACK:
            raise BackendError("torch gives no tensors of this device on", place=self.device)
        found: tuple[int, int] = self.tensor.__dlpack_device__()
        return found


class DeviceMemory:
    """The memory of one context on a device that isn't the host. Thread-safe."""

    def __init__(self, device: str, queue: Queue, limit_bytes: int | None) -> None:
        self.device, self.queue = device, queue
        self._limit = limit_bytes
        self._buffers: weakref.WeakSet[TorchBuffer] = weakref.WeakSet()

    @property
    def allocated_bytes(self) -> int:
        """Size of all buffers that are alive."""
        return sum(buffer.nbytes for buffer in list(self._buffers))

    def alloc(self, spec: TensorSpec) -> TorchBuffer:
        """An uninitialised buffer; raises InputError for what no tensor can be, OutOfMemory."""
        place = f"buffer {spec.name!r}"
        shape = buffer_shape(spec)
        dtype = torch_dtype(spec.dtype)
        if dtype is None:
            raise InputError(f"no torch tensor can hold {spec.dtype}", place=place)
        nbytes = nbytes_of(spec)
        check_room(nbytes, self.allocated_bytes, self._limit, self.device)
        try:
            with self.queue.current():
                tensor = torch.empty(shape, dtype=dtype, device=self.queue.device)
        except Exception as error:
            raise run_error(error, self.device) from error
        buffer = TorchBuffer(self.device, spec.dtype, tensor)
        self._buffers.add(buffer)
        return buffer

    def holds(self, value: object) -> TypeGuard[TorchBuffer]:
        """True for a buffer of this device; raises InputError for one of another device."""
        if isinstance(value, np.ndarray):
            return False
        if isinstance(value, TorchBuffer):
            if value.tensor.device != self.queue.device:
                raise InputError(
                    f"a buffer of {value.device} can't be used on {self.device}",
                    place=self.device,
                    fix="copy it over the host with Context.copy",
                )
            return True
        if isinstance(value, Buffer) and not _addressable(value):
            raise InputError(
                f"a buffer of {value.device} can't be used on {self.device}", place=self.device
            )
        return False

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        """Copy between this memory and the host, or within it; raises InputError for buffers of
        another device or that don't match."""
        check_alike(src, dst)
        try:
            if self.holds(src):
                return self._copy_from(src, dst)
            assert self.holds(dst)
            return self._copy_in(src, dst)
        except Exception as error:
            raise run_error(error, self.device) from error

    def _copy_from(self, src: TorchBuffer, dst: Buffer) -> Event:
        queue = self.queue
        with queue.current():
            queue.after(src.ready)
            queue.keep(src.tensor)
            if self.holds(dst):
                dst.to_write(queue)
                dst.tensor.copy_(src.tensor, non_blocking=True)
                dst.ready = queue.record()
                src.read_by(queue, dst.ready)
                return dst.ready
            target = dst.numpy()
            if not target.flags.writeable:
                raise InputError("the destination is read-only", place=self.device)
            if target.flags.c_contiguous:
                as_tensor(target).copy_(src.tensor)
            else:
                np.copyto(target, as_array(src.tensor.cpu()))
            return DONE

    def _copy_in(self, src: Buffer, dst: TorchBuffer) -> Event:
        src.ready.wait()
        source = as_tensor(contiguous(src.numpy()))
        queue = self.queue
        with queue.current():
            dst.to_write(queue)
            dst.tensor.copy_(source)
            dst.ready = queue.record()
            return dst.ready


def _addressable(buffer: Buffer) -> bool:
    try:
        buffer.numpy()
    except BackendError:
        return False
    return True
