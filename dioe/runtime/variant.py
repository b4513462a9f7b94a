"""A variant: a plan loaded for certain input shapes, its guard, and its pool of requests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dioe.runtime.loading import LoadedPlan, PlanRequest
from dioe.types import Feeds, Plan, Value

_DRAIN_S = 60.0


class Retired(Exception):
    """The variant was closed before the run began."""


class Variant:
    """A loaded plan behind a guard on input shapes. Requests are made when all are in use."""

    def __init__(self, loaded: LoadedPlan) -> None:
        self.loaded = loaded
        self.guard: tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...] | None = None
        """Name, shape and dtype of each input where all shapes are fixed; None for a variant that
        takes any shape the model allows."""
        if all(spec.static and spec.kind == "tensor" for spec in loaded.inputs):
            self.guard = tuple(
                (spec.name, tuple(int(d or 0) for d in spec.shape or ()), spec.dtype)
                for spec in loaded.inputs
            )
        self.retired = False
        self._free: deque[PlanRequest] = deque()
        self._made = 0
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)

    @property
    def plan(self) -> Plan:
        """The plan that is loaded."""
        return self.loaded.plan

    def accepts(self, feeds: Mapping[str, Any]) -> bool:
        """True if the guard's inputs are all there, as numpy arrays of its shapes and dtypes."""
        if self.guard is None or len(feeds) != len(self.guard):
            return False
        for name, shape, dtype in self.guard:
            array = feeds.get(name)
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return False
        return True

    def run(self, feeds: Feeds, output_names: Sequence[str]) -> list[Value]:
        """Run once on a free request; from any thread. Raises Retired after ``close``."""
        free = self._free
        try:
            request = free.pop()  # atomic
        except IndexError:
            request = self._new_request()
        try:
            return request.call(feeds, output_names)
        finally:
            free.append(request)
            if self.retired:
                with self._lock:
                    self._drained.notify_all()

    def _new_request(self) -> PlanRequest:
        with self._lock:
            if self.retired:
                raise Retired
            request = self.loaded.request()
            self._made += 1
            return request

    def close(self) -> None:
        """Wait until no request is running (a minute at most), then close the executables.

        The requests are taken out of the pool as they come free, so that no run can begin on them.
        """
        with self._lock:
            self.retired = True
            self._drained.wait_for(self._take_free, timeout=_DRAIN_S)
        self.loaded.close()

    def _take_free(self) -> bool:
        """Take every free request; True once all that were made are taken."""
        while self._free:
            self._free.pop()
            self._made -= 1
        return self._made == 0
