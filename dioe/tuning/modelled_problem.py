"""The planning problem of a model on devices that aren't here: costs by rooflines on a pool's
figures, ways by its links, limits as planning knows them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from dioe.flops import WEIGHT_BITS
from dioe.hardware import DeviceSpec, Pool
from dioe.hardware.limits import Limits
from dioe.hardware.reached import known_precisions, measured_backends
from dioe.planning import (
    Allowed,
    ContextKey,
    Cost,
    Line,
    LinkCosts,
    Problem,
    TargetCosts,
)
from dioe.profiling import Roofline
from dioe.runtime import near
from dioe.tuning import pool_network
from dioe.tuning.limited import Limited
from dioe.tuning.modelled_pins import PinnedBlocks
from dioe.tuning.modelled_work import ANY_BACKEND, STEP, ModelPart, Work
from dioe.tuning.pins import Pins
from dioe.types import Basis, InputError, Precision, Target, UnsupportedError

AUTO, AS_WRITTEN = "auto", "fp32"
ASSUMED_DISPATCH_MS = 0.01
"""Of a stage where no figure says: what a call of OpenVINO with preset tensors takes from Python,
measured on an AMD EPYC (9.8 µs); ONNX Runtime's takes 3 to 5."""

_FLOATS = (Precision.FP32, Precision.FP16, Precision.BF16)
_LIGHT = frozenset({"elementwise", "movement", "shape"})
"""Classes of kernels that any device has."""

StepCosts: TypeAlias = "Mapping[str, float | Mapping[str, float]]"
"""What Python steps take, in ms: by step, and where it isn't the host by device."""


