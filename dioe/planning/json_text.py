"""Problems as problem files (``dioe.planning.problem_file``), and schedules as JSON.

What is written reads back as an equal problem, but for handovers between contexts that no target
has: nothing follows from those, and they are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from dioe.planning.allowed import Allowed
from dioe.planning.problem import (
    BlockNode,
    ContextKey,
    Cost,
    DeviceNode,
    Line,
    LinkCosts,
    Problem,
    TargetCosts,
)
from dioe.planning.problem_file import PROBLEM_FORMAT, PROBLEM_VERSION, TargetEntry
from dioe.planning.schedule import Schedule
from dioe.types import Basis, Target

SCHEDULE_FORMAT = "dioe-schedule"
SCHEDULE_VERSION = 1
_PLAIN = TargetEntry(Target("", ""))


def problem_to_json(problem: Problem) -> str:
    """A problem file's text, a line for each task, edge, link, …"""
    plain = _by_device(problem)
    names = [t.target.device for t in problem.targets] if plain else _target_names(problem)
    edges = _edges(problem)
    named = list(zip(names, problem.targets, strict=True))
    data = {
        "format": PROBLEM_FORMAT,
        "version": PROBLEM_VERSION,
        "devices": [_without_defaults(device, DeviceNode("")) for device in problem.devices],
        "targets": [] if plain else [_target(costs, name) for name, costs in named],
        "tasks": [_task(block, dict(named), edges is None) for block in problem.blocks],
        "edges": edges or [],
        "links": [_link(link) for link in problem.links],
        "handover": _handover(problem, {t.context: name for name, t in reversed(named)}),
        "switch": _without_defaults(problem.switch, Line()),
        "inputs": list(problem.inputs),
        "outputs": list(problem.outputs),
        "home": problem.home,
        "value_ms": {} if edges is not None else dict(problem.edge_ms),
        "limits": _limits(problem.allowed),
    }
    if edges is not None:
        own = {f"{edge['source']}>{edge['destination']}" for edge in edges}
        data["value_ms"] = {v: ms for v, ms in problem.edge_ms.items() if v not in own}
    return _text({key: value for key, value in data.items() if value or key == "tasks"})


def _link(link: LinkCosts) -> dict[str, Any]:
    ends = {"source": link.source, "destination": link.destination}
    cost = {"ms_per_byte": link.cost.ms_per_byte, "latency_ms": link.cost.fixed_ms}
    return {**ends, **cost, "queue": link.queue}


def _handover(problem: Problem, names: Mapping[ContextKey, str]) -> list[dict[str, Any]]:
    return [
        {"source": names[a], "destination": names[b], "ms": ms}
        for (a, b), ms in problem.handover.items()
        if a in names and b in names
    ]


def _limits(allowed: Allowed) -> dict[str, Any]:
    data = {key: value for key, value in asdict(allowed).items() if value is not None}
    if allowed.together is not None:
        data["together"] = [sorted(each) for each in allowed.together]
    return data


def schedule_to_json(schedule: Schedule) -> str:
    """A schedule with all its times: ``"format": "dioe-schedule"``, ``"version": 1``."""
    problem, simulation = schedule.problem, schedule.simulation
    names = _target_names(problem)
    stages = zip(schedule.placement.stages, simulation.stages, strict=True)
    runs = {run.block: run for run in schedule.blocks}
    data = {
        "format": SCHEDULE_FORMAT,
        "version": SCHEDULE_VERSION,
        "policy": schedule.policy,
        "value": schedule.value,
        "bound": schedule.bound,
        "gap": schedule.gap,
        "proved": schedule.proved,
        "found_by": schedule.found_by,
        "latency_ms": schedule.latency_ms,
        "period_ms": schedule.period_ms,
        "peak_bytes": dict(schedule.peak_bytes),
        "tried": dict(schedule.tried),
        "stages": [
            {
                "tasks": list(stage.blocks), "targets": [names[t] for t in stage.targets],
                "device": simulated.device, "lane": simulated.lane,
                "start_ms": simulated.start_ms, "end_ms": simulated.end_ms,
                "handover_ms": simulated.handover_ms,
            }
            for stage, simulated in stages
        ],
        "tasks": [
            {
                "id": name, "target": names[runs[name].target],
                "start_ms": runs[name].start_ms, "end_ms": runs[name].end_ms,
            }
            for name in (block.id for block in problem.blocks)
        ],
        "transfers": [asdict(transfer) for transfer in schedule.transfers],
    }  # fmt: skip
    return _text(data)


