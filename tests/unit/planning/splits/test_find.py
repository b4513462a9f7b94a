"""Finding splits: optimal on small problems, never one that may not be written."""

from __future__ import annotations

import multiprocessing
import time

import pytest
from hypothesis import Phase, given, settings

from dioe.planning.splits import Instance, find_split, judge, read_instance
from dioe.planning.splits.find import least_latency
from dioe.types import InputError, OutOfMemory, UnsupportedError
from tests.unit.planning.splits.made import PUBLISHED, every_split, instances, layered, made

BEST_PUBLISHED = {
    "bert24_layers": 100.219,
    "inceptionv3_layers": 2485.24,
    "bert_l-3_ops": 414.441,
    "bert_l-12_ops": 867.839,
}
"""The lower of the latencies of the published greedy and max-load DP programs."""


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(instances())
def test_small_ones_are_optimal(instance: Instance) -> None:
    judgements = [judge(instance, split) for split in every_split(instance)]
    latency = find_split(instance, work_limit=1500).judgement
    assert latency.faults == ()
    assert latency.latency == pytest.approx(min(each.latency for each in judgements))
    assert latency.latency >= least_latency(instance) - 1e-9
    load = find_split(instance, objective="throughput", work_limit=1500).judgement
    assert load.faults == ()
    assert load.max_load == pytest.approx(min(each.max_load for each in judgements))


@pytest.mark.parametrize("objective", ["latency", "throughput"])
@pytest.mark.parametrize("seed", range(6))
def test_larger_ones_may_be_written(seed: int, objective: str) -> None:
    instance = layered(
        seed, 80, colors=seed * 3, accelerators=seed, cpus=1 + seed % 3, memory=40 + 30 * seed
    )
    answer = find_split(instance, objective=objective, work_limit=1500, seed=seed)  # type: ignore[arg-type]
    assert answer.judgement.faults == ()
    placed = [node for held in (*answer.split.cpus, *answer.split.accelerators) for node in held]
    assert sorted(placed) == list(range(80))
    assert len(answer.split.cpus) == instance.max_cpus


def test_the_same_twice_where_work_limits_it() -> None:
    instance = layered(1, 60, colors=5, accelerators=3)
    first = find_split(instance, work_limit=2000, seed=5)
    assert find_split(instance, work_limit=2000, seed=5).split == first.split


def test_training_graphs_whose_classes_wait_for_each_other() -> None:
    # forward 1..4, backward 5..8; each layer's two nodes share a class
    nodes = [(20.0, 2.0, 10.0, color) for color in (0, 1, 2, 3, 3, 2, 1, 0)]
    instance = made(nodes, [(a, a + 1, 0.5) for a in range(1, 8)], memory=50)
    answer = find_split(instance, work_limit=2000)
    # the two inner classes on one accelerator: 1 and 2 before, 7 and 8 after on CPUs
    assert answer.judgement.latency == pytest.approx(4 * 20 + 4 * 2 + 2 * 0.5)
    assert answer.judgement.faults == ()


def test_fewer_accelerators_than_the_model_needs() -> None:
    instance = made([(10, 1, 60)] * 3, [(1, 2, 0.1), (2, 3, 0.1)], accelerators=1)
    answer = find_split(instance, work_limit=500)
    assert answer.judgement.latency == pytest.approx(21.1)


def test_more_devices_than_are_of_use() -> None:
    instance = made([(10, 1)] * 3, accelerators=50_000, cpus=40_000)
    answer = find_split(instance, work_limit=100)
    assert answer.judgement.latency == 1
    assert len(answer.split.cpus) == 40_000
    assert len(answer.split.accelerators) <= 3


def test_without_cpus() -> None:
    # sizes that only one way of sharing them fits, found by moving memory about
    nodes = [(1, 1, size) for size in (70, 30, 60, 40, 50, 50)]
    instance = made(nodes, accelerators=3, cpus=0)
    answer = find_split(instance, work_limit=20_000)
    assert answer.judgement.faults == ()
    assert answer.split.cpus == ()


@pytest.mark.parametrize(
    ("instance", "error", "words"),
    [
        (made([(1, 1)], accelerators=0, cpus=0), UnsupportedError, "no devices"),
        (made([(1, 1), (1, 1, 1, -1, 0)], cpus=0), UnsupportedError, "can run node 2"),
        (made([(1, 1, 70, 4), (1, 1, 70, 4)], cpus=0), UnsupportedError, "needs 140 bytes"),
        (made([(1, 1, 70)] * 3, cpus=0), OutOfMemory, "2 accelerators of 100 bytes lack 40 bytes"),
    ],
)
def test_what_can_run_nowhere(instance: Instance, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        find_split(instance, work_limit=500)


def test_limits_are_checked() -> None:
    instance = made([(1, 1)])
    for limits in ({}, {"time_limit_s": 0.0}, {"time_limit_s": float("nan")}, {"work_limit": 0}):
        with pytest.raises(InputError):
            find_split(instance, **limits)


def test_two_processes_keep_the_time_and_leave_none_behind() -> None:
    instance = layered(2, 60, accelerators=3)
    begin = time.monotonic()
    answer = find_split(instance, time_limit_s=3.0, processes=2)
    assert answer.judgement.faults == ()
    assert 2.5 < time.monotonic() - begin < 4.5
    assert not multiprocessing.active_children()


def test_a_published_instance_at_its_best_figure() -> None:
    instance = read_instance(PUBLISHED / "bert24_layers.json")
    answer = find_split(instance, work_limit=2000)
    assert answer.judgement.latency <= BEST_PUBLISHED["bert24_layers"]
    assert answer.judgement.faults == ()


@pytest.mark.slow
def test_published_instances_a_tenth_below_their_best_figures() -> None:
    ratios = []
    for name, best in BEST_PUBLISHED.items():
        answer = find_split(
            read_instance(PUBLISHED / f"{name}.json"), time_limit_s=10.0, processes=2
        )
        assert answer.judgement.faults == ()
        assert answer.judgement.latency <= best
        ratios.append(answer.judgement.latency / best)
    assert sum(ratios) / len(ratios) <= 0.9
