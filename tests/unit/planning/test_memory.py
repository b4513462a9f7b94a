"""What placed blocks need of memories, and that nothing is placed where it can't fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.planning import block_reports, place
from dioe.planning.memory import fits, needed_bytes, overfull, segment_bytes
from dioe.planning.problem import BlockNode, Cost, Problem, TargetCosts
from dioe.planning.simulator import PlacedStage, Placement
from dioe.types import Target, UnsupportedError

SIZES = [100, 200, 400, 100]
BLOCKS = tuple(
    BlockNode(f"b{i}", "conv", (f"o{i}",), {f"v{i}": 8}, {f"v{i + 1}": 8}, size)
    for i, size in enumerate(SIZES)
)


def costs(text: str, ms: float, memory_bytes: int | None = None) -> TargetCosts:
    blocks = {block.id: Cost(ms) for block in BLOCKS}
    return TargetCosts(Target.parse(text), blocks, memory_bytes=memory_bytes)


def problem(memory_bytes: int | None) -> Problem:
    """Every block is faster on the NPU by 4 ms."""
    npu = costs("npu:0/a/fp32", 1.0, memory_bytes)
    return Problem(BLOCKS, (costs("cpu/b/fp32", 5.0), npu), ("v4",), ("v0",))


def on_npu(placement: Placement) -> list[str]:
    return [b for b, target in placement.targets.items() if target == 1]


@pytest.mark.parametrize(
    ("memory_bytes", "expected"),
    [
        (None, 4),
        (816, 4),
        (815, 3),
        (516, 2),
        (115, 0),
    ],
)
def test_the_best_that_fits(memory_bytes: int | None, expected: int) -> None:
    made = problem(memory_bytes)
    placements = place(made, max_stages=2)
    assert len(on_npu(placements[0])) == expected
    assert all(fits(made, placement) for placement in placements)


def test_stages_of_one_device_share_its_memory() -> None:
    made = problem(516)
    split = Placement(
        (PlacedStage(("b0",), (1,)), PlacedStage(("b1",), (0,)), PlacedStage(("b2", "b3"), (1, 1)))
    )
    assert needed_bytes(made, split.targets) == {"npu:0": 616, "cpu": 216}
    assert overfull(made, split.targets) == "npu:0 has 516 bytes, and 616 are needed at least"
    assert split.targets not in [placement.targets for placement in place(made, most=50)]


def test_lower_precision_takes_less() -> None:
    half = costs("npu:0/a/fp16", 1.0, 408)
    made = Problem(BLOCKS, (costs("cpu/b/fp32", 5.0), half), ("v4",), ("v0",))
    assert len(on_npu(place(made)[0])) == 4
    full = replace(half, target=Target.parse("npu:0/a/fp32"))
    made = Problem(BLOCKS, (costs("cpu/b/fp32", 5.0), full), ("v4",), ("v0",))
    assert len(on_npu(place(made)[0])) == 2


def test_nothing_fits_anywhere() -> None:
    made = Problem(BLOCKS, (costs("npu:0/a/fp32", 1.0, 115),), ("v4",), ("v0",))
    with pytest.raises(UnsupportedError, match="b0"):
        place(made)
    made = Problem(BLOCKS, (costs("npu:0/a/fp32", 1.0, 416),), ("v4",), ("v0",))
    with pytest.raises(UnsupportedError, match="fits into the memories"):
        place(made)


def test_blocks_say_that_memory_kept_them_away() -> None:
    made = problem(516)
    placement = Placement((PlacedStage(("b0", "b1"), (0, 0)), PlacedStage(("b2", "b3"), (1, 1))))
    reports = {r.block: r for r in block_reports(made, placement)}
    assert reports["b0"].target == "cpu/b/fp32"
    assert reports["b0"].reason == "memory: npu:0 has 516 bytes, and 616 are needed at least"
    assert reports["b2"].reason.startswith("its own cost")


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), min_size=1, max_size=8))
def test_segments_need_what_their_blocks_do(sizes: list[tuple[int, int]]) -> None:
    blocks = tuple(
        BlockNode(f"b{i}", "conv", (f"o{i}",), {f"v{i}": value}, {f"v{i + 1}": value}, weight)
        for i, (weight, value) in enumerate(sizes)
    )
    target = TargetCosts(Target.parse("npu:0/a/fp16"), {})
    made = Problem(blocks, (target,), (f"v{len(blocks)}",), ("v0",))
    found = segment_bytes(made, range(len(blocks)), [0])
    for start in range(len(blocks)):
        for end in range(start + 1, len(blocks) + 1):
            targets = dict.fromkeys((b.id for b in blocks[start:end]), 0)
            assert found[start, end] == needed_bytes(made, targets)["npu:0"]
    assert not np.tril(found).any()


def test_two_backends_of_one_device_share_its_memory() -> None:
    """The fastest is on the CPU all over, where all of it doesn't fit, in however many stages."""
    cpu = [costs(f"cpu/{name}/fp32", ms, 700) for name, ms in (("b", 1.0), ("c", 1.1))]
    npu = costs("npu:0/a/fp32", 9.0, 300)
    made = Problem(BLOCKS, (*cpu, npu), ("v4",), ("v0",))
    assert on(made, place(made)[0], "npu:0") == ["b1"]
    with pytest.raises(UnsupportedError, match="fits into the memories"):
        place(made, max_stages=2)
    with pytest.raises(UnsupportedError, match="fits into the memories"):
        place(replace(made, targets=tuple(cpu)))


def on(problem: Problem, placement: Placement, device: str) -> list[str]:
    return [b for b, t in placement.targets.items() if problem.targets[t].target.device == device]
