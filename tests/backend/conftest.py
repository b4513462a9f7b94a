"""One fixture for each backend, and contexts that are closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import dioe_onnxruntime
import dioe_openvino
import dioe_reference
from dioe.graph import Model
from dioe.types import Backend, Executable, Precisions, Resources
from dioe_onnxruntime.backend import OnnxRuntimeBackend
from tests.backend.software_gpu import software_gpu
from tests.own_process import in_child

if TYPE_CHECKING:
    from dioe_torch.simulated import SimulatedDevices

PLUGINS = (dioe_onnxruntime, dioe_openvino, dioe_reference)
# Those of the host; other execution providers are ``onnxruntime.NAME``.
BACKENDS: dict[str, Backend] = {
    b.name: b for plugin in PLUGINS for b in plugin.backends() if "." not in b.name
}

Compile = Callable[..., Executable]


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    name: str = request.param
    return BACKENDS[name]


@pytest.fixture
def openvino() -> Backend:
    return BACKENDS["openvino"]


@pytest.fixture
def onnxruntime() -> Backend:
    return BACKENDS["onnxruntime"]


@pytest.fixture(scope="module")
def webgpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnnxRuntimeBackend]:
    """WebGPU on the software GPU; skips where a piece of that is missing."""
    with software_gpu(tmp_path_factory.mktemp("vulkan")) as found:
        yield found


@pytest.fixture
def compile_on() -> Iterator[Compile]:
    """Compile a model on a backend with one thread; everything is closed after the test."""
    with ExitStack() as stack:

        def compiled(
            backend: Backend,
            model: Model,
            precisions: Precisions | None = None,
            options: Mapping[str, Any] | None = None,
            resources: Resources | None = None,
        ) -> Executable:
            context = backend.open("cpu", resources or Resources(threads=1, spin=False))
            stack.callback(context.close)
            return context.compile(model, precisions or Precisions(), options or {})

        yield compiled


@pytest.fixture(scope="session")
def simulated_cache(pytestconfig: pytest.Config, own_environment: None) -> Iterator[Path]:
    """Where the simulated device is kept once built: for all tests, and for the next run."""
    path = pytestconfig.rootpath / ".pytest_cache" / "d" / "simulated-device"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DIOE_SIMULATED_CACHE", str(path))
        yield path


@pytest.fixture(scope="session")
def mlu(simulated_cache: Path) -> SimulatedDevices:
    """``torch.mlu``, with two simulated devices; for modules that are marked ``own_process``."""
    from dioe_torch.simulated import load, reason_unavailable

    assert in_child(), "the device would stay in this process: mark the module own_process"
    reason = reason_unavailable()
    if reason is not None:
        pytest.skip(reason)
    return load("mlu", devices=2)
