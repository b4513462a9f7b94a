"""``dioe.plan`` of several models with Python steps between them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import dioe
from dioe.hardware import Pool
from dioe.tuning.modelled_work import work_of
from dioe.types import InputError
from tests.toys.models import parse
from tests.unit.tuning.pools import device, planned, tower


def ask(step: Any, seen: Any) -> Any:
    return step({"x": seen})


def shout(y: Any) -> str:
    return str(np.sum(y))


def talk(**more: Any) -> dioe.Pipeline:
    return dioe.Pipeline(
        {"see": tower(2), "ask": ask, "answer": tower(3, seed=1), "shout": shout},
        edges=[("see.y", "ask.seen"), ("ask.y", "shout.y")],
        calls={"ask.step": "answer"},
        **more,
    )


WORDS = {"see.x": (256, 512), "answer.x": (4, 512)}


def test_a_pipeline_is_one_problem() -> None:
    plan = planned(
        talk(), shapes=WORDS, runs={"answer": 10}, cost_ms={"ask": 2.0, "shout": {"cpu": 1.0}}
    )
    where = plan.schedule.assignment
    assert where["ask"] == where["shout"] == "cpu/python/fp32"
    assert {name.partition(".")[0] for name in where} == {
        "see",
        "ask",
        "ask (end)",
        "answer",
        "shout",
    }
    answers = {target for block, target in where.items() if block.startswith("answer.")}
    assert len({target.partition("/")[0] for target in answers}) == 1
    assert plan.devices[0].busy_ms >= 3.0 - 1e-9
    assert "answer runs 10 times for each request, all of it on one device" in plan.notes


def test_runs_cost_as_often_as_they_are() -> None:
    def answer_ms(runs: int) -> float:
        plan = planned(talk(), shapes=WORDS, runs={"answer": runs}, cost_ms={"ask": 1, "shout": 1})
        gpu = next(t for t in plan.schedule.problem.targets if t.target.device == "gpu:0")
        own = sum(cost.ms for b, cost in gpu.blocks.items() if b.startswith("answer."))
        return own + gpu.dispatch_ms

    assert answer_ms(10) == pytest.approx(10 * answer_ms(1))


def test_values_of_calls_count_once_a_run() -> None:
    work = work_of(talk(), WORDS, {"answer": 10})
    (block,) = [node for node in work.nodes if node.id == "ask"]
    assert block.gives == {"ask to answer.x": 10 * 4 * 512 * 4}
    (end,) = [node for node in work.nodes if node.id == "ask (end)"]
    assert end.reads == {"answer.y": 10 * 4 * 512 * 4}


def test_what_isnt_known_of_steps_is_told() -> None:
    plan = planned(talk(), shapes=WORDS)
    assert "what ask takes isn't known, and counts as nothing: cost_ms" in plan.notes
    assert any("taken to call answer once" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"runs": {"nobody": 2}}, "no model of the pipeline"),
        ({"runs": {"answer": 0}}, "runs 0 times"),
        ({"shapes": {"x": (1, 512)}}, "is no input of a model"),
        ({"cost_ms": {"ask": -1.0}}, "takes -1.0 on cpu"),
        ({"cost_ms": {"ask": {"gpu:9": 1.0}}}, "no device 'gpu:9'"),
        ({"hardware": Pool((device("gpu:0"),))}, "no CPU to run it"),
    ],
)
def test_what_is_wrong_with_a_pipeline_is_told(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        planned(talk(), **{"shapes": WORDS, **options})


def test_pins_of_a_pipeline_name_the_node() -> None:
    plan = planned(talk(), shapes=WORDS, pins={"see": "cpu", "answer.mul0": "gpu:0"})
    where = plan.schedule.assignment
    assert {t for b, t in where.items() if b.startswith("see.")} == {"cpu/*/fp32"}
    assert where["answer.block0"] == "gpu:0/*/fp32"


def test_outputs_that_are_inputs_or_constants_are_wired_through() -> None:
    same = parse("g (float[2, 4] x) => (float[2, 4] x, float[2, 4] y) { y = Relu(x) }")
    pipeline = dioe.Pipeline(
        {"first": same, "second": parse("g (float[2, 4] a) => (float[2, 4] b) { b = Exp(a) }")},
        edges=[("first.x", "second.a")],
    )
    work = work_of(pipeline)
    assert {v for node in work.nodes for v in node.reads} == {"first.x"}
    assert set(work.outputs) == {"first.y", "second.b"}


def test_steps_that_take_no_time_are_no_number_in_json() -> None:
    pipeline = dioe.Pipeline({"one": shout})
    plan = planned(pipeline, shapes={}, cost_ms={"one": 0})
    assert plan.throughput_per_s == math.inf
    assert json.loads(plan.to_json())["throughput_per_s"] is None
