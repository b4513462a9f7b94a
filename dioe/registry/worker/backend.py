"""A backend whose plugin runs in a worker process, as a Backend like any other."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dioe.host_backend import buffer_shape
from dioe.registry.status import PluginStatus
from dioe.registry.worker import records
from dioe.registry.worker.arena import Arena, pack
from dioe.registry.worker.executable import WorkerExecutable, close_object
from dioe.registry.worker.memory import aligned
from dioe.registry.worker.model import send_model
from dioe.registry.worker.process import Command, WorkerProcess
from dioe.registry.worker.values import Packer
from dioe.types import (
    DONE,
    BackendError,
    Buffer,
    Capabilities,
    Context,
    DeviceInfo,
    Event,
    Executable,
    Feeds,
    HostBuffer,
    InputError,
    Precision,
    Precisions,
    Resolution,
    Resources,
    Sample,
    StageModel,
    Support,
    TensorSpec,
)

HANDLER = "dioe.registry.worker.handler"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a worker may take for what, in seconds, before it is stopped.

    ``load_s`` is for starting it, for importing the plugin and for probing it, each;
    ``compile_s`` for queries too. Long enough for what works, since a worker that is stopped takes
    all its contexts along.
    """

    load_s: float = 60.0
    call_s: float = 60.0
    compile_s: float = 1800.0
    run_s: float = 600.0


class WorkerHost:
    """The worker of one plugin: started when it is first needed, and again after its end.

    ``plugin`` is an entry point's value, ``package.module:function``. Thread-safe.
    """

    def __init__(
        self, plugin: str, *, name: str = "", source: str = "", deadlines: Deadlines | None = None
    ) -> None:
        self.deadlines = deadlines or Deadlines()
        self._args = {"plugin": plugin, "name": name or plugin, "source": source or plugin}
        self._lock = threading.Lock()
        self._process: WorkerProcess | None = None

    def process(self) -> WorkerProcess:
        """The running worker with the plugin loaded. Raises what starting one does, and
        BackendError if the plugin can't be loaded."""
        with self._lock:
            if self._process is None or not self._process.alive:
                process = self.start(self.deadlines.load_s)
                failure = self.load(process, self.deadlines.load_s)
                if failure is not None:
                    process.close()
                    raise BackendError(failure.reason, place=failure.source)
                self._process = process
            return self._process

    def start(self, limit_s: float) -> WorkerProcess:
        """A new worker, nothing of the plugin imported yet."""
        place = f"worker of {self._args['name']}"
        command = Command.same_python(HANDLER, self._args, place)
        return WorkerProcess(command, start_limit_s=limit_s)

    def load(self, process: WorkerProcess, limit_s: float) -> PluginStatus | None:
        """Import the plugin in a worker; its status if that failed."""
        answer = process.call("load", {}, limit_s=limit_s)
        failure = records.field(answer, "failed", (dict, type(None)))
        return None if failure is None else records.status(failure)

    def inspect(self, process: WorkerProcess, limit_s: float) -> list[PluginStatus]:
        """Probe every backend of the plugin in a worker."""
        answer = process.call("inspect", {}, limit_s=limit_s)
        return [records.status(found) for found in records.items(answer, "statuses", dict)]

    def adopt(self, process: WorkerProcess) -> None:
        """Use a worker that was started and loaded already."""
        with self._lock:
            self._process = process

    def close(self) -> None:
        """Stop the worker; contexts on it are lost. Another one is started if needed."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.close()


class WorkerBackend:
    """The backend ``name`` of a plugin, served by the plugin's worker.

    A Backend for everything else in DIOE: results, errors and their classes are those of the
    plugin. DeviceLost tells that the worker has died (contexts of it stay lost, ``open`` starts a
    new one), TimedOut that it took too long and was stopped.
    """

    def __init__(self, host: WorkerHost | str, name: str) -> None:
        self.host = WorkerHost(host, name=name) if isinstance(host, str) else host
        self.name = name
        self._about: Mapping[str, Any] | None = None

    def _ask(self, op: str, *, limit_s: float | None = None, **args: Any) -> dict[str, Any]:
        process = self.host.process()
        limit = self.host.deadlines.call_s if limit_s is None else limit_s
        return process.call(op, {"backend": self.name, **args}, limit_s=limit)

    def _fact(self, name: str, kind: type) -> Any:
        if self._about is None:
            self._about = self._ask("about")
        return records.field(self._about, name, kind)

    @property
    def abi_version(self) -> int:
        """As the plugin says."""
        return int(self._fact("abi_version", int))

    @property
    def simulated(self) -> bool:
        """As the plugin says."""
        return bool(self._fact("simulated", bool))

    @property
    def version(self) -> str:
        """As the plugin says."""
        return str(self._fact("version", str))

    def probe(self) -> Sequence[DeviceInfo]:
        """See ``dioe.types.Backend``."""
        answer = self._ask("probe", limit_s=self.host.deadlines.load_s)
        return [records.device(found) for found in records.items(answer, "devices", dict)]

    def capabilities(self, device: str) -> Capabilities:
        """See ``dioe.types.Backend``."""
        return records.capabilities(self._ask("capabilities", device=device))

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``dioe.types.Backend``."""
        answer = self._ask("resolve", options=records.plain(options, self.name))
        found = records.field(answer, "options", dict)
        return {str(key): records.resolution(value) for key, value in found.items()}

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """See ``dioe.types.Backend``."""
        process = self.host.process()
        named, _segment = send_model(model, process)  # memory that lives until the answer
        args = {"backend": self.name, "model": named, "device": device, "precision": precision}
        answer = process.call("query", args, limit_s=self.host.deadlines.compile_s)
        return records.support(answer, model.op_ids)

    def open(self, device: str, resources: Resources) -> Context:
        """See ``dioe.types.Backend``."""
        process = self.host.process()
        args = {"backend": self.name, "device": device, "resources": asdict(resources)}
        answer = process.call("open", args, limit_s=self.host.deadlines.call_s)
        return self._context(process, records.field(answer, "context", int), device)

    def _context(self, process: WorkerProcess, number: int, device: str) -> WorkerContext:
        """What ``open`` gives; a vendor's backend has a context of its own."""
        return WorkerContext(process, number, device, self.host.deadlines)


