"""Blocks on every target: figures in context and alone, or the reason why there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dioe.profiling import History
from dioe.tuning import BlockCost, BlockProfiles, Job, Settings, block_profiles
from dioe.types import BackendError, InputError
from tests.toys import models
from tests.toys.work import Clock, WorkingBackend
from tests.unit.tuning.conftest import UseBackends


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """One core, whatever this machine has: one setting a target."""
    path = tmp_path / "pool.yaml"
    path.write_text(
        "format: dioe-pool\nversion: 1\n"
        "devices:\n- {id: cpu, kind: cpu, name: Toy CPU, capacity: 1}\n"
    )
    return path


def profiled(
    pool: Path, devices: str, *, seconds: float = 10, history: History | None = None, **told: Any
) -> BlockProfiles:
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    job = Job(
        models.two_kinds(), hardware=pool, settings=Settings(devices=devices),
        sample_inputs={"x": x}, history=history,
    )  # fmt: skip
    return block_profiles(job, job.candidates(job.groups[0]), seconds=seconds, **told)


def by_target(found: BlockProfiles, op_type: str) -> dict[str, BlockCost]:
    (profile,) = [p for p in found.blocks if p.op_types == (op_type,)]
    return {cost.target: cost for cost in profile.costs}


@pytest.fixture
def toys(
    monkeypatch: pytest.MonkeyPatch, use_backends: UseBackends
) -> tuple[WorkingBackend, WorkingBackend]:
    """One is quick at MatMul, the other at Gemm."""
    clock = Clock()
    clock.patch(monkeypatch)
    a = WorkingBackend("a", clock, {"MatMul": 1.0, "Gemm": 3.0})
    b = WorkingBackend("b", clock, {"MatMul": 2.0, "Gemm": 1.5})
    use_backends(a, b)
    return a, b


def test_each_block_costs_what_it_takes(
    toys: tuple[WorkingBackend, WorkingBackend], pool: Path
) -> None:
    found = profiled(pool, "cpu/a,cpu/b")
    assert found.not_reached == 0
    assert sum(profile.times for profile in found.blocks) == 4
    matmul, gemm = by_target(found, "MatMul"), by_target(found, "Gemm")
    for costs, ms in ((matmul, (1.0, 2.0)), (gemm, (3.0, 1.5))):
        for target, each in zip(("cpu/a/fp32", "cpu/b/fp32"), ms, strict=True):
            cost = costs[target]
            assert cost.context_ms == pytest.approx(each, rel=0.02)
            assert cost.alone is not None
            assert cost.alone.p50_ms == pytest.approx(each, rel=0.02)
            assert cost.alone.runs >= 5
            assert not cost.reason
    best = {p.op_types[0]: p.best.target for p in found.blocks if p.best is not None}
    assert best == {"MatMul": "cpu/a/fp32", "Gemm": "cpu/b/fp32"}
    assert found.blocks[0].op_types == ("Gemm",)  # the dearest first


def test_what_is_known_is_not_measured_again(
    toys: tuple[WorkingBackend, WorkingBackend], pool: Path, tmp_path: Path
) -> None:
    first = profiled(pool, "cpu/a,cpu/b", history=History(tmp_path / "costs"))
    for toy in toys:
        toy.forget()
    second = profiled(pool, "cpu/a,cpu/b", history=History(tmp_path / "costs"))
    assert not any(toy.compiled for toy in toys)
    alone = [[(c.target, c.alone) for p in f.blocks for c in p.costs] for f in (first, second)]
    assert alone[0] == alone[1]
    for op_type in ("MatMul", "Gemm"):
        for target, cost in by_target(first, op_type).items():
            assert by_target(second, op_type)[target].context_ms == pytest.approx(cost.context_ms)


def test_progress_tells_what_is_left(
    toys: tuple[WorkingBackend, WorkingBackend], pool: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    profiled(pool, "cpu/a,cpu/b", progress=lambda *each: told.append(each))
    counted = [(done, total) for _, done, total in told if total]
    assert counted == [(done, 4) for done in range(4)]
    assert any("cpu/b/fp32" in text for text, _, total in told if total)


def test_a_target_that_takes_a_part_is_measured_on_that(
    toys: tuple[WorkingBackend, WorkingBackend], pool: Path
) -> None:
    toys[1].refuses = frozenset({"MatMul"})
    found = profiled(pool, "cpu/a,cpu/b")
    gemm, matmul = by_target(found, "Gemm")["cpu/b/fp32"], by_target(found, "MatMul")["cpu/b/fp32"]
    assert gemm.context_ms is None
    assert gemm.cost_ms == pytest.approx(1.5, rel=0.02)
    assert matmul.cost_ms is None
    assert "no MatMul" in matmul.reason


def test_a_target_that_cant_be_opened_has_its_reason(
    toys: tuple[WorkingBackend, WorkingBackend], pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(device: str, resources: object) -> None:
        raise BackendError("sulks")

    monkeypatch.setattr(toys[1], "open", fail)
    found = profiled(pool, "cpu/a,cpu/b")
    for op_type in ("MatMul", "Gemm"):
        costs = by_target(found, op_type)
        assert costs["cpu/b/fp32"].reason == "sulks"
        assert costs["cpu/a/fp32"].cost_ms is not None


def test_a_budget_that_ends_leaves_the_rest(
    toys: tuple[WorkingBackend, WorkingBackend], pool: Path
) -> None:
    found = profiled(pool, "cpu/a,cpu/b", seconds=0)
    assert found.not_reached == 4
    assert len(found.blocks) == 2
    with pytest.raises(InputError):
        profiled(pool, "cpu/a", seconds=-1)
