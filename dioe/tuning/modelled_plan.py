"""``dioe.plan``: where a model would run on devices that aren't here, and what that would take.

Nothing is executed: block costs are rooflines on a pool's figures, transfers its links', and
:func:`dioe.planning.solve` places the blocks. Everything is *modelled*; on devices that are here
measuring (``dioe.compile``) has the last word.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from dioe.graph import Source
from dioe.hardware import Pool, pool_from, with_devices
from dioe.hardware.limits import LimitsLike, check_devices, limits_from
from dioe.planning import SCHEDULE_POLICIES, PlacedStage, Schedule, block_reasons, solve
from dioe.planning.objective import busy_ms, energies_j
from dioe.planning.plan_file import MODELLED_PLAN_FORMAT
from dioe.planning.simulator import SimulatedStage
from dioe.planning.timeline_svg import timeline_svg
from dioe.planning.timeline_trace import timeline_trace
from dioe.runtime import Pipeline, Runtime
from dioe.tuning.modelled_problem import AS_WRITTEN, Asked, StepCosts, modelled_problem
from dioe.tuning.modelled_work import Work, work_of
from dioe.tuning.pins import Pins
from dioe.tuning.pool_network import memory_of
from dioe.tuning.whole_nodes import best_of_whole_nodes
from dioe.types import BlockReport, InputError, KnownAs, OutOfMemory


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What a device does for one request. ``energy_j`` is None where nobody knows its power,
    ``memory_bytes`` where nobody knows its size."""

    id: str
    name: str
    busy_ms: float
    busy_w: float | None
    energy_j: float | None
    peak_bytes: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class ModelledStage:
    """Blocks that run one after the other on a lane of a device. Times in ms."""

    target: str
    lane: int
    blocks: tuple[str, ...]
    start_ms: float
    end_ms: float


