"""The contract: what DIOE's packages and its backend plugins share, and nothing else.

This module imports nothing of DIOE and no backend. A plugin needs only this file; see
``docs/plugins.md``. Data classes are frozen, protocols say what a plugin provides. Every size is
in bytes, every time in milliseconds, as the suffixes of the names say.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import networkx as nx
    import onnx_ir as ir

ABI_VERSION = 1
"""Version of this contract; a backend with another ``abi_version`` is refused with a reason."""

ENTRY_POINT_GROUP = "dioe.backends"
"""Entry points of this group name a function without arguments that gives the backends."""

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Dim: TypeAlias = int | str | None
"""A dimension: a number, a symbol, or None where the model says nothing."""


# --- errors -----------------------------------------------------------------------------------


class DioeError(Exception):
    """Base of every error DIOE raises on purpose: the cause, the place, and what to do about it.

    ``exit_code`` is the exit code of the ``dioe`` command.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, *, place: str = "", fix: str = "") -> None:
        super().__init__(cause)
        self.cause, self.place, self.fix = cause, place, fix

    def __str__(self) -> str:
        text = f"{self.place}: {self.cause}" if self.place else self.cause
        return f"{text}\n  {self.fix}" if self.fix else text

    def __reduce__(self) -> tuple[Callable[..., DioeError], tuple[Any, ...]]:
        return _rebuild_error, (type(self), self.cause, self.place, self.fix)


def _rebuild_error(kind: type[DioeError], cause: str, place: str, fix: str) -> DioeError:
    return kind(cause, place=place, fix=fix)


class ModelError(DioeError):
    """The model can't be read: missing, truncated, not ONNX, invalid, or its external data is."""

    exit_code = 10


class InputError(DioeError):
    """A feed, an option or an argument is wrong: name, dtype, shape, value."""

    exit_code = 11


class UnsupportedError(DioeError):
    """No backend can run this model, op, device or precision."""

    exit_code = 12


class FidelityError(DioeError):
    """Outputs don't follow the reference closely enough."""

    exit_code = 13


class PlanMismatch(DioeError):
    """A plan of another model, machine or format version."""

    exit_code = 14


class BackendError(DioeError):
    """A backend failed where it should not have."""

    exit_code = 15


class OutOfMemory(DioeError):
    """A device or the host has no memory left, or a limit would be passed."""

    exit_code = 16


class TimedOut(DioeError):
    """A time limit ran out."""

    exit_code = 17


class DeviceLost(DioeError):
    """The device, or the worker process that holds it, is gone."""

    exit_code = 18


class ConfigError(DioeError):
    """A YAML file, an environment variable or a cache directory can't be used."""

    exit_code = 19


# --- devices, precisions, targets -------------------------------------------------------------


class DeviceState(enum.StrEnum):
    """Whether a device can be used now."""

    PRESENT = "present"
    ABSENT = "absent"
    ERROR = "error"


class KnownAs(enum.StrEnum):
    """How a device is known; every report names it. Only ``HARDWARE`` latencies are measured."""

    HARDWARE = "hardware"
    SIMULATED = "simulated"  # executes on the CPU under another device's rules
    MODELLED = "modelled"  # a descriptor only
    CONTRACT = "contract"  # strict fakes of the vendor's API
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One physical or simulated resource with memory and lanes, as a backend sees it.

    ``id`` is kind and index (``cpu``, ``gpu:0``). ``uuid`` (PCI address or UUID) tells that two
    backends speak of one device; the registry merges by it. ``shares`` is the id of the device
    whose memory this one uses (a software device on the CPU, an integrated GPU).
    """

    id: str
    kind: str
    name: str = ""
    state: DeviceState = DeviceState.PRESENT
    reason: str = ""
    uuid: str = ""
    known_as: KnownAs = KnownAs.HARDWARE
    memory_bytes: int | None = None
    shares: str | None = None
    details: Mapping[str, str | int | float | bool] = field(default_factory=dict)


class Precision(enum.StrEnum):
    """Arithmetic of a stage. ``FP32`` means *as written*: a Q/DQ part stays quantised."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"  # weights only


