"""``dioe calibrate``: what every backend reaches on every device, as figures of a pool."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from dioe.graph import Model, Source, make_inputs
from dioe.hardware import Pool, fingerprint, host_pool, machine, pool_from, with_devices
from dioe.hardware.figures import Arithmetic, FigureKind
from dioe.hardware.host import other_machine
from dioe.hardware.measured import Measured, write_measured
from dioe.hardware.pools import Hardware
from dioe.hardware.reached import part_of_cores
from dioe.profiling import measuring
from dioe.profiling.calibration import Findings, Subject, measure
from dioe.profiling.calibration_boundaries import measure_boundaries
from dioe.runtime import Runtime, is_host
from dioe.tuning.calibration_figures import Row, measured_by, row_data, source_of
from dioe.tuning.clock import check_seconds
from dioe.tuning.compile import Job, Settings
from dioe.tuning.learn import learned_factors, measure_kernels
from dioe.tuning.targets import error_cause, matches, usual_resources
from dioe.types import (
    Capabilities,
    Context,
    DeviceInfo,
    DeviceState,
    DioeError,
    Feeds,
    InputError,
    KnownAs,
    Precision,
    Target,
)

log = logging.getLogger(__name__)

SECONDS = 60.0
"""What a calibration takes by default: enough for three backends on two cores."""

_BOUNDARY_PART = 0.2
"""Of the seconds, for what backends cost each other."""

_MODEL_S = 3.0
"""For a model on a backend in a precision."""

LAST_RESORT = "a last resort: name it with its device to measure it"
NOT_HERE = "no backend finds it on this machine"
LONG_COMPILER = "its compiler takes long: name it with its device to measure it"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured on a machine: ``pool`` is the one that was given, with the figures."""

    pool: Pool
    rows: tuple[Row, ...]
    measured: Measured
    boundary_problems: Mapping[str, str]
    model_problems: Mapping[str, str]
    base: Pool
    hardware: Hardware

    def write(self, path: str | PathLike[str]) -> None:
        """Write the pool as a file; the contents of the file it was read from stay as they are
        written. Raises ConfigError."""
        write_measured(self.measured, self.base, path, self.hardware)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else has to be known: a pool of another machine got this one's figures."""
        hosts = {row.device for row in self.rows if not row.reason and is_host(row.device)}
        found = host_pool().devices[0]
        described = (device for device in self.base.devices if device.id in hosts)
        return tuple(
            f"{device.id} of the pool {reason}: the figures are of this machine"
            for device in described
            if (reason := other_machine(device, found))
        )

    def share_of_chip(self, device: str, precision: Precision, per_s: float) -> float | None:
        """What part of the chip's own peak a rate is; None where nothing is said of that."""
        spec = self.pool.device(device)
        own = [
            peak.value
            for peak in spec.figures.peaks
            if peak.precision is Arithmetic(precision) and peak.kind is not FigureKind.MEASURED
        ]
        return per_s / (max(own) * part_of_cores(spec)) if own else None

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON: rates per second, bytes, seconds."""
        return {
            "machine": machine(self.pool),
            "fingerprint": fingerprint(self.pool),
            "backends": [row_data(row) for row in self.rows],
            "links": [
                {
                    "source": link.source,
                    "destination": link.destination,
                    "bytes_per_s": link.bandwidth.value,
                    "latency_s": None if link.latency is None else link.latency.value,
                }
                for link in self.measured.links
            ],
            "boundaries": [
                {
                    "source": b.source,
                    "destination": b.destination,
                    "fixed_s": b.fixed.value,
                    "bytes_per_s": None if b.bandwidth is None else b.bandwidth.value,
                }
                for b in self.measured.boundaries
            ],
            "boundary_problems": dict(self.boundary_problems),
            "model_problems": dict(self.model_problems),
            "notes": list(self.notes),
        }


def calibrate(
    *,
    hardware: Hardware = None,
    devices: Sequence[str] | str = "auto",
    seconds: float = SECONDS,
    models: Sequence[Source] = (),
    write: str | PathLike[str] | None = None,
    runtime: Runtime | None = None,
) -> Pool:
    """Measure what every ready backend reaches on its devices; gives the pool with these figures.

    ``hardware`` is the pool (or its file) to add them to, this machine if it is left out;
    ``devices`` are devices or the beginnings of targets (``cpu``, ``cpu/openvino``), ``auto`` all
    that compute. From ``models``, which are measured op by op on all of them for some seconds each,
    is learned how far classes of ops stay from their rooflines (``docs/prediction.md``). ``write``
    names a file for the pool, which may be the one that ``hardware`` names. Takes about
    ``seconds``, models left out. See ``docs/calibration.md``. Raises InputError for a device that
    isn't there, ConfigError for files, ModelError for models.
    """
    found = run_calibration(
        hardware=hardware, devices=devices, seconds=seconds, models=models, runtime=runtime
    )
    if write is not None:
        found.write(write)
    return found.pool


def run_calibration(
    *,
    hardware: Hardware = None,
    devices: Sequence[str] | str = "auto",
    seconds: float = SECONDS,
    models: Sequence[Source] = (),
    runtime: Runtime | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Calibration:
    """As ``calibrate``, with everything that was found and why the rest wasn't."""
    check_seconds("seconds", seconds)
    runtime = runtime or Runtime.current()
    pool = pool_from(hardware)
    base = with_devices(pool, runtime.registry.placements) if hardware is None else pool
    loaded = [Model.load(model) for model in models]
    inputs = [make_inputs(model) for model in loaded]  # what can't be used is told at once
    chosen, rows = _subjects(base, devices, runtime)
    hosts = [s for (device, _, _), s in chosen.items() if is_host(device)]
    between_s = _BOUNDARY_PART * seconds if len(hosts) > 1 else 0.0
    with measuring() as locked:
        found = measure(
            list(chosen.values()), seconds=seconds - between_s, locked=locked, say=progress
        )
        working = [s for s in hosts if found[s.name].launch is not None]
        boundaries, problems = (
            measure_boundaries(working, seconds=between_s, locked=locked, say=progress)
            if len(working) > 1
            else ([], {})
        )
    rows += [
        Row(info.id, name, version, info.known_as, found[subject.name])
        for (_, name, version), subject in chosen.items()
        for info in (runtime.registry.placement(subject.name.partition("/")[0]).device,)
    ]
    measured = measured_by(rows, boundaries, base, runtime)
    failed: dict[str, str] = {}
    if loaded:
        samples = list(zip(loaded, inputs, strict=True))
        measured, failed = _taught(measured, samples, rows, base, runtime, progress)
    return Calibration(measured.over(base), tuple(rows), measured, problems, failed, base, hardware)


