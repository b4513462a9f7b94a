"""A context on a modelled device: what is compiled there, and memory of it."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dioe.host_backend import check_options, static_shape
from dioe.host_backend.context import check_resources
from dioe.types import (
    DONE,
    BackendError,
    Buffer,
    Event,
    Executable,
    Feeds,
    InputError,
    Precisions,
    Resources,
    Sample,
    StageModel,
    TensorSpec,
    UnsupportedError,
)
from dioe_null.backend import OPTIONS
from dioe_null.descriptors import PLACE
from dioe_null.device import Device, Memory, NullBuffer, ready_ms
from dioe_null.executable import NullExecutable
from dioe_null.roofline import Roofline
from dioe_null.shapes import Shapes
from dioe_null.support import refusals


class NullContext:
    """One user's share of a modelled device: its lanes and memory are those of all users.

    Thread-safe. Of ``resources`` only ``memory_limit_bytes`` has an effect. Raises InputError for
    resources that can't be.
    """

    def __init__(self, device: Device, resources: Resources) -> None:
        check_resources(resources)
        self.resources = resources
        self._device = device
        limit = resources.memory_limit_bytes
        self._memory = (
            device.memory
            if limit is None
            else Memory(f"{device.memory.place}, memory_limit_bytes", limit, device.memory)
        )
        self._owned: weakref.WeakSet[NullExecutable] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False
        self._sampled = (device.clock.now_ms(), device.lane.busy_ms)

    @property
    def device(self) -> str:
        """The id that the backend gives the device."""
        return self._device.model.id

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """Cost ``model``, and take the memory of its weights. Options: ``profile``.

        Raises UnsupportedError for what ``query`` refuses, OutOfMemory.
        """
        self._check_open()
        check_options(PLACE, OPTIONS, options)
        described = self._device.model
        for precision in precisions.used:
            if precision not in described.peak_tflops:
                raise UnsupportedError(f"{described.id} has no {precision}", place=PLACE)
        refused = refusals(model, dynamic_shapes=described.dynamic_shapes)
        if refused:
            op, reason = next(iter(refused.items()))
            raise UnsupportedError(f"op {op!r}: {reason}", place=f"{PLACE}, {described.id}")
        executable = NullExecutable(
            self._device,
            self._memory,
            model,
            Shapes(model),
            Roofline(described, model.ir, model.op_ids, precisions),
            profile=bool(options.get("profile")),
        )
        with self._lock:
            if not self._closed:
                self._owned.add(executable)
                return executable
        executable.close()
        raise self._closed_error()

    def deserialize(self, blob: bytes) -> Executable:
        """Always raises UnsupportedError: there is no compiled form."""
        raise UnsupportedError("a modelled device has no compiled form to load", place=PLACE)

    def alloc(self, spec: TensorSpec) -> Buffer:
        """A buffer in the device's memory, for a tensor of static shape.

        Its memory is given back when nobody holds it. Raises InputError, OutOfMemory.
        """
        self._check_open()
        if not spec.static or spec.kind != "tensor" or spec.dtype.hasobject:
            raise InputError(
                f"shape {spec.shape} of {spec.dtype} is not all numbers",
                place=f"buffer {spec.name!r}",
            )
        return NullBuffer(self._device, static_shape(spec), spec.dtype, self._memory)

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        """Copy between this device's memory and the host's, another modelled device's, or its own.

        Goes over the link of each device it leaves or enters, and through the host between two;
        between host buffers it takes no time. The event tells when ``dst`` is valid. Raises
        InputError for another dtype or shape, BackendError for memory of neither.
        """
        self._check_open()
        if src.dtype != dst.dtype or src.shape != dst.shape:
            raise InputError(
                f"can't copy {src.dtype}{list(src.shape)} to {dst.dtype}{list(dst.shape)}"
            )
        nbytes = math.prod(src.shape) * src.dtype.itemsize
        begin_ms = max(ready_ms(src.ready), ready_ms(dst.ready))
        source = src.storage if isinstance(src, NullBuffer) else src.numpy()
        target = dst.storage if isinstance(dst, NullBuffer) else dst.numpy()
        done = _transfer(src, dst, nbytes, begin_ms)
        np.copyto(target, source)  # after the time is fixed: it is no part of what is modelled
        if isinstance(dst, NullBuffer):
            dst.ready = done
        return done

    def memory_info(self) -> Mapping[str, int]:
        """Bytes of the device's memory: total, and what this context may still take."""
        left = [m.total_bytes - m.used_bytes for m in (self._memory, self._device.memory)]
        return {
            "total_bytes": self._device.memory.total_bytes,
            "available_bytes": min(left),
            "used_bytes": self._device.memory.used_bytes,
        }

    def utilization(self) -> Sample | None:
        """Modelled busy time of the lane since the last call (or since opening), in percent."""
        now = (self._device.clock.now_ms(), self._device.lane.busy_ms)
        with self._lock:
            before, self._sampled = self._sampled, now
        if now[0] <= before[0]:
            return None
        share = (now[1] - before[1]) / (now[0] - before[0])
        return Sample(100.0 * min(1.0, max(0.0, share)), "percent", "modelled")

    def power(self) -> Sample | None:
        """Always None: nothing is executed."""
        return None

    def close(self) -> None:
        """Close everything compiled in this context. May be called again."""
        with self._lock:
            self._closed = True
            owned = list(self._owned)
            self._owned.clear()
        for executable in owned:
            executable.close()

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> BackendError:
        return BackendError("the context is closed", place=f"{PLACE}, {self.device}")


def _transfer(src: Buffer, dst: Buffer, nbytes: int, begin_ms: float) -> Event:
    """Queue a copy of that size where it takes time."""
    if not isinstance(dst, NullBuffer):
        return src.home.fetch(nbytes, begin_ms) if isinstance(src, NullBuffer) else DONE
    if not isinstance(src, NullBuffer):
        return dst.home.send(nbytes, begin_ms)
    if src.home is dst.home:
        return dst.home.lane.submit(2 * nbytes / dst.home.model.bytes_per_ms, begin_ms)
    return dst.home.send(nbytes, src.home.fetch(nbytes, begin_ms).at_ms)
