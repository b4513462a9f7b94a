"""Executables from models, on one torch device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dioe.host_backend import (
    HostContext,
    OptionRule,
    check_options,
    static_shape,
    tensor_specs,
)
from dioe.types import (
    Buffer,
    Event,
    Executable,
    Feeds,
    Precisions,
    Resources,
    Sample,
    StageModel,
    TensorSpec,
    UnsupportedError,
)
from dioe_torch.devices import TorchDevice
from dioe_torch.errors import run_error
from dioe_torch.executable import Engine, TorchExecutable
from dioe_torch.lowerings import Program, Unsupported, fold, link
from dioe_torch.memory import DeviceMemory, TorchBuffer
from dioe_torch.numerics import full_fp32
from dioe_torch.options import rules
from dioe_torch.program import program_of
from dioe_torch.queues import Queue
from dioe_torch.support import refusal_of
from dioe_torch.tensors import torch_dtype


class TorchContext(HostContext):
    """Torch on one device, with its resources."""

    inductor = False
    executable_type = TorchExecutable

    def __init__(
        self,
        found: TorchDevice,
        resources: Resources,
        *,
        place: str,
        own_stream: bool = False,
        page_locked: bool = False,
    ) -> None:
        super().__init__(found.info.id, resources)
        self.place = place
        self.queue = Queue(
            found.native, found.info.id, own_stream=own_stream, page_locked=page_locked
        )
        self.memory: DeviceMemory | None = None
        if not self.queue.on_host:
            limit = resources.memory_limit_bytes
            self.memory = DeviceMemory(found.info.id, self.queue, limit)

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """Lower ``model``. Options: see ``dioe_torch.options``.

        Raises UnsupportedError for what can't be lowered, InputError for options, OutOfMemory.
        """
        self.check_open()
        check_options(self.place, self.rules(), options)
        refusal_of(precisions, self.queue.device.type, self.place)
        inputs, outputs = tensor_specs(model)
        for spec in (*inputs, *outputs):
            if spec.dtype.kind == "O" or torch_dtype(spec.dtype) is None:
                raise UnsupportedError(
                    f"{spec.name!r} is {spec.dtype}: torch has no such tensors", place=self.place
                )
        try:
            program = program_of(model, precisions)
            if options.get("optimize", True):
                program = fold(program, zeros(inputs))
            with self.queue.current(), full_fp32(self.queue.device):
                engine = self.engine(program, inputs)
        except Unsupported as error:
            raise UnsupportedError(str(error), place=self.place) from error
        except Exception as error:
            raise run_error(error, self.place) from error
        return self.own(self.executable(engine, inputs, outputs, options))

    def rules(self) -> Mapping[str, OptionRule]:
        """The options that ``compile`` takes."""
        return rules(inductor=self.inductor)

    def executable(
        self,
        engine: Engine,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        options: Mapping[str, Any],
    ) -> TorchExecutable:
        """An engine as an executable of this context."""
        return self.executable_type(
            engine, inputs, outputs, self.queue, place=self.place, memory=self.memory,
            threads=self.resources.threads, profile=bool(options.get("profile")),
        )  # fmt: skip

    def engine(self, program: Program, inputs: Sequence[TensorSpec]) -> Engine:
        """What runs a program: eager torch, op by op."""
        return link(program, self.queue.device)

    def deserialize(self, blob: bytes) -> Executable:
        """Always raises UnsupportedError: there is no compiled form."""
        raise UnsupportedError("there is no compiled form to load", place=self.place)

    def alloc(self, spec: TensorSpec) -> Buffer:
        """An uninitialised buffer in the device's memory."""
        if self.memory is None:
            return super().alloc(spec)
        self.check_open()
        return self.memory.alloc(spec)

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        """Copy between buffers of one dtype and shape, on the host or on the device."""
        if self.memory is None or not isinstance(src, TorchBuffer) | isinstance(dst, TorchBuffer):
            return super().copy(src, dst)
        self.check_open()
        return self.memory.copy(src, dst)

    def memory_info(self) -> Mapping[str, int]:
        """Bytes of the buffers allocated here and of the device's memory."""
        if self.memory is None:
            return super().memory_info()
        found = {"allocated_bytes": self.memory.allocated_bytes}
        tell = getattr(getattr(torch, self.queue.device.type), "mem_get_info", None)
        if tell is not None:
            free, total = tell(self.queue.device)
            found |= {"available_bytes": int(free), "total_bytes": int(total)}
        return found

    def utilization(self) -> Sample | None:
        """The host's, where that is the device; else None: torch doesn't tell."""
        return super().utilization() if self.memory is None else None


def zeros(inputs: Sequence[TensorSpec]) -> list[torch.Tensor]:
    """Inputs of bound shapes; none where a shape is open or an input is no tensor."""
    if not all(spec.static and spec.kind == "tensor" for spec in inputs):
        return []
    return [torch.zeros(static_shape(spec), dtype=torch_dtype(spec.dtype)) for spec in inputs]
