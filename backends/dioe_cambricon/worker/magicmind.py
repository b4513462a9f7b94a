"""MagicMind: whole ONNX graphs in, compiled models out, for fp32, fp16 and int8.

The calls, and their order, are those of Cambricon's public samples
(github.com/Cambricon/magicmind_cloud). Its tensors have no DLPack: inputs are copied from host
arrays and outputs to them in each run.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import os
import threading

import numpy as np

from dioe_cambricon.worker import cndev
from dioe_cambricon.worker.cards import absent, present
from dioe_cambricon.worker.errors import (
    BackendError,
    InputError,
    OutOfMemory,
    UnsupportedError,
)
from dioe_cambricon.worker.versions import distribution_version, known_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dioe_cambricon.worker.tensors import Array

PLACE = "magicmind"
MAGIC = b"DIOE-MM1"


class Provider:
    """The library and its cards; what can't be imported is a reason, not an error."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._missing = ""
        self.mm: Any = None
        self.parser: Any = None
        self.types: Any = None
        try:
            self.mm = importlib.import_module("magicmind.python.runtime")
            self.parser = importlib.import_module("magicmind.python.runtime.parser")
            self.types = importlib.import_module("magicmind.python.common.types")
        except (ImportError, OSError) as error:  # OSError: a shared library of it is missing
            self._missing = f"{type(error).__name__}: {error}"
        self.known_as = "absent" if self._missing else known_as("magicmind")
        self.version = "" if self._missing else distribution_version("magicmind")
        self.counters = cndev.load() if self.known_as == "hardware" else None
        self._system: Any = None

    def devices(self) -> list[dict[str, Any]]:
        """The cards as MagicMind counts them; one that is absent, with the reason, if none."""
        if self._missing:
            return [absent(f"magicmind can't be imported there ({self._missing})")]
        count = int(self.system().device_count())
        if count < 1:
            return [absent("MagicMind finds no card (System.device_count() is 0)")]
        details = {"library": "magicmind", "version": self.version}
        return [present(i, self.counters, self.known_as, details) for i in range(count)]

    def system(self) -> Any:
        """The library's ``System``, entered once and left when the worker ends."""
        if self._system is None:
            self._system = self.mm.System().__enter__()
        return self._system

    def check(self, path: str) -> None:
        """Read a model; raises UnsupportedError with what the library says of it."""
        self.parse(path)

    def parse(self, path: str) -> Any:
        """A network with the model in it."""
        network = self.mm.Network()
        parser = self.parser.Parser(self.mm.ModelKind.kOnnx)
        check(parser.parse(network, path), "the model isn't parsed", UnsupportedError)
        return network

    def open(self, device: str, resources: dict[str, Any]) -> Context:
        """A context on a card."""
        index = int(device.partition(":")[2])
        context = Context(self, index, self._folder)
        context.activate()
        return context


