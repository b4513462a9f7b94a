"""A model with its costs as an executable, and requests on it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from dioe.host_backend import (
    check_array,
    host_array,
    match_outputs,
    missing_inputs,
    name_list,
    tensor_specs,
    unknown_name,
)
from dioe.types import (
    Array,
    BackendError,
    Event,
    Feeds,
    InputError,
    OpTime,
    Precision,
    StageModel,
    TensorSpec,
    UnsupportedError,
    Value,
)
from dioe_null.clock import TimedEvent
from dioe_null.descriptors import PLACE
from dioe_null.device import Device, Memory, NullBuffer, Reservation, ready_ms
from dioe_null.roofline import Roofline, RunCost
from dioe_null.shapes import Shape, Shapes, check_symbols

_MAX_SHAPES = 64
"""Shapes of inputs whose costs are kept: each is found once, by shape inference."""


class NullExecutable:
    """A model on a modelled device; its weights take memory there. Thread-safe."""

    def __init__(
        self,
        device: Device,
        memory: Memory,
        model: StageModel,
        shapes: Shapes,
        roofline: Roofline,
        *,
        profile: bool,
    ) -> None:
        """Raises OutOfMemory, where shapes are static also for runs that could never be."""
        self.inputs, self.outputs = tensor_specs(model)
        self.device, self.memory = device, memory
        self._op_ids = model.op_ids
        self._op_types = [node.op_type for node in model.ir.graph]
        self._shapes, self._roofline = shapes, roofline
        self._costs: OrderedDict[tuple[Shape, ...], RunCost] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False
        self._profile = profile
        self._runs = 0
        self._total_ms = [0.0] * len(model.op_ids)
        self._first_ms = list(self._total_ms)
        self._precisions = [Precision.FP32] * len(model.op_ids)
        self._activation_bytes: int | None = None
        if all(spec.static for spec in self.inputs):
            cost = self.cost({spec.name: _shape(spec) for spec in self.inputs})
            self._activation_bytes = cost.activation_bytes
            whole = roofline.weight_bytes + cost.activation_bytes
            memory.check(whole, "the weights of the model and the activations of a run")
        self._weights = memory.reserve(roofline.weight_bytes, "the weights of the model")

    @property
    def memory_bytes(self) -> int | None:
        """Weights, and the activations of one request where shapes are static."""
        return self._weights.nbytes + (self._activation_bytes or 0)

    def cost(self, shapes: Mapping[str, Shape]) -> RunCost:
        """What a run on inputs of these shapes costs. Raises InputError, UnsupportedError."""
        key = tuple(shapes[spec.name] for spec in self.inputs)
        with self._lock:
            known = self._costs.get(key)
            if known is None:
                check_symbols(self.inputs, shapes)
                known = self._roofline.run(self._shapes.infer(shapes))
                self._costs[key] = known
                if len(self._costs) > _MAX_SHAPES:
                    self._costs.popitem(last=False)
            else:
                self._costs.move_to_end(key)
            return known

    def activation_bytes(self, cost: RunCost, elsewhere: Collection[str]) -> int:
        """What a run takes besides the values that are ``elsewhere``, in buffers of the device."""
        if not elsewhere:
            return cost.activation_bytes
        return self._roofline.activation_bytes(cost.values, elsewhere)

    def count(self, cost: RunCost) -> None:
        """Book one run for ``profile``."""
        if not self._profile:
            return
        with self._lock:
            self._runs += 1
            for i, op in enumerate(cost.ops):
                self._total_ms[i] += op.ms
                self._precisions[i] = op.precision
            if self._runs == 1:
                self._first_ms = list(self._total_ms)

    def request(self) -> NullRequest:
        """A new request; raises BackendError once closed."""
        self.check_open()
        return NullRequest(self)

    def check_open(self) -> None:
        """Raise BackendError once closed."""
        if self._closed:
            raise BackendError("the executable is closed", place=PLACE)

    def serialize(self) -> bytes | None:
        """Always None: there is no compiled form."""
        return None

    def profile(self) -> tuple[OpTime, ...]:
        """Modelled times of each op over the runs so far, the first one left out if there were
        more, as with backends that measure. Raises UnsupportedError without its option."""
        if not self._profile:
            raise UnsupportedError(
                "not compiled for profiling", place=PLACE, fix="compile with profile=True"
            )
        with self._lock:
            self.check_open()
            if not self._runs:
                return ()
            more = self._runs > 1
            return tuple(
                OpTime(
                    name=op,
                    op_type=self._op_types[i],
                    ops=(op,),
                    total_ms=self._total_ms[i] - (self._first_ms[i] if more else 0.0),
                    count=max(1, self._runs - 1),
                    precision=str(self._precisions[i]),
                )
                for i, op in enumerate(self._op_ids)
            )

    def close(self) -> None:
        """Give the memory of the weights back. May be called again."""
        self._closed = True
        self._weights.release()


class NullRequest:
    """Feeds in, zeros out. Host arrays go over the link in every run, device buffers don't.

    Outputs that nobody bound a buffer for come to the host.
    """

    def __init__(self, executable: NullExecutable) -> None:
        self._executable = executable
        self._inputs = {spec.name: spec for spec in executable.inputs}
        self._outputs = {spec.name: spec for spec in executable.outputs}
        self._feeds: dict[str, Array | NullBuffer] = {}
        self._targets: dict[str, tuple[Value, Array | NullBuffer]] = {}
        self._own: dict[str, Array] = {}
        self._results: dict[str, Value] = {}
        self._activations: Reservation | None = None
        self._reserved_for: tuple[RunCost, frozenset[str]] | None = None

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``. Buffers must be on the host or on this device."""
        self._executable.check_open()
        for name, value in inputs.items():
            self._feeds[name] = self._feed(name, value)
        for name, value in (outputs or {}).items():
            spec = self._outputs.get(name)
            if spec is None:
                raise unknown_name(name, self._outputs, "output")
            place = self._place(value, spec)
            check_array(_array(place), spec, "output")
            if not _array(place).flags.writeable:
                raise InputError("must be writable", place=f"output {name!r}")
            self._targets[name] = (value, place)

    def _feed(self, name: str, value: Value) -> Array | NullBuffer:
        spec = self._inputs.get(name)
        if spec is None:
            raise unknown_name(name, self._inputs, "input")
        place = self._place(value, spec)
        check_array(_array(place), spec)
        return place

    def _place(self, value: Value, spec: TensorSpec) -> Array | NullBuffer:
        """Where a value is: a host array, or a buffer of this device."""
        if not isinstance(value, NullBuffer):
            return host_array(value, spec)
        if value.home is not self._executable.device:
            raise InputError(
                f"the buffer is on {value.device}, not on {self._executable.device.model.id}",
                place=repr(spec.name),
                fix="copy it to a buffer of this device (Context.copy)",
            )
        return value

    def run(self) -> Event:
        """See ``dioe.types.Request``. Returns at once; the event is over when the time is."""
        targets = {name: place for name, (_, place) in self._targets.items()}
        cost = self._cost(self._feeds)
        for name in self._outputs:
            shape, dtype = cost.values[name].shape, self._outputs[name].dtype
            if name in targets:
                if targets[name].shape != shape:
                    raise InputError(
                        f"the result has shape {list(shape)}, the buffer "
                        f"{list(targets[name].shape)}",
                        place=f"output {name!r}",
                    )
                continue
            own = self._own.get(name)
            if own is None or own.shape != shape:
                own = self._own[name] = np.zeros(shape, dtype)
            targets[name] = own
        done = self._submit(cost, self._feeds, targets)
        self._results = {
            name: self._targets[name][0] if name in self._targets else self._own[name]
            for name in self._outputs
        }
        return done

    def _cost(self, feeds: Mapping[str, Array | NullBuffer]) -> RunCost:
        self._executable.check_open()
        missing = [name for name in self._inputs if name not in feeds]
        if missing:
            raise missing_inputs(missing, PLACE)
        return self._executable.cost({name: feeds[name].shape for name in self._inputs})

    def _submit(
        self,
        cost: RunCost,
        feeds: Mapping[str, Array | NullBuffer],
        targets: Mapping[str, Array | NullBuffer],
    ) -> TimedEvent:
        """Queue the transfers and the run, and fill the targets: nobody reads them before."""
        device = self._executable.device
        self._reserve(cost, {**feeds, **targets})
        begin_ms = 0.0
        for feed in feeds.values():
            if isinstance(feed, NullBuffer):
                begin_ms = max(begin_ms, ready_ms(feed.ready))
            else:
                begin_ms = max(begin_ms, device.send(feed.nbytes).at_ms)
        for target in targets.values():
            if isinstance(target, NullBuffer):
                begin_ms = max(begin_ms, ready_ms(target.ready))
        done = computed = device.lane.submit(cost.total_ms, begin_ms)
        for target in targets.values():
            _array(target)[...] = 0
            if isinstance(target, NullBuffer):
                target.ready = computed
                continue
            fetched = device.fetch(target.nbytes, computed.at_ms)
            done = max(done, fetched, key=lambda event: event.at_ms)
        self._executable.count(cost)
        return done

    def _reserve(self, cost: RunCost, places: Mapping[str, Array | NullBuffer]) -> None:
        """Keep as much memory for activations as this run needs; raises OutOfMemory."""
        elsewhere = frozenset(n for n, place in places.items() if isinstance(place, NullBuffer))
        if self._reserved_for == (cost, elsewhere):
            return
        self._reserved_for = None
        nbytes = self._executable.activation_bytes(cost, elsewhere)
        self._hold(nbytes)
        self._reserved_for = (cost, elsewhere)

    def _hold(self, nbytes: int) -> None:
        held = self._activations
        if held is not None and held.nbytes == nbytes:
            return
        if held is not None:
            held.release()
            self._activations = None
        self._activations = self._executable.memory.reserve(nbytes, "the activations of a run")

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        self._executable.check_open()
        return self._results

    def call(self, inputs: Feeds, output_names: Any) -> list[Value]:
        """See ``dioe.types.DirectRequest``. Bindings stay as they are."""
        names = name_list(output_names)
        feeds = {name: self._feed(name, value) for name, value in inputs.items()}
        match_outputs(names, self._outputs)
        cost = self._cost(feeds)
        fresh: dict[str, Array] = {
            name: np.zeros(cost.values[name].shape, self._outputs[name].dtype) for name in names
        }
        self._submit(cost, feeds, fresh).wait()
        return [fresh[name] for name in names]


def _array(place: Array | NullBuffer) -> Array:
    return place.storage if isinstance(place, NullBuffer) else place


def _shape(spec: TensorSpec) -> Shape:
    return tuple(dim for dim in spec.shape or () if isinstance(dim, int))
