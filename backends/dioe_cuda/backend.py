"""What the CUDA backend offers: the torch backend's, on NVIDIA devices only."""

from __future__ import annotations

from dioe.types import Context, DeviceState, Resources, UnsupportedError
from dioe_cuda import devices
from dioe_torch.backend import TorchBackend
from dioe_torch.devices import TorchDevice


class CudaBackend(TorchBackend):
    """Eager torch on NVIDIA devices, each context on a stream of its own."""

    name = "cuda"

    def found(self) -> list[TorchDevice]:
        """CUDA's devices; one that is absent, with the reason, where there is none."""
        return devices.devices()

    def open(self, device: str, resources: Resources) -> Context:
        """A context; raises UnsupportedError with the reason where there is no such device."""
        found = self._device(device)
        from dioe_torch.context import TorchContext

        return TorchContext(found, resources, place=self.name, own_stream=True)

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
