"""``dioe.plan``: where a model would run on devices that aren't here."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dioe
from dioe.hardware import Pool, catalogue
from dioe.hardware.figures import Arithmetic, FigureKind, Peak, TimeFigure
from dioe.hardware.limits import Limits
from dioe.hardware.spec import BoundaryCost
from dioe.planning import SCHEDULE_POLICIES, load_plan
from dioe.profiling import Roofline
from dioe.tuning import compare_pools
from dioe.tuning.modelled_problem import ASSUMED_DISPATCH_MS, Asked, modelled_problem
from dioe.tuning.modelled_work import work_of
from dioe.types import InputError, OutOfMemory, PlanMismatch, Precision, UnsupportedError
from tests.unit.tuning.pools import SHAPES, SHEET, both_ways, device, planned, small_pool, tower


def test_block_costs_are_those_of_the_roofline() -> None:
    plan = planned(devices=["gpu:0"])
    kernels = work_of(tower(), SHAPES).models[0].kernels
    roofline = Roofline(small_pool().device("gpu:0"), Precision.FP32)
    (costs,) = plan.schedule.problem.targets
    assert sum(cost.ms for cost in costs.blocks.values()) == pytest.approx(
        sum(roofline.of(kernel).ms for kernel in kernels)
    )
    assert plan.latency_ms == pytest.approx(
        roofline.run_ms(kernels) + 2 * (0.005 + 256 * 512 * 4 / 1e7)  # in and out over the link
    )
    predicted = dioe.predict(tower(), hardware=small_pool(), shapes=SHAPES).predictions
    (same,) = [p for p in predicted if p.target == "gpu:0/*/fp32"]
    assert same.ms is not None
    assert plan.devices[1].busy_ms == pytest.approx(same.ms)


def test_a_plan_tells_what_a_request_takes() -> None:
    plan = planned(policy="throughput", devices="gpu:0")
    (cpu, gpu) = plan.devices
    assert (gpu.id, cpu.id, plan.used) == ("gpu:0", "cpu", ("gpu:0",))
    assert plan.throughput_per_s == pytest.approx(1e3 / plan.schedule.period_ms)
    assert plan.energy_j == pytest.approx(200.0 * gpu.busy_ms / 1e3)
    assert plan.peak_bytes["gpu:0"] >= 3 * 512 * 512 * 4 + 2 * 256 * 512 * 4
    assert plan.known_as == "modelled"
    assert plan.shapes == SHAPES
    assert plan.bases.keys() == {"gpu:0/*/fp32"}
    assert "vendor figure" in plan.bases["gpu:0/*/fp32"]
    (stage,) = plan.stages
    assert stage.target == "gpu:0/*/fp32"
    assert stage.end_ms <= plan.latency_ms


@pytest.mark.parametrize("policy", SCHEDULE_POLICIES)
def test_every_policy_has_its_value(policy: str) -> None:
    plan = planned(policy=policy)
    values = {
        "latency": plan.latency_ms,
        "throughput": 1e3 / plan.throughput_per_s,
        "efficiency": plan.energy_j,
        "memory": max(plan.peak_bytes.values()),
    }
    assert values[policy] == pytest.approx(plan.schedule.value, abs=1)


def test_no_policy_is_better_at_another_ones_aim() -> None:
    best = {policy: planned(policy=policy).schedule.value for policy in SCHEDULE_POLICIES}
    for policy in SCHEDULE_POLICIES:
        other = planned(policy=policy)
        assert other.latency_ms >= best["latency"] - 1e-9
        assert 1e3 / other.throughput_per_s >= best["throughput"] - 1e-9
        assert other.energy_j is not None
        assert other.energy_j >= best["efficiency"] - 1e-9


# --- precisions --------------------------------------------------------------------------------


def test_as_written_a_device_without_fp32_is_left_out_with_a_hint() -> None:
    pool = Pool((device("cpu"), device("npu:0", {"fp16": 5.0, "int8": 10.0}, shares="cpu")))
    plan = planned(hardware=pool)
    assert plan.used == ("cpu",)
    assert "no peak in fp32 (it has fp16, int8)" in plan.left_out["npu:0"]
    assert "--precision auto" in plan.left_out["npu:0"]
    auto = planned(hardware=pool, precision="auto", policy="throughput")
    assert "npu:0" in auto.used
    assert any("accuracy can't be checked" in note for note in auto.notes)
    assert not any(str(t.target).endswith("int8") for t in auto.schedule.problem.targets)


def test_precisions_that_are_nowhere_better_are_left_out() -> None:
    plan = planned(precision="auto")
    targets = {str(costs.target) for costs in plan.schedule.problem.targets}
    assert targets == {"cpu/*/fp32", "gpu:0/*/fp16"}
    assert any("gpu:0/*/fp32" in note and "fp16" in note for note in plan.notes)


def test_a_precision_that_nothing_has_is_an_error_with_each_reason() -> None:
    with pytest.raises(UnsupportedError, match=r"gpu:0: no peak in bf16"):
        planned(precision="bf16")
    with pytest.raises(InputError, match="precision 'fp33' is unknown"):
        planned(precision="fp33")


def test_a_dispatch_that_no_figure_tells_is_assumed_and_told() -> None:
    pool = Pool((device("cpu", dispatch_us=None),))
    plan = planned(hardware=pool)
    assert plan.schedule.problem.targets[0].dispatch_ms == ASSUMED_DISPATCH_MS
    assert "dispatch of 10 µs a stage assumed" in plan.bases["cpu/*/fp32"]


# --- limits ------------------------------------------------------------------------------------


def test_a_model_too_large_for_one_device_is_placed_over_two_within_both_limits() -> None:
    pool = Pool(
        (device("cpu", {"fp32": 0.1}), device("gpu:0"), device("gpu:1")),
        (*both_ways("cpu", "gpu:0"), *both_ways("cpu", "gpu:1"), *both_ways("gpu:0", "gpu:1")),
    )
    limits = {"memory": {"cpu": "2 MiB", "gpu:0": "6 MiB", "gpu:1": "6 MiB"}}
    plan = planned(tower(layers=8), hardware=pool, limits=limits, shapes={"x": (16, 512)})
    assert set(plan.used) >= {"gpu:0", "gpu:1"}
    for use in plan.devices:
        assert use.memory_bytes is not None
        assert use.peak_bytes <= use.memory_bytes
    with pytest.raises(UnsupportedError, match="memory") as error:
        planned(
            tower(layers=8), hardware=pool, shapes={"x": (16, 512)},
            limits={"memory": {"cpu": "2 MiB", "gpu:0": "2 MiB", "gpu:1": "2 MiB"}},
        )  # fmt: skip
    assert "too much" in str(error.value)


def test_limits_of_the_pool_and_of_the_call() -> None:
    pool = small_pool(limits=Limits(forbidden={"gpu:0": frozenset({Precision.FP32})}))
    plan = planned(hardware=pool)
    assert plan.used == ("cpu",)
    assert "no fp32 on gpu:0" in plan.left_out["gpu:0"]
    assert planned(limits={"power": "60 W"}).used == ("cpu",)
    assert len(planned(tower(6), limits={"max_stages": 1}).stages) == 1
    with pytest.raises(InputError, match="no device 'gpu:7'"):
        planned(limits={"memory": {"gpu:7": "1 GiB"}})


def test_a_latency_that_nothing_keeps_is_told_by_how_much() -> None:
    with pytest.raises(UnsupportedError, match="latency") as error:
        planned(latency_ms=0.01)
    assert "0.01 ms allowed" in str(error.value)
    assert planned(latency_ms=100.0).latency_ms <= 100.0
    with pytest.raises(InputError, match="-1 ms"):
        planned(latency_ms=-1)


def test_unknown_power_is_no_energy_and_no_efficiency() -> None:
    pool = Pool((device("cpu", watts=None),))
    assert planned(hardware=pool).energy_j is None
    with pytest.raises(UnsupportedError, match="no figure says what"):
        planned(hardware=pool, policy="efficiency")


def test_devices_of_one_memory_share_it() -> None:
    pool = Pool(
        (
            device("cpu", memory_bytes=5 * 2**20),
            device("npu:0", shares="cpu", memory_bytes=None),
        )
    )
    plan = planned(tower(layers=2), hardware=pool)
    assert sum(use.peak_bytes for use in plan.devices) <= 5 * 2**20
    with pytest.raises((OutOfMemory, UnsupportedError), match="memory"):
        planned(tower(layers=5), hardware=pool, policy="memory")


# --- pins, pools -------------------------------------------------------------------------------


def test_pins_are_kept_or_told() -> None:
    plan = planned(pins={"mul1": "cpu"})
    (block,) = [b.id for b in plan.schedule.problem.blocks if "mul1" in b.ops]
    assert plan.schedule.assignment[block] == "cpu/*/fp32"
    assert "pinned: mul1=cpu" in plan.notes
    pinned = planned(hardware=small_pool(pins=(("type:MatMul", "cpu"),)))
    assert pinned.used == ("cpu",)
    lost = planned(pins={"mul1": "gpu:3"})
    assert any("mul1=gpu:3 isn't kept" in note for note in lost.notes)
    with pytest.raises(UnsupportedError, match="can't be kept"):
        planned(pins={"mul1": "gpu:3"}, strict=True)
    with pytest.raises(InputError, match="matches no op"):
        planned(pins={"nothing": "cpu"})


def test_pins_to_backends_hold_where_figures_are_of_the_device_alone() -> None:
    plan = planned(pins={"mul1": "cpu/openvino", "mul0": "gpu:0/torch/fp32"})
    where = {
        op: plan.schedule.assignment[b.id] for b in plan.schedule.problem.blocks for op in b.ops
    }
    assert where["mul1"] == "cpu/*/fp32"
    assert where["mul0"] == "gpu:0/*/fp32"
    assert any("isn't kept" in note for note in planned(pins={"mul1": "cpu/torch/bf16"}).notes)


@pytest.mark.parametrize("name", catalogue.names(catalogue.POOLS))
@pytest.mark.parametrize("policy", ["latency", "efficiency"])
def test_every_pool_of_the_catalogue_has_a_plan_or_a_reason(name: str, policy: str) -> None:
    try:
        plan = planned(hardware=name, precision="auto", policy=policy, work_limit=5)
    except UnsupportedError as error:
        assert name == "example-host" or "draws" in str(error)  # noqa: PT017
    else:
        assert plan.used
        assert set(plan.bases) == {stage.target for stage in plan.stages}


def test_a_model_without_ops_is_told() -> None:
    from tests.toys.models import parse

    with pytest.raises(InputError, match="no ops to place"):
        planned(parse("g (float[2, 4] x) => (float[2, 4] x) { }"), shapes={})


def test_devices_without_a_way_to_the_host_are_left_out() -> None:
    pool = Pool((device("cpu"), device("gpu:0", {"fp32": 1000.0})))
    plan = planned(hardware=pool)
    assert plan.used == ("cpu",)
    assert "no way between it and cpu" in plan.left_out["gpu:0"]


def test_without_a_host_devices_that_cant_exchange_data_are_never_together() -> None:
    pool = Pool((device("gpu:0"), device("gpu:1")))
    plan = planned(tower(6), hardware=pool, policy="throughput")
    assert len(plan.used) == 1
    assert any("no way between gpu:0 and gpu:1" in note for note in plan.notes)


def test_boundaries_of_the_pool_cost_on_links_between_their_devices() -> None:
    cost = BoundaryCost("gpu:0", "cpu", TimeFigure(value=1e-3, **SHEET))
    free = planned(devices="gpu:0").schedule.problem
    found = modelled_problem(
        work_of(tower(), SHAPES), small_pool(boundaries=(cost,)), Asked()
    ).problem
    was, now = ({(k.source, k.destination): k.cost for k in p.links} for p in (free, found))
    assert now["gpu:0", "cpu"].fixed_ms == pytest.approx(was["gpu:0", "cpu"].fixed_ms + 1.0)
    assert now["cpu", "gpu:0"] == was["cpu", "gpu:0"]


def test_a_device_without_figures_is_told() -> None:
    pool = Pool(
        (
            device("cpu"),
            replace(small_pool().device("gpu:0"), figures=type(device("cpu").figures)()),
        )
    )
    assert "no figures of it" in planned(hardware=pool).left_out["gpu:0"]


def test_unknown_names_are_errors() -> None:
    for options, says in (
        ({"policy": "speed"}, "policy 'speed' is unknown"),
        ({"devices": ["gpu:5"]}, "no device 'gpu:5'"),
        ({"runs": {"x": 2}}, "runs are of a pipeline's models"),
        ({"cost_ms": {"step": 2}}, "'step' is no Python step"),
    ):
        with pytest.raises(InputError, match=says):
            planned(**options)


# --- JSON --------------------------------------------------------------------------------------


def test_json_says_what_it_is_and_no_reader_of_plans_takes_it(tmp_path: Any) -> None:
    plan = planned()
    data = json.loads(plan.to_json())
    assert (data["format"], data["version"]) == ("dioe-modelled-plan", 1)
    assert data["known_as"] == "modelled"
    assert data["latency_ms"] == plan.latency_ms
    assert [row["id"] for row in data["devices"]] == ["cpu", "gpu:0"]
    assert len(data["blocks"]) == len(plan.schedule.problem.blocks)
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    with pytest.raises(PlanMismatch, match="a modelled plan"):
        load_plan(path)


def test_the_same_question_has_the_same_answer() -> None:
    assert planned(tower(6)).to_json() == planned(tower(6)).to_json()


# --- comparing ---------------------------------------------------------------------------------


def test_pools_are_ordered_by_the_policy_and_failures_have_reasons() -> None:
    slow = Pool((device("cpu", {"fp32": 0.1}),), name="slow")
    none = Pool((device("cpu", {"int8": 0.1}),), name="none")
    rows = compare_pools(
        tower(), [none, slow, "no-such-pool", small_pool(name="fast")], shapes=SHAPES
    )
    assert [row.hardware for row in rows] == ["fast", "slow", "none", "no-such-pool"]
    assert [row.plan is not None for row in rows] == [True, True, False, False]
    assert "no peak in fp32" in rows[2].reason
    assert "no such file" in rows[3].reason


def test_the_problem_knows_which_targets_were_asked_for() -> None:
    found = modelled_problem(work_of(tower(), SHAPES), small_pool(), Asked(("gpu:0",)))
    assert [str(costs.target) for costs in found.problem.targets] == ["gpu:0/*/fp32"]
    assert found.problem.home == "cpu"


def quantised() -> Any:
    """A quantised convolution, and a Sigmoid behind it."""
    from tests.toys.models import parse, with_weights

    model = parse(
        """g (float[1, 8, 16, 16] x) => (float[1, 8, 16, 16] y) {
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            v = DequantizeLinear(w, s, z)
            c = Conv<pads = [1, 1, 1, 1]>(d, v)
            y = Sigmoid(c)
        }"""
    )
    rng = np.random.default_rng(0)
    return with_weights(
        model,
        s=np.array(0.05, np.float32),
        z=np.array(0, np.int8),
        w=rng.integers(-9, 9, (8, 8, 3, 3)).astype(np.int8),
    )


def test_int8_is_for_what_is_quantised() -> None:
    pool = Pool((device("cpu"), device("npu:0", {"int8": 100.0}, shares="cpu")))
    plan = planned(quantised(), hardware=pool, shapes={}, precision="auto")
    assert {str(t.target) for t in plan.schedule.problem.targets} == {"cpu/*/fp32", "npu:0/*/int8"}
    floats = planned(hardware=pool, precision="auto")
    assert "no peak in fp32 or fp16 or bf16" in floats.left_out["npu:0"]
    would_be = planned(hardware=pool, precision="int8")
    assert any("which it isn't" in note for note in would_be.notes)


# --- any pool ----------------------------------------------------------------------------------


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Devices that share memories or are linked to the host or to each other, or neither."""
    count = draw(st.integers(1, 3))
    devices = [device("cpu", {"fp32": 1.0}, memory_bytes=draw(st.sampled_from([2**21, 2**30])))]
    links: list[Any] = []
    for i in range(count):
        shares = draw(st.booleans())
        devices.append(
            device(
                f"gpu:{i}",
                {"fp32": draw(st.sampled_from([0.5, 4.0, 50.0])), "fp16": 20.0},
                watts=draw(st.sampled_from([None, 10.0, 300.0])),
                shares="cpu" if shares else None,
                memory_bytes=None if shares else draw(st.sampled_from([2**20, 2**22, 2**30])),
            )
        )
        if not shares and draw(st.integers(0, 3)):
            links += both_ways("cpu", f"gpu:{i}", per_s=draw(st.sampled_from([1e8, 1e10])))
    return Pool(tuple(devices), tuple(links))


