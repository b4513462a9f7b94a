"""Tensors in memory that only a worker reaches, such as that of a card, under numbers."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np

from dioe.host_backend import OutOfReach, check_alike, nbytes_of
from dioe.registry.worker.arena import Arena
from dioe.registry.worker.process import WorkerProcess
from dioe.registry.worker.values import Described, Packer
from dioe.types import DONE, Array, BackendError, Buffer, Event, InputError


class WorkerBuffer(OutOfReach):
    """A contiguous tensor on a worker's device; freed with this object."""

    __slots__ = ("__weakref__", "device", "dtype", "number", "process", "shape")

    def __init__(
        self,
        process: WorkerProcess,
        number: int,
        device: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> None:
        self.process, self.number = process, number
        self.device, self.dtype, self.shape = device, dtype, shape
        weakref.finalize(self, process.release, number).atexit = False

    @property
    def owner(self) -> object:
        """What keeps the memory alive: this object."""
        return self

    @property
    def ready(self) -> Event:
        """Has always happened: a worker answers when its device is done."""
        return DONE

    @property
    def nbytes(self) -> int:
        """Its size."""
        return nbytes_of(self)

    @property
    def described(self) -> Described:
        """How a frame names it."""
        return {"kind": "buffer", "buffer": self.number}

    def check_home(self, process: WorkerProcess, device: str) -> None:
        """Raise InputError unless it is on that device of that worker."""
        if self.process is not process or self.device != device:
            of = self.device if self.device != device else f"{self.device} in another worker"
            raise InputError(
                f"a buffer of {of} can't be used on {device}",
                place=device,
                fix="copy it with Context.copy",
            )


class Copies:
    """Copies into, out of and between buffers of workers, each done when it returns. Thread-safe.

    Arrays of the host go over memory that they share with the worker, unless they lie in it.
    """

    def __init__(self, process: WorkerProcess, limit_s: float) -> None:
        self._limit_s = limit_s
        self._process, self._arena = process, Arena(process)
        self._lock = threading.Lock()

    def copy(self, src: Buffer, dst: Buffer) -> None:
        """Copy what is in ``src`` to ``dst``, one of which is a WorkerBuffer.

        Raises InputError for buffers that don't match or that the host can't read or write, and
        what ``WorkerProcess.call`` does.
        """
        check_alike(src, dst)
        if isinstance(src, WorkerBuffer) and isinstance(dst, WorkerBuffer):
            if src.process is dst.process:
                self._ask(src.process, src.described, dst.described)
            else:
                between = np.empty(src.shape, src.dtype)
                self._out(src, between)
                self._in(between, dst)
        elif isinstance(src, WorkerBuffer):
            self._out(src, _on_host(dst, src.device))
        elif isinstance(dst, WorkerBuffer):
            src.ready.wait()
            self._in(_on_host(src, dst.device), dst)
        else:
            raise InputError("neither buffer is on a worker's device")

    def _ask(self, process: WorkerProcess, source: Described, target: Described) -> None:
        process.call("copy", {"source": source, "target": target}, limit_s=self._limit_s)

    def _out(self, src: WorkerBuffer, target: Array) -> None:
        if not target.flags.writeable:
            raise InputError("the destination is read-only", place=src.device)
        if not src.nbytes:
            return
        process = src.process
        if process.find(target) is not None:
            self._ask(process, src.described, Packer(process.find).add(target))
            return
        with self._lock:
            shared = self._shared(src)
            self._ask(process, src.described, Packer(process.find).add(shared))
            np.copyto(target, shared)

    def _in(self, source: Array, dst: WorkerBuffer) -> None:
        if not dst.nbytes:
            return
        process = dst.process
        if process.find(source) is not None:
            self._ask(process, Packer(process.find).add(source), dst.described)
            return
        with self._lock:
            shared = self._shared(dst)
            np.copyto(shared, source)
            self._ask(process, Packer(process.find).add(shared), dst.described)

    def _shared(self, buffer: WorkerBuffer) -> Array:
        """An array for the buffer's contents in memory that its worker has too."""
        process = buffer.process
        arena = self._arena if process is self._process else Arena(process)
        return arena.room(buffer.nbytes).array(0, buffer.shape, buffer.dtype)


def _on_host(buffer: Buffer, device: str) -> Array:
    try:
        return buffer.numpy()
    except BackendError as error:
        raise InputError(
            f"a buffer of {buffer.device} can't be copied to or from {device}",
            place=device,
            fix="copy it to a host buffer first",
        ) from error
