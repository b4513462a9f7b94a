"""A context on an NVIDIA device: a stream of its own, page-locked copies, captured graphs, NVML."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch

from dioe.host_backend import OptionRule
from dioe.types import Resources, Sample, TensorSpec
from dioe_cuda.graphs import Graphs, Replayed
from dioe_cuda.nvml import Counters
from dioe_cuda.options import GRAPHS, rules
from dioe_torch.context import TorchContext
from dioe_torch.devices import TorchDevice
from dioe_torch.executable import Engine, TorchExecutable
from dioe_torch.runs import Direct, Runner


class CudaExecutable(TorchExecutable):
    """A compiled stage whose requests replay captured graphs; op by op where there is a reason
    against it."""

    runner_type = Replayed
    graphs: Graphs | None = None
    against_graphs = ""

    def __init__(self, *given: Any, **how: Any) -> None:
        super().__init__(*given, **how)
        self._replayed: weakref.WeakSet[Replayed] = weakref.WeakSet()

    def runner(self) -> Runner:
        """What a new request runs by."""
        if self.graphs is None:
            return Direct(self.run, self.against_graphs)
        runner = self.runner_type(self.run, self.queue, self.graphs)
        self._replayed.add(runner)
        return runner

    def close(self) -> None:
        """Let go of the model and of every graph. May be called again."""
        super().close()
        for runner in list(self._replayed):
            runner.reset()
        self._replayed.clear()


class CudaContext(TorchContext):
    """Eager torch on one device, on a stream of its own."""

    executable_type = CudaExecutable

    def __init__(self, found: TorchDevice, resources: Resources, *, place: str) -> None:
        super().__init__(found, resources, place=place, own_stream=True, page_locked=True)
        self._counters = Counters(found.info.uuid)

    def rules(self) -> Mapping[str, OptionRule]:
        """See ``dioe_cuda.options``."""
        return rules()

    def executable(
        self,
        engine: Engine,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        options: Mapping[str, Any],
    ) -> TorchExecutable:
        """An executable that captures graphs unless that is switched off."""
        made = super().executable(engine, inputs, outputs, options)
        assert isinstance(made, CudaExecutable)
        made.graphs, made.against_graphs = self._graphs(options)
        return made

    def _graphs(self, options: Mapping[str, Any]) -> tuple[Graphs | None, str]:
        """Torch's module of the device; None, with the reason, where nothing is captured."""
        if not options.get(GRAPHS, True):
            return None, f"{GRAPHS} is off"
        if options.get("profile"):
            return None, "ops are timed one by one"
        module: Any = getattr(torch, self.queue.device.type)
        if not hasattr(module, "CUDAGraph") or self.queue.stream is None:
            return None, f"torch.{self.queue.device.type} captures no graphs"
        return module, ""

    def memory_info(self) -> Mapping[str, int]:
        """As of torch; ``used_bytes`` is everybody's, where NVML tells."""
        used = self._counters.used_bytes()
        return {**super().memory_info(), **({} if used is None else {"used_bytes": used})}

    def utilization(self) -> Sample | None:
        """See ``dioe_cuda.nvml``."""
        return self._counters.utilization()

    def power(self) -> Sample | None:
        """See ``dioe_cuda.nvml``."""
        return self._counters.power()
