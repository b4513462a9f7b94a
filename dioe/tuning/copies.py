"""What copies to and from the memories of devices cost, for the settings of a search."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from dioe.profiling import CopyCosts, CpuLoad, time_copies
from dioe.runtime import Runtime, is_host
from dioe.tuning.beside import Setting
from dioe.tuning.known import Known
from dioe.tuning.targets import error_cause
from dioe.tuning.trial import disturbed_since

log = logging.getLogger(__name__)

_LEAST_OWN = 0.1
"""Of what a stage takes, that isn't its copies whatever was measured of those."""


class Copies:
    """Costs of copies by setting; nothing where the host addresses the memory."""

    def __init__(self, runtime: Runtime, known: Known) -> None:
        self._runtime = runtime
        self._known = known
        self._costs: dict[Setting, CopyCosts] = {}

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
