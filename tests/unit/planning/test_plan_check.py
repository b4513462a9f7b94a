"""Plans made before: of another model or machine, or edited by hand so that they fit none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dioe.graph import Model, OpGraph, boundaries, stage_io
from dioe.planning import check_plan
from dioe.types import Boundary, Plan, PlanMismatch, Resources, Stage, Target
from tests.toys import models

MODEL = Model.load(models.dense())
GRAPH = OpGraph.build(MODEL)
VERSIONS = {"acme": "1.2", "other": "3"}
HERE: dict[str, Any] = {"hardware": "feed", "cores": {0, 1}, "versions": VERSIONS}


def stage(name: str, ops: tuple[str, ...], *, whole: bool = False) -> Stage:
    inputs, outputs = stage_io(GRAPH, ops)
    if whole:
        inputs = tuple(spec.name for spec in MODEL.inputs)
    resources = Resources(cores=(0,))
    return Stage(name, Target("cpu", "acme"), ops, inputs, outputs, resources=resources)


def plan_of(*stages: Stage) -> Plan:
    return Plan(
        MODEL.sha256, "feed", stages, boundaries(GRAPH, stages), {"x": (4, 8)}, versions=VERSIONS
    )


SINGLE = plan_of(stage("s0", MODEL.placed_op_ids, whole=True))
PAIR = plan_of(stage("s0", MODEL.placed_op_ids[:2]), stage("s1", MODEL.placed_op_ids[2:]))


def edited(plan: Plan, number: int, **fields: Any) -> Plan:
    """The plan with fields of one stage replaced."""
    stages = list(plan.stages)
    stages[number] = replace(stages[number], **fields)
    return replace(plan, stages=tuple(stages))


@pytest.mark.parametrize("plan", [SINGLE, PAIR])
def test_what_fits(plan: Plan) -> None:
    check_plan(plan, MODEL, **HERE)
    check_plan(plan, MODEL, hardware="feed")
    check_plan(replace(plan, versions={}), MODEL, **HERE)
    check_plan(replace(plan, versions=VERSIONS | {"other": "4"}), MODEL, **HERE)  # not used
    check_plan(replace(plan, shapes={"x": (None, 8)}), MODEL, **HERE)
    check_plan(replace(plan, shapes={"x": ("N", 8)}), MODEL, **HERE)


BROKEN: list[tuple[Callable[[Plan], Plan], str]] = [
    (lambda p: replace(p, model_sha256="cd" * 32), r"another model \(plan (cd){6}, model "),
    (lambda p: replace(p, hardware="beef"), r"other hardware \(plan beef, here feed\)"),
    (lambda p: replace(p, rewrites=("../../x",)), r"rewrites\[0\]: unknown rewrite"),
    (
        lambda p: replace(p, versions={"acme": "1.1"}),
        r"versions\.acme: made with 1\.1, and here is 1\.2",
    ),
    (lambda p: replace(p, shapes={"z": (1,)}), r"shapes: the model has no input 'z'"),
    (lambda p: replace(p, shapes={"x": (1, 2, 3)}), "shapes: input 'x' has rank 2"),
    (lambda p: replace(p, shapes={"x": (4, 9)}), "shapes: dimension 1 of input 'x' is 8, not 9"),
    (lambda p: replace(p, shapes={"x": ("M", 8)}), r"shapes\.x\[0\]: 'M' is no dimension"),
    (
        lambda p: edited(p, 0, resources=Resources(cores=(1, 7))),
        r"stages\[0\]\.resources\.cores: there is no core 7 here, but 0, 1",
    ),
    (lambda p: edited(p, 0, inputs=("w",)), r"stages\[0\]\.inputs: 'w' is none of its ops' inputs"),
    (lambda p: edited(p, 0, inputs=()), r"stages\[0\]\.inputs: 'x' is missing"),
    (lambda p: edited(p, -1, outputs=()), r"stages\[\d\]\.outputs: 'y' is missing"),
    (lambda p: edited(p, -1, outputs=("y", "q")), r"stages\[\d\]\.outputs: 'q' is none of"),
    (
        lambda p: replace(p, boundaries=(*p.boundaries, Boundary("x", "s0", "s1"))),
        r"boundaries\[\d\]: 'x' doesn't go from s0 to s1",
    ),
    (lambda p: edited(p, 0, ops=("nonsense", *p.stages[0].ops)), "places 'nonsense', unlike"),
    (lambda p: edited(p, 0, ops=p.stages[0].ops[1:]), "leaves out '.*', unlike the model"),
]


@pytest.mark.parametrize("plan", [SINGLE, PAIR], ids=["single", "pair"])
@pytest.mark.parametrize(("edit", "says"), BROKEN)
def test_what_does_not(plan: Plan, edit: Callable[[Plan], Plan], says: str) -> None:
    with pytest.raises(PlanMismatch, match=says) as caught:
        check_plan(edit(plan), MODEL, **HERE, place="here.json")
    assert caught.value.place == "here.json"
    assert "dioe plan" in caught.value.fix


def test_stages_that_do_not_connect() -> None:
    value = PAIR.boundaries[0].value
    with pytest.raises(PlanMismatch, match=rf"stages\[0\]\.outputs: '{value}' is missing"):
        check_plan(edited(PAIR, 0, outputs=()), MODEL, **HERE)
    with pytest.raises(PlanMismatch, match=r"stages\[1\]\.inputs: 'x' is none of"):
        check_plan(edited(PAIR, 1, inputs=("x",)), MODEL, **HERE)