@dataclass(frozen=True, slots=True)
class Precisions:
    """A default precision and the ops (by id) that differ from it."""

    default: Precision = Precision.FP32
    exceptions: Mapping[str, Precision] = field(default_factory=dict)

    def of(self, op: str) -> Precision:
        """The precision of one op."""
        return self.exceptions.get(op, self.default)

    @property
    def used(self) -> tuple[Precision, ...]:
        """All precisions named, the default first, the others sorted."""
        return (self.default, *sorted(set(self.exceptions.values()) - {self.default}))


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how: ``device/backend[.provider]/precision``, a mix named by its parts.

    Examples: ``cpu/openvino/bf16``, ``gpu:0/onnxruntime.webgpu/fp32``, ``cpu/openvino/bf16+fp32``.
    """

    device: str
    backend: str
    precisions: tuple[Precision, ...] = (Precision.FP32,)

    def __str__(self) -> str:
        return f"{self.device}/{self.backend}/{'+'.join(self.precisions)}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """The target that ``text`` names; raises InputError."""
        try:
            device, backend, precision = text.split("/")
            if not device or not backend:
                raise ValueError("its device or its backend is empty")
            return cls(device, backend, tuple(Precision(p) for p in precision.split("+")))
        except ValueError as error:
            raise InputError(
                f"{text!r} is not a target ({error})",
                fix="write device/backend/precision, such as cpu/openvino/fp32",
            ) from None


@dataclass(frozen=True, slots=True)
class Resources:
    """What a context may use of its device. None leaves the choice to the backend's own default.

    ``spin`` lets idle worker threads burn cycles to react faster: fine alone, harmful next to any
    other executable.
    """

    cores: tuple[int, ...] | None = None
    threads: int | None = None
    spin: bool | None = None
    streams: int = 1
    memory_limit_bytes: int | None = None


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


# --- values and buffers -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape (symbols allowed) of a model input or output.

    ``dtype`` is numpy's, with ml_dtypes for bf16, fp8 and int4; ``object`` for strings.
    ``kind`` tells sequences, optionals and maps apart, whose elements ``dtype`` describes.
    ``shape`` is None where the rank is unknown.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...] | None
    kind: str = "tensor"  # tensor | sequence | optional | map

    @property
    def static(self) -> bool:
        """True if every dimension is a number."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)


class Event(Protocol):
    """Something that happens on a device; ``wait`` returns when it has, or raises its error."""

    def wait(self, timeout_ms: float | None = None) -> None: ...
    def done(self) -> bool: ...


class _Done:
    """The event of work that was finished before it was handed out."""

    def wait(self, timeout_ms: float | None = None) -> None:
        return None

    def done(self) -> bool:
        return True


DONE: Event = _Done()


