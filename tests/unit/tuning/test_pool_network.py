"""Pools as planning sees them: ways, queues, memories, power."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dioe.hardware import Pool
from dioe.hardware.limits import Limits
from dioe.hardware.spec import Bus
from dioe.planning import LinkCosts
from dioe.tuning import pool_network
from tests.unit.tuning.pools import bandwidth, both_ways, device, link, small_pool


def ways(pool: Pool) -> dict[tuple[str, str], LinkCosts]:
    found = pool_network.link_costs(pool, [d.id for d in pool.devices])
    return {(way.source, way.destination): way for way in found}


def test_a_link_costs_its_latency_and_its_bytes() -> None:
    way = ways(small_pool())["cpu", "gpu:0"]
    assert way.cost.ms(10**7) == pytest.approx(0.005 + 1.0)
    assert way.queue == "cpu to gpu:0"
    assert ways(small_pool())["gpu:0", "cpu"].queue == "gpu:0 to cpu"


def test_one_memory_costs_nothing_and_links_of_the_memory_count() -> None:
    npu = device("npu:0", shares="cpu")
    pool = Pool((device("cpu"), device("gpu:0"), npu), both_ways("cpu", "gpu:0"))
    found = ways(pool)
    assert found["cpu", "npu:0"].cost.ms(10**9) == 0.0
    assert found["cpu", "npu:0"].queue is None
    assert found["npu:0", "gpu:0"] == replace(found["cpu", "gpu:0"], source="npu:0")


def test_without_a_link_the_way_is_over_the_host_in_the_slower_queue() -> None:
    links = (*both_ways("cpu", "gpu:0", per_s=1e10), *both_ways("cpu", "gpu:1", per_s=2e10))
    found = ways(Pool((device("cpu"), device("gpu:0"), device("gpu:1")), links))
    way = found["gpu:1", "gpu:0"]
    assert way.cost.ms(10**7) == pytest.approx(0.010 + 1.0 + 0.5)
    assert way.queue == "cpu to gpu:0"


def test_links_of_a_bus_share_a_queue_a_direction_and_are_no_faster() -> None:
    links = (*both_ways("cpu", "gpu:0", bus="slot"), *both_ways("cpu", "gpu:1", bus="slot"))
    pool = Pool(
        (device("cpu"), device("gpu:0"), device("gpu:1")),
        (*links, link("gpu:0", "gpu:1", bus="slot")),
        buses=(Bus("slot", bandwidth(5e9)),),
    )
    found = ways(pool)
    assert found["cpu", "gpu:0"].queue == found["cpu", "gpu:1"].queue == "slot from cpu"
    assert found["gpu:0", "cpu"].queue == found["gpu:1", "cpu"].queue == "slot to cpu"
    assert found["gpu:0", "gpu:1"].queue == "slot across"
    assert found["cpu", "gpu:0"].cost.ms(10**7) == pytest.approx(0.005 + 2.0)


def test_what_has_no_way_is_left_out_and_kept_apart() -> None:
    pool = Pool((device("gpu:0"), device("gpu:1"), device("gpu:2")), both_ways("gpu:0", "gpu:1"))
    links = pool_network.link_costs(pool, ["gpu:0", "gpu:1", "gpu:2"])
    assert {(way.source, way.destination) for way in links} == {
        ("gpu:0", "gpu:1"),
        ("gpu:1", "gpu:0"),
    }
    sets = pool_network.reachable_sets(["gpu:0", "gpu:1", "gpu:2"], links)
    assert sets == (frozenset({"gpu:0", "gpu:1"}), frozenset({"gpu:2"}))
    assert list(pool_network.separated(["gpu:0", "gpu:1", "gpu:2"], links)) == [
        "gpu:0 and gpu:2",
        "gpu:1 and gpu:2",
    ]


def test_sets_that_are_in_both() -> None:
    a, b, c = "abc"
    left = (frozenset({a, b}), frozenset({c}))
    assert pool_network.both(left, None) == pool_network.both(None, left) == left
    right = (frozenset({b, c}), frozenset({a, c}))
    assert set(pool_network.both(left, right) or ()) == {
        frozenset({a}),
        frozenset({b}),
        frozenset({c}),
    }


def test_memory_is_the_limit_else_what_is_there_else_that_of_the_shared_one() -> None:
    pool = Pool((device("cpu"), device("npu:0", shares="cpu", memory_bytes=None)))
    assert pool_network.memory_bytes(pool, Limits(), "npu:0") == 2**30
    assert pool_network.memory_bytes(pool, Limits({"cpu": 5}), "npu:0") == 5
    assert pool_network.memory_bytes(pool, Limits({"cpu": 5, "npu:0": 3}), "npu:0") == 3


def test_devices_draw_their_tdp_and_lanes_are_one() -> None:
    pool = small_pool()
    draws = pool_network.power_modes(pool, ["cpu", "gpu:0"], None)
    nodes = pool_network.device_nodes(pool, Limits(), ["cpu", "gpu:0"], draws)
    assert [(n.id, n.lanes, n.busy_w, n.idle_w) for n in nodes] == [
        ("cpu", 1, 50.0, 0.0),
        ("gpu:0", 1, 200.0, 0.0),
    ]
    unknown = Pool((device("cpu", watts=None),))
    nodes = pool_network.device_nodes(unknown, Limits(), ["cpu"], {})
    assert nodes[0].busy_w is None
