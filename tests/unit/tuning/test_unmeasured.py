"""Costs of blocks that weren't timed in a setting."""

from __future__ import annotations

import pytest

from dioe.graph import Model, OpGraph, find_blocks
from dioe.planning import Cost
from dioe.tuning.beside import Setting
from dioe.tuning.unmeasured import Unmeasured, default_ms
from dioe.types import Basis, Resources
from tests.unit.tuning.test_beside import candidate
from tests.unit.tuning.test_predict import device, model


def unmeasured() -> tuple[OpGraph, Unmeasured]:
    graph = OpGraph.build(Model.load(model()), {"x": (256, 1024)})
    return graph, Unmeasured(graph, find_blocks(graph))


def test_without_figures_work_and_bytes_decide() -> None:
    graph, costs = unmeasured()
    first, second = find_blocks(graph)
    setting = Setting(candidate(), Resources())
    cost = costs.cost(setting, second, {first.id: Cost(3.0)})
    assert cost.basis is Basis.DEFAULT
    assert cost.ms == default_ms(graph, second)


def test_a_roofline_is_held_against_what_was_measured() -> None:
    graph, costs = unmeasured()
    first, second = find_blocks(graph)
    setting = Setting(candidate(), Resources(), device("cpu"))
    alone = costs.cost(setting, second, {})
    assert alone.basis is Basis.PREDICTED
    other = costs.cost(setting, first, {})
    beside = costs.cost(setting, second, {first.id: Cost(10 * other.ms)})
    assert beside.basis is Basis.PREDICTED
    assert beside.ms == pytest.approx(10 * alone.ms)
