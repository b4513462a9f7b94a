"""``dioe.predict``: what a model would take on devices that aren't here, or weren't measured.

Nothing is executed: times come from rooflines (:mod:`dioe.profiling.roofline`) on the figures of a
pool's devices. They say which machine is worth a try, not what it takes; each says what it rests
on, and on devices that are here measuring has the last word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np

from dioe.flops import WEIGHT_BITS
from dioe.graph import (
    Kernel,
    Model,
    OpGraph,
    OpInfo,
    Source,
    find_kernels,
    make_inputs,
)
from dioe.graph.tensors import tensors
from dioe.hardware import DeviceSpec, Pool, pool_from, with_devices
from dioe.hardware.power import Draw, draws_of
from dioe.hardware.reached import known_precisions, measured_backends
from dioe.profiling import Bound, KernelTime, Roofline
from dioe.runtime import Runtime
from dioe.types import KnownAs, Precision, Target, UnsupportedError


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model would take on one device of a pool, in one precision. Times in ms.

    ``backend`` is the one whose measured figures were used, empty where they are of the device
    alone. ``ms`` is None where nothing can be said, and ``reason`` says why. ``bounds`` are the
    times of all kernels by what they go into: ``compute``, ``memory``, ``overhead``. ``basis`` says
    what the figures rest on, ``known_as`` whether the device is here or described. ``mode`` is the
    power mode that a power limit of the pool leaves it.
    """

    device: str
    name: str
    backend: str
    precision: Precision | None
    known_as: KnownAs
    ms: float | None = None
    dispatch_ms: float = 0.0
    bounds: Mapping[str, float] | None = None
    basis: str = ""
    reason: str = ""
    kernels: tuple[KernelTime, ...] = ()
    weight_bytes: int = 0
    mode: str = ""

    @property
    def target(self) -> str:
        """Device, backend (``*`` for none in particular) and precision."""
        parts = (self.device, self.backend or "*", self.precision or "*")
        return "/".join(map(str, parts))


@dataclass(frozen=True, slots=True)
class Predicted:
    """All predictions for one model, fastest first; ``shapes`` are those it was costed for.

    ``unknown`` are ops of which not all work is known, by their own kind or for want of a shape:
    they count as less than they take, most as launches alone.
    """

    predictions: tuple[Prediction, ...]
    shapes: Mapping[str, tuple[int, ...]]
    flops: int
    kernel_count: int
    op_count: int
    unknown: tuple[str, ...] = ()


def predict(
    model: Source,
    *,
    hardware: str | PathLike[str] | Pool | None = None,
    devices: Sequence[str] | str = "auto",
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Predicted:
    """What a model would take on each device of a pool, in each precision that it has a peak of.

    Args:
        model: As ``dioe.compile`` takes it.
        hardware: A pool, its file, its name in the catalogue, or None for this machine.
        devices: ``auto`` for all, or some device ids.
        shapes: Of inputs; open dimensions get assumed ones.

    Raises:
        ModelError, InputError, ConfigError: as ``dioe.types`` describes them.
    """
    pool = pool_from(hardware)
    if hardware is None:
        pool = with_devices(pool, Runtime.current().registry.placements)
    chosen = _chosen(pool, devices)
    loaded = Model.load(model)
    feeds = make_inputs(loaded, {n: tuple(s) for n, s in (shapes or {}).items()})
    bound = {n: v.shape for n, v in feeds.items() if isinstance(v, np.ndarray)}
    graph = OpGraph.build(loaded, bound)
    found = find_kernels(graph)
    weights = list({id(t): (t.size, t.nbytes) for t in tensors(graph.model.ir)}.values())
    predictions = [p for device in chosen for p in _on(device, pool, found, weights)]
    predictions.sort(key=lambda p: (p.ms is None, p.ms or 0.0, p.target))
    unknown = tuple(op for kernel in found for op in kernel.ops if _is_unknown(graph.ops[op]))
    flops = sum(kernel.flops for kernel in found)
    return Predicted(tuple(predictions), bound, flops, len(found), len(graph.ops), unknown)


def _is_unknown(op: OpInfo) -> bool:
    return op.flops is None or op.bytes_written is None


def _chosen(pool: Pool, devices: Sequence[str] | str) -> Sequence[DeviceSpec]:
    if devices == "auto":
        return pool.devices
    named = devices.split(",") if isinstance(devices, str) else devices
    return [pool.device(name) for name in dict.fromkeys(name.strip() for name in named)]


def _on(
    device: DeviceSpec,
    pool: Pool,
    found: Sequence[Kernel],
    weights: Sequence[tuple[int, int]],
) -> Iterator[Prediction]:
    precisions = known_precisions(device.figures)
    allowed = [p for p in precisions if not pool.limits.forbids(device.id, p)]
    about = (device.id, device.name)
    if not allowed:
        reason = "no figures of it: name a descriptor in the pool, or run `dioe calibrate`"
        if precisions:
            reason = "all its precisions are forbidden by limits"
        yield Prediction(*about, "", None, device.known_as, reason=reason)
    draw = _draw(device, pool)
    if allowed and draw is None:
        reason = f"it draws more than the {pool.limits.power_w:g} W that the pool allows"
        yield Prediction(*about, "", None, device.known_as, reason=reason)
        return
    mode = "" if draw is None else draw.mode
    for precision in allowed:
        for backend in measured_backends(device.figures, precision) or [""]:
            target = Target(device.id, backend, (precision,))
            yield _prediction(device, pool, target, mode, found, weights)


def _draw(device: DeviceSpec, pool: Pool) -> Draw | None:
    """What a device alone may draw under the pool's limit, in its fastest mode; None where even the
    least is too much."""
    draws = draws_of(pool, device.id)
    cap_w = pool.limits.power_w
    if cap_w is None or not draws:
        return Draw(device.id, 0.0)
    fitting = [draw for draw in draws if draw.watts <= cap_w]
    return fitting[-1] if fitting else None


def _prediction(
    device: DeviceSpec,
    pool: Pool,
    target: Target,
    mode: str,
    found: Sequence[Kernel],
    weights: Sequence[tuple[int, int]],
) -> Prediction:
    backend, (precision,) = target.backend, target.precisions
    about = (device.id, device.name, backend, precision, device.known_as)
    bits = WEIGHT_BITS.get(precision, 32)
    needed = sum(min(nbytes, size * bits // 8) for size, nbytes in weights)
    room = pool.limits.memory_bytes.get(device.id, device.memory_bytes)
    if room is not None and needed > room:
        reason = f"its weights take {needed / 2**20:.0f} MiB, and there are {room / 2**20:.0f}"
        return Prediction(*about, reason=reason, weight_bytes=needed)
    try:
        roofline = Roofline(device, precision, backend=backend, mode=mode)
    except UnsupportedError as error:
        return Prediction(*about, reason=error.cause, weight_bytes=needed, mode=mode)
    times = tuple(map(roofline.of, found))
    bounds = {str(b): sum(time.ms for time in times if time.bound is b) for b in Bound}
    bounds[str(Bound.OVERHEAD)] += roofline.dispatch_ms
    return Prediction(
        *about,
        ms=sum(time.ms for time in times) + roofline.dispatch_ms,
        dispatch_ms=roofline.dispatch_ms,
        bounds=bounds,
        basis=roofline.basis,
        kernels=times,
        weight_bytes=needed,
        mode=mode,
    )
