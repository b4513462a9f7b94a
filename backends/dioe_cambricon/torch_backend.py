"""``cambricon.torch``: op lists run eagerly by torch_mlu, in a worker on the vendor's Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dioe.host_backend import (
    OptionRule,
    buffer_shape,
    check_options,
    fixed,
    is_bool,
    resolve_options,
    resource_rules,
    tensor_specs,
)
from dioe.registry.worker import Deadlines, WorkerContext, WorkerProcess
from dioe.registry.worker.buffers import Copies, WorkerBuffer
from dioe.registry.worker.model import send_model
from dioe.registry.worker.records import field, items, spec_data
from dioe.types import (
    DONE,
    Buffer,
    Capabilities,
    Effect,
    Event,
    Executable,
    Feeds,
    InputError,
    Precision,
    Precisions,
    Resolution,
    StageModel,
    Support,
    TensorSpec,
    UnsupportedError,
)
from dioe_cambricon.backend import CambriconBackend
from dioe_cambricon.host import CambriconHost
from dioe_cambricon.programs import ProgramModel
from dioe_cambricon.support import TORCH, unholdable

PLACE = "cambricon.torch"


def _precision(value: Any) -> Resolution:
    if value == Precision.BF16:
        note = "on cards from capability 5 on, so not on an MLU370"
        return Resolution(Effect.APPLIED, "torch.bfloat16", note)
    if value in (Precision.FP32, Precision.FP16):
        native = {Precision.FP32: "torch.float32", Precision.FP16: "torch.float16"}[value]
        return Resolution(Effect.APPLIED, native)
    note = (
        f"torch_mlu's kernels take no quantised tensors: {value} goes through cambricon.magicmind"
    )
    return Resolution(Effect.REJECTED, note=note)


def _profile(value: Any) -> Resolution:
    if value:
        return Resolution(Effect.REJECTED, note="there are no times of single ops")
    return Resolution(Effect.APPLIED, note="none is taken")


OPTIONS: Mapping[str, OptionRule] = {
    "optimize": OptionRule(
        is_bool, "true or false", fixed(Effect.APPLIED, note="computing constant parts once")
    ),
    "profile": OptionRule(is_bool, "true or false", _profile),
    "kernel_fusion": OptionRule(
        is_bool, "true or false", fixed(Effect.IGNORED, note="eager torch runs op by op")
    ),
    "tiling_strategy": OptionRule(
        lambda v: isinstance(v, str | bool | int),
        "a name",
        fixed(Effect.IGNORED, note="the kernels of torch_mlu choose their own"),
    ),
    **resource_rules(
        precision=_precision,
        threads=fixed(Effect.IGNORED, note="the card computes, not the host's threads"),
        streams=fixed(Effect.IGNORED, note="one stream a card"),
        spin=fixed(Effect.IGNORED, note="the card computes, not the host's threads"),
        memory_limit_bytes=fixed(Effect.IGNORED, note="torch_mlu takes no limit"),
    ),
}


class TorchMluBackend(CambriconBackend):
    """Eager torch on the cards, by the lowerings of ``dioe_torch``."""

    def __init__(self, host: CambriconHost | None = None) -> None:
        super().__init__(host or CambriconHost("torch_mlu", PLACE), PLACE)

    def _computes(self, device: str) -> frozenset[Precision]:
        newer = (Precision.BF16,) if self.card(device).details.get("bf16") else ()
        return frozenset((Precision.FP32, Precision.FP16, *newer))

    def capabilities(self, device: str) -> Capabilities:
        """Precisions by op, all in one executable; shapes may change from run to run."""
        computes = self._computes(device)
        return Capabilities(computes=computes, stores=computes, mixes_precisions=True)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``OPTIONS``; needs no card."""
        return resolve_options(OPTIONS, options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """What can be lowered here, and linked by the torch of the worker, which is older."""
        from dioe_torch.support import support

        ops = model.op_ids
        if precision not in self._computes(device):
            return Support(frozenset(), dict.fromkeys(ops, f"{device} computes no {precision}"))
        refused = {**support(model).refused, **unholdable(model, TORCH)}
        if len(refused) < len(ops):
            process = self.cambricon.process()
            asked = ProgramModel(model, Precisions(precision))
            try:
                named, _segment = send_model(asked, process)  # memory that lives until the answer
            except UnsupportedError as error:
                return Support(frozenset(), dict.fromkeys(ops, error.cause))
            limit_s = self.host.deadlines.compile_s
            answer = process.call("check_ops", {"model": named}, limit_s=limit_s)
            for op, reason in items(answer, "refused", list):
                refused.setdefault(str(op), str(reason))
        refused = {op: refused[op] for op in ops if op in refused}
        return Support(frozenset(ops) - refused.keys(), refused)

    def _context(self, process: WorkerProcess, number: int, device: str) -> WorkerContext:
        computes = self._computes(device)
        return TorchMluContext(process, number, device, self.host.deadlines, computes)


class TorchMluContext(WorkerContext):
    """See ``WorkerContext``; ``computes`` are the card's precisions."""

    def __init__(
        self,
        process: WorkerProcess,
        number: int,
        device: str,
        deadlines: Deadlines,
        computes: frozenset[Precision],
    ) -> None:
        super().__init__(process, number, device, deadlines)
        self._computes = computes
        self._copies = Copies(process, deadlines.run_s)

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """See ``dioe.types.Context``: an op list and the weights go to the worker.

        Raises InputError for options, UnsupportedError for what can't be lowered or held.
        """
        check_options(PLACE, OPTIONS, options)
        missing = sorted(set(precisions.used) - self._computes)
        if missing:
            raise UnsupportedError(f"{self.device} computes no {missing[0]}", place=PLACE)
        for op, reason in unholdable(model, TORCH).items():
            raise UnsupportedError(reason, place=f"{PLACE}: op {op!r}")
        inputs, outputs = tensor_specs(model)
        for spec in (*inputs, *outputs):
            _check_held(spec)
        settings = {
            "optimize": options.get("optimize", True),
            "inputs": [spec_data(spec) for spec in inputs],
            "outputs": [spec_data(spec) for spec in outputs],
        }
        return super().compile(ProgramModel(model, precisions), precisions, settings)

    def alloc(self, spec: TensorSpec) -> Buffer:
        """A buffer in the card's memory, contents undefined; the worker has it.

        Raises InputError for what the card doesn't hold, OutOfMemory.
        """
        shape = buffer_shape(spec)
        if spec.dtype.name not in TORCH:
            raise InputError(f"{spec.dtype} doesn't go to the card", place=f"buffer {spec.name!r}")
        args = {"dtype": spec.dtype.name, "shape": list(shape)}
        answer = self._ask("alloc", self._deadlines.call_s, **args)
        number = field(answer, "buffer", int)
        return WorkerBuffer(self._process, number, self.device, spec.dtype, shape)

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        """See ``dioe.types.Context``: also between two cards. Done when this returns."""
        if not isinstance(src, WorkerBuffer) and not isinstance(dst, WorkerBuffer):
            return super().copy(src, dst)
        self._check_open()
        self._copies.copy(src, dst)
        return DONE


def _check_held(spec: TensorSpec) -> None:
    what = spec.kind if spec.kind != "tensor" else spec.dtype.name
    if what not in TORCH:
        raise UnsupportedError(
            f"{spec.name!r} is {what}, which doesn't go to the card", place=PLACE
        )
