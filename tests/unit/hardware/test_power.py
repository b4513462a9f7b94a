"""What devices draw by their figures, and which may be used together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dioe.hardware import DeviceSpec, Pool, pool_from
from dioe.hardware.descriptor import Figures, PowerMode, PowerSection
from dioe.hardware.figures import FigureKind, PowerFigure
from dioe.hardware.power import (
    Draw,
    allowed_together,
    draws_of,
    fastest_draws,
    least_draws,
    watts,
)


def figure(value: float) -> PowerFigure:
    return PowerFigure(value=value, source="a test", kind=FigureKind.DERIVED)


def device(
    name: str, tdp: float | None = None, shares: str | None = None, **modes: float
) -> DeviceSpec:
    power = PowerSection(
        tdp=None if tdp is None else figure(tdp),
        modes=tuple(PowerMode(id=mode, cap=figure(cap)) for mode, cap in modes.items()),
    )
    return DeviceSpec(name, figures=Figures(power=power), shares=shares)


POOL = Pool(
    (
        device("cpu", 65),
        device("gpu:0", 450),
        device("gpu:1", shares="cpu"),
        device("npu:0"),
        device("dla:0", 100, fast=30, slow=10),
    )
)


def test_what_devices_draw() -> None:
    assert draws_of(POOL, "cpu") == draws_of(POOL, "gpu:1") == (Draw("cpu", 65),)
    assert draws_of(POOL, "npu:0") == draws_of(POOL, "fpga:0") == ()
    assert draws_of(POOL, "dla:0") == (Draw("dla:0", 10, "slow"), Draw("dla:0", 30, "fast"))
    assert str(draws_of(POOL, "dla:0")[1]) == "dla:0 in mode fast 30 W"
    assert watts(least_draws(POOL, ["cpu", "gpu:1", "dla:0", "npu:0"])) == 75  # cpu once


def test_devices_that_share_in_a_ring_end() -> None:
    pool = Pool((device("cpu", shares="gpu:0"), device("gpu:0", shares="cpu")))
    assert draws_of(pool, "cpu") == ()


def test_power_modes_of_a_module_count_once() -> None:
    pool = pool_from("jetson-agx-orin")
    every = ["cpu", "gpu:0", "dla:0", "dla:1"]
    assert {draws_of(pool, device) for device in every} == {draws_of(pool, "cpu")}
    assert least_draws(pool, every) == (Draw("cpu", 15, "15W"),)
    assert fastest_draws(pool, every, 30) == (Draw("cpu", 30, "30W"),)
    assert allowed_together(pool, every, 30) == (frozenset(every),)
    other = Pool((device("cpu", low=15), device("gpu:0", shares="cpu", low=20)))
    assert draws_of(other, "gpu:0") == (Draw("gpu:0", 20, "low"),)


def test_the_fastest_modes_that_fit() -> None:
    assert fastest_draws(POOL, {"dla:0"}, 30) == (Draw("dla:0", 30, "fast"),)
    assert fastest_draws(POOL, {"dla:0", "cpu"}, 90)[1] == Draw("dla:0", 10, "slow")
    assert fastest_draws(POOL, {"dla:0", "cpu"}, 95)[1] == Draw("dla:0", 30, "fast")
    assert fastest_draws(POOL, {"dla:0", "cpu"}, 74) == ()
    assert fastest_draws(POOL, {"npu:0"}, 1) == ()


def test_the_largest_sets_that_fit() -> None:
    ids = ["cpu", "gpu:0", "npu:0", "dla:0"]
    sets = allowed_together(POOL, ids, 460)
    assert sets == (frozenset({"cpu", "dla:0", "npu:0"}), frozenset({"gpu:0", "dla:0", "npu:0"}))
    assert allowed_together(POOL, ids, 5) == (frozenset({"npu:0"}),)
    assert allowed_together(POOL, ["cpu", "gpu:0"], 460, {"gpu:0"}) == (frozenset({"gpu:0"}),)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 40))
def test_no_set_is_above_the_cap_and_none_could_be_larger(tdps: list[int], cap_w: int) -> None:
    pool = Pool(tuple(device(f"gpu:{i}", tdp + 0.5) for i, tdp in enumerate(tdps)))
    ids = [d.id for d in pool.devices]
    sets = allowed_together(pool, ids, cap_w)
    for each in sets:
        assert watts(least_draws(pool, each)) <= cap_w
        assert all(watts(least_draws(pool, each | {other})) > cap_w for other in set(ids) - each)
    assert len(set(sets)) == len(sets)
