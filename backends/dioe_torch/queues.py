"""The queue of a device that torch hands work over to, and events on it.

What queues ask of a device is what ``torch.cuda``, ``torch.xpu`` and modules of other devices have:
``Stream``, ``Event``, ``stream``, ``current_stream``, ``synchronize``. Without streams and events
(``torch.mps``) a queue waits.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch

from dioe.types import DONE, Event, TimedOut
from dioe_torch.errors import errors

_POLL_S = 0.0002


class TorchEvent:
    """Work on a queue, done when the device has come to it."""

    __slots__ = ("_place", "native")

    def __init__(self, native: Any, place: str) -> None:
        self.native, self._place = native, place

    def wait(self, timeout_ms: float | None = None) -> None:
        """See ``dioe.types.Event``. Raises TimedOut, and what the work on the device failed of."""
        if timeout_ms is None:
            with errors(self._place):  # of work that was handed over before
                self.native.synchronize()
            return
        end = time.monotonic() + timeout_ms / 1000
        while not self.done():
            if time.monotonic() > end:
                raise TimedOut(
                    f"the device had not finished after {timeout_ms} ms", place=self._place
                )
            time.sleep(_POLL_S)

    def done(self) -> bool:
        """See ``dioe.types.Event``."""
        with errors(self._place):
            return bool(self.native.query())


class Queue:
    """An in-order queue of one torch device: its default stream, or one of its own.

    On the CPU there is none: work is done when it was handed over.
    """

    def __init__(
        self, native: str, place: str, *, own_stream: bool = False, page_locked: bool = False
    ) -> None:
        """``native`` is torch's name of the device, ``place`` DIOE's. ``page_locked``: host memory
        is copied by way of page-locked memory (``dioe_torch.staging``)."""
        self.device = torch.device(native)
        self.place = place
        self.on_host = self.device.type == "cpu"
        self._module: Any = None if self.on_host else getattr(torch, self.device.type)
        self._has_events = hasattr(self._module, "Event") and hasattr(self._module, "Stream")
        self.page_locked = page_locked and self._has_events
        self.stream: Any = None
        if own_stream and self._has_events:
            self.stream = getattr(torch, self.device.type).Stream(self.device)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Hand over to this queue."""
        if self.stream is None:
            yield
            return
        with self._module.stream(self.stream):
            yield

    def record(self) -> Event:
        """The event of all that was handed over so far."""
        if self.on_host:
            return DONE
        if not self._has_events:
            self.finish()
            return DONE
        event = self._module.Event()
        event.record(self.stream if self.stream is not None else self._stream())
        return TorchEvent(event, self.place)

    def _stream(self) -> Any:
        return self._module.current_stream(self.device)

    def after(self, event: Event) -> None:
        """Let what is handed over from now on wait for an event, on the device where it can."""
        if event is DONE:
            return
        if isinstance(event, TorchEvent) and self._has_events:
            (self.stream if self.stream is not None else self._stream()).wait_event(event.native)
        else:
            event.wait()

    def finish(self) -> None:
        """Wait until all that was handed over is done."""
        if self.on_host:
            return
        if self.stream is not None:
            self.stream.synchronize()
        elif self.device.type == "mps":
            self._module.synchronize()
        else:
            self._module.synchronize(self.device)

    def keep(self, tensor: torch.Tensor) -> None:
        """Say that this queue uses a tensor that was made on another: its memory isn't given to
        anybody else before this queue is done with it."""
        if self._has_events and tensor.device == self.device:
            tensor.record_stream(self.stream if self.stream is not None else self._stream())
