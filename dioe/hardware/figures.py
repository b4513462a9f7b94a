"""Figures about hardware: each with where it comes from, and how far that can be trusted."""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer

from dioe.hardware.quantities import RATE, Bandwidth, Power, Rate, Size, Time


class Closed(BaseModel):
    """Base of everything in a file: unknown keys, other types and NaN are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True, use_attribute_docstrings=True
    )


class FigureKind(enum.StrEnum):
    """How a figure came about, best first."""

    MEASURED = "measured"  # on the machine, by `dioe calibrate`
    VENDOR = "vendor"  # a datasheet or a repository of who makes it
    THIRD_PARTY = "third_party"  # anybody else's page
    DERIVED = "derived"  # computed from other figures; the source says how
    UNVERIFIED = "unverified"  # nobody found where it comes from


class Figure(Closed):
    """What every figure says of itself."""

    source: str = Field(min_length=1, max_length=500)
    """Where it comes from: a page, a datasheet, how it was derived or measured."""
    kind: FigureKind
    """How it came about: measured, vendor, third_party, derived or unverified."""
    note: str = ""
    """What else has to be known to use it."""


class SizeFigure(Figure):
    """A size of memory."""

    value: Size


class BandwidthFigure(Figure):
    """A bandwidth, in one direction where there are two."""

    value: Bandwidth


class TimeFigure(Figure):
    """A time."""

    value: Time


class PowerFigure(Figure):
    """An electrical power."""

    value: Power


class CountFigure(Figure):
    """A number of things."""

    value: Annotated[int, Field(ge=1, le=1_000_000)]


class FractionFigure(Figure):
    """A share of something, above 0 and at most 1."""

    value: Annotated[float, Field(gt=0, le=1)]


class Arithmetic(enum.StrEnum):
    """What chips compute in; DIOE's precisions and some that it doesn't use."""

    FP64 = "fp64"
    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"


class Peak(Figure):
    """The highest dense rate of one precision; of one backend where it was measured through one."""

    precision: Arithmetic
    """Of the operands."""
    value: Rate
    """Dense, without structured sparsity; a multiply-add counts 2."""
    accumulator: Literal["", "fp64", "fp32", "fp16", "bf16", "int32"] = ""
    """Type of the sums: fp16 sums run twice as fast as fp32 ones on some chips."""
    sparse: Rate | None = None
    """The figure with structured sparsity that pages show as if it were the dense one: to be told
    apart by `dioe validate`."""
    mode: str = ""
    """The power mode it holds in; empty where there is only one."""
    backend: str = ""
    """The backend it was measured through; empty for the chip's own."""

    @field_serializer("value", "sparse", when_used="unless-none")
    def _as_people_write_it(self, value: float) -> str:
        return rate_text(value, self.precision)


def rate_text(per_s: float, precision: Arithmetic) -> str:
    """A rate of operations as people write it: integers have no FLOPS."""
    text = RATE.write(per_s).replace("FLOPS", "OPS")
    return text if precision.startswith("int") else text.replace("OPS", "FLOPS")


class OpFactor(Figure):
    """How far ops of one class stay from their roofline, learned from measured ones."""

    op_class: str = Field(pattern=r"^[a-z][a-z0-9_.]*$", max_length=40)
    """What sort of work it is: conv.depthwise, matmul, elementwise; `fused` for what ops fused into
    others still cost."""
    precision: Arithmetic
    """Computed in."""
    backend: str = ""
    """The backend it was learned on; empty for any."""
    value: Annotated[float, Field(ge=0, le=10_000)]
    """Times its roofline: 1 is as good as the peaks allow, 0 costs nothing."""
    ops: Annotated[int, Field(ge=1)]
    """How many measured ops it was learned from."""
