"""A bound request: preset buffers, one thread at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dioe.runtime.loading import as_array, can_preset, empty
from dioe.runtime.variant import Variant
from dioe.types import Array, Feeds, InputError, Value


class BoundRequest:
    """Inputs to write into, ``run``, outputs to read: no allocation, no checks on the way.

    ``inputs`` and ``outputs`` map names to arrays. An output without a known shape is the backend's
    own and valid until the next ``run``. Declared state is copied from its output to its input
    after each run. Not thread-safe.
    """

    def __init__(
        self, variant: Variant, inputs: Feeds, outputs: Feeds, state: Mapping[str, str]
    ) -> None:
        self._request = variant.loaded.request()
        self._closed = False
        self.inputs: dict[str, Value] = dict(inputs)
        buffers = dict(outputs)
        for spec in variant.loaded.outputs:
            if spec.name not in buffers and can_preset(spec):
                buffers[spec.name] = empty(spec)
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
        if self._closed:
            raise InputError("the bound request is closed", fix="bind again")
        self._request.run()
        outputs = self._request.outputs
        for out, buffer in self._state:
            np.copyto(buffer, as_array(outputs[out]))
        return outputs

    def reset_state(self) -> None:
        """Set this request's state inputs back to zeros."""
        for _, buffer in self._state:
            buffer.fill(0)

    def close(self) -> None:
        """Give the request up."""
        self._closed = True
