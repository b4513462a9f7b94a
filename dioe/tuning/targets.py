"""Candidate targets: devices, backends and precisions that might run a model, and who can't."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dioe.hardware import Pool, resources_for
from dioe.precision import candidate_precisions
from dioe.runtime import Runtime, is_host
from dioe.tuning.limited import Limited
from dioe.types import (
    Backend,
    Capabilities,
    DeviceState,
    DioeError,
    InputError,
    KnownAs,
    Precision,
    Resources,
    StageModel,
    Support,
    Target,
)

log = logging.getLogger(__name__)


UNTRIED = "not tried: there was no tuning budget"
STRICT = "a last resort, which is used only when named"
USED_UP = "not tried: the tuning budget was used up"
COMPILER_S = 30.0
"""What a first look at a backend may well take that compiles for bound shapes only: such backends
generate code and call a compiler, or try kernels."""
LONG = (
    f"not tried: compiling for it may take {COMPILER_S:g} s, more than the tuning budget; name it, "
    "or give more"
)
LAST = "a last resort, and other targets take the whole model"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target, what it may use, and what its backend says about the model."""

    target: Target
    resources: Resources
    support: Support
    last_resort: bool = False
    held_back: str = ""
    mixes: bool = False
    """Whether the backend computes in several precisions inside one executable."""
    known_as: KnownAs = KnownAs.HARDWARE
    """How the device is known, and so the times on it."""
    for_pins: str = ""
    """Why it gets only what is pinned to it; empty if it may get all that it takes."""
    pinned_away: frozenset[str] = frozenset()
    """Ops that the backend takes, and that are refused because they are pinned elsewhere."""
    compiles_long: bool = False
    """Whether its backend compiles for bound shapes only, and may take long over it: it is tried
    after all others, on the whole model."""
    expected_s: float = 0.0
    """What a first look at it may take, as far as it is known before."""
    roomless: str = ""
    """Why the device's memory is too small for the whole model; empty if it isn't known to be."""
    forbidden: str = ""
    """Why limits keep the model out of it; empty if they don't."""

    @property
    def modelled(self) -> bool:
        """Whether the device is a descriptor only, so that outputs are worth nothing."""
        return self.known_as is KnownAs.MODELLED

    @property
    def runs_whole(self) -> bool:
        """Whether the backend could run the whole model, whatever is pinned elsewhere: then it can
        be measured so."""
        wanted = not (self.forbidden or self.held_back or self.roomless)
        return wanted and self.support.refused.keys() <= self.pinned_away

    @property
    def partial(self) -> bool:
        """Whether it gets parts of the model at most."""
        return bool(self.roomless) or not self.support.whole

    @property
    def refusal(self) -> str:
        """Why the target isn't tried on the whole model; empty if it is."""
        return self.forbidden or self.held_back or refusal_text(self.support) or self.roomless

    @property
    def refused_state(self) -> str:
        """The state to report where there is a refusal: what was only not tried is no reason to
        call the model unsupported."""
        if self.refusal in (UNTRIED, LONG, self.roomless):
            return "failed"
        return "unsupported"


def memory_bytes(device: str, resources: Resources, runtime: Runtime) -> int | None:
    """What may be used of a device's memory: its size where it has one of its own and tells, and no
    more than ``resources`` allow. None where neither is known."""
    found = runtime.registry.placement(device).device
    own = None if is_host(device) or found.shares is not None else found.memory_bytes
    known = [size for size in (own, resources.memory_limit_bytes) if size is not None]
    return min(known, default=None)


def is_lowered(target: Target, *, quantised: bool) -> bool:
    """True if the target computes in less precision than a model, ``quantised`` or not, is written
    in."""
    written = {Precision.FP32, Precision.INT8} if quantised else {Precision.FP32}
    return not written.issuperset(target.precisions)


def refusal_text(support: Support, most: int = 3) -> str:
    """The refused ops of ``support`` grouped by reason, in one line."""
    by_reason: dict[str, list[str]] = {}
    for op, reason in support.refused.items():
        by_reason.setdefault(reason, []).append(op)
    parts = [
        f"{reason} ({len(ops)} op{'s' if len(ops) > 1 else ''}, such as {ops[0]})"
        for reason, ops in sorted(by_reason.items(), key=lambda item: -len(item[1]))
    ]
    more = f"; and {len(parts) - most} more reasons" if len(parts) > most else ""
    return "; ".join(parts[:most]) + more


