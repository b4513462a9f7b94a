"""The instances of the planning benchmarks, and their tables on a small scale."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from benchmarks.planning import adversarial, instances, page
from benchmarks.planning.__main__ import TABLES, made, main
from dioe.planning import Tables, bound, solve, violations


@pytest.mark.parametrize("shape", instances.SHAPES)
def test_shapes(shape: str) -> None:
    for count in (60, 137, 200):
        pairs = instances.SHAPES[shape](np.random.default_rng(count), count)
        assert all(0 <= a < b < count for a, b in pairs)
        assert len(set(pairs)) == len(pairs)
        assert len({i for pair in pairs for i in pair}) >= 0.8 * count
        if shape in ("in-tree", "out-tree"):
            assert len(pairs) == count - 1


def test_instances_are_the_same_every_time() -> None:
    for make in (instances.small, instances.large):
        assert make(3).problem == make(3).problem
        assert make(3).problem != make(4).problem
    sizes = [
        (len(i.problem.blocks), len(i.problem.devices)) for i in map(instances.large, range(30))
    ]
    assert min(n for n, _ in sizes) >= 60
    assert max(n for n, _ in sizes) <= 200
    assert {d for _, d in sizes} == {3, 4, 5, 6, 7, 8}
    assert {instances.large(seed).shape for seed in range(6)} == set(instances.SHAPES)


@pytest.mark.parametrize("in_layers", [True, False])
@pytest.mark.parametrize(("count", "machines"), [(50, 2), (50, 16), (100, 8)])
def test_the_least_latency_is_known(count: int, machines: int, in_layers: bool) -> None:
    instance = instances.homogeneous(1, count, machines, in_layers=in_layers)
    assert abs(len(instance.problem.blocks) - count) <= machines
    assert bound(Tables(instance.problem), "latency") == instance.optimum_ms
    schedule = solve(instance.problem, work_limit=0)
    assert violations(instance.problem, schedule) == ()
    assert instance.optimum_ms <= schedule.value < 2 * instance.optimum_ms


def test_times_spread_about_a_mean() -> None:
    ms = instances.heterogeneous_ms(np.random.default_rng(0), 5000, 4, 0.5)
    assert ms.mean() == pytest.approx(instances.MEAN_MS, rel=0.05)
    assert (ms.max(1) / ms.min(1)).max() <= 1.25 / 0.75


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str) -> None:
    if name in ("placement", "scale"):
        assert callable(importlib.import_module(f"benchmarks.planning.{name}").table)
        return  # they have tests of their own
    text = made(name, quick=True)
    assert "|---|" in text or "proved" in text


def test_an_unknown_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["lage"])
    assert "no such table: lage" in capsys.readouterr().err


def test_a_change_is_one_change() -> None:
    rng = np.random.default_rng(5)
    candidate = adversarial.start(rng)
    for _ in range(50):
        changed = adversarial.mutated(rng, candidate)
        same = [
            np.array_equal(changed.ms, candidate.ms),
            changed.edges == candidate.edges,
            changed.ms_per_byte == candidate.ms_per_byte,
        ]
        assert sum(same) >= 2
        assert len(changed.problem().blocks) == len(candidate.ms)
        candidate = changed


def test_the_planner_is_never_worse_than_a_single_device() -> None:
    assert adversarial.worst(adversarial.over_single, 0, 15) <= 1.0
    assert adversarial.worst(adversarial.over_heft, 1, 15) <= 1.0


def test_sections() -> None:
    text = page.with_section("# Page\n", "small", "one")
    assert text == "# Page\n\n<!-- small: begin -->\none\n<!-- small: end -->\n"
    text = page.with_section(text + "rest\n", "small", "two")
    assert text == "# Page\n\n<!-- small: begin -->\ntwo\n<!-- small: end -->\nrest\n"
    with pytest.raises(ValueError, match="without"):
        page.with_section("<!-- small: begin -->", "small", "three")
    there = page.PAGE.read_text(encoding="utf-8")
    assert all(f"<!-- {name}: begin -->" in there for name in TABLES)
