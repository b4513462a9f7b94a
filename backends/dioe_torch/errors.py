"""What torch raises, in the contract's terms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from dioe.types import (
    BackendError,
    DeviceLost,
    DioeError,
    InputError,
    OutOfMemory,
    UnsupportedError,
)
from dioe_torch.lowerings import OpFailed, Unsupported

_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "not enough memory")
_LOST = ("device-side assert", "unspecified launch failure", "illegal memory access", "device lost")

_BY_ZERO = "ZeroDivisionError"  # torch's text for an integer divided by zero, in a RuntimeError


def closed() -> BackendError:
    """The error for whatever is used after it was closed."""
    return BackendError("the executable is closed", place="torch")


def run_error(error: BaseException, place: str) -> DioeError:
    """What ``error``, raised while compiling or running, is in the contract's terms."""
    if isinstance(error, DioeError):
        return error
    cause: BaseException = error.error if isinstance(error, OpFailed) else error
    if isinstance(error, OpFailed):
        place = f"{place}: op {error.op.id!r}" if error.op.id else f"{place}: {error.op.type}"
    text = " ".join(str(cause).split()) or type(cause).__name__
    low = text.lower()
    if isinstance(cause, DioeError):
        return cause
    if isinstance(cause, Unsupported):
        return UnsupportedError(text, place=place)
    if isinstance(cause, MemoryError | torch.OutOfMemoryError) or any(m in low for m in _MEMORY):
        return OutOfMemory(text, place=place)
    if any(mark in low for mark in _LOST):
        return DeviceLost(text, place=place)
    if isinstance(cause, IndexError | ValueError | ZeroDivisionError) or text == _BY_ZERO:
        return InputError(text, place=place)
    return BackendError(f"{type(cause).__name__}: {text}", place=place)


@contextlib.contextmanager
def errors(place: str) -> Iterator[None]:
    """Raise what torch raises here as DIOE's errors."""
    try:
        yield
    except DioeError:
        raise
    except Exception as error:
        raise run_error(error, place) from error
