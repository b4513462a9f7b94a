"""What a problem may be, and the problem of a real graph."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from dioe.graph import Model, OpGraph, find_blocks
from dioe.planning import BlockNode, ContextKey, Cost, Line, Problem, TargetCosts, build_problem
from dioe.types import Basis, Precision, Resources, Target
from tests.unit.graph import models

X = {"x": 16}
BLOCKS = (
    BlockNode("b0", "conv", ("o0",), X, {"h": 8, "g": 4}),
    BlockNode("b1", "conv", ("o1",), {"h": 8}, {"y": 4}),
)
COSTS = {"b0": Cost(1.0), "b1": Cost(2.0)}


def target(text: str = "cpu/a/fp32", **changes: Any) -> TargetCosts:
    return TargetCosts(Target.parse(text), **{"blocks": COSTS, **changes})


def problem(**changes: Any) -> Problem:
    given: dict[str, Any] = {
        "blocks": BLOCKS,
        "targets": (target(),),
        "outputs": ("y", "g"),
        "inputs": ("x",),
    }
    return Problem(**given | changes)


def test_who_makes_and_reads_what() -> None:
    assert problem().producers == {"h": 0, "g": 0, "y": 1}
    assert problem().readers == {"x": (0,), "h": (1,)}
    assert problem().positions == {"b0": 0, "b1": 1}


def test_which_targets_share_a_stage() -> None:
    targets = (
        target("cpu/a/bf16", mixes=True),
        target("cpu/b/fp32"),
        target("cpu/a/fp32", mixes=True),
        target("cpu/b/bf16"),
        target("cpu/a/int8"),
        target("cpu/a/fp32", mixes=True, resources=Resources(threads=1)),
    )
    found = problem(targets=targets)
    assert found.groups == ((0, 2), (1,), (3,), (4,), (5,))
    assert found.group_of == (0, 1, 0, 2, 3, 4)


def test_handover_is_between_contexts() -> None:
    a, b = target("cpu/a/fp32"), target("cpu/b/fp32")
    other = target("cpu/a/bf16")
    found = problem(
        targets=(a, b, other),
        handover={(a.context, b.context): 0.5, (a.context, a.context): 0.125},
    )
    assert a.context == ContextKey("cpu", "a", Resources())
    assert found.handover_ms(0, 1) == found.handover_ms(2, 1) == 0.5
    assert found.handover_ms(1, 0) == 0.0
    assert found.handover_ms(0, 2) == 0.125


def test_lines() -> None:
    assert Line(0.5, 0.25).ms(8) == 2.5
    assert Line().ms(10**9) == 0.0


def test_what_was_learnt_makes_a_new_problem() -> None:
    before = problem(targets=(target(), target("cpu/b/fp32", blocks={"b0": Cost(3.0)})))
    corrected = Cost(2.5, Basis.CORRECTED, 12)
    after = before.with_costs(1, {"b1": corrected})
    assert after.targets[1].blocks == {"b0": Cost(3.0), "b1": corrected}
    assert after.targets[0] == before.targets[0]
    assert before.targets[1].blocks == {"b0": Cost(3.0)}
    assert replace(after, switch=Line(1.0)).targets == after.targets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": ()}, "no blocks"),
        ({"blocks": (BLOCKS[0], replace(BLOCKS[1], id="b0"))}, "two blocks have one id"),
        ({"blocks": BLOCKS[::-1]}, "block 'b1' reads 'h' before it is made"),
        ({"inputs": ()}, "block 'b0' reads 'x' before it is made"),
        ({"blocks": (BLOCKS[0], replace(BLOCKS[1], gives={"g": 1}))}, "value 'g' is made twice"),
        ({"targets": ()}, "no targets"),
        ({"targets": (target(), target(dispatch_ms=1.0))}, "two of one context and precision"),
        ({"targets": (target("cpu/a/bf16+fp32"),)}, "has several precisions"),
        ({"targets": (target(blocks={**COSTS, "b9": Cost(1.0)}),)}, "'b9', no such block"),
        ({"targets": (target(blocks={"b0": Cost(math.nan)}),)}, "a cost that is no time"),
        ({"targets": (target(dispatch_ms=-1.0),)}, "a cost that is no time"),
        ({"targets": (target(entry=Line(0.0, math.inf)),)}, "a cost that is no time"),
        ({"switch": Line(-1.0)}, "a switch has a cost that is no time"),
    ],
)
def test_contradictions(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem(**changes)


@pytest.mark.parametrize("make", [models.conv_net, models.attention_net, models.control_net])
def test_the_problem_of_a_graph(make: Any) -> None:
    graph = OpGraph.build(Model.load(make()))
    blocks = find_blocks(graph)
    costs = {block.id: Cost(1.0) for block in blocks}
    found = build_problem(graph, blocks, [target(blocks=costs)], switch=Line(0.5))
    assert [(b.id, b.kind, b.ops) for b in found.blocks] == [(b.id, b.kind, b.ops) for b in blocks]
    made = {value for block in found.blocks for value in block.gives}
    assert made >= graph.outputs
    assert not made & graph.constants.keys()
    assert {v for b in found.blocks for v in b.reads} - made <= set(found.inputs)
    assert found.switch == Line(0.5)


def test_sizes_are_those_of_the_values() -> None:
    graph = OpGraph.build(Model.load(models.conv_net()), {"x": (2, 3, 8, 8)})
    blocks = find_blocks(graph)
    found = build_problem(graph, blocks, [target(blocks={})])
    assert found.blocks[0].reads == {"x": 2 * 3 * 8 * 8 * 4}
    assert found.blocks[-1].gives == {"y": 2 * 5 * 4}
    unbound = OpGraph.build(Model.load(models.conv_net()))
    assert build_problem(unbound, find_blocks(unbound), [target(blocks={})]).blocks[0].reads == {
        "x": 0
    }
    assert found.targets[0].precision is Precision.FP32
