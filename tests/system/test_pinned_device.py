"""A real model with its first part pinned to a device with a memory of its own, and with nothing
pinned: there the device is measured and left alone."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

import dioe
from dioe.cli.plan_text import print_explained
from dioe.precision import compare
from dioe.profiling import lock
from dioe.runtime import Runtime
from dioe.types import Basis, Plan
from tests.backend.software_gpu import DEVICE, missing
from tests.system.conftest import GetModel, RealModel

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")

FIRST = ("p2o.Conv.0", "p2o.BatchNormalization.0")
"""The detector's first block: a convolution of stride 2 from 3 channels to 16."""

IN_BYTES = 1 * 3 * 640 * 640 * 4
OUT_BYTES = 1 * 16 * 320 * 320 * 4
LIMIT = 1e-4
COMPILING_S = 15.0
"""More than one compilation takes, and loading the session that is chosen, beside other load."""


@pytest.fixture
def detector(
    real_model: GetModel, all_backends: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> RealModel:
    monkeypatch.setattr(Runtime, "_current", all_backends)
    # waiting for others who measure isn't the tuning's time
    monkeypatch.setattr(lock, "_lock_path", lambda: tmp_path / "measuring.lock")
    return real_model("ppocr-det")


def explained(plan: Plan, width: int) -> str:
    out = Console(file=io.StringIO(), width=width, color_system=None)
    print_explained(out, plan)
    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return " ".join(text.split())


def test_the_first_part_on_the_device(detector: RealModel, tmp_path: Path) -> None:
    budget_s = 10.0
    start = time.perf_counter()
    session = dioe.compile(
        detector.path, sample_inputs=detector.feeds[:1], tuning_budget_s=budget_s,
        pins=dict.fromkeys(FIRST, DEVICE), strict=True, cache_dir=tmp_path, tune_shapes=False,
    )  # fmt: skip
    took_s = time.perf_counter() - start
    with session:
        assert took_s <= 1.1 * budget_s + COMPILING_S
        plan = session.plan
        there = [op for s in plan.stages if s.target.device == DEVICE for op in s.ops]
        assert sorted(there) == sorted(FIRST)
        (boundary,) = [b for b in plan.boundaries if b.source == plan.stages[0].name]
        assert boundary.nbytes == OUT_BYTES
        assert boundary.predicted_ms is not None
        assert boundary.predicted_ms > 0.5  # 6.2 MiB, copied
        assert not session.transfers
        (answer,) = detector.answers(detector.feeds[:1])
        for _ in range(2):
            assert compare(session.run(detector.feeds[0], list(answer)), answer).error <= LIMIT
        moved = {(t.value, t.source, t.destination): t for t in session.transfers}
        assert {way: (t.nbytes, t.count) for way, t in moved.items()} == {
            ("x", "cpu", DEVICE): (IN_BYTES, 2),
            (boundary.value, DEVICE, "cpu"): (OUT_BYTES, 2),
        }
        assert all(t.total_ms > 0 for t in moved.values())
    for block in plan.blocks:  # what only the device takes was measured in the plan
        on_device = block.target.startswith(DEVICE)
        assert on_device == (set(block.ops) <= set(FIRST))
        assert block.basis is not Basis.DEFAULT or not on_device
    for width in (80, 200):
        text = explained(plan, width)
        assert f"pinned: {FIRST[0]}={DEVICE}" in text
        assert "is a simulated device" in text


def test_what_is_not_pinned_stays_off_a_slow_device(detector: RealModel, tmp_path: Path) -> None:
    budget_s = 10.0
    start = time.perf_counter()
    session = dioe.compile(
        detector.path, sample_inputs=detector.feeds[:1], tuning_budget_s=budget_s,
        cache_dir=tmp_path, tune_shapes=False,
    )  # fmt: skip
    took_s = time.perf_counter() - start
    with session:
        assert took_s <= 1.1 * budget_s + COMPILING_S
        plan = session.plan
    assert {stage.target.device for stage in plan.stages} == {"cpu"}
    (device,) = [c for c in plan.candidates if c.target.startswith(f"{DEVICE}/onnx")]
    assert device.state == "slow"
    says = (
        r"the first of 64 blocks alone takes [\d.e+]+ ms \(simulated\), (over 3 times the best "
        r"whole, [\d.]+ ms|and 12 runs of the whole about [\d.e+]+ s, more than is left of the "
        r"tuning budget)"  # the latter where others use the cores too
    )
    assert re.fullmatch(says, device.reason)
    for width in (80, 200):
        assert re.search(rf"{re.escape(device.target)} is slow: {says}", explained(plan, width))
