"""Precisions, and targets: a device, a backend and the precisions to compute in."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from dioe.types.errors import InputError


class Precision(enum.StrEnum):
    """Arithmetic of a stage. ``FP32`` means *as written*: a Q/DQ part stays quantised."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"  # weights only


@dataclass(frozen=True, slots=True)
class Precisions:
    """A default precision and the ops (by id) that differ from it."""

    default: Precision = Precision.FP32
    exceptions: Mapping[str, Precision] = field(default_factory=dict)

    def of(self, op: str) -> Precision:
        """The precision of one op."""
        return self.exceptions.get(op, self.default)

    @property
    def used(self) -> tuple[Precision, ...]:
        """All precisions named, the default first, the others sorted."""
        return (self.default, *sorted(set(self.exceptions.values()) - {self.default}))


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how: ``device/backend[.provider]/precision``, a mix named by its parts.

    Examples: ``cpu/openvino/bf16``, ``gpu:0/onnxruntime.webgpu/fp32``, ``cpu/openvino/bf16+fp32``.
    """

    device: str
    backend: str
    precisions: tuple[Precision, ...] = (Precision.FP32,)

    def __str__(self) -> str:
        return f"{self.device}/{self.backend}/{'+'.join(self.precisions)}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """The target that ``text`` names; raises InputError."""
        try:
            device, backend, precision = text.split("/")
            if not device or not backend:
                raise ValueError("its device or its backend is empty")
            return cls(device, backend, tuple(Precision(p) for p in precision.split("+")))
        except ValueError as error:
            raise InputError(
                f"{text!r} is not a target ({error})",
                fix="write device/backend/precision, such as cpu/openvino/fp32",
            ) from None
