"""Pipelines with each model whole."""

from __future__ import annotations

from typing import Any

import dioe
from dioe.planning import judged
from dioe.tuning.modelled_problem import Asked, modelled_problem
from dioe.tuning.modelled_work import work_of
from dioe.tuning.whole_nodes import best_of_whole_nodes
from tests.unit.tuning.pools import small_pool, tower

SHAPES = {"first.x": (256, 512), "second.x": (256, 512)}


def told(y: Any) -> str:
    return str(y)


def test_each_model_is_on_one_device_and_the_best_such_placement_is_found() -> None:
    pipeline = dioe.Pipeline(
        {"first": tower(3), "second": tower(2, seed=1), "told": told},
        edges=[("first.y", "second.x"), ("second.y", "told.y")],
    )
    work = work_of(pipeline, SHAPES)
    problem = modelled_problem(work, small_pool(), Asked(cost_ms={"told": 1.0})).problem
    for policy in ("latency", "throughput", "efficiency", "memory"):
        placement = best_of_whole_nodes(problem, work, policy)
        assert placement is not None
        devices: dict[str, set[str]] = {}
        for block, target in placement.targets.items():
            node = block.partition(".")[0]
            devices.setdefault(node, set()).add(problem.targets[target].target.device)
        assert all(len(found) == 1 for found in devices.values())
        assert devices["told"] == {"cpu"}
        plan = dioe.plan(
            pipeline, hardware=small_pool(), shapes=SHAPES, cost_ms={"told": 1.0}, policy=policy
        )
        assert plan.schedule.value <= judged(problem, placement, policy).value * (1 + 1e-9)


def test_one_model_is_no_pipeline() -> None:
    work = work_of(tower(2), {"x": (8, 512)})
    problem = modelled_problem(work, small_pool(), Asked()).problem
    assert best_of_whole_nodes(problem, work, "latency") is None
