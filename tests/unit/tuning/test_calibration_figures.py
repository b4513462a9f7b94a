"""Figures of a pool from what a calibration found."""

from __future__ import annotations

from dioe.hardware import host_pool
from dioe.hardware.descriptor import BackendFigures
from dioe.profiling.calibration import Findings, Reading
from dioe.runtime import Runtime
from dioe.tuning.calibration_figures import Row, measured_by
from dioe.types import KnownAs
from tests.toys.backend import ToyBackend, registry_of

SETS = {1 << 16: Reading(90e9, 5), 1 << 20: Reading(60e9, 5, noisy=True), 1 << 28: Reading(20e9, 5)}


def figures_of(findings: Findings) -> BackendFigures:
    runtime = Runtime(registry_of(ToyBackend()))
    row = Row("cpu", "toy", "1.0", KnownAs.HARDWARE, findings)
    measured = measured_by([row], [], host_pool(), runtime)
    runtime.close()
    (part,) = measured.figures["cpu"].by_backend
    return part


def test_the_bandwidth_beyond_caches_is_the_memorys() -> None:
    part = figures_of(Findings(bandwidths=dict(SETS), largest_set=1 << 28))
    assert part.bandwidth is not None
    assert part.bandwidth.value == 20e9
    assert {f.working_set: f.value for f in part.by_working_set} == {1 << 16: 90e9, 1 << 20: 60e9}
    assert [f.note for f in part.by_working_set] == ["", "noisy"]
    assert "toy 1.0" in part.bandwidth.source
    assert part.bandwidth.source.endswith("median of 5 rounds")


def test_a_caches_bandwidth_is_never_taken_for_the_memorys() -> None:
    cached = {nbytes: reading for nbytes, reading in SETS.items() if nbytes < 1 << 28}
    findings = Findings(bandwidths=cached, largest_set=1 << 28)
    assert findings.memory_bandwidth is None
    part = figures_of(findings)
    assert part.bandwidth is None
    assert len(part.by_working_set) == 2
