"""A backend for tests: right by ``onnx.reference``, countable, and broken where a test says so."""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from dioe.host_backend import HostContext, host_device, tensor_specs
from dioe.registry import Registry
from dioe.types import (
    ABI_VERSION,
    DONE,
    Array,
    Backend,
    Capabilities,
    DeviceInfo,
    Event,
    Feeds,
    OpTime,
    Precision,
    Precisions,
    Resolution,
    Resources,
    StageModel,
    Support,
    UnsupportedError,
    Value,
)

Hook = Callable[[dict[str, Value]], dict[str, Value]]


class ToyBackend:
    """Runs models with ``onnx.reference`` on the host.

    ``during`` is called with the outputs of every run and gives those to be used. ``dynamic`` =
    False refuses models with open dimensions. ``adjust`` makes results what a precision would.
    ``log`` lists what happened, in order.
    """

    abi_version = ABI_VERSION
    version = "1"

    def __init__(
        self,
        name: str = "toy",
        *,
        during: Hook = lambda outputs: outputs,
        dynamic: bool = True,
        precisions: Sequence[Precision] = (Precision.FP32,),
        simulated: bool = False,
    ) -> None:
        self.name = name
        self.simulated = simulated
        self.during = during
        self.dynamic = dynamic
        self.precisions = frozenset(precisions)
        self.adjust: Callable[[Precision, list[Value]], list[Value]] | None = None
        self.log: list[str] = []
        self.lock = threading.Lock()
        self.received: list[dict[str, Value]] = []

    def note(self, text: str) -> None:
        """Add to the log."""
        with self.lock:
            self.log.append(text)

    def count(self, text: str) -> int:
        """How often that happened."""
        return self.log.count(text)

    def probe(self) -> Sequence[DeviceInfo]:
        return [host_device()]

    def capabilities(self, device: str) -> Capabilities:
        return Capabilities(computes=self.precisions, dynamic_shapes=self.dynamic)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        return {}

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        return Support(frozenset(model.op_ids))

    def open(self, device: str, resources: Resources) -> ToyContext:
        self.note("open")
        return ToyContext(self, device, resources)


class ToyContext(HostContext):
    """Compiles by parsing. A toy of another kind overrides ``make``."""

    def __init__(self, backend: ToyBackend, device: str, resources: Resources) -> None:
        super().__init__(device, resources)
        self.backend = backend

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> ToyExecutable:
        self.check_open()
        inputs, _ = tensor_specs(model)
        if not self.backend.dynamic and not all(spec.static for spec in inputs):
            raise UnsupportedError("no open shapes here", place=self.backend.name)
        made = self.make(model, precisions, options)
        self.backend.note("compile")
        return self.own(made)

    def make(
        self, model: StageModel, precisions: Precisions, options: Mapping[str, Any]
    ) -> ToyExecutable:
        """The executable, not noted and not owned yet."""
        return ToyExecutable(self.backend, model, precisions)

    def deserialize(self, blob: bytes) -> ToyExecutable:
        raise UnsupportedError("no compiled form", place=self.backend.name)

    def close(self) -> None:
        self.backend.note("close context")
        super().close()


class ToyExecutable:
    """A parsed model."""

    memory_bytes: int | None = 0

    def __init__(self, backend: ToyBackend, model: StageModel, precisions: Precisions) -> None:
        from onnx.reference import ReferenceEvaluator

        self.backend, self.precisions = backend, precisions
        self.inputs, self.outputs = tensor_specs(model)
        self.evaluator = ReferenceEvaluator(onnx.load_from_string(model.to_bytes()))
        self.closed = False

    def request(self) -> ToyRequest:
        self.backend.note("request")
        return ToyRequest(self)

    def evaluate(self, names: list[str], inputs: dict[str, Value]) -> list[Value]:
        """Outputs of the model, in the order of the names."""
        results: Any = self.evaluator.run(names, inputs)
        adjust = self.backend.adjust
        return results if adjust is None else adjust(self.precisions.default, results)

    def serialize(self) -> bytes | None:
        return None

    def profile(self) -> tuple[OpTime, ...]:
        return ()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.backend.note("close executable")


class ToyRequest:
    """One use; has no ``call``, so that the runtime's general path is taken."""

    def __init__(self, executable: ToyExecutable) -> None:
        self._executable = executable
        self._inputs: dict[str, Value] = {}
        self._targets: dict[str, Value] = {}
        self._outputs: dict[str, Value] = {}

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        self._inputs.update(inputs)
        self._targets.update(outputs or {})

    def run(self) -> Event:
        executable = self._executable
        backend = executable.backend
        assert not executable.closed, "run on a closed executable"
        with backend.lock:
            backend.received.append(dict(self._inputs))
        names = [spec.name for spec in executable.outputs]
        backend.note("run")
        results = executable.evaluate(names, dict(self._inputs))
        self._outputs = backend.during(dict(zip(names, results, strict=True)))
        assert not executable.closed, "closed while running"
        for name, target in self._targets.items():
            assert isinstance(target, np.ndarray)
            np.copyto(target, _array(self._outputs[name]))
            self._outputs[name] = target
        return DONE

    @property
    def outputs(self) -> Mapping[str, Value]:
        return self._outputs


def _array(value: Value) -> Array:
    assert isinstance(value, np.ndarray)
    return value


class HandMadeEntryPoint(importlib.metadata.EntryPoint):
    """An entry point that loads what it is given instead of importing a module."""

    def load(self) -> Any:
        return _LOADED[self.value]


_LOADED: dict[str, Callable[[], Sequence[Backend]]] = {}


def entry_point(*backends: Backend) -> HandMadeEntryPoint:
    """The entry point of a plugin that provides these backends."""
    value = f"toys_{id(backends[0])}:backends"
    _LOADED[value] = lambda: list(backends)
    return HandMadeEntryPoint(backends[0].name, value, "dioe.backends")


def registry_of(*backends: Backend, installed: Sequence[str] = ()) -> Registry:
    """A registry with these backends, and those of the installed plugins that are named."""
    points = importlib.metadata.entry_points(group="dioe.backends")
    real = [point for point in points if point.name in installed]
    return Registry([*real, *(entry_point(backend) for backend in backends)])
