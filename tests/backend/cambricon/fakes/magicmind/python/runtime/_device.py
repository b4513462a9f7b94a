"""``System``, ``Device`` and its queue."""

from __future__ import annotations

import os
import threading
from typing import Any

from ..._contract import RUNNER, Strict, seen
from ._values import GOOD, Status, bad

CARDS = int(os.environ.get("DIOE_FAKE_CARDS", "1"))

_active = threading.local()


def active_card() -> int | None:
    """The card that is active in this thread."""
    return getattr(_active, "card", None)


class System(Strict):
    @seen(RUNNER)
    def __init__(self) -> None:
        self._entered = False

    @seen(RUNNER)
    def __enter__(self) -> System:
        self._entered = True
        return self

    @seen(RUNNER)
    def __exit__(self, *error: object) -> None:
        self._entered = False

    @seen(RUNNER)
    def device_count(self) -> int:
        if not self._entered:
            raise RuntimeError("the system isn't initialised")
        return CARDS


class Device(Strict):
    settable = ("id",)

    @seen(RUNNER)
    def __init__(self) -> None:
        self._queues: list[Queue] = []

    @seen(RUNNER)
    def active(self) -> Status:
        if not 0 <= self.id < CARDS:
            return bad(f"invalid device id {self.id}")
        _active.card = self.id
        return GOOD

    @seen(RUNNER)
    def create_queue(self) -> Queue:
        if active_card() != self.id:
            raise RuntimeError("the device isn't active in this thread")
        return Queue()


class Queue(Strict):
    def __init__(self) -> None:
        self._work: list[Any] = []

    @seen(RUNNER)
    def sync(self) -> Status:
        work, self._work[:] = list(self._work), []
        try:
            for kernel in work:
                kernel()
        except Exception as error:  # noqa: BLE001 - a card says that it failed, whatever did
            return bad(f"{type(error).__name__}: {error}")
        return GOOD
