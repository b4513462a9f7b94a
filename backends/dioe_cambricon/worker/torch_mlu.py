"""torch_mlu: op lists run eagerly by torch on the card, in fp32, fp16 and, on newer cards, bf16.

The lowerings are DIOE's own (``dioe_torch.lowerings``), loaded by their path; they import torch and
numpy only. The calls to ``torch.mlu`` are those of github.com/Cambricon/torch_mlu.
"""

from __future__ import annotations

import importlib

import numpy as np

from dioe_cambricon.worker import cndev
from dioe_cambricon.worker.cards import absent, present
from dioe_cambricon.worker.errors import (
    BackendError,
    InputError,
    OutOfMemory,
    UnsupportedError,
)
from dioe_cambricon.worker.programs import read_program
from dioe_cambricon.worker.versions import distribution_version, known_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dioe_cambricon.worker.tensors import Array

PLACE = "torch_mlu"
BF16_SINCE = 5
"""The capability of a card from which on torch_mlu has kernels for bf16: not of an MLU370."""

_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Provider:
    """torch on its ``mlu`` devices; what can't be imported is a reason, not an error."""

    def __init__(self, folder: str) -> None:
        self._missing = ""
        self.torch: Any = None
        self.lowerings: Any = None
        try:
            self.torch = importlib.import_module("torch")
            importlib.import_module("torch_mlu")
            self.lowerings = importlib.import_module("dioe_torch.lowerings")
        except (ImportError, OSError, AttributeError) as error:
            # AttributeError: a torch without something that the lowerings are made of
            self._missing = f"{type(error).__name__}: {error}"
        self.known_as = "absent" if self._missing else known_as("torch_mlu")
        self.version = ""
        if not self._missing:
            versions = distribution_version("torch_mlu"), str(self.torch.__version__)
            self.version = "{} (torch {})".format(*versions)
        self.counters = cndev.load() if self.known_as == "hardware" else None

    def devices(self) -> list[dict[str, Any]]:
        """The cards as torch counts them; one that is absent, with the reason, if none."""
        if self._missing:
            return [absent(f"torch_mlu can't be imported there ({self._missing})")]
        mlu = self.torch.mlu
        if not mlu.is_available() or mlu.device_count() < 1:
            return [absent("torch_mlu finds no card (torch.mlu.is_available() is False)")]
        return [self._device(index) for index in range(mlu.device_count())]

    def _device(self, index: int) -> dict[str, Any]:
        mlu = self.torch.mlu
        details = {
            "library": "torch_mlu",
            "version": self.version,
            "bf16": mlu.get_device_capability(index)[0] >= BF16_SINCE,
        }
        name, (_, total) = str(mlu.get_device_name(index)), mlu.mem_get_info(index)
        return present(index, self.counters, self.known_as, details, name, int(total))

    def check_ops(self, path: str) -> list[list[Any]]:
        """The places of the ops that this torch can't run, each with the reason."""
        lowerings = self.lowerings
        program = read_program(lowerings, path)
        refused = []
        for op in program.ops:
            try:
                lowerings.check(op, program.constants)
            except lowerings.Unsupported as error:
                refused.append([op.id, str(error)])
            except AttributeError as error:  # this torch is older than the lowering
                refused.append([op.id, f"torch {self.torch.__version__}: {error}"])
        return refused

    def open(self, device: str, resources: dict[str, Any]) -> Context:
        """A context on a card."""
        return Context(self, int(device.partition(":")[2]))

    def copy(self, source: Any, target: Any) -> None:
        """Copy between tensors on the cards and arrays of the host; waits."""
        torch = self.torch
        on_cards = [t for t in (source, target) if not isinstance(t, np.ndarray)]
        torch.mlu.set_device(on_cards[0].device.index)
        with _errors(self), torch.no_grad():
            if isinstance(source, np.ndarray):
                source = torch.from_numpy(_owned(source))
            if isinstance(target, np.ndarray):
                target = torch.from_numpy(target)
            target.copy_(source)
            for index in sorted({tensor.device.index for tensor in on_cards}):
                torch.mlu.synchronize(index)


class Context:
    """One card."""

    def __init__(self, provider: Provider, index: int) -> None:
        self.provider, self.torch, self.index = provider, provider.torch, index
        self.device = self.torch.device("mlu", index)

    def compile(
        self, path: str, options: dict[str, Any], calibration: list[dict[str, Array]] | None
    ) -> Executable:
        """Fold what is constant and bind every op. ``options``: ``optimize``, and the specs of the
        model's ``inputs`` and ``outputs``."""
        lowerings, torch = self.provider.lowerings, self.torch
        torch.mlu.set_device(self.index)
        program = read_program(lowerings, path)
        inputs = options["inputs"]
        with _errors(self.provider):
            if options["optimize"]:
                static = all(isinstance(d, int) for s in inputs for d in (s["shape"] or [None]))
                zeros = [_zeros(torch, spec) for spec in inputs] if static else []
                program = lowerings.fold(program, zeros)
            linked = lowerings.link(program, self.device)
        return Executable(self, linked, inputs, options["outputs"])

    def deserialize(self, blob: bytes) -> Executable:
        """Always raises UnsupportedError: there is no compiled form."""
        raise UnsupportedError("there is no compiled form to load", place=PLACE)

    def alloc(self, dtype: str, shape: list[int]) -> Any:
        """A tensor on the card, contents undefined. Raises OutOfMemory."""
        torch = self.torch
        torch.mlu.set_device(self.index)
        kind = torch.from_numpy(np.empty(0, np.dtype(dtype))).dtype
        with _errors(self.provider):
            return torch.empty(tuple(shape), dtype=kind, device=self.device)

    def memory_info(self) -> dict[str, int]:
        """Bytes of the card's memory."""
        free, total = self.torch.mlu.mem_get_info(self.index)
        return {"total_bytes": int(total), "available_bytes": int(free)}

    def utilization(self) -> dict[str, Any] | None:
        """Mean load of the cores."""
        counters = self.provider.counters
        return None if counters is None else counters.utilization(self.index)

    def power(self) -> dict[str, Any] | None:
        """What the card draws."""
        counters = self.provider.counters
        return None if counters is None else counters.power(self.index)

    def close(self) -> None:
        """Nothing is held beside what executables hold."""


