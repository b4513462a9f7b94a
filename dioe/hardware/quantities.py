"""Quantities as people write them: ``24 GiB``, ``614.4 GB/s``, ``312 TFLOPS``, ``10 us``.

Each kind of quantity is read into one canonical unit (bytes, bytes per second, operations per
second, seconds, watts) and written back in the largest unit that keeps it short. A number without a
unit is an error: whoever reads the file would have to guess. Decimal prefixes are powers of 1000,
binary ones (KiB, MiB, GiB, TiB) powers of 1024, as in IEC 80000-13.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

_NUMBER = r"[+-]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"({_NUMBER})\s*(\D.*|)")
_LONGEST = 60
"""Characters of a quantity; more is no number that anybody wrote."""

_MOST_DIGITS = 40
"""Before the point; more is none either."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A kind of quantity: its units with their sizes in the canonical one, and an example.

    ``zero`` says whether 0 can be: a latency may be nothing, a bandwidth not. ``other`` are units
    that look right and aren't, with what to write instead.
    """

    what: str
    units: Mapping[str, Decimal]
    example: str
    zero: bool = False
    whole: bool = False
    other: Mapping[str, str] | None = None

    def read(self, written: object) -> float:
        """The quantity in the canonical unit. Raises ValueError with what is wrong."""
        if isinstance(written, bool) or not isinstance(written, str):
            number = isinstance(written, int | float) and not isinstance(written, bool)
            hint = f", such as '{written:g} {self._usual}'" if number else ""
            raise ValueError(f"is no {self.what} with its unit{hint} (as in '{self.example}')")
        match = _QUANTITY.fullmatch(written.strip()) if len(written) <= _LONGEST else None
        if match is None:
            raise ValueError(f"is no {self.what}: write a number and a unit, '{self.example}'")
        factor = self._factor(match[2].strip())
        # in decimal, so that what `write` wrote is read back to the last bit
        with localcontext(Context(traps=[])):  # out of Decimal's own range is infinite, NaN or 0
            exact = Decimal(match[1].replace("_", "")) * factor
        value = float(exact) if exact.adjusted() < _MOST_DIGITS else math.inf
        if not math.isfinite(value) or value < 0 or (value == 0 and not self.zero):
            bounds = "0 or more" if self.zero else "above 0"
            raise ValueError(f"is no {self.what}: it has to be {bounds}, and finite")
        if self.whole and exact != int(exact):
            raise ValueError(f"is no whole number of bytes: it is {exact.normalize():.9g}")
        return int(exact) if self.whole else value

    def write(self, value: float) -> str:
        """The quantity as text, from which ``read`` gets the very same number.

        In the largest unit that there is at least one of; bytes in the largest of which they are a
        whole number.
        """
        exact = Decimal(repr(value))
        units = [(size, name) for name, size in self.units.items()]
        if self.whole:
            size, name = max(u for u in units if exact % u[0] == 0) if exact else min(units)
        else:
            decimal = [u for u in units if "i" not in u[1]]
            size, name = max((u for u in decimal if exact >= u[0]), default=min(decimal))
        return f"{(exact / size).normalize():f} {name}"

    @property
    def _usual(self) -> str:
        return self.example.partition(" ")[2]

    def _factor(self, unit: str) -> Decimal:
        if unit in self.units:
            return self.units[unit]
        if not unit:
            raise ValueError(f"has no unit: write it as in '{self.example}'")
        if self.other and unit in self.other:
            raise ValueError(f"is in {unit!r}: {self.other[unit]}")
        by_case = {name.lower(): name for name in self.units}
        near = difflib.get_close_matches(unit.lower(), by_case, n=1)
        hint = f"did you mean {by_case[near[0]]!r}?" if near else f"units: {', '.join(self.units)}"
        raise ValueError(f"has the unknown unit {unit!r}; {hint}")


_DECIMAL = {p: Decimal(1000) ** i for i, p in enumerate(("", "k", "M", "G", "T", "P"))}
_BINARY = {p: Decimal(1024) ** i for i, p in enumerate(("Ki", "Mi", "Gi", "Ti"), 1)}
_BITS = {f"{p}b{s}" for p in _DECIMAL for s in ("", "/s", "ps")} | {f"{p}bit/s" for p in _DECIMAL}
_IN_BYTES = dict.fromkeys(_BITS, "those are bits; give bytes (8 bits)")

SIZE = Unit(
    "size", {f"{p}B": f for p, f in (_DECIMAL | _BINARY).items()}, "24 GiB",
    zero=True, whole=True, other=_IN_BYTES,
)  # fmt: skip
BANDWIDTH = Unit(
    "bandwidth", {f"{p}B/s": f for p, f in (_DECIMAL | _BINARY).items()}, "614.4 GB/s",
    other=_IN_BYTES,
)  # fmt: skip
RATE = Unit(
    "rate of operations",
    {f"{p}{u}": f for u in ("FLOPS", "OPS") for p, f in _DECIMAL.items()},
    "312 TFLOPS",
    other={"TFLOP": "that is work, not a rate; write TFLOPS", "TMACS": "count a multiply-add as 2"},
)
_SECONDS = {"s": 0, "ms": 1, "us": 2, "µs": 2, "ns": 3}
TIME = Unit("time", {u: Decimal(1000) ** -i for u, i in _SECONDS.items()}, "10 us", zero=True)
POWER = Unit("power", {"W": Decimal(1), "mW": Decimal("0.001"), "kW": Decimal(1000)}, "450 W")


def _read(unit: Unit) -> Any:
    def read(value: object, info: ValidationInfo) -> float:
        if info.mode == "python" and isinstance(value, int | float) and not isinstance(value, bool):
            return value  # in code, in the canonical unit
        try:
            return unit.read(value)
        except ValueError as error:
            raise PydanticCustomError(
                "quantity", "Input {problem}", {"problem": str(error)}
            ) from None

    return BeforeValidator(read)


def _schema(unit: Unit) -> WithJsonSchema:
    names = "|".join(re.escape(name).replace("/", r"\/") for name in unit.units)
    return WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^\s*{_NUMBER}\s*({names})\s*$",
            "examples": [unit.example],
            "description": f"A {unit.what} with its unit, such as {unit.example}.",
        }
    )


Size = Annotated[int, _read(SIZE), PlainSerializer(SIZE.write), _schema(SIZE)]
"""Bytes."""
Bandwidth = Annotated[float, _read(BANDWIDTH), PlainSerializer(BANDWIDTH.write), _schema(BANDWIDTH)]
"""Bytes per second."""
Rate = Annotated[float, _read(RATE), PlainSerializer(RATE.write), _schema(RATE)]
"""Operations per second; a multiply-add counts 2."""
Time = Annotated[float, _read(TIME), PlainSerializer(TIME.write), _schema(TIME)]
"""Seconds."""
Power = Annotated[float, _read(POWER), PlainSerializer(POWER.write), _schema(POWER)]
"""Watts."""
