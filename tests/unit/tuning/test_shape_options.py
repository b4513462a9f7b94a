"""Which ways of running a model are open to shapes that come later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from dioe.graph import Model
from dioe.hardware import Pool
from dioe.hardware.limits import limits_from
from dioe.hardware.spec import DeviceSpec
from dioe.tuning.buckets import Point
from dioe.tuning.limited import Limited
from dioe.tuning.shape_options import check_memory, most_variants, options_of, points_of
from dioe.types import Basis, OutOfMemory, Plan, Resources, TargetReport
from tests.toys import models
from tests.toys.plans import plan_for

GIB = 2**30
POOL = Pool((DeviceSpec(id="cpu", kind="cpu", memory_bytes=8 * GIB, capacity=2.0),))


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(models.dense())


def tuned(model: Model, rows: int, *reports: TargetReport, target: str = "cpu/a/fp32") -> Plan:
    plan = plan_for(model, target, {"x": (rows, 8)}, candidates=reports)
    usual = tuple(replace(stage, resources=Resources()) for stage in plan.stages)
    return replace(plan, stages=usual, predicted_ms=1.0, basis=Basis.MEASURED)


def names(model: Model, plans: Sequence[Plan]) -> list[str]:
    return sorted(option.name for option in options_of(model, plans, POOL))


def ok(target: str, ms: float | None = 2.0) -> TargetReport:
    return TargetReport(target, "ok", p50_ms=ms)


@pytest.mark.parametrize(
    ("report", "usable"),
    [
        (ok("cpu/b/fp32"), True),
        (TargetReport("cpu/b/fp32", "slow", p50_ms=9.0), True),
        (TargetReport("cpu/b/fp32", "infidel", p50_ms=1.0), False),
        (TargetReport("cpu/b/fp32", "unsupported"), False),
        (TargetReport("cpu/b/fp32", "failed"), False),
        (ok("cpu/b/bf16"), True),
        (TargetReport("cpu/b/bf16", "slow", p50_ms=9.0), False),  # its outputs were not looked at
        (ok("cpu/b/bf16+fp32"), False),  # which op is in which?
        (ok("cpu/a/fp32 -> cpu/b/fp32"), False),
        (ok("npu:0/b/fp32"), True),  # modelled ones are in no pool
    ],
)
def test_what_was_right_is_an_option(model: Model, report: TargetReport, usable: bool) -> None:
    plan = tuned(model, 4, ok("cpu/a/fp32", 1.0), report)
    assert names(model, [plan]) == sorted({"cpu/a/fp32"} | ({report.target} if usable else set()))


def test_what_was_wrong_once_is_none(model: Model) -> None:
    wrong = TargetReport("cpu/b/fp32", "infidel")
    plans = [tuned(model, 4, ok("cpu/b/fp32")), tuned(model, 2, wrong)]
    assert names(model, plans) == ["cpu/a/fp32"]


def test_lower_precision_has_to_be_right_at_every_tuned_shape(model: Model) -> None:
    lowered, slow = ok("cpu/b/bf16"), TargetReport("cpu/b/bf16", "slow", p50_ms=3.0)
    assert names(model, [tuned(model, 4, lowered), tuned(model, 2, slow)]) == ["cpu/a/fp32"]
    both = [tuned(model, 4, lowered), tuned(model, 2, lowered)]
    assert names(model, both) == ["cpu/a/fp32", "cpu/b/bf16"]


def test_a_tuned_plan_of_several_stages_is_an_option(model: Model) -> None:
    stages = plan_for(model, "cpu/a/fp32").stages + plan_for(model, "cpu/b/fp32").stages
    mixed = replace(tuned(model, 4, ok("cpu/a/fp32")), stages=stages)
    assert names(model, [mixed]) == ["cpu/a/fp32", "cpu/a/fp32 -> cpu/b/fp32"]
    mixed_option = options_of(model, [mixed], POOL)[0]
    assert [str(stage.target) for stage in mixed_option.at({"x": (2, 8)}).stages] == [
        "cpu/a/fp32",
        "cpu/b/fp32",
    ]


def test_other_threads_make_another_option(model: Model) -> None:
    plan = tuned(model, 4, ok("cpu/a/fp32", 1.5), ok("cpu/b/fp32"))
    (stage,) = plan.stages
    spinning = replace(stage, resources=Resources(spin=True))
    assert names(model, [replace(plan, stages=(spinning,))]) == ["cpu/a/fp32", "cpu/b/fp32"]
    single = replace(plan, stages=(replace(stage, resources=Resources(threads=1)),))
    assert names(model, [single]) == ["cpu/a/fp32", "cpu/a/fp32 on 1 thread", "cpu/b/fp32"]
    (point,) = points_of([single], options_of(model, [single], POOL), POOL)
    assert point.costs == {
        "cpu/a/fp32": 1.5,
        "cpu/a/fp32 on 1 thread": 1.0,
        "cpu/b/fp32": 2.0,
    }


def test_an_option_runs_whatever_shapes_without_spinning(model: Model) -> None:
    plan = tuned(model, 4, ok("cpu/b/fp32"))
    for option in options_of(model, [plan], POOL):
        other = option.at({"x": (7, 8)})
        (stage,) = other.stages
        assert str(stage.target) == option.name
        assert stage.ops == model.placed_op_ids
        assert stage.resources.spin is False
        assert other.shapes == {"x": (7, 8)}
        assert (other.predicted_ms, other.candidates) == (None, ())


def test_tuned_plans_are_the_first_points(model: Model) -> None:
    plans = [
        tuned(
            model, 4, ok("cpu/a/fp32", 1.1), ok("cpu/b/fp32"),
            TargetReport("cpu/c/fp32", "unsupported"), TargetReport("cpu/d/fp32", "failed"),
            TargetReport("cpu/e/fp32", "slow", p50_ms=9.0), ok("cpu/f/fp32", None),
        ),
        replace(tuned(model, 2, ok("cpu/a/fp32", 1.1)), predicted_ms=None, basis=Basis.DEFAULT),
    ]  # fmt: skip
    found = list(points_of(plans, options_of(model, plans, POOL), POOL))
    costs = {"cpu/a/fp32": 1.0, "cpu/b/fp32": 2.0, "cpu/e/fp32": 9.0}
    assert found == [Point({"x": (4, 8)}, costs)]


def test_unfit_targets_cost_infinitely_much_where_they_are_unfit(model: Model) -> None:
    refused = TargetReport("cpu/b/fp32", "unsupported")
    plans = [tuned(model, 4, ok("cpu/b/fp32")), tuned(model, 2, refused)]
    costs = [
        point.costs["cpu/b/fp32"]
        for point in points_of(plans, options_of(model, plans, POOL), POOL)
    ]
    assert costs == [2.0, math.inf]


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "most"), [(0, 32), (2**20, 32), (GIB // 8, 8), (GIB, 1), (2 * GIB, 0)]
)
def test_large_models_keep_fewer_variants(weights: int, most: int) -> None:
    stand_in: Model = SimpleNamespace(weight_bytes=weights)  # type: ignore[assignment]
    assert most_variants(stand_in, POOL) == most


def test_without_a_known_memory_the_number_is_the_limit(model: Model) -> None:
    assert most_variants(model, Pool((DeviceSpec(id="cpu", kind="cpu"),))) == 32


@pytest.mark.parametrize(
    ("available", "used", "enough"),
    [(7, 1, True), (2.1, 1, True), (1.9, 1, False), (7, 5.9, True), (7, 6.1, False)],
)
def test_memory_has_to_be_left(
    monkeypatch: pytest.MonkeyPatch, available: float, used: float, enough: bool
) -> None:
    system = SimpleNamespace(available=available * GIB, total=8 * GIB)
    info = SimpleNamespace(rss=used * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: system)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: info))
    if enough:
        check_memory(POOL)
    else:
        with pytest.raises(OutOfMemory, match="too little for more variants"):
            check_memory(POOL)


def test_options_keep_to_limits(model: Model) -> None:
    made = tuned(model, 4, ok("cpu/a/fp32"), ok("cpu/b/bf16"))
    assert names(model, [made]) == ["cpu/a/fp32", "cpu/b/bf16"]
    forbidden = Limited(limits_from({"forbid": {"cpu": ["bf16"]}}), POOL)
    assert [o.name for o in options_of(model, [made], POOL, forbidden)] == ["cpu/a/fp32"]
    capped = Limited(limits_from({"memory": {"cpu": "1 GiB"}}), POOL)
    (other,) = (o for o in options_of(model, [made], POOL, capped) if o.name == "cpu/b/bf16")
    assert other.plan.stages[0].resources.memory_limit_bytes == GIB
    assert most_variants(model, POOL, Limited(limits_from({"memory": {"cpu": "2 kB"}}), POOL)) == 0
    assert most_variants(model, POOL, capped) > 0
