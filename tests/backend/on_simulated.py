"""A plugin for tests: the torch backends on the simulated device, ``mlu:0`` and ``mlu:1``.

``simulated`` is the backend ``torch`` there; ``simulated.graphs`` the backend ``cuda``, with graphs
that are tapes, and with every run made three times: watched, captured, replayed.
"""

from __future__ import annotations

from dioe.types import Backend, Context, Resources
from dioe_cuda.backend import CudaBackend
from dioe_torch import devices
from dioe_torch.backend import TorchBackend
from dioe_torch.devices import TorchDevice


def simulated() -> list[TorchDevice]:
    """The simulated devices; builds and loads them, and gives them graphs."""
    from dioe_torch.simulated import load
    from tests.backend import taped_graphs

    taped_graphs.install(load())
    return [each for each in devices.accelerators() if each.info.kind == "mlu"]


class TorchOnSimulated(TorchBackend):
    """The backend ``torch``, on simulated devices only."""

    name = "simulated"

    def found(self) -> list[TorchDevice]:
        return [*super().found()[:1], *simulated()]


class CudaOnSimulated(CudaBackend):
    """The backend ``cuda``, on simulated devices."""

    name = "simulated.graphs"

    def found(self) -> list[TorchDevice]:
        return simulated()

    def open(self, device: str, resources: Resources) -> Context:
        from tests.backend.taped_graphs import ThriceContext

        return ThriceContext(self._device(device), resources, place=self.name)


def backends() -> list[Backend]:
    """Both."""
    return [TorchOnSimulated(), CudaOnSimulated()]
