"""A device's queue as all sessions of the process share it: its order, and waiting for it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from dioe.types import DONE, Event, TimedOut

if TYPE_CHECKING:
    from dioe_onnxruntime.sessions import Placed

_lanes: weakref.WeakValueDictionary[tuple[str, str], Lane] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def lane_of(placed: Placed) -> Lane:
    """The one lane of a device in this process."""
    key = (placed.provider.backend, placed.info.id)
    with _lock:
        lane = _lanes.get(key)
        if lane is None:
            lane = _lanes[key] = Lane(placed)
        return lane


def in_use(backend: str) -> bool:
    """True while a context, an executable or a buffer on a device of this backend is left."""
    with _lock:
        return any(key[0] == backend for key in _lanes)


class Lane:
    """The in-order queue of one device.

    Work is counted as it is handed over; ``reached`` is how much of it is known to be done. A
    provider that isn't asynchronous does it before it returns.
    """

    def __init__(self, placed: Placed) -> None:
        self.placed = placed
        self.asynchronous: bool = placed.provider.asynchronous
        self.left_bytes = 0  # see dioe_onnxruntime.weights
        self._exclusive = threading.RLock() if placed.provider.exclusive else None
        self._counting = threading.Lock()
        self._submitted = self._reached = 0
        self._waiter: threading.Thread | None = None
        self._failed: BaseException | None = None
        self._drain: Callable[[], None] | None = None

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the provider, where only one thread at a time may call it."""
        if self._exclusive is None:
            yield
            return
        with self._exclusive:
            yield

    def submitted(self) -> Event:
        """The event of the work that was just handed over."""
        if not self.asynchronous:
            return DONE
        with self._counting:
            self._submitted += 1
            return QueueEvent(self, self._submitted)

    def drained(self) -> None:
        """Say that a result came back: all that was handed over before is done as well."""
        with self._counting:
            self._reached = self._submitted

    def reached(self, ticket: int) -> bool:
        """True if that much work is known to be done."""
        return self._reached >= ticket

    def wait(self) -> None:
        """Wait, without holding Python's lock, for all that was handed over."""
        if not self.asynchronous:
            return
        with self.exclusive():
            with self._counting:
                ticket = self._submitted
            if self._drain is None:
                self._drain = _drain_of(self.placed)
            self._drain()
            with self._counting:
                self._reached = max(self._reached, ticket)

    def wait_for(self, ticket: int, timeout_ms: float | None) -> None:
        """Wait for that much work; raises TimedOut, or the error of the device."""
        if self.reached(ticket):
            return
        if timeout_ms is None:
            self.wait()
            return
        self._in_background().join(timeout_ms / 1000)
        if self.reached(ticket):
            return
        failed = self._failed
        if failed is not None:
            self._failed = None
            raise failed
        raise TimedOut(
            f"the device had not finished after {timeout_ms} ms", place=self.placed.info.id
        )

    def poll(self, ticket: int) -> bool:
        """True if that much work is done, or has failed: then waiting raises. The device can't be
        asked, so a thread waits for it."""
        if self.reached(ticket) or self._failed is not None:
            return True
        self._in_background()
        return self.reached(ticket)

    def _in_background(self) -> threading.Thread:
        with self._counting:
            waiter = self._waiter
            if waiter is None or not waiter.is_alive():
                waiter = self._waiter = threading.Thread(target=self._wait_once, daemon=True)
                waiter.start()
            return waiter

    def _wait_once(self) -> None:
        try:
            self.wait()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            self._failed = error


class QueueEvent:
    """Work on a lane, done when everything up to it is."""

    __slots__ = ("_lane", "_ticket")

    def __init__(self, lane: Lane, ticket: int) -> None:
        self._lane, self._ticket = lane, ticket

    def wait(self, timeout_ms: float | None = None) -> None:
        """See ``dioe.types.Event``. Raises TimedOut."""
        self._lane.wait_for(self._ticket, timeout_ms)

    def done(self) -> bool:
        """See ``dioe.types.Event``."""
        return self._lane.poll(self._ticket)


def _drain_of(placed: Placed) -> Callable[[], None]:
    """A call that returns when the queue is empty.

    ONNX Runtime has no fence that Python can wait for, and its copies hold Python's lock while
    they wait. A run of one op whose result comes to the host is behind all that was queued before
    it, and lets other threads go on.
    """
    from dioe_onnxruntime.trial import run_trial, trial_session

    return partial(run_trial, trial_session(placed), placed)
