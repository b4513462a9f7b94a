"""An evaluator as an executable, and requests on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx.reference import ReferenceEvaluator

from dioe.host_backend import (
    check_array,
    host_array,
    match_outputs,
    missing_inputs,
    name_list,
    unknown_name,
)
from dioe.types import (
    DONE,
    Array,
    BackendError,
    Event,
    Feeds,
    InputError,
    OpTime,
    OutOfMemory,
    TensorSpec,
    UnsupportedError,
    Value,
)

PLACE = "reference"


class ReferenceExecutable:
    """One ReferenceEvaluator. Its ops keep state while they run, so runs wait for each other."""

    def __init__(
        self,
        evaluator: ReferenceEvaluator,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        op_ids: tuple[str, ...],
        *,
        profile: bool,
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.memory_bytes: int | None = None
        self._evaluator: ReferenceEvaluator | None = evaluator
        self._lock = threading.Lock()
        self._runs = 0
        self._first: list[float] = []
        self._op_ids = op_ids
        self._seconds: list[float] | None = [0.0] * len(op_ids) if profile else None
        if profile:
            for i, node in enumerate(evaluator.rt_nodes_):
                node.run = self._timed(i, node.run)

    def _timed(self, index: int, run: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return run(*args, **kwargs)
            finally:
                if self._seconds is not None:
                    self._seconds[index] += time.perf_counter() - start

        return timed

    def evaluate(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """Outputs by name; raises BackendError, OutOfMemory."""
        with self._lock:
            if self._evaluator is None:
                raise BackendError("the executable is closed", place=PLACE)
            try:
                with np.errstate(all="ignore"):  # its sigmoid computes both branches everywhere
                    results = list(self._evaluator.run(list(names), dict(feeds)))
            except MemoryError as error:
                raise OutOfMemory(str(error), place=PLACE) from error
            except Exception as error:
                raise BackendError(f"{type(error).__name__}: {error}", place=PLACE) from error
            self._runs += 1
            if self._runs == 1 and self._seconds is not None:
                self._first = list(self._seconds)
            return results

    def request(self) -> ReferenceRequest:
        """A new request; raises BackendError once closed."""
        self.check_open()
        return ReferenceRequest(self)

    def check_open(self) -> None:
        """Raise BackendError once closed."""
        if self._evaluator is None:
            raise BackendError("the executable is closed", place=PLACE)

    def serialize(self) -> bytes | None:
        """Always None: there is no compiled form."""
        return None

    def profile(self) -> tuple[OpTime, ...]:
        """Times of each op over the runs so far, the first one left out if there were more."""
        if self._seconds is None:
            raise UnsupportedError(
                "not compiled for profiling", place=PLACE, fix="compile with profile=True"
            )
        with self._lock:
            if self._evaluator is None:
                raise BackendError("the executable is closed", place=PLACE)
            if not self._runs:
                return ()
            nodes = self._evaluator.rt_nodes_
            first = self._first if self._runs > 1 else [0.0] * len(self._op_ids)
            return tuple(
                OpTime(
                    name=op,
                    op_type=node.onnx_node.op_type,
                    ops=(op,),
                    total_ms=1000 * (total - before),
                    count=max(1, self._runs - 1),
                    precision="fp32",
                )
                for op, node, total, before in zip(
                    self._op_ids, nodes, self._seconds, first, strict=True
                )
            )

    def close(self) -> None:
        """Let go of the model. May be called again."""
        with self._lock:
            self._evaluator = None


class ReferenceRequest:
    """Inputs by name; bound outputs are copied into."""

    def __init__(self, executable: ReferenceExecutable) -> None:
        self._executable = executable
        self._inputs = {spec.name: spec for spec in executable.inputs}
        self._outputs = {spec.name: spec for spec in executable.outputs}
        self._feeds: dict[str, Any] = {}
        self._targets: dict[str, Array] = {}
        self._results: dict[str, Value] = {}

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``."""
        self._executable.check_open()
        for name, value in inputs.items():
            self._feeds[name] = self._feed(name, value)
        for name, value in (outputs or {}).items():
            spec = self._outputs.get(name)
            if spec is None:
                raise unknown_name(name, self._outputs, "output")
            array = host_array(value, spec)
            check_array(array, spec, "output")
            if not array.flags.writeable:
                raise InputError("must be writable", place=f"output {name!r}")
            self._targets[name] = array

    def _feed(self, name: str, value: Value) -> Any:
        spec = self._inputs.get(name)
        if spec is None:
            raise unknown_name(name, self._inputs, "input")
        if spec.kind != "tensor":
            return value
        array = host_array(value, spec)
        check_array(array, spec)
        return array

    def run(self) -> Event:
        """See ``dioe.types.Request``. The work is done when this returns."""
        results = self._run(list(self._outputs), self._feeds)
        self._results = dict(zip(self._outputs, results, strict=True))
        for name, target in self._targets.items():
            result = self._results[name]
            if not isinstance(result, np.ndarray) or result.shape != target.shape:
                raise InputError(
                    f"the result doesn't fit shape {list(target.shape)}", place=f"output {name!r}"
                )
            np.copyto(target, result)
            self._results[name] = target
        return DONE

    def _run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Value]:
        self._executable.check_open()
        missing = [n for n, s in self._inputs.items() if n not in feeds and s.kind != "optional"]
        if missing:
            raise missing_inputs(missing, PLACE)
        match_outputs(names, self._outputs)
        # An optional without a value is None, not absent, for the evaluator.
        complete = dict.fromkeys(self._inputs) | dict(feeds)
        results = self._executable.evaluate(names, complete)
        return [
            _own(result, self._outputs[name]) for name, result in zip(names, results, strict=True)
        ]

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        self._executable.check_open()
        return self._results

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``dioe.types.DirectRequest``. Bindings stay as they are."""
        return self._run(name_list(output_names), {n: self._feed(n, v) for n, v in inputs.items()})


def _own(result: Any, spec: TensorSpec) -> Value:
    """A result as the spec says, in memory of its own (ops such as Identity return their input)."""
    if spec.kind != "tensor":
        found: Value = result
        return found
    return np.array(result, dtype=spec.dtype, order="C")
