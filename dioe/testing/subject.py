"""The backend under test on its device, as the tests of the suite use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from dioe.graph import Model
from dioe.testing.judging import host
from dioe.types import (
    Backend,
    Capabilities,
    Context,
    DioeError,
    Executable,
    Feeds,
    Precision,
    Precisions,
    Request,
    Resources,
    UnsupportedError,
)

RESOURCES = Resources(threads=1, spin=False)
"""What tests open a device with: little, so that many can be open at once."""


class NotCovered(Exception):
    """A case that the backend refuses to run, with its reason: neither passed nor failed."""


def not_covered(reason: str) -> NotCovered:
    """The exception to raise for a case that the backend doesn't take, in one line."""
    return NotCovered(" ".join(reason.split()))


class Subject:
    """A backend on one of its devices. What is opened through it is closed after the test.

    ``entry_point`` is the module and function its plugin was found by, ``device`` the id that the
    backend itself gives the device.
    """

    def __init__(self, backend: Backend, device: str, entry_point: str, stack: ExitStack) -> None:
        self.backend, self.device, self.entry_point = backend, device, entry_point
        self._stack = stack

    @property
    def capabilities(self) -> Capabilities:
        """What the backend says it can do on the device."""
        return self.backend.capabilities(self.device)

    def take(self, model: Model, precision: Precision = Precision.FP32) -> None:
        """Raise NotCovered, with the backend's reasons, unless it takes every op of ``model``."""
        if precision not in self.capabilities.computes:
            raise not_covered(f"{precision} isn't computed")
        refused = self.backend.query(model, self.device, precision).refused
        if refused:
            reasons = "; ".join(f"{op}: {why}" for op, why in list(refused.items())[:3])
            raise not_covered(f"refused {len(refused)} of {len(model.op_ids)} ops: {reasons}")

    def open(self, resources: Resources = RESOURCES) -> Context:
        """A context on the device, closed after the test."""
        context = self.backend.open(self.device, resources)
        self._stack.callback(context.close)
        return context

    def compile(
        self,
        model: Model,
        precision: Precision = Precision.FP32,
        options: Mapping[str, Any] | None = None,
        resources: Resources = RESOURCES,
        calibration: Sequence[Feeds] | None = None,
    ) -> Executable:
        """``model`` compiled in a context of its own; NotCovered if the backend refuses any op."""
        self.take(model, precision)
        context = self.open(resources)
        return context.compile(model, Precisions(precision), options or {}, calibration)

    def request(self, model: Model, **how: Any) -> Request:
        """A request on ``model``, compiled as ``compile`` does."""
        return self.compile(model, **how).request()


def assert_refused(context: Context, model: Model, precision: Precision) -> None:
    """Assert that compiling what ``query`` refuses is an UnsupportedError."""
    try:
        context.compile(model, Precisions(precision), {}).close()
    except UnsupportedError:
        return
    except DioeError as error:
        raise AssertionError(
            f"query refuses it, compile fails by {type(error).__name__}"
        ) from error
    raise AssertionError("query refuses it, but it is compiled")


def run(request: Request, feeds: Feeds) -> dict[str, Any]:
    """Bind, run, wait; the outputs on the host, still the backend's own."""
    request.bind(feeds)
    request.run().wait()
    return {name: host(value) for name, value in request.outputs.items()}


def direct(request: Request) -> Any:
    """The request itself where it has ``call`` (types.DirectRequest); NotCovered where not."""
    if not hasattr(request, "call"):
        raise not_covered("requests have no call, which is optional")
    return request


def call(request: Request, feeds: Feeds, names: Sequence[str]) -> list[Any]:
    """``request.call`` with the results on the host."""
    return [host(value) for value in direct(request).call(feeds, names)]
