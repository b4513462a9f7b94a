"""The handler of the worker: what the client asks, for whichever provider computes.

A *provider* wraps one library of the vendor (``magicmind``, ``torch_mlu``)::

    Provider(folder)         .known_as, .version, .devices() -> [device as JSON]
      .check(path)           raises UnsupportedError with the library's reason, or
      .check_ops(path)       -> [[op, the library's reason], ...]
      .open(device, limits)  -> a context
      .copy(source, target)  between tensors on the cards and arrays, where a context has .alloc
    a context                .compile(path, options, calibration), .deserialize(blob) -> executable
                             .memory_info() -> {name: bytes}; .utilization(), .power(); .close()
                             .alloc(dtype, shape) -> a tensor on the card, of the provider's own
                             kind: only with a library whose tensors a run reads and writes there
    an executable            .inputs, .outputs (specs as JSON), .memory_bytes
                             .serialize() -> bytes or None; .request() -> a request; .close()
    a request                .run({name: array}) -> {name: array}; where there is .alloc,
                             .run({name: array or tensor}, {name: tensor to write to}) -> the rest

The ops and their answers are those of docs/decisions/0010-workers.md, so that DIOE's own client
serves this backend as any other. Two are of this handler: ``alloc`` answers the number of a tensor
on the card, which from then on stands where a value may, as ``{"kind": "buffer", "buffer": 5}``;
``copy`` moves what is in a ``source`` to a ``target``.
"""

from __future__ import annotations

import gc
import itertools
import os
import threading

import numpy as np

from dioe_cambricon.worker.errors import BackendError, InputError, UnsupportedError
from dioe_cambricon.worker.tensors import Results, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dioe_cambricon.worker.tensors import Array

    Answer = dict[str, Any]


class Handler:
    """The provider, and what was opened, compiled and requested of it, under numbers."""

    def __init__(self, provider: Any, folder: str) -> None:
        self._provider, self._folder = provider, folder
        self._objects: dict[int, Any] = {}
        self._numbers = itertools.count(1)

    def handle(self, op: str, args: Answer, memory: Any) -> Answer:
        """Serve one op; raises what the provider raises."""
        method = getattr(self, "op_" + op, None)
        if method is None:
            raise BackendError(f"this worker has no op {op!r}")
        answer: Answer = method(args, memory)
        return answer

    def release(self, ids: list[int]) -> None:
        """Forget objects that the client has no use for."""
        for number in ids:
            self._objects.pop(number, None)

    def close(self) -> None:
        """Close all that is open, executables before their contexts."""
        for number in sorted(self._objects, reverse=True):
            thing = self._objects.pop(number, None)
            if hasattr(thing, "close"):
                thing.close()

    def _keep(self, thing: object) -> int:
        number = next(self._numbers)
        self._objects[number] = thing
        return number

    def _get(self, args: Answer, name: str) -> Any:
        try:
            return self._objects[args[name]]
        except KeyError:
            raise BackendError(f"the {name} is closed") from None

    # The provider

    def op_about(self, args: Answer, memory: Any) -> Answer:
        """Version of the vendor's library."""
        return {"version": self._provider.version}

    def op_probe(self, args: Answer, memory: Any) -> Answer:
        """The cards, or why there are none."""
        return {"devices": self._provider.devices()}

    def op_check(self, args: Answer, memory: Any) -> Answer:
        """Whether the library can read a model; the reason where it can't."""
        with _ModelFile(args["model"], memory, self._folder) as path:
            try:
                self._provider.check(path)
            except UnsupportedError as error:
                return {"refused": error.cause}
        return {"refused": None}

    def op_check_ops(self, args: Answer, memory: Any) -> Answer:
        """Which ops of a program the library can't run."""
        with _ModelFile(args["model"], memory, self._folder) as path:
            return {"refused": self._provider.check_ops(path)}

    # Contexts and executables

    def op_open(self, args: Answer, memory: Any) -> Answer:
        """Open a card."""
        return {"context": self._keep(self._provider.open(args["device"], args["resources"]))}

    def op_compile(self, args: Answer, memory: Any) -> Answer:
        """Compile a model, calibrating it where feeds are given."""
        feeds = args["calibration"]
        if feeds is not None:
            feeds = [
                {name: unpack(value, memory, args["given"]) for name, value in feed.items()}
                for feed in feeds
            ]
        context = self._get(args, "context")
        with _ModelFile(args["model"], memory, self._folder) as path:
            return self._describe(context.compile(path, args["options"], feeds))

    def op_deserialize(self, args: Answer, memory: Any) -> Answer:
        """An executable from its compiled form."""
        blob = bytes(memory.view(args["segment"], 0, args["nbytes"]))
        return self._describe(self._get(args, "context").deserialize(blob))

    def _describe(self, executable: Any) -> Answer:
        return {
            "executable": self._keep(executable),
            "inputs": executable.inputs,
            "outputs": executable.outputs,
            "memory_bytes": executable.memory_bytes,
        }

    def op_serialize(self, args: Answer, memory: Any) -> Answer:
        """The compiled form, into the arena."""
        blob = self._get(args, "executable").serialize()
        if blob is None:
            return {"values": {}}
        return self._deliver(Results({"blob": np.frombuffer(blob, np.uint8)}), args, memory)

    def op_profile(self, args: Answer, memory: Any) -> Answer:
        """There are no times of single ops."""
        raise UnsupportedError("this backend has no profile of single ops")

    def op_memory_info(self, args: Answer, memory: Any) -> Answer:
        """Bytes of the card's memory."""
        return {"memory": self._get(args, "context").memory_info()}

    def op_utilization(self, args: Answer, memory: Any) -> Answer:
        """A reading, or none."""
        return {"sample": self._get(args, "context").utilization()}

    def op_power(self, args: Answer, memory: Any) -> Answer:
        """A reading, or none."""
        return {"sample": self._get(args, "context").power()}

    def op_close_object(self, args: Answer, memory: Any) -> Answer:
        """Close an executable or a context and forget it."""
        thing = self._objects.pop(args["object"], None)
        if thing is not None:
            thing.close()
            del thing
            gc.collect()
        return {}

    # Tensors on the card

    def op_alloc(self, args: Answer, memory: Any) -> Answer:
        """A new tensor on the card, contents undefined."""
        context = self._get(args, "context")
        return {"buffer": self._keep(context.alloc(args["dtype"], args["shape"]))}

    def op_copy(self, args: Answer, memory: Any) -> Answer:
        """Copy from one tensor to another, at least one of them on a card. Waits."""
        source, target = (self._value(args[side], memory, None) for side in ("source", "target"))
        self._provider.copy(source, target)
        return {}

    def _value(self, described: dict[str, Any], memory: Any, given: int | None) -> Any:
        """An array over shared memory, or a tensor on the card."""
        if described.get("kind") == "buffer":
            return self._get(described, "buffer")
        return unpack(described, memory, given)

    # Requests

    def op_request(self, args: Answer, memory: Any) -> Answer:
        """A new request."""
        return {"request": self._keep(_Served(self._get(args, "executable")))}

    def op_bind(self, args: Answer, memory: Any) -> Answer:
        """Bind arrays in shared memory, and tensors on the card, for all runs to come."""
        served = self._get(args, "request")
        inputs, outputs = (
            {name: self._value(value, memory, None) for name, value in args[side].items()}
            for side in ("inputs", "outputs")
        )
        with served.lock:
            served.inputs.update(inputs)
            served.targets.update(outputs)
        return {}

    def op_run(self, args: Answer, memory: Any) -> Answer:
        """Run once; outputs that aren't bound are returned."""
        served = self._get(args, "request")
        with served.lock:
            given = {n: unpack(v, memory, args["given"]) for n, v in args["inputs"].items()}
            arrays, tensors = served.split_targets()
            found = served.run(dict(served.inputs, **given), tensors)
            for name, target in arrays.items():
                _write(name, found[name], target)
            results = Results({name: found[name] for name in args["names"]})
            return self._deliver(results, args, memory)

    def op_call(self, args: Answer, memory: Any) -> Answer:
        """Run on these inputs; all outputs that are named are returned."""
        served = self._get(args, "request")
        feeds = {n: self._value(v, memory, args["given"]) for n, v in args["inputs"].items()}
        with served.lock:
            found = served.run(feeds, {})
            results = Results({name: found[name] for name in args["names"]})
            return self._deliver(results, args, memory)

    def op_collect(self, args: Answer, memory: Any) -> Answer:
        """Results that didn't fit into the arena before."""
        results = self._get(args, "results")
        self._objects.pop(args["results"], None)
        return self._deliver(results, args, memory)

    def _deliver(self, results: Results, args: Answer, memory: Any) -> Answer:
        """Write into the arena; or say how much more is needed, and keep them."""
        segment, room = args["arena"]
        if results.nbytes > room:
            return {"need": results.nbytes, "results": self._keep(results)}
        if results.nbytes:
            results.write(memory.view(segment, 0, room))
        return {"values": results.described}


