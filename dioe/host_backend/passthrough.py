"""Graph outputs that are graph inputs: given on by the request, never bound in a runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from dioe.host_backend.values import check_array, host_array, name_list, unknown_name
from dioe.types import Array, Event, Feeds, InputError, TensorSpec, Value


def computed_outputs(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    """The outputs that a runtime computes: each once, and none that is an input as well."""
    given = {spec.name for spec in inputs}
    return tuple({spec.name: spec for spec in outputs if spec.name not in given}.values())


class Inner(Protocol):
    """The request that runs the rest of the model."""

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None: ...
    def run(self) -> Event: ...
    @property
    def outputs(self) -> Mapping[str, Value]: ...
    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]: ...


class PassThroughRequest:
    """A request on a model some of whose outputs are its inputs.

    Runtimes share one tensor between such an input and output: binding the output replaces the
    input or writes into the caller's feed (OpenVINO), or is never done (ONNX Runtime). So
    ``inner`` sees the other outputs only, and these are copied from the feeds after each run.
    """

    def __init__(
        self, inner: Inner, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self._inner = inner
        self._inputs = {spec.name: spec for spec in inputs}
        self._names = list(dict.fromkeys(spec.name for spec in outputs))
        self._given = {name: self._inputs[name] for name in self._names if name in self._inputs}
        self._feeds: dict[str, Value] = {}
        self._targets: dict[str, Array] = {}
        self._copies: dict[str, Value] = {}

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        """See ``dioe.types.Request``."""
        outputs = outputs or {}
        targets = {n: self._target(n, v) for n, v in outputs.items() if n in self._given}
        rest = {name: value for name, value in outputs.items() if name not in self._given}
        self._inner.bind(inputs, rest)
        self._feeds.update((n, v) for n, v in inputs.items() if n in self._given)
        self._targets.update(targets)

    def _target(self, name: str, value: Value) -> Array:
        spec = self._given[name]
        array = host_array(value, spec)
        check_array(array, spec, "output")
        if not array.flags.writeable:
            raise InputError("must be writable", place=f"output {name!r}")
        return array

    def run(self) -> Event:
        """See ``dioe.types.Request``. The work is done when this returns."""
        done = self._inner.run()
        done.wait()
        for name, spec in self._given.items():
            value, target = self._feeds.get(name), self._targets.get(name)
            if target is None:
                self._copies[name] = _copy(value, spec)
                continue
            array = host_array(value, spec)
            if array.shape != target.shape:
                raise InputError(
                    f"the result has shape {list(array.shape)}, the buffer {list(target.shape)}",
                    place=f"output {name!r}",
                )
            np.copyto(target, array)
        return done

    @property
    def outputs(self) -> Mapping[str, Value]:
        """See ``dioe.types.Request``."""
        found: dict[str, Value] = {**self._inner.outputs, **self._copies, **self._targets}
        return {name: found[name] for name in self._names if name in found}

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``dioe.types.DirectRequest``. Bindings stay as they are."""
        output_names = name_list(output_names)
        for name, value in inputs.items():
            spec = self._inputs.get(name)
            if spec is None:
                raise unknown_name(name, self._inputs, "input")
            if spec.kind == "tensor":
                check_array(host_array(value, spec), spec)
        names = list(dict.fromkeys(name for name in output_names if name not in self._given))
        if not names:  # runs of no outputs are refused by some runtimes
            names = [name for name in self._names if name not in self._given][:1]
        found: dict[str, Any] = dict(zip(names, self._inner.call(inputs, names), strict=True))
        for name in output_names:
            if name in self._given:
                found[name] = _copy(inputs.get(name), self._given[name])
        return [found[name] for name in output_names]


def _copy(value: Value, spec: TensorSpec) -> Value:
    """A value of the caller's own, as the spec says."""
    if spec.kind != "tensor":
        return list(value) if isinstance(value, list) else value
    return np.array(host_array(value, spec), dtype=spec.dtype, order="C")