@dataclass(frozen=True)
class ModelledProblem:
    """A problem, what each target's costs rest on, which devices have none and why, and notes."""

    problem: Problem
    bases: Mapping[str, str]
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What is asked of the problem: device ids (empty for all), a precision, limits, the time that
    a request may take, pins (``strict``: that have to be kept), and the costs of Python steps."""

    devices: tuple[str, ...] = ()
    precision: str = AS_WRITTEN
    limits: Limits = field(default_factory=Limits)
    latency_ms: float | None = None
    pins: Pins = ()
    cost_ms: StepCosts = field(default_factory=dict)
    strict: bool = False


def modelled_problem(work: Work, pool: Pool, asked: Asked) -> ModelledProblem:
    """The problem of placing ``work`` on the devices of ``pool``.

    Raises UnsupportedError where no device can be used, with each one's reason; InputError for what
    names no device, step or op.
    """
    return _Building(work, pool, asked).built()


class _Building:
    def __init__(self, work: Work, pool: Pool, asked: Asked) -> None:
        self._work, self._pool, self._asked = work, pool, asked
        self._limits = asked.limits
        written = work.written if asked.limits.forbidden else frozenset()
        self._limited = Limited(asked.limits, pool, written)
        self._chosen = [pool.device(name) for name in asked.devices] or list(pool.devices)
        self._host = pool_network.host_of(pool)
        names = [device.id for device in self._chosen]
        if work.steps and self._host and self._host not in names:
            names.append(self._host)  # not to place models on
        self._draws = pool_network.power_modes(pool, names, self._limits.power_w)
        self._bases: dict[str, str] = {}
        self._left_out: dict[str, str] = {}
        self._notes: list[str] = list(work.notes)

    def built(self) -> ModelledProblem:
        targets = [costs for device in self._chosen for costs in self._on(device)]
        targets = self._reachable(targets)
        if not targets and self._work.models:
            raise self._nothing_left()
        pinned = PinnedBlocks.of(self._work, self._pool, self._asked.pins)
        targets, notes = pinned.keep(targets, strict=self._asked.strict)
        self._notes += notes
        targets = self._undominated(targets)
        targets += self._steps()
        used = {costs.target.device for costs in targets} | {self._host}
        devices = [device.id for device in self._pool.devices if device.id in used]
        nodes = pool_network.device_nodes(self._pool, self._limits, devices, self._draws)
        links = self._with_boundaries(pool_network.link_costs(self._pool, devices), targets)
        together = pool_network.both(
            self._limited.together(devices), pool_network.reachable_sets(devices, links)
        )
        self._notes += self._told(devices, links)
        problem = Problem(
            blocks=self._work.nodes,
            targets=tuple(targets),
            outputs=self._work.outputs,
            inputs=self._work.inputs,
            handover=self._handovers(targets),
            devices=nodes,
            links=links,
            home=self._host,
            allowed=Allowed(together, self._limits.max_stages, self._asked.latency_ms),
        )
        notes_once = tuple(dict.fromkeys(self._notes))
        return ModelledProblem(problem, self._bases, self._left_out, notes_once)

    # --- targets ---------------------------------------------------------------------------------

    def _on(self, device: DeviceSpec) -> list[TargetCosts]:
        """The targets on a device; where there is none, the reason is kept."""
        found, reasons = [], []
        mode = self._draws[device.id].mode if device.id in self._draws else ""
        precisions, reason = self._precisions(device)
        for precision in precisions:
            refusal = self._limited.refusal(device.id, precision)
            for backend in measured_backends(device.figures, precision) or [""]:
                try:
                    roofline = Roofline(device, precision, backend=backend, mode=mode)
                except UnsupportedError as error:
                    reasons.append(error.cause)
                else:
                    if not refusal:
                        found.append(self._target(roofline))
            if refusal:
                reasons.append(refusal)
        if not found:
            self._left_out[device.id] = reason or "; ".join(dict.fromkeys(reasons))
        return found

    def _precisions(self, device: DeviceSpec) -> tuple[Sequence[Precision], str]:
        """Those that are asked for and that a device has, and why where there is none."""
        known = known_precisions(device.figures)
        wanted: Sequence[Precision] = _FLOATS
        if self._asked.precision == AUTO:
            wanted = (*_FLOATS, Precision.INT8) if self._work.quantised else _FLOATS
        else:
            wanted = (_precision(self._asked.precision),)
        found = [precision for precision in wanted if precision in known]
        if found:
            return found, ""
        if not known:
            return (), "no figures of it: name a descriptor in the pool, or run `dioe calibrate`"
        reason = f"no peak in {' or '.join(wanted)} (it has {', '.join(known)})"
        if self._asked.precision != AUTO and set(known) & set(_FLOATS):
            reason += "; --precision auto may use it"
        return (), reason

    def _target(self, roofline: Roofline) -> TargetCosts:
        device, precision = roofline.device.id, roofline.precision
        dispatch_ms = roofline.dispatch_ms or ASSUMED_DISPATCH_MS
        costs: dict[str, Cost] = {}
        weights: dict[str, int] = {}
        for part in self._work.models:
            costs.update(_costs(part, roofline, dispatch_ms))
            weights.update(_weights(part, precision))
        target = Target(device, roofline.backend or ANY_BACKEND, (precision,))
        basis = roofline.basis
        if not roofline.dispatch_ms:
            basis += f", dispatch of {ASSUMED_DISPATCH_MS * 1e3:g} µs a stage assumed"
        self._bases[str(target)] = basis
        return TargetCosts(target, costs, dispatch_ms=dispatch_ms, weight_bytes=weights)

    def _reachable(self, targets: Sequence[TargetCosts]) -> list[TargetCosts]:
        """Without targets on devices that the host has no way to and from."""
        devices = list(dict.fromkeys(costs.target.device for costs in targets))
        if not self._host:
            return list(targets)
        links = pool_network.link_costs(self._pool, list(dict.fromkeys((self._host, *devices))))
        ways = {(link.source, link.destination) for link in links}
        for device in devices:
            there, back = (self._host, device), (device, self._host)
            if device != self._host and not {there, back} <= ways:
                self._left_out[device] = (
                    f"the pool has no way between it and {self._host}, where inputs are: add links"
                )
        return [costs for costs in targets if costs.target.device not in self._left_out]

    def _undominated(self, targets: Sequence[TargetCosts]) -> list[TargetCosts]:
        """Without targets of a device that another one there is at least as good as, in every
        block's time and weights."""
        kept: list[TargetCosts] = []
        left: dict[str, list[str]] = {}
        for costs in targets:
            others = [t for t in targets if t.target.device == costs.target.device]
            at = others.index(costs)
            better = next(
                (
                    other
                    for i, other in enumerate(others)
                    if i != at and _as_good(other, costs) and (i < at or not _as_good(costs, other))
                ),
                None,
            )
            if better is None:
                kept.append(costs)
            else:
                left.setdefault(str(better.target), []).append(str(costs.target))
        for better_one, others_left in left.items():
            self._notes.append(
                f"no use of {', '.join(others_left)}: {better_one} is as fast or faster everywhere"
            )
        return kept

    def _steps(self) -> Iterator[TargetCosts]:
        """Targets of Python steps: on the host, or where a cost is given."""
        given = self._step_costs()
        for name in dict.fromkeys(d for by_device in given.values() for d in by_device):
            blocks = {}
            for block, step in self._work.steps.items():
                ms = given[step].get(name)
                if ms is not None:
                    first = block == step  # the block after a call is part of the same step
                    blocks[block] = Cost(ms if first else 0.0, Basis.PREDICTED)
            target = Target(name, STEP, (Precision.FP32,))
            self._bases[str(target)] = "as given for the Python steps"
            yield TargetCosts(target, blocks)

    def _step_costs(self) -> Mapping[str, Mapping[str, float]]:
        """What each step takes, by device."""
        steps = list(dict.fromkeys(self._work.steps.values()))
        for name in self._asked.cost_ms:
            if name not in steps:
                raise InputError(f"{name!r} is no Python step of the pipeline", place="cost_ms",
                                 fix=near(name, steps))  # fmt: skip
        if steps and not self._host:
            raise InputError(
                f"{steps[0]!r} is a Python step, and the pool has no CPU to run it",
                place="hardware", fix="add a device of kind cpu",
            )  # fmt: skip
        found = {}
        for step in steps:
            cost = self._asked.cost_ms.get(step)
            if cost is None:
                self._notes.append(f"what {step} takes isn't known, and counts as nothing: cost_ms")
                cost = 0.0
            by_device = dict(cost) if isinstance(cost, Mapping) else {self._host: cost}
            for name, ms in by_device.items():
                self._pool.device(name)
                if (
                    isinstance(ms, bool)
                    or not isinstance(ms, int | float)
                    or not 0 <= ms < math.inf
                ):
                    raise InputError(f"{step} takes {ms!r} on {name}", place="cost_ms",
                                     fix="give milliseconds, 0 or more")  # fmt: skip
            found[step] = {name: float(ms) for name, ms in by_device.items()}
        return found

    # --- between targets -------------------------------------------------------------------------

    def _handovers(
        self, targets: Sequence[TargetCosts]
    ) -> Mapping[tuple[ContextKey, ContextKey], float]:
        """Boundaries of the pool between targets of one device: their fixed part."""
        found = {}
        for a in targets:
            for b in targets:
                cost = self._pool.boundary(str(a.target), str(b.target))
                if a.target.device == b.target.device and cost is not None:
                    found[a.context, b.context] = cost.fixed.value * 1e3
        return found

    def _with_boundaries(
        self, links: Sequence[LinkCosts], targets: Sequence[TargetCosts]
    ) -> tuple[LinkCosts, ...]:
        """The links, with what the pool's boundaries between their devices cost besides."""
        found = []
        for link in links:
            pairs = (
                self._pool.boundary(str(a.target), str(b.target))
                for a in targets
                for b in targets
                if (a.target.device, b.target.device) == (link.source, link.destination)
            )
            dearest = max(filter(None, pairs), key=lambda b: b.cost_ms(2**20), default=None)
            if dearest is not None:
                rate = None if dearest.bandwidth is None else dearest.bandwidth.value
                more = Line(dearest.fixed.value * 1e3, 0.0 if rate is None else 1e3 / rate)
                found.append(replace(link, cost=link.cost + more))
            else:
                found.append(link)
        return tuple(found)

    # --- what is told ----------------------------------------------------------------------------

    def _told(self, devices: Sequence[str], links: Sequence[LinkCosts]) -> Iterator[str]:
        yield from self._limited.notes(devices)
        if self._asked.precision == AUTO:
            yield (
                "precisions below the model's own: accuracy can't be checked on devices that "
                "aren't here"
            )
        elif self._asked.precision == Precision.INT8 and not self._work.quantised:
            yield "int8 is what the model would take quantised, which it isn't"
        unknown = [
            f"{p.name}.{op}" if p.name else op for p in self._work.models for op in p.unknown
        ]
        if unknown:
            named = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
            yield f"of {len(unknown)} ops not all work is known, which isn't counted: {named}"
        for pair in pool_network.separated(devices, links):
            yield f"the pool has no way between {pair}: no plan uses both"
        no_limit = [d for d in devices
                    if pool_network.memory_bytes(self._pool, self._limits, d) is None]  # fmt: skip
        if no_limit:
            yield f"nobody knows the memory of {', '.join(no_limit)}: it isn't limited there"
        shared = [d for d in devices if pool_network.memory_of(self._pool, d) != d]
        if shared:
            yield (
                f"{', '.join(shared)} uses the memory of another device: each is held to the whole "
                "of it, and bandwidth isn't shared out"
            )
        for device, draw in self._draws.items():
            if draw.device != device and device in devices:
                yield f"power of {device}: {draw}, of the whole that it is a part of"
            elif draw.mode and device in devices:
                yield f"power of {draw}: DIOE doesn't switch devices to a mode"

    def _nothing_left(self) -> UnsupportedError:
        reasons = "; ".join(f"{device}: {why}" for device, why in self._left_out.items())
        return UnsupportedError(
            f"no device of the pool can be used ({reasons})", place="hardware",
            fix="take another precision (--precision auto), other limits or another pool; figures "
            "that are missing come from a descriptor (device: …) or from `dioe calibrate`",
        )  # fmt: skip


