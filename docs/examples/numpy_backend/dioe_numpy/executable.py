"""Steps that run one after the other, and requests on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
from dioe_numpy.backend import PLACE
from dioe_numpy.ops import Attributes, Compute


@dataclass(frozen=True, slots=True)
class Step:
    """One op: the names it reads ("" for an input left out) and the one it writes."""

    compute: Compute
    inputs: tuple[str, ...]
    output: str
    attributes: Attributes


class NumpyExecutable:
    """A model as steps. It keeps no state between runs, so threads may run it at once."""

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        weights: Mapping[str, Array],
        steps: Sequence[Step],
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.memory_bytes: int | None = sum(weight.nbytes for weight in weights.values())
        self._weights, self._steps = dict(weights), tuple(steps)
        self._closed = False

    def evaluate(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every value of the model by name. Raises BackendError, OutOfMemory."""
        self.check_open()
        values: dict[str, Any] = {**self._weights, **feeds}
        with np.errstate(all="ignore"):  # infinities and NaN are results like others in ONNX
            for step in self._steps:
                read = [values[name] if name else None for name in step.inputs]
                try:
                    result = np.asarray(step.compute(read, step.attributes))
                except MemoryError as error:
                    raise OutOfMemory(str(error), place=PLACE) from error
                except (ValueError, IndexError, TypeError) as error:
                    raise BackendError(
                        f"{type(error).__name__}: {error}", place=f"{PLACE}: {step.output!r}"
                    ) from error
                values[step.output] = result
        return values

    def request(self) -> NumpyRequest:
        """A new request; raises BackendError once closed."""
        self.check_open()
        return NumpyRequest(self)

    def check_open(self) -> None:
        """Raise BackendError once closed."""
        if self._closed:
            raise BackendError("the executable is closed", place=PLACE)

    def serialize(self) -> bytes | None:
        """Always None: there is no compiled form."""
        return None

    def profile(self) -> tuple[OpTime, ...]:
        """Always raises UnsupportedError: no times are taken."""
        raise UnsupportedError("this backend doesn't profile", place=PLACE)

    def close(self) -> None:
        """Let go of the weights. May be called again."""
        self._closed = True
        self._weights, self._steps = {}, ()


class NumpyRequest:
    """Inputs by name; bound outputs are copied into."""

    def __init__(self, executable: NumpyExecutable) -> None:
        self._executable = executable
        self._inputs = {spec.name: spec for spec in executable.inputs}
        self._outputs = {spec.name: spec for spec in executable.outputs}
        self._feeds: dict[str, Array] = {}
        self._targets: dict[str, Array] = {}
        self._results: dict[str, Value] = {}

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``: arrays are kept, not copied, and read in each run."""
        self._executable.check_open()
        self._feeds.update({name: self._feed(name, value) for name, value in inputs.items()})
        for name, value in (outputs or {}).items():
            spec = self._outputs.get(name)
            if spec is None:
                raise unknown_name(name, self._outputs, "output")
            array = host_array(value, spec)
            check_array(array, spec, "output")
            if not array.flags.writeable:
                raise InputError("must be writable", place=f"output {name!r}")
            self._targets[name] = array

    def _feed(self, name: str, value: Value) -> Array:
        spec = self._inputs.get(name)
        if spec is None:
            raise unknown_name(name, self._inputs, "input")
        array = host_array(value, spec)
        check_array(array, spec)
        return array

    def run(self) -> Event:
        """See ``dioe.types.Request``. The work is done when this returns."""
        results = self._run(list(self._outputs), self._feeds)
        for name, target in self._targets.items():
            if results[name].shape != target.shape:
                raise InputError(
                    f"the result has shape {list(results[name].shape)}, "
                    f"the buffer {list(target.shape)}",
                    place=f"output {name!r}",
                )
        for name, target in self._targets.items():
            np.copyto(target, results[name])
        self._results = {**results, **self._targets}
        return DONE

    def _run(self, names: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, in memory of their own."""
        self._executable.check_open()
        missing = [name for name in self._inputs if name not in feeds]
        if missing:
            raise missing_inputs(missing, PLACE)
        match_outputs(names, self._outputs)
        values = self._executable.evaluate(feeds)
        # Identity and Reshape give their input on: the caller gets a copy, never his own array.
        return {name: np.array(values[name], order="C") for name in names}

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        self._executable.check_open()
        return self._results

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``dioe.types.DirectRequest``. Bindings stay as they are."""
        names = name_list(output_names)
        found = self._run(names, {name: self._feed(name, v) for name, v in inputs.items()})
        return [found[name] for name in names]
