"""A plan as a person reads it, narrow and wide."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from dioe.cli.plan_text import MANY_BLOCKS, is_mixed, print_explained, print_stages
from dioe.tuning.reports import chosen_name
from dioe.types import (
    Basis,
    BlockReport,
    Boundary,
    Plan,
    Precision,
    Precisions,
    Resources,
    Stage,
    Target,
    TargetReport,
    Tradeoff,
)

BF16, FP32, ORT = "cpu/openvino/bf16", "cpu/openvino/fp32", "cpu/onnxruntime/fp32"
MIXED = "cpu/openvino/bf16+fp32"
REASON = "its own cost: 0.300 ms more on cpu/onnxruntime/fp32"


def block(number: int, target: str, runner_up: str, **other: object) -> BlockReport:
    fields = {
        "block": f"block{number}", "kind": "conv", "ops": (f"Conv.{number}", f"Relu.{number}"),
        "stage": "s0", "target": target, "cost_ms": 0.25, "basis": Basis.CORRECTED, "runs": 40,
        "runner_up": runner_up, "difference_ms": 0.1 + number / 100, "reason": REASON,
    }  # fmt: skip
    return BlockReport(**(fields | other))  # type: ignore[arg-type]


def plan_of(count: int = 3) -> Plan:
    """Two stages, of which the first mixes precisions; ``count`` blocks and one more."""
    blocks = [block(i, BF16 if i else FP32, ORT) for i in range(count)]
    last = block(
        count, ORT, "", kind="recurrent", ops=("LSTM [tiny]",), stage="s1", difference_ms=None,
        reason=f"only {ORT} runs it", basis=Basis.MEASURED, runs=7, cost_ms=2.5,
    )  # fmt: skip
    ops = tuple(op for each in blocks for op in each.ops)
    stages = (
        Stage(
            "s0", Target.parse(MIXED), ops, ("x",), ("h",),
            Precisions(Precision.BF16, dict.fromkeys(blocks[0].ops, Precision.FP32)),
            Resources(threads=2, spin=False), predicted_ms=1.5, basis=Basis.MEASURED,
        ),
        Stage(
            "s1", Target.parse(ORT), ("LSTM [tiny]",), ("h",), ("y",),
            resources=Resources(threads=1, spin=False), predicted_ms=2.75,
        ),
    )  # fmt: skip
    name = f"{MIXED} -> {ORT}"
    return Plan(
        model_sha256="0" * 64,
        hardware="none",
        stages=stages,
        boundaries=(Boundary("h", "s0", "s1", 123456, 0.043),),
        max_relative_l2=0.01,
        relative_l2=0.0042,
        predicted_ms=4.25,
        basis=Basis.MEASURED,
        candidates=(
            TargetReport(ORT, "ok", p50_ms=6.5, p90_ms=7.0, p99_ms=8.0, runs=100, relative_l2=0.0),
            TargetReport(name, "ok", p50_ms=4.25, p90_ms=5.0, p99_ms=6.0, runs=90),
            TargetReport(FP32, "unsupported", "no LSTM [here]"),
        ),
        blocks=(*blocks, last),
        tradeoffs=(
            Tradeoff("all [but] none", 9, 0.05, 3.9, Basis.PREDICTED),
            Tradeoff("nothing", 0, 1e-7, 6.5, Basis.MEASURED),
        ),
        notes=("a [note]",),
    )


def shown(plan: Plan, columns: int = 100, *, every_block: bool = False) -> str:
    out = Console(file=io.StringIO(), width=columns, highlight=False)
    print_explained(out, plan, every_block=every_block)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= columns
    return str(text)


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("columns", [80, 200])
def test_it_tells_everything(columns: int) -> None:
    found = words(shown(plan_of(), columns))
    for text in (
        f"plan: {MIXED} -> {ORT}, 4.25 ms (measured), error 4.2e-03 (limit 1.0e-02)",
        "bf16 4, fp32 2", "120.6 KiB", "0.043", "4.2e-03",
        "corrected n=40", "measured n=7", "+0.110", "LSTM [tiny]", "2 from Conv.0",
        "unsupported: no LSTM [here]", "note: a [note]", "all [but] none", "5.0e-02",
        "errors above the limit",
    ):  # fmt: skip
        assert text in found, text
    assert words(REASON)[:12] in found
    assert f"only {ORT} runs it" in found or f"only {ORT}" in found


def test_the_plan_is_marked_among_its_candidates() -> None:
    plan = plan_of()
    assert chosen_name(plan) == f"{MIXED} -> {ORT}"
    assert f"> {MIXED} -> {ORT}" in words(shown(plan, 120))
    assert is_mixed(plan)
    stage = replace(plan.stages[1], inputs=("x",))
    single = replace(plan, stages=(stage,), boundaries=())
    assert not is_mixed(single)
    assert chosen_name(single) == ORT
    few = replace(single, candidates=(TargetReport(f"{ORT} on 1 thread", "ok", p50_ms=1.0),))
    assert chosen_name(few) == f"{ORT} on 1 thread"


@pytest.mark.parametrize("columns", [80, 200])
def test_neighbours_that_fared_alike_are_folded_where_there_are_many(columns: int) -> None:
    many = plan_of(MANY_BLOCKS)
    found = words(shown(many, columns))
    assert f"{MANY_BLOCKS + 1} blocks, neighbours folded" in found
    assert f"block1 … block{MANY_BLOCKS - 1}" in found
    assert "block0" in found  # on another target than its neighbours
    assert "+0.110 to +0.290" in found
    assert f"{2 * (MANY_BLOCKS - 1)} from Conv.1" in found
    assert "4.75" in found  # 19 of 0.25 ms
    assert f"its own cost ×{MANY_BLOCKS - 1}; closest block1:" in found
    everything = words(shown(many, columns, every_block=True))
    assert "folded" not in everything
    for number in range(MANY_BLOCKS + 1):
        assert f"block{number}" in everything


def test_the_gap_to_the_bound_is_told_where_it_is_known() -> None:
    blocks = tuple(replace(each, least_ms=0.5) for each in plan_of().blocks)
    told = shown(replace(plan_of(), predicted_ms=4.0, blocks=blocks), 100)
    assert "bound: 2.00 ms (predicted), all blocks at their cheapest: 50% to gain" in told
    assert "bound:" not in shown(plan_of(), 100)


def test_a_plan_of_whole_targets_says_so() -> None:
    plan = replace(plan_of(), blocks=(), tradeoffs=(), boundaries=(), candidates=(), notes=())
    found = shown(plan)
    assert "only whole targets were compared" in found
    assert "Error against latency" not in found
    assert "Boundaries" not in found


def test_nothing_in_a_plan_steers_the_terminal() -> None:
    plan = plan_of(1)
    bad = "\x1b[31mred[bold]"
    stages = (replace(plan.stages[0], name=bad), replace(plan.stages[1], name="s1"))
    blocks = (replace(plan.blocks[0], block=bad, reason=bad, runner_up=bad),)
    found = shown(
        replace(
            plan, stages=stages, blocks=blocks, notes=(bad,),
            boundaries=(Boundary(bad, bad, "s1"),), candidates=(TargetReport(bad, "ok", bad),),
            tradeoffs=(Tradeoff(bad, 0, 0.0, 1.0),),
        ),
        200,
    )  # fmt: skip
    assert "\x1b" not in found
    assert found.count(r"\x1b[31mred[bold]") >= 6


def test_a_plan_has_its_stages_below_each_other_where_there_is_no_room() -> None:
    lines = shown(plan_of(), 80).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f" > {MIXED} ->"))
    assert lines[first + 1].strip() == ORT
    assert lines[first + 1].startswith("   cpu/")
    assert any(
        line.startswith(f" > {MIXED} -> {ORT} ok") for line in shown(plan_of(), 120).split("\n")
    )


def test_what_tells_plans_apart_is_on_a_line_of_its_own_where_there_is_no_room() -> None:
    named = TargetReport(f"{MIXED} (158 of 330 ops lowered)", "ok", p50_ms=5.0)
    plan = replace(plan_of(), candidates=(named,))
    lines = shown(plan, 80).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"   {MIXED} "))
    assert lines[first + 1].rstrip() == "   (158 of 330 ops lowered)"


@pytest.mark.parametrize("columns", [80, 200])
def test_a_target_of_several_precisions_is_on_one_line(columns: int) -> None:
    stages = shown(plan_of(), columns).partition("Targets")[0]
    assert f" s0    {MIXED} " in stages


def test_text_has_no_spaces_at_its_ends() -> None:
    lines = [line for line in shown(plan_of(), 60).splitlines() if "ORT" in line or "own" in line]
    assert lines
    assert all(line == line.rstrip() for line in lines)


def test_points_of_the_curve_are_marked_without_colours() -> None:
    plan = plan_of()
    mine = Tradeoff("bf16 in 2 of 3 blocks", 4, 0.0042, 4.3)
    lines = shown(replace(plan, tradeoffs=(*plan.tradeoffs, mine)), 100).splitlines()
    marks = {line[:3].strip() for line in lines if "in 2 of 3" in line}
    assert marks == {">"}
    assert any(line.startswith(" ! 5.0e-02") for line in lines)
    assert any(line.startswith("   1.0e-07") for line in lines)


def test_stages_that_dont_add_up_to_the_plan_are_explained() -> None:
    first, second = plan_of().stages
    measured = tuple(replace(s, basis=Basis.MEASURED) for s in (first, second))
    told = "stages: as first tried"
    assert told not in words(shown(replace(plan_of(), stages=measured)))
    assert told in words(shown(replace(plan_of(), stages=measured, predicted_ms=5.0)))
    assert told not in words(shown(plan_of()))


def test_what_stages_took_stands_beside_what_was_predicted() -> None:
    out = Console(file=io.StringIO(), width=100, highlight=False)
    print_stages(out, plan_of(), [1.625, None])
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert any(line.split()[-2:] == ["1.50", "1.62"] for line in lines)
    assert any(line.split()[-2:] == ["2.75", "-"] for line in lines)
