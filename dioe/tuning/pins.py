"""Pins: which ops have to run where, by patterns of their names or types.

A pinned op is refused by every other target, and so by whole models there; what is left is what the
search for plans of several stages does anyway.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TypeAlias

from dioe.graph import Model, OpGraph
from dioe.tuning.targets import Candidate, matches, refusal_text
from dioe.types import InputError, Support, UnsupportedError

log = logging.getLogger(__name__)

Pins: TypeAlias = "Mapping[str, str] | Sequence[str]"
"""Patterns of ops and the device or target each is pinned to: a mapping, or ``PATTERN=TARGET``."""

TYPE_PREFIX = "type:"


@dataclass(frozen=True, slots=True)
class Pin:
    """Ops whose name (or, after ``type:``, whose type) matches ``pattern`` run on ``target``: a
    device id, or the beginning of a target such as ``cpu/openvino``."""

    pattern: str
    target: str

    def __str__(self) -> str:
        return f"{self.pattern}={self.target}"

    def takes(self, op: str, op_type: str) -> bool:
        """Whether the op is pinned by this."""
        if self.pattern.startswith(TYPE_PREFIX):
            return fnmatchcase(op_type, self.pattern.removeprefix(TYPE_PREFIX))
        return fnmatchcase(op, self.pattern)


def parse_pins(pins: Pins) -> tuple[Pin, ...]:
    """Pins in their order; the first that matches an op counts. Raises InputError."""
    if isinstance(pins, Mapping):
        found = [Pin(str(pattern), str(target)) for pattern, target in pins.items()]
    elif isinstance(pins, Sequence) and not isinstance(pins, str):
        found = [_parsed(text) for text in pins]
    else:
        raise InputError(
            f"pins is {pins!r}", fix="map patterns to targets: {'conv_*': 'gpu:0'}, or list them"
        )
    for pin in found:
        if not pin.pattern or not pin.target or pin.pattern == TYPE_PREFIX:
            raise InputError(f"pin {str(pin)!r} names no {'ops' if pin.target else 'target'}",
                             fix="write PATTERN=TARGET, such as 'conv_*=gpu:0'")  # fmt: skip
    return tuple(found)


def _parsed(text: object) -> Pin:
    pattern, sign, target = str(text).rpartition("=")
    if not sign:
        raise InputError(
            f"pin {str(text)!r} has no '='", fix="write PATTERN=TARGET, such as 'conv_*=gpu:0'"
        )
    return Pin(pattern.strip(), target.strip())


@dataclass(frozen=True, slots=True)
class Pinned:
    """What came of pins: the candidates that keep to them, the target that each op has to be on,
    and in words what was kept and what couldn't be."""

    candidates: list[Candidate]
    ops: Mapping[str, str]
    notes: tuple[str, ...] = ()


def keep_to_pins(
    candidates: Sequence[Candidate], model: Model, pins: Sequence[Pin], *, strict: bool
) -> Pinned:
    """Have every candidate refuse the ops that are pinned elsewhere.

    An op that no candidate on its pinned target takes is left free, and a note says so; with
    ``strict`` that raises UnsupportedError. Raises InputError for a pin that matches no op, or
    whose target is none of the candidates.
    """
    if not pins:
        return Pinned(list(candidates), {})
    wanted = _wanted(model, pins)
    for pin in pins:
        _check_target(pin, candidates)
    kept: dict[str, str] = {}
    lost: dict[Pin, dict[str, str]] = {}
    for op, pin in wanted.items():
        there = [c for c in candidates if matches(str(c.target), pin.target)]
        if any(op in c.support.supported and not c.held_back for c in there):
            kept[op] = pin.target
        else:
            reasons = [
                c.forbidden or c.held_back or c.support.refused.get(op, "it isn't taken")
                for c in there
            ]
            nowhere = f"no such target is usable; there is {_listed(candidates)}"
            lost.setdefault(pin, {})[op] = reasons[0] if reasons else nowhere
    failures = [
        f"pin {pin} isn't kept: {refusal_text(Support(frozenset(), refused))}"
        for pin, refused in lost.items()
    ]
    if failures and strict:
        raise UnsupportedError(
            "; ".join(failures), fix="take other ops or another target, or leave --strict out"
        )
    for note in failures:
        log.warning("%s", note)
    able = {pin for op, pin in wanted.items() if op in kept}
    idle = [pin for pin in pins if pin not in wanted.values()]
    notes = [f"pinned: {pin}" for pin in pins if pin in able]
    notes += [f"pin {pin} has no effect: earlier pins have all its ops" for pin in idle]
    free = frozenset(model.placed_op_ids) - kept.keys()
    keeping = [_keeping(c, kept, free) for c in candidates]
    return Pinned(keeping, kept, (*notes, *failures))


_DEVICE = re.compile(r"cpu(:\d+)?|[a-z]+:\d+")


def _check_target(pin: Pin, candidates: Sequence[Candidate]) -> None:
    """Raise InputError for what is no target's beginning on any machine, or nearly one of here.

    A device or backend that isn't here may be elsewhere: pins are in files that go around.
    """
    device, _, backend = pin.target.partition("/")
    here = {c.target.backend for c in candidates if c.target.device == device}
    near = difflib.get_close_matches(backend.partition("/")[0], sorted(here), 1, 0.7)
    if not _DEVICE.fullmatch(device):
        cause = f"{device!r} is no device: it is 'cpu', or a kind and a number, such as 'gpu:0'"
    elif near and near[0] != backend.partition("/")[0]:
        cause = f"{device} has no backend {backend.partition('/')[0]!r}; did you mean {near[0]!r}?"
    else:
        return
    raise InputError(f"pin {pin}: {cause}", fix=f"targets here: {_listed(candidates)}")


def _listed(candidates: Sequence[Candidate]) -> str:
    return ", ".join(dict.fromkeys(str(c.target) for c in candidates)) or "none"


def _wanted(model: Model, pins: Sequence[Pin]) -> dict[str, Pin]:
    """The pin that counts for each op; raises InputError for one that matches none."""
    graph = OpGraph.build(model)
    wanted: dict[str, Pin] = {}
    used: set[Pin] = set()
    for op, info in graph.ops.items():
        matching = [pin for pin in pins if pin.takes(op, info.op_type)]
        used.update(matching)
        if matching:
            wanted[op] = matching[0]
    for pin in pins:
        if pin not in used:
            types = pin.pattern.startswith(TYPE_PREFIX)
            names = sorted({i.op_type for i in graph.ops.values()} if types else graph.ops)
            near = difflib.get_close_matches(pin.pattern.removeprefix(TYPE_PREFIX), names, 3, 0.3)
            raise InputError(
                f"pin {pin} matches no op",
                place=model.place,
                fix=f"`dioe inspect` lists the ops; near: {', '.join(near or names[:3])}",
            )
    return wanted


def _keeping(candidate: Candidate, pinned: Mapping[str, str], free: frozenset[str]) -> Candidate:
    """The candidate without the ops that are pinned elsewhere, and without those that are ``free``
    where it gets only what is pinned to it."""
    target, taken = str(candidate.target), candidate.support.supported
    away = {op: f"pinned to {to}" for op, to in pinned.items() if not matches(target, to)}
    others = dict.fromkeys(taken & free, candidate.for_pins) if candidate.for_pins else {}
    if not away and not others:
        return candidate
    refused = {**candidate.support.refused, **others, **away}
    support = Support(taken - refused.keys(), refused)
    return replace(candidate, support=support, pinned_away=taken & away.keys())
