"""What the CUDA backend offers: the torch backend's, on NVIDIA devices only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dioe.host_backend import resolve_options
from dioe.types import (
    Capabilities,
    Context,
    DeviceState,
    Resolution,
    Resources,
    UnsupportedError,
)
from dioe_cuda import devices
from dioe_cuda.options import rules
from dioe_torch.backend import TorchBackend
from dioe_torch.devices import TorchDevice


class CudaBackend(TorchBackend):
    """Eager torch on NVIDIA devices: streams of their own, page-locked copies, captured graphs."""

    name = "cuda"

    def found(self) -> list[TorchDevice]:
        """CUDA's devices; one that is absent, with the reason, where there is none."""
        return devices.devices()

    def capabilities(self, device: str) -> Capabilities:
        """As of torch, and captured graphs."""
        return replace(super().capabilities(device), graph_capture=True)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``dioe_cuda.options``."""
        return resolve_options(rules(), options)

    def open(self, device: str, resources: Resources) -> Context:
        """A context; raises UnsupportedError with the reason where there is no such device."""
        found = self._device(device)
        from dioe_cuda.context import CudaContext

        return CudaContext(found, resources, place=self.name)

    def _device(self, device: str) -> TorchDevice:
        found = self.found()
        for each in found:
            if each.info.id == device:
                if each.info.state is not DeviceState.PRESENT:
                    raise UnsupportedError(f"{device}: {each.info.reason}", place=self.name)
                return each
        known = ", ".join(f"{each.info.id} ({each.info.state})" for each in found)
        raise UnsupportedError(
            f"no device {device!r} here", place=self.name, fix=f"devices it sees: {known}"
        )