class _Served:
    """A request of the provider and what is bound to it. A client that gave up waiting may ask
    again: one at a time."""

    def __init__(self, executable: Any) -> None:
        self.lock = threading.Lock()
        self.inputs: dict[str, Any] = {}
        self.targets: dict[str, Any] = {}
        self._request = executable.request()

    def split_targets(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """What is bound for outputs: arrays, and tensors on the card."""
        arrays = {n: t for n, t in self.targets.items() if isinstance(t, np.ndarray)}
        return arrays, {n: t for n, t in self.targets.items() if n not in arrays}

    def run(self, feeds: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Array]:
        """Outputs by name, without those written to ``tensors``."""
        found: dict[str, Array] = (
            self._request.run(feeds, tensors) if tensors else self._request.run(feeds)
        )
        return found


def _write(name: str, result: Array, target: Array) -> None:
    if result.shape != target.shape:
        raise InputError(
            f"the result has shape {list(result.shape)}, the buffer {list(target.shape)}",
            place=f"output {name!r}",
        )
    target[...] = result


class _ModelFile:
    """A model as a file for as long as it is read: the client's own, or its bytes written out."""

    _numbers = itertools.count()

    def __init__(self, named: Answer, memory: Any, folder: str) -> None:
        self._named, self._memory, self._folder = named, memory, folder
        self._made = ""

    def __enter__(self) -> str:
        if self._named.get("path"):
            path: str = self._named["path"]
            return path
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._made = os.path.join(self._folder, f"model-{next(self._numbers)}.onnx")
        with open(self._made, "wb") as stream:
            stream.write(self._memory.view(self._named["segment"], 0, self._named["nbytes"]))
        return self._made

    def __exit__(self, *error: object) -> None:
        if self._made:
            os.unlink(self._made)
