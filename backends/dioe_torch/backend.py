"""What torch offers on its devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dioe.host_backend import check_host, resolve_options
from dioe.types import (
    ABI_VERSION,
    Capabilities,
    Context,
    DeviceInfo,
    DeviceState,
    Precision,
    Resolution,
    Resources,
    StageModel,
    Support,
    UnsupportedError,
)
from dioe_torch import devices
from dioe_torch.devices import SPEAK_DLPACK, TorchDevice, computed
from dioe_torch.options import rules


class TorchBackend:
    """Eager torch: op by op, on every device that torch has."""

    name = "torch"
    abi_version = ABI_VERSION
    simulated = False
    inductor = False

    @property
    def version(self) -> str:
        """Version of torch; empty where it isn't installed."""
        return devices.version()

    def probe(self) -> Sequence[DeviceInfo]:
        """The host and every accelerator torch can use; imports torch only if there may be one."""
        return [found.info for found in self.found()]

    def found(self) -> list[TorchDevice]:
        """The devices with torch's names for them."""
        return devices.devices()

    def capabilities(self, device: str) -> Capabilities:
        """fp32, as written, bf16 and fp16 where the device has kernels for them, all of them mixed
        in one executable."""
        native = self._device(device).native
        on_host = native == "cpu"
        return Capabilities(
            computes=computed(native),
            stores=computed(native),
            mixes_precisions=True,
            dynamic_shapes=not self.inductor,
            asynchronous=not on_host,
            dlpack_in=on_host,
            dlpack_out=native.partition(":")[0] in SPEAK_DLPACK,
        )

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``dioe_torch.options``."""
        return resolve_options(rules(inductor=self.inductor), options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """By the table of lowerings, op by op."""
        from dioe_torch.support import support

        if precision not in computed(self._device(device).native):
            reason = f"torch doesn't compute {precision} on {device}"
            return Support(frozenset(), dict.fromkeys(model.op_ids, reason))
        return support(model)

    def open(self, device: str, resources: Resources) -> Context:
        """A context; raises UnsupportedError with the reason where there is no such device."""
        from dioe_torch.context import TorchContext

        return TorchContext(self._device(device), resources, place=self.name)

    def _device(self, device: str) -> TorchDevice:
        found = self.found()
        if device == "cpu" or device.startswith("cpu:"):
            check_host(device, self.name)
            host = found[0]
            if host.info.state is not DeviceState.PRESENT:
                raise UnsupportedError(host.info.reason, place=self.name)
            return TorchDevice(host.info, "cpu")
        for each in found:
            if each.info.id == device:
                return each
        known = ", ".join(each.info.id for each in found)
        raise UnsupportedError(f"no device {device!r} here", place=self.name, fix=f"use {known}")