# --- what is measured -------------------------------------------------------------------------


def _subjects(
    pool: Pool, devices: Sequence[str] | str, runtime: Runtime
) -> tuple[dict[tuple[str, str, str], Subject], list[Row]]:
    """What is to be measured, by device, backend and its version; and what isn't, with reasons."""
    wanted = None if devices == "auto" else _names(devices)
    unmatched = set(wanted or ())
    chosen: dict[tuple[str, str, str], Subject] = {}
    rows: list[Row] = []
    known = {device.id for device in pool.devices}
    for placement in runtime.registry.placements:
        info = placement.device
        if info.state is not DeviceState.PRESENT:
            continue
        for name, local_id in placement.backends.items():
            backend = runtime.registry.backend(name)
            target = f"{info.id}/{name}"
            by_name = any("/" in w and matches(target, w) for w in wanted or ())
            named = [w for w in wanted or () if matches(target, w)]
            if backend.simulated and not by_name:
                continue
            if wanted is None and info.id not in known:
                continue
            unmatched.difference_update(named)
            if wanted is not None and not named:
                continue
            try:
                capabilities = backend.capabilities(local_id)
            except (Exception, SystemExit) as error:
                log.info("backend %s can't tell what it can do", name, exc_info=True)
                reason = f"it can't tell what it can do: {error_cause(error)}"
                rows.append(Row(info.id, name, backend.version, info.known_as, Findings(), reason))
                continue
            reason = "" if by_name else _held_back(capabilities, info)
            if reason:
                rows.append(Row(info.id, name, backend.version, info.known_as, Findings(), reason))
                continue
            subject = _subject(info, name, capabilities, pool, runtime)
            chosen[info.id, name, backend.version] = subject
    if unmatched:
        _raise_unmatched(min(unmatched), runtime)
    here = {p.device.id for p in runtime.registry.placements if p.backends}
    for spec in pool.devices if wanted is None else ():
        if spec.id not in here:
            rows.append(Row(spec.id, "", "", KnownAs.ABSENT, Findings(), NOT_HERE))
    return chosen, rows


