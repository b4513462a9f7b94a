"""What is run on a device to judge and to time it: small models, compiled by one backend."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.graph import Model
from dioe.precision.fidelity import compare
from dioe.testing.judging import host, limit
from dioe.types import (
    Array,
    Backend,
    Context,
    Executable,
    Precision,
    Precisions,
    Request,
    Resources,
)

RESOURCES = Resources(spin=False)
"""What everything here is opened with: idle threads mustn't take cores from what runs next."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A model, an input ``x`` for it, and its output ``y`` by ``onnx.reference``."""

    name: str
    model: Model
    x: Array
    y: Array

    @property
    def limit(self) -> float:
        """The largest error allowed in fp32."""
        return limit(Precision.FP32, {"x": self.x}, {"y": self.y})

    def error(self, request: Request) -> float:
        """The error of what a request gave last."""
        outputs = {name: host(value) for name, value in request.outputs.items()}
        return compare(outputs, {"y": self.y}).error


@functools.cache
def models() -> tuple[Work, ...]:
    """Convolutions, layers too small to fill any device, and layers that do."""
    from dioe.testing.models import floats, perceptron, small_network

    return (
        work("convolutions", small_network(), floats(1, 3, 16, 16, seed=1)),
        work("16 layers of 64", perceptron(16, 64), floats(8, 64, seed=2)),
        work("4 layers of 1024", perceptron(4, 1024), floats(64, 1024, seed=3)),
    )


def work(name: str, model: Model, x: Array) -> Work:
    """A model of one input ``x`` and one output ``y`` with what has to come out."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    (y,) = ReferenceEvaluator(onnx.load_from_string(model.to_bytes())).run(None, {"x": x})
    return Work(name, model, x, np.asarray(y))


@dataclass(frozen=True, slots=True)
class Place:
    """A backend on a device, under the backend's own name of it."""

    backend: Backend
    device: str

    @contextlib.contextmanager
    def opened(self) -> Iterator[Context]:
        """A context there."""
        with contextlib.closing(self.backend.open(self.device, RESOURCES)) as context:
            yield context

    @contextlib.contextmanager
    def request(
        self, model: Model, options: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Context, Request]]:
        """A request on ``model``, compiled there in fp32, and its context."""
        with self.opened() as context:
            executable: Executable = context.compile(model, Precisions(), options or {})
            with contextlib.closing(executable):
                yield context, executable.request()


def waited(request: Request) -> Callable[[], None]:
    """One run of a request, waited for."""
    return lambda: request.run().wait()
