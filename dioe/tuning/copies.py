"""What devices ask beside the work of their blocks, for the settings of a search: copies to and
from their memories; and of those that are modelled, where it needn't be learnt, each run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from dioe.profiling import (
    CopyCosts,
    CpuLoad,
    StageCosts,
    StageFit,
    time_copies,
    time_dispatch,
)
from dioe.runtime import Runtime, is_host
from dioe.tuning.beside import Setting
from dioe.tuning.known import Known
from dioe.tuning.targets import error_cause
from dioe.tuning.trial import disturbed_since
from dioe.types import Precisions

log = logging.getLogger(__name__)

_LEAST_OWN = 0.1
"""Of what a stage takes, that isn't its copies whatever was measured of those."""


class Copies:
    """Costs of copies by setting; nothing where the host addresses the memory."""

    def __init__(self, runtime: Runtime, known: Known) -> None:
        self._runtime = runtime
        self._known = known
        self._costs: dict[Setting, CopyCosts] = {}
        self._dispatch_ms: dict[Setting, float] = {}
        """Of settings on modelled devices, what a run costs beside its ops."""

    def measure(self, settings: Sequence[Setting], *, locked: bool) -> None:
        """Time copies into the memories of devices, and out of them, unless the history has them.

        Where that fails nothing is known of them, and the backend has its say when a plan is tried.
        """
        for setting in settings:
            if is_host(setting.target.device) or setting in self._costs:
                continue
            target, resources = setting.target, setting.resources
            costs = self._known.copies(target, resources)
            if costs is None:
                before = CpuLoad.now()
                try:
                    with self._runtime.context(target, resources) as context:
                        costs = time_copies(context) or CopyCosts()
                        if setting.candidate.modelled:
                            precisions = Precisions(target.precisions[0])
                            self._dispatch_ms[setting] = time_dispatch(context, precisions)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - the log tells it
                    log.info("copies of %s can't be timed: %s", setting.name, error_cause(error))
                    continue
                noisy = not locked or disturbed_since(before)
                self._known.keep_copies(target, resources, costs, noisy=noisy)
            self._costs[setting] = costs

    def of(self, setting: Setting) -> CopyCosts:
        """The costs of a setting; none where nothing is known."""
        return self._costs.get(setting, CopyCosts())

    def without(
        self, setting: Setting, measured_ms: float, reads: Iterable[int], gives: Iterable[int]
    ) -> float:
        """What a stage took itself, its copies of values of these sizes left out: they are known by
        themselves, and not to be counted twice."""
        costs = self.of(setting)
        copied_ms = sum(map(costs.to_ms, reads)) + sum(map(costs.from_ms, gives))
        return max(measured_ms - copied_ms, _LEAST_OWN * measured_ms)

    def own_ms(
        self, setting: Setting, measured_ms: float, reads: Iterable[int], gives: Iterable[int]
    ) -> float:
        """As ``without``, and without what a run costs beside its ops where that is known too."""
        left_ms = self.without(setting, measured_ms, reads, gives)
        dispatch_ms = self._dispatch_ms.get(setting, 0.0)
        return max(left_ms - dispatch_ms, _LEAST_OWN * measured_ms) if dispatch_ms else left_ms

    def prior(self, settings: Sequence[Setting]) -> StageFit:
        """What is known of stages before any was timed: a modelled device does its dispatch and
        the ops, converts no layouts, and has no threads that fight with those before or after."""
        known = {
            s.name: StageCosts(1.0, self._dispatch_ms[s], 0.0, 0.0)
            for s in settings
            if s in self._dispatch_ms
        }
        pairs = [(a.name, b.name) for a in settings for b in settings if a is not b]
        return StageFit(known, {p: 0.0 for p in pairs if not known.keys().isdisjoint(p)})
