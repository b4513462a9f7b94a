"""The benchmark of mixed plans: what is claimed, how it is judged, and the ideal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks import mixed
from benchmarks.mixed import (
    CLAIMS,
    HALVES,
    PLAN,
    Outcome,
    as_written,
    best_written,
    details,
    ideal_of,
    outcome,
    table,
)
from dioe.profiling import Round, Timing
from dioe.tuning.bench import NOISY
from dioe.types import BlockReport, Plan, Precision, Precisions, Stage, Target, Tradeoff

FP32, BF16 = Precision.FP32, Precision.BF16
WRITTEN = Target("cpu", "openvino")
LOWERED = Target("cpu", "openvino", (BF16, FP32))
NATIVE = Target("cpu", "onnxruntime")


def timing(*medians_ms: float) -> Timing:
    return Timing([Round(np.array([ms]), noisy=False) for ms in medians_ms])


def plan(*targets: Target) -> Plan:
    stages = [
        Stage(
            f"s{i}", target, (f"op{i}", f"last{i}"), (f"v{i}",), (f"v{i + 1}",),
            Precisions(target.precisions[0], {f"last{i}": target.precisions[-1]}),
        )
        for i, target in enumerate(targets)
    ]  # fmt: skip
    blocks = (
        BlockReport("b0", "conv", ("op0",), "s0", "cpu/openvino/bf16"),
        BlockReport("b1", "matmul", ("last0",), "s0", "cpu/openvino/fp32"),
    )
    curve = (Tradeoff("bf16 in 1 of 2 blocks", 1, 0.004, 7.5),)
    return Plan("sha", "hardware", tuple(stages), blocks=blocks, tradeoffs=curve)


def found(
    claim: str,
    *targets: Target,
    speedup: float = 1.5,
    error: float | None = 0.005,
    notes: tuple[str, ...] = (),
    warm_s: float = 0.1,
) -> Outcome:
    return Outcome(
        claim, 10.0, "cpu/openvino/fp32", 10.0 / speedup, speedup, error, plan(*targets), notes,
        10.0, warm_s,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcome_", "words"),
    [
        (found("pair", NATIVE, WRITTEN), []),
        (found("pair", NATIVE, WRITTEN, speedup=1.04), ["×1.04"]),
        (found("pair", WRITTEN), ["1 backend"]),
        (found("det", LOWERED), []),
        (found("det", LOWERED, speedup=0.99), ["×0.99"]),
        (found("det", LOWERED, error=0.02), ["above 0.01"]),
        (found("det", LOWERED, error=None), ["above 0.01"]),
        (found("det", LOWERED, speedup=1.02), ["×1.02, not ×1.03"]),
        (found("det", WRITTEN, speedup=1.01), ["×1.01", "nothing is lowered"]),
        (found("det", WRITTEN, speedup=1.04), ["nothing is lowered"]),
        (found("det", WRITTEN, speedup=1.0, notes=("no block may be lowered",)), ["×", "nothing"]),
        (found("det-loose", LOWERED, speedup=1.2), ["not ×1.25"]),
        (found("rec", LOWERED), []),
        (found("rec", WRITTEN, speedup=0.98, notes=("no block may be lowered",)), []),
        (found("rec", LOWERED, speedup=1.02, notes=("a note",)), ["×1.02"]),
        (found("rec", WRITTEN, speedup=1.02), ["×1.02", "nothing is lowered"]),
        (found("rec", WRITTEN, speedup=1.02, notes=(NOISY,)), ["×1.02", "nothing is lowered"]),
        (found("rec", WRITTEN, speedup=0.98), ["×0.98", "nothing is lowered"]),
        (found("rec", LOWERED, speedup=0.9, notes=("lowered",)), ["×0.90"]),
        (found("rec", WRITTEN, speedup=1.0, notes=("two stages: slow",)), ["×1.00", "nothing is"]),
        (found("det", LOWERED, warm_s=1.0), ["warm"]),
    ],
)
def test_the_verdict(outcome_: Outcome, words: list[str]) -> None:
    failures = outcome_.failures
    assert len(failures) == len(words)
    assert all(word in failure for word, failure in zip(words, failures, strict=True))


def test_a_verdict_says_faster_or_why_not() -> None:
    assert found("rec", LOWERED, speedup=1.03).verdict == "faster"
    reason = "no block may be lowered"
    told = found("rec", WRITTEN, speedup=1.02, notes=(reason, "two stages: slow", NOISY))
    assert told.verdict == f"no gain: {reason}"
    assert not told.failures
    assert found("rec", WRITTEN, speedup=1.04, notes=(reason,)).verdict == f"no gain: {reason}"
    short = found("rec", LOWERED, speedup=1.02, notes=(reason,))
    assert short.verdict == f"no gain: ×1.02, not ×1.03 ({reason})"
    assert short.failures
    slow = found("pair", WRITTEN, speedup=1.0, notes=("two stages: slow", NOISY)).verdict
    assert slow == "no gain: ×1.00, not ×1.05 (two stages: slow); 1 backend, not 2"
    assert found("det-loose", LOWERED, speedup=1.2).verdict == "×1.20, not ×1.25"


def result(best: str, chosen: Plan) -> dict[str, Any]:
    """What a run prints, as far as it is read."""
    targets = [
        {"target": "cpu/onnxruntime/fp32", "state": "ok", "p50_ms": 12.0},
        {"target": "cpu/openvino/fp32", "state": "ok", "p50_ms": 9.0},
        {"target": "cpu/openvino/bf16", "state": "ok", "p50_ms": 5.0},
        {"target": "cpu/reference/fp32", "state": "unsupported", "p50_ms": None},
    ]
    return {
        "targets": targets,
        "plan": {"p50_ms": 6.0, "relative_l2": 0.004},
        "best_single": {"target": best, "p50_ms": 9.0},
        "speedup_over_best_single": 1.4,
        "timings": {"profile_s": 12.0},
        "notes": ["a note"],
        "chosen": json.loads(chosen.to_json()),
    }


def test_plans_are_compared_with_the_best_fp32_target() -> None:
    first = result("cpu/openvino/fp32", plan(LOWERED))
    assert best_written(first) == ("cpu/openvino/fp32", 9.0)
    paired = outcome("det", first, first)
    assert paired.speedup == 1.4
    assert paired.plan == plan(LOWERED)
    assert paired.second_profile_s == paired.first_profile_s == 12.0
    lower_is_best = result("cpu/openvino/bf16", plan(LOWERED))
    assert outcome("det", lower_is_best, first).speedup == pytest.approx(1.5)


def test_the_ideal_is_the_sum_of_the_halves_on_their_best_targets_round_by_round() -> None:
    rec, lstm = HALVES
    timings = {
        PLAN: timing(10.0, 20.0, 10.0),
        f"{rec} on a": timing(4.0, 8.0, 4.0),
        f"{rec} on b": timing(5.0, 10.0, 5.0),
        f"{lstm} on a": timing(9.0, 18.0, 9.0),
        f"{lstm} on b": timing(4.0, 8.0, 4.0),
    }
    ideal, note = ideal_of(timings)
    assert ideal == pytest.approx(0.8)
    assert f"{rec} on a" in note
    assert f"{lstm} on b" in note


def test_the_report() -> None:
    one = found("det", LOWERED, notes=("that is why",))
    row = table([one]).splitlines()[-1]
    assert "ppocr-det, auto at 0.01" in row
    assert "×1.50" in row
    assert "| ×1.03 |" in row
    assert row.endswith("| faster |")
    assert "not ×1.25" in table([found("det-loose", LOWERED, speedup=1.1)])
    text = "\n".join(details(one))
    assert "1 of 2 blocks in fp32: b1 (matmul)" in text
    assert "error 0.004, 7.50 ms (predicted), 1 ops lowered" in text
    assert "note: that is why" in text
    assert [block.block for block in as_written(one.plan)] == ["b1"]


def test_cases_have_names() -> None:
    assert len({claim.case.name for claim in CLAIMS.values()}) == len(CLAIMS)


def test_unknown_claims_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        mixed.main(["nothing"])
    assert "nothing" in capsys.readouterr().err