def _precision(name: str) -> Precision:
    try:
        return Precision(name)
    except ValueError:
        raise InputError(
            f"precision {name!r} is unknown", fix=f"use auto, or one of: {', '.join(Precision)}"
        ) from None


def _costs(part: ModelPart, roofline: Roofline, dispatch_ms: float) -> dict[str, Cost]:
    """What the blocks of a model take in all its runs; the dispatches of the runs after the first
    are its first block's."""
    own = roofline.block_ms(part.kernels, part.blocks)
    able = _able(part, roofline.precision)
    found = {}
    for i, (block, node) in enumerate(zip(part.blocks, part.nodes, strict=True)):
        if block.id in able:
            more_ms = 0.0 if i else (part.runs - 1) * dispatch_ms
            found[node.id] = Cost(own[block.id] * part.runs + more_ms, Basis.PREDICTED)
    return found


def _able(part: ModelPart, precision: Precision) -> set[str]:
    """The blocks that may be computed in a precision: in int8 those that the model has in it."""
    able = {block.id for block in part.blocks}
    if precision is not Precision.INT8:
        return able
    if not any(kernel.written is Precision.INT8 for kernel in part.kernels):
        return able  # as if it were quantised
    floats = {
        kernel.main
        for kernel in part.kernels
        if kernel.written is not Precision.INT8 and kernel.op_class not in _LIGHT
    }
    return {block.id for block in part.blocks if floats.isdisjoint(block.ops)}


def _weights(part: ModelPart, precision: Precision) -> dict[str, int]:
    """What blocks keep: weights in the precision, or as they are where that is less."""
    bits = WEIGHT_BITS.get(precision, 32)
    return {
        node.id: sum(min(nbytes, size * bits // 8) for size, nbytes in weights)
        for node, weights in zip(part.nodes, part.weights, strict=True)
    }


def _as_good(one: TargetCosts, other: TargetCosts) -> bool:
    """Whether a target is at least as good as another one of its device, in everything."""
    return one.dispatch_ms <= other.dispatch_ms and all(
        block in one.blocks
        and one.blocks[block].ms <= cost.ms
        and one.weight_bytes[block] <= other.weight_bytes[block]
        for block, cost in other.blocks.items()
    )
