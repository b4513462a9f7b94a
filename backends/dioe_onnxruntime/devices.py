"""The devices of a provider as ONNX Runtime tells them, each tried before it is called present."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil

from dioe.host_backend import host_device
from dioe.types import DeviceInfo, DeviceState, DioeError, KnownAs, UnsupportedError
from dioe_onnxruntime.providers import Provider

if TYPE_CHECKING:
    from dioe_onnxruntime.sessions import Placed

_KINDS = {"CPU": "cpu", "GPU": "gpu", "NPU": "npu"}


def find(provider: Provider) -> list[Placed]:
    """The present devices of ``provider``.

    Raises UnsupportedError with the reason where there is none. A device that ONNX Runtime lists
    is no device yet: a small model must run there.
    """
    try:
        import onnxruntime as ort
    except (ImportError, OSError) as error:
        raise UnsupportedError(f"onnxruntime can't be imported: {error}") from error
    from dioe_onnxruntime.sessions import Placed

    if not provider.name:
        if provider.native not in ort.get_available_providers():
            raise UnsupportedError(f"this onnxruntime was built without {provider.native}")
        return [Placed(provider, provider.native, host_device())]
    candidates = _named(_candidates(provider))
    if not candidates:
        raise _no_device(provider, "it finds no device that it can use")
    present, reasons = [], []
    for placed in candidates:
        try:
            _try(placed)
        except DioeError as error:
            reasons.append(error.cause)
            continue
        halves = not provider.optional_float16 or _computes_float16(placed)
        present.append(replace(placed, float16=halves))
    if not present:
        raise _no_device(provider, "; ".join(dict.fromkeys(reasons)))
    return _named(present)


def absent(provider: Provider, reason: str) -> DeviceInfo:
    """What stands for a provider's devices where there is none."""
    if provider.kind == "cpu":
        return host_device(reason)
    kind = provider.kind or "gpu"
    return DeviceInfo(
        f"{kind}:0",
        kind,
        provider.title,
        DeviceState.ABSENT,
        reason,
        known_as=KnownAs.ABSENT,
    )


def _no_device(provider: Provider, reason: str) -> UnsupportedError:
    needs = f" (it needs {provider.hint})" if provider.hint else ""
    return UnsupportedError(f"{provider.title}: {reason}{needs}")


def _candidates(provider: Provider) -> list[Placed]:
    import onnxruntime as ort

    from dioe_onnxruntime.libraries import load
    from dioe_onnxruntime.sessions import Placed

    if provider.plugin:
        listed = load(provider)
    else:
        listed = [d for d in ort.get_ep_devices() if d.ep_name == provider.native]
        if not listed and provider.native not in ort.get_available_providers():
            raise UnsupportedError(f"this onnxruntime was built without {provider.native}")
    if listed or provider.plugin:
        return [Placed(provider, d.ep_name, describe(provider, d), d) for d in listed]
    # An older kind of provider: it counts its devices itself, in an order of its own.
    hardware = [d for d in _hardware() if _is_of(d, provider)]
    infos = [_described(provider, d) for d in hardware] or [
        DeviceInfo("", provider.kind, provider.native)
    ]
    if len(infos) > 1:  # which of them is which isn't told
        infos = [replace(info, uuid="") for info in infos]
    if provider.kind == "cpu":
        infos = [host_device()]
    return [Placed(provider, provider.native, info, None, i) for i, info in enumerate(infos)]


def _hardware() -> list[Any]:
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    listed = getattr(native, "get_hardware_devices", None)  # from 1.24 on
    return list(listed()) if listed else []


def _is_of(device: Any, provider: Provider) -> bool:
    if _KINDS.get(device.type.name) != provider.kind:
        return False
    return not provider.vendor or device.vendor_id == provider.vendor


def describe(provider: Provider, ep_device: Any) -> DeviceInfo:
    """An OrtEpDevice as a device; its id is given later, by its place among those of its kind."""
    device = ep_device.device
    kind = _KINDS[device.type.name]
    if kind == "cpu" and provider.kind in ("", "cpu"):
        return host_device()
    if kind == "cpu":  # a GPU's provider on the CPU: its adapter is software
        host = host_device()
        return DeviceInfo(
            "",
            provider.kind,
            f"software adapter of {ep_device.ep_name} on {host.name}",
            known_as=KnownAs.SIMULATED,
            memory_bytes=int(psutil.virtual_memory().total),
            shares="cpu",
            details={"provider": ep_device.ep_name, "software": True},
        )
    return _described(provider, device)


def _described(provider: Provider, device: Any) -> DeviceInfo:
    metadata = dict(device.metadata)
    pci = str(metadata.get("pci_bus_id", "")).lower()
    name = metadata.get("Description") or f"{device.vendor} {device.device_id:#06x}"
    return DeviceInfo(
        "",
        _KINDS[device.type.name],
        str(name).strip(),
        uuid=f"pci:{pci}" if pci else "",
        details={"provider": provider.title, "vendor_id": int(device.vendor_id)},
    )


def _named(found: Iterable[Placed]) -> list[Placed]:
    """With ids by kind and index."""
    counts: dict[str, int] = {}
    named = []
    for placed in found:
        kind = placed.info.kind
        index = counts[kind] = counts.get(kind, -1) + 1
        ident = "cpu" if kind == "cpu" and not index else f"{kind}:{index}"
        named.append(replace(placed, info=replace(placed.info, id=ident)))
    return named


def _try(placed: Placed) -> None:
    """Run one op on the device; raises the reason why that can't be."""
    from dioe_onnxruntime.lanes import lane_of
    from dioe_onnxruntime.trial import run_trial, trial_session

    with lane_of(placed).exclusive():
        run_trial(trial_session(placed), placed)


def _computes_float16(placed: Placed) -> bool:
    from dioe_onnxruntime.lanes import lane_of
    from dioe_onnxruntime.trial import computes_float16

    with lane_of(placed).exclusive():
        return computes_float16(placed)
