"""Limits hold everywhere: candidates, mixed plans, plans made before, other shapes, pipelines."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dioe
from dioe.hardware import DeviceSpec, Pool, host_pool
from dioe.hardware.descriptor import Figures, PowerMode, PowerSection
from dioe.hardware.figures import FigureKind, PowerFigure
from dioe.hardware.limits import limits_from
from dioe.types import (
    FidelityError,
    InputError,
    OutOfMemory,
    Plan,
    PlanMismatch,
    Precision,
    Resources,
    StageModel,
    Support,
    UnsupportedError,
)
from dioe_null import DeviceModel, LinkModel
from tests.toys import models
from tests.toys.backend import ToyBackend, ToyContext, ToyExecutable
from tests.toys.work import Clock
from tests.unit.tuning.conftest import UseBackends
from tests.unit.tuning.pipelines import DENSE, X, chain
from tests.unit.tuning.test_modelled_plans import CPU_COSTS, NPU, Bench, bench, rows
from tests.unit.tuning.test_pins import Picky, compiled, stages

__all__ = ["bench"]  # the fixture

BF16, INT8 = Precision.BF16, Precision.INT8
BOTH = (Precision.FP32, BF16)
WEIGHTS = 64 * 64 * 4
"""Bytes of the weights of one op of ``rows``."""


def reasons(plan: Plan) -> dict[str, str]:
    return {r.target: f"{r.state}: {r.reason}" for r in plan.candidates}


def x_of() -> dict[str, Any]:
    return {"x": np.random.default_rng(3).standard_normal((4, 8)).astype(np.float32)}


def watts(value: float) -> PowerFigure:
    return PowerFigure(value=value, source="a test", kind=FigureKind.DERIVED)


def pool_of(limits: Any = None, **tdps: float | PowerSection) -> Pool:
    """This host's CPU and other devices, with what they draw."""
    (cpu, *_) = host_pool().devices
    given = {name.replace("_", ":"): power for name, power in tdps.items()}
    sections = {
        name: power if isinstance(power, PowerSection) else PowerSection(tdp=watts(power))
        for name, power in given.items()
    }
    found = [replace(cpu, figures=Figures(power=sections.pop("cpu", PowerSection())))]
    found += [DeviceSpec(name, figures=Figures(power=each)) for name, each in sections.items()]
    return Pool(tuple(found), limits=limits_from(limits))


# --- precisions --------------------------------------------------------------------------------