def _held_back(capabilities: Capabilities, info: DeviceInfo) -> str:
    """Why a backend is measured only if it is named; empty if it always is."""
    if capabilities.last_resort:
        return LAST_RESORT
    return LONG_COMPILER if _compiles_long(capabilities, info) else ""


def _compiles_long(capabilities: Capabilities, info: DeviceInfo) -> bool:
    return not capabilities.dynamic_shapes and info.known_as is not KnownAs.MODELLED


def _subject(
    info: DeviceInfo, backend: str, capabilities: Capabilities, pool: Pool, runtime: Runtime
) -> Subject:
    target = Target(info.id, backend, (Precision.FP32,))
    known = {device.id for device in pool.devices}
    resources = usual_resources(info.id, pool)

    def opened(spin: bool | None) -> AbstractContextManager[Context]:
        return runtime.context(target, resources if spin is None else replace(resources, spin=spin))

    memory, cache = info.memory_bytes, None
    if info.id in known:
        spec = pool.device(info.id)
        memory = spec.memory_bytes or memory
        last = max((c.level for c in spec.caches), default=0)
        cache = sum(c.size_bytes * c.count for c in spec.caches if c.level == last) or None
    return Subject(
        f"{info.id}/{backend}",
        opened,
        capabilities.computes,
        executes=info.known_as is not KnownAs.MODELLED,
        memory_bytes=memory,
        cache_bytes=cache,
        fuses=_compiles_long(capabilities, info),
    )


def _names(devices: Sequence[str] | str) -> list[str]:
    names = devices.split(",") if isinstance(devices, str) else list(devices)
    if not names:
        raise InputError("no device is named", fix="name some, or use 'auto'")
    return [name.strip() for name in names]


def _raise_unmatched(name: str, runtime: Runtime) -> None:
    """Raise what is to be said of a device or backend that isn't there to be measured."""
    backend = name.partition("/")[2]
    if backend in {status.name for status in runtime.registry.statuses}:
        runtime.registry.backend(backend)  # its reason
    usable = [f"{p.device.id}/{b}" for p in runtime.registry.placements for b in p.backends]
    raise InputError(
        f"nothing here matches the device {name!r}",
        fix=f"name a device, or one with its backend: {', '.join(usable)}",
    )


def _taught(
    measured: Measured,
    samples: Sequence[tuple[Model, Feeds]],
    rows: Sequence[Row],
    base: Pool,
    runtime: Runtime,
    progress: Callable[[str], None],
) -> tuple[Measured, dict[str, str]]:
    """What was measured, with the factors that models teach, of which each is measured on every
    backend that was; and the reasons of those that teach nothing."""
    names = [row.name for row in rows if not row.reason]
    pool = measured.over(base)
    taught, failed = [], dict[str, str]()
    for model, feeds in samples:
        try:
            job = Job(
                model.ir, hardware=pool, settings=Settings(devices=names, precision="auto"),
                sample_inputs=feeds, runtime=runtime, progress=progress,
            )  # fmt: skip
            found = measure_kernels(job, job.candidates(job.groups[0]), seconds=_MODEL_S)
        except DioeError as error:  # the figures that were measured before are worth more
            failed[model.place] = error.cause
            continue
        if not found:
            failed[model.place] = "no target runs it"
        taught.append(found)
    versions = {row.backend: row.version for row in rows}

    def source(target: Target) -> str:
        count = sum(target in model for model in taught)
        by = source_of(f"{target.backend} {versions[target.backend]}")
        return f"{by}, from {count} model{'s' * (count > 1)}"

    learned = learned_factors(pool, taught, source)
    figures = {
        name: known.model_copy(update={"op_factors": learned.get(name, ())})
        for name, known in measured.figures.items()
    }
    return replace(measured, figures=figures), failed
