"""Small models on the device and on the CPU: what they take, and how far the outputs are apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.cli.verification.work import Place, Work, waited
from dioe.profiling.rounds import Calls, Timing, time_in_rounds
from dioe.registry import Registry
from dioe.types import DioeError, KnownAs

_BUDGET_S = 1.5
"""Of all rounds of one model."""

_HERE, _CPU = "device", "cpu"


@dataclass(frozen=True, slots=True)
class _FromHost:
    """Runs from a host array to a host array."""

    name: str
    place: Place
    work: Work

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        with self.place.request(self.work.model) as (_, request):
            request.bind({"x": self.work.x}, {"y": np.empty_like(self.work.y)})
            yield {self.name: waited(request)}


def cpu_place(registry: Registry) -> Place | None:
    """The CPU by ONNX Runtime, or by whatever else computes there; None where nothing does."""
    placement = next((p for p in registry.placements if p.device.id == "cpu"), None)
    if placement is None:
        return None
    for name in sorted(placement.backends, key=lambda name: (name != "onnxruntime", name)):
        backend, own = registry.backend(name), placement.backends[name]
        if not backend.simulated and not backend.capabilities(own).last_resort:
            return Place(backend, own)
    return None


def check_timings(
    place: Place,
    known_as: KnownAs,
    cpu: Place | None,
    models: Sequence[Work],
    *,
    locked: bool = True,
    budget_s: float = _BUDGET_S,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Each model from a host array to a host array: ``p50_ms`` and the other figures, those of the
    ``cpu``, the ``speedup`` over it, and the error ``relative_l2`` with its ``limit``.

    What is no time of hardware isn't compared with the CPU's, and what a modelled device computes
    isn't judged. What can't be run has a ``reason``.
    """
    found = []
    for work in models:
        progress(work.name)
        entry: dict[str, Any] = {"model": work.name, "known_as": str(known_as)}
        try:
            if not place.backend.simulated:
                entry |= {"relative_l2": _error(place, work), "limit": work.limit}
            contenders = {_HERE: _FromHost(_HERE, place, work)}
            if cpu is not None and known_as is KnownAs.HARDWARE and cpu.device != place.device:
                contenders[_CPU] = _FromHost(_CPU, cpu, work)
            timings = time_in_rounds(
                contenders, budget_s=budget_s, always=list(contenders), locked=locked
            )
            entry |= _figures(timings, cpu)
        except DioeError as error:
            entry["reason"] = " ".join(str(error).split())
        found.append(entry)
    return found


def _error(place: Place, work: Work) -> float:
    with place.request(work.model) as (_, request):
        request.bind({"x": work.x})
        request.run().wait()
        return work.error(request)


def _figures(timings: dict[str, Timing], cpu: Place | None) -> dict[str, Any]:
    mine = timings[_HERE]
    found: dict[str, Any] = {**mine.summary()}
    if cpu is not None and _CPU in timings:
        theirs = timings[_CPU]
        found["cpu"] = {"backend": cpu.backend.name, **theirs.summary()}
        found["speedup"] = theirs.p50_ms / mine.p50_ms
    return found
