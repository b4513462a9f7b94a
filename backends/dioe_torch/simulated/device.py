"""``torch.mlu`` of the simulated device: the functions that programs expect of torch.DEVICE."""

from __future__ import annotations

import atexit
import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch.utils import backend_registration

from .build import BuildError, library

MAX_DEVICES = 8  # kMaxDevices in streams.h
DeviceLike = torch.device | str | int | None
Purpose = Literal["planned", "fallback"]
Way = Literal["h2d", "d2h", "d2d", "p2p"]
PURPOSES: tuple[Purpose, ...] = ("planned", "fallback")  # the order of copies.h
WAYS: tuple[Way, ...] = ("h2d", "d2h", "d2d", "p2p")


@dataclass(frozen=True, slots=True)
class Moved:
    """How many copies there were, and how many bytes they moved."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DeviceProperties:
    """What a device says of itself; ``total_memory`` in bytes."""

    name: str
    total_memory: int
    major: int
    minor: int


class SimulatedDevices(ModuleType):
    """The module ``torch.mlu``; a device is an index, "mlu:1", a torch.device or None (current).

    ``copies``, ``reset_copies`` and ``hold`` are the simulation's own; the rest is as in
    ``torch.cuda``. Memory is not cached, so what is reserved is what is allocated. A device has
    31 streams beside the default one; further ones share them in turn.
    """

    Stream = torch.Stream
    Event = torch.Event
    known_as = "simulated"  # what DIOE puts beside every time of these devices

    def __init__(self, name: str, native: ctypes.CDLL, devices: int, memory_bytes: int) -> None:
        super().__init__(f"torch.{name}", "Simulated devices (dioe_torch.simulated).")
        self._native = native
        self._devices = devices
        self._memory_bytes = memory_bytes

    # Devices

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return self._devices

    def current_device(self) -> int:
        return torch.accelerator.current_device_index()

    def set_device(self, device: DeviceLike) -> None:
        torch.accelerator.set_device_index(device)

    @contextmanager
    def device(self, device: DeviceLike) -> Iterator[None]:
        """Make a device the current one for a while."""
        before = self.current_device()
        self.set_device(device)
        try:
            yield
        finally:
            self.set_device(before)

    def get_device_name(self, device: DeviceLike = None) -> str:
        return f"simulated {_name().upper()}"

    def get_device_capability(self, device: DeviceLike = None) -> tuple[int, int]:
        return (5, 0)  # torch_mlu's first with bf16

    def get_device_properties(self, device: DeviceLike = None) -> DeviceProperties:
        return DeviceProperties(
            self.get_device_name(device),
            self._memory_bytes,
            *self.get_device_capability(device),
        )

    def is_bf16_supported(self) -> bool:
        return True

    def synchronize(self, device: DeviceLike = None) -> None:
        """Wait for all streams of a device."""
        torch.accelerator.synchronize(device)

    # Memory

    def mem_get_info(self, device: DeviceLike = None) -> tuple[int, int]:
        """Bytes that are free, and in all."""
        return torch.accelerator.get_memory_info(device)

    def memory_allocated(self, device: DeviceLike = None) -> int:
        return torch.accelerator.memory_allocated(device)

    def max_memory_allocated(self, device: DeviceLike = None) -> int:
        return torch.accelerator.max_memory_allocated(device)

    def memory_reserved(self, device: DeviceLike = None) -> int:
        return torch.accelerator.memory_reserved(device)

    def memory_stats(self, device: DeviceLike = None) -> dict[str, Any]:
        return torch.accelerator.memory_stats(device)

    def reset_peak_memory_stats(self, device: DeviceLike = None) -> None:
        torch.accelerator.reset_peak_memory_stats(device)

    def empty_cache(self) -> None:
        torch.accelerator.empty_cache()

    # Streams

    def current_stream(self, device: DeviceLike = None) -> torch.Stream:
        return torch.accelerator.current_stream(device)

    def default_stream(self, device: DeviceLike = None) -> torch.Stream:
        current = self.current_stream(device)
        return torch.Stream(
            stream_id=0, device_index=current.device_index, device_type=current.device_type
        )

    def set_stream(self, stream: torch.Stream) -> None:
        torch.accelerator.set_stream(stream)

    @contextmanager
    def stream(self, stream: torch.Stream | None) -> Iterator[None]:
        """Make a stream, and its device, the current one for a while; None changes nothing."""
        if stream is None:
            yield
            return
        device, before = self.current_device(), self.current_stream(stream.device)
        self.set_stream(stream)
        try:
            yield
        finally:
            self.set_stream(before)
            self.set_device(device)

    # Random numbers

    def manual_seed(self, seed: int) -> None:
        self._seed(self.current_device(), seed)

    def manual_seed_all(self, seed: int) -> None:
        for index in range(self.device_count()):
            self._seed(index, seed)

    def _seed(self, index: int, seed: int) -> None:
        self._native.simulated_seed(ctypes.c_int(index), ctypes.c_uint64(seed))

    def _is_in_bad_fork(self) -> bool:
        return bool(self._native.simulated_forked())

    # The simulation's own

    def copies(self) -> dict[Purpose, dict[Way, Moved]]:
        """What has been copied since ``reset_copies()``.

        "planned" is what the program asked for, "fallback" what operators needed that the host
        computes. Ways: from host to device, back, within a device, from one device to another.
        """
        numbers = (ctypes.c_int64 * (2 * len(PURPOSES) * len(WAYS)))()
        self._native.simulated_copies(numbers)
        pairs = iter(zip(numbers[::2], numbers[1::2], strict=True))
        return {purpose: {way: Moved(*next(pairs)) for way in WAYS} for purpose in PURPOSES}

    def reset_copies(self) -> None:
        self._native.simulated_reset_copies()

    @contextmanager
    def hold(self, stream: torch.Stream) -> Iterator[None]:
        """Keep back all that a stream has not started, for as long as the context lasts.

        An operator on a tensor of a held stream, as any wait for it, blocks until the end of
        the hold, so it has to end in another thread.
        """
        where = (ctypes.c_int(stream.device_index), ctypes.c_int64(stream.stream_id))
        self._native.simulated_hold(*where)
        try:
            yield
        finally:
            self._native.simulated_release(*where)


_lock = threading.Lock()
_loaded: tuple[tuple[str, int, int], SimulatedDevices] | None = None


def load(
    name: str = "mlu", devices: int = 2, memory_bytes: int = 1 << 30, cache: Path | None = None
) -> SimulatedDevices:
    """Build the extension if need be (about 10 s), and make ``torch.NAME`` of it.

    devices: how many there are, at most 8. memory_bytes: of each. cache: where the built file is
    kept, see ``build.library``. torch has room for one such backend in a process: a second call
    returns the same module. Raises BuildError where it can't be built (ask
    ``reason_unavailable()`` before) or where the process has another such backend, or this one
    with another name, number of devices or memory.
    """
    global _loaded  # noqa: PLW0603 - as once in a process as the name in torch
    wanted = (name, devices, memory_bytes)
    with _lock:
        if _loaded is None:
            _loaded = (wanted, _load(*wanted, cache))
        elif _loaded[0] != wanted:
            raise BuildError(
                f"this process has simulated devices already: {_loaded[0]}, not {wanted}"
            )
        return _loaded[1]


def _load(name: str, devices: int, memory_bytes: int, cache: Path | None) -> SimulatedDevices:
    if not 1 <= devices <= MAX_DEVICES:
        raise ValueError(f"1 to {MAX_DEVICES} simulated devices, not {devices}")
    if _name() != "privateuseone":
        raise BuildError(f"this process has another backend in torch's PrivateUse1: {_name()}")
    native = ctypes.CDLL(str(library(cache)))
    native.simulated_forked.restype = ctypes.c_bool
    native.simulated_open(ctypes.c_int(devices), ctypes.c_int64(memory_bytes))
    backend_registration.rename_privateuse1_backend(name)
    module = SimulatedDevices(name, native, devices, memory_bytes)
    torch._register_device_module(name, module)  # type: ignore[no-untyped-call]
    backend_registration.generate_methods_for_privateuse1_backend(for_storage=True)
    # Threads that run on while the interpreter ends would crash it.
    atexit.register(native.simulated_stop)
    return module


def _name() -> str:
    return torch._C._get_privateuse1_backend_name()
