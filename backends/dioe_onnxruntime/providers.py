"""Execution providers: what is known of each, and which of them an installation may have.

Nothing here imports onnxruntime: what is installed is told by names of distributions, files and
modules, and `dioe_onnxruntime.devices` asks ONNX Runtime itself when a backend is probed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import pkgutil
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dioe.types import InputError, Precision

AS_WRITTEN: Mapping[Precision, Mapping[str, str]] = {Precision.FP32: {}}


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider.

    ``name`` is what follows ``onnxruntime.`` in the backend's name, empty for the CPU's;
    ``native`` ONNX Runtime's own name, empty where the plugin library tells it; ``kind`` the kind
    of its devices, empty where ONNX Runtime's list of them tells it. ``precisions`` are
    the provider options that make it compute in each. ``device_option`` selects a device by its
    index, for providers of which ONNX Runtime lists no devices; ``memory`` names their memory as
    ``OrtDevice.make`` does, empty where inputs and outputs stay on the host; ``vendor`` is a PCI
    vendor id. ``asynchronous``: runs and copies return before the device has done them.
    ``exclusive``: one thread of the process at a time may call it. ``hint`` says what a missing
    device may need.

    ``optional_float16``: some devices don't compute in it, which shows in a run only. ``fails_on``
    names by type of op an attribute which, unless 0, is taken and fails in the run.
    ``keeps_weights``: those of sessions that are gone, see ``dioe_onnxruntime.weights``.
    """

    name: str
    native: str = ""
    kind: str = ""
    precisions: Mapping[Precision, Mapping[str, str]] = field(default_factory=lambda: AS_WRITTEN)
    device_option: str = "device_id"
    memory: str = ""
    vendor: int = 0
    asynchronous: bool = False
    exclusive: bool = False
    optional_float16: bool = False
    fails_on: Mapping[str, str] = field(default_factory=dict)
    keeps_weights: bool = False
    module: str = ""  # a Python package that says where its plugin library is
    library: str = ""  # a plugin library given in code
    hint: str = ""

    @property
    def backend(self) -> str:
        """The backend's name."""
        return f"onnxruntime.{self.name}" if self.name else "onnxruntime"

    @property
    def title(self) -> str:
        """The provider's name in messages."""
        return self.native or self.name

    @property
    def plugin(self) -> bool:
        """True if it comes in a library of its own."""
        return bool(self.module or self.library)


CPU = Provider("", "CPUExecutionProvider", "cpu", device_option="")

# Options as ONNX Runtime's pages on each provider name them; only those of the CPU and WebGPU
# were run. TF32 is off: it is not fp32 as written.
BUILT_IN = (
    Provider(
        "cuda",
        "CUDAExecutionProvider",
        "gpu",
        precisions={Precision.FP32: {"use_tf32": "0"}},
        memory="cuda",
        vendor=0x10DE,
        hint="an NVIDIA driver, CUDA and cuDNN of the versions this build names",
    ),
    Provider(
        "tensorrt",
        "TensorrtExecutionProvider",
        "gpu",
        precisions={Precision.FP32: {}, Precision.FP16: {"trt_fp16_enable": "1"}},
        memory="cuda",
        vendor=0x10DE,
        hint="an NVIDIA driver, CUDA and TensorRT of the versions this build names",
    ),
    Provider("rocm", "ROCMExecutionProvider", "gpu", memory="gpu", vendor=0x1002, hint="ROCm"),
    Provider(
        "migraphx",
        "MIGraphXExecutionProvider",
        "gpu",
        precisions={Precision.FP32: {}, Precision.FP16: {"migraphx_fp16_enable": "1"}},
        memory="gpu",
        vendor=0x1002,
        hint="ROCm and MIGraphX",
    ),
    Provider("dml", "DmlExecutionProvider", "gpu", memory="dml", hint="DirectX 12"),
    Provider("coreml", "CoreMLExecutionProvider", "npu", device_option=""),
    Provider("qnn", "QNNExecutionProvider", "npu", device_option="", hint="Qualcomm's driver"),
    Provider(
        "cann",
        "CANNExecutionProvider",
        "npu",
        precisions={
            Precision.FP32: {"precision_mode": "must_keep_origin_dtype"},  # the default is fp16
            Precision.FP16: {"precision_mode": "force_fp16"},
        },
        memory="cann",
        hint="an Ascend driver and CANN",
    ),
    Provider("openvino", "OpenVINOExecutionProvider", "cpu", device_option=""),
    Provider("dnnl", "DnnlExecutionProvider", "cpu", device_option=""),
    Provider("xnnpack", "XnnpackExecutionProvider", "cpu", device_option=""),
    Provider("acl", "ACLExecutionProvider", "cpu", device_option=""),
    Provider("vitisai", "VitisAIExecutionProvider", "npu", device_option=""),
)
_BY_NAME = {provider.name: provider for provider in BUILT_IN}