class Executable:
    """A linked program. Runs share nothing, so a request is the executable itself."""

    def __init__(
        self,
        context: Context,
        linked: Any,
        inputs: list[dict[str, Any]],
        outputs: list[dict[str, Any]],
    ) -> None:
        self.context, self.inputs, self.outputs = context, inputs, outputs
        self._linked = linked
        constants = {id(tensor): tensor for tensor in linked.constants}.values()
        self.memory_bytes = sum(t.numel() * t.element_size() for t in constants)

    def serialize(self) -> None:
        """There is no compiled form."""

    def request(self) -> Executable:
        """One single-threaded use."""
        if self._linked is None:
            raise BackendError("the executable is closed", place=PLACE)
        return self

    def run(self, feeds: dict[str, Any], into: dict[str, Any] | None = None) -> dict[str, Array]:
        """Copy in what isn't on the card, run op by op, write outputs into the tensors given for
        them and copy the others out; waits for all of it."""
        linked, context = self._linked, self.context
        if linked is None:
            raise BackendError("the executable is closed", place=PLACE)
        torch = context.torch
        torch.mlu.set_device(context.index)
        with _errors(context.provider), torch.no_grad():
            given = [self._on_card(feeds[spec["name"]]) for spec in self.inputs]
            results = linked.run(given)
            found, written = {}, []
            for spec, result in zip(self.outputs, results):
                target = (into or {}).get(spec["name"])
                if target is None:
                    array = result.cpu().contiguous().numpy()
                    _check_dtype(spec, array.dtype, np.dtype(spec["dtype"]))
                    found[spec["name"]] = array
                else:
                    _check_dtype(spec, result.dtype, target.dtype)
                    _check_shape(spec, result, target)
                    written.append((target, result))
            # Another result may be an input given on, and that input what is written to.
            if any(target is tensor for target, _ in written for tensor in given):
                written = [(target, result.clone()) for target, result in written]
            for target, result in written:
                target.copy_(result)
            if written:
                torch.mlu.synchronize(context.index)
        return found

    def _on_card(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self.context.torch.from_numpy(_owned(value)).to(self.context.device)
        return value

    def close(self) -> None:
        """Let go of the program and its weights."""
        self._linked = None


class _errors:  # noqa: N801 - used as a context manager, as contextlib's are
    """What torch raises in the block, as errors that the client knows."""

    def __init__(self, provider: Provider) -> None:
        self._lowerings = provider.lowerings

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if error is None or not isinstance(error, Exception):
            return
        place, cause = PLACE, error
        if isinstance(error, self._lowerings.OpFailed):
            place, cause = f"{PLACE}: op {error.op.id!r}", error.error
        text = " ".join(str(cause).split()) or type(cause).__name__
        if isinstance(cause, self._lowerings.Unsupported):
            raise UnsupportedError(text, place=place) from error
        if isinstance(cause, MemoryError) or any(word in text.lower() for word in _MEMORY):
            raise OutOfMemory(text, place=place) from error
        by_zero = text == "ZeroDivisionError"  # torch's text for an integer, in a RuntimeError
        if by_zero or isinstance(cause, (IndexError, ValueError, ZeroDivisionError)):
            raise InputError(text, place=place) from error
        if not isinstance(cause, (BackendError, UnsupportedError, InputError)):
            raise BackendError(f"{type(cause).__name__}: {text}", place=place) from error


def _check_dtype(spec: dict[str, Any], found: Any, wanted: Any) -> None:
    if found != wanted:
        raise BackendError(
            f"the result is {found}, the model says {spec['dtype']}",
            place="output {!r}".format(spec["name"]),
        )


def _check_shape(spec: dict[str, Any], result: Any, target: Any) -> None:
    if result.shape != target.shape:
        raise InputError(
            f"the result has shape {list(result.shape)}, the buffer {list(target.shape)}",
            place="output {!r}".format(spec["name"]),
        )


def _owned(array: Array) -> Array:
    """An array that torch takes without a warning: contiguous, writable, of a type it has."""
    kinds = {"uint16": "int32", "uint32": "int64"}
    if array.dtype.name in kinds:
        raise UnsupportedError(f"torch_mlu has no tensors of {array.dtype}", place=PLACE)
    contiguous = np.ascontiguousarray(array).reshape(array.shape)
    return contiguous if contiguous.flags.writeable else contiguous.copy()


def _zeros(torch: Any, spec: dict[str, Any]) -> Any:
    return torch.from_numpy(np.zeros(spec["shape"], np.dtype(spec["dtype"])))
