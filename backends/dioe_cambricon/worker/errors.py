"""Errors by the names that the client knows: they travel as names and texts."""

from __future__ import annotations


class WorkerError(Exception):
    """Cause, place, and what to do about it, as ``dioe.types.DioeError`` has them."""

    def __init__(self, cause: str, place: str = "", fix: str = "") -> None:
        super().__init__(cause)
        self.cause, self.place, self.fix = cause, place, fix


class BackendError(WorkerError):
    """The vendor's library failed where it should not have."""


class InputError(WorkerError):
    """A feed or an argument is wrong."""


class UnsupportedError(WorkerError):
    """The vendor's library doesn't take this model, op or setting."""


class OutOfMemory(WorkerError):
    """The card or the host has no memory left."""
