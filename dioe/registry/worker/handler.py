"""The handler for DIOE's plugins: a worker that hosts it serves every backend of one plugin.

Runs in the worker, on a Python that has DIOE. See docs/decisions/0010-workers.md for the ops.
"""

from __future__ import annotations

import gc
import importlib.metadata
import itertools
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from dioe.registry.loading import inspect_backend, load_plugin
from dioe.registry.status import PluginStatus
from dioe.registry.worker import records
from dioe.registry.worker.model import ReceivedModel
from dioe.registry.worker.script import Memory
from dioe.registry.worker.values import Described, Packer, Unpacker
from dioe.types import (
    ENTRY_POINT_GROUP,
    Array,
    Backend,
    BackendError,
    Context,
    DirectRequest,
    Executable,
    Precision,
    Request,
    Value,
)

Answer = dict[str, Any]


def create(args: Mapping[str, Any]) -> PluginHandler:
    """A handler for the plugin that an entry point names; nothing of it is imported yet."""
    return PluginHandler(args["name"], args["plugin"], args["source"], Path(args["folder"]))


class PluginHandler:
    """The backends of one plugin, and what was opened, compiled and requested of them.

    Objects live under numbers until the client closes or releases them. Methods that serve an op
    are called from several threads.
    """

    def __init__(self, name: str, plugin: str, source: str, folder: Path) -> None:
        self._point = importlib.metadata.EntryPoint(name, plugin, ENTRY_POINT_GROUP)
        self._source, self._folder = source, folder
        self._backends: list[Any] = []
        self._objects: dict[int, Any] = {}
        self._numbers = itertools.count(1)

    def handle(self, op: str, args: dict[str, Any], memory: Memory) -> Answer:
        """Serve one op; raises what the plugin raises."""
        method = getattr(self, f"op_{op}", None)
        if method is None:
            raise BackendError(f"a worker for plugins has no op {op!r}")
        answer: Answer = method(args, memory)
        return answer

    def release(self, ids: list[int]) -> None:
        """Forget objects that the client has no use for."""
        for number in ids:
            self._objects.pop(number, None)

    def close(self) -> None:
        """Close every context."""
        for thing in list(self._objects.values()):
            if isinstance(thing, _OpenContext):
                thing.context.close()
        self._objects.clear()

    def _keep(self, thing: object) -> int:
        number = next(self._numbers)
        self._objects[number] = thing
        return number

    def _get(self, args: Mapping[str, Any], name: str) -> Any:
        try:
            return self._objects[args[name]]
        except KeyError:
            raise BackendError(f"the {name} is closed") from None

    def _backend(self, args: Mapping[str, Any]) -> Backend:
        for backend in self._backends:
            if backend.name == args["backend"]:
                return cast(Backend, backend)
        raise BackendError(f"the plugin has no backend {args['backend']!r}")

    # What the plugin is

    def op_load(self, args: Answer, memory: Memory) -> Answer:
        """Import the plugin and have it name its backends."""
        self._backends, failure = load_plugin(self._point, self._source)
        _flush()
        return {"failed": None if failure is None else records.status_data(failure)}

    def op_inspect(self, args: Answer, memory: Memory) -> Answer:
        """Probe every backend; a failure in one is its own status."""
        found: list[tuple[PluginStatus, Backend | None]] = [
            inspect_backend(backend, self._point.name, self._source) for backend in self._backends
        ]
        _flush()
        return {"statuses": [records.status_data(status) for status, _ in found]}

    def op_about(self, args: Answer, memory: Memory) -> Answer:
        """Who a backend says it is."""
        backend = self._backend(args)
        return {
            "abi_version": backend.abi_version,
            "simulated": bool(backend.simulated),
            "version": str(backend.version),
        }

    def op_probe(self, args: Answer, memory: Memory) -> Answer:
        """See ``dioe.types.Backend``, as for all ops of a backend's method."""
        return {"devices": [records.device_data(d) for d in self._backend(args).probe()]}

    def op_capabilities(self, args: Answer, memory: Memory) -> Answer:
        """See ``op_probe``."""
        return records.capabilities_data(self._backend(args).capabilities(args["device"]))

    def op_resolve(self, args: Answer, memory: Memory) -> Answer:
        """See ``op_probe``."""
        found = self._backend(args).resolve(args["options"])
        return {"options": {key: asdict(answer) for key, answer in found.items()}}

    def op_query(self, args: Answer, memory: Memory) -> Answer:
        """See ``op_probe``."""
        model = self._model(args["model"], memory)
        found = self._backend(args).query(model, args["device"], Precision(args["precision"]))
        return records.support_data(found, model.op_ids)

    # Contexts and executables

    def op_open(self, args: Answer, memory: Memory) -> Answer:
        """Open a context."""
        resources = records.resources(args["resources"])
        context = self._backend(args).open(args["device"], resources)
        return {"context": self._keep(_OpenContext(context))}

    def op_compile(self, args: Answer, memory: Memory) -> Answer:
        """Compile a model; answers what the executable takes and gives."""
        feeds = None
        if args["calibration"] is not None:
            unpacker = _unpacker(memory, args["given"])
            feeds = [
                {name: unpacker.value(value) for name, value in feed.items()}
                for feed in args["calibration"]
            ]
        executable = self._context(args).compile(
            self._model(args["model"], memory),
            records.precisions(args["precisions"]),
            args["options"],
            feeds,
        )
        return self._describe(executable)

    def op_deserialize(self, args: Answer, memory: Memory) -> Answer:
        """An executable from its serialised form."""
        blob = bytes(memory.view(args["segment"], 0, args["nbytes"]))
        return self._describe(self._context(args).deserialize(blob))

    def _describe(self, executable: Executable) -> Answer:
        return {
            "executable": self._keep(executable),
            "inputs": [records.spec_data(spec) for spec in executable.inputs],
            "outputs": [records.spec_data(spec) for spec in executable.outputs],
            "memory_bytes": executable.memory_bytes,
        }

    def _context(self, args: Answer) -> Context:
        opened: _OpenContext = self._get(args, "context")
        return opened.context

    def _model(self, named: Answer, memory: Memory) -> ReceivedModel:
        path = named.get("path")
        data = None if path else memory.view(named["segment"], 0, named["nbytes"])
        return ReceivedModel(
            data, Path(path) if path else None, tuple(named["op_ids"]), named["sha256"],
            self._folder,
        )  # fmt: skip

    def op_memory_info(self, args: Answer, memory: Memory) -> Answer:
        """Counters of the context's device."""
        found = self._context(args).memory_info()
        return {"memory": {str(name): int(value) for name, value in found.items()}}

    def op_utilization(self, args: Answer, memory: Memory) -> Answer:
        """A reading, or none."""
        found = self._context(args).utilization()
        return {"sample": None if found is None else asdict(found)}

    def op_power(self, args: Answer, memory: Memory) -> Answer:
        """A reading, or none."""
        found = self._context(args).power()
        return {"sample": None if found is None else asdict(found)}

    def op_serialize(self, args: Answer, memory: Memory) -> Answer:
        """The compiled form, into the arena."""
        executable: Executable = self._get(args, "executable")
        blob = executable.serialize()
        if blob is None:
            return {"values": {}}
        packer = Packer()
        described = packer.add(np.frombuffer(blob, np.uint8))
        return _Results(packer, {"blob": described}).deliver(self, args, memory)

    def op_profile(self, args: Answer, memory: Memory) -> Answer:
        """Times of ops."""
        executable: Executable = self._get(args, "executable")
        return {"ops": [asdict(op) for op in executable.profile()]}

    def op_close_object(self, args: Answer, memory: Memory) -> Answer:
        """Close an executable or a context and forget it."""
        thing = self._objects.pop(args["object"], None)
        if thing is not None:
            (thing.context if isinstance(thing, _OpenContext) else thing).close()
            del thing
            gc.collect()  # models are cyclic: their weights would stay until the next collection
        return {}

    # Requests

    def op_request(self, args: Answer, memory: Memory) -> Answer:
        """A new request."""
        executable: Executable = self._get(args, "executable")
        return {"request": self._keep(_Served(executable))}

    def op_bind(self, args: Answer, memory: Memory) -> Answer:
        """Bind arrays in shared memory for all runs to come."""
        served: _Served = self._get(args, "request")
        unpacker = _unpacker(memory, None)
        inputs, outputs = (
            {name: unpacker.value(value) for name, value in args[side].items()}
            for side in ("inputs", "outputs")
        )
        with served.lock:
            served.request.bind(inputs, outputs)
        return {}

    def op_run(self, args: Answer, memory: Memory) -> Answer:
        """Run once, with what can't be bound for good; outputs that aren't bound are returned."""
        served: _Served = self._get(args, "request")
        with served.lock:
            if args["inputs"]:
                unpacker = _unpacker(memory, args["given"])
                served.request.bind({n: unpacker.value(v) for n, v in args["inputs"].items()})
            served.request.run().wait()
            if not args["names"]:
                return {"values": {}}
            found = served.request.outputs
            return _pack({n: found[n] for n in args["names"]}).deliver(self, args, memory)

    def op_call(self, args: Answer, memory: Memory) -> Answer:
        """Run on these inputs; all outputs that are named are returned."""
        served: _Served = self._get(args, "request")
        unpacker = _unpacker(memory, args["given"])
        feeds = {name: unpacker.value(value) for name, value in args["inputs"].items()}
        with served.lock:
            return _pack(served.call(feeds, args["names"])).deliver(self, args, memory)

    def op_collect(self, args: Answer, memory: Memory) -> Answer:
        """Results that didn't fit into the arena before."""
        results: _Results = self._get(args, "results")
        self._objects.pop(args["results"], None)
        return results.deliver(self, args, memory)