class Context:
    """One card. Which card calls are for is a property of each thread: ``activate`` comes first."""

    _numbers = itertools.count()

    def __init__(self, provider: Provider, index: int, folder: str) -> None:
        self.provider, self.mm, self.index, self._folder = provider, provider.mm, index, folder
        self._threads = threading.local()

    def activate(self) -> Any:
        """The card as a ``Device``, current in this thread."""
        device = getattr(self._threads, "device", None)
        if device is None:
            self.provider.system()
            device = self.mm.Device()
            device.id = self.index
            self._threads.device = device
        check(device.active(), f"mlu:{self.index} can't be used", BackendError)
        return device

    def compile(
        self, path: str, options: dict[str, Any], calibration: list[dict[str, Array]] | None
    ) -> Executable:
        """Parse, calibrate where feeds are given, build.

        ``options``: ``config`` is MagicMind's own build configuration, ``dims`` the shape of each
        input (-1 for an open dimension), ``algorithm`` that of the calibration, ``inputs`` and
        ``outputs`` the specs of the model.
        """
        mm = self.mm
        self.activate()
        network = self.provider.parse(path)
        self._shape(network, options)
        config = mm.BuilderConfig()
        text = json.dumps(options["config"], sort_keys=True)
        check(config.parse_from_string(text), "MagicMind refuses " + text, UnsupportedError)
        if calibration is not None:
            self._calibrate(network, config, options, calibration)
        model = mm.Builder().build_model("dioe", network, config)
        made(model, "the model isn't built", UnsupportedError)
        return Executable(self, model, options["inputs"], options["outputs"])

    def _shape(self, network: Any, options: dict[str, Any]) -> None:
        names = [spec["name"] for spec in options["inputs"]]
        if network.get_input_count() != len(names):
            raise BackendError(
                f"MagicMind finds {network.get_input_count()} inputs in a model of {len(names)}",
                place=PLACE,
            )
        for place, name in enumerate(names):
            dims = self.mm.Dims(options["dims"][name])
            done = network.get_input(place).set_dimension(dims)
            check(done, f"shape {options['dims'][name]} of input {name!r}", InputError)

    def _calibrate(
        self, network: Any, config: Any, options: dict[str, Any], feeds: list[dict[str, Array]]
    ) -> None:
        """One source of data for each input of the network, in its order."""
        mm, names = self.mm, [spec["name"] for spec in options["inputs"]]
        sources = [
            calibration_data(mm, self.provider.types, [feed[name] for feed in feeds])
            for name in names
        ]
        calibrator = mm.Calibrator(sources)
        algorithm = getattr(mm.QuantizationAlgorithm, options["algorithm"])
        check(
            calibrator.set_quantization_algorithm(algorithm),
            "MagicMind refuses " + options["algorithm"],
            UnsupportedError,
        )
        check(calibrator.calibrate(network, config), "calibration failed", BackendError)

    def deserialize(self, blob: bytes) -> Executable:
        """An executable from what ``Executable.serialize`` gave; raises BackendError for others."""
        head, compiled = read_blob(blob)
        self.activate()
        with self.scratch() as path:
            with open(path, "wb") as stream:
                stream.write(compiled)
            model = self.mm.Model()
            check(model.deserialize_from_file(path), "not a model of MagicMind", BackendError)
        return Executable(self, model, head["inputs"], head["outputs"])

    def scratch(self) -> _Scratch:
        """The path of a file that goes at the end of the block."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        return _Scratch(os.path.join(self._folder, f"{next(self._numbers)}.model"))

    def memory_info(self) -> dict[str, int]:
        """Bytes of the card's memory; nothing where the driver's library isn't there."""
        found = None
        if self.provider.counters is not None:
            found = self.provider.counters.memory(self.index)
        return found or {}

    def utilization(self) -> dict[str, Any] | None:
        """Mean load of the cores."""
        counters = self.provider.counters
        return None if counters is None else counters.utilization(self.index)

    def power(self) -> dict[str, Any] | None:
        """What the card draws."""
        counters = self.provider.counters
        return None if counters is None else counters.power(self.index)

    def close(self) -> None:
        """Nothing is held beside what executables and requests hold."""


class Executable:
    """A built model and its engine. ``inputs`` and ``outputs`` are specs as the ONNX has them."""

    memory_bytes = None

    def __init__(
        self,
        context: Context,
        model: Any,
        inputs: list[dict[str, Any]],
        outputs: list[dict[str, Any]],
    ) -> None:
        self.context, self.inputs, self.outputs = context, inputs, outputs
        self._model = model
        to_numpy = context.provider.types.get_numpy_dtype_by_datatype
        self.order = matching(inputs, model.get_input_names(), "input")
        given = {spec["name"]: spec for spec in inputs}
        computed = {s["name"]: s for s in outputs if s["name"] not in given}
        self.passed = [name for name in given if name in {s["name"] for s in outputs}]
        self.output_order = matching(
            list(computed.values()), model.get_output_names(), "output", self.passed
        )
        self.dtypes = [np.dtype(to_numpy(kind)) for kind in model.get_input_data_types()]
        settings = context.mm.Model.EngineConfig()
        settings.device_type = "MLU"
        self._engine = made(model.create_i_engine(settings), "no engine", BackendError)

    def request(self) -> Request:
        """A context of the engine with a queue of its own."""
        if self._engine is None:
            raise BackendError("the executable is closed", place=PLACE)
        device = self.context.activate()
        running = made(self._engine.create_i_context(), "no context", BackendError)
        return Request(self, running, made(device.create_queue(), "no queue", BackendError))

    def serialize(self) -> bytes:
        """The ``.model`` file behind a head with the specs and the file's digest."""
        if self._model is None:
            raise BackendError("the executable is closed", place=PLACE)
        with self.context.scratch() as path:
            check(self._model.serialize_to_file(path), "not written", BackendError)
            with open(path, "rb") as stream:
                compiled = stream.read()
        return write_blob(self.inputs, self.outputs, compiled)

    def close(self) -> None:
        """Let go of the engine; requests that run keep it until they are gone."""
        self._model, self._engine = None, None


class Request:
    """One single-threaded use: a context, a queue, input tensors."""

    def __init__(self, executable: Executable, running: Any, queue: Any) -> None:
        self._executable, self._running, self._queue = executable, running, queue
        self._inputs = made(running.create_inputs(), "no input tensors", BackendError)

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """Copy in, run, wait, copy out."""
        executable = self._executable
        device = executable.context.activate()
        for place, spec in enumerate(executable.order):
            tensor, wanted = self._inputs[place], executable.dtypes[place]
            array = narrowed(feeds[spec["name"]], wanted, spec["name"])
            tensor.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
            tensor.to(device)
        outputs: list[Any] = []
        check(self._running.enqueue(self._inputs, outputs, self._queue), "not run", BackendError)
        check(self._queue.sync(), "the run failed", BackendError)
        found = {name: feeds[name] for name in executable.passed}
        for tensor, spec in zip(outputs, executable.output_order):
            if spec is not None:
                array = np.asarray(tensor.asnumpy())
                found[spec["name"]] = array.astype(np.dtype(spec["dtype"]), copy=False)
        return found


