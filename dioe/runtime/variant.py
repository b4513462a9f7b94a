"""A variant: a plan loaded for certain input shapes, its guard, and its pool of requests."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence
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
        """Name, shape and dtype of each tensor input where all their shapes are fixed; None for a
        variant that takes any shape the model allows."""
        tensors = [spec for spec in loaded.inputs if spec.kind == "tensor"]
        if all(spec.static for spec in tensors):
            self.guard = tuple(
                (spec.name, tuple(int(d or 0) for d in spec.shape or ()), spec.dtype)
                for spec in tensors
            )
        self._only_tensors = len(tensors) == len(loaded.inputs)
        self.last_use = 0
        """A number that grows with every choice of a variant in the session."""
        self.retired = False
        self._free: deque[PlanRequest] = deque()
        self._made = 0
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)

    @property
    def plan(self) -> Plan:
        """The plan that is loaded."""
        return self.loaded.plan

    @property
    def runs_in_flight(self) -> int:
        """How many runs are going on; approximate, for it takes no lock."""
        return max(0, self._made - len(self._free))

    def accepts(self, feeds: Any) -> bool:
        """True if nothing is left to check: a dictionary of numpy arrays that are the guard's."""
        guard = self.guard
        if guard is None or type(feeds) is not dict or len(feeds) != len(guard):
            return False
        for name, shape, dtype in guard:
            array = feeds.get(name)
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return False
        return self._only_tensors

    def fits(self, feeds: Feeds) -> bool:
        """True if checked feeds have the guard's shapes; inputs that are no tensors are free."""
        if self.guard is None:
            return False
        return all(getattr(feeds[name], "shape", None) == shape for name, shape, _ in self.guard)

    def run(self, feeds: Feeds, output_names: Sequence[str]) -> list[Value]:
        """Run once on a free request; from any thread. Raises Retired after ``close``."""
        if self.retired:  # else threads that run without a pause would keep close waiting
            raise Retired
        try:
            request = self._free.pop()  # atomic
        except IndexError:
            request = self._new_request()
        try:
            return request.call(feeds, output_names)
        finally:
            self._give_back(request)

    def _give_back(self, request: PlanRequest) -> None:
        self._free.append(request)
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
        with contextlib.suppress(IndexError):  # a run may take the last one first
            while True:
                self._free.pop()
                self._made -= 1
        return self._made == 0
