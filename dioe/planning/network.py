"""A problem's devices, values and links as numbers: what a timeline is computed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dioe.planning.timeline import Way

if TYPE_CHECKING:
    from dioe.planning.problem import Problem

CALLER = "caller"
"""The one lane of a problem without devices."""


@dataclass(frozen=True, slots=True)
class Network:
    """By number: devices with their lanes (0: any number of them), values with the block that makes
    them (-1: a model input) and their sizes, and what their transfers take.

    ``fixed`` are times of transfers by value, ``handover`` by pair of contexts, ``lasting`` the
    model's outputs, ``home`` is -1 where inputs are everywhere.
    """

    devices: tuple[str, ...]
    lanes: tuple[int, ...]
    device_of: tuple[int, ...]
    context_of: tuple[int, ...]
    values: Mapping[str, int]
    makers: Sequence[int]
    nbytes: Sequence[float]
    ways: Mapping[tuple[int, int], Way]
    queues: tuple[str, ...]
    handover: Mapping[tuple[int, int], float]
    fixed: Mapping[int, float]
    home: int
    lasting: tuple[int, ...]

    @classmethod
    def of(cls, problem: Problem) -> Network:
        """The network of a problem."""
        devices = tuple(device.id for device in problem.devices) or (CALLER,)
        lanes = tuple(device.lanes or 0 for device in problem.devices) or (1,)
        number = {name: i for i, name in enumerate(devices)}
        device_of = tuple(
            number[costs.target.device] if problem.devices else 0 for costs in problem.targets
        )
        contexts = {
            key: i for i, key in enumerate(dict.fromkeys(t.context for t in problem.targets))
        }
        values, makers, nbytes = _values(problem)
        queues: dict[str, int] = {}
        ways = {}
        for link in problem.links:
            ends = number[link.source], number[link.destination]
            queue = -1
            if link.queue is not None:
                name = link.queue or f"{link.source} to {link.destination}"
                queue = queues.setdefault(name, len(queues))
            ways[ends] = Way(link.cost.fixed_ms, link.cost.ms_per_byte, queue)
        return cls(
            devices,
            lanes,
            device_of,
            tuple(contexts[costs.context] for costs in problem.targets),
            values,
            makers,
            nbytes,
            ways,
            tuple(queues),
            {
                (contexts[a], contexts[b]): ms
                for (a, b), ms in problem.handover.items()
                if a in contexts and b in contexts
            },
            {values[name]: ms for name, ms in problem.edge_ms.items() if name in values},
            number[problem.home] if problem.home else -1,
            tuple(values[name] for name in problem.outputs if name in values),
        )


def _values(problem: Problem) -> tuple[dict[str, int], list[int], list[float]]:
    values = {name: i for i, name in enumerate(problem.inputs)}
    makers = [-1] * len(values)
    nbytes = [0.0] * len(values)
    for position, block in enumerate(problem.blocks):
        for name, size in block.reads.items():
            at = values[name]
            if makers[at] < 0:  # only its readers know the size of an input
                nbytes[at] = max(nbytes[at], float(size))
        for name, size in block.gives.items():
            values[name] = len(values)
            makers.append(position)
            nbytes.append(float(size))
    return values, makers, nbytes