class _OpenContext:
    """Tells a context from an executable."""

    def __init__(self, context: Context) -> None:
        self.context = context


class _Served:
    """A request of a backend. A client that gave up waiting may ask again: one at a time."""

    def __init__(self, executable: Executable) -> None:
        self.lock = threading.Lock()
        self.request = executable.request()
        self._executable = executable
        self._second: Request | None = None

    def call(self, feeds: Mapping[str, Value], names: Sequence[str]) -> dict[str, Value]:
        """Outputs by name; a request of its own where the backend has no ``call``, so that
        what is bound stays bound."""
        if hasattr(self.request, "call"):
            direct = cast(DirectRequest, self.request)
            return dict(zip(names, direct.call(feeds, list(names)), strict=True))
        if self._second is None:
            self._second = self._executable.request()
        self._second.bind(feeds)
        self._second.run().wait()
        found = self._second.outputs
        return {name: found[name] for name in names}


class _Results:
    """Values on their way to the client."""

    def __init__(self, packer: Packer, described: dict[str, Described]) -> None:
        self._packer, self._described = packer, described

    def deliver(self, handler: PluginHandler, args: Answer, memory: Memory) -> Answer:
        """Write them into the arena; or say how much more is needed, and keep them."""
        segment, room = args["arena"]
        if self._packer.nbytes > room:
            return {"need": self._packer.nbytes, "results": handler._keep(self)}
        if self._packer.nbytes:
            self._packer.write(np.frombuffer(memory.view(segment, 0, room), np.uint8))
        return {"values": self._described}


def _pack(values: Mapping[str, Value]) -> _Results:
    packer = Packer()
    return _Results(packer, {name: packer.add(value) for name, value in values.items()})


def _unpacker(memory: Memory, given: int | None) -> Unpacker:
    """Values of the client: where no segment is named, they lie in what came with the call."""

    def found(segment: int | None) -> Array:
        number = given if segment is None else segment
        if number is None:
            return np.empty(0, np.uint8)
        return np.frombuffer(memory.view(number), np.uint8)

    return Unpacker(found)


def _flush() -> None:
    """Let all that was printed reach the client, by C libraries too, before the answer does."""
    sys.stdout.flush()
    try:
        import ctypes

        ctypes.CDLL(None).fflush(None)
    except (ImportError, OSError, AttributeError):
        return  # no such C library: what it printed comes when it ends
