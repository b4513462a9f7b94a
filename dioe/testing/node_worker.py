"""The worker of the node suite: one backend on one device, asked for one case at a time.

Hosted by ``dioe.registry.worker.script``, so that a case that crashes or hangs takes this process
down and nothing else.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from dioe.graph import Model
from dioe.registry.loading import load_plugin
from dioe.registry.reports import one_line
from dioe.registry.worker.script import Memory
from dioe.testing import nodes
from dioe.testing.judging import assert_outputs_close, assert_outputs_drawn
from dioe.testing.nodes import NodeCase
from dioe.testing.subject import NotCovered, Subject, run
from dioe.types import ENTRY_POINT_GROUP, Backend, DioeError, UnsupportedError


def create(args: Mapping[str, Any]) -> NodeHandler:
    """A handler for ``backend`` of the plugin whose entry point is ``plugin``, on its ``device``.

    Raises UnsupportedError with the reason where the plugin doesn't load or lacks the backend.
    """
    name, plugin = args["backend"], args["plugin"]
    point = importlib.metadata.EntryPoint(name, plugin, ENTRY_POINT_GROUP)
    backends, failure = load_plugin(point, plugin)
    if failure is not None:
        raise UnsupportedError(failure.reason, place=plugin)
    for backend in backends:
        if backend.name == name:
            return NodeHandler(backend, args["device"], plugin)
    raise UnsupportedError(f"it has no backend {name!r}", place=plugin)


class NodeHandler:
    """Runs node cases, each in a context of its own, and says what is wrong with each."""

    def __init__(self, backend: Backend, device: str, plugin: str) -> None:
        self._backend, self._device, self._plugin = backend, device, plugin
        nodes.every()  # seconds that are no case's

    def handle(self, op: str, args: dict[str, Any], memory: Memory) -> dict[str, Any]:
        """The only op is ``judge``: the ``reason`` that a ``case`` fails for, empty if it
        passes."""
        with ExitStack() as stack:
            subject = Subject(self._backend, self._device, self._plugin, stack)
            case = nodes.node_case(args["case"], as_written=True)
            return {"reason": reason_to_fail(subject, case)}

    def release(self, ids: list[int]) -> None:
        """Nothing is kept for the client."""

    def close(self) -> None:
        """Every case has closed what it opened."""


def reason_to_fail(subject: Subject, case: NodeCase) -> str:
    """Run one case and compare its outputs: why it fails, in one line; empty if it passes."""
    try:
        found = run(subject.compile(Model.load(case.proto)).request(), case.feeds)
        if case.drawn:
            assert_outputs_drawn(found, case.expected)
        else:
            assert_outputs_close(found, case.expected, case.rtol, case.atol)
    except (AssertionError, NotCovered) as error:
        return one_line(str(error))
    except DioeError as error:
        return one_line(f"{type(error).__name__}: {error.cause}")
    except Exception as error:  # noqa: BLE001 - a backend's bug is why this case fails
        return one_line(f"{type(error).__name__}: {error}")
    return ""
