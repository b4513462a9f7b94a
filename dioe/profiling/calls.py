"""An executable's fastest call: a request whose buffers were made beforehand."""

from __future__ import annotations

from collections.abc import Callable

from dioe.host_backend import can_preset, empty
from dioe.types import Executable, Request, Value


def preset_outputs(executable: Executable) -> dict[str, Value]:
    """Buffers for the outputs whose shapes are known, contents undefined."""
    return {spec.name: empty(spec) for spec in executable.outputs if can_preset(spec)}


def waiting_call(request: Request) -> Callable[[], object]:
    """One run of a bound request, finished when it returns."""
    run = request.run
    return lambda: run().wait()
