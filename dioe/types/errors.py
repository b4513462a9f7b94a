"""The errors that DIOE and its backends raise on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


class DioeError(Exception):
    """Base of every error DIOE raises on purpose: the cause, the place, and what to do about it.

    ``exit_code`` is the exit code of the ``dioe`` command.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, *, place: str = "", fix: str = "") -> None:
        super().__init__(cause)
        self.cause, self.place, self.fix = cause, place, fix

    def __str__(self) -> str:
        text = f"{self.place}: {self.cause}" if self.place else self.cause
        return f"{text}\n  {self.fix}" if self.fix else text

    def __reduce__(self) -> tuple[Callable[..., DioeError], tuple[Any, ...]]:
        return _rebuild_error, (type(self), self.cause, self.place, self.fix)


def _rebuild_error(kind: type[DioeError], cause: str, place: str, fix: str) -> DioeError:
    return kind(cause, place=place, fix=fix)


class ModelError(DioeError):
    """The model can't be read: missing, truncated, not ONNX, invalid, or its external data is."""

    exit_code = 10


class InputError(DioeError):
    """A feed, an option or an argument is wrong: name, dtype, shape, value."""

    exit_code = 11


class UnsupportedError(DioeError):
    """No backend can run this model, op, device or precision."""

    exit_code = 12


class FidelityError(DioeError):
    """Outputs don't follow the reference closely enough."""

    exit_code = 13


class PlanMismatch(DioeError):
    """A plan of another model, machine or format version."""

    exit_code = 14


class BackendError(DioeError):
    """A backend failed where it should not have."""

    exit_code = 15


class OutOfMemory(DioeError):
    """A device or the host has no memory left, or a limit would be passed."""

    exit_code = 16


class TimedOut(DioeError):
    """A time limit ran out."""

    exit_code = 17


class DeviceLost(DioeError):
    """The device, or the worker process that holds it, is gone."""

    exit_code = 18


class ConfigError(DioeError):
    """A YAML file, an environment variable or a cache directory can't be used."""

    exit_code = 19
