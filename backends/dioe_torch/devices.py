"""The devices that the installed torch sees, found without importing torch where that can be."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dioe.host_backend import host_device
from dioe.types import DeviceInfo, DeviceState, KnownAs, Precision

AUTOLOAD_GROUP = "torch.backends"
"""Entry points that torch runs when it is imported: out-of-tree devices (torch 2.5 and later)."""

SPEAK_DLPACK = ("cpu", "cuda", "xpu", "mps")
"""Devices whose tensors torch gives on; it refuses those of out-of-tree devices."""

_CPUINFO = Path("/proc/cpuinfo")
_FLAGS = {
    Precision.BF16: {"avx512bw", "avx512vl", "avx512dq"},
    Precision.FP16: {"avx512_fp16", "avx512bw", "avx512vl", "avx512dq"},
}
"""What oneDNN's kernels of a precision need of an x86 processor, as ATen asks."""

_OTHER_BUILDS = re.compile(r"^(cuda|hip|xpu)\b[^=]*=\s*(?!None\b)\S", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A device as DIOE and as torch name it (``gpu:0``, ``cuda:0``)."""

    info: DeviceInfo
    native: str


def missing() -> str:
    """Why torch can't be used; empty if it is installed."""
    if "torch" in sys.modules:
        return ""
    try:
        found = importlib.util.find_spec("torch")
    except (ImportError, ValueError) as error:
        return f"torch can't be found: {error}"
    return "" if found is not None else "torch is not installed (pip install torch)"


def version() -> str:
    """The version of the installed torch; empty without one."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""


def devices() -> list[TorchDevice]:
    """The CPU, and every accelerator that torch can use now."""
    reason = missing()
    found = [TorchDevice(host_device(reason), "cpu")]
    if not reason and (_imported() or _may_have_accelerators()):
        found += accelerators()
    return found


def _imported() -> bool:
    return hasattr(sys.modules.get("torch"), "version")


def _may_have_accelerators() -> bool:
    """True unless the installed build is for the CPU only. Importing torch takes over a second."""
    if sys.platform == "darwin" or importlib.metadata.entry_points(group=AUTOLOAD_GROUP):
        return True
    spec = importlib.util.find_spec("torch")
    folders = () if spec is None else spec.submodule_search_locations or ()
    for folder in folders:
        file = Path(folder) / "version.py"
        if file.is_file():
            return _OTHER_BUILDS.search(file.read_text(errors="replace")) is not None
    return True


def accelerators() -> list[TorchDevice]:
    """Devices other than the CPU; imports torch."""
    import torch

    found: list[TorchDevice] = []
    if torch.cuda.is_available():
        found += [_cuda(index) for index in range(torch.cuda.device_count())]
    gpus = len(found)
    if getattr(torch, "xpu", None) is not None and torch.xpu.is_available():
        for index in range(torch.xpu.device_count()):
            properties = torch.xpu.get_device_properties(index)
            info = DeviceInfo(
                id=f"gpu:{gpus + index}",
                kind="gpu",
                name=str(properties.name),
                memory_bytes=int(properties.total_memory),
                uuid=str(getattr(properties, "uuid", "")),
            )
            found.append(TorchDevice(info, f"xpu:{index}"))
    if torch.backends.mps.is_available():
        info = DeviceInfo(
            id=f"gpu:{len(found)}", kind="gpu", name="Apple GPU", uuid="mps", shares="cpu",
            memory_bytes=int(torch.mps.recommended_max_memory()),
        )  # fmt: skip
        found.append(TorchDevice(info, "mps:0"))
    return found + _out_of_tree()


def _cuda(index: int) -> TorchDevice:
    import torch

    properties = torch.cuda.get_device_properties(index)
    pci = [getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    uuid = f"pci:{pci[0]:04x}:{pci[1]:02x}:{pci[2]:02x}.0" if None not in pci else ""
    return TorchDevice(
        DeviceInfo(
            id=f"gpu:{index}",
            kind="gpu",
            name=str(properties.name),
            uuid=uuid or str(getattr(properties, "uuid", "")),
            memory_bytes=int(properties.total_memory),
            details={"capability": f"{properties.major}.{properties.minor}"},
        ),
        f"cuda:{index}",
    )


def _out_of_tree() -> list[TorchDevice]:
    """Devices of the one out-of-tree backend that torch has room for, under the name it was given.

    What only stands in for a device says so by its module's ``known_as``.
    """
    import torch

    name = torch._C._get_privateuse1_backend_name()
    module: Any = getattr(torch, name, None)
    if module is None or not module.is_available():
        return []
    known_as = KnownAs(getattr(module, "known_as", KnownAs.HARDWARE))
    return [
        TorchDevice(
            DeviceInfo(
                id=f"{name}:{index}",
                kind=name,
                name=_name_of(module, index, name),
                state=DeviceState.PRESENT,
                known_as=known_as,
                memory_bytes=_memory_of(module, index),
                uuid=f"torch.{name}:{index}",
                shares="cpu" if known_as is KnownAs.SIMULATED else None,
            ),
            f"{name}:{index}",
        )
        for index in range(module.device_count())
    ]


def _name_of(module: Any, index: int, name: str) -> str:
    describe = getattr(module, "get_device_name", None)
    return str(describe(index)) if describe is not None else name


def _memory_of(module: Any, index: int) -> int | None:
    tell = getattr(module, "mem_get_info", None)
    return int(tell(index)[1]) if tell is not None else None


@functools.cache
def computed(native: str) -> frozenset[Precision]:
    """The precisions that a torch device computes in: on the CPU those that oneDNN has kernels for
    on this processor, since torch's own would be slower than fp32."""
    if native.partition(":")[0] != "cpu":
        return frozenset({Precision.FP32, Precision.BF16, Precision.FP16})
    try:
        lines = _CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        return _computed_by_torch()
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), None)
    if flags is None:  # not an x86 processor
        return _computed_by_torch()
    return frozenset({Precision.FP32, *(p for p, needed in _FLAGS.items() if needed <= flags)})


def _computed_by_torch() -> frozenset[Precision]:
    """The same by asking torch, which takes over a second to import."""
    import torch

    found = {Precision.FP32}
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            found.add(Precision.BF16)
        if torch.ops.mkldnn._is_mkldnn_fp16_supported():
            found.add(Precision.FP16)
    return frozenset(found)
