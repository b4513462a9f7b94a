"""Load, power and memory of an NVIDIA device by NVML, where nvidia-ml-py is installed."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

from dioe.types import Sample


class Counters:
    """The counters of one device. What can't be read is None: no package, no right, no counter."""

    def __init__(self, uuid: str) -> None:
        """``uuid`` is that of the device's DeviceInfo: ``pci:DOMAIN:BUS:DEVICE.0``, or torch's."""
        self._uuid = uuid
        self._lock = threading.Lock()
        self._opened = False
        self._nvml: Any = None
        self._handle: Any = None
        self.reason = ""
        """Why there are no counters; empty if there are."""

    def utilization(self) -> Sample | None:
        """Share of the last moment in which a kernel ran, in percent."""
        rates = self._read(lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle))
        return None if rates is None else Sample(float(rates.gpu), "percent", "nvml")

    def power(self) -> Sample | None:
        """What the board draws now, in watts; that of everybody who uses it."""
        milliwatts = self._read(lambda nvml, handle: nvml.nvmlDeviceGetPowerUsage(handle))
        return None if milliwatts is None else Sample(milliwatts / 1e3, "watt", "nvml")

    def used_bytes(self) -> int | None:
        """Memory of the device that is in use, by every process."""
        memory = self._read(lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle))
        return None if memory is None else int(memory.used)

    def _read(self, counter: Callable[[Any, Any], Any]) -> Any:
        with self._lock:
            if not self._opened:
                self._open()
                self._opened = True
            if self._handle is None:
                return None
            try:
                return counter(self._nvml, self._handle)
            except self._nvml.NVMLError as error:
                self.reason = str(error)
                return None

    def _open(self) -> None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            self.reason = "nvidia-ml-py isn't installed (pip install 'dioe[cuda]')"
            return
        kind, _, address = self._uuid.partition(":")
        try:
            nvml.nvmlInit()
            if kind == "pci":
                self._handle = nvml.nvmlDeviceGetHandleByPciBusId(address)
            else:
                name = self._uuid if self._uuid.startswith("GPU-") else f"GPU-{self._uuid}"
                self._handle = nvml.nvmlDeviceGetHandleByUUID(name)
        except nvml.NVMLError as error:
            self.reason = str(error)
        self._nvml = nvml