@settings(max_examples=40, deadline=None)
@given(
    pool=pools(),
    policy=st.sampled_from(SCHEDULE_POLICIES),
    precision=st.sampled_from(["fp32", "auto"]),
    layers=st.integers(1, 6),
)
def test_every_plan_is_valid_and_every_failure_is_told(
    pool: Pool, policy: str, precision: str, layers: int
) -> None:
    try:
        plan = planned(
            tower(layers, 256), hardware=pool, policy=policy, precision=precision,
            shapes={"x": (64, 256)}, work_limit=30,
        )  # fmt: skip
    except (UnsupportedError, OutOfMemory) as error:
        assert error.fix  # noqa: PT017
        return
    json.loads(plan.to_json())
    for use in plan.devices:
        assert use.memory_bytes is None or use.peak_bytes <= use.memory_bytes + 1
    assert plan.throughput_per_s >= 1e3 / plan.latency_ms - 1e-6


def test_backends_that_were_measured_have_targets_and_boundaries_of_their_own() -> None:
    measured: Any = {"source": "dioe calibrate", "kind": FigureKind.MEASURED}
    peaks = tuple(
        Peak(precision=Arithmetic.FP32, value=rate, backend=backend, **measured)
        for backend, rate in (("fast", 2e12), ("slow", 1e12))
    )
    spec = device("cpu")
    spec = replace(spec, figures=spec.figures.model_copy(update={"peaks": peaks}))
    ms = TimeFigure(value=1e-3, **SHEET)
    pool = Pool((spec,), boundaries=(BoundaryCost("cpu/fast", "cpu/slow", ms),))
    plan = planned(hardware=pool, pins={"mul2": "cpu/slow"}, policy="latency")
    assert set(plan.schedule.assignment.values()) == {"cpu/slow/fp32"}, "one ms is dear"
    free = planned(hardware=replace(pool, boundaries=()), pins={"mul2": "cpu/slow"})
    assert set(free.schedule.assignment.values()) == {"cpu/fast/fp32", "cpu/slow/fp32"}
    assert "peak measured" in free.bases["cpu/fast/fp32"]
    other = planned(hardware=pool)
    assert set(other.schedule.assignment.values()) == {"cpu/fast/fp32"}
