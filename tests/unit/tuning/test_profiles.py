"""Per-op times on every target, whatever the targets do."""

from __future__ import annotations

import numpy as np
import pytest

from dioe.graph import OpGraph
from dioe.tuning import Job, Settings, op_costs, profile_targets
from dioe.types import BackendError, Value
from tests.toys import models
from tests.toys.backend import ToyBackend
from tests.unit.tuning.conftest import UseBackends


def job(**settings: object) -> Job:
    x = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    return Job(
        models.dense("N", 64), hardware=None, settings=Settings(**settings),  # type: ignore[arg-type]
        sample_inputs={"x": x},
    )  # fmt: skip


def test_every_real_target_tells_its_ops() -> None:
    tuned = job(devices=("cpu/onnxruntime", "cpu/openvino"))
    profiles = profile_targets(tuned, tuned.candidates(tuned.groups[0]), seconds=0.1)
    placed = set(tuned.model.placed_op_ids)
    graph = OpGraph.build(tuned.model, tuned.groups[0].shapes)
    costs = op_costs(profiles, graph)
    for profile in profiles:
        assert not profile.reason
        assert profile.total_ms > 0
        times = [op.mean_ms for op in profile.ops]
        assert times == sorted(times, reverse=True)
        covered = [op for time in profile.ops for op in time.ops]
        assert set(covered) <= placed
        assert any("MatMul" in graph.ops[op].op_type for op in covered)
        assert sum(costs[profile.target].values()) <= profile.total_ms * 1.0001


@pytest.mark.parametrize("error", [BackendError("sulks"), RuntimeError("sulks")])
def test_a_target_that_raises_has_a_reason(use_backends: UseBackends, error: Exception) -> None:
    def fail(outputs: dict[str, Value]) -> dict[str, Value]:
        raise error

    use_backends(ToyBackend("acme", during=fail), ToyBackend("fine"))
    tuned = job(devices=("cpu/acme", "cpu/fine"))
    broken, fine = profile_targets(tuned, tuned.candidates(tuned.groups[0]), seconds=0.05)
    assert "sulks" in broken.reason
    assert broken.ops == ()
    assert not fine.reason
    assert op_costs([broken, fine], OpGraph.build(tuned.model, tuned.groups[0].shapes)) == {}


def test_a_refused_target_has_its_reason() -> None:
    tuned = job()
    profiles = profile_targets(tuned, tuned.candidates(tuned.groups[0]), seconds=0.05)
    (resort,) = [p for p in profiles if p.target == "cpu/reference/fp32"]
    assert "last resort" in resort.reason
