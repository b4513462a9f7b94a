"""What stages need of memories before they are loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dioe.graph import Model, OpGraph, find_blocks
from dioe.planning import check_memory, over_memory, stage_bytes
from dioe.planning.plan_memory import memory_caps
from dioe.types import OutOfMemory, Precision, Precisions, Resources, Stage, Target
from tests.toys import models

MODEL = Model.load(models.two_kinds(width=64))
GRAPH = OpGraph.build(MODEL)
OP_BYTES = 4 * 64 * 64
"""Weights of a block at the least."""


def stage(name: str, device: str, ops: tuple[str, ...], limit: int | None = None) -> Stage:
    target = Target(device, "toy")
    return Stage(name, target, ops, (), (), resources=Resources(memory_limit_bytes=limit))


def test_the_weights_and_the_largest_block() -> None:
    whole = stage("s0", "cpu", MODEL.placed_op_ids)
    needed = stage_bytes(GRAPH, [whole])["cpu"]
    assert MODEL.weight_bytes < needed < MODEL.weight_bytes + OP_BYTES
    half = replace(whole, precisions=Precisions(Precision.BF16))
    assert stage_bytes(GRAPH, [half])["cpu"] == needed / 2


def test_stages_of_one_device_add_up() -> None:
    first, *rest = find_blocks(GRAPH)
    parts = [
        stage("s0", "gpu:0", first.ops, 100_000),
        stage("s1", "cpu", tuple(op for block in rest[:1] for op in block.ops)),
        stage("s2", "gpu:0", tuple(op for block in rest[1:] for op in block.ops), 90_000),
    ]
    needed = stage_bytes(GRAPH, parts)
    assert needed.keys() == {"cpu", "gpu:0"}
    assert needed["gpu:0"] > 2 * OP_BYTES
    assert memory_caps(parts) == {"gpu:0": 90_000}
    assert over_memory(GRAPH, parts) == ""


def test_what_is_too_much_and_by_how_much() -> None:
    whole = stage("s0", "cpu", MODEL.placed_op_ids)
    needed = stage_bytes(GRAPH, [whole])["cpu"]
    exact = stage("s0", "cpu", MODEL.placed_op_ids, int(needed))
    check_memory(GRAPH, [exact], "here")
    check_memory(GRAPH, [whole], "here")
    small = stage("s0", "cpu", MODEL.placed_op_ids, int(needed) - 1024)
    with pytest.raises(OutOfMemory, match=r"here: cpu may use .* are needed: 1 KiB too much"):
        check_memory(GRAPH, [small], "here")