def calibration_data(mm: Any, types: Any, arrays: list[Array]) -> Any:
    """The samples of one input, as MagicMind asks for them."""

    class Samples(mm.CalibDataInterface):  # type: ignore[misc]
        """``next`` until it says OUT_OF_RANGE, then ``reset``."""

        def __init__(self) -> None:
            super().__init__()
            self._at = -1

        def next(self) -> Any:
            self._at += 1
            if self._at >= len(arrays):
                return mm.Status(mm.Code.OUT_OF_RANGE, "No more data.")
            return mm.Status.OK()

        def get_shape(self) -> Any:
            return mm.Dims(list(arrays[self._at].shape))

        def get_data_type(self) -> Any:
            return types.get_datatype_by_numpy(arrays[self._at].dtype)

        def get_sample(self) -> Array:
            return np.ascontiguousarray(arrays[self._at])

        def reset(self) -> Any:
            self._at = -1
            return mm.Status.OK()

    return Samples()


def check(status: Any, what: str, kind: type[BackendError | UnsupportedError | InputError]) -> None:
    """Raise ``kind`` (OutOfMemory where the text says so) unless a status is ok."""
    if not status.ok():
        raise _error(str(status), what, kind)


def made(thing: Any, what: str, kind: type[BackendError | UnsupportedError]) -> Any:
    """``thing``, unless it is None or the status of a failure in its place."""
    if thing is None or hasattr(thing, "ok"):
        raise _error("" if thing is None else str(thing), what, kind)
    return thing


def _error(text: str, what: str, kind: Any) -> Exception:
    cause = f"{what}: {text}" if text else what
    words = text.lower()
    if "out of memory" in words or "no memory" in words or "resource_exhausted" in words:
        return OutOfMemory(cause, place=PLACE)
    error: Exception = kind(cause, place=PLACE)
    return error


def matching(
    specs: list[dict[str, Any]], names: list[str], what: str, others: list[str] | None = None
) -> list[Any]:
    """The specs in MagicMind's order: by name where it kept the names, else as they come.

    ``others`` are names that it may have besides, and that nobody needs of it: None stands there.
    """
    by_name = {spec["name"]: spec for spec in specs}
    if set(by_name) <= set(names) <= set(by_name) | set(others or ()):
        return [by_name.get(name) for name in names]
    if len(names) != len(specs):
        raise BackendError(
            f"the built model has {len(names)} {what}s, the source {len(specs)}",
            place=PLACE,
        )
    return specs


def narrowed(array: Array, wanted: np.dtype[Any], name: str) -> Array:
    """The array as the built model takes it: 64-bit integers become 32-bit ones where they fit."""
    if array.dtype == wanted:
        return array
    if array.dtype.kind not in "iub" or wanted.kind not in "iub":
        raise BackendError(
            f"the built model takes {wanted} where the source has {array.dtype}",
            place=f"input {name!r}",
        )
    found = array.astype(wanted)
    if not np.array_equal(found, array):
        raise BackendError(
            f"has values beyond {wanted}, in which the card computes",
            place=f"input {name!r}",
        )
    return found


def write_blob(
    inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], compiled: bytes
) -> bytes:
    """A head in JSON, then MagicMind's own file."""
    digest = hashlib.sha256(compiled).hexdigest()
    head = json.dumps({"inputs": inputs, "outputs": outputs, "sha256": digest}).encode("ascii")
    return b"".join((MAGIC, len(head).to_bytes(8, "little"), head, compiled))


def read_blob(blob: bytes) -> tuple[dict[str, Any], bytes]:
    """The head and the file; raises BackendError for other bytes, damaged ones too."""
    start = len(MAGIC) + 8
    stop = start + int.from_bytes(blob[len(MAGIC) : start], "little")
    try:
        if not blob.startswith(MAGIC):
            raise ValueError("unknown format")
        head = json.loads(blob[start:stop].decode("ascii"))
        compiled = blob[stop:]
        if hashlib.sha256(compiled).hexdigest() != head["sha256"]:
            raise ValueError("its digest is another")
        if not all(isinstance(head[side], list) for side in ("inputs", "outputs")):
            raise ValueError("it has no specs")
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(f"not a compiled model: {error}", place=PLACE) from None
    return head, compiled


class _Scratch:
    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> str:
        return self._path

    def __exit__(self, *error: object) -> None:
        if os.path.exists(self._path):
            os.unlink(self._path)