def _target_names(problem: Problem) -> list[str]:
    """Their texts, with a number where two have the same."""
    texts = [str(costs.target) for costs in problem.targets]
    return [text if texts.count(text) == 1 else f"{text} {i}" for i, text in enumerate(texts)]


def _by_device(problem: Problem) -> bool:
    """Whether targets are just the devices, as they are where a file has no targets."""
    made = tuple(TargetCosts(Target(device.id, "task"), {}) for device in problem.devices)
    bare = (replace(t, blocks={}, weight_bytes={}, workspace_bytes={}) for t in problem.targets)
    return bool(made) and made == tuple(bare)


def _edges(problem: Problem) -> list[dict[str, Any]] | None:
    """All values as edges, None if they aren't just that."""
    ids = [block.id for block in problem.blocks]
    found: list[dict[str, Any]] = []
    reads: dict[str, list[tuple[str, int]]] = {name: [] for name in ids}
    gives: dict[str, list[tuple[str, int]]] = {name: [] for name in ids}
    for block in problem.blocks:
        for value, nbytes in block.gives.items():
            users = problem.readers.get(value, ())
            if len(users) != 1 or value != f"{block.id}>{ids[users[0]]}":
                return None
            reads[ids[users[0]]].append((value, nbytes))
            gives[block.id].append((value, nbytes))
            edge: dict[str, Any] = {
                "source": block.id,
                "destination": ids[users[0]],
                "bytes": nbytes,
            }
            if value in problem.edge_ms:
                edge["cost_ms"] = problem.edge_ms[value]
            found.append(edge)
    for block in problem.blocks:
        if [*block.reads.items()] != reads[block.id] or [*block.gives.items()] != gives[block.id]:
            return None
    return found


def _task(block: BlockNode, targets: Mapping[str, TargetCosts], values: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": block.id,
        "kind": block.kind,
        "ops": list(block.ops),
        "ms": {
            name: _cost(costs.blocks[block.id])
            for name, costs in targets.items()
            if block.id in costs.blocks
        },
        "reads": dict(block.reads) if values else {},
        "gives": dict(block.gives) if values else {},
        "weight_bytes": block.weight_bytes,
        "weight_bytes_on": _of_block(block, {n: t.weight_bytes for n, t in targets.items()}),
        "workspace_bytes": _of_block(block, {n: t.workspace_bytes for n, t in targets.items()}),
        "group": block.group,
    }
    if block.kind == "task":
        del data["kind"]
    if block.ops == (block.id,):
        del data["ops"]
    return {key: value for key, value in data.items() if value or key in ("id", "ms", "ops")}


def _of_block(block: BlockNode, sizes: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {name: own[block.id] for name, own in sizes.items() if block.id in own}


def _cost(cost: Cost) -> Any:
    return cost.ms if cost == Cost(cost.ms, Basis.DEFAULT) else asdict(cost)


def _target(costs: TargetCosts, name: str) -> dict[str, Any]:
    entry = TargetEntry(
        costs.target, name if name != str(costs.target) else "", costs.resources, costs.mixes,
        costs.dispatch_ms, costs.entry, costs.exit, costs.copy_in, costs.copy_out,
        costs.memory_bytes,
    )  # fmt: skip
    data = _without_defaults(entry, _PLAIN)
    return {**data, "target": str(costs.target)}


def _without_defaults(item: Any, default: Any) -> dict[str, Any]:
    """A dataclass's fields as JSON values, those left out that are as in ``default``."""
    rest = asdict(default)
    return {key: value for key, value in asdict(item).items() if value != rest[key]}


def _text(data: Mapping[str, Any]) -> str:
    """JSON with a line for each item of the lists of objects."""
    lines = []
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            items = ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in value)
            lines.append(f"{json.dumps(key)}: [\n  {items}\n ]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"