class WorkerContext:
    """A context of a worker. Its buffers are memory that the worker has too: nothing is copied for
    them."""

    def __init__(
        self, process: WorkerProcess, number: int, device: str, deadlines: Deadlines
    ) -> None:
        self.device = device
        self._process, self._number, self._deadlines = process, number, deadlines
        self._closed = threading.Event()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise BackendError("the context is closed", place=self.device)

    def _ask(self, op: str, limit_s: float, **args: Any) -> dict[str, Any]:
        self._check_open()
        return self._process.call(op, {"context": self._number, **args}, limit_s=limit_s)

    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """See ``dioe.types.Context``."""
        packer = Packer(self._process.find)
        feeds = None
        if calibration is not None:
            feeds = [{name: packer.add(v) for name, v in feed.items()} for feed in calibration]
        arena = Arena(self._process)
        named, segment = send_model(model, self._process)
        answer = self._ask(
            "compile",
            self._deadlines.compile_s,
            model=named,
            precisions=asdict(precisions),
            options=records.plain(options, "options"),
            calibration=feeds,
            given=pack(packer, arena),
        )
        kept = model if segment is None else None  # its file has to exist
        return self._executable(answer, kept)

    def deserialize(self, blob: bytes) -> Executable:
        """See ``dioe.types.Context``."""
        segment = self._process.segment(len(blob))
        segment.bytes(0, len(blob))[:] = np.frombuffer(blob, np.uint8)
        limit = self._deadlines.compile_s
        answer = self._ask("deserialize", limit, segment=segment.id, nbytes=len(blob))
        return self._executable(answer, None)

    def _executable(self, answer: Mapping[str, Any], model: StageModel | None) -> Executable:
        return WorkerExecutable(
            self._process,
            answer,
            device=self.device,
            closed=self._closed,
            call_s=self._deadlines.call_s,
            run_s=self._deadlines.run_s,
            model=model,
        )

    def alloc(self, spec: TensorSpec) -> Buffer:
        """See ``dioe.types.Context``: memory of the host that the worker has mapped too."""
        self._check_open()
        shape = buffer_shape(spec)
        if spec.dtype.hasobject:
            return HostBuffer(np.full(shape, "", object), self.device)
        nbytes = int(np.prod(shape, dtype=np.int64)) * spec.dtype.itemsize
        segment = self._process.segment(aligned(nbytes))
        return HostBuffer(segment.array(0, shape, spec.dtype), self.device)

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        """See ``dioe.types.Context``; done when this returns."""
        src.ready.wait()
        source, target = src.numpy(), dst.numpy()
        if source.dtype != target.dtype or source.shape != target.shape:
            raise InputError(
                f"can't copy {source.dtype}{list(source.shape)} to "
                f"{target.dtype}{list(target.shape)}"
            )
        np.copyto(target, source)
        return DONE

    def memory_info(self) -> Mapping[str, int]:
        """See ``dioe.types.Context``; ``process_bytes`` are the worker's."""
        found = records.field(self._ask("memory_info", self._deadlines.call_s), "memory", dict)
        return {str(name): records.field(found, name, int) for name in found}

    def utilization(self) -> Sample | None:
        """See ``dioe.types.Context``."""
        return records.sample(self._ask("utilization", self._deadlines.call_s))

    def power(self) -> Sample | None:
        """See ``dioe.types.Context``."""
        return records.sample(self._ask("power", self._deadlines.call_s))

    def close(self) -> None:
        """Close the context in the worker, and all that was compiled in it. May be called again."""
        if not self._closed.is_set():
            self._closed.set()
            close_object(self._process, self._number, self._deadlines.call_s)
