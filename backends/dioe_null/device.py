"""The state of a modelled device: its lanes, its memory, and buffers in that memory."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.types import DONE, Array, BackendError, Event, OutOfMemory
from dioe_null.clock import Clock, TimedEvent
from dioe_null.descriptors import PLACE, DeviceModel


class Lane:
    """An in-order queue: each piece of work begins when the one before it ends. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at_ms = 0.0
        self._busy_ms = 0.0

    def submit(self, duration_ms: float, not_before_ms: float = 0.0) -> TimedEvent:
        """Queue work that may begin at ``not_before_ms``; the event of its end."""
        with self._lock:
            start_ms = max(self._clock.now_ms(), self._free_at_ms, not_before_ms)
            self._free_at_ms = start_ms + duration_ms
            self._busy_ms += duration_ms
            return TimedEvent(self._clock, self._free_at_ms)

    @property
    def busy_ms(self) -> float:
        """The time of all work so far, without what is queued for later."""
        with self._lock:
            return self._busy_ms - max(0.0, self._free_at_ms - self._clock.now_ms())


class Memory:
    """Bytes that may be reserved, within those of a larger memory where there is one.

    Thread-safe; ``release`` may be called by the garbage collector.
    """

    def __init__(self, place: str, total_bytes: int, within: Memory | None = None) -> None:
        self.place, self.total_bytes = place, total_bytes
        self._within = within
        self._used_bytes = 0
        self._lock = threading.RLock()  # a reservation may be collected while one is made

    @property
    def used_bytes(self) -> int:
        """What is reserved now."""
        return self._used_bytes

    def reserve(self, nbytes: int, what: str) -> Reservation:
        """Take ``nbytes``; raises OutOfMemory with the figures if they aren't there."""
        self._take(nbytes, what)
        return Reservation(self, nbytes)

    def check(self, nbytes: int, what: str) -> None:
        """Raise OutOfMemory for more than there is of all."""
        if nbytes > self.total_bytes:
            raise OutOfMemory(
                f"{nbytes} bytes are needed for {what}, and there are {self.total_bytes}",
                place=self.place,
                fix="use smaller inputs, or another device",
            )
        if self._within is not None:
            self._within.check(nbytes, what)

    def _take(self, nbytes: int, what: str) -> None:
        with self._lock:
            if self._used_bytes + nbytes > self.total_bytes:
                raise OutOfMemory(
                    f"{nbytes} bytes are needed for {what}, and {self._used_bytes} of "
                    f"{self.total_bytes} bytes are in use",
                    place=self.place,
                    fix="close what isn't needed, use smaller inputs, or another device",
                )
            if self._within is not None:
                self._within._take(nbytes, what)
            self._used_bytes += nbytes

    def _give_back(self, nbytes: int) -> None:
        with self._lock:
            self._used_bytes -= nbytes
        if self._within is not None:
            self._within._give_back(nbytes)


class Reservation:
    """Bytes of a memory, given back by ``release`` or when nobody holds this any more."""

    def __init__(self, memory: Memory, nbytes: int) -> None:
        self.nbytes = nbytes
        self.release = weakref.finalize(self, memory._give_back, nbytes)
        self.release.atexit = False


@dataclass(frozen=True, slots=True)
class Device:
    """A modelled device while it is in use: one lane for work, and one for each way of the link."""

    model: DeviceModel
    clock: Clock
    lane: Lane
    to_device: Lane
    to_host: Lane
    memory: Memory

    @classmethod
    def of(cls, model: DeviceModel, clock: Clock) -> Device:
        """An idle device with empty memory."""
        memory = Memory(f"{PLACE}, {model.id}", model.memory_bytes)
        return cls(model, clock, Lane(clock), Lane(clock), Lane(clock), memory)

    def send(self, nbytes: int, not_before_ms: float = 0.0) -> TimedEvent:
        """Move bytes from the host to the device."""
        return self.to_device.submit(self.model.link.transfer_ms(nbytes), not_before_ms)

    def fetch(self, nbytes: int, not_before_ms: float = 0.0) -> TimedEvent:
        """Move bytes from the device to the host."""
        return self.to_host.submit(self.model.link.transfer_ms(nbytes), not_before_ms)


class NullBuffer:
    """A tensor in a modelled device's memory, which the host can't read but by a copy.

    ``storage`` stands for that memory: for the backend's own eyes.
    """

    def __init__(
        self, device: Device, shape: tuple[int, ...], dtype: np.dtype[Any], memory: Memory
    ) -> None:
        """Raises OutOfMemory."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._reservation = memory.reserve(nbytes, f"a buffer of {dtype}{list(shape)}")
        self.home = device
        self.storage: Array = np.zeros(shape, dtype)
        self.ready: Event = DONE

    @property
    def device(self) -> str:
        """The id that the backend gives the device."""
        return self.home.model.id

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""
        return self.storage.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        shape: tuple[int, ...] = self.storage.shape
        return shape

    @property
    def strides(self) -> tuple[int, ...] | None:
        """None: contiguous."""
        return None

    @property
    def owner(self) -> object:
        """What keeps the memory alive."""
        return self._reservation

    def numpy(self) -> Array:
        """Always raises BackendError: the host can't address this memory."""
        raise BackendError(
            f"the memory of {self.device} can't be read by the host",
            place=PLACE,
            fix="copy the buffer to one in host memory (Context.copy)",
        )


def ready_ms(event: Event) -> float:
    """The time of an event of ours; another's is waited for, and is over then."""
    if isinstance(event, TimedEvent):
        return event.at_ms
    event.wait()
    return 0.0
