"""Options for limits, which plans have to keep, and what they turn into."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from dioe.types import InputError, Precision

if TYPE_CHECKING:
    from dioe.hardware.limits import Limits

MemoryLimits = Annotated[
    list[str] | None,
    typer.Option(
        "--memory-limit", help="Memory that a device may use, such as gpu:0=8GiB.",
        metavar="DEVICE=SIZE",
    ),
]  # fmt: skip
Forbidden = Annotated[
    list[str] | None,
    typer.Option(
        "--forbid", help="Precisions not to use: int8, or on a device only: cpu=bf16,int8.",
        metavar="[DEVICE=]PRECISIONS",
    ),
]  # fmt: skip
MaxStages = Annotated[
    int | None, typer.Option("--max-stages", help="Stages of a plan at most; 1 is no split.")
]
PowerCap = Annotated[
    str | None,
    typer.Option(
        "--power-cap", "--power",
        help="What a plan's devices may draw together, by their TDP: 60W.",
        metavar="WATTS",
    ),
]  # fmt: skip


def parse_limits(
    memory: list[str] | None = None,
    forbidden: list[str] | None = None,
    max_stages: int | None = None,
    power: str | None = None,
) -> Limits:
    """The limits that the options name; raises InputError."""
    from dioe.hardware.limits import Limits
    from dioe.hardware.quantities import POWER

    if max_stages is not None and max_stages < 1:
        raise InputError(
            f"{max_stages} stages are no plan", place="--max-stages", fix="give 1 or more"
        )
    return Limits(
        _memory(memory or []),
        _forbidden(forbidden or []),
        max_stages,
        None if power is None else _quantity(POWER.read, power, "--power-cap", "60W"),
    )


def _memory(texts: list[str]) -> dict[str, int]:
    """``["gpu:0=8GiB"]`` as bytes by device."""
    from dioe.hardware.quantities import SIZE

    found: dict[str, int] = {}
    for text in texts:
        device, equals, written = (part.strip() for part in text.rpartition("="))
        if not equals or not device:
            raise InputError(
                f"{text!r} names no device", place="--memory-limit",
                fix="write DEVICE=SIZE, such as gpu:0=8GiB, once for each device",
            )  # fmt: skip
        if device in found:
            raise InputError(
                f"{device!r} is given twice", place="--memory-limit", fix="give it once"
            )
        size = int(_quantity(SIZE.read, written, "--memory-limit", "gpu:0=8GiB"))
        if size < 1:
            raise InputError(
                f"{text!r} leaves nothing", place="--memory-limit",
                fix="give more; --devices leaves devices out",
            )  # fmt: skip
        found[device] = size
    return found


def _quantity(read: Callable[[object], float], written: str, option: str, example: str) -> float:
    try:
        return read(written)
    except ValueError as error:
        raise InputError(f"{written!r} {error}", place=option, fix=f"write {example}") from None


def _forbidden(texts: list[str]) -> dict[str, frozenset[Precision]]:
    """``["cpu=bf16,int8", "int8"]`` as precisions by device, ``*`` for those on every one."""
    from dioe.hardware.limits import EVERY_DEVICE

    found: dict[str, frozenset[Precision]] = {}
    for text in texts:
        device, equals, names = (part.strip() for part in text.rpartition("="))
        if equals and not device:
            raise InputError(
                f"{text!r} names no device", place="--forbid", fix="write cpu=bf16, or bf16"
            )
        device = device or EVERY_DEVICE
        precisions = frozenset(_precision(name.strip()) for name in names.split(","))
        found[device] = found.get(device, frozenset()) | precisions
    return found


def _precision(name: str) -> Precision:
    try:
        return Precision(name)
    except ValueError:
        near = difflib.get_close_matches(name, list(Precision), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"{name!r} is no precision{hint}",
            place="--forbid",
            fix=f"write cpu=bf16,int8 or int8; there is: {', '.join(Precision)}",
        ) from None