@dataclass(frozen=True)
class ModelledPlan:
    """Where a model's blocks would run on the devices of a pool, and what that would take.

    ``bases`` says of each target what its costs rest on, ``left_out`` why devices of the pool
    aren't used at all. ``schedule`` has the whole answer of the planner: every block's time, every
    transfer, the lower bound and the gap.
    """

    FORMAT: ClassVar[str] = MODELLED_PLAN_FORMAT
    VERSION: ClassVar[int] = 1
    known_as: ClassVar[KnownAs] = KnownAs.MODELLED

    model: str
    hardware: str
    precision: str
    schedule: Schedule
    devices: tuple[DeviceUse, ...]
    bases: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def policy(self) -> str:
        """What it optimises."""
        return self.schedule.policy

    @property
    def latency_ms(self) -> float:
        """From the start of a request to its last result."""
        return self.schedule.latency_ms

    @property
    def throughput_per_s(self) -> float:
        """Requests per second where they follow each other without a gap; without end where
        nothing takes any time."""
        period_ms = self.schedule.period_ms
        return 1e3 / period_ms if period_ms > 0 else math.inf

    @cached_property
    def energy_j(self) -> float | None:
        """What the devices that it uses draw during one request that runs alone, in joules; None
        where nobody knows what one of them draws."""
        known = [device.energy_j for device in self.devices if device.energy_j is not None]
        return sum(known) if len(known) == len(self.devices) else None

    @property
    def peak_bytes(self) -> Mapping[str, int]:
        """The most memory that each device needs at an instant, weights included."""
        return {device.id: device.peak_bytes for device in self.devices}

    @cached_property
    def stages(self) -> tuple[ModelledStage, ...]:
        """The stages, in the order in which lanes take them."""
        pairs = zip(self.schedule.placement.stages, self.schedule.simulation.stages, strict=True)
        return tuple(self._stage(stage, simulated) for stage, simulated in pairs)

    def _stage(self, stage: PlacedStage, simulated: SimulatedStage) -> ModelledStage:
        targets = self.schedule.problem.targets
        target = str(targets[stage.targets[0]].target)
        return ModelledStage(
            target, simulated.lane, stage.blocks, simulated.start_ms, simulated.end_ms
        )

    @property
    def used(self) -> tuple[str, ...]:
        """Ids of the devices that compute anything."""
        return tuple(device.id for device in self.devices if device.busy_ms > 0)

    @property
    def _title(self) -> str:
        model = self.model if " -> " in self.model else Path(self.model).name
        return (
            f"{model} on {self.hardware}: {self.latency_ms:.4g} ms a request, policy "
            f"{self.policy} (modelled)"
        )

    def to_svg(self, width: int = 1200) -> str:
        """The timeline of one request as a picture (SVG), ``width`` pixels wide."""
        return timeline_svg(self.schedule, title=self._title, width=width)

    def to_trace(self) -> str:
        """The timeline of one request as JSON that https://ui.perfetto.dev shows."""
        return timeline_trace(self.schedule, title=self._title)

    @cached_property
    def reasons(self) -> tuple[BlockReport, ...]:
        """Why each block is where it is: the runner-up, what the plan would lose by it, and what
        decided. Simulates a plan for each, which may take some seconds."""
        return block_reasons(self.schedule)

    def to_data(self, *, explain: bool = False) -> dict[str, Any]:
        """As plain data for JSON, with ``explain`` the reasons too. It is no plan that could be
        run."""
        schedule = self.schedule
        return {
            "format": self.FORMAT,
            "version": self.VERSION,
            "known_as": str(self.known_as),
            "model": self.model,
            "hardware": self.hardware,
            "policy": self.policy,
            "precision": self.precision,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "value": schedule.value,
            "bound": schedule.bound,
            "gap": schedule.gap,
            "proved": schedule.proved,
            "found_by": schedule.found_by,
            "latency_ms": self.latency_ms,
            "period_ms": schedule.period_ms,
            "throughput_per_s": self.throughput_per_s if schedule.period_ms > 0 else None,
            "energy_j": self.energy_j,
            "devices": [asdict(device) for device in self.devices],
            "left_out": dict(self.left_out),
            "stages": [asdict(stage) for stage in self.stages],
            "blocks": [
                {"block": b.block, "target": schedule.assignment[b.block],
                 "start_ms": b.start_ms, "end_ms": b.end_ms}
                for b in schedule.blocks
            ],
            **({"reasons": [asdict(reason) for reason in self.reasons]} if explain else {}),
            "transfers": [asdict(transfer) for transfer in schedule.transfers],
            "bases": dict(self.bases),
            "notes": list(self.notes),
        }  # fmt: skip

    def to_json(self, *, explain: bool = False) -> str:
        """``to_data`` as text."""
        data = self.to_data(explain=explain)
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plan(
    model: Source | Pipeline,
    *,
    hardware: str | PathLike[str] | Pool | None = None,
    devices: Sequence[str] | str = "auto",
    policy: str = "latency",
    precision: str = AS_WRITTEN,
    limits: LimitsLike = None,
    latency_ms: float | None = None,
    pins: Pins = (),
    strict: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    cost_ms: StepCosts | None = None,
    runs: Mapping[str, int] | None = None,
    time_limit_s: float | None = None,
    work_limit: int | None = None,
    seed: int = 0,
) -> ModelledPlan:
    """Where a model would run on the devices of a pool, by figures alone; nothing is executed.

    Args:
        model: As ``dioe.compile`` takes it, a ``Pipeline`` included.
        hardware: A pool, its file, its name in the catalogue, or None for this machine.
        devices: ``auto`` for all of the pool, or some ids: the host's CPU holds inputs and runs
            Python steps in any case.
        policy: ``latency`` of one request, ``throughput`` of many, ``efficiency`` (energy of a
            request) or ``memory`` (the largest peak of any device).
        precision: ``fp32`` (as written), ``auto`` (any float precision that a device has, int8 for
            what is quantised; accuracy isn't checked), or one precision.
        limits: As ``dioe.compile`` takes them; each wins over that of ``hardware``.
        latency_ms: What a request may take at most.
        pins: Ops that have to run somewhere, as ``dioe.compile`` takes them.
        strict: Raise where a pin can't be kept, instead of leaving it out with a note.
        shapes: Of inputs (of a pipeline ``node.input``); open dimensions get assumed ones.
        cost_ms: What Python steps of a pipeline take: ``{"words": 2.0}`` on the host, or by device
            ``{"words": {"cpu": 2.0}}``.
        runs: How often models of a pipeline run for each request, where not once: those run on one
            device.
        time_limit_s, work_limit, seed: As ``dioe.planning.solve`` takes them.

    Raises:
        UnsupportedError: no device can be used, or no plan keeps the limits: says which, by how
            much.
        ModelError, InputError, ConfigError, OutOfMemory: as ``dioe.types`` describes them.
    """
    pool, name = named_pool(hardware)
    asked = Asked(
        device_ids(devices), precision, limits_from(limits), latency_ms, pins, cost_ms or {}, strict
    )
    search = Search(policy, time_limit_s, work_limit, seed)
    return plan_work(work_of(model, shapes, runs), pool, name, asked, search)


