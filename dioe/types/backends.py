"""What a backend provides: protocols from the plugin itself down to one request, and the records
they give back."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dioe.types.devices import DeviceInfo, Resources
from dioe.types.targets import Precision, Precisions
from dioe.types.values import Buffer, Event, Feeds, TensorSpec, Value

if TYPE_CHECKING:
    import onnx_ir as ir

ABI_VERSION = 1
"""Version of this contract; a backend with another ``abi_version`` is refused with a reason."""

ENTRY_POINT_GROUP = "dioe.backends"
"""Entry points of this group name a function without arguments that gives the backends."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do on one device."""

    computes: frozenset[Precision] = frozenset({Precision.FP32})
    stores: frozenset[Precision] = frozenset({Precision.FP32})
    mixes_precisions: bool = False  # several in one executable, so a change is no boundary
    dynamic_shapes: bool = True
    asynchronous: bool = False
    graph_capture: bool = False
    dlpack_in: bool = False
    dlpack_out: bool = False
    keeps_to_cores: bool = False
    last_resort: bool = False  # tried only where nothing else fits


class Effect(enum.StrEnum):
    """What became of one option of a hardware profile."""

    APPLIED = "applied"
    APPROXIMATED = "approximated"
    IGNORED = "ignored"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Resolution:
    """One option as a backend took it, under its native key."""

    effect: Effect
    native_key: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Support:
    """Which ops (by id) of a model a backend can run on a device, and why not the others."""

    supported: frozenset[str]
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """True if nothing is refused."""
        return not self.refused


class StageModel(Protocol):
    """A model, or the part of one that makes a stage, as a backend receives it."""

    @property
    def ir(self) -> ir.Model: ...
    @property
    def sha256(self) -> str:
        """Hash of the canonical model, weights included, paths not."""
        ...

    @property
    def op_ids(self) -> tuple[str, ...]:
        """Ids of the top-level ops in node order: the name if unique, else the first output."""
        ...

    def to_bytes(self) -> bytes:
        """One ONNX protobuf with the weights inside; raises ModelError above 2 GiB."""
        ...

    def to_path(self) -> Path:
        """An ONNX file, external data beside it, that exists as long as this object."""
        ...


@dataclass(frozen=True, slots=True)
class OpTime:
    """Time of one op of an executable, by the backend's own clock, summed over ``count`` runs.

    ``name`` is the backend's; ``ops`` are the ids of the source ops it covers (several after
    fusion, none for a reorder the backend added).
    """

    name: str
    op_type: str
    ops: tuple[str, ...]
    total_ms: float
    count: int
    precision: str = ""

    @property
    def mean_ms(self) -> float:
        """Mean time of one run."""
        return self.total_ms / max(self.count, 1)


@dataclass(frozen=True, slots=True)
class Sample:
    """A reading of a counter, and where it comes from. No counter gives None, never 0."""

    value: float
    unit: str
    source: str


class Request(Protocol):
    """One single-threaded use of an executable, with preset buffers."""

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """Preset inputs and, where given, the buffers outputs go into (all others are the
        backend's own and stay valid until the next run). Bound host arrays are read and written
        in place. Binding some names keeps the others. Raises InputError."""
        ...

    def run(self) -> Event:
        """Run once. Raises BackendError, OutOfMemory, DeviceLost."""
        ...

    @property
    def outputs(self) -> Mapping[str, Value]:
        """Outputs of the last run: the bound buffers, or the backend's own."""
        ...


class DirectRequest(Request, Protocol):
    """A request with a shortcut for the runtime's hot path; backends may leave it out."""

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """Run on these inputs (all of them, validated by the caller) and return the named outputs
        as fresh values that the caller owns. Forgets nothing that ``bind`` set for outputs."""
        ...


class Executable(Protocol):
    """A compiled stage. ``request`` may be called from several threads."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def memory_bytes(self) -> int | None: ...
    def request(self) -> Request: ...
    def serialize(self) -> bytes | None: ...
    def profile(self) -> tuple[OpTime, ...]:
        """Per-op times over the runs so far; needs ``options={"profile": True}`` at compile."""
        ...

    def close(self) -> None: ...


class Context(Protocol):
    """A backend opened on a device with its resources.

    ``options`` of ``compile``, besides a backend's own: ``profile`` (bool, collect per-op times)
    and ``optimize`` (bool, False switches graph optimisations off: used for the reference).
    """

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable: ...
    def deserialize(self, blob: bytes) -> Executable: ...
    def alloc(self, spec: TensorSpec) -> Buffer: ...
    def copy(self, src: Buffer, dst: Buffer) -> Event: ...
    def memory_info(self) -> Mapping[str, int]: ...
    def utilization(self) -> Sample | None: ...
    def power(self) -> Sample | None: ...
    def close(self) -> None: ...


class Backend(Protocol):
    """A plugin that compiles and runs ONNX subgraphs on some devices.

    One backend is one execution provider: a plugin that has several returns several, named
    ``onnxruntime``, ``onnxruntime.webgpu``. Nothing heavy is imported before ``probe``.
    """

    @property
    def name(self) -> str: ...
    @property
    def abi_version(self) -> int: ...
    @property
    def simulated(self) -> bool: ...
    @property
    def version(self) -> str:
        """Version of the runtime behind the backend, for keys and reports."""
        ...

    def probe(self) -> Sequence[DeviceInfo]: ...
    def capabilities(self, device: str) -> Capabilities: ...
    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]: ...
    def query(self, model: StageModel, device: str, precision: Precision) -> Support: ...
    def open(self, device: str, resources: Resources) -> Context: ...
