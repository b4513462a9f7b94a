"""Requests on a loaded plan: what a session calls, and the one for plans of one stage."""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping, Sequence
from typing import cast

from dioe.runtime.values import owned
from dioe.types import DirectRequest, Feeds, Request, Value


class PlanRequest(abc.ABC):
    """One single-threaded use of a loaded plan: by ``call``, or by ``bind`` and ``run``."""

    @abc.abstractmethod
    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        """Run on validated inputs; the outputs are fresh and the caller's own."""

    @abc.abstractmethod
    def bind(self, inputs: Feeds, outputs: Feeds) -> None:
        """Preset buffers for ``run``; those bound before stay. Raises InputError."""

    @abc.abstractmethod
    def run(self) -> None:
        """Run on the preset buffers and wait."""

    @abc.abstractmethod
    def run_timed(self) -> list[float]:
        """``run``, and the milliseconds that each stage took, in the order of the stages.

        What a stage waits for its inputs to be handed on is its own time.
        """

    @property
    @abc.abstractmethod
    def outputs(self) -> Mapping[str, Value]:
        """Outputs of the last ``run``, valid until the next."""


class SingleStageRequest(PlanRequest):
    """A plan of one stage: the backend's own request, called as directly as can be."""

    def __init__(self, request: Request) -> None:
        self._request = request
        # asked of the class: looking at an instance would evaluate its properties
        if hasattr(type(request), "call"):
            self.call = cast(DirectRequest, request).call  # type: ignore[method-assign]

    def call(self, inputs: Feeds, output_names: Sequence[str]) -> list[Value]:
        self._request.bind(inputs)
        self._request.run().wait()
        outputs = self._request.outputs
        return [owned(outputs[name]) for name in output_names]

    def bind(self, inputs: Feeds, outputs: Feeds) -> None:
        self._request.bind(inputs, outputs)

    def run(self) -> None:
        self._request.run().wait()

    def run_timed(self) -> list[float]:
        start = time.perf_counter_ns()
        self._request.run().wait()
        return [(time.perf_counter_ns() - start) / 1e6]

    @property
    def outputs(self) -> Mapping[str, Value]:
        return self._request.outputs
