"""OpenVINO's devices as DIOE's: ids by kind and index, what tells them apart, what they compute.

Everything is read from properties of a Core, and only of those that a device says it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dioe.host_backend import host_device
from dioe.types import DeviceInfo, Precision

_KINDS = {"CPU": "cpu", "GPU": "gpu", "NPU": "npu"}
_PRECISIONS = {
    "FP32": Precision.FP32,
    "FP16": Precision.FP16,
    "BF16": Precision.BF16,
    "INT8": Precision.INT8,
}
_MEMORY = ("GPU_DEVICE_TOTAL_MEM_SIZE", "NPU_DEVICE_TOTAL_MEM_SIZE")
_QUANTISES = "DYNAMIC_QUANTIZATION_GROUP_SIZE"


class CoreLike(Protocol):
    """What is asked of ``openvino.Core`` here."""

    @property
    def available_devices(self) -> list[str]: ...
    def get_property(self, device_name: str, property: str) -> Any: ...  # noqa: A002


@dataclass(frozen=True, slots=True)
class Device:
    """One device: OpenVINO's name of it (``GPU.1``), DIOE's view, and what it can do.

    ``keys`` are the properties that it has; ``exports`` tells whether what is compiled for it can
    be saved and loaded.
    """

    native: str
    info: DeviceInfo
    computes: frozenset[Precision]
    keys: frozenset[str] = field(default_factory=frozenset)
    exports: bool = True

    @property
    def host(self) -> bool:
        """True for the CPU, whose plugin has settings and marks that no other has."""
        return self.info.kind == "cpu"

    def known(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that the device has."""
        return {key: value for key, value in config.items() if key in self.keys}


def find(core: CoreLike) -> dict[str, Device]:
    """The devices of OpenVINO's list that are of a kind DIOE knows, by DIOE's id.

    Virtual ones (AUTO, HETERO, BATCH) aren't in that list. Their order is OpenVINO's.
    """
    found: dict[str, Device] = {}
    counts: dict[str, int] = {}
    for native in core.available_devices:
        kind = _KINDS.get(native.partition(".")[0])
        if kind is None:
            continue
        index = counts[kind] = counts.get(kind, -1) + 1
        ident = kind if kind == "cpu" else f"{kind}:{index}"
        found[ident] = _device(core, native, ident, kind)
    return found


def _device(core: CoreLike, native: str, ident: str, kind: str) -> Device:
    keys = frozenset(core.get_property(native, "SUPPORTED_PROPERTIES"))

    def ask(key: str) -> Any:
        return core.get_property(native, key) if key in keys else None

    natives = tuple(ask("OPTIMIZATION_CAPABILITIES") or ())
    computes = {_PRECISIONS[name] for name in natives if name in _PRECISIONS}
    if kind == "cpu":
        # Its FP16 is stored, not computed in; without BF16 in hardware it doesn't name that.
        computes = (computes | {Precision.FP32}) - {Precision.FP16}
    if _QUANTISES not in keys:  # int8 as written is fp32's; this is of activations, made on the way
        computes.discard(Precision.INT8)
    info = host_device()
    if kind != "cpu":
        info = DeviceInfo(
            ident,
            kind,
            str(ask("FULL_DEVICE_NAME") or native),
            uuid=_identity(ask("DEVICE_PCI_INFO"), ask("DEVICE_UUID")),
            memory_bytes=next((int(ask(key)) for key in _MEMORY if key in keys), None),
            shares="cpu" if _integrated(ask("DEVICE_TYPE")) else None,
            details={"openvino": native},
        )
    return Device(native, info, frozenset(computes), keys, "EXPORT_IMPORT" in natives)


def _identity(pci: Any, uuid: Any) -> str:
    """The PCI address as Linux writes it, which other backends know too; else OpenVINO's UUID."""
    if pci is not None:
        try:
            domain, bus, device, function = (
                int(getattr(pci, part)) for part in ("domain", "bus", "device", "function")
            )
        except (AttributeError, TypeError, ValueError):  # bound otherwise in this release
            pass
        else:
            return f"pci:{domain:04x}:{bus:02x}:{device:02x}.{function:x}"
    text = str(uuid or "").strip().lower()
    return f"uuid:{text}" if text.strip("0-") else ""


def _integrated(kind: Any) -> bool:
    return getattr(kind, "name", str(kind)).lower() == "integrated"