def candidates(
    model: StageModel,
    pool: Pool,
    runtime: Runtime,
    *,
    precision: str,
    quantised: bool,
    devices: Sequence[str] | str = "auto",
    pinned: Sequence[str] = (),
    last_resorts: bool = True,
    broken: Mapping[str, str] | None = None,
    limited: Limited | None = None,
    enough: Callable[[Candidate], bool] = lambda candidate: False,
    budget_s: float = math.inf,
) -> list[Candidate]:
    """Every target worth a try, those that refuse the model with their reasons.

    ``devices`` is ``auto`` or names what may be used: device ids, or the beginnings of targets such
    as ``cpu/openvino``. Simulated backends are used only when named so, the backend included
    (``npu:0/null``), for their outputs may be worth nothing; ``pinned``, the names of what ops are
    pinned to, count as well. Backends of the last resort too without ``last_resorts``. ``broken``
    gives the reasons of targets that failed already; a backend that raises when it is asked
    refuses. Backends aren't asked about targets that are ``limited``. Nobody else is asked after a
    candidate that is ``enough`` (asking may mean compiling), nor is, unless it is named, a backend
    whose compiling ``budget_s`` has no room for.
    Raises InputError for a name that matches nothing, and what ``Registry.backend`` raises where
    that is because the backend it names isn't usable.
    """
    wanted = None if devices == "auto" else _names(devices)
    unmatched = set(wanted or ())
    found: list[Candidate] = []
    settled = False
    limited = limited or Limited()
    for device_id, usual in _devices(pool, runtime):
        resources = limited.resources(device_id, usual)
        placements = [p for p in runtime.registry.placements if p.device.id == device_id]
        for placement in placements:
            if placement.device.state is not DeviceState.PRESENT:
                continue
            for name, local_id in placement.backends.items():
                backend = runtime.registry.backend(name)
                capabilities, failure = _capabilities(backend, local_id)
                for p in candidate_precisions(precision, capabilities, quantised=quantised):
                    target = Target(device_id, name, (p,))
                    if wanted is not None:
                        matching = [
                            w
                            for w in wanted
                            if matches(str(target), w) and ("/" in w or not backend.simulated)
                        ]
                        unmatched.difference_update(matching)
                        if not matching:
                            continue
                    elif backend.simulated and not any(
                        matches(str(target), w) and "/" in w for w in pinned
                    ):
                        continue
                    forbidden = limited.refusal(device_id, p)
                    if forbidden:
                        found.append(
                            Candidate(
                                target,
                                resources,
                                Support(frozenset()),
                                capabilities.last_resort,
                                known_as=placement.device.known_as,
                                forbidden=forbidden,
                            )
                        )
                        continue
                    modelled = placement.device.known_as is KnownAs.MODELLED
                    long = not (failure or capabilities.dynamic_shapes or modelled)
                    named = any(_names_backend(w, target) for w in (*(wanted or ()), *pinned))
                    expected_s = COMPILER_S if long and not named else 0.0
                    if settled or expected_s > budget_s:
                        found.append(
                            Candidate(
                                target,
                                resources,
                                Support(frozenset()),
                                capabilities.last_resort,
                                held_back=UNTRIED if settled else LONG,
                                compiles_long=long,
                            )
                        )
                        continue
                    why_not = (broken or {}).get(str(target), failure)
                    support = (
                        Support(frozenset(), dict.fromkeys(model.op_ids, why_not))
                        if why_not
                        else _query(backend, model, local_id, p)
                    )
                    found.append(
                        Candidate(
                            target,
                            resources,
                            support,
                            capabilities.last_resort,
                            mixes=capabilities.mixes_precisions,
                            known_as=placement.device.known_as,
                            compiles_long=long,
                            expected_s=expected_s,
                        )
                    )
                    settled = enough(found[-1])
    if unmatched:
        _check_named_backends(unmatched, runtime)
        if found_as := _simulated(min(unmatched), runtime):
            raise InputError(
                f"{min(unmatched)!r} is here as a {found_as[0]} device only",
                fix=f"to use it name the backend as well: {found_as[1]}",
            )
        usable = ", ".join(str(c.target) for c in found) or "`dioe devices` lists them"
        if other := _in_other_precisions(min(unmatched), runtime):
            raise InputError(
                f"{min(unmatched)!r} isn't used with precision={precision!r}",
                fix=f"leave it out, or give another precision; there is: {', '.join(other)}",
            )
        raise InputError(
            f"nothing here matches the device {min(unmatched)!r}", fix=f"usable: {usable}"
        )
    if not last_resorts:
        names = [*(wanted or ()), *pinned]
        found = [
            replace(c, support=Support(frozenset(), dict.fromkeys(model.op_ids, STRICT)))
            if c.last_resort and not any(_names_backend(w, c.target) for w in names)
            else c
            for c in found
        ]
    found.sort(key=lambda candidate: candidate.compiles_long)
    return _hold_back_last_resort(found, pinned)