PLUGINS = {
    "webgpu": Provider(
        "webgpu",
        "WebGpuExecutionProvider",
        "gpu",
        # In the other layout, its default, a convolution over 6, 9, 33 or 129 channels is wrong by
        # its own size (0.4.0 on a software adapter).
        precisions={Precision.FP32: {"preferredLayout": "NCHW"}},
        # One Dawn context and one command encoder a process: sessions that two threads run at once
        # fail with "Command encoding already finished" (0.4.0).
        asynchronous=True,
        exclusive=True,
        optional_float16=True,
        fails_on={"Resize": "antialias"},
        keeps_weights=True,
        hint="on Linux a Vulkan driver and libvulkan.so.1; for a software adapter also "
        "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1",
    ),
}

PLUGIN_PREFIX = "onnxruntime_ep_"
"""Packages of plugin providers are named so, and have ``get_library_path`` and ``get_ep_names``:
https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries/packaging.html"""

_DISTRIBUTIONS = {
    "onnxruntime-gpu": ("cuda", "tensorrt"),
    "onnxruntime-training": ("cuda",),
    "onnxruntime-rocm": ("rocm", "migraphx"),
    "onnxruntime-migraphx": ("migraphx",),
    "onnxruntime-directml": ("dml",),
    "onnxruntime-openvino": ("openvino",),
    "onnxruntime-qnn": ("qnn",),
    "onnxruntime-cann": ("cann",),
    "onnxruntime-coreml": ("coreml",),
    "onnxruntime-vitisai": ("vitisai",),
}
"""Builds that the package registry has, and the providers they were made for."""

_given: dict[str, Provider] = {}
_lock = threading.Lock()


def register_provider(name: str, library: str | Path = "", native: str = "") -> None:
    """Make the provider ``name`` a backend, ``onnxruntime.NAME``, of registries made after this.

    ``library`` is the path of a plugin library, or empty for a provider that is built into
    ONNX Runtime and not found by itself; ``native`` is ONNX Runtime's name of the provider, where
    it isn't known here and the library doesn't tell. A library is code: give only what you trust.
    Raises InputError for a name that is empty or taken, or a path that is no file.
    """
    if not name or "/" in name or "." in name:
        raise InputError(f"{name!r} can't be the name of a provider", place="register_provider")
    path = str(Path(library).resolve()) if library else ""
    if path and not Path(path).is_file():
        raise InputError(f"there is no library {path!r}", place="register_provider")
    known = (PLUGINS if path else _BY_NAME).get(name)
    if known is None and not (path or native):
        known_names = ", ".join(sorted(_BY_NAME))
        raise InputError(
            f"no provider {name!r} is known", fix=f"give its library, or one of {known_names}"
        )
    provider = known or Provider(name)
    provider = replace(provider, native=native or provider.native, library=path)
    with _lock:
        if _given.get(name, provider) != provider:
            raise InputError(f"another provider is registered as {name!r}")
        _given[name] = provider


def providers() -> list[Provider]:
    """The CPU's provider, then those given in code, found as packages, and likely built in."""
    with _lock:
        found = dict(_given)
    for module in pkgutil.iter_modules():
        if module.name.startswith(PLUGIN_PREFIX):
            name = module.name.removeprefix(PLUGIN_PREFIX)
            found.setdefault(name, replace(PLUGINS.get(name, Provider(name)), module=module.name))
    for name in sorted(_built_in()):
        found.setdefault(name, _BY_NAME[name])
    return [CPU, *found.values()]


def _built_in() -> set[str]:
    """Providers that the installed build is likely to have."""
    names = {"coreml"} if sys.platform == "darwin" else set()
    for distribution, made_for in _DISTRIBUTIONS.items():
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        names.update(made_for)
    return names | {name for name in _shared_libraries() if name in _BY_NAME}


def _shared_libraries() -> Iterator[str]:
    """Names in ``libonnxruntime_providers_NAME`` beside ONNX Runtime's own library."""
    try:
        spec = importlib.util.find_spec("onnxruntime")
    except (ImportError, ValueError):  # ValueError: something in sys.modules has no spec
        return
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in (Path(folder) / "capi").glob("*onnxruntime_providers_*"):
            yield file.stem.partition("onnxruntime_providers_")[2].lower()