@runtime_checkable
class Buffer(Protocol):
    """A tensor in a device's memory. ``strides`` in bytes, None where contiguous.

    ``owner`` keeps the memory alive; ``ready`` happens when the contents are valid. Buffers that
    support DLPack also have ``__dlpack__`` and ``__dlpack_device__``.
    """

    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...] | None: ...
    @property
    def owner(self) -> object: ...
    @property
    def ready(self) -> Event: ...
    def numpy(self) -> Array:
        """A view of host memory; raises BackendError for memory the host can't address."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class HostBuffer:
    """A Buffer in host memory: a numpy array with a device name. Shared without copies."""

    array: Array
    device: str = "cpu"
    ready: Event = DONE

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.array.shape
        return shape

    @property
    def strides(self) -> tuple[int, ...] | None:
        return None if self.array.flags.c_contiguous else self.array.strides

    @property
    def owner(self) -> object:
        return self.array

    def numpy(self) -> Array:
        return self.array

    def __dlpack__(self, *, stream: None = None) -> object:
        return self.array.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


Value: TypeAlias = "Array | Buffer | list[Any] | dict[Any, Any] | None"
"""A tensor (numpy array on the host, of ``object`` for strings; Buffer elsewhere), a sequence, a
map, or None (an empty ONNX optional)."""

Feeds: TypeAlias = "Mapping[str, Value]"


# --- backends ---------------------------------------------------------------------------------


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


# --- plans ------------------------------------------------------------------------------------


class Basis(enum.StrEnum):
    """What a cost rests on."""

    MEASURED = "measured"
    CORRECTED = "corrected"  # measured alone or in a whole, and corrected for its surroundings
    PREDICTED = "predicted"
    DEFAULT = "default"  # no cost known: a sensible choice without measuring


@dataclass(frozen=True, slots=True)
class Stage:
    """A convex subgraph given to one backend on one device; compiled once.

    ``ops`` are op ids in topological order, ``inputs`` and ``outputs`` value names of the model.
    """

    name: str
    target: Target
    ops: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precisions: Precisions = field(default_factory=Precisions)
    resources: Resources = field(default_factory=Resources)
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    predicted_ms: float | None = None
    basis: Basis = Basis.DEFAULT


@dataclass(frozen=True, slots=True)
class Boundary:
    """A value that goes from one stage to another: transfer, conversion and dispatch."""

    value: str
    source: str
    destination: str
    nbytes: int | None = None
    predicted_ms: float | None = None


@dataclass(frozen=True, slots=True)
class TargetReport:
    """What became of one candidate target, with the figures behind it. Times in ms."""

    target: str
    state: str  # ok | unsupported | infidel | slow | failed
    reason: str = ""
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    spread_ms: float | None = None  # between the medians of the rounds
    runs: int = 0
    relative_l2: float | None = None
    noisy: bool = False


@dataclass(frozen=True, slots=True)
class BlockReport:
    """Where one block of ops was placed, and why. Times in ms.

    ``difference_ms`` is what the whole plan would lose with this block on ``runner_up``, boundaries
    and precision changes included; ``reason`` says what decided it.
    """

    block: str
    kind: str
    ops: tuple[str, ...]
    stage: str
    target: str
    cost_ms: float | None = None
    basis: Basis = Basis.DEFAULT
    runs: int = 0
    runner_up: str = ""
    difference_ms: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """One point of the curve of error against latency: what was lowered, and what came of it."""

    description: str
    lowered_ops: int
    relative_l2: float
    latency_ms: float
    basis: Basis = Basis.PREDICTED


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages, their targets and order, what each is predicted to cost, and why it was chosen.

    Bound to the canonical model's hash, the rewrites applied to it, the input shapes, and the
    hardware it was made for. Order of ``stages`` is the order of execution on one lane.
    """

    FORMAT: ClassVar[str] = "dioe-plan"
    VERSION: ClassVar[int] = 1

    model_sha256: str
    hardware: str
    stages: tuple[Stage, ...]
    boundaries: tuple[Boundary, ...] = ()
    shapes: Mapping[str, tuple[Dim, ...]] = field(default_factory=dict)
    rewrites: tuple[str, ...] = ()
    policy: str = "latency"
    precision: str = "fp32"
    max_relative_l2: float | None = None
    relative_l2: float | None = None
    predicted_ms: float | None = None
    basis: Basis = Basis.DEFAULT
    candidates: tuple[TargetReport, ...] = ()
    blocks: tuple[BlockReport, ...] = ()
    tradeoffs: tuple[Tradeoff, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """The distinct targets, in the order of the stages."""
        return tuple(dict.fromkeys(str(stage.target) for stage in self.stages))

    @property
    def graph(self) -> nx.DiGraph[str]:
        """The stage graph: ``stage`` nodes, and a ``transfer`` node for every boundary."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph(model=self.model_sha256)
        for stage in self.stages:
            graph.add_node(stage.name, kind="stage", stage=stage)
        for edge in self.boundaries:
            node = f"{edge.source}>{edge.destination}:{edge.value}"
            graph.add_node(node, kind="transfer", boundary=edge)
            graph.add_edge(edge.source, node)
            graph.add_edge(node, edge.destination)
        return graph

    def to_json(self) -> str:
        """A readable, versioned text; ``dioe.load_plan`` reads it back."""
        data: dict[str, Any] = {"format": self.FORMAT, "version": self.VERSION} | asdict(self)
        for written, stage in zip(data["stages"], self.stages, strict=True):
            written["target"] = str(stage.target)
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"

    def explain(self) -> str:
        """Why this plan: every candidate with its figures, best first; how many blocks went to
        which target; the curve of error against latency."""
        return "\n".join(_explain(self)) + "\n"


def _explain(plan: Plan) -> list[str]:
    cost = "not measured" if plan.predicted_ms is None else f"{plan.predicted_ms:.3f} ms"
    lines = [f"plan: {' -> '.join(plan.targets)}, {cost} ({plan.basis})"]
    best = min((c.p50_ms for c in plan.candidates if c.state == "ok" and c.p50_ms), default=None)
    for c in sorted(plan.candidates, key=lambda c: (c.state != "ok", c.p50_ms or float("inf"))):
        parts = [f"  {c.target}: {c.state}"]
        if c.p50_ms is not None:
            parts.append(f"{c.p50_ms:.3f} ms" + (f" (x{c.p50_ms / best:.2f})" if best else ""))
            parts.append(f"n={c.runs}" + (", noisy" if c.noisy else ""))
        if c.relative_l2 is not None:
            parts.append(f"error {c.relative_l2:.2g}")
        lines.append(", ".join(parts) + (f"; {c.reason}" if c.reason else ""))
    placed: dict[str, list[float]] = {}
    for block in plan.blocks:
        placed.setdefault(block.target, []).append(block.cost_ms or 0.0)
    for target, costs in sorted(placed.items(), key=lambda item: -sum(item[1])):
        lines.append(
            f"  blocks on {target}: {len(costs)} of {len(plan.blocks)}, {sum(costs):.3f} ms"
        )
    for t in plan.tradeoffs:
        figures = f"error {t.relative_l2:.2g}, {t.latency_ms:.3f} ms ({t.basis})"
        lines.append(f"  choice: {figures}, {t.lowered_ops} ops lowered; {t.description}")
    return lines + [f"  note: {note}" for note in plan.notes]