def _names_backend(wanted: str, target: Target) -> bool:
    """True if ``wanted`` names the target down to its backend at least."""
    return matches(str(target), wanted) and wanted != target.device


def usual_resources(device: str, pool: Pool) -> Resources:
    """What may be used of a device by default. No pool has to list those that aren't there."""
    listed = {spec.id: spec for spec in pool.devices}
    return resources_for(listed[device]) if device in listed else Resources()


def _devices(pool: Pool, runtime: Runtime) -> list[tuple[str, Resources]]:
    """The pool's devices and those that are modelled, with what may be used of each."""
    known = runtime.registry.placements
    modelled = [p.device.id for p in known if p.device.known_as is KnownAs.MODELLED]
    ids = dict.fromkeys([*(device.id for device in pool.devices), *modelled])
    return [(device, usual_resources(device, pool)) for device in ids]


def _in_other_precisions(wanted: str, runtime: Runtime) -> list[str]:
    """The targets that a name matches, in whatever precision they compute; none of simulated
    backends where the name doesn't have the backend."""
    found: list[Target] = []
    for placement in runtime.registry.placements:
        device = placement.device
        for name, local_id in placement.backends.items():
            backend = runtime.registry.backend(name)
            if device.state is DeviceState.PRESENT and ("/" in wanted or not backend.simulated):
                computes = _capabilities(backend, local_id)[0].computes
                found += [Target(device.id, name, (p,)) for p in Precision if p in computes]
    return [str(target) for target in found if matches(str(target), wanted)]


def _check_named_backends(names: Iterable[str], runtime: Runtime) -> None:
    """Raise the reason of the first of the names whose backend is there and isn't usable."""
    found = {status.name for status in runtime.registry.statuses}
    for name in sorted(names):
        backend = name.split("/")[1] if "/" in name else ""
        if backend in found:
            runtime.registry.backend(backend)


def _simulated(device: str, runtime: Runtime) -> tuple[KnownAs, str] | None:
    """How a device is known that has a simulated backend, and how to name that one; else None."""
    for placement in runtime.registry.placements:
        for name in placement.backends if placement.device.id == device else ():
            if runtime.registry.backend(name).simulated:
                return placement.device.known_as, f"{device}/{name}"
    return None


def _capabilities(backend: Backend, device: str) -> tuple[Capabilities, str]:
    """What the backend says it can do, or why it can't say."""
    try:
        return backend.capabilities(device), ""
    except (Exception, SystemExit) as error:
        log.info("backend %s can't tell what it can do", backend.name, exc_info=True)
        return Capabilities(), f"it can't tell what it can do: {error_cause(error)}"


def _query(backend: Backend, model: StageModel, device: str, precision: Precision) -> Support:
    try:
        return backend.query(model, device, precision)
    except (Exception, SystemExit) as error:
        if not isinstance(error, DioeError):
            log.info("backend %s fails on being asked", backend.name, exc_info=True)
        return Support(frozenset(), dict.fromkeys(model.op_ids, error_cause(error)))


def error_cause(error: BaseException) -> str:
    """The cause of an error in one line: DIOE's own words, else type and message."""
    return error.cause if isinstance(error, DioeError) else f"{type(error).__name__}: {error}"


def _names(devices: Sequence[str] | str) -> list[str]:
    names = devices.split(",") if isinstance(devices, str) else list(devices)
    if not names:
        raise InputError("no device is named", fix="name some, or use 'auto'")
    return [name.strip() for name in names]


def matches(target: str, wanted: str) -> bool:
    """True if ``wanted`` is the target, its device, or another beginning of it."""
    return target == wanted or target.startswith(wanted + "/")


def _hold_back_last_resort(found: list[Candidate], pinned: Sequence[str]) -> list[Candidate]:
    """Refuse last-resort backends where another takes the whole model, but for what is pinned."""
    if not any(c.support.whole and not c.last_resort and not c.forbidden for c in found):
        return found

    def held(candidate: Candidate) -> Candidate:
        if not candidate.last_resort:
            return candidate
        if any(_names_backend(name, candidate.target) for name in pinned):
            return replace(candidate, for_pins=LAST)
        return replace(candidate, held_back=LAST)

    return [held(candidate) for candidate in found]
