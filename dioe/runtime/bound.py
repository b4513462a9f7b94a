"""A bound request: preset buffers, one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from dioe.host_backend import can_preset, empty
from dioe.runtime.feeds import describe
from dioe.runtime.loading import as_array
from dioe.runtime.variant import Variant
from dioe.types import Array, Buffer, Feeds, InputError, TensorSpec, Value


class BoundRequest:
    """Inputs to write into, ``run``, outputs to read: no allocation, no checks on the way.

    ``inputs`` and ``outputs`` map names to arrays. An output without a known shape is the backend's
    own and valid until the next ``run``. Declared state is copied from its output to its input
    after each run. For one thread at a time; ``close`` may come from any.
    """

    def __init__(
        self, variant: Variant, inputs: Feeds, outputs: Feeds, state: Mapping[str, str]
    ) -> None:
        """Bind checked ``inputs``; raises InputError for arrays that can't be used in place."""
        self.variant = variant
        self._lock = threading.Lock()
        self._closed = False
        self.inputs: dict[str, Value] = dict(inputs)
        for name, value in self.inputs.items():
            _check_in_place(f"input {name!r}", value)
        buffers = _checked_outputs(outputs, variant.loaded.outputs)
        for spec in variant.loaded.outputs:
            if spec.name not in buffers and can_preset(spec):
                buffers[spec.name] = empty(spec)
        self._request = variant.loaded.request()
        self._request.bind(self.inputs, buffers)
        self._state: list[tuple[str, Array]] = [
            (out, as_array(self.inputs[into])) for out, into in state.items()
        ]

    @property
    def outputs(self) -> Mapping[str, Value]:
        """Outputs of the last run."""
        return self._request.outputs

    def run(self) -> Mapping[str, Value]:
        """Run once on what the input arrays now hold; gives ``outputs``."""
        with self._lock:
            if self._closed:
                raise InputError("the bound request is closed", fix="bind again")
            self._request.run()
            outputs = self._request.outputs
            for out, buffer in self._state:
                np.copyto(buffer, as_array(outputs[out]))
            return outputs

    @property
    def busy(self) -> bool:
        """True while it runs."""
        return self._lock.locked()

    def reset_state(self) -> None:
        """Set this request's state inputs back to zeros."""
        for _, buffer in self._state:
            buffer.fill(0)

    def close(self) -> None:
        """Give the request up, once its run in flight is done."""
        with self._lock:
            self._closed = True


def _check_in_place(what: str, value: Value) -> None:
    if isinstance(value, np.ndarray) and not value.flags.c_contiguous:
        raise InputError(
            f"{what} is not C-contiguous, so it can't be used in place",
            fix="bind numpy.ascontiguousarray(array) and write into that",
        )


def _checked_outputs(outputs: Feeds, specs: tuple[TensorSpec, ...]) -> dict[str, Value]:
    if not isinstance(outputs, Mapping):
        raise InputError(
            f"outputs is a {type(outputs).__name__}", fix="map names of outputs to arrays"
        )
    known = {spec.name: spec for spec in specs}
    for name, value in outputs.items():
        if name not in known:
            raise InputError(
                f"the model has no output {name!r}", fix=f"its outputs: {', '.join(known)}"
            )
        spec = known[name]
        if not isinstance(value, np.ndarray | Buffer):
            raise InputError(
                f"output {name!r} is a {type(value).__name__}", fix="give an array to write into"
            )
        fits = spec.shape is None or (
            len(value.shape) == len(spec.shape)
            and all(d == n for d, n in zip(spec.shape, value.shape, strict=True) if type(d) is int)
        )
        if value.dtype != spec.dtype or not fits:
            raise InputError(
                f"output {name!r} is {value.dtype}{list(value.shape)}, the model gives "
                f"{describe(spec)}",
                fix="give an array of that dtype and shape",
            )
        _check_in_place(f"output {name!r}", value)
        if isinstance(value, np.ndarray) and not value.flags.writeable:
            raise InputError(f"output {name!r} is read-only", fix="give an array to write into")
    return dict(outputs)
