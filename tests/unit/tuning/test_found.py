"""What a search found: its names, and its way into the history and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dioe.graph import Model
from dioe.tuning.found import (
    Found,
    Lowering,
    Mixed,
    Tried,
    breaking_names,
    found_from_json,
    found_to_json,
    listed,
    lowering_of,
    plan_name,
    told_apart,
)
from dioe.tuning.known import Ratio
from dioe.types import (
    Basis,
    BlockReport,
    Plan,
    Precision,
    Precisions,
    Resources,
    Target,
    TargetReport,
    Tradeoff,
)
from tests.toys import models
from tests.toys.plans import plan_for
from tests.toys.stages import staged_plan

MODEL = Model.load(models.two_kinds())
A, B = "cpu/a/fp32", "cpu/b/fp32"
LOWERING = Lowering("cpu/a/bf16", 1, 4, ("block0 (m0)",), 1e-3, 1.25, 1.5)


def halves(cut: int = 2) -> Plan:
    ops = MODEL.op_ids
    return staged_plan(MODEL, [("a", ops[:cut]), ("b", ops[cut:])])


def single(threads: int | None = None) -> Plan:
    plan = plan_for(MODEL, A)
    return replace(plan, stages=(replace(plan.stages[0], resources=Resources(threads=threads)),))


def lowered(*kept: str) -> Plan:
    """In bf16 but for the ops that are kept as written."""
    plan = plan_for(MODEL, A)
    precisions = Precisions(Precision.BF16, dict.fromkeys(kept, Precision.FP32))
    target = Target("cpu", "a", precisions.used)
    return replace(plan, stages=(replace(plan.stages[0], target=target, precisions=precisions),))


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "name"),
    [
        (halves(), f"{A} -> {B}"),
        (single(), A),
        (single(threads=1), f"{A} on 1 thread"),
        (single(threads=3), f"{A} on 3 threads"),
        (lowered("m0"), "cpu/a/bf16+fp32"),
    ],
)
def test_names_are_targets_in_their_order(plan: Plan, name: str) -> None:
    assert plan_name(plan) == name


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        (halves(), (f"{A} -> {B}",)),
        (single(), (A,)),
        (single(threads=1), (A,)),
        (lowered("m0"), ("cpu/a/bf16+fp32",)),
    ],
)
def test_only_a_single_target_is_broken_by_its_plan(plan: Plan, names: tuple[str, ...]) -> None:
    assert breaking_names(plan) == names


def tried(plan: Plan, state: str = "ok") -> Mixed:
    return Mixed(plan, TargetReport(plan_name(plan), state))


def test_plans_of_one_name_are_told_apart_by_their_ops() -> None:
    attempts = [tried(halves(2), "failed"), tried(halves(3)), tried(halves(1)), tried(single(1))]
    assert [r.target for r in told_apart(attempts, kept=[attempts[1]])] == [
        f"{A} -> {B} (2+2 ops)", f"{A} -> {B}", f"{A} -> {B} (1+3 ops)", f"{A} on 1 thread"
    ]  # fmt: skip
    mixed = [tried(lowered("m0")), tried(lowered("m0", "g1"), "infidel")]
    assert [r.target for r in told_apart(mixed, kept=mixed[:1])] == [
        "cpu/a/bf16+fp32", "cpu/a/bf16+fp32 (2 of 4 ops lowered)"
    ]  # fmt: skip


def test_a_name_of_its_own_is_left_as_it_is() -> None:
    attempts = [tried(halves(), "failed"), tried(lowered("m0"))]
    assert told_apart(attempts, kept=[]) == [each.report for each in attempts]


# --- lowering -----------------------------------------------------------------------------------


def in_blocks(plan: Plan) -> Plan:
    """A block for each op."""
    blocks = tuple(
        BlockReport(f"block{i}", "matmul", (op,), stage.name, str(stage.target))
        for stage in plan.stages
        for i, op in enumerate(stage.ops)
    )
    return replace(plan, blocks=blocks)


def test_what_a_plan_lowers_is_told_by_blocks() -> None:
    assert lowering_of(in_blocks(lowered("m0", "g1")), 2e-3, quantised=False) == Lowering(
        "cpu/a/bf16", 2, 4, ("block0 (m0)", "block3 (g1)"), 2e-3
    )
    whole = lowering_of(in_blocks(lowered()), None, quantised=False)
    assert whole == Lowering("cpu/a/bf16", 4, 4)


def test_as_written_lowers_nothing() -> None:
    assert lowering_of(in_blocks(single()), 0.0, quantised=False) is None
    plan = in_blocks(single())
    target = Target("cpu", "a", (Precision.INT8,))
    stage = replace(plan.stages[0], target=target, precisions=Precisions(Precision.INT8))
    assert lowering_of(replace(plan, stages=(stage,)), 0.0, quantised=True) is None
    assert lowering_of(replace(plan, stages=(stage,)), 0.0, quantised=False) is not None


def test_many_blocks_are_counted() -> None:
    assert [listed(list("abcd"[:n])) for n in range(5)] == [
        "", "a", "a and b", "a and b and 1 more block", "a and b and 2 more blocks"
    ]  # fmt: skip


def test_reports_are_retold_in_their_order() -> None:
    first, second = TargetReport("a", "ok"), TargetReport("b", "ok")
    found = Found(tried=[Tried(first, stages=2), Tried(second, predicted_ms=1.0)])
    assert found.reports == [first, second]
    failed = replace(second, state="failed")
    found.retell([first, failed])
    assert found.tried == [Tried(first, stages=2), Tried(failed, predicted_ms=1.0)]


# --- keeping ------------------------------------------------------------------------------------


def test_what_was_found_comes_back_from_json() -> None:
    report = TargetReport(f"{A} -> {B}", "ok", "", 1.5, 1.75, 2.5, 0.25, 40, 2e-5, noisy=False)
    block = BlockReport(
        "block0", "matmul", ("m0",), "s0", A, 1.0, Basis.CORRECTED, 5, B, 0.5, "its own cost"
    )
    found = Found(
        plans=[Mixed(halves(), report, Ratio(0.9, "rounds")), Mixed(halves(3), report)],
        tried=[
            Tried(report, 2, 1.25, 1.75),
            Tried(replace(report, state="infidel", relative_l2=None), lowering=LOWERING),
        ],
        lowerings=(LOWERING, Lowering("cpu/b/bf16", of=4, why_not="it errs")),
        tradeoffs=(Tradeoff("bf16 in 1 of 4 blocks", 1, 1e-3, 1.25, Basis.PREDICTED),),
        blocks={A: (block,)},
        cut_at_s=2.5,
    )
    text = json.dumps(found_to_json(found), allow_nan=False)
    assert found_from_json(json.loads(text)) == found


def test_nothing_found_comes_back_too() -> None:
    assert found_from_json(json.loads(json.dumps(found_to_json(Found())))) == Found()
