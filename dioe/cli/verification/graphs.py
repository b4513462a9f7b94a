"""Runs replayed from captured graphs against the same runs handed over op by op."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.cli.verification.work import Place, Work, waited
from dioe.profiling.rounds import Calls, time_in_rounds
from dioe.types import Context, DioeError, HostBuffer, KnownAs, Request, TensorSpec

OPTION = "cuda_graphs"
"""The option by which backends with ``Capabilities.graph_capture`` capture graphs or don't."""

_BUDGET_S = 1.5
_WARMUP_RUNS = 3
"""Runs of one request after which a graph has been captured, if it can be."""


@dataclass(frozen=True, slots=True)
class _OnDevice:
    """Runs from buffers of the device to buffers of the device."""

    name: str
    place: Place
    work: Work

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        options = {OPTION: self.name == "replayed"}
        with self.place.request(self.work.model, options) as (context, request):
            _bind_buffers(context, request, self.work)
            yield {self.name: waited(request)}


def _bind_buffers(context: Context, request: Request, work: Work) -> None:
    x = context.alloc(TensorSpec("x", work.x.dtype, work.x.shape))
    y = context.alloc(TensorSpec("y", work.y.dtype, work.y.shape))
    context.copy(HostBuffer(work.x), x).wait()
    request.bind({"x": x}, {"y": y})


def check_graphs(
    place: Place,
    known_as: KnownAs,
    models: Sequence[Work],
    *,
    locked: bool = True,
    budget_s: float = _BUDGET_S,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Each model: was it ``captured`` (else the ``note`` why not), the errors of a captured run
    (``relative_l2``) and of the next one on another input (``rebound_relative_l2``) with their
    ``limit``, times ``replayed`` and ``eager`` between buffers of the device, and on hardware the
    ``speedup`` of replaying. What can't be run has a ``reason``."""
    found = []
    for work in models:
        progress(work.name)
        entry: dict[str, Any] = {"model": work.name, "known_as": str(known_as)}
        try:
            entry |= _judged(place, work)
            if entry["captured"]:
                contenders = {n: _OnDevice(n, place, work) for n in ("replayed", "eager")}
                timings = time_in_rounds(
                    contenders, budget_s=budget_s, always=list(contenders), locked=locked
                )
                entry |= {name: timing.summary() for name, timing in timings.items()}
                if known_as is KnownAs.HARDWARE:
                    entry["speedup"] = timings["eager"].p50_ms / timings["replayed"].p50_ms
        except DioeError as error:
            entry["reason"] = " ".join(str(error).split())
        found.append(entry)
    return found


def _judged(place: Place, work: Work) -> dict[str, Any]:
    """Whether a graph is captured, and the errors of what it gives."""
    other = np.random.default_rng(1).permutation(work.x.reshape(-1)).reshape(work.x.shape)
    with place.request(work.model, {OPTION: False}) as (_, request):
        request.bind({"x": other})
        request.run().wait()
        (expected,) = (np.array(value) for value in request.outputs.values())
    with place.request(work.model, {OPTION: True}) as (_, request):
        request.bind({"x": work.x})
        for _ in range(_WARMUP_RUNS):
            request.run().wait()
        error = work.error(request)
        request.bind({"x": other})
        request.run().wait()
        rebound = Work(work.name, work.model, other, expected).error(request)
        captured, note = capture_of(request)
    return {
        "captured": captured,
        "note": note,
        "relative_l2": error,
        "rebound_relative_l2": rebound,
        "limit": work.limit,
    }


def capture_of(request: Request) -> tuple[bool, str]:
    """Whether a request replays a captured graph, and why not where it doesn't.

    Requests of backends that capture graphs tell by ``graph_note``: None before it is known, empty
    once there is a graph, else the reason.
    """
    note = getattr(request, "graph_note", None)
    return note == "", "the backend doesn't tell" if note is None else str(note)