@dataclass(frozen=True, slots=True)
class Search:
    """What to optimise, and how long to look; see ``dioe.planning.solve``."""

    policy: str = "latency"
    time_limit_s: float | None = None
    work_limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.policy not in SCHEDULE_POLICIES:
            raise InputError(
                f"policy {self.policy!r} is unknown",
                place="policy",
                fix=f"use one of: {', '.join(SCHEDULE_POLICIES)}",
            )


def named_pool(hardware: str | PathLike[str] | Pool | None) -> tuple[Pool, str]:
    """The pool that is meant, and what to call it."""
    pool = pool_from(hardware)
    if hardware is None:
        return with_devices(pool, Runtime.current().registry.placements), "this machine"
    return pool, pool.name or ("a pool" if isinstance(hardware, Pool) else str(hardware))


def device_ids(devices: Sequence[str] | str) -> tuple[str, ...]:
    """Device ids of what ``devices`` names; none for all of them."""
    if isinstance(devices, str):
        devices = [] if devices == "auto" else devices.split(",")
    return tuple(dict.fromkeys(str(name).strip() for name in devices))


def plan_work(work: Work, pool: Pool, name: str, asked: Asked, search: Search) -> ModelledPlan:
    """The plan of ``work`` on a pool, as ``plan`` makes it; ``name`` is what the pool is called."""
    if asked.latency_ms is not None and not asked.latency_ms > 0:
        raise InputError(f"a latency of {asked.latency_ms} ms", place="latency",
                         fix="give more than 0")  # fmt: skip
    check_devices(asked.limits, [device.id for device in pool.devices])
    asked = replace(asked, limits=asked.limits.over(pool.limits))
    found = modelled_problem(work, pool, asked)
    schedule = solve(
        found.problem, search.policy, time_limit_s=search.time_limit_s,
        work_limit=search.work_limit, seed=search.seed,
        hint=best_of_whole_nodes(found.problem, work, search.policy),
    )  # fmt: skip
    devices = _uses(schedule, pool)
    _check_shared(devices, pool)
    used = {str(found.problem.targets[i].target) for i in schedule.placement.targets.values()}
    return ModelledPlan(
        work.name, name, asked.precision, schedule, devices,
        {target: basis for target, basis in found.bases.items() if target in used},
        work.shapes, found.left_out, found.notes,
    )  # fmt: skip


def _uses(schedule: Schedule, pool: Pool) -> tuple[DeviceUse, ...]:
    busy = busy_ms(schedule.problem, schedule.simulation)
    energies = energies_j(schedule.problem, schedule.simulation)
    return tuple(
        DeviceUse(
            node.id,
            pool.device(node.id).name,
            busy.get(node.id, 0.0),
            node.busy_w,
            energies.get(node.id, 0.0),
            math.ceil(schedule.peak_bytes.get(node.id, 0.0)),
            node.memory_bytes,
        )
        for node in schedule.problem.devices
    )


def _check_shared(devices: Sequence[DeviceUse], pool: Pool) -> None:
    """Raise OutOfMemory where devices that use one memory need more of it together than it has."""
    needed: dict[str, int] = {}
    for device in devices:
        memory = memory_of(pool, device.id)
        needed[memory] = needed.get(memory, 0) + device.peak_bytes
    for device in devices:
        size = device.memory_bytes
        if memory_of(pool, device.id) != device.id or size is None or needed[device.id] <= size:
            continue
        sharing = [d.id for d in devices if memory_of(pool, d.id) == device.id]
        raise OutOfMemory(
            f"{' and '.join(sharing)} use one memory of {size} bytes, and need {needed[device.id]}",
            place="planning",
            fix="limit the memory of each of them, or take fewer devices",
        )