class Asked(ToyBackend):
    """Notes the precisions that it is asked about."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.asked: list[Precision] = []

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        self.asked.append(precision)
        return super().query(model, device, precision)


@pytest.mark.parametrize("forbid", [{"cpu": ["bf16"]}, {"*": ["bf16"]}])
@pytest.mark.parametrize("budget_s", [0, 0.5])
def test_a_forbidden_precision_is_never_tried(
    use_backends: UseBackends, forbid: Any, budget_s: float
) -> None:
    toy = Asked(precisions=BOTH)
    use_backends(toy)
    with dioe.compile(
        models.dense(), devices="cpu/toy", precision="auto", sample_inputs=x_of(),
        limits={"forbid": forbid}, tuning_budget_s=budget_s,
    ) as session:  # fmt: skip
        plan = session.plan
    assert toy.asked == [Precision.FP32]
    assert plan.targets == ("cpu/toy/fp32",)
    assert reasons(plan)["cpu/toy/bf16"] == "unsupported: forbidden by limits: no bf16 on cpu"
    assert "limits: no bf16" in " ".join(plan.notes)


def test_everything_is_forbidden(use_backends: UseBackends) -> None:
    use_backends(ToyBackend(precisions=BOTH))
    for budget_s in (0, 0.5):
        with pytest.raises(UnsupportedError, match="forbidden by limits: no bf16") as caught:
            dioe.compile(
                models.dense(), devices="cpu", precision="bf16", tuning_budget_s=budget_s,
                limits={"forbid": {"cpu": ["bf16"]}},
            )  # fmt: skip
        assert "limits are: no bf16 on cpu. Allow more" in caught.value.fix


def quantised() -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    scale = numpy_helper.from_array(np.array(0.05, np.float32), "s")
    zero = numpy_helper.from_array(np.array(0, np.int8), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantise"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantise"),
        helper.make_node("Relu", ["d"], ["y"], "relu"),
    ]
    ends = [info("x", TensorProto.FLOAT, [4, 8])], [info("y", TensorProto.FLOAT, [4, 8])]
    graph = helper.make_graph(nodes, "q", *ends, [scale, zero])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_quantised_model_is_not_run_as_written_where_int8_is_forbidden(
    use_backends: UseBackends,
) -> None:
    use_backends(ToyBackend())
    with pytest.raises(UnsupportedError, match="no int8 on cpu, and parts of the model are writ"):
        dioe.compile(
            quantised(), devices="cpu", sample_inputs=x_of(), tuning_budget_s=0,
            limits={"forbid": {"cpu": ["int8"]}},
        )  # fmt: skip
    with dioe.compile(models.dense(), tuning_budget_s=0, limits={"forbid": {"cpu": ["int8"]}}):
        pass  # no part of it is


def test_the_only_precision_left_has_to_be_right(use_backends: UseBackends) -> None:
    toy = ToyBackend(precisions=BOTH)
    toy.adjust = lambda p, outputs: [np.asarray(o) * (2 if p is BF16 else 1) for o in outputs]
    use_backends(toy)
    with pytest.raises(FidelityError, match="forbidden by limits: no fp32"):
        dioe.compile(
            models.dense(), devices="cpu/toy", precision="auto", sample_inputs=x_of(),
            limits={"forbid": {"*": ["fp32"]}}, tuning_budget_s=0.5,
        )  # fmt: skip


# --- stages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget_s", [0, 1.0])
def test_no_more_stages_than_allowed(use_backends: UseBackends, budget_s: float) -> None:
    settings: dict[str, Any] = {"devices": "gpu:0,cpu/other", "tuning_budget_s": budget_s}
    device = Picky(strict=False)
    use_backends(device, Refusing("other"))
    with pytest.raises(UnsupportedError, match="at most 1 stage: 2 are needed at least") as caught:
        compiled(limits={"max_stages": 1}, **settings)
    assert "at most 1 stage. Allow more" in caught.value.fix
    with compiled(limits={"max_stages": 2}, **settings) as session:
        assert len(session.plan.stages) == 2
        assert stages(session)["cpu"] >= {"out"}
        assert any("at most 2 stages" in note for note in session.plan.notes)


class Refusing(ToyBackend):
    """The CPU, which takes the last ops and nothing else."""

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        found = super().query(model, device, precision)
        away = {op: "no such kernel" for op in found.supported if op not in ("second", "out")}
        return replace(found, supported=found.supported - away.keys(), refused=away)


def test_one_stage_is_the_whole_model(bench: Bench) -> None:
    with bench.compile(rows(), NPU, costs=CPU_COSTS, limits={"max_stages": 1}) as session:
        plan = session.plan
        assert len(plan.stages) == 1
        assert all(len(plan.stages) == 1 for plan, _ in bench.tries)
    decided = {b.reason for b in plan.blocks if (b.difference_ms or 0) < 0}
    assert decided
    assert decided <= {
        f"limits: it would take {count} stages, more than the 1 allowed" for count in (2, 3)
    }


# --- memory ------------------------------------------------------------------------------------


def test_a_cap_splits_a_model(bench: Bench) -> None:
    cap = {"memory": {"npu:0": f"{int(2.5 * WEIGHTS)} B"}}
    costs = dict.fromkeys(CPU_COSTS, 9.0)
    with bench.compile(rows(), NPU, costs=costs) as session:
        assert [s.target.device for s in session.plan.stages] == ["npu:0"]
    with bench.compile(rows(), NPU, costs=costs, limits=cap) as session:
        plan = session.plan
        assert {s.target.device for s in plan.stages} == {"npu:0", "cpu"}
        npu = next(s for s in plan.stages if s.target.device == "npu:0")
        assert npu.resources.memory_limit_bytes == int(2.5 * WEIGHTS)
        assert len(npu.ops) == 2
    whole = reasons(plan)["npu:0/null/fp32"]
    assert re.search("failed: out of memory: npu:0 may use 40 KiB .* at least", whole)


def test_a_cap_that_nothing_fits(bench: Bench) -> None:
    with pytest.raises(OutOfMemory, match="npu:0 may use 1 KiB") as caught:
        bench.compile(rows(), NPU, limits={"memory": {"npu:0": "1 KiB"}})
    assert "at most 1 KiB of npu:0's memory. Allow more" in caught.value.fix


def test_the_hosts_cap_is_kept_by_accounting(use_backends: UseBackends) -> None:
    use_backends(ToyBackend())
    with pytest.raises(OutOfMemory, match=r"cpu may use 256 B .* too much"):
        dioe.compile(
            models.dense(), devices="cpu/toy", sample_inputs=x_of(), tuning_budget_s=0,
            limits={"memory": {"cpu": "256 B"}},
        )  # fmt: skip
    with dioe.compile(
        models.dense(), devices="cpu/toy", sample_inputs=x_of(), tuning_budget_s=0,
        limits={"memory": {"cpu": "1 MiB"}},
    ) as session:  # fmt: skip
        plan = session.plan
    (stage,) = plan.stages
    assert stage.resources.memory_limit_bytes == 2**20
    small = replace(stage, resources=replace(stage.resources, memory_limit_bytes=64))
    with pytest.raises(OutOfMemory, match=r"cpu may use .* too much"):
        dioe.compile(models.dense(), plan=replace(plan, stages=(small,)))


def test_variants_for_other_shapes_are_made_for_the_cap(use_backends: UseBackends) -> None:
    use_backends(ToyBackend())
    with dioe.compile(
        models.dense(), devices="cpu/toy", sample_inputs=x_of(), tuning_budget_s=0.3,
        limits={"memory": {"cpu": "64 KiB"}},
    ) as session:  # fmt: skip
        session.run(x_of())
        # it runs at once with its shapes left open, of which only weights count
        large = np.random.default_rng(4).standard_normal((2000, 8)).astype(np.float32)
        session.run({"x": large})
        assert len(session.plans) > 1
        assert {s.resources.memory_limit_bytes for p in session.plans for s in p.stages} == {65536}


def test_what_a_backend_tells_of_its_executables_counts(use_backends: UseBackends) -> None:
    toy = Heavy()
    use_backends(toy)
    limits = {"memory": {"cpu": "1 MiB"}}
    with pytest.raises(UnsupportedError, match="2 MiB are needed: 1 MiB too much") as caught:
        dioe.compile(models.dense(), devices="cpu/toy", tuning_budget_s=0, limits=limits)
    assert "Allow more" in caught.value.fix


class Heavy(ToyBackend):
    """Tells that its executables take 2 MiB each."""

    def open(self, device: str, resources: Resources) -> ToyContext:
        return HeavyContext(self, device, resources)


class HeavyContext(ToyContext):
    def make(self, *given: Any) -> ToyExecutable:
        made = super().make(*given)
        made.memory_bytes = 2 << 20
        return made


# --- power -------------------------------------------------------------------------------------


def test_a_device_above_the_cap_is_left_out(bench: Bench) -> None:
    costs = dict.fromkeys(CPU_COSTS, 9.0)
    pool = pool_of(cpu=15.0, npu_0=30.0)
    with bench.compile(
        rows(), NPU, costs=costs, hardware=pool, limits={"power": "20 W"}
    ) as session:
        plan = session.plan
    assert {s.target.device for s in plan.stages} == {"cpu"}
    reason = "forbidden by limits: npu:0 30 W is more than the 20 W that are allowed"
    assert reasons(plan)["npu:0/null/fp32"] == f"unsupported: {reason}"
    assert "power: cpu 15 W: 15 of 20 W" in plan.notes


def test_devices_that_are_too_much_together(bench: Bench) -> None:
    pool = pool_of({"power": "44 W"}, cpu=15.0, npu_0=30.0)
    with bench.compile(rows(), NPU, costs=CPU_COSTS, hardware=pool) as session:
        assert len({s.target.device for s in session.plan.stages}) == 1
        assert all(len({s.target.device for s in p.stages}) == 1 for p, _ in bench.tries)
        notes = " ".join(session.plan.notes)
        decided = {b.reason for b in session.plan.blocks if (b.difference_ms or 0) < 0}
    assert decided == {"limits: cpu and npu:0 may not be used together"}
    assert "plans use cpu or npu:0; more together is above the limit" in notes
    with bench.compile(
        rows(), NPU, costs=CPU_COSTS, hardware=pool, limits={"power": "45 W"}
    ) as session:
        assert {s.target.device for s in session.plan.stages} == {"cpu", "npu:0"}


def test_power_modes_and_unknown_figures(bench: Bench) -> None:
    modes = PowerSection(modes=(mode("slow", 10.0), mode("fast", 30.0)))
    pool = pool_of({"power": "20 W"}, npu_0=modes)
    with bench.compile(rows(), NPU, hardware=pool) as session:
        notes = " ".join(session.plan.notes)
    assert "npu:0 in mode slow 10 W: 10 of 20 W; DIOE doesn't switch" in notes
    cpu: dict[str, Any] = {"costs": CPU_COSTS, "devices": ["cpu/toy"]}
    with bench.compile(rows(), NPU, hardware=pool, **cpu) as session:
        notes = " ".join(session.plan.notes)
    assert "nobody knows what cpu draws: the limit couldn't be checked there" in notes


def mode(name: str, cap: float) -> PowerMode:
    return PowerMode(id=name, cap=watts(cap))


# --- plans made before, caches, pipelines --------------------------------------------------------


def test_plans_made_before(use_backends: UseBackends) -> None:
    use_backends(ToyBackend(precisions=BOTH))
    settings: dict[str, Any] = {"devices": "cpu/toy", "tuning_budget_s": 0}
    with dioe.compile(models.dense(), precision="bf16", **settings) as session:
        plan = session.plan
    with pytest.raises(InputError, match=r"limits=.* is given beside plan="):
        dioe.compile(models.dense(), plan=plan, limits={"max_stages": 1})
    strict = replace(host_pool(), limits=limits_from({"forbid": {"cpu": ["bf16"]}}))
    with pytest.raises(PlanMismatch, match="breaks the limits: s0: forbidden by limits: no bf16"):
        dioe.compile(models.dense(), plan=plan, hardware=strict)
    small = replace(host_pool(), limits=limits_from({"memory": {"cpu": "1 GiB"}}))
    with pytest.raises(PlanMismatch, match=r"made for any amount of cpu's memory.* 1 GiB"):
        dioe.compile(models.dense(), plan=plan, hardware=small)
    with dioe.compile(models.dense(), hardware=small, **settings) as session:
        plan = session.plan
    with dioe.compile(models.dense(), plan=plan, hardware=small):
        pass
    with dioe.compile(models.dense(), plan=plan):  # what it was made under is in it
        pass


def test_a_plan_is_kept_for_its_limits_only(use_backends: UseBackends, tmp_path: Path) -> None:
    toy = ToyBackend(precisions=BOTH)
    use_backends(toy)

    def tuned(**limits: Any) -> Plan:
        with dioe.compile(
            models.dense(), devices="cpu/toy", precision="auto", sample_inputs=x_of(),
            tuning_budget_s=0.3, limits=limits, cache_dir=tmp_path, tune_shapes=False,
        ) as session:  # fmt: skip
            return session.plan

    plans = tmp_path / "plans"
    tuned()
    tuned(forbid={"cpu": ["bf16"]})
    assert len(list(plans.iterdir())) == 2
    compiled_before = toy.count("compile")
    assert tuned(forbid={"cpu": ["bf16"]}).targets == ("cpu/toy/fp32",)
    assert toy.count("compile") == compiled_before + 1  # to load it
    assert len(list(plans.iterdir())) == 2


def test_a_device_that_is_not_there(use_backends: UseBackends) -> None:
    use_backends(ToyBackend())
    with pytest.raises(InputError, match="there is no device 'cpu:1'; did you mean 'cpu'"):
        dioe.compile(models.dense(), limits={"memory": {"cpu:1": "1 GiB"}})


def test_pipelines_keep_to_limits(use_backends: UseBackends) -> None:
    use_backends(ToyBackend(precisions=BOTH))
    settings: dict[str, Any] = {"sample_inputs": {"x": X}, "tuning_budget_s": 1.0}
    settings["devices"] = "cpu/toy"
    limits = {"forbid": {"*": ["bf16"]}, "memory": {"cpu": "1 GiB"}, "max_stages": 1}
    with dioe.compile(chain(), precision="auto", limits=limits, **settings) as session:
        for node in session.plan.models.values():
            for plan in node.plans:
                assert plan.targets == ("cpu/toy/fp32",)
                assert "forbidden by limits" in reasons(plan)["cpu/toy/bf16"]
                assert {s.resources.memory_limit_bytes for s in plan.stages} == {2**30}
    with pytest.raises(UnsupportedError, match=r"node '[ab]'.*no fp32 on cpu"):
        dioe.compile(chain(), limits={"forbid": {"cpu": ["fp32"]}}, **settings)


def test_the_models_of_a_pipeline_draw_power_together(
    bench: Bench, clock: Clock, use_backends: UseBackends
) -> None:
    from dioe_null import NullBackend
    from tests.toys.work import ModelledClock

    fast = DeviceModel(
        id="npu:0", name="fast", peak_tflops={Precision.FP32: 100.0}, memory_bytes=1 << 20,
        memory_gbps=1000.0, link=LinkModel(bandwidth_gbps=10.0, latency_us=1.0),
        launch_us=1.0, dispatch_us=1.0,
    )  # fmt: skip
    use_backends(ToyBackend(), NullBackend([fast], ModelledClock(clock)))
    pool = pool_of({"power": "44 W"}, cpu=15.0, npu_0=30.0)
    settings: dict[str, Any] = {"sample_inputs": {"x": X}, "tuning_budget_s": 0}
    pipeline = dioe.Pipeline({"a": DENSE[0], "b": DENSE[1]}, [("a.y", "b.x")])
    with pytest.raises(UnsupportedError, match="forbidden by limits: cpu 15 W and npu:0 30 W"):
        dioe.compile(
            pipeline, hardware=pool, devices=["npu:0/null", "cpu"],
            pins={"a": "npu:0/null", "b": "cpu"}, strict=True, **settings,
        )  # fmt: skip
    with dioe.compile(
        pipeline, hardware=pool, devices=["npu:0/null", "cpu"],
        pins={"a": "npu:0/null", "b": "npu:0/null"}, **settings,
    ) as session:  # fmt: skip
        used = {p.stages[0].target.device for n in session.plan.models.values() for p in n.plans}
        assert used == {"npu:0"}
