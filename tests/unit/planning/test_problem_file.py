"""Problem files: by hand, there and back, and what is wrong in them; schedules as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from dioe.planning import (
    Cost,
    Line,
    Problem,
    Tables,
    load_problem,
    problem_from_json,
    problem_to_json,
    schedule_to_json,
    solve,
    task_problem,
    violations,
)
from dioe.types import Basis, InputError
from tests.unit.planning import problem_strategies as some

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

BY_HAND = """{
 "format": "dioe-problem", "version": 1,
 "devices": [{"id": "cpu", "lanes": 2}, {"id": "gpu", "memory_bytes": 100},
             {"id": "tape", "lanes": null}],
 "tasks": [
  {"id": "join", "ms": {"cpu": 3}},
  {"id": "load", "ms": {"cpu": 2, "tape": 1}, "workspace_bytes": 5},
  {"id": "left", "ms": {"cpu": 9, "gpu": 1}, "weight_bytes": 30},
  {"id": "right", "ms": {"cpu": 9, "gpu": {"ms": 2, "basis": "measured", "runs": 7}}}
 ],
 "edges": [
  {"source": "load", "destination": "left", "bytes": 1000, "value": "page"},
  {"source": "load", "destination": "right", "bytes": 1000, "value": "page"},
  {"source": "left", "destination": "join", "cost_ms": 0.5},
  {"source": "right", "destination": "join", "bytes": 8}
 ],
 "links": [{"source": "cpu", "destination": "gpu", "bandwidth_gbps": 2, "latency_ms": 0.25,
            "queue": "pcie", "both_ways": true}],
 "groups": {"same": ["left", "right"]},
 "pins": {"load": "cpu"},
 "limits": {"together": [["cpu", "gpu"]], "latency_ms": 50}
}"""


def test_by_hand() -> None:
    problem = problem_from_json(BY_HAND)
    assert [block.id for block in problem.blocks] == ["load", "left", "right", "join"]
    load, left, right, join = problem.blocks
    assert load.gives == {"page": 1000}
    assert left.reads == right.reads == {"page": 1000}
    assert join.reads == {"left>join": 0, "right>join": 8}
    assert (load.group, left.group, right.group) == ("", "same", "same")
    assert left.weight_bytes == 30
    assert [str(costs.target) for costs in problem.targets] == [
        "cpu/task/fp32", "gpu/task/fp32", "tape/task/fp32",
    ]  # fmt: skip
    cpu, gpu, tape = problem.targets
    assert cpu.blocks["load"] == Cost(2, Basis.DEFAULT)
    assert gpu.blocks == {"left": Cost(1, Basis.DEFAULT), "right": Cost(2, Basis.MEASURED, 7)}
    assert tape.blocks == {}  # pinned elsewhere
    assert cpu.workspace_bytes == tape.workspace_bytes == {"load": 5}
    assert [device.lanes for device in problem.devices] == [2, 1, None]
    there, back = problem.links
    assert (there.source, there.destination, there.queue) == ("cpu", "gpu", "pcie")
    assert (back.source, back.destination) == ("gpu", "cpu")
    assert there.cost == back.cost == Line(0.25, 0.5e-6)
    assert problem.edge_ms == {"left>join": 0.5}
    assert problem.allowed.together == (frozenset({"cpu", "gpu"}),)
    assert problem.allowed.latency_ms == 50
    assert problem_from_json(problem_to_json(problem)) == problem
    schedule = solve(problem)
    assert violations(problem, schedule) == ()


@quick
@given(some.problems())
def test_there_and_back(problem: Problem) -> None:
    again = problem_from_json(problem_to_json(problem))
    assert again == problem
    assert Tables(again).ms == Tables(problem).ms
    assert list(again.network.values) == list(problem.network.values)


@quick
@given(some.task_problems())
def test_tasks_there_and_back(problem: Problem) -> None:
    text = problem_to_json(problem)
    assert problem_from_json(text) == problem
    assert '"targets"' not in text


def test_tasks_have_edges() -> None:
    problem = task_problem([[1, 2], [2, 1]], [(0, 1, 8)], edge_ms={(0, 1): 0.25})
    data = json.loads(problem_to_json(problem))
    assert data["edges"] == [{"source": "t0", "destination": "t1", "bytes": 8, "cost_ms": 0.25}]
    assert data["tasks"][0] == {"id": "t0", "ms": {"machine:0": 1.0, "machine:1": 2.0}}
    assert "value_ms" not in data


def changed(**changes: Any) -> str:
    data = json.loads(BY_HAND)
    for path, value in changes.items():
        at, *steps = path.split("__")
        owner: Any = data
        for step in steps:
            owner, at = owner[int(at) if at.isdigit() else at], step
        owner[int(at) if isinstance(owner, list) else at] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "Expecting property name"),
        ("[]", "not a problem file"),
        (changed(format="dioe-plan"), "not a problem file"),
        (changed(version=2), "version 2, this DIOE reads 1"),
        (changed(task=[]), "task: unknown key"),
        (changed(tasks=[], edges=[], groups={}, pins={}), "there are no blocks"),
        (changed(tasks__0__mss={}), r"tasks\[0\].mss: unknown key"),
        (changed(tasks__0__ms={"cpu": "3"}), r"tasks\[0\].ms.cpu: float is wanted"),
        (changed(tasks__0__ms={"cpu": -3}), r"tasks\[0\].ms.cpu: -3(.0)? is below 0"),
        (changed(tasks__0__ms={"npu": 3}), r"tasks\[0\].ms: no target or device 'npu'.*: cpu, gpu"),
        (changed(tasks__0__id="left"), "tasks: two have one id"),
        (changed(tasks__1__weight_bytes=-1), r"tasks\[1\].weight_bytes: -1 is below 0"),
        (changed(edges__0__source="lod"), r"edges\[0\].source: no task 'lod'"),
        (changed(edges__0__bytes=8), r"edges\[1\].bytes: 'page' has two sizes"),
        (changed(edges__1__destination="left"), r"edges\[1\]: 'left' reads 'page' twice"),
        (changed(edges__2__destination="load"), "'(load|left)' waits for itself"),
        (changed(links__0__ms_per_byte=1), r"links\[0\]: bandwidth_gbps or ms_per_byte, not both"),
        (changed(links__0__bandwidth_gbps=0), r"links\[0\].bandwidth_gbps: 0.0 is no bandwidth"),
        (changed(links__0__source="npu"), "'npu' is none of the devices"),
        (changed(groups={"same": ["a"]}), "groups.same: no task 'a'"),
        (changed(pins={"a": "cpu"}), "pins: no task 'a'"),
        (changed(pins={"load": ["cpu", "npu"]}), "pins.load: no target or device 'npu'"),
        (changed(home="npu"), "'npu' is none of the devices"),
        (changed(limits={"max_stage": 3}), "limits.max_stage: unknown key"),
        (changed(limits={"latency_ms": -3}), r"limits.latency_ms: -3(.0)? is below 0"),
        (changed(devices__0__lanes=0), "a device has no lane"),
        (
            changed(targets=[{"target": "cpu/a/fp32"}, {"target": "cpu/a/fp32"}]),
            "targets: two are called 'cpu/a/fp32'",
        ),
        (changed(targets=[{"target": "cpu/a"}]), r"targets\[0\].target: 'cpu/a' is not a target"),
        (
            changed(
                targets=[{"target": "cpu/a/fp32"}],
                pins={},
                handover=[{"source": "cpu", "destination": "gpu", "ms": 1}],
                **{f"tasks__{i}__ms": {"cpu": 1} for i in range(4)},
                tasks__1__workspace_bytes=0,
            ),
            r"handover\[0\].destination: no target or device 'gpu'",
        ),
    ],
)
def test_what_is_wrong(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause) as raised:
        problem_from_json(text, place="p.json")
    assert raised.value.place == "p.json"
    assert "planning.md" in (raised.value.fix or "")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "problem.json"
    path.write_text(BY_HAND, encoding="utf-8")
    assert load_problem(path) == load_problem(str(path)) == problem_from_json(BY_HAND)
    with pytest.raises(InputError, match="can't read the problem") as raised:
        load_problem(tmp_path / "none.json")
    assert "none.json" in str(raised.value.place)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="can't read the problem"):
        load_problem(path)


def test_a_schedule() -> None:
    schedule = solve(problem_from_json(BY_HAND))
    data = json.loads(schedule_to_json(schedule))
    assert (data["format"], data["version"]) == ("dioe-schedule", 1)
    assert data["value"] == data["latency_ms"] == schedule.latency_ms
    assert [task["id"] for task in data["tasks"]] == ["load", "left", "right", "join"]
    assert max(task["end_ms"] for task in data["tasks"]) <= data["latency_ms"]
    named = {task["id"]: task["target"] for task in data["tasks"]}
    assert named == schedule.assignment
    assert data["peak_bytes"] == dict(schedule.peak_bytes)
    assert len(data["transfers"]) == len(schedule.transfers)
    assert [name for stage in data["stages"] for name in stage["tasks"]] == [
        name for stage in schedule.placement.stages for name in stage.blocks
    ]
