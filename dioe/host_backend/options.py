"""Options of a backend as a table: what becomes of each, in one place for all who ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from dioe.types import Effect, InputError, Precision, Resolution

Resolve: TypeAlias = Callable[[Any], Resolution]
"""What becomes of an option that has this value."""


@dataclass(frozen=True, slots=True)
class OptionRule:
    """One option: what values it takes and what becomes of them.

    ``resolve`` gets the value and returns its Resolution; ``compile`` tells whether
    ``Context.compile`` takes it too (else it is a setting of a hardware profile only).
    """

    accepts: Callable[[Any], bool]
    expected: str
    resolve: Resolve
    compile: bool = True


def fixed(effect: Effect, native_key: str = "", note: str = "") -> Resolve:
    """A rule's ``resolve`` that gives the same answer whatever the value."""
    answer = Resolution(effect, native_key, note)
    return lambda _: answer


def is_bool(value: object) -> bool:
    """True for a Python bool."""
    return isinstance(value, bool)


def is_count(value: object) -> bool:
    """True for a positive int."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def resource_rules(
    *,
    precision: Resolve,
    threads: Resolve,
    streams: Resolve,
    spin: Resolve,
    memory_limit_bytes: Resolve,
) -> dict[str, OptionRule]:
    """Rules of what a hardware profile sets for the whole of a device, and ``compile`` doesn't."""
    count, switch = (is_count, "a positive number"), (is_bool, "true or false")
    return {
        "precision": OptionRule(
            lambda v: v in set(Precision), "a precision", precision, compile=False
        ),
        "threads": OptionRule(*count, threads, compile=False),
        "streams": OptionRule(*count, streams, compile=False),
        "spin": OptionRule(*switch, spin, compile=False),
        "memory_limit_bytes": OptionRule(*count, memory_limit_bytes, compile=False),
    }


def resolve_options(
    rules: Mapping[str, OptionRule], options: Mapping[str, Any]
) -> dict[str, Resolution]:
    """What becomes of each option; an unknown key or a wrong value is REJECTED with a note."""
    answers: dict[str, Resolution] = {}
    for key, value in options.items():
        rule = rules.get(key)
        if rule is None:
            answers[key] = Resolution(Effect.REJECTED, note="unknown option")
        elif not rule.accepts(value):
            answers[key] = Resolution(Effect.REJECTED, note=f"{value!r} is not {rule.expected}")
        else:
            answers[key] = rule.resolve(value)
    return answers


def check_options(
    backend: str, rules: Mapping[str, OptionRule], options: Mapping[str, Any]
) -> None:
    """Raise InputError for an option that ``compile`` doesn't know or can't take."""
    known = {key: rule for key, rule in rules.items() if rule.compile}
    for key, answer in resolve_options(known, options).items():
        if answer.effect is Effect.REJECTED:
            raise InputError(
                f"option {key!r}: {answer.note}",
                place=backend,
                fix=f"options here: {', '.join(sorted(known))}",
            )
