"""Buffers in a provider's own memory, and copies between it and the host."""

from __future__ import annotations

import math
import weakref
from contextlib import suppress
from typing import Any, TypeGuard

import numpy as np
import onnxruntime as ort
import psutil

from dioe.host_backend import (
    OutOfReach,
    buffer_shape,
    check_alike,
    check_room,
    contiguous,
    nbytes_of,
)
from dioe.types import (
    DONE,
    Array,
    Buffer,
    DioeError,
    Event,
    InputError,
    OutOfMemory,
    TensorSpec,
)
from dioe_onnxruntime import weights
from dioe_onnxruntime.errors import run_error
from dioe_onnxruntime.lanes import Lane
from dioe_onnxruntime.sessions import Placed

_UNBINDABLE = frozenset({"int4", "uint4", "int2", "uint2", "float4_e2m1fn"})


class DeviceBuffer(OutOfReach):
    """A tensor in a device's memory, contiguous. ``value`` is the OrtValue that owns it."""

    __slots__ = ("__weakref__", "device", "dtype", "lane", "ready", "shape", "value")

    def __init__(
        self, device: str, spec: TensorSpec, shape: tuple[int, ...], value: Any, lane: Lane
    ) -> None:
        self.device, self.dtype, self.shape = device, spec.dtype, shape
        self.value, self.lane = value, lane
        self.ready: Event = DONE

    @property
    def owner(self) -> object:
        """What keeps the memory alive."""
        return self.value

    @property
    def nbytes(self) -> int:
        """Its size."""
        return nbytes_of(self)


class DeviceMemory:
    """The memory of one device. Thread-safe."""

    def __init__(self, placed: Placed, lane: Lane, limit_bytes: int | None) -> None:
        self.placed, self.lane = placed, lane
        self._limit = limit_bytes
        self._buffers: weakref.WeakSet[DeviceBuffer] = weakref.WeakSet()

    @property
    def allocated_bytes(self) -> int:
        """Size of all buffers that are alive."""
        return sum(buffer.nbytes for buffer in list(self._buffers))

    def alloc(self, spec: TensorSpec) -> DeviceBuffer:
        """An uninitialised buffer; raises InputError for what no tensor there can be, OutOfMemory
        above the limit of the context, or of the host whose memory a software device uses."""
        place = f"buffer {spec.name!r}"
        shape = buffer_shape(spec)
        if spec.dtype.hasobject or spec.dtype.name in _UNBINDABLE:
            raise InputError(f"no device buffer can hold {spec.dtype}", place=place)
        nbytes = nbytes_of(spec)
        check_room(nbytes, self.allocated_bytes, self._limit, self.placed.info.id)
        # WebGPU takes any size and fails at its first use.
        if self.placed.info.shares and nbytes > psutil.virtual_memory().available:
            raise OutOfMemory(f"the host has no {nbytes} bytes left", place=self.placed.info.id)
        try:
            with self.lane.exclusive():
                value = self._new(list(shape), _element_type(spec.dtype))
        except Exception as error:
            raise run_error(error, self.placed.info.id) from error
        buffer = DeviceBuffer(self.placed.info.id, spec, shape, value, self.lane)
        self._buffers.add(buffer)
        return buffer

    def _new(self, shape: list[int], element_type: int) -> Any:
        make = ort.OrtValue.ortvalue_from_shape_and_type
        if self.placed.ep_device is not None:
            info = self.placed.ep_device.memory_info(ort.OrtDeviceMemoryType.DEFAULT)
            return make(shape, element_type, memory_info=info)
        return make(shape, element_type, self.placed.provider.memory, self.placed.index)

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        """Copy between this memory and the host, or within it; raises InputError for buffers of
        another device or that don't match, and what the device fails with."""
        check_alike(src, dst)
        if self.holds(dst):
            return self._copy_in(src, dst)
        if self.holds(src):
            return self._copy_out(src, dst.numpy())
        raise InputError("neither buffer is of this device", place=self.placed.info.id)

    def holds(self, value: object) -> TypeGuard[DeviceBuffer]:
        """True for a buffer of this memory; raises InputError for one of another device's."""
        if not isinstance(value, DeviceBuffer):
            return False
        if value.lane is not self.lane:
            raise InputError(
                f"a buffer of {value.device} can't be used on {self.placed.info.id}",
                fix="copy it to a host buffer first",
            )
        return True

    def let_go_of_weights(self) -> None:
        """Give back what weights of closed sessions still hold, where that is worth its time."""
        with suppress(DioeError):  # a device that is lost says so as it is used again
            weights.let_go(self.lane)

    def _copy_in(self, src: Buffer, dst: DeviceBuffer) -> Event:
        if self.holds(src):
            value = src.value  # of the same queue, so behind what fills it
        else:
            src.ready.wait()
            value = host_value(contiguous(src.numpy()))
        if src is dst or not math.prod(src.shape):
            return DONE
        try:
            with self.lane.exclusive():
                if self.placed.ep_device is not None:
                    ort.copy_tensors([value], [dst.value])
                else:
                    dst.value.update_inplace(value)
        except Exception as error:
            raise run_error(error, self.placed.info.id) from error
        dst.ready = self.lane.submitted()
        return dst.ready

    def _copy_out(self, src: DeviceBuffer, target: Array) -> Event:
        if not math.prod(src.shape):
            return DONE
        # First without Python's lock, which the copy itself holds while it waits.
        src.ready.wait()
        direct = target.flags.c_contiguous and target.flags.writeable
        array = target if direct else np.empty(target.shape, target.dtype)
        try:
            with self.lane.exclusive():
                if self.placed.ep_device is not None:
                    ort.copy_tensors([src.value], [host_value(array)])
                else:
                    array[...] = src.value.numpy()
        except Exception as error:
            raise run_error(error, self.placed.info.id) from error
        if array is not target:
            np.copyto(target, array)
        return DONE


def _element_type(dtype: np.dtype[Any]) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(dtype))


def host_value(array: Array) -> Any:
    """An OrtValue over a contiguous array's own memory."""
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _element_type(array.dtype))
