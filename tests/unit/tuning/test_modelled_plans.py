"""Plans over modelled devices: what the planner thinks of their links, dispatch and memories is
what the devices then take. Time is virtual, and goes on as toys and modelled devices work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dioe
from dioe.tuning import mixed, plan_trial
from dioe.types import Array, Basis, KnownAs, Plan, Precision, TargetReport, UnsupportedError
from dioe_null import DeviceModel, LinkModel, NullBackend, read_devices
from tests.toys import models
from tests.toys.work import Clock, ModelledClock, WorkingBackend
from tests.unit.tuning.conftest import UseBackends

SHAPE = (1, 8, 16, 16)
NBYTES = 4 * 8 * 16 * 16
"""Of every value of ``chain``."""

ROW_BYTES = 4 * 4 * 64
"""Of every value of ``rows``."""

NPU = DeviceModel(
    id="npu:0",
    name="any op in 2 ms",
    peak_tflops={Precision.FP32: 100.0},
    memory_bytes=1 << 20,
    memory_gbps=1000.0,
    link=LinkModel(bandwidth_gbps=0.01, latency_us=100.0),
    launch_us=2000.0,
    dispatch_us=300.0,
)
CONVOLVER = replace(
    NPU, name="arithmetic", launch_us=10.0, peak_tflops={Precision.FP32: 0.001}, memory_gbps=0.002
)
MOVER = replace(
    NPU,
    id="gpu:0",
    name="bandwidth",
    launch_us=10.0,
    peak_tflops={Precision.FP32: 0.00001},
    memory_gbps=10.0,
    link=LinkModel(bandwidth_gbps=0.05, latency_us=50.0),
    dispatch_us=100.0,
)


def chain(kinds: str, *, skip: int = 0) -> onnx.ModelProto:
    """Ops in a row, each a block of its own: C is a convolution, D one by depth (as much to move,
    and little to compute). The last op, if it is +, adds what op ``skip`` gave."""
    info = helper.make_tensor_value_info
    nodes, weights = [], []
    value = "x"
    for i, kind in enumerate(kinds):
        result = f"v{i}" if i + 1 < len(kinds) else "y"
        if kind == "+":
            nodes.append(helper.make_node("Add", [value, f"v{skip}"], [result], f"n{i}"))
            continue
        group = 8 if kind == "D" else 1
        array = np.random.default_rng(i).standard_normal((8, 8 // group, 3, 3)) / 8
        weights.append(numpy_helper.from_array(array.astype(np.float32), f"w{i}"))
        nodes.append(
            helper.make_node(
                "Conv",
                [value, f"w{i}"], [result], f"n{i}", pads=[1] * 4, group=group,
            )
        )  # fmt: skip
        value = result
    graph = helper.make_graph(nodes, "chain", [info("x", 1, SHAPE)], [info("y", 1, SHAPE)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rows() -> onnx.ModelProto:
    """Two MatMul, two Gemm."""
    return models.two_kinds(width=64)


def feeds(model: onnx.ModelProto) -> dict[str, Array]:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(5).standard_normal(shape).astype(np.float32)}


@dataclass
class Bench:
    """Compiles on a toy CPU, whose ops take the ``costs``, and modelled devices."""

    clock: Clock
    use_backends: UseBackends
    tries: list[tuple[Plan, TargetReport]] = field(default_factory=list)
    """The plans that were tried, as they were predicted, and what came of them."""

    def compile(
        self,
        model: onnx.ModelProto,
        *devices: DeviceModel,
        costs: dict[str, float] | None = None,
        **settings: Any,
    ) -> dioe.Session:
        self.tries.clear()
        backends: list[Any] = [NullBackend(devices, ModelledClock(self.clock))]
        if costs is not None:
            backends.append(WorkingBackend("toy", self.clock, costs))
        self.use_backends(*backends)
        named = [f"{device.id}/null" for device in devices]
        defaults: dict[str, Any] = {
            "sample_inputs": feeds(model),
            "devices": [*named, *(["cpu/toy"] if costs is not None else [])],
            "tuning_budget_s": 30,
        }
        session: dioe.Session = dioe.compile(model, **(defaults | settings))
        return session

    def takes_ms(self, session: dioe.Session, runs: int = 3) -> float:
        """What a run takes, the first left out."""
        inputs = {
            spec.name: np.full([int(d or 1) for d in spec.shape or ()], 0.5, spec.dtype)
            for spec in session.model.inputs
        }
        session.run(inputs)
        start = self.clock.seconds()
        for _ in range(runs):
            session.run(inputs)
        return (self.clock.seconds() - start) * 1e3 / runs

    def placed(self, model: onnx.ModelProto, *devices: DeviceModel, **settings: Any) -> list[str]:
        """The device of each stage of the plan that is chosen."""
        with self.compile(model, *devices, **settings) as session:
            return [stage.target.device for stage in session.plan.stages]


@pytest.fixture
def bench(clock: Clock, use_backends: UseBackends, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(clock, use_backends)
    really: Callable[..., tuple[TargetReport, list[float]]] = plan_trial.try_plan

    def spied(plan: Plan, *arguments: Any, **settings: Any) -> tuple[TargetReport, list[float]]:
        report, stages_ms = really(plan, *arguments, **settings)
        made.tries.append((plan, report))
        return report, stages_ms

    monkeypatch.setattr(mixed, "try_plan", spied)
    return made


def check_predictions(bench: Bench, session: dioe.Session, within: float = 0.1) -> None:
    """What was predicted, before and after the plan was tried, is what it takes."""
    plan, took_ms = session.plan, bench.takes_ms(session)
    assert plan.predicted_ms == pytest.approx(took_ms, rel=within)
    tried = [(p.predicted_ms, r.p50_ms) for p, r in bench.tries if r.state == "ok"]
    assert tried
    for predicted_ms, measured_ms in tried:
        assert predicted_ms == pytest.approx(measured_ms, rel=within)


CPU_COSTS = {"MatMul": 1.0, "Gemm": 9.0}
"""Of the toy CPU, in ms; the NPU takes 2 for each, 0.3 a run, and 0.2 a copy."""


def test_over_the_cpu_and_a_modelled_npu(bench: Bench) -> None:
    with bench.compile(rows(), NPU, costs=CPU_COSTS) as session:
        plan = session.plan
        assert [str(s.target) for s in plan.stages] == ["cpu/toy/fp32", "npu:0/null/fp32"]
        by_hand_ms = 2 * 1.0 + 2 * 2.0 + 0.3 + 2 * NPU.link.transfer_ms(ROW_BYTES)
        assert bench.takes_ms(session) == pytest.approx(by_hand_ms, rel=0.02)
        check_predictions(bench, session, within=0.03)
        assert plan.basis is plan.stages[1].basis is Basis.MODELLED
        assert plan.stages[0].basis is Basis.MEASURED
        assert "weren't compared" in plan.notes[0]


def test_over_two_modelled_devices(bench: Bench) -> None:
    with bench.compile(chain("CCDDCC"), CONVOLVER, MOVER) as session:
        devices = [stage.target.device for stage in session.plan.stages]
        assert devices == ["npu:0", "gpu:0", "npu:0"]
        check_predictions(bench, session, within=0.03)
        (boundary, _) = session.plan.boundaries
        by_hand_ms = sum(d.link.transfer_ms(NBYTES) for d in (CONVOLVER, MOVER))
        assert boundary.predicted_ms == pytest.approx(by_hand_ms, rel=0.1)


def test_in_lower_precision_when_asked_for(bench: Bench) -> None:
    peaks = {Precision.FP32: 0.001, Precision.FP16: 0.001}
    fast = replace(CONVOLVER, peak_tflops=peaks)
    other = replace(MOVER, peak_tflops=dict.fromkeys(peaks, 2e-05))
    with bench.compile(chain("CCDDCC"), fast, other, precision="fp16") as session:
        assert [str(s.target) for s in session.plan.stages] == [
            "npu:0/null/fp16", "gpu:0/null/fp16", "npu:0/null/fp16",
        ]  # fmt: skip
        assert session.plan.relative_l2 is None
        check_predictions(bench, session, within=0.03)


def test_what_stays_in_a_memory_is_not_copied_again(bench: Bench) -> None:
    """Op 5 adds what op 1 gave: that is on the NPU already, though it went to the GPU as well."""
    model = chain("CCDDC+", skip=1)
    with bench.compile(model, CONVOLVER, MOVER) as session:
        assert [s.target.device for s in session.plan.stages] == ["npu:0", "gpu:0", "npu:0"]
        session.run(feeds(model))
        ways = [(t.value, t.source, t.destination, t.count) for t in session.transfers]
        assert sorted(w for w in ways if w[0] == "v1") == [
            ("v1", "cpu", "gpu:0", 1),
            ("v1", "npu:0", "cpu", 1),
        ]
        check_predictions(bench, session, within=0.01)
        costs = {(b.value, b.destination): b.predicted_ms for b in session.plan.boundaries}
        assert costs["v1", "s2"] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    "link",
    [
        LinkModel(bandwidth_gbps=0.000125, latency_us=100.0),  # 8 ms a copy
        LinkModel(bandwidth_gbps=0.1, latency_us=8000.0),
    ],
    ids=["bandwidth", "latency"],
)
def test_a_link_alone_moves_ops_off_the_device_and_back(bench: Bench, link: LinkModel) -> None:
    model = rows()
    assert bench.placed(model, NPU, costs=CPU_COSTS) == ["cpu", "npu:0"]
    # a whole there takes 8.3 ms and two copies, all on the CPU 20
    costs = {**CPU_COSTS, "Gemm": 4.0}
    assert bench.placed(model, NPU, costs=costs) == ["cpu", "npu:0"]
    assert bench.placed(model, replace(NPU, link=link), costs=costs) == ["cpu"]
    assert bench.placed(model, NPU, costs=costs) == ["cpu", "npu:0"]


def test_dispatch_alone_moves_ops_off_the_device(bench: Bench) -> None:
    model, costs = rows(), {**CPU_COSTS, "Gemm": 4.0}
    slow = replace(NPU, dispatch_us=8000.0)
    assert bench.placed(model, slow, costs=costs) == ["cpu"]


def test_transfers_go_through_the_host_and_are_counted(bench: Bench) -> None:
    model, runs = chain("CCDDCC"), 3
    with bench.compile(model, CONVOLVER, MOVER) as session:
        before = {(t.value, t.source, t.destination): t.count for t in session.transfers}
        assert not before
        for _ in range(runs):
            session.run(feeds(model))
        found = {(t.value, t.source, t.destination): t for t in session.transfers}
        ways = [
            ("x", "cpu", "npu:0", CONVOLVER),
            ("v1", "npu:0", "cpu", CONVOLVER),
            ("v1", "cpu", "gpu:0", MOVER),
            ("v3", "gpu:0", "cpu", MOVER),
            ("v3", "cpu", "npu:0", CONVOLVER),
            ("y", "npu:0", "cpu", CONVOLVER),
        ]
        assert set(found) == {way[:3] for way in ways}
        for value, source, destination, device in ways:
            transfer = found[value, source, destination]
            assert (transfer.nbytes, transfer.count) == (NBYTES, runs)
            assert transfer.mean_ms == pytest.approx(device.link.transfer_ms(NBYTES), rel=0.05)


def test_reports_say_how_the_times_are_known(bench: Bench) -> None:
    with bench.compile(rows(), NPU, costs=CPU_COSTS) as session:
        known = {r.target: r.known_as for r in session.plan.candidates}
    assert known["cpu/toy/fp32"] is KnownAs.HARDWARE
    assert known["npu:0/null/fp32"] is KnownAs.MODELLED
    assert known["cpu/toy/fp32 -> npu:0/null/fp32"] is KnownAs.MODELLED


# --- a file of devices --------------------------------------------------------------------------

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "null_devices.yaml"


def test_the_example_of_the_documentation_runs_a_plan(bench: Bench) -> None:
    gpu, npu = read_devices(EXAMPLE)
    with bench.compile(chain("CCDDCC"), gpu, npu, precision="fp16") as session:
        plan = session.plan
        assert plan.predicted_ms == pytest.approx(bench.takes_ms(session), rel=0.1)
        assert plan.targets == ("gpu:0/null/fp16",)
        least_ms = gpu.dispatch_us / 1e3 + 2 * gpu.link.transfer_ms(NBYTES)
        assert plan.predicted_ms is not None
        assert plan.predicted_ms > least_ms
        assert {r.known_as for r in plan.candidates} == {KnownAs.MODELLED}


def test_a_plan_that_crosses_the_pool_of_the_example(bench: Bench) -> None:
    devices = read_devices(EXAMPLE)
    pins = {"n[01]": "gpu:0/null", "n*": "npu:0/null"}
    with bench.compile(chain("CCDD"), *devices, precision="fp16", pins=pins) as session:
        assert session.plan.targets == ("gpu:0/null/fp16", "npu:0/null/fp16")
        check_predictions(bench, session)


# --- open shapes --------------------------------------------------------------------------------


def test_shapes_that_come_later_run_there_too(bench: Bench) -> None:
    model = models.dense()
    x = np.ones((4, 8), np.float32)
    with bench.compile(model, NPU, sample_inputs={"x": x}) as session:
        for count in (4, 2, 7):
            (y,) = session.run({"x": np.ones((count, 8), np.float32)}).values()
            assert isinstance(y, np.ndarray)
            assert y.shape == (count, 8)
            assert not y.any()
        assert session.wait_for_tuning(30)
        assert {t for plan in session.plans for t in plan.targets} == {"npu:0/null/fp32"}


# --- memory -------------------------------------------------------------------------------------

WEIGHT_BYTES = 4 * 64 * 64
"""Of each layer of ``rows``."""


@pytest.mark.parametrize(
    ("layers", "placed"),
    [(3, ["cpu", "npu:0"]), (2, ["cpu", "npu:0"]), (1, ["cpu", "npu:0"]), (0.5, ["cpu"])],
)
def test_a_device_gets_what_its_memory_holds(
    bench: Bench, layers: float, placed: list[str]
) -> None:
    """The whole needs room for four layers; the two that are faster there, or one, for less."""
    room = int(layers * WEIGHT_BYTES) + 6 * ROW_BYTES
    with bench.compile(rows(), replace(NPU, memory_bytes=room), costs=CPU_COSTS) as session:
        plan = session.plan
        assert [stage.target.device for stage in plan.stages] == placed
        if len(placed) > 1:
            assert len(plan.stages[1].ops) == min(layers, 2)
            check_predictions(bench, session)
        assert [report.state for _, report in bench.tries] == ["ok"] * len(bench.tries)
        (whole,) = [r for r in plan.candidates if r.target == "npu:0/null/fp32"]
        assert whole.state == "failed"
        assert whole.reason.startswith("out of memory: ")
        assert f"there are {room}" in whole.reason
        assert whole.reason in plan.explain()
        kept = {block.ops[0]: block for block in plan.blocks if block.stage == "s0"}
        if layers == 1:
            assert f"memory: npu:0 has {room} bytes" in kept["g0"].reason


def test_a_pin_that_memory_does_not_hold_is_an_error_with_its_reason(bench: Bench) -> None:
    small = replace(NPU, memory_bytes=WEIGHT_BYTES // 2)
    with pytest.raises(UnsupportedError) as caught:
        bench.compile(rows(), small, costs=CPU_COSTS, pins=["type:Gemm=npu:0/null"])
    assert "npu:0/null/fp32: out of memory: " in caught.value.cause


def test_without_a_budget_a_device_too_small_is_passed_over(bench: Bench) -> None:
    small = replace(NPU, memory_bytes=WEIGHT_BYTES)
    with bench.compile(rows(), small, costs=CPU_COSTS, tuning_budget_s=0) as session:
        assert session.plan.targets == ("cpu/toy/fp32",)
        session.run(feeds(rows()))
