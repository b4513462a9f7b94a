"""Calibration of a simulated card with memory of its own, through torch."""

from __future__ import annotations

import pytest

from dioe.hardware import load_pool
from dioe.hardware.reached import compute_rate
from dioe.profiling import calibration
from dioe.runtime import Runtime
from dioe.tuning import run_calibration
from dioe.types import KnownAs, Precision
from dioe_torch.simulated import SimulatedDevices
from tests.toys.backend import registry_of

pytestmark = pytest.mark.own_process


def test_a_simulated_card(
    mlu: SimulatedDevices, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(calibration, "SIZES", (128,))
    monkeypatch.setattr(calibration, "LARGEST_SET", 1 << 20)
    runtime = Runtime(registry_of(installed=["torch"]))
    found = run_calibration(devices="mlu:0,cpu/torch", seconds=0.0, runtime=runtime)
    runtime.close()
    rows = {row.name: row for row in found.rows}
    assert rows["mlu:0/torch"].known_as is KnownAs.SIMULATED
    card = found.pool.device("mlu:0")
    fp32 = compute_rate(card, Precision.FP32, backend="torch")
    assert fp32 is not None
    assert fp32.measured
    assert fp32.figure.note.startswith("simulated")
    part = card.figures.of_backend("torch")
    assert part is not None
    assert part.launch_overhead is not None
    assert part.launch_overhead.value > 0
    for way in (("cpu", "mlu:0"), ("mlu:0", "cpu")):
        link = found.pool.link(*way)
        assert link is not None
        assert link.bandwidth.note == "simulated"
    assert not found.measured.boundaries  # the card's memory isn't the host's
    path = tmp_path_factory.mktemp("pool") / "host.yaml"
    found.write(path)
    assert load_pool(path) == found.pool
